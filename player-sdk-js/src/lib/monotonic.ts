/** Monotonic clock, milliseconds. */
export const monotonic = (): number => performance.now();

/** Wraps a hook so that an error in the SDK never reaches the player or the page. */
export function guard<A extends unknown[]>(hook: (...args: A) => void): (...args: A) => void {
  return (...args) => {
    try {
      hook(...args);
    } catch {
      // Measuring must never disturb what is measured.
    }
  };
}

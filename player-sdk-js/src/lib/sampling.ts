let serverRate = 1;

/** Share that the collector wants of later views; anything but a number from 0 to 1 is ignored. */
export function setServerRate(rate: unknown): void {
  if (typeof rate === 'number' && rate >= 0 && rate <= 1) {
    serverRate = rate;
  }
}

/** The share that holds for a view that begins now: the page's or the collector's, whichever is less. */
export function sampleRate(ownRate = 1): number {
  return Math.min(ownRate, serverRate);
}

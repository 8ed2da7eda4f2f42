/** Carries a foreign counter on where it starts again at 0, as a media element's do with a new source. */
export class CounterRelay {
  private last: number | undefined;
  private total = 0;

  /** The sum since the first look, after this reading. */
  sum(reading: number): number {
    const last = this.last ?? reading;
    this.total += reading >= last ? reading - last : reading;
    this.last = reading;
    return this.total;
  }
}

/** What steering answers said, to tell a switch by steering from one by the player itself. */
export class Steering {
  private priority: readonly string[] = [];
  /** An answer brought another order since the last switch. */
  private changed = false;

  /** A steering answer came. */
  heard(priority: readonly string[] = []): void {
    this.changed ||= priority.join() !== this.priority.join();
    this.priority = priority;
  }

  /** Why the player went from one pathway to the other; takes the news of the last answer as used. */
  reason(from: string | undefined, to: string | undefined): 'steering' | 'player' {
    const steered = this.changed && this.rank(to) < this.rank(from);
    this.changed = false;
    return steered ? 'steering' : 'player';
  }

  private rank(pathway = ''): number {
    return this.priority.indexOf(pathway) + 1 || Infinity;
  }
}

import { BURST_PER_MINUTE } from './limits.js';
import { monotonic } from './monotonic.js';

/** A bucket that refills over a minute. */
export class Burst {
  private left = BURST_PER_MINUTE;
  private lastMs = monotonic();

  /** Whether one more is let through. */
  take(): boolean {
    const nowMs = monotonic();
    this.left = Math.min(BURST_PER_MINUTE, this.left + ((nowMs - this.lastMs) * BURST_PER_MINUTE) / 60_000);
    this.lastMs = nowMs;
    return this.left >= 1 && !!this.left--;
  }
}

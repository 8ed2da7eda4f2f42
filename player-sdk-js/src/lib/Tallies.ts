import type { PathwayCounters } from '../wire.js';
import { PATHWAYS_MAX } from './limits.js';
import { placeName, type Place } from './place.js';

/** Counters per pathway. */
export class Tallies {
  private readonly byName = new Map<string, PathwayCounters>();

  /** `counted` tells whether requests are seen at all, since unknown is never 0. */
  constructor(private readonly counted: boolean) {}

  /** The counters of a place; nothing if the place is unknown. */
  at(place: Place | undefined): PathwayCounters | undefined {
    const name = placeName(place);
    if (!name) {
      return undefined;
    }
    const tally = this.byName.get(name) ?? {
      ...(this.counted && { requests_ok: 0, requests_failed: 0, requests_late: 0, bytes: 0, ttfb_sum_ms: 0 }),
      playing_ms: 0,
      stall_ms: 0,
    };
    // Put last again: the limit keeps the newest.
    this.byName.delete(name);
    this.byName.set(name, tally);
    return tally;
  }

  /** The newest few, or nothing. */
  all(): Record<string, PathwayCounters> | undefined {
    return this.byName.size ? Object.fromEntries([...this.byName].slice(-PATHWAYS_MAX)) : undefined;
  }
}

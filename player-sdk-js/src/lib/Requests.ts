import type { EventRequest } from '../wire.js';
import { BLAME_MIN_MS, REQUEST_LATE_MS, SLEEP_MS } from './limits.js';
import { monotonic } from './monotonic.js';
import { differs, type Place } from './place.js';
import type { Tallies } from './Tallies.js';

/** How far a request has come; hls.js's loader statistics have this shape. */
export interface Progress {
  aborted: boolean;
  /** Bytes so far. */
  loaded: number;
  /** Sent, first and last byte, ms of the monotonic clock; 0 for not yet. */
  loading: { start: number; first: number; end: number };
}

/** One media request as the adapter sees it. */
export interface MediaRequest {
  /** What it belongs to, `main` or `audio` for instance: one row of segments each. */
  kind: string;
  place: Place;
  progress(): Progress;
}

/** What the requests tell. */
export interface RequestHooks {
  /** A request failed or is late. */
  trouble(request: EventRequest): void;
  /** Media arrived. */
  succeeded(): void;
  /** The first request to another place; `from` is unknown at the start. */
  moved(from: Place | undefined, to: Place): void;
}

interface Open extends MediaRequest {
  sinceMs: number;
  late: boolean;
}

/** The first request since the last success of its kind: the segment that playback waits for. */
interface Wanted {
  place: Place;
  sinceMs: number;
  failed: boolean;
}

/** Media requests in flight, what became of them, and who is to blame when playback stops. */
export class Requests {
  /** Where media comes from now. */
  serving: Place | undefined;
  /** Where the last whole segment came from. */
  done: Place | undefined;
  private readonly open = new Map<object, Open>();
  private readonly wanted = new Map<string, Wanted>();
  private begun = false;
  private lastTickMs = monotonic();

  constructor(
    private readonly tallies: Tallies,
    private readonly hooks: RequestHooks,
  ) {}

  /** A playlist is asked for: until the first segment is, this is all that is known of the pathway. */
  expect(place: Place): void {
    if (!this.begun) {
      this.goTo(place);
    }
  }

  /** A request begins; `key` tells it apart. */
  begin(key: object, request: MediaRequest): void {
    const { kind, place } = request;
    const sinceMs = monotonic();
    this.begun = true;
    this.open.set(key, { ...request, sinceMs, late: false });
    if (!this.wanted.has(kind)) {
      this.wanted.set(kind, { place, sinceMs, failed: false });
    }
    if (kind === 'main') {
      this.goTo(place);
    }
  }

  /** The whole answer is there; `part` describes one that never began, or only as part of another. */
  succeed(key: object, part?: MediaRequest): void {
    const open = this.take(key);
    const request = part ?? open;
    if (!request) {
      return;
    }
    const { kind, place } = request;
    const { loading, loaded } = request.progress();
    this.wanted.delete(kind);
    this.done = place;
    const tally = this.tallies.at(place);
    if (tally) {
      tally.requests_ok = (tally.requests_ok ?? 0) + 1;
      tally.bytes = (tally.bytes ?? 0) + loaded;
      tally.ttfb_sum_ms = (tally.ttfb_sum_ms ?? 0) + loading.first - loading.start;
    }
    if (!open?.late && loading.end - loading.start > REQUEST_LATE_MS) {
      this.tell(request, true);
    }
    this.hooks.succeeded();
  }

  /** No usable answer: an HTTP error, no connection (status 0), or the player's patience is over (`late`). */
  fail(key: object, status: number, late: boolean): void {
    const request = this.take(key);
    if (!request) {
      return;
    }
    const wanted = this.wanted.get(request.kind);
    if (wanted) {
      wanted.failed = true;
    }
    // One request is bad once, also if it was late before.
    if (!request.late) {
      this.tell(request, late, status);
    }
  }

  /** A request that isn't followed in flight failed: a playlist's. */
  failApart(place: Place, status: number, late: boolean): void {
    this.count(place, late);
    this.hooks.trouble({ ...place, status, late } as EventRequest);
  }

  /** The player no longer wants it. */
  abort(key: object): void {
    this.open.delete(key);
  }

  /** Looks how far the requests in flight have come. */
  tick(): void {
    const nowMs = monotonic();
    if (nowMs - this.lastTickMs > SLEEP_MS) {
      // The device slept: how long these really took is unknown.
      this.open.clear();
      this.wanted.clear();
    }
    this.lastTickMs = nowMs;
    for (const [key, request] of this.open) {
      const { aborted, loading } = request.progress();
      if (aborted) {
        this.abort(key);
      } else if (loading.end) {
        this.succeed(key);
      } else if (!request.late && nowMs - request.sinceMs > REQUEST_LATE_MS) {
        request.late = true;
        this.tell(request, true);
      }
    }
  }

  /** The playhead was moved: what was wanted before is not wanted any more. */
  forget(): void {
    this.wanted.clear();
  }

  /** Where the late segment should have come from; if none is late, where the last one came from. */
  get blamed(): Place | undefined {
    const nowMs = monotonic();
    const [oldest] = [...this.wanted.values()]
      .filter(({ sinceMs, failed }) => failed || nowMs - sinceMs >= BLAME_MIN_MS)
      .sort((a, b) => a.sinceMs - b.sinceMs);
    return oldest?.place ?? this.done ?? this.serving;
  }

  private goTo(place: Place): void {
    if (differs(this.serving, place)) {
      const from = this.serving;
      this.serving = place;
      this.hooks.moved(from, place);
    }
  }

  private take(key: object): Open | undefined {
    const request = this.open.get(key);
    this.open.delete(key);
    return request;
  }

  private count(place: Place, late: boolean): void {
    const tally = this.tallies.at(place);
    if (tally) {
      const name = late ? 'requests_late' : 'requests_failed';
      tally[name] = (tally[name] ?? 0) + 1;
    }
  }

  /** Counts and tells of one; without a status, it is 0 as long as no byte has come, and then unknown. */
  private tell({ place, progress }: MediaRequest, late: boolean, status?: number): void {
    const { loading, loaded } = progress();
    const { start, end } = loading;
    // hls.js sets it for a broken connection, too.
    const first = status === 0 ? 0 : loading.first;
    this.count(place, late);
    this.hooks.trouble({
      ...place,
      status: status ?? (first ? undefined : 0),
      ttfb_ms: first ? first - start : undefined,
      ttlb_ms: start ? (end || monotonic()) - start : undefined,
      bytes: loaded,
      late,
    } as EventRequest);
  }
}

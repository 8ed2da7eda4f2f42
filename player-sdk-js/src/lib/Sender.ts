import type { Beacon, BeaconEvent } from '../wire.js';
import type { Sending } from './buildBeacon.js';
import { byteLength } from './byteLength.js';
import type { EventQueue } from './EventQueue.js';
import { guard } from './guard.js';
import {
  ANSWER_TIMEOUT_MS,
  BATCH_MAX_BYTES,
  BATCH_MAX_EVENTS,
  ENVELOPE_BYTES,
  KEEPALIVE_MAX_BYTES,
  RETRIES_AFTER_END,
} from './limits.js';
import { monotonic } from './monotonic.js';
import { retryDelayMs } from './retryDelayMs.js';

/** What the collector wants from now on. */
export interface Answer {
  heartbeat_s?: unknown;
  sample_rate?: unknown;
}

/** Where beacons go and what they are made of. */
export interface SenderHooks {
  /** The URL to post to; nothing as long as the view's id isn't known. */
  url(): string | undefined;
  build(events: BeaconEvent[], sending: Sending): Beacon;
  sending(beacon: Beacon): void;
  answered(answer: Answer): void;
  /** Nothing is left to send, or the rest was given up. */
  idle(): void;
}

/** Sends what is queued: one request at a time, retried with the same numbers. */
export class Sender {
  private inFlight: BeaconEvent[] | undefined;
  /** Whether the request in flight outlives the page. */
  private survives = false;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private attempt = 0;
  private triesLeft = Infinity;
  private again = false;
  private rttMs: number | undefined;

  constructor(
    private readonly queue: EventQueue,
    private readonly hooks: SenderHooks,
  ) {}

  /** Sends now, or as soon as the request in flight or the pause after a failure is over. */
  flush(): void {
    this.again = true;
    const url = this.hooks.url();
    if (this.inFlight || this.retryTimer !== undefined || !url) {
      return;
    }
    const batch = this.queue.peek(BATCH_MAX_EVENTS, BATCH_MAX_BYTES - ENVELOPE_BYTES);
    this.again = this.queue.size > batch.length;
    if (!batch.length) {
      this.hooks.idle();
      return;
    }
    this.inFlight = batch;
    void this.post(url, batch).then(
      guard((response: Response) => this.settle(batch, response)),
      guard(() => this.settle(batch)),
    );
  }

  /** Hands all to the browser because the page may go; if it surely goes (`last`), there is no later. */
  leave(last: boolean): void {
    const url = this.hooks.url();
    const waiting = this.retryTimer !== undefined;
    // What a surviving request carries needs no second way. A collector in trouble gets all once more later.
    let skip = this.survives && this.inFlight ? this.inFlight.length : 0;
    for (;;) {
      const part = this.queue.peek(BATCH_MAX_EVENTS, KEEPALIVE_MAX_BYTES - ENVELOPE_BYTES, skip);
      if (!url || !part.length || !navigator.sendBeacon?.(url, this.encode(part))) {
        break;
      }
      if (waiting && !last) {
        skip += part.length;
      } else {
        this.queue.remove(part);
      }
    }
    this.flush();
  }

  /** The view is over: gives up after a few more tries. */
  end(): void {
    this.triesLeft = RETRIES_AFTER_END;
  }

  private encode(events: BeaconEvent[]): string {
    const { rttMs } = this;
    const beacon = this.hooks.build(events, { sentMs: Date.now(), rttMs, dropped: this.queue.dropped });
    guard(this.hooks.sending)(beacon);
    return JSON.stringify(beacon);
  }

  private async post(url: string, batch: BeaconEvent[]): Promise<Response> {
    const body = this.encode(batch);
    this.survives = byteLength(body) <= KEEPALIVE_MAX_BYTES;
    const startMs = monotonic();
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), ANSWER_TIMEOUT_MS);
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'Content-Type': 'text/plain' },
        body,
        keepalive: this.survives,
        credentials: 'omit',
        referrerPolicy: 'origin',
        signal: patience.signal,
      });
      this.rttMs = monotonic() - startMs;
      return response;
    } finally {
      clearTimeout(timer);
    }
  }

  private settle(batch: BeaconEvent[], response?: Response): void {
    this.inFlight = undefined;
    const status = response?.status ?? 0;
    if (status === 0 || status === 408 || status === 429 || status >= 500) {
      this.retryLater(Number(response?.headers.get('Retry-After')) || 0);
      return;
    }
    this.attempt = 0;
    if (response?.ok) {
      this.queue.remove(batch);
      void response.json().then(guard(this.hooks.answered), () => {});
    } else {
      this.queue.drop(batch);
    }
    if (this.again || !this.queue.size) {
      this.flush();
    }
  }

  private retryLater(retryAfterS: number): void {
    if (this.triesLeft-- <= 0) {
      this.hooks.idle();
      return;
    }
    this.retryTimer = setTimeout(
      guard(() => {
        this.retryTimer = undefined;
        this.flush();
      }),
      retryDelayMs(this.attempt++, retryAfterS, Math.random()),
    );
  }
}

import type { BeaconEvent } from '../wire.js';
import { byteLength } from './byteLength.js';
import { QUEUE_MAX_BYTES, QUEUE_MAX_EVENTS } from './limits.js';

interface Item {
  event: BeaconEvent;
  bytes: number;
}

/** Events that wait for their acknowledgement, oldest first, bounded in number and bytes. */
export class EventQueue {
  /** Events given up since the view began. */
  dropped = 0;
  private items: Item[] = [];
  private bytes = 0;

  get size(): number {
    return this.items.length;
  }

  /** Adds one event; if that is too much, gives up heartbeats first, then the oldest. */
  push(event: BeaconEvent): void {
    const item = { event, bytes: byteLength(JSON.stringify(event)) + 1 };
    this.items.push(item);
    this.bytes += item.bytes;
    while (this.items.length > QUEUE_MAX_EVENTS || this.bytes > QUEUE_MAX_BYTES) {
      const heartbeat = this.items.findIndex((other) => other.event.type === 'heartbeat');
      const [gone] = this.items.splice(Math.max(0, heartbeat), 1);
      this.bytes -= gone?.bytes ?? 0;
      this.dropped++;
    }
  }

  /** The oldest events after the first `skip`, up to these limits; at least one if there is one. They stay queued. */
  peek(maxEvents: number, maxBytes: number, skip = 0): BeaconEvent[] {
    const batch: BeaconEvent[] = [];
    let bytes = 0;
    for (const item of this.items.slice(skip, skip + maxEvents)) {
      bytes += item.bytes;
      if (batch.length && bytes > maxBytes) {
        break;
      }
      batch.push(item.event);
    }
    return batch;
  }

  /** Forgets these; tells how many were still there. */
  remove(events: readonly BeaconEvent[]): number {
    const before = this.items.length;
    this.items = this.items.filter((item) => !events.includes(item.event));
    this.bytes = this.items.reduce((sum, item) => sum + item.bytes, 0);
    return before - this.items.length;
  }

  /** Forgets these and counts them as given up. */
  drop(events: readonly BeaconEvent[]): void {
    this.dropped += this.remove(events);
  }
}

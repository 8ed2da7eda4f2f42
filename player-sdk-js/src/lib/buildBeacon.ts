import type { Beacon, BeaconContext, BeaconEvent } from '../wire.js';
import { SDK } from './version.js';

/** What a beacon tells about its own sending. */
export interface Sending {
  sentMs: number;
  rttMs?: number;
  dropped: number;
}

/** One POST's body. */
export function buildBeacon(ctx: BeaconContext, events: BeaconEvent[], { sentMs, rttMs, dropped }: Sending): Beacon {
  return {
    v: 1,
    sdk: SDK,
    sent_ms: Math.round(sentMs),
    rtt_ms: rttMs === undefined ? undefined : Math.round(rttMs),
    dropped,
    ctx,
    events,
  };
}

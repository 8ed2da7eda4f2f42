import type { State } from '../wire.js';
import { HEARTBEAT_IDLE_S, HEARTBEAT_STALLED_S } from './limits.js';

/** Seconds between heartbeats in this state. */
export function heartbeatPeriodS(state: State, playingS: number): number {
  switch (state) {
    case 'playing':
      return playingS;
    case 'starting':
    case 'stalled':
    case 'seeking':
      return Math.min(HEARTBEAT_STALLED_S, playingS);
    default:
      return Math.max(HEARTBEAT_IDLE_S, playingS);
  }
}

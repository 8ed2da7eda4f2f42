import type { BeaconEvent, EventType } from '../wire.js';

/** Numbers and clocks of an event. */
export interface EventStamp {
  type: EventType;
  seq: number;
  createdMs: number;
  monoMs: number;
}

type Fields = Partial<Omit<BeaconEvent, 'type' | 'seq' | 'created_ms' | 'mono_ms'>>;

/** One event: what it is, how the view stands, and the fields of its type. Unknown values are left out. */
export function buildEvent(
  stamp: EventStamp,
  standing: Pick<BeaconEvent, 'state' | 'counters'> & Fields,
  fields?: Fields,
): BeaconEvent {
  return known({
    type: stamp.type,
    seq: stamp.seq,
    created_ms: stamp.createdMs,
    mono_ms: stamp.monoMs,
    ...standing,
    ...fields,
  });
}

/** The same without what is unknown, and with whole numbers: never null, NaN or a made-up 0. */
function known<T>(value: T): T {
  if (typeof value === 'number') {
    return Math.round(value) as T;
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const kept = Object.entries(value).filter(([, v]) => v != null && (typeof v !== 'number' || Number.isFinite(v)));
  return Object.fromEntries(kept.map(([key, v]) => [key, known(v)])) as T;
}

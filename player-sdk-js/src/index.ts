export { attach } from './attach.js';
export type { AttachOptions, Handle, StreamType } from './types.js';
export type {
  Beacon,
  BeaconContext,
  BeaconEvent,
  Counters,
  ErrorClass,
  EventError,
  EventRequest,
  EventType,
  PathwayCounters,
  State,
} from './wire.js';

import { isId } from './ids.js';

/** Where media comes from: the pathway if it is known, else the host. */
export interface Place {
  pathway?: string | undefined;
  host?: string | undefined;
}

/** Name of a place in the counters; none for a host with a port, which the collector would not take as an id. */
export function placeName(place: Place | undefined): string | undefined {
  const name = place?.pathway ?? place?.host;
  return isId(name) ? name : undefined;
}

/** Whether media comes from elsewhere now. */
export function differs(from: Place | undefined, to: Place): boolean {
  return (to.pathway ?? to.host) !== (from?.pathway ?? from?.host);
}

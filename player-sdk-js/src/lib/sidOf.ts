import { isId } from './ids.js';

/**
 * The session in a playlist or steering URL: `?sid=`, or the start of the steering token `?t=<sid>~…`.
 * It is the view's id, so that beacons and steering answers can be tied together.
 */
export function sidOf(url: string | null | undefined): string | undefined {
  const query = new URLSearchParams((url ?? '').split('#')[0]?.split('?')[1]);
  const sid = query.get('sid') ?? query.get('t')?.split('~')[0];
  return isId(sid) ? sid : undefined;
}

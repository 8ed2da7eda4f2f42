import { RETRY_FIRST_MS, RETRY_MAX_MS } from './limits.js';

/**
 * Pause before the next try: full jitter over a doubling step, on top of what the collector asked for.
 * At most 60 s, unless the collector asked for more.
 */
export function retryDelayMs(attempt: number, retryAfterS: number, random: number): number {
  const jitter = random * Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** attempt);
  const asked = retryAfterS * 1000;
  return Math.max(asked, Math.min(RETRY_MAX_MS, asked + jitter));
}

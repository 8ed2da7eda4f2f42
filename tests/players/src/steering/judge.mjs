// What is read out of access logs. Pure: times in ms since epoch in, seconds out.

/** Timers of browsers and networks are so exact. */
const TIMER_TOLERANCE_MS = 250;

/**
 * When a view left pathway `dead`, s after `from`: its first request elsewhere with none to `dead` after it (DESIGN §7).
 * Null if it still asked `dead` in the last second, or never asked elsewhere. 0 if it wasn't there.
 */
export function leftAfter(log, view, dead, from, to) {
  const asked = log.filter((entry) => entry.view === view && entry.at >= from && entry.at <= to);
  const last = asked.findLast(({ pathway }) => pathway === dead);
  if (!last) return asked.length > 0 ? 0 : null;
  const next = asked.find(({ pathway, at }) => pathway !== dead && at >= last.at);
  return next && last.at < to - 1_000 ? (next.at - from) / 1_000 : null;
}

/** The pathway that a view asked last before `at`. */
export const pathwayAt = (log, view, at) => log.findLast((entry) => entry.view === view && entry.at <= at)?.pathway ?? null;

/** Most polls of a view that came before the TTL of one answer was over, that answer's own included; 0 without any. */
export function pollsPerTtl(answers, view) {
  const own = answers.filter((answer) => answer.view === view);
  const counts = own.map(({ end, ttl_s }, index) => {
    const over = end + ttl_s * 1_000 - TIMER_TOLERANCE_MS;
    return 1 + own.slice(index + 1).filter(({ at }) => at < over).length;
  });
  return Math.max(0, ...counts);
}

/** The largest TTL that a view was given before `at`, s; 0 if none. */
export const ttlBefore = (answers, view, at) =>
  Math.max(0, ...answers.filter((answer) => answer.view === view && answer.end <= at).map(({ ttl_s }) => ttl_s));

// What is read out of access logs and video elements. Pure: times in ms since epoch in, seconds out.

/** A video that moves shows this much of a sample's time at least, s. */
const STEP_MIN_S = 0.02;
/** A larger step is a jump to the live edge, not playing. */
const STEP_MAX_S = 1.0;
/** Shorter rests are the machine's: two tabs that share a core. */
const REST_MIN_S = 0.5;
/** Timers of browsers and networks are so exact. */
const TIMER_TOLERANCE_MS = 250;

/** Whether the video played between two samples: neither rested nor jumped. */
export function isStep(before, after) {
  const step = after[1] - before[1];
  return after[2] >= 3 && step >= STEP_MIN_S && step <= STEP_MAX_S;
}

/** How long after `asked` the video began to move, s; null if it never did. */
export function startupOf(samples, asked) {
  const at = samples.findIndex((sample, index) => index > 0 && isStep(samples[index - 1], sample));
  return at < 0 ? null : (samples[at][0] - asked) / 1_000;
}

/** How long the video stood still between two moments, s. */
export function harmedIn(samples, from, to) {
  const seen = samples.filter(([at]) => at >= from && at <= to);
  if (seen.length < 2) return (to - from) / 1_000;
  let harmed = 0;
  let moved = seen[0];
  const rest = (until) => {
    const still = (until - moved[0]) / 1_000;
    if (still >= REST_MIN_S) harmed += still;
  };
  for (const sample of seen.slice(1)) {
    if (Math.abs(sample[1] - moved[1]) < STEP_MIN_S) continue;
    rest(sample[0]);
    moved = sample;
  }
  rest(to);
  return harmed;
}

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

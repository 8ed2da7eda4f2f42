// What is read out of samples of a video element (`[ms since epoch, currentTime, readyState, end of what is buffered]`). Pure:
// times in ms since epoch in, seconds out.

/** A video that moves shows this much of a sample's time at least, s. */
const STEP_MIN_S = 0.02;
/** A larger step is a jump to the live edge, not playing. */
const STEP_MAX_S = 1.0;
/** Shorter rests are the machine's: two tabs that share a core. */
const REST_MIN_S = 0.5;

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

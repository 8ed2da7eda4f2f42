// A live stream out of the demo's clip: 20 s without end, in segments of 2 s, each in parts of 0.4 s. A part's media is made at
// its time and not before. Decode times run through, so that no discontinuity is needed; the clip has no seam.

import { readFileSync } from "node:fs";
import { fragment, readClip } from "./boxes.mjs";

export const PARTS = 5;
export const SEGMENT_MS = 2_000;
const PART_MS = SEGMENT_MS / PARTS;
const CLIP_MS = 20_000;
const CLIP_PARTS = CLIP_MS / PART_MS;
/** Audio frames are 32 ms long, so that its parts are of 12 and of 13 frames. */
export const PART_TARGET_S = 0.416;
/** At the start there is a window full of segments already. */
const PAST_MS = 60_000;

const LADDER = {
  v144: { codec: "avc1.42c01e", width: 256, height: 144 },
  v240: { codec: "avc1.42c01e", width: 426, height: 240 },
  v360: { codec: "avc1.42c01e", width: 640, height: 360 },
  a48: { codec: "mp4a.40.2" },
};

/** The renditions by name, and when part 0 began, ms since epoch. */
export function startLive(now = Date.now()) {
  const epoch = Math.floor(now / 1_000) * 1_000 - PAST_MS;
  const renditions = Object.fromEntries(Object.entries(LADDER).map(([name, about]) => [name, renditionOf(name, about, epoch)]));
  return { epoch, renditions };
}

function renditionOf(name, about, epoch) {
  const clip = readClip(readFileSync(new URL(`../../../demo/media/${name}.mp4`, import.meta.url)));
  const { timescale, samples } = clip;
  const [{ ticks }] = samples;
  const length = (CLIP_MS / 1_000) * timescale;
  if (samples.some((sample) => sample.ticks !== ticks) || samples.length * ticks !== length) {
    throw new Error(`${name}.mp4: its frames are not all as long, or together not ${CLIP_MS} ms`);
  }
  /** The first frame of a part of the clip: that at its time, or the next one. */
  const frameOf = (part) => Math.ceil((part * PART_MS * timescale) / 1_000 / ticks);
  const ticksOf = (part) => Math.floor(part / CLIP_PARTS) * length + frameOf(part % CLIP_PARTS) * ticks;
  const startMs = (part) => epoch + (ticksOf(part) * 1_000) / timescale;
  const media = (part) => {
    const at = part % CLIP_PARTS;
    return fragment(part + 1, ticksOf(part), samples.slice(frameOf(at), frameOf(at + 1)));
  };
  const bytes = samples.reduce((sum, sample) => sum + sample.bytes.length, 0);
  return {
    name,
    ...about,
    video: about.width !== undefined,
    timescale,
    init: clip.init,
    bitrate: Math.ceil(((bytes * 8) / CLIP_MS) * 1_000 * 1.2),
    /** When the first frame of a part begins, and when all of it is there, ms since epoch. */
    startMs,
    endMs: (part) => startMs(part + 1),
    durationS: (part, parts = 1) => (startMs(part + parts) - startMs(part)) / 1_000,
    media,
    /** The newest part that is complete; parts of segment `n` are 5n to 5n + 4. */
    newest: (now) => {
      const about = Math.floor((now - epoch) / PART_MS);
      return startMs(about) <= now ? about - 1 : about - 2;
    },
    segment: (number) => Buffer.concat(Array.from({ length: PARTS }, (_, at) => media(number * PARTS + at))),
  };
}

// What is read out of the origin's log, of the browser's own record of its requests (Resource Timing) and of video elements.
// Pure: times in ms since epoch in, seconds out. A request of a view is `{path, start, first, end}`.

import { PARTS } from "./live.mjs";

const MEDIA = /\/([a-z0-9]+)\/(\d+)(?:\.(\d))?\.m4s$/;

/** The rendition's name and the numbers of the parts that a path is of; null if it is no media. */
function partsOf(path) {
  const [, name, number, part] = MEDIA.exec(path) ?? [];
  if (name === undefined) return null;
  const first = Number(number) * PARTS;
  return part === undefined ? { name, first, last: first + PARTS - 1 } : { name, first: first + Number(part), last: first + Number(part) };
}

/** The middle one; null of none. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted.at(Math.floor(sorted.length / 2)) ?? null;
}

/** How often the origin was asked for each thing that `fits`: `[path, times]`, most first. */
export function fetched(log, fits) {
  const times = new Map();
  for (const { path } of log.filter((entry) => fits(entry.path))) times.set(path, (times.get(path) ?? 0) + 1);
  return [...times].sort((a, b) => b[1] - a[1]);
}

export const isMedia = (path) => /\.(m4s|mp4)$/.test(path);
export const isBlocking = (path) => path.includes("_HLS_msn=");

/**
 * What is to be added to `currentTime` for the moment when that was live, ms; null if it can't be told. HLS players choose
 * themselves where 0 is. But what is buffered ends where the newest loaded part ends, of video or of audio, whichever ends
 * earlier; just after a load it hasn't arrived in the buffer yet, so the least distance that was seen counts.
 */
export function liveAtZero({ renditions }, requests, samples) {
  const loads = requests.flatMap(({ path, end }) => {
    const parts = partsOf(path);
    const rendition = parts && renditions[parts.name];
    return rendition ? [{ at: end, video: rendition.video, until: rendition.endMs(parts.last) }] : [];
  });
  const newest = (video, at) => Math.max(...loads.filter((load) => load.video === video && load.at <= at).map(({ until }) => until));
  const distances = samples
    .filter(([, , , buffered]) => buffered !== null)
    .map(([at, , , buffered]) => Math.min(newest(true, at), newest(false, at)) - buffered * 1_000)
    .filter(Number.isFinite);
  return distances.length > 0 ? Math.min(...distances) : null;
}

/** How far behind its live moment the picture was between two moments: the middle one of all samples, s. */
export function latencyOf(samples, zero, from, to) {
  if (zero === null) return null;
  const seen = samples.filter(([at]) => at >= from && at <= to);
  return median(seen.map(([at, currentTime]) => (at - zero) / 1_000 - currentTime));
}

/** From the moment that a part exists until a view has it: the middle one of all parts that it asked for, s. */
export function behindOf({ renditions }, requests, from) {
  const delays = requests.flatMap(({ path, start, end }) => {
    const parts = partsOf(path);
    if (!parts || parts.first !== parts.last || start < from) return [];
    return [(end - renditions[parts.name].endMs(parts.last)) / 1_000];
  });
  return median(delays);
}

/**
 * How long before the origin had sent the last byte of a segment a view had its first: the middle one of all segments that
 * were asked for while they were made, s.
 */
export function headStartOf(log, requests) {
  const ends = new Map(log.filter(({ path, whole }) => whole && partsOf(path)).map(({ path, end }) => [path, end]));
  const starts = requests.filter(({ path, start }) => ends.has(path) && start < ends.get(path));
  return median(starts.map(({ path, first }) => (ends.get(path) - first) / 1_000));
}

// The origin behind the edge: low-latency and plain HLS and DASH of one live stream, and a log of every request.
//
// /{low|plain}/{hls|dash}/…: what does not exist yet is held where its protocol says so (blocking playlists and the announced
// part of HLS), begun as soon as it has a first chunk (low-latency DASH), and else not found.

import { createServer } from "node:http";
import { closed, listen, sleep } from "../http.mjs";
import { PARTS, startLive } from "./live.mjs";
import { media, mpd, multivariant } from "./playlists.mjs";

const HEADERS = { "access-control-allow-origin": "*", "timing-allow-origin": "*" };
const HLS = "application/vnd.apple.mpegurl";
/** Who is so much too early is let wait: timers and clocks are no better. */
const EARLY_MS = 250;
/** A playlist that waits for more than so many segments is refused (RFC 8216bis, 6.2.5.2). */
const AHEAD_SEGMENTS = 2;
/** s. A blocking playlist stays what it is; one that was not asked for a moment is good for half a target duration. */
const MAX_AGE = { blocking: 12, playlist: 1, mpd: 2, media: 60, init: 3_600 };

/**
 * Starts it. `log` has every request: `{at, method, path, status, first, end, whole}`: `path` with its query, times of the
 * first and the last byte in ms since epoch (null: never), whether all of it was sent. `clock` is to be set to the URL that
 * the MPD sends players to for the time.
 */
export async function startOrigin() {
  const origin = { log: [], clock: "", live: startLive() };
  const server = createServer((asked, answer) => {
    const entry = { at: Date.now(), method: asked.method, path: asked.url, status: 0, first: null, end: null, whole: false };
    origin.log.push(entry);
    answer.once("close", () => Object.assign(entry, { end: Date.now(), whole: answer.writableFinished }));
    serve(origin, asked, sending(answer, entry)).catch((error) => answer.destroy(error));
  });
  origin.url = await listen(server);
  origin.close = () => closed(server);
  return origin;
}

/** How answers are written, and noted. */
function sending(answer, entry) {
  const begin = (status, type, cache, more = {}) => {
    entry.status = status;
    answer.writeHead(status, { ...HEADERS, "content-type": type, "cache-control": cache, ...more });
  };
  const kept = (max_age_s) => `public, max-age=${max_age_s}`;
  return {
    gone: () => answer.destroyed,
    whole: (type, max_age_s, body) => {
      begin(200, type, kept(max_age_s), { "content-length": Buffer.byteLength(body) });
      entry.first = Date.now();
      answer.end(body);
    },
    chunks: (type, max_age_s) => begin(200, type, kept(max_age_s)),
    chunk: (bytes) => {
      entry.first ??= Date.now();
      answer.write(bytes);
    },
    end: () => answer.end(),
    now: (body) => {
      begin(200, "text/plain", "no-store");
      answer.end(body);
    },
    refuse: (status, why) => {
      begin(status, "text/plain", "no-store");
      answer.end(`${why}\n`);
    },
  };
}

async function serve(origin, asked, to) {
  const { live } = origin;
  const { pathname, searchParams } = new URL(asked.url, origin.url);
  if (asked.method !== "GET") return to.refuse(405, `method ${asked.method} is not valid (valid: GET)`);
  if (pathname === "/time") return to.now(new Date().toISOString());
  const [, latency, protocol, name, file] = /^\/(low|plain)\/(hls|dash)\/([a-z0-9.]+)(?:\/([a-z0-9.]+))?$/.exec(pathname) ?? [];
  const low = latency === "low";
  if (protocol === "hls" && name === "master.m3u8") return to.whole(HLS, MAX_AGE.init, multivariant(live));
  if (protocol === "dash" && name === "manifest.mpd") {
    return to.whole("application/dash+xml", MAX_AGE.mpd, mpd(live, low, Date.now(), origin.clock));
  }
  const rendition = live.renditions[name?.replace(/\.m3u8$/, "")];
  if (!rendition) return to.refuse(404, `nothing at ${pathname}`);
  if (protocol === "hls" && !file) return playlist(live, rendition, low, searchParams, to);
  const type = rendition.video ? "video/mp4" : "audio/mp4";
  if (file === "init.mp4") return to.whole(type, MAX_AGE.init, rendition.init);
  const [, number, part] = /^(\d+)(?:\.([0-4]))?\.m4s$/.exec(file ?? "") ?? [];
  if (number === undefined || (part !== undefined && !(low && protocol === "hls"))) return to.refuse(404, `nothing at ${pathname}`);
  const first = Number(number) * PARTS;
  if (part !== undefined) return onePart(rendition, first + Number(part), type, to);
  if (low && protocol === "dash") return chunked(rendition, first, type, to);
  if (!(await thereSoon(rendition.endMs(first + PARTS - 1)))) return to.refuse(404, `segment ${number} is not there yet`);
  return to.whole(type, MAX_AGE.media, rendition.segment(Number(number)));
}

async function playlist(live, rendition, low, asked, to) {
  const msn = asked.get("_HLS_msn");
  if (msn !== null) {
    const part = Number(msn) * PARTS + Number(asked.get("_HLS_part") ?? PARTS - 1);
    if (!low || !Number.isInteger(part)) return to.refuse(400, "_HLS_msn or _HLS_part is not valid here");
    if (part > rendition.newest(Date.now()) + AHEAD_SEGMENTS * PARTS) return to.refuse(400, `_HLS_msn=${msn} is too far ahead`);
    await reached(rendition.endMs(part));
  }
  return to.whole(HLS, msn === null ? MAX_AGE.playlist : MAX_AGE.blocking, media(live, rendition, low, Date.now()));
}

/** A part that is there, or the one that is announced as the next. */
async function onePart(rendition, part, type, to) {
  if (part > rendition.newest(Date.now()) + 1) return to.refuse(404, `part ${part} is not announced yet`);
  await reached(rendition.endMs(part));
  return to.whole(type, MAX_AGE.media, rendition.media(part));
}

/** A segment that is sent while it is made. */
async function chunked(rendition, first, type, to) {
  if (!(await thereSoon(rendition.endMs(first)))) return to.refuse(404, `segment ${first / PARTS} has not begun yet`);
  to.chunks(type, MAX_AGE.media);
  for (let part = first; part < first + PARTS; part++) {
    await reached(rendition.endMs(part));
    if (to.gone()) return;
    to.chunk(rendition.media(part));
  }
  to.end();
}

async function reached(moment) {
  for (let left = moment - Date.now(); left > 0; left = moment - Date.now()) await sleep(Math.ceil(left));
}

async function thereSoon(moment) {
  if (moment - Date.now() > EARLY_MS) return false;
  await reached(moment);
  return true;
}

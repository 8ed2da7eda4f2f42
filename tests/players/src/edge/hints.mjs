// A client that uses what hls.js leaves out: it asks for the announced part (EXT-X-PRELOAD-HINT) before it exists, as Apple's
// players do, and reloads the playlist by blocking requests at the same time.

import { PARTS } from "./live.mjs";

const HINT = /^#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"$/m;
const NUMBERS = /\/(\d+)\.(\d)\.m4s$/;

/**
 * Follows `rendition` through the edge at `base` (URL of its playlists) for `ms`: how long after each announced part existed
 * all of it was there, s. Throws at the first thing that isn't as it should be.
 */
export async function followHints(base, rendition, ms) {
  const playlist = `${base}/${rendition.name}.m3u8`;
  const behind = [];
  let text = await textOf(playlist);
  for (const end = Date.now() + ms; Date.now() < end; ) {
    const uri = HINT.exec(text)?.[1];
    const [, segment, part] = NUMBERS.exec(uri ?? "") ?? [];
    if (segment === undefined) throw new Error(`${playlist}: no part is announced`);
    const number = Number(segment) * PARTS + Number(part);
    // An announced part that is there by now was read from a kept playlist: it says nothing of holding.
    const held = Date.now() < rendition.endMs(number);
    const [bytes, next] = await Promise.all([bytesOf(`${base}/${uri}`), textOf(`${playlist}?_HLS_msn=${segment}&_HLS_part=${part}`)]);
    if (!bytes.body.equals(rendition.media(number))) throw new Error(`${uri}: other bytes than the origin's`);
    if (held) behind.push((bytes.at - rendition.endMs(number)) / 1_000);
    text = next;
  }
  return behind;
}

async function bytesOf(url) {
  const answer = await fetch(url);
  const body = Buffer.from(await answer.arrayBuffer());
  if (!answer.ok) throw new Error(`${url}: status ${answer.status}: ${body}`);
  return { body, at: Date.now() };
}

const textOf = async (url) => (await bytesOf(url)).body.toString("utf8");

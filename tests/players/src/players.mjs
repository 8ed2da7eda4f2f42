// The players under test: their files, their glue in `pages/`, and what differs between them.

import { readFileSync } from "node:fs";

/** Keys of CTA-5004-B that may stand in an event: dash.js sends only those that it is told, the others all by default. */
const KEYS =
  "ab,bg,bl,br,bs,bsa,bsd,bsda,cdn,cen,cid,cmsdd,cmsds,cs,d,df,dfa,dl,e,ec,h,lab,lb,ltc,msd,mtp,nor,nr,ot,pb,pr,pt,rc,rtp," +
  "sf,sid,smrt,sn,st,sta,su,tab,tb,tbl,tpb,ts,ttfb,ttfbb,ttlb,url,v";

/** Custom keys have to be named, too. */
export const CUSTOM_KEYS = ["com.example-round", "com.example-who", "com.example-on", "com.example-ratio"];

export const EVENTS = ["ps", "e", "t", "rr", "bc", "pr", "m", "um", "b", "c", "pe", "pc", "ce", "sk"];

const version = (name) =>
  JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), "utf8")).version;

/**
 * By name: npm package and its version, the file that a page would load, what it plays, and how many records go into one
 * POST; without `batchSize` it doesn't report. Their protocol in the CMCD suite is the first.
 */
export const PLAYERS = Object.fromEntries(
  [
    // One record a POST is the default of all three; the others show batches.
    { name: "hlsjs", npm: "hls.js", library: "hls.js/dist/hls.min.js", protocols: ["hls"], batchSize: 1 },
    { name: "dashjs", npm: "dashjs", library: "dashjs/dist/modern/umd/dash.all.min.js", protocols: ["dash"], batchSize: 4 },
    { name: "shaka", npm: "shaka-player", library: "shaka-player/dist/shaka-player.compiled.js", protocols: ["dash", "hls"], batchSize: 3 },
    { name: "vhs", npm: "video.js", library: "video.js/dist/video.min.js", protocols: ["hls", "dash"] },
  ].map((player) => [player.name, { ...player, version: version(player.npm) }]),
);

/** Name of the multivariant playlist or MPD. */
export const MANIFESTS = { hls: "master.m3u8", dash: "manifest.mpd" };

/**
 * What `play` in a page is told: play `url`, and report to `collector`, if there is one. `impatient`: time-outs for players
 * that wait long. `lowLatency`: stay as close to the live edge as the stream allows.
 */
export function settings(player, url, collector, key, { sid = crypto.randomUUID(), cid = "live/river", impatient, lowLatency } = {}) {
  const target = collector && player.batchSize && {
    url: `${collector}/v1/cmcd?k=${key}`,
    events: EVENTS,
    keys: [...KEYS.split(","), ...CUSTOM_KEYS],
    interval: 5,
    batchSize: player.batchSize,
  };
  return { url, sid, cid, target, impatient, lowLatency };
}

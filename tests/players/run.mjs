// Real players report to the real collector by CMCD v2 alone, and every record is accounted for.
// usage: node run.mjs --spillway FILE --origin FILE [--seconds 20] [--player hlsjs|dashjs|shaka] [--keep DIR]
//        [--delta-extension FILE], DuckDB's extension `delta`: then its own reader of Delta tables is asked, too
// CHROMIUM names the browser. Ends with one JSON line; exit 1 if anything does not add up.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { playThrough, startBrowser } from "./src/browser.mjs";
import { startCdn } from "./src/cdn.mjs";
import { ended, started, startCollector, WRITE_KEY } from "./src/collector.mjs";
import { judge } from "./src/judge.mjs";
import { verified } from "./src/lake.mjs";
import { startPages } from "./src/pages.mjs";
import { PLAYERS, settings } from "./src/players.mjs";
import { startTap } from "./src/tap.mjs";

const built = (name) => new URL(`../../target/demo/${name}`, import.meta.url).pathname;
const { values: options } = parseArgs({
  options: {
    spillway: { type: "string", default: built("spillway") },
    origin: { type: "string", default: built("spillway-demo-origin") },
    seconds: { type: "string", default: "20" },
    player: { type: "string", multiple: true, default: Object.keys(PLAYERS) },
    "delta-extension": { type: "string" },
    keep: { type: "string" },
  },
});
const seconds = Number(options.seconds);
if (!(seconds >= 5 && seconds <= 600)) throw new Error(`--seconds ${options.seconds} is not valid (valid: 5 to 600)`);
for (const name of options.player) {
  if (!PLAYERS[name]) throw new Error(`--player ${name} is not valid (valid: ${Object.keys(PLAYERS).join(", ")})`);
}

/** Which video segment fails: one that is asked for while the player plays. */
const FAILING_SEGMENT = 8;
/** Whose answer gets lost: one in the middle of the view. */
const LOST_ANSWER = 4;
/** Players report no more than this after they were destroyed; retries come within it. */
const QUIET_MS = 2_500;

/** One player with a collector, a CDN and a tap of its own. */
async function run(player, { browser, pages, origin, dir }) {
  let segments = 0;
  const isVideoSegment = (path) => /\/v\d+\/\d+\.m4s$/.test(path);
  const cdn = await startCdn(origin, (path) => isVideoSegment(path) && ++segments === FAILING_SEGMENT);
  mkdirSync(dir);
  const collector = await startCollector(options.spillway, dir, cdn.url);
  const tap = await startTap(collector.url, LOST_ANSWER);
  const problems = [];
  try {
    const told = settings(player, cdn.url, tap.url, WRITE_KEY);
    const { played_s, fatal, errors, close } = await playThrough(browser, `${pages.url}/${player.name}`, told, seconds);
    await tap.settled(QUIET_MS);
    await close();
    for (const error of [...errors].slice(0, 3)) problems.push(`the page shows an error: ${error}`);
    if (fatal.length > 0) problems.push(`the player gave up: ${fatal}`);
    if (played_s < seconds * 0.8) problems.push(`it showed ${played_s} s of video in ${seconds} s`);
    if (cdn.failed.length === 0) problems.push("no segment was told to fail");
    const judged = await judge({ ...options, collector, tap, sid: told.sid });
    problems.push(...judged.problems);
    if (!(await collector.stop())) problems.push("the collector did not end well");
    const lake = await verified(options.spillway, collector.config);
    if (!lake.clean) problems.push(`the lake is not clean: ${lake.faults.join("; ")}`);
    return { version: player.version, played_s, ...judged, verified: lake.clean, equal: problems.length === 0, problems };
  } finally {
    writeFileSync(join(dir, "posts.json"), JSON.stringify({ posts: tap.posts, preflights: tap.preflights }, null, 1));
    tap.close();
    cdn.close();
    await collector.stop();
  }
}

const dir = options.keep ?? mkdtempSync(join(tmpdir(), "spillway-players-"));
mkdirSync(dir, { recursive: true });
const origin = await started(options.origin, []);
const pages = await startPages(Object.fromEntries(Object.values(PLAYERS).map(({ name, library }) => [name, library])));
const results = {};
try {
  const browser = await startBrowser();
  try {
    await Promise.all(
      options.player.map(async (name) => {
        const stage = { browser, pages, origin: origin.line, dir: join(dir, name) };
        results[name] = await run(PLAYERS[name], stage).catch((error) => ({ equal: false, problems: [String(error)] }));
        for (const problem of results[name].problems) console.error(`players: ${name}: ${problem}`);
      }),
    );
  } finally {
    await browser.close();
  }
} finally {
  pages.close();
  await ended(origin.child);
}
const ordered = Object.fromEntries(options.player.map((name) => [name, results[name]]));
const equal = Object.values(ordered).every((result) => result.equal);
console.log(JSON.stringify({ seconds, players: ordered, equal }));
if (equal && !options.keep) rmSync(dir, { recursive: true });
else console.error(`players: posts, lake and logs are in ${dir}`);
process.exitCode = equal ? 0 : 1;

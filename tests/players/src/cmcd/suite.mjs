// The CMCD suite: each player reports to a collector of its own, and every record is accounted for.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MANIFESTS, PLAYERS, settings } from "../players.mjs";
import { startCdn } from "./cdn.mjs";
import { startCollector, WRITE_KEY } from "./collector.mjs";
import { judge } from "./judge.mjs";
import { verified } from "./lake.mjs";
import { playThrough } from "./play.mjs";
import { startTap } from "./tap.mjs";

/** Which video segment fails: one that is asked for while the player plays. */
const FAILING_SEGMENT = 8;
/** Whose answer gets lost: one in the middle of the view. */
const LOST_ANSWER = 4;
/** Players report no more than this after they were destroyed; retries come within it. */
const QUIET_MS = 2_500;

/** Runs every player of `players` that reports at once; what came of each, and a cell for each. */
export async function runCmcd({ players, ...stage }) {
  const reporting = players.filter((name) => PLAYERS[name].batchSize);
  const results = {};
  await Promise.all(
    reporting.map(async (name) => {
      const here = { ...stage, dir: join(stage.dir, `cmcd-${name}`) };
      results[name] = await run(PLAYERS[name], here).catch((error) => ({ equal: false, problems: [String(error)] }));
      for (const problem of results[name].problems) console.error(`players: ${name}: ${problem}`);
    }),
  );
  const ordered = Object.fromEntries(reporting.map((name) => [name, results[name]]));
  const cells = reporting.map((name) => ({
    player: name,
    protocol: PLAYERS[name].protocols[0],
    case: "cmcd",
    metric: "unaccounted",
    value: results[name].problems.length,
    unit: "problems",
    context: {},
  }));
  return { results: ordered, cells };
}

/** One player with a collector, a CDN and a tap of its own. */
async function run(player, { browser, pages, origin, dir, seconds, spillway, "delta-extension": extension }) {
  let segments = 0;
  const isVideoSegment = (path) => /\/v\d+\/\d+\.m4s$/.test(path);
  const cdn = await startCdn(origin, (path) => isVideoSegment(path) && ++segments === FAILING_SEGMENT);
  mkdirSync(dir);
  const collector = await startCollector(spillway, dir, cdn.url);
  const tap = await startTap(collector.url, LOST_ANSWER);
  const problems = [];
  try {
    const told = settings(player, `${cdn.url}/live/river/${MANIFESTS[player.protocols[0]]}`, tap.url, WRITE_KEY);
    const { played_s, fatal, errors, close } = await playThrough(browser, `${pages.url}/${player.name}`, told, seconds);
    await tap.settled(QUIET_MS);
    await close();
    for (const error of [...errors].slice(0, 3)) problems.push(`the page shows an error: ${error}`);
    if (fatal.length > 0) problems.push(`the player gave up: ${fatal}`);
    if (played_s < seconds * 0.8) problems.push(`it showed ${played_s} s of video in ${seconds} s`);
    if (cdn.failed.length === 0) problems.push("no segment was told to fail");
    const judged = await judge({ spillway, "delta-extension": extension, collector, tap, sid: told.sid });
    problems.push(...judged.problems);
    if (!(await collector.stop())) problems.push("the collector did not end well");
    const lake = await verified(spillway, collector.config);
    if (!lake.clean) problems.push(`the lake is not clean: ${lake.faults.join("; ")}`);
    return { version: player.version, played_s, ...judged, verified: lake.clean, equal: problems.length === 0, problems };
  } finally {
    writeFileSync(join(dir, "posts.json"), JSON.stringify({ posts: tap.posts, preflights: tap.preflights }, null, 1));
    tap.close();
    cdn.close();
    await collector.stop();
  }
}

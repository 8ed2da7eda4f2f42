// The steering suite: each case has a deployment of its own, tabs that play, and cells that say what came of it.

import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { PLAYERS } from "../players.mjs";
import { DEAD_PATHWAYS } from "./cases/dead.mjs";
import { MOVES } from "./cases/moves.mjs";
import { STARTS } from "./cases/starts.mjs";
import { startStage } from "./stage.mjs";

/** Every case by name. The first ones of `starts-…` are for the whole run, `starts-9` stands in the short form. */
export const CASES = Object.fromEntries([...STARTS, ...MOVES, ...DEAD_PATHWAYS].map((each) => [each.name, each]));

/** What guards most in the time that `cargo xtask test` has: a start that hangs, a move, a dead CDN. */
export const SHORT = ["starts-9", "follow", "dead-503"];
/** What the short form leaves out: views that miss a limit by their player's own doing, always or by chance (docs/players.md). */
const PLAYERS_OWN = { follow: ["shaka/hls"], "dead-503": ["dashjs/dash", "vhs/hls", "vhs/dash"] };
export const WHOLE = Object.keys(CASES).filter((name) => name !== "starts-9");

/** Runs `cases` one after another with the players named; their cells, and one about all answers that anybody got. */
export async function runSteering({ browser, pages, spillway, origin, dir, players, cases, short, seen }) {
  const all = players.flatMap((player) => PLAYERS[player].protocols.map((protocol) => ({ player, protocol })));
  const cells = [];
  const [answers, bad] = [[], []];
  for (const name of cases) {
    const left = short ? (PLAYERS_OWN[name] ?? []) : [];
    const playing = all.filter(({ player, protocol }) => !left.includes(`${player}/${protocol}`));
    if (playing.length === 0 || CASES[name].fits?.(playing) === false) continue;
    const open = [];
    const endStage = async (stage) => {
      answers.push(...stage.tap.answers);
      bad.push(...stage.tap.answers.filter(({ faults }) => faults.length > 0));
      open.splice(open.indexOf(stage), 1);
      await keepTrace(stage);
      await stage.close();
    };
    let stages = 0;
    const stageOf = async (options) => {
      const stage = await startStage({ spillway, origin, dir: join(dir, `${name}-${++stages}`), ...options });
      open.push(stage);
      return stage;
    };
    const begun = Date.now();
    try {
      const found = await CASES[name].run({ browser, pages, players: playing, short, stage: stageOf, endStage });
      cells.push(...found);
      for (const each of found) seen(each);
    } catch (error) {
      const failed = { player: "all", protocol: "all", case: name, metric: "failed", value: null, unit: String(error), context: {} };
      cells.push(failed);
      seen(failed);
    }
    for (const stage of [...open]) await endStage(stage);
    for (const context of browser.contexts()) await context.close();
    console.error(`players: ${name}: ${Math.round((Date.now() - begun) / 1_000)} s, load ${loadavg()[0].toFixed(1)} on ${availableParallelism()} cores`);
  }
  const valid = { player: "all", protocol: "all", case: `answers-${answers.length}`, metric: "bad-answers", value: bad.length, unit: "answers", context: {} };
  seen(valid);
  return [...cells, valid];
}

/** What anybody needs to see why a cell is what it is: `trace.json` beside the logs. */
async function keepTrace({ dir, views, fronts, tap, plan }) {
  const watched = views.filter((view) => view.isOpen());
  const samples = Object.fromEntries(await Promise.all(watched.map(async (view) => [view.name, await view.samples()])));
  const { answers, refused, playlists } = tap;
  writeFileSync(join(dir, "trace.json"), JSON.stringify({ manifests: plan.seen, requests: fronts.log, answers, refused, playlists, samples }));
}

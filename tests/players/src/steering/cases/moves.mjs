// Moves that an operator orders, and a steering node that is lost. The orders are real overrides.

import { cell, harmedCells, startupCells } from "../../cells.mjs";
import { sleep, until } from "../../http.mjs";
import { allPlay } from "../../tabs.mjs";
import { leftAfter, ttlBefore } from "../judge.mjs";
import { openAll, playing, pollCells, SETTLE_MS } from "./common.mjs";

/** A round of 2 s, and as much for a busy machine. */
const PUBLISH_TIMEOUT_MS = 8_000;
/** A TTL, its jitter, and time to see that nobody goes back, and that the next discontinuity is no trouble. */
const FOLLOW_MS = 40_000;
const FOLLOW_SHORT_MS = 18_000;

/** An override is in force in a published manifest. */
const orderedIn = (manifest) => manifest.overrides.length > 0;

async function ordered(stage, what) {
  const from = Date.now();
  await stage.order(what);
  const manifest = await stage.plan.published(from, PUBLISH_TIMEOUT_MS, orderedIn);
  if (!manifest) throw new Error(`no manifest with ${what.kind} ${what.target} within ${PUBLISH_TIMEOUT_MS} ms`);
  await stage.plan.taken(manifest.epoch);
  return { from, publish_s: (Date.now() - from) / 1_000, at: Date.now() };
}

function leftCells(views, name, stage, from, dead, contextOf) {
  const to = Date.now();
  return views.map((view) => cell(view, name, "left", leftAfter(stage.fronts.log, view.name, dead, from, to), "s", contextOf(view)));
}

/** Nothing happens: what players do by themselves, beside which the other cases are to be read. */
const STEADY_MS = 45_000;
const steady = {
  name: "steady",
  async run(run) {
    const stage = await run.stage({});
    const views = await playing(run, stage, run.players);
    await sleep(SETTLE_MS);
    const from = Date.now();
    await sleep(STEADY_MS);
    return [...(await harmedCells(views, this.name, from)), ...pollCells(views, this.name, stage)];
  },
};

/** A whole share is moved at once: who follows within its TTL? */
const follow = {
  name: "follow",
  async run(run) {
    const stage = await run.stage({});
    const views = await playing(run, stage, run.players);
    await sleep(SETTLE_MS);
    const { from, publish_s, at } = await ordered(stage, { kind: "exclude", target: "cdn-a" });
    await sleep(run.short ? FOLLOW_SHORT_MS : FOLLOW_MS);
    const contextOf = (view) => ({ publish_s, ttl_s: ttlBefore(stage.tap.answers, view.name, at) });
    return [
      ...leftCells(views, this.name, stage, from, "cdn-a", contextOf),
      ...(await harmedCells(views, this.name, from)),
      ...pollCells(views, this.name, stage),
    ];
  },
};

/** An own edge is drained: all leave in steps, and nobody notices. */
const DRAIN_S = 20;
const DRAIN_WATCH_MS = 38_000;
const drain = {
  name: "drain",
  async run(run) {
    const stage = await run.stage({ first: "own-1", policy: { drain_s: DRAIN_S } });
    const views = await playing(run, stage, run.players);
    await sleep(SETTLE_MS);
    const { from } = await ordered(stage, { kind: "drain", target: "own-1" });
    await sleep(DRAIN_WATCH_MS);
    return [
      ...leftCells(views, this.name, stage, from, "own-1", () => ({})),
      ...(await harmedCells(views, this.name, from)),
      ...pollCells(views, this.name, stage),
    ];
  },
};

/** The steering node dies for good while everybody watches; so do the playlists that it served. */
const LOST_WATCH_MS = 40_000;
const lostMidstream = {
  name: "lost-midstream",
  async run(run) {
    const stage = await run.stage({});
    const views = await playing(run, stage, run.players);
    await sleep(SETTLE_MS);
    stage.tap.gone = "all";
    const from = Date.now();
    await sleep(LOST_WATCH_MS);
    const asked = (view) => stage.tap.refused.filter((refused) => refused.view === view.name).length;
    for (const view of views) console.error(`players: lost-midstream: ${view.name} asked ${asked(view)} times`);
    return harmedCells(views, this.name, from);
  },
};

/**
 * The pathway that a playlist names goes bad right behind it: its media is answered 503, and the move is published before
 * the first poll is answered. The first answer still repeats the playlist; the move comes with the second.
 */
const HOLD_MAX_MS = 4_000;
const badBeforePoll = {
  name: "bad-before-poll",
  async run(run) {
    const views = [];
    // One after another: the poll of each waits for a move that is published behind its playlist.
    for (const each of run.players) {
      const stage = await run.stage({});
      let answerPolls;
      stage.tap.hold = new Promise((resolve) => (answerPolls = resolve));
      const [view] = await openAll(run, stage, [each]);
      await until(() => stage.tap.playlists.length > 0, HOLD_MAX_MS, 10);
      stage.fronts.fault("cdn-a", "503");
      await Promise.race([ordered(stage, { kind: "exclude", target: "cdn-a" }), sleep(HOLD_MAX_MS)]);
      answerPolls();
      await allPlay([view], 20_000);
      const fatal = await view.fatal();
      if (fatal.length > 0) console.error(`players: ${this.name}: ${view.name} gave up: ${fatal}`);
      views.push(...(await startupCells([view], this.name)));
      await run.endStage(stage);
      await view.close();
    }
    return views;
  },
};

export const MOVES = [steady, follow, drain, lostMidstream, badBeforePoll];

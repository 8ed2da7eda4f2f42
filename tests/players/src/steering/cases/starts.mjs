// Starts: under steering delay, with steering refused, and fifty of hls.js while everything moves.

import { sleep } from "../../http.mjs";
import { startupOf } from "../judge.mjs";
import { allPlay, openView } from "../views.mjs";
import { cell, harmedCells, openAll, pollCells, startupCells } from "./common.mjs";

const START_TIMEOUT_MS = 25_000;
/** After the last start: polls and stalls of a view that has just begun. */
const AFTER_MS = 12_000;
/** Tabs are opened one after another: a start is measured, not six at once on two cores. */
const APART_MS = 1_500;

const startsWith = (name, delayMs, content) => ({
  name,
  async run(run) {
    const stage = await run.stage({});
    stage.tap.delayMs = delayMs;
    const views = await openAll(run, stage, run.players, { content, apartMs: APART_MS });
    await allPlay(views, START_TIMEOUT_MS);
    await sleep(AFTER_MS);
    return [...(await startupCells(views, name)), ...pollCells(views, name, stage)];
  },
});

const refusedAtStart = {
  name: "refused-at-start",
  async run(run) {
    const stage = await run.stage({});
    stage.tap.gone = "steering";
    const views = await openAll(run, stage, run.players, { apartMs: APART_MS });
    await allPlay(views, START_TIMEOUT_MS);
    const from = Date.now();
    await sleep(AFTER_MS);
    const asked = (view) => stage.tap.refused.filter((refused) => refused.view === view.name).length;
    for (const view of views) console.error(`players: refused-at-start: ${view.name} asked ${asked(view)} times`);
    return [...(await startupCells(views, this.name)), ...(await harmedCells(views, this.name, from))];
  },
};

/** So many tabs start at once: as busy as a machine of two cores may be. */
const AT_ONCE = 3;
/** The plan changes so often meanwhile, so that playlist and first answer could disagree. */
const FLIP_MS = 4_000;
/** A start that has not shown a picture by then hangs. The measured hangs lasted for good. */
const HANG_MS = 15_000;
const MAX_DELAY_MS = 60;

/** Starts of hls.js while the best pathway changes all the time; none may hang. */
const startsOfHlsjs = (count) => ({
  name: `starts-${count}`,
  fits: (players) => players.some(({ player }) => player === "hlsjs"),
  async run(run) {
    const stage = await run.stage({});
    stage.tap.delayMs = () => Math.random() * MAX_DELAY_MS;
    const flipping = flipWhile(stage);
    const times = [];
    for (let begun = 0; begun < count; begun += AT_ONCE) {
      const views = [];
      for (let at = begun; at < Math.min(begun + AT_ONCE, count); at++) {
        views.push(await openView({ ...run, stage, player: "hlsjs", protocol: "hls", name: `start-${at}` }));
      }
      await allPlay(views, HANG_MS);
      for (const view of views) times.push(startupOf(await view.samples(), view.asked));
      await Promise.all(views.map((view) => view.close()));
    }
    await flipping.stop();
    const started = times.filter((time) => time !== null && time * 1_000 <= HANG_MS).sort((a, b) => a - b);
    const view = { player: "hlsjs", protocol: "hls" };
    const firsts = new Set(stage.tap.playlists.map(({ body }) => /PATHWAY-ID="([^"]*)"/.exec(body)?.[1]));
    console.error(`players: ${this.name}: playlists began with ${[...firsts].join(" and ")}; the plan flipped ${flipping.count} times`);
    return [
      cell(view, this.name, "hung", times.length - started.length, "starts"),
      cell(view, this.name, "startup", started.at(Math.floor(started.length / 2)) ?? null, "s"),
    ];
  },
});

/** Excludes the best pathway and takes it back, in turns. */
function flipWhile(stage) {
  const state = { count: 0, on: true };
  const loop = (async () => {
    while (state.on) {
      const end = await stage.order({ kind: "exclude", target: "cdn-a" });
      await sleep(FLIP_MS);
      await end();
      state.count++;
      if (state.on) await sleep(FLIP_MS);
    }
  })();
  state.stop = async () => {
    state.on = false;
    await loop;
  };
  return state;
}

export const STARTS = [
  startsWith("start-0ms", () => 0),
  startsWith("start-60ms", () => Math.random() * MAX_DELAY_MS),
  startsWith("start-4s", () => 4_000),
  startsWith("start-vod", () => 0, "vod"),
  refusedAtStart,
  startsOfHlsjs(50),
  startsOfHlsjs(9),
];

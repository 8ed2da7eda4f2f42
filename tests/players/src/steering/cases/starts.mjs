// Starts: under steering delay, with steering refused, and fifty of hls.js while the plan changes under them.

import { cell, harmedCells, startupCells } from "../../cells.mjs";
import { sleep, until } from "../../http.mjs";
import { allPlay } from "../../tabs.mjs";
import { startupOf } from "../../video.mjs";
import { openView } from "../views.mjs";
import { openAll, pollCells } from "./common.mjs";

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
/** A start that has not shown a picture by then hangs. The measured hangs lasted for good. */
const HANG_MS = 15_000;
/** Media takes so long, so that the first answer comes while the first segment is in the air: then disagreement hurts. */
const MEDIA_MS = 300;
const MAX_DELAY_MS = 60;

/**
 * Starts of hls.js with the plan changed between each playlist and its first answer; none may hang. `disagree` is the
 * control: there the tap turns answers round, as a server would that decides anew. It has no limit: it shows that this
 * case would see a hang.
 */
const startsOfHlsjs = (count, disagree = false) => ({
  name: disagree ? `disagree-${count}` : `starts-${count}`,
  fits: (players) => players.some(({ player }) => player === "hlsjs"),
  async run(run) {
    const stage = await run.stage({});
    stage.tap.delayMs = () => Math.random() * MAX_DELAY_MS;
    stage.tap.disagree = disagree;
    stage.fronts.delayMs = MEDIA_MS;
    const [flip, times] = [flipper(stage), []];
    for (let begun = 0; begun < count; begun += AT_ONCE) {
      const names = Array.from({ length: Math.min(AT_ONCE, count - begun) }, (_, at) => `start-${begun + at}`);
      let release;
      stage.tap.hold = new Promise((resolve) => (release = resolve));
      const opened = names.map((name) => openView({ ...run, stage, player: "hlsjs", protocol: "hls", name, anywhere: true }));
      await until(() => stage.tap.playlists.length >= begun + names.length, HANG_MS, 10);
      if (!disagree) await flip();
      release();
      const views = await Promise.all(opened);
      await allPlay(views, HANG_MS);
      for (const view of views) times.push(startupOf(await view.samples(), view.asked));
      await Promise.all(views.map((view) => view.close()));
    }
    const started = times.filter((time) => time !== null && time * 1_000 <= HANG_MS).sort((a, b) => a - b);
    console.error(`players: ${this.name}: ${turned(stage.tap)} of ${times.length} playlists began with another pathway than the next poll`);
    const view = { player: "hlsjs", protocol: "hls" };
    return [
      cell(view, this.name, "hung", times.length - started.length, "starts"),
      cell(view, this.name, "startup", started.at(Math.floor(started.length / 2)) ?? null, "s"),
    ];
  },
});

/** How many views' playlists named a pathway that the plan had left when they were first answered. */
function turned({ playlists, answers }) {
  const left = ({ view, body }) => {
    const first = /PATHWAY-ID="([^"]*)"/.exec(body)?.[1];
    return answers.some((answer) => answer.view === view && (answer.order[0] !== first || answer.ttl_s <= UNSETTLED_TTL_MAX_S));
  };
  return playlists.filter(left).length;
}
/** What a first answer tells whose pathway is not the plan's first any more (steering: UNSETTLED_TTL_MAX_S). */
const UNSETTLED_TTL_MAX_S = 5;

/** Excludes the best pathway, or takes it back, in turns; resolves once the steering node knows. */
function flipper(stage) {
  let end = null;
  return async () => {
    const since = Date.now();
    const excluded = !end;
    if (end) end = void (await end());
    else end = await stage.order({ kind: "exclude", target: "cdn-a" });
    const manifest = await stage.plan.published(since, FLIP_TIMEOUT_MS, ({ overrides }) => overrides.length > 0 === excluded);
    if (!manifest) throw new Error(`no manifest ${excluded ? "with" : "without"} the override within ${FLIP_TIMEOUT_MS} ms`);
    await stage.plan.taken(manifest.epoch);
  };
}
const FLIP_TIMEOUT_MS = 8_000;

export const STARTS = [
  startsWith("start-0ms", () => 0),
  startsWith("start-60ms", () => Math.random() * MAX_DELAY_MS),
  startsWith("start-4s", () => 4_000),
  startsWith("start-vod", () => 0, "vod"),
  refusedAtStart,
  startsOfHlsjs(50),
  startsOfHlsjs(15, true),
  startsOfHlsjs(9),
];

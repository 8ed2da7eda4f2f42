// What cases have in common: tabs that play, and cells about each of them.

import { cell } from "../../cells.mjs";
import { sleep } from "../../http.mjs";
import { allPlay } from "../../tabs.mjs";
import { pollsPerTtl } from "../judge.mjs";
import { openView } from "../views.mjs";

/** Until every view plays: starts are not what most cases are about. */
const PLAY_TIMEOUT_MS = 40_000;
/** Until the orchestrator has an audience to go by (`warm_up_s` is 12 s), and players have something buffered. */
export const SETTLE_MS = 14_000;

/** Opens a tab for each of `players` (`{player, protocol}`), `apartMs` after each other. */
export async function openAll(run, stage, players, { content, impatient, apartMs = 0 } = {}) {
  const views = [];
  for (const [at, { player, protocol }] of players.entries()) {
    if (at > 0) await sleep(apartMs);
    views.push(await openView({ ...run, stage, player, protocol, content, impatient, name: `${player}-${protocol}-${at}` }));
  }
  return views;
}

/** Opens tabs and waits until all play. A view that doesn't is a fault of the case: it would say nothing. */
export async function playing(run, stage, players, options) {
  const views = await openAll(run, stage, players, options);
  const still = await allPlay(views, PLAY_TIMEOUT_MS);
  if (still.length > 0) throw new Error(`not playing after ${PLAY_TIMEOUT_MS / 1_000} s: ${still.map(({ name }) => name)}`);
  return views;
}

/** How often each view polled while it was answered. */
export const pollCells = (views, name, stage) =>
  views.map((view) => cell(view, name, "polls", pollsPerTtl(stage.tap.answers, view.name), "polls in a TTL"));

// The edge suite: several tabs play one live stream through a `spillway edge`, with low latency and without.

import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { cell, harmedCells, startupCells } from "../cells.mjs";
import { sleep } from "../http.mjs";
import { MANIFESTS, PLAYERS, settings } from "../players.mjs";
import { allPlay, openTab } from "../tabs.mjs";
import { followHints } from "./hints.mjs";
import { behindOf, fetched, headStartOf, isBlocking, isMedia, latencyOf, liveAtZero, median } from "./judge.mjs";
import { startStage } from "./stage.mjs";

const TABS = 3;
/** Tabs are opened one after another: two cores start one player well. */
const APART_MS = 1_000;
const PLAY_TIMEOUT_MS = 20_000;
/** Until players are where they want to be. */
const SETTLE_MS = 5_000;
const WATCH_MS = 18_000;
const WATCH_SHORT_MS = 12_000;

/** Every case by name: who plays what. */
export const CASES = {
  "ll-hls": { player: "hlsjs", protocol: "hls", low: true },
  "ll-dash": { player: "dashjs", protocol: "dash", low: true },
  "plain-hls": { player: "hlsjs", protocol: "hls", low: false },
  "plain-dash": { player: "dashjs", protocol: "dash", low: false },
};
export const SHORT = ["ll-hls", "ll-dash"];
export const WHOLE = Object.keys(CASES);

/** Runs `cases` one after another, each with an edge and an origin of its own, as far as their players are among `players`. */
export async function runEdge({ browser, pages, spillway, dir, players, cases, short, seen }) {
  for (const name of cases) {
    const { player, protocol } = CASES[name];
    if (!players.includes(player)) continue;
    const begun = Date.now();
    const stage = await startStage({ spillway, dir: join(dir, name) });
    try {
      for (const each of await run({ browser, pages, stage, name, watchMs: short ? WATCH_SHORT_MS : WATCH_MS })) seen(each);
    } catch (error) {
      seen({ player, protocol, case: name, metric: "failed", value: null, unit: String(error), context: {} });
    }
    for (const context of browser.contexts()) await context.close();
    await stage.close();
    console.error(`players: ${name}: ${Math.round((Date.now() - begun) / 1_000)} s, load ${loadavg()[0].toFixed(1)} on ${availableParallelism()} cores`);
  }
}

async function run({ browser, pages, stage, name, watchMs }) {
  const { player, protocol, low } = CASES[name];
  const { origin, url } = stage;
  const views = [];
  for (let at = 0; at < TABS; at++) {
    if (at > 0) await sleep(APART_MS);
    const view = await openTab({ browser, pages, player, protocol, name: `${player}-${at}` });
    views.push(view);
    await view.page.evaluate(keepRequests);
    await view.play(settings(PLAYERS[player], `${url}/${low ? "low" : "plain"}/${protocol}/${MANIFESTS[protocol]}`, null, null, { lowLatency: low }));
  }
  const still = await allPlay(views, PLAY_TIMEOUT_MS);
  if (still.length > 0) throw new Error(`not playing after ${PLAY_TIMEOUT_MS / 1_000} s: ${still.map(({ name }) => name)}`);
  await sleep(SETTLE_MS);
  const from = Date.now();
  const hints = name === "ll-hls" ? Array.from({ length: TABS }, () => followHints(`${url}/low/hls`, origin.live.renditions.v240, watchMs)) : [];
  const [hinted] = await Promise.all([Promise.all(hints), sleep(watchMs)]);
  const to = Date.now();
  const cells = [...(await startupCells(views, name)), ...(await harmedCells(views, name, from))];
  const [trace, asked] = [[], []];
  for (const view of views) {
    const [samples, requests] = [await view.samples(), await requestsOf(view, url)];
    trace.push({ name: view.name, fatal: await view.fatal(), errors: view.errors, samples, requests });
    asked.push(...requests);
    // An MPD says which moment 0 is.
    const zero = protocol === "dash" ? origin.live.epoch : liveAtZero(origin.live, requests, samples);
    cells.push(cell(view, name, "latency", latencyOf(samples, zero, from, to), "s"));
    if (name === "ll-hls") cells.push(cell(view, name, "behind", behindOf(origin.live, requests, from), "s"));
    if (name === "ll-dash") cells.push(cell(view, name, "head-start", headStartOf(origin.log, requests), "s"));
  }
  if (hints.length > 0) cells.push(cell({ player: "hints", protocol }, name, "behind", median(hinted.flat()), "s"));
  writeFileSync(join(stage.dir, "trace.json"), JSON.stringify({ origin: origin.log, views: trace }));
  return [...cells, ...fetchCells(views[0], name, origin.log, asked)];
}

/** What came of the requests of all views at the origin. */
function fetchCells(view, name, log, asked) {
  const cells = [];
  const count = (metric, fits) => {
    const times = fetched(log, fits);
    const most = times[0]?.[1] ?? null;
    if (most > 1) console.error(`players: ${name}: fetched more than once: ${times.filter(([, n]) => n > 1).map(([path, n]) => `${path} ${n}`).join(", ")}`);
    cells.push(cell(view, name, metric, most, "fetches of one"));
    const wanted = asked.filter(({ path }) => fits(path)).length;
    console.error(`players: ${name}: ${metric}: ${wanted} requests of ${TABS} tabs, ${times.length} things, ${times.reduce((sum, [, n]) => sum + n, 0)} fetches`);
  };
  count("fetches", isMedia);
  if (CASES[name].low && view.protocol === "hls") count("blocking-fetches", isBlocking);
  const refused = log.filter(({ status }) => status >= 400);
  if (refused.length > 0) console.error(`players: ${name}: the origin refused ${refused.length}: ${refused.slice(0, 5).map(({ status, path }) => `${status} ${path}`).join(", ")}`);
  return cells;
}

/** In the page: lets the browser remember all requests, more than the 250 that it usually does. */
const keepRequests = () => performance.setResourceTimingBufferSize(20_000);

/** The requests of a view that are over, as the browser saw them. */
async function requestsOf(view, url) {
  const entries = await view.page.evaluate(() =>
    performance.getEntriesByType("resource").map(({ name, startTime, responseStart, responseEnd, responseStatus }) => {
      const at = (time) => performance.timeOrigin + time;
      return { url: name, status: responseStatus, start: at(startTime), first: at(responseStart), end: at(responseEnd) };
    }),
  );
  return entries.filter((entry) => entry.url.startsWith(url)).map(({ url: whole, ...rest }) => ({ path: whole.slice(url.length), ...rest }));
}

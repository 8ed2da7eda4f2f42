// A view: one player in a tab of its own, whose requests carry its name, and whose video element is watched.

import { MANIFESTS, PLAYERS, settings } from "../players.mjs";
import { until } from "../http.mjs";
import { WRITE_KEY } from "./config.mjs";
import { isStep } from "./judge.mjs";

const MARK = "view/";

/** Which view asks: its name stands in the browser's name, which needs no preflight. */
export const viewOf = (asked) => asked.headers["user-agent"]?.split(MARK)[1] ?? null;

/** In the page: a sample every 100 ms of where the video is. */
const watch = () => {
  window.samples = [];
  setInterval(() => {
    const video = document.querySelector("video");
    if (video) window.samples.push([Date.now(), video.currentTime, video.readyState]);
  }, 100);
};

/**
 * Opens a tab for `player` and lets it play `content` in `protocol`. Nothing is awaited but the call itself; `view.asked`
 * is when it was made, ms since epoch. It starts on the stage's first pathway, or `anywhere`.
 */
export async function openView({ browser, pages, stage, player, protocol, name, content = "live/river", anywhere = false, impatient }) {
  const context = await browser.newContext({ userAgent: `${browser.agent} ${MARK}${name}` });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(`${pages.url}/${player}`);
  await page.evaluate(watch);
  const sid = anywhere ? crypto.randomUUID() : await stage.sidOnFirst();
  const url = `${stage.tap.url}/v1/playlists/${protocol}/${content}/${MANIFESTS[protocol]}?sid=${sid}`;
  const told = settings(PLAYERS[player], url, stage.collector, WRITE_KEY, { sid, cid: content, impatient });
  const asked = await page.evaluate((told) => {
    const asked = Date.now();
    Promise.resolve(window.play(told)).catch((error) => window.fatal.push(`play: ${error.message ?? error}`));
    return asked;
  }, told);
  const samples = () => page.evaluate(() => window.samples);
  const view = {
    name,
    player,
    protocol,
    asked,
    samples,
    errors,
    fatal: () => page.evaluate(() => window.fatal ?? []),
    /** Whether the video moved all through the last second. */
    plays: async () => plays(await samples()),
    isOpen: () => !page.isClosed(),
    close: () => context.close(),
  };
  stage.views.push(view);
  return view;
}

/** Samples of the last second in which a video that plays moved: most of ten; a jump is not a move. */
const MOVES_MIN = 4;

function plays(samples) {
  const from = (samples.at(-1)?.[0] ?? 0) - 1_000;
  return samples.filter(([at], index) => at >= from && index > 0 && isStep(samples[index - 1], samples[index])).length >= MOVES_MIN;
}

/** Waits until all play; those that don't within `timeoutMs`. */
export async function allPlay(views, timeoutMs) {
  const waiting = new Set(views);
  await until(async () => {
    for (const view of waiting) if (await view.plays()) waiting.delete(view);
    return waiting.size === 0;
  }, timeoutMs, 300);
  return [...waiting];
}

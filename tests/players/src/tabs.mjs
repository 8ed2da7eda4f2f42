// A player in a tab of its own, whose video element is watched.

import { until } from "./http.mjs";
import { isStep } from "./video.mjs";

/** In the page: a sample every 100 ms of where the video is, and what it has. */
const watch = () => {
  window.samples = [];
  setInterval(() => {
    const video = document.querySelector("video");
    if (!video) return;
    const { buffered } = video;
    const end = buffered.length > 0 ? buffered.end(buffered.length - 1) : null;
    window.samples.push([Date.now(), video.currentTime, video.readyState, end]);
  }, 100);
};

/**
 * Opens a tab for `player`, whose requests carry `agent` as the browser's name. `view.play` lets it play what it is told;
 * nothing is awaited but the call itself. `view.asked` is then when it was made, ms since epoch.
 */
export async function openTab({ browser, pages, player, protocol, name, agent = browser.agent }) {
  const context = await browser.newContext({ userAgent: agent });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(`${pages.url}/${player}`);
  await page.evaluate(watch);
  const samples = () => page.evaluate(() => window.samples);
  const view = {
    name,
    player,
    protocol,
    page,
    samples,
    errors,
    asked: null,
    play: async (told) => {
      view.asked = await page.evaluate((told) => {
        const asked = Date.now();
        Promise.resolve(window.play(told)).catch((error) => window.fatal.push(`play: ${error.message ?? error}`));
        return asked;
      }, told);
    },
    fatal: () => page.evaluate(() => window.fatal ?? []),
    /** Whether the video moved all through the last second. */
    plays: async () => plays(await samples()),
    isOpen: () => !page.isClosed(),
    close: () => context.close(),
  };
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

// One player in a page, made to report.

const START_TIMEOUT_MS = 30_000;
/** Of the demo's clip. */
const FRAMES_PER_S = 25;

/** What the network says of requests that were told to fail is expected; everything else is an error. */
const isExpected = (text) => text.startsWith("Failed to load resource:");

/**
 * Lets a player play for a little more than `seconds`, with what makes it report in between: how many seconds of video
 * it showed, why it gave up if it did, and what the page complained of. The page stays open until `close`, for the last
 * reports leave after the player's end.
 */
export async function playThrough(browser, address, settings, seconds) {
  const page = await browser.newPage();
  const errors = new Set();
  page.on("console", (message) => message.type() === "error" && !isExpected(message.text()) && errors.add(message.text()));
  page.on("pageerror", (error) => errors.add(String(error)));
  await page.goto(address);
  let frames = 0;
  const watch = async (share) => {
    await page.waitForFunction(isPlaying, null, { timeout: START_TIMEOUT_MS });
    const before = await page.evaluate(framesShown);
    await page.waitForTimeout(seconds * share * 1_000);
    frames += (await page.evaluate(framesShown)) - before;
  };

  await page.evaluate(async (settings) => {
    window.stop = await window.play(settings);
  }, settings);
  await watch(0.3);
  await page.evaluate(() => void (document.querySelector("video").muted = false));
  await page.waitForTimeout(300);
  await page.evaluate(() => void (document.querySelector("video").muted = true));
  await page.evaluate(() => document.querySelector("video").pause());
  await page.waitForTimeout(500);
  await page.evaluate(() => document.querySelector("video").play());
  await page.evaluate(() => void (document.querySelector("video").playbackRate = 0.9));
  await watch(0.1);
  await page.evaluate(() => void (document.querySelector("video").playbackRate = 1));
  await page.evaluate(() => window.custom?.());
  await watch(0.2);
  // The same view goes on with a new reporter, whose numbers begin at 0 again.
  await page.evaluate(() => window.again());
  await page.waitForTimeout(1_000);
  await watch(0.5);
  const fatal = await page.evaluate(() => window.fatal);
  await page.evaluate(() => window.stop());
  return { played_s: frames / FRAMES_PER_S, fatal, errors, close: () => page.close() };
}

const isPlaying = () => {
  const video = document.querySelector("video");
  return video.currentTime > 0 && video.readyState > 2 && !video.paused;
};
const framesShown = () => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames;

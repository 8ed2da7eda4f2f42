// The browser test: a real Chromium opens the overview and the watch page of a running demo.
// usage: node run.mjs -- <demo program> [its arguments]; CHROMIUM names the browser, SCREENSHOTS the folder for pictures.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const START_TIMEOUT_MS = 90_000;
const OUTAGE_TIMEOUT_MS = 90_000;
const PLAY_TIMEOUT_MS = 45_000;
const END_TIMEOUT_MS = 15_000;

const pictures = process.env.SCREENSHOTS ?? "screenshots";
mkdirSync(pictures, { recursive: true });

const [program, ...programArguments] = process.argv.slice(process.argv.indexOf("--") + 1);
assert(program, "usage: node run.mjs -- <demo program> [its arguments]");

/** Starts the demo and reads the addresses that it prints first. */
async function startDemo() {
  const demo = spawn(program, [...programArguments, "--viewers", "200", "--seconds", "80", "--keep"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => demo.on("exit", (code, signal) => resolve({ code, signal })));
  const addresses = {};
  const lines = createInterface({ input: demo.stdout });
  const printed = new Promise((resolve, reject) => {
    lines.on("line", (line) => {
      console.log(`demo: ${line}`);
      const found = /\b(dashboard|watch)\b\s+(http:\/\/\S+)/.exec(line);
      if (found) addresses[found[1]] ??= found[2];
      if (addresses.dashboard && addresses.watch) resolve();
    });
    ended.then(() => reject(new Error("the demo ended before it printed its addresses")));
    setTimeout(() => reject(new Error(`no addresses within ${START_TIMEOUT_MS} ms`)), START_TIMEOUT_MS).unref();
  });
  await printed;
  return { demo, ended, addresses };
}

/** A page that remembers every error that it shows. */
async function openPage(browser, url, viewport) {
  const page = await browser.newPage({ viewport });
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(url, { waitUntil: "domcontentloaded" });
  return { page, errors };
}

async function overviewShowsTheOutage(browser, url) {
  const { page, errors } = await openPage(browser, url, { width: 1280, height: 1000 });
  for (const region of ["eu-west", "eu-central", "eu-south", "eu-north"]) {
    await page.getByText(region, { exact: false }).first().waitFor({ timeout: 30_000 });
  }
  await page.getByText("DOWN", { exact: true }).first().waitFor({ timeout: OUTAGE_TIMEOUT_MS });
  await page.waitForTimeout(6_000); // the shares move within the next polls
  // The README shows this picture: small enough to be committed.
  await page.screenshot({ path: join(pictures, "overview.png"), clip: { x: 0, y: 0, width: 1280, height: 760 } });
  assert.deepEqual(errors, [], "the overview shows console errors");
  console.log("ok: the overview shows every region and the outage, live");
}

async function theStreamPlays(browser, url) {
  const inSouth = new URL(url);
  inSouth.searchParams.set("region", "eu-south");
  const { page, errors } = await openPage(browser, inSouth.href, { width: 1000, height: 620 });
  const seconds = () => page.evaluate(() => document.querySelector("video").currentTime);
  await page.waitForFunction(() => document.querySelector("video")?.currentTime > 0, null, { timeout: PLAY_TIMEOUT_MS });
  const from = await seconds();
  await page.waitForFunction((start) => document.querySelector("video").currentTime > start + 5, from, {
    timeout: PLAY_TIMEOUT_MS,
  });
  // No own edge stands in this region: the token's region, not the browser's address, decided.
  const order = await page.locator("body").innerText();
  assert(order.includes("cdn-a") && !order.includes("own-"), `eu-south is served by CDNs alone, the page says: ${order}`);
  const frames = await page.evaluate(() => document.querySelector("video").getVideoPlaybackQuality().totalVideoFrames);
  assert(frames > 50, `only ${frames} frames were decoded`);
  await page.screenshot({ path: join(pictures, "watch.png") });
  assert.deepEqual(errors, [], "the watch page shows console errors");
  console.log(`ok: the video plays (${frames} frames, from ${from.toFixed(1)} s to ${(await seconds()).toFixed(1)} s)`);
}

const { demo, ended, addresses } = await startDemo();
try {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM?.startsWith("/") ? process.env.CHROMIUM : `/usr/bin/${process.env.CHROMIUM ?? "chromium"}`,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  try {
    await Promise.all([overviewShowsTheOutage(browser, addresses.dashboard), theStreamPlays(browser, addresses.watch)]);
  } finally {
    await browser.close();
  }
} finally {
  demo.kill("SIGINT");
  const timer = setTimeout(() => demo.kill("SIGKILL"), END_TIMEOUT_MS);
  const how = await ended;
  clearTimeout(timer);
  assert.notEqual(how.signal, "SIGKILL", `the demo did not end within ${END_TIMEOUT_MS} ms of Ctrl-C`);
  console.log("ok: the demo ends on Ctrl-C");
}

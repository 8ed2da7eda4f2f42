// Chromium, as Debian has it.

import { chromium } from "playwright-core";

/** Debian's Chromium, as in `tests/browser`; `agent` is what it calls itself. */
export async function startBrowser() {
  const named = process.env.CHROMIUM ?? "chromium";
  const browser = await chromium.launch({
    executablePath: named.startsWith("/") ? named : `/usr/bin/${named}`,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
      // All tabs but one are in the background here; a viewer's is not.
      "--disable-background-timer-throttling",
      "--disable-backgrounding-occluded-windows",
      "--disable-renderer-backgrounding",
    ],
  });
  const page = await browser.newPage();
  browser.agent = await page.evaluate(() => navigator.userAgent);
  await page.close();
  return browser;
}

// Stands between a player and the collector: keeps every report byte for byte, and passes it on unchanged.

import { createServer, request } from "node:http";
import { bodyOf, listen } from "../http.mjs";

/** Headers that belong to one connection, not to the message. */
const OF_THE_CONNECTION = new Set(["connection", "host", "keep-alive", "transfer-encoding"]);

/**
 * A proxy in front of `collector`. `posts` grows by one per report, `preflights` by one per OPTIONS. The answer to the
 * report number `losing` is lost (the player sees 503): it was taken, and will come again.
 */
export async function startTap(collector, losing) {
  const tap = { posts: [], preflights: [] };
  let [open, lastMs, reports] = [0, Date.now(), 0];
  const server = createServer(async (asked, answer) => {
    open++;
    try {
      const body = await bodyOf(asked);
      const isReport = asked.method !== "OPTIONS";
      const isLost = isReport && ++reports === losing;
      const given = await pass(collector, asked, body);
      const seen = { method: asked.method, url: asked.url, headers: asked.headers, status: given.status };
      if (isReport) tap.posts.push({ ...seen, isLost, body: body.toString("utf8"), answer: given.body.toString("utf8") });
      else tap.preflights.push({ ...seen, answered: given.headers });
      answer.writeHead(isLost ? 503 : given.status, given.headers).end(given.body);
    } catch (error) {
      // The player sees a broken connection, as it would without a proxy; the comparison will tell.
      tap.posts.push({ method: asked.method, url: asked.url, headers: asked.headers, status: 0, body: "", answer: String(error) });
      answer.destroy();
    } finally {
      open--;
      lastMs = Date.now();
    }
  });
  tap.url = await listen(server);
  tap.close = () => server.close();
  /** Resolves once nothing has come for `quietMs`. */
  tap.settled = async (quietMs) => {
    while (open > 0 || Date.now() - lastMs < quietMs) await new Promise((resolve) => setTimeout(resolve, 100));
  };
  return tap;
}

function pass(collector, asked, body) {
  const headers = Object.fromEntries(Object.entries(asked.headers).filter(([name]) => !OF_THE_CONNECTION.has(name)));
  return new Promise((resolve, reject) => {
    const passed = request(new URL(asked.url, collector), { method: asked.method, headers }, async (given) => {
      const kept = Object.entries(given.headers).filter(([name]) => !OF_THE_CONNECTION.has(name));
      resolve({ status: given.statusCode, headers: Object.fromEntries(kept), body: await bodyOf(given) });
    });
    passed.on("error", reject);
    passed.end(body);
  });
}

/** The records of a report: its lines that aren't empty (CTA-5004-B: one record a line). */
export function recordsOf(posts) {
  return posts.flatMap((post) => post.body.split("\n").map((line) => line.trim()).filter(Boolean));
}

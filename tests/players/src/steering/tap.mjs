// Stands where players know the steering node: keeps every answer, checks it, and can be slow, deaf or gone.

import { createServer, request } from "node:http";
import { bodyOf, closed, listen, sleep } from "../http.mjs";
import { faultsOf } from "./answers.mjs";
import { viewOf } from "./views.mjs";

const OF_THE_CONNECTION = new Set(["connection", "host", "keep-alive", "transfer-encoding"]);

/**
 * A proxy in front of `tap.upstream`, to be set before anybody asks. `answers` has every steering answer: `{at, end, view,
 * protocol, ttl_s, order, faults}`; `refused` the steering requests that got none; `playlists` the playlists that were
 * served.
 *
 * Switches: `delayMs()` is how long steering answers wait; `hold` is a promise that they wait for; `gone` closes
 * connections, of steering requests (`"steering"`) or of all (`"all"`); `disagree` turns the order of answers round, behind
 * our own bookkeeping; `alone` takes the steering tag out of playlists.
 */
export async function startTap({ alone = false } = {}) {
  const tap = { upstream: null, answers: [], refused: [], playlists: [], delayMs: () => 0, hold: null, gone: null, disagree: false };
  const server = createServer(async (asked, answer) => {
    const isSteering = asked.url.startsWith("/v1/steer/");
    const seen = { at: Date.now(), view: viewOf(asked), protocol: asked.url.split("/")[3]?.split("?")[0] };
    if (tap.gone === "all" || (tap.gone && isSteering)) {
      if (isSteering) tap.refused.push(seen);
      return void asked.socket.resetAndDestroy();
    }
    try {
      if (isSteering && asked.method === "GET") {
        await sleep(tap.delayMs());
        await tap.hold;
      }
      const given = await pass(tap.upstream, asked, await bodyOf(asked));
      if (asked.method === "GET") keep(tap, isSteering, seen, given);
      if (tap.disagree && isSteering) given.body = turnedRound(given.body);
      if (alone && !isSteering) given.body = Buffer.from(withoutSteering(given.body.toString("utf8")));
      const { "content-length": _, ...headers } = given.headers;
      answer.writeHead(given.status, { ...headers, "content-length": given.body.length }).end(given.body);
    } catch (error) {
      if (isSteering) tap.refused.push({ ...seen, error: String(error) });
      answer.destroy();
    }
  });
  tap.url = await listen(server);
  tap.close = () => closed(server);
  return tap;
}

function keep(tap, isSteering, seen, given) {
  const body = given.body.toString("utf8");
  if (!isSteering) return void tap.playlists.push({ ...seen, status: given.status, body });
  const { faults, ttl_s, order } = faultsOf(given.status, given.headers, body);
  tap.answers.push({ ...seen, end: Date.now(), ttl_s, order, faults });
  for (const fault of faults) console.error(`players: a bad steering answer for ${seen.view}: ${fault}: ${body.slice(0, 300)}`);
}

function pass(upstream, asked, body) {
  const headers = Object.fromEntries(Object.entries(asked.headers).filter(([name]) => !OF_THE_CONNECTION.has(name)));
  return new Promise((resolve, reject) => {
    const passed = request(new URL(asked.url, upstream), { method: asked.method, headers }, async (given) => {
      const kept = Object.entries(given.headers).filter(([name]) => !OF_THE_CONNECTION.has(name));
      resolve({ status: given.statusCode, headers: Object.fromEntries(kept), body: await bodyOf(given) });
    });
    passed.on("error", reject);
    passed.end(body);
  });
}

/** The same playlist with the same pathways, for a player that is left alone. */
export const withoutSteering = (playlist) =>
  playlist.replace(/^#EXT-X-CONTENT-STEERING:.*\r?\n/m, "").replace(/<ContentSteering[\s\S]*?<\/ContentSteering>\s*/, "");

function turnedRound(body) {
  const answer = JSON.parse(body.toString("utf8"));
  return Buffer.from(JSON.stringify({ ...answer, "PATHWAY-PRIORITY": answer["PATHWAY-PRIORITY"].toReversed() }));
}

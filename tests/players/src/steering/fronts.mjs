// What stands before each pathway: an HTTP server with an access log and a switch for faults. All listen on one port of
// different loopback addresses, so that they are different hosts to browsers and to the orchestrator's probes alike.

import { Agent, createServer, request } from "node:http";
import { closed, listenAt, sleep } from "../http.mjs";
import { viewOf } from "./views.mjs";

const CORS = { "access-control-allow-origin": "*", "timing-allow-origin": "*", "cache-control": "no-store" };
const TRIES = 20;
/** A trickle's speed: 8 kbit/s, far below the lowest rendition. */
const TRICKLE = { bytes: 250, everyMs: 250 };

/** What a pathway can suffer from. */
export const FAULTS = ["404", "503", "reset", "hang", "trickle"];

/**
 * One front for each of `ids`. Where requests go to is set later (`upstream[id] = url`). `log` has every request:
 * `{at, pathway, view, path, fault, status, end}`, times in ms since epoch, `view` null if no player asked. All answers wait
 * for `delayMs`.
 */
export async function startFronts(ids) {
  const fronts = { log: [], upstream: {}, faults: {}, urls: {}, delayMs: 0 };
  const agent = new Agent({ keepAlive: true });
  const servers = ids.map((id) => createServer((asked, answer) => serve(fronts, agent, id, asked, answer)));
  const port = await onOnePort(servers);
  ids.forEach((id, at) => (fronts.urls[id] = `http://${hostOf(at)}:${port}`));
  /** Lets a pathway suffer from now on (`null`: from nothing). */
  fronts.fault = (id, fault) => {
    if (fault && !FAULTS.includes(fault)) throw new Error(`fault ${fault} is not valid (valid: ${FAULTS.join(", ")})`);
    fronts.faults[id] = fault;
    return Date.now();
  };
  fronts.close = async () => {
    agent.destroy();
    await Promise.all(servers.map(closed));
  };
  return fronts;
}

const hostOf = (at) => `127.0.0.${11 + at}`;

async function onOnePort(servers) {
  for (let tries = 1; ; tries++) {
    const port = await listenAt(servers[0], hostOf(0), 0);
    const others = servers.slice(1).map((server, at) => listenAt(server, hostOf(at + 1), port));
    const taken = (await Promise.allSettled(others)).filter(({ status }) => status === "rejected");
    if (taken.length === 0) return port;
    await Promise.all(servers.filter((server) => server.listening).map(closed));
    if (tries === TRIES) throw taken[0].reason;
  }
}

async function serve(fronts, agent, id, asked, answer) {
  const fault = fronts.faults[id] ?? null;
  const entry = { at: Date.now(), pathway: id, view: viewOf(asked), path: asked.url.split("?")[0], fault, status: 0, end: null };
  if (asked.method !== "OPTIONS") fronts.log.push(entry);
  answer.once("close", () => (entry.end = Date.now()));
  if (fronts.delayMs) await sleep(fronts.delayMs);
  if (fault === "hang") return; // taken, and never answered
  if (fault === "reset") return void asked.socket.resetAndDestroy();
  if (fault === "404" || fault === "503") {
    entry.status = Number(fault);
    asked.resume();
    return void answer.writeHead(entry.status, CORS).end("told to fail\n");
  }
  const passed = request(new URL(asked.url, fronts.upstream[id]), { method: asked.method, agent }, (given) => {
    entry.status = given.statusCode;
    const { connection: _, ...headers } = given.headers;
    answer.writeHead(given.statusCode, { ...headers, ...CORS });
    if (fault === "trickle") void trickle(given, answer);
    else given.pipe(answer);
  });
  passed.on("error", (error) => {
    entry.status = 502;
    if (!answer.headersSent) answer.writeHead(502, CORS);
    answer.end(`${error}\n`);
  });
  answer.once("close", () => passed.destroy());
  asked.pipe(passed);
}

async function trickle(given, answer) {
  try {
    for await (const part of given) {
      for (let at = 0; at < part.length && !answer.destroyed; at += TRICKLE.bytes) {
        answer.write(part.subarray(at, at + TRICKLE.bytes));
        await sleep(TRICKLE.everyMs);
      }
    }
  } catch {
    // The player went away, or the case is over: the log has what matters.
  }
  answer.end();
}

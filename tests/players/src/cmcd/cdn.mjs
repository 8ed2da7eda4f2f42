// Stands between the players and the origin, and fails when told to: what a player reports of a failed request is part
// of the test.

import { createServer, request } from "node:http";
import { listen } from "../http.mjs";

const CORS = { "access-control-allow-origin": "*", "timing-allow-origin": "*", "cache-control": "no-store" };

/** A front of `origin`; `failing(path)` says which requests are answered by 503. */
export async function startCdn(origin, failing) {
  const failed = [];
  const server = createServer((asked, answer) => {
    const path = new URL(asked.url, origin).pathname;
    if (asked.method === "GET" && failing(path)) {
      failed.push(path);
      asked.resume();
      answer.writeHead(503, CORS).end("told to fail\n");
      return;
    }
    const passed = request(new URL(asked.url, origin), { method: asked.method }, (given) => {
      answer.writeHead(given.statusCode, given.headers);
      given.pipe(answer);
    });
    passed.on("error", (error) => answer.writeHead(502, CORS).end(`${error}\n`));
    asked.pipe(passed);
  });
  return { url: await listen(server), failed, close: () => server.close() };
}

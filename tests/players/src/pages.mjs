// Serves the players' pages and the players themselves, from an origin of their own: reports cross origins, as they do
// in the field, so preflights are part of the test.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { listen } from "./http.mjs";

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8" };

/** A player's page: its library, its glue, one video element. */
const page = (name) => `<!doctype html><meta charset="utf-8"><title>${name}</title>
<video id="video" muted playsinline width="320" height="180"></video>
<script src="/lib/${name}.js"></script><script src="/pages/${name}.js"></script>`;

/** Starts serving `/{player}`; `libraries` names each player's file. */
export async function startPages(libraries) {
  const server = createServer(async (asked, answer) => {
    const path = new URL(asked.url, "http://page").pathname;
    const [, folder, file] = path.split("/");
    try {
      let body;
      if (folder === "lib") body = await readFile(new URL(`../node_modules/${libraries[file.replace(".js", "")]}`, import.meta.url));
      else if (folder === "pages") body = await readFile(new URL(`../pages/${file}`, import.meta.url));
      else if (folder in libraries) body = page(folder);
      else throw new Error(`nothing at ${path}`);
      answer.writeHead(200, { "content-type": TYPES[extname(path)] ?? TYPES[".html"] }).end(body);
    } catch (error) {
      const quiet = path === "/favicon.ico"; // every browser asks for one
      answer.writeHead(quiet ? 204 : 404).end(quiet ? "" : `${error}\n`);
    }
  });
  return { url: await listen(server), close: () => server.close() };
}

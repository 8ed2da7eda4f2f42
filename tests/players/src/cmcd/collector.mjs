// The real collector: `spillway collector` on a configuration of its own, and what it says of itself.

import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { listen } from "../http.mjs";
import { ended, started } from "../programs.mjs";

const SERVICE_TOKEN = "a-service-token-for-tests";
export const WRITE_KEY = "write-key-1";

/** A port that is free now. */
async function freePort() {
  const server = createServer();
  const { port } = new URL(await listen(server));
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const config = (dir, port, media) => `
data_dir = ${JSON.stringify(dir)}
service_token = "${SERVICE_TOKEN}"

[[property]]
id = "site"
write_key = "${WRITE_KEY}"

[[region]]
id = "eu"
static_weights = { cdn-a = 100 }

[[pathway]]
id = "cdn-a"
base_url = "${media}"
capacity_mbps = 1000

[collector]
listen = "127.0.0.1:${port}"
commit_interval_s = 1
`;

/** A collector whose files are below `dir`, for media of `media`. */
export async function startCollector(spillway, dir, media) {
  const port = await freePort();
  const file = join(dir, "spillway.toml");
  writeFileSync(file, config(dir, port, media));
  const env = { RUST_LOG: process.env.RUST_LOG ?? "warn" };
  const { child } = await started(spillway, ["collector", "--config", file], { env });
  const url = `http://127.0.0.1:${port}`;
  return { url, config: file, dir, counters: () => counters(url), stop: () => ended(child) };
}

async function counters(url) {
  const answer = await fetch(`${url}/internal/counters`, { headers: { authorization: `Bearer ${SERVICE_TOKEN}` } });
  if (!answer.ok) throw new Error(`/internal/counters answered ${answer.status}`);
  return answer.json();
}

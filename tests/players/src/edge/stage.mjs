// An origin and a real `spillway edge` before it, new for each case.

import { mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ended, started } from "../programs.mjs";
import { startOrigin } from "./origin.mjs";

const config = ({ dir, origin }) => `
data_dir = ${JSON.stringify(join(dir, "edge"))}
service_token = "a-service-token-for-tests"

[edge]
listen = "127.0.0.1:0"
pathway = "own-1"
region = "eu"
base_url = "http://127.0.0.1"
origin = "${origin.url}"
ceiling_mbps = 1000
access_log = ${JSON.stringify(join(dir, "access.ndjson"))}
`;

/** Starts both below `dir`; `url` is the edge's. */
export async function startStage({ spillway, dir }) {
  mkdirSync(dir, { recursive: true });
  const origin = await startOrigin();
  try {
    const file = join(dir, "edge.toml");
    writeFileSync(file, config({ dir, origin }));
    const env = { RUST_LOG: process.env.RUST_LOG ?? "warn" };
    const { child, line } = await started(spillway, ["edge", "--config", file], { env, log: openSync(join(dir, "edge.log"), "w") });
    const url = `http://${JSON.parse(line).listening.edge}`;
    origin.clock = `${url}/time`;
    const close = async () => {
      await ended(child);
      await origin.close();
    };
    return { dir, origin, url, close };
  } catch (error) {
    await origin.close();
    throw error;
  }
}

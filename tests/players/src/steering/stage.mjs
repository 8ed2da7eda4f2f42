// A whole deployment for one case: fronts, tap, `spillway all` and an own edge, all on free ports, and what an operator can
// ask of it. Everything is new for each case, so that none remembers another's faults.

import { createHash } from "node:crypto";
import { mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../http.mjs";
import { ended, started } from "../programs.mjs";
import { edgeConfig, OPERATOR_TOKEN, PATHWAYS, REGION, spillwayConfig } from "./config.mjs";
import { startFronts } from "./fronts.mjs";
import { startTap } from "./tap.mjs";

const READY_TIMEOUT_MS = 20_000;

/**
 * Starts all of it below `dir`. `first` is the pathway that everybody starts on; `policy` has numbers that decide, where a
 * case can't wait as long as production does; `alone` leaves the players without steering.
 */
export async function startStage({ spillway, origin, dir, first = "cdn-a", policy = {}, alone = false }) {
  mkdirSync(dir, { recursive: true });
  const closers = [];
  const close = async () => {
    for (const closer of closers.reverse()) await closer();
  };
  const run = async (role) => {
    const log = openSync(join(dir, `${role}.log`), "w");
    const env = { RUST_LOG: process.env.RUST_LOG ?? "warn" };
    const { child, line } = await started(spillway, [role, "--config", join(dir, `${role}.toml`)], { env, log });
    closers.push(() => ended(child));
    return JSON.parse(line).listening;
  };
  try {
    const fronts = await startFronts(PATHWAYS);
    closers.push(fronts.close);
    const tap = await startTap({ alone });
    closers.push(tap.close);
    const sha256 = createHash("sha256").update(OPERATOR_TOKEN).digest("hex");
    writeFileSync(join(dir, "all.toml"), spillwayConfig({ dir, fronts, tap, origin, first, policy, sha256 }));
    const at = await run("all");
    const orchestrator = `http://${at.orchestrator}`;
    const collector = `http://${at.collector}`;
    tap.upstream = `http://${at.steer}`;
    writeFileSync(join(dir, "edge.toml"), edgeConfig({ dir, fronts, origin, orchestrator, collector }));
    const edge = await run("edge");
    for (const id of PATHWAYS) fronts.upstream[id] = id.startsWith("own-") ? `http://${edge.edge}` : origin;

    const plan = watchManifests(orchestrator);
    closers.push(plan.close);
    const ready = await until(() => plan.seen.length > 0, READY_TIMEOUT_MS);
    if (!ready) throw new Error(`no manifest within ${READY_TIMEOUT_MS} ms`);
    plan.taken = (epoch) => until(async () => (await explained(tap.upstream, "anybody")).epoch >= epoch, READY_TIMEOUT_MS, 20);
    const sidOnFirst = () => until(() => sidOn(tap.upstream, first), READY_TIMEOUT_MS, 0);
    return { dir, views: [], fronts, tap, plan, collector, sidOnFirst, order: (what) => order(orchestrator, what), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Every manifest as it is published: `{epoch, at, states, overrides}`, `at` in ms since epoch. */
function watchManifests(orchestrator) {
  const plan = { seen: [] };
  let [etag, busy] = ["", false];
  const look = async () => {
    if (busy) return;
    busy = true;
    try {
      const answer = await fetch(`${orchestrator}/v1/manifests/${REGION}`, { headers: etag ? { "if-none-match": etag } : {} });
      if (answer.status === 200) {
        etag = answer.headers.get("etag") ?? "";
        const { payload } = await answer.json();
        const manifest = JSON.parse(Buffer.from(payload, "base64").toString("utf8"));
        const states = Object.fromEntries(Object.entries(manifest.pathways).map(([id, { state, reason }]) => [id, `${state} ${reason}`]));
        plan.seen.push({ epoch: manifest.epoch, at: manifest.issued_ms, states, overrides: manifest.overrides, cohorts: manifest.cohorts });
      } else await answer.arrayBuffer();
    } catch {
      // Not up yet, or over: who waits for a manifest has a time-out of its own.
    }
    busy = false;
  };
  const timer = setInterval(look, 100);
  plan.close = () => clearInterval(timer);
  /** The first manifest at or after `since` that `holds`; null if none came in time. */
  plan.published = async (since, timeoutMs, holds) => {
    const found = await until(() => plan.seen.find((manifest) => manifest.at >= since && holds(manifest)), timeoutMs);
    return found ?? null;
  };
  return plan;
}

/** What the steering node would answer `sid` and why; asking changes nothing and counts for nobody. */
async function explained(steer, sid) {
  const headers = { authorization: `Bearer ${OPERATOR_TOKEN}` };
  const answer = await fetch(`${steer}/v1/explain?content=live/river&sid=${sid}`, { headers });
  if (!answer.ok) throw new Error(`/v1/explain: status ${answer.status}: ${await answer.text()}`);
  return answer.json();
}

/** A session id that starts on pathway `first`, since a few always start elsewhere; null if this try has none. */
async function sidOn(steer, first) {
  const sid = crypto.randomUUID();
  return (await explained(steer, sid)).declared[0] === first ? sid : null;
}

/** An operator's order for the region (`POST /v1/admin/overrides`); what ends it. */
async function order(orchestrator, what) {
  const headers = { authorization: `Bearer ${OPERATOR_TOKEN}`, "content-type": "application/json" };
  const body = JSON.stringify({ region: REGION, reason: "a case of tests/players", expires_s: 600, ...what });
  const answer = await fetch(`${orchestrator}/v1/admin/overrides`, { method: "POST", headers, body });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`override ${body}: status ${answer.status}: ${text}`);
  const { id } = JSON.parse(text);
  return () => fetch(`${orchestrator}/v1/admin/overrides/${id}`, { method: "DELETE", headers });
}

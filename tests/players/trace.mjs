// Shows one view of a case as it went: requests by pathway and second, polls, stalls, manifests.
// usage: node trace.mjs DIR/CASE-1/trace.json VIEW
import { readFileSync } from "node:fs";

const [file, name] = process.argv.slice(2);
const trace = JSON.parse(readFileSync(file, "utf8"));
if (!trace.samples[name]) throw new Error(`view ${name} is not valid (valid: ${Object.keys(trace.samples).join(", ")})`);
const start = trace.samples[name][0][0];
const lines = [];
const say = (at, text) => lines.push([at, text]);
for (const { at, pathway, view, path, fault, status, end } of trace.requests) {
  if (view === name) say(at, `${pathway} ${path} → ${status}${fault ? ` (${fault})` : ""} ${end ? `${end - at} ms` : "open"}`);
}
for (const { at, view, ttl_s, order } of trace.answers) if (view === name) say(at, `poll → ${order.join(" ")}, TTL ${ttl_s}`);
for (const { at, view } of trace.refused) if (view === name) say(at, "poll → nothing");
for (const { at, view } of trace.playlists) if (view === name) say(at, "playlist");
for (const { at, epoch, states } of trace.manifests) say(at, `manifest ${epoch}: ${Object.entries(states).map((state) => state.join(" "))}`);
let moved = trace.samples[name][0];
for (const sample of trace.samples[name]) {
  if (Math.abs(sample[1] - moved[1]) < 0.02) continue;
  if (sample[0] - moved[0] >= 500) say(moved[0], `video stands for ${sample[0] - moved[0]} ms at ${moved[1].toFixed(1)} s`);
  if (Math.abs(sample[1] - moved[1]) > 1) say(sample[0], `video jumps by ${(sample[1] - moved[1]).toFixed(1)} s`);
  moved = sample;
}
say(trace.samples[name].at(-1)[0], `last sample: ${trace.samples[name].at(-1)[1].toFixed(1)} s`);
for (const [at, text] of lines.sort(([a], [b]) => a - b)) console.log(`${((at - start) / 1_000).toFixed(2).padStart(7)} ${text}`);

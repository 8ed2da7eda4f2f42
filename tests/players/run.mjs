// Real players in a real browser: they follow steering (suite `steering`), report by CMCD alone (suite `cmcd`), and play through
// an own edge with low latency (suite `edge`).
// usage: node run.mjs [--spillway FILE] [--origin FILE] [--suite steering|cmcd|edge] [--player NAME] [--case NAME] [--short]
//        [--seconds 20] [--keep DIR] [--delta-extension FILE] [--json]
// `--delta-extension`: DuckDB's extension `delta`, whose own reader of Delta tables is then asked, too. `--json`: no table.
// CHROMIUM names the browser. Ends with one JSON line; exit 1 if a cell is not ok.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startBrowser } from "./src/browser.mjs";
import { runCmcd } from "./src/cmcd/suite.mjs";
import * as edge from "./src/edge/suite.mjs";
import { judged, rounded } from "./src/limits.mjs";
import { startPages } from "./src/pages.mjs";
import { PLAYERS } from "./src/players.mjs";
import { ended, started } from "./src/programs.mjs";
import * as steering from "./src/steering/suite.mjs";

const SUITES = ["cmcd", "edge", "steering"];
const built = (name) => new URL(`../../target/demo/${name}`, import.meta.url).pathname;
const { values: options } = parseArgs({
  options: {
    spillway: { type: "string", default: built("spillway") },
    origin: { type: "string", default: built("spillway-demo-origin") },
    suite: { type: "string", multiple: true },
    player: { type: "string", multiple: true, default: Object.keys(PLAYERS) },
    case: { type: "string", multiple: true },
    short: { type: "boolean", default: false },
    seconds: { type: "string", default: "20" },
    "delta-extension": { type: "string" },
    keep: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const seconds = Number(options.seconds);
if (!(seconds >= 5 && seconds <= 600)) throw new Error(`--seconds ${options.seconds} is not valid (valid: 5 to 600)`);
const known = (flag, names, valid) => {
  for (const name of names) if (!valid.includes(name)) throw new Error(`--${flag} ${name} is not valid (valid: ${valid.join(", ")})`);
};
/** A suite's cases of those that are asked for. */
const casesOf = ({ CASES, SHORT, WHOLE }) => options.case?.filter((name) => name in CASES) ?? (options.short ? SHORT : WHOLE);
const suites = options.suite ?? (options.case ? ["edge", "steering"] : SUITES);
const cases = { edge: casesOf(edge), steering: casesOf(steering) };
known("player", options.player, Object.keys(PLAYERS));
known("suite", suites, SUITES);
known("case", options.case ?? [], [...Object.keys(edge.CASES), ...Object.keys(steering.CASES)]);

const dir = options.keep ?? mkdtempSync(join(tmpdir(), "spillway-players-"));
mkdirSync(dir, { recursive: true });
const cells = [];
const seen = (cell) => {
  const shown = judged({ ...cell, value: rounded(cell.value) });
  cells.push(shown);
  if (!options.json) console.error(line(shown));
};
const line = ({ player, protocol, case: name, value, unit, limit, ok }) =>
  `${ok ? "ok  " : "MISS"} ${name.padEnd(28)} ${`${player}/${protocol}`.padEnd(12)} ${String(value).padStart(7)} ${unit}, limit ${limit ?? "none"}`;

const origin = await started(options.origin, []);
const pages = await startPages(Object.fromEntries(Object.values(PLAYERS).map(({ name, library }) => [name, library])));
let cmcd;
try {
  const browser = await startBrowser();
  try {
    const stage = { ...options, browser, pages, origin: origin.line, dir, seconds, players: options.player };
    if (suites.includes("cmcd")) {
      cmcd = await runCmcd(stage);
      cmcd.cells.forEach(seen);
    }
    if (suites.includes("edge")) await edge.runEdge({ ...stage, cases: cases.edge, seen });
    if (suites.includes("steering") && cases.steering.length > 0) await steering.runSteering({ ...stage, cases: cases.steering, seen });
  } finally {
    await browser.close();
  }
} finally {
  pages.close();
  await ended(origin.child);
}
const ok = cells.every((cell) => cell.ok);
const versions = Object.fromEntries(options.player.map((name) => [name, PLAYERS[name].version]));
console.log(JSON.stringify({ versions, ...(cmcd && { cmcd: { seconds, players: cmcd.results } }), cells }));
if (ok && !options.keep) rmSync(dir, { recursive: true });
else console.error(`players: configuration, logs and lakes are in ${dir}`);
process.exitCode = ok ? 0 : 1;

// A pathway dies under everybody. Nobody orders anything: players report what they see by CMCD, probes fail, the
// orchestrator decides. The same once more without steering, for comparison.

import { cell, harmedCells } from "../../cells.mjs";
import { sleep } from "../../http.mjs";
import { FAULTS } from "../fronts.mjs";
import { leftAfter, pathwayAt, ttlBefore } from "../judge.mjs";
import { playing, SETTLE_MS } from "./common.mjs";

const DEAD = "cdn-a";
/** From the fault on: detection, a TTL, and a player's own time-out. */
const WATCH_MS = 40_000;
const WATCH_SHORT_MS = 28_000;
const WATCH_HANG_MS = 55_000;
/** If nothing was detected, limits are counted from here; the cell of the detection is missed then. */
const DETECTION_MAX_S = 16;

/** A manifest that sends nobody to `DEAD` any more. */
const leaves = (manifest) => manifest.states[DEAD].startsWith("DOWN");

/** What docs/players.md advises for players that wait 12 and 20 s for a pathway that says nothing. */
const WAITING = ["dashjs", "shaka"];
const IMPATIENT = { request_ms: 6_000, progress_ms: 3_000 };

const dead = (fault, { alone = false, impatient } = {}) => ({
  name: `${alone ? "alone" : "dead"}-${fault}${impatient ? "-impatient" : ""}`,
  fits: (players) => !impatient || players.some(({ player }) => WAITING.includes(player)),
  async run(run) {
    const stage = await run.stage({ alone });
    const players = impatient ? run.players.filter(({ player }) => WAITING.includes(player)) : run.players;
    const views = await playing(run, stage, players, { impatient });
    await sleep(SETTLE_MS);
    const elsewhere = views.filter((view) => pathwayAt(stage.fronts.log, view.name, Date.now()) !== DEAD);
    if (elsewhere.length > 0) throw new Error(`not on ${DEAD}: ${elsewhere.map(({ name }) => name)}`);
    const from = stage.fronts.fault(DEAD, fault);
    await sleep(fault === "hang" ? WATCH_HANG_MS : run.short ? WATCH_SHORT_MS : WATCH_MS);
    const { detected_s, contextOf } = detection(stage, from);
    const to = Date.now();
    const left = views.map((view) => cell(view, this.name, "left", leftAfter(stage.fronts.log, view.name, DEAD, from, to), "s", contextOf(view)));
    const harmed = await harmedCells(views, this.name, from, contextOf);
    const detected = cell({ player: "all", protocol: "all" }, this.name, "detected", detected_s, "s");
    for (const view of views) {
      const fatal = await view.fatal();
      if (fatal.length > 0) console.error(`players: ${this.name}: ${view.name} gave up: ${fatal}`);
    }
    return [...(alone ? [] : [detected]), ...left, ...harmed];
  },
});

function detection(stage, from) {
  const published = stage.plan.seen.find((manifest) => manifest.at >= from && leaves(manifest));
  const detected_s = published ? (published.at - from) / 1_000 : null;
  const at = published?.at ?? from + DETECTION_MAX_S * 1_000;
  const contextOf = (view) => ({ detection_s: detected_s ?? DETECTION_MAX_S, ttl_s: ttlBefore(stage.tap.answers, view.name, at) });
  return { detected_s, contextOf };
}

/** As many tabs as the machine takes, and the share of them that is off in time. */
const CROWD = 14;
/** VHS asks for steering once and never again while it plays live DASH (docs/players.md): it can't be steered. */
const cannotBeSteered = ({ player, protocol }) => player === "vhs" && protocol === "dash";
const crowd = {
  name: "crowd-503",
  fits: (players) => players.some((each) => !cannotBeSteered(each)),
  async run(run) {
    const stage = await run.stage({});
    const steered = run.players.filter((each) => !cannotBeSteered(each));
    const players = Array.from({ length: CROWD }, (_, at) => steered[at % steered.length]);
    const views = await playing(run, stage, players);
    await sleep(SETTLE_MS);
    const from = stage.fronts.fault(DEAD, "503");
    await sleep(WATCH_MS);
    const to = Date.now();
    const { detected_s, contextOf } = detection(stage, from);
    const inTime = views.filter((view) => {
      const { detection_s, ttl_s } = contextOf(view);
      const left_s = leftAfter(stage.fronts.log, view.name, DEAD, from, to);
      return left_s !== null && left_s <= detection_s + ttl_s + 2;
    });
    const all = { player: "all", protocol: "all" };
    const harmed = (await harmedCells(views, this.name, from)).map(({ value }) => value).sort((a, b) => a - b);
    console.error(`players: ${this.name}: harmed s of ${CROWD} views: ${harmed.map((s) => s.toFixed(1)).join(" ")}`);
    return [
      cell(all, this.name, "detected", detected_s, "s"),
      cell(all, this.name, "left-in-time", inTime.length / views.length, "share of views"),
    ];
  },
};

export const DEAD_PATHWAYS = [
  ...FAULTS.flatMap((fault) => [dead(fault), dead(fault, { alone: true })]),
  dead("hang", { impatient: IMPATIENT }),
  dead("trickle", { impatient: IMPATIENT }),
  crowd,
];

// `limits.toml`: what each cell may be at most, decided before anything was measured.

import { readFileSync } from "node:fs";
import { parse } from "smol-toml";

const ENTRIES = parse(readFileSync(new URL("../limits.toml", import.meta.url), "utf8")).limit;

const fits = (pattern, value) =>
  pattern === undefined || pattern === "*" || pattern === value || (pattern.endsWith("*") && value.startsWith(pattern.slice(0, -1)));

/** The first entry of `limits.toml` for a cell; none if it has no limit. */
const entryFor = (cell) =>
  ENTRIES.find((entry) => ["case", "metric", "player", "protocol"].every((key) => fits(entry[key], cell[key])));

/** Controls: the same without what is under test. */
const WITHOUT = /^(alone|disagree)-/;

/**
 * A cell as it is reported: with its limit in the metric's unit, and whether it holds. `context` has what limits refer
 * to: `detection_s`, `publish_s`, `ttl_s`, `watched_s`. A value that was never reached (`null`) does not hold.
 */
export function judged({ context, metric, ...cell }) {
  const entry = WITHOUT.test(cell.case) ? undefined : entryFor({ ...cell, metric });
  const named = { ...cell, case: `${cell.case}/${metric}` };
  if (!entry) return { ...named, limit: null, ok: true };
  const limit = rounded(limitOf(entry, context, named.case));
  const holds = entry.min === undefined ? cell.value <= limit : cell.value >= limit;
  return { ...named, limit, ok: cell.value !== null && holds };
}

function limitOf(entry, context, name) {
  const { max, min, after_detection, after_publish, stall_share } = entry;
  if (max !== undefined || min !== undefined) return max ?? min;
  const needs = after_detection !== undefined ? ["detection_s", "ttl_s"] : after_publish !== undefined ? ["publish_s", "ttl_s"] : ["watched_s"];
  for (const key of needs) if (context[key] === undefined) throw new Error(`${name}: its limit needs ${key}`);
  if (after_detection !== undefined) return context.detection_s + context.ttl_s + after_detection;
  if (after_publish !== undefined) return context.publish_s + context.ttl_s + after_publish;
  return context.watched_s * stall_share;
}

/** Two decimals are more than any of these measurements is worth. */
export const rounded = (number) => (Number.isFinite(number) ? Math.round(number * 100) / 100 : number);

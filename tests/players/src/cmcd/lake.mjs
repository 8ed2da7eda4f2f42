// The table as `spillway query` reads it, and as DuckDB does, which shares no code with us.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { DuckDBInstance, DuckDBMapValue } from "@duckdb/node-api";

const run = promisify(execFile);
const MAX_OUTPUT = 64 << 20;

/** What is compared: the key, and values of every kind that records have. */
const COLUMNS =
  "property, view_id, source, seq, type, state, dt, event_ms, received_ms, created_ms, content_id, format, pathway, region, " +
  "bitrate_kbps, buffer_ms, throughput_kbps, startup_ms, request_host, request_pathway, request_status, request_ttfb_ms, " +
  "request_ttlb_ms, request_late, error_severity, error_code, sdk, live_latency_ms, cmcd";
const SELECT = (from) => `SELECT ${COLUMNS} FROM ${from} ORDER BY view_id, source, seq, type`;

/** Rows of `events`, by `spillway query`. */
export async function rowsOfSpillway(spillway, config) {
  const { stdout } = await run(spillway, ["query", "--json", "--config", config, SELECT("events")], {
    maxBuffer: MAX_OUTPUT,
    env: { ...process.env, RUST_LOG: "warn" },
  });
  return stdout.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

/**
 * The same rows as DuckDB reads them: out of the list of files, and by its own reader of Delta tables if `extension`
 * (a file of DuckDB's signed extension `delta`) is there. Each with how it was done.
 */
export async function rowsOfDuckdb({ spillway, config, dir, extension }) {
  const instance = await DuckDBInstance.create(":memory:");
  const connection = await instance.connect();
  const text = (value) => `'${value.replaceAll("'", "''")}'`;
  const read = async (from) => plain(await (await connection.run(SELECT(from))).getRowObjects());
  try {
    const table = join(dir, "lake/events");
    const files = await filesOf(spillway, config);
    const parquet = `read_parquet([${files.map(text).join(", ")}], hive_partitioning = true, hive_types_autocast = false)`;
    const readings = [{ by: "read_parquet", rows: await read(parquet) }];
    if (extension) {
      await connection.run(`LOAD ${text(extension)}`);
      readings.push({ by: "delta_scan", rows: await read(`delta_scan(${text(table)})`) });
    }
    return readings;
  } finally {
    connection.closeSync();
  }
}

/** Parquet files of the newest snapshot. */
async function filesOf(spillway, config) {
  const listed = await lakeTool(spillway, ["files", "--table", "events", "--config", config]);
  const files = listed.split("\n").filter(Boolean);
  return files.map((file) => (file.startsWith("file:") ? fileURLToPath(file) : file));
}

/** What `spillway lake verify` finds. The collector has to be stopped. */
export async function verified(spillway, config) {
  return JSON.parse(await lakeTool(spillway, ["verify", "--json", "--config", config]));
}

/** Output of `spillway lake …`. */
async function lakeTool(spillway, words) {
  try {
    return (await run(spillway, ["lake", ...words], { maxBuffer: MAX_OUTPUT })).stdout;
  } catch (error) {
    throw new Error(`spillway lake ${words[0]}: ${error.stderr || error}`);
  }
}

/** DuckDB gives 64-bit numbers as BigInt and maps as lists of entries. */
const plain = (rows) =>
  rows.map((row) => Object.fromEntries(Object.entries(row).map(([column, value]) => [column, plainValue(value)])));

function plainValue(value) {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof DuckDBMapValue) return Object.fromEntries(value.entries.map(({ key, value }) => [key, value]));
  return value;
}

/** Rows with every column, so that an absent one and a null one are the same. */
export const filled = (rows) =>
  rows.map((row) => Object.fromEntries(COLUMNS.split(", ").map((column) => [column, row[column] ?? null])));

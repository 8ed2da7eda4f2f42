// What must hold between the records that a player posted, the collector's counters, the rows of the lake as `spillway
// query` reads them, and the same rows as DuckDB reads them.

import { isDeepStrictEqual } from "node:util";
import { filled, rowsOfDuckdb, rowsOfSpillway } from "./lake.mjs";
import { fieldsOf, isRowOf } from "./record.mjs";
import { recordsOf } from "./tap.mjs";

const COMMIT_TIMEOUT_MS = 20_000;

/** Waits until everything accepted is in the table. */
async function committed(collector) {
  const until = Date.now() + COMMIT_TIMEOUT_MS;
  for (;;) {
    const counters = await collector.counters();
    if (counters.in_flight === 0 && counters.pending_rows === 0) return counters;
    if (Date.now() > until) throw new Error(`not committed within ${COMMIT_TIMEOUT_MS} ms: ${JSON.stringify(counters)}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Judges one player's run. */
export async function judge({ spillway, "delta-extension": extension, collector, tap, sid }) {
  const records = recordsOf(tap.posts);
  const counters = await committed(collector);
  const rows = filled(await rowsOfSpillway(spillway, collector.config));
  const readings = await rowsOfDuckdb({ spillway, config: collector.config, dir: collector.dir, extension });

  const problems = [];
  const expect = (holds, text) => holds || problems.push(text);
  const discarded = Object.values(counters.discarded).reduce((sum, count) => sum + count, 0);
  expect(records.length > 0, "no record was posted");
  for (const { status, answer } of tap.posts.filter((post) => post.status < 200 || post.status > 299).slice(0, 3)) {
    problems.push(`the collector answered ${status}: ${answer.slice(0, 200)}`);
  }
  expect(records.length === counters.received, `${records.length} records posted, ${counters.received} received`);
  expect(records.length === counters.accepted + discarded, `${records.length} posted, ${counters.accepted} accepted, ${discarded} discarded`);
  expect(rows.length === counters.accepted, `${counters.accepted} accepted, ${rows.length} rows`);

  // A record that comes again is the same line. Other lines are events of their own, but for one thing: dash.js reports
  // what it asks for again with its first times, and after a reload with the number of then, too.
  const distinct = [...new Set(records)].map(fieldsOf);
  const repeated = records.length - distinct.length;
  const confused = distinct.length - new Set(distinct.map(({ sid, sn, ts }) => `${sid} ${sn} ${ts}`)).size;
  const duplicates = counters.discarded.duplicate ?? 0;
  expect(
    duplicates >= repeated && duplicates <= repeated + confused,
    `${repeated} records came again and ${confused} are told by nothing from another, ${duplicates} were discarded as duplicates`,
  );
  const orphans = unmatched(distinct, rows);
  expect(
    orphans.records.length === discarded - repeated,
    `${orphans.records.length} records without their row, ${discarded - repeated} discarded: ${JSON.stringify(orphans.records.slice(0, 3))}`,
  );
  expect(orphans.rows.length === 0, `${orphans.rows.length} rows without a record: ${JSON.stringify(orphans.rows.slice(0, 3))}`);
  expect(rows.every((row) => row.view_id === sid), "rows of another view");
  expect(new Set(rows.map((row) => `${row.view_id} ${row.source} ${row.seq}`)).size === rows.length, "two rows have one key");

  // Readers that share no code with ours see the same table.
  for (const { by, rows: read } of readings) {
    const theirs = filled(read);
    const different = rows.findIndex((row, at) => !isDeepStrictEqual(row, theirs[at]));
    expect(theirs.length === rows.length, `${rows.length} rows by spillway, ${theirs.length} by DuckDB's ${by}`);
    expect(different < 0, `by ${by} row ${different} differs: ${JSON.stringify(rows[different])} and ${JSON.stringify(theirs[different])}`);
  }

  const lost = recordsOf(tap.posts.filter((post) => post.isLost)).length;
  expect(lost > 0 && repeated >= lost, `the answer to ${lost} records was lost, ${repeated} came again`);
  return {
    posts: tap.posts.length,
    preflights: tap.preflights.length,
    posted: records.length,
    repeated,
    confused,
    accepted: counters.accepted,
    discarded: counters.discarded,
    rows: rows.length,
    duckdb_rows: Object.fromEntries(readings.map(({ by, rows: read }) => [by, read.length])),
    events: countBy(distinct.map((fields) => fields.e)),
    problems,
  };
}

/** Pairs records with rows, each once; what is left of both. */
function unmatched(records, rows) {
  const byTime = grouped(rows);
  const left = records.filter((fields) => {
    const candidates = byTime.get(Number(fields.ts)) ?? [];
    const at = candidates.findIndex((row) => isRowOf(fields, row));
    if (at < 0) return true;
    candidates.splice(at, 1);
    return false;
  });
  return { records: left, rows: [...byTime.values()].flat() };
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) groups.set(row.created_ms, [...(groups.get(row.created_ms) ?? []), row]);
  return groups;
}

function countBy(names) {
  const counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

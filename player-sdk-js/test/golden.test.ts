import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildBeacon } from '../src/lib/buildBeacon.js';
import { buildEvent } from '../src/lib/buildEvent.js';
import type { Beacon } from '../src/wire.js';

/** Beacons that the collector reads as well; outside the repository there are none. */
const FOLDER = new URL('../../crates/wire/golden/beacon/', import.meta.url);
const DOCUMENT = new URL('../../docs/wire-protocol.md', import.meta.url);
const files = existsSync(FOLDER) ? readdirSync(FOLDER).filter((name) => name.endsWith('.json')) : [];
const read = (name: string) => JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8')) as Beacon;

/** What the SDK makes of the same measurements. */
function rebuilt({ sent_ms, rtt_ms, dropped, ctx, events }: Beacon, nothing: null | undefined): Beacon {
  const built = events.map(({ type, seq, created_ms, mono_ms, state, counters, pathways, ...fields }) =>
    buildEvent(
      { type, seq, createdMs: created_ms + 0.2, monoMs: mono_ms - 0.3 },
      { state, counters: { startup_ms: nothing as undefined, ...counters }, pathways, from: nothing as undefined },
      { ...fields, buffer_ms: fields.buffer_ms ?? NaN },
    ),
  );
  return buildBeacon(ctx, built, { sentMs: sent_ms + 0.4, rttMs: rtt_ms, dropped });
}

/** The SDK builds this beacon from the same measurements, whether what is unknown is null or missing. */
function expectBuilt(golden: Beacon): void {
  for (const nothing of [null, undefined]) {
    expect(JSON.parse(JSON.stringify(rebuilt(golden, nothing)))).toEqual(golden);
  }
}

describe.skipIf(!existsSync(FOLDER))('golden beacons', () => {
  it('are there', () => {
    expect(files).not.toEqual([]);
  });

  it.each(files)('%s is a beacon of version 1', (name) => {
    const beacon = read(name);
    expect(beacon.v).toBe(1);
    expect(beacon.ctx.view_id).toEqual(expect.any(String));
    expect(beacon.events).toEqual(expect.any(Array));
  });

  it.each(files.filter((name) => name === 'heartbeat.json'))('%s is what the SDK builds', (name) => {
    expectBuilt(read(name));
  });
});

it.skipIf(!existsSync(DOCUMENT))('the example of the protocol document is what the SDK builds', () => {
  const [, example] = /```json\n([^]*?)```/.exec(readFileSync(DOCUMENT, 'utf8')) ?? [];
  expectBuilt(JSON.parse(example ?? '') as Beacon);
});

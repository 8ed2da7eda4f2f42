import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { LIMITS_BYTES, sizes } from '../scripts/sizes.js';
import { surface } from '../scripts/surface.js';
import * as hls from '../src/hls.js';
import * as core from '../src/index.js';
import { SDK } from '../src/lib/version.js';

const read = (name: string) => readFile(new URL(`../${name}`, import.meta.url), 'utf8');

it('the public surface is the reviewed one', async () => {
  expect(await surface()).toBe(await read('player-sdk.api.md'));
  expect(Object.keys(core)).toEqual(['attach']);
  expect(Object.keys(hls)).toEqual(['attach']);
});

describe('size, minified and gzip −9', () => {
  it('of the core is at most 8 KB, of the hls.js adapter at most 1.5 KB', async () => {
    const bytes = await sizes();
    expect(bytes.core).toBeLessThanOrEqual(LIMITS_BYTES.core);
    expect(bytes.hls).toBeLessThanOrEqual(LIMITS_BYTES.hls);
    expect(bytes.core).toBeGreaterThan(2_000);
    expect(bytes.hls).toBeGreaterThan(500);
  });
});

it('beacons name the version of the package', async () => {
  const { version, dependencies } = JSON.parse(await read('package.json')) as Record<string, unknown>;
  expect(SDK).toBe(`spillway-js/${version as string}`);
  expect(dependencies).toBeUndefined();
});

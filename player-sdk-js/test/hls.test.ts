import { describe, expect, it, vi } from 'vitest';
import { attach } from '../src/hls.js';
import { hlsErrorClass } from '../src/lib/hlsErrorClass.js';
import { FakeHls } from './support/FakeHls.js';
import { FakeVideo } from './support/FakeVideo.js';
import { OPTIONS, events, eventsOf, kept, newest, pass, setVisible, start, world } from './support/setUp.js';

const FROM_PLAYLIST = { ...OPTIONS, viewId: undefined };
const STEERING = 'https://steer.example.com/v1/steer/hls?t=';

async function playing(options = OPTIONS) {
  const video = new FakeVideo();
  const hls = new FakeHls(video);
  const handle = kept(attach(hls, options));
  hls.loadManifest();
  hls.endSegment(hls.beginSegment());
  await start(video);
  return { video, hls, handle };
}

describe('the view id', () => {
  it('is the session in the steering token', async () => {
    const hls = new FakeHls();
    const handle = kept(attach(hls, FROM_PLAYLIST));
    await pass(100);
    expect(handle.viewId).toBeNull();
    expect(world.posts).toEqual([]);
    hls.loadManifest(STEERING + 'Ab-9.z_x~eu~3320~live~1a2b~live/river~cdn-a:cdn-b~cdn-a~k1~0011');
    await pass(100);
    expect(handle.viewId).toBe('Ab-9.z_x');
    expect(world.posts[0]?.url).toBe('https://qoe.example.com/v1/beacons?k=pk%201&v=Ab-9.z_x');
    expect(world.posts[0]?.beacon.ctx.view_id).toBe('Ab-9.z_x');
  });

  it('is found where a player wrote ~ as %7E', async () => {
    const hls = new FakeHls();
    const handle = kept(attach(hls, FROM_PLAYLIST));
    hls.loadManifest(STEERING + 'abc123%7Eeu');
    expect(handle.viewId).toBe('abc123');
  });

  it('is ?sid= of the playlist where there is no steering', async () => {
    const hls = new FakeHls();
    const handle = kept(attach(hls, FROM_PLAYLIST));
    hls.loadManifest(undefined, 'https://play.example.com/river.m3u8?region=eu&sid=page77#x');
    expect(handle.viewId).toBe('page77');
  });

  it('is random where nothing names it', async () => {
    const hls = new FakeHls();
    const handle = kept(attach(hls, FROM_PLAYLIST));
    hls.loadManifest(STEERING + 'not an id~eu');
    await pass(5_200);
    expect(handle.viewId).toMatch(/^[A-Za-z0-9]{14,64}$/);
  });

  it('is settled before a hidden page may go', async () => {
    const hls = new FakeHls();
    kept(attach(hls, FROM_PLAYLIST));
    setVisible(false);
    expect(world.posts[0]?.byBeacon).toBe(true);
  });

  it('of the page is not replaced', async () => {
    const hls = new FakeHls();
    const handle = kept(attach(hls, OPTIONS));
    hls.loadManifest(STEERING + 'other~eu');
    expect(handle.viewId).toBe(OPTIONS.viewId);
  });
});

describe('media requests', () => {
  it('are counted by pathway, with bytes and time to first byte', async () => {
    const { hls } = await playing();
    hls.endSegment(hls.beginSegment(), 500, 60);
    hls.failSegment(hls.beginSegment(), 503);
    await pass(100);
    expect(newest()).toMatchObject({
      type: 'segment',
      pathway: 'cdn-a',
      request: { host: 'cdn-a.example.com', pathway: 'cdn-a', status: 503, late: false },
      pathways: { 'cdn-a': { requests_ok: 2, requests_failed: 1, requests_late: 0, bytes: 1500, ttfb_sum_ms: 100 } },
    });
    expect(newest()).not.toHaveProperty('host');
    expect(newest().throughput_kbps).toBe(5_200);
  });

  it('in flight for more than 4 s are told at once, and once', async () => {
    const { hls, video } = await playing();
    const before = world.posts.length;
    const slow = hls.beginSegment();
    await pass(4_200, video);
    expect(world.posts.length).toBe(before + 1);
    expect(newest().request).toMatchObject({ late: true, status: 0, bytes: 0 });
    expect(newest().request?.ttlb_ms).toBeGreaterThan(4_000);
    await pass(5_000, video);
    hls.fire('hlsError', { type: 'networkError', details: 'fragLoadTimeOut', fatal: false, frag: slow });
    await pass(6_000, video);
    expect(eventsOf('segment')).toHaveLength(1);
    expect(newest().pathways?.['cdn-a']).toMatchObject({ requests_ok: 1, requests_failed: 0, requests_late: 1 });
  });

  it('that are late and then arrive count both ways', async () => {
    const { hls, video } = await playing();
    const slow = hls.beginSegment();
    await pass(6_000, video);
    hls.endSegment(slow);
    await pass(11_000, video);
    expect(newest().pathways?.['cdn-a']).toMatchObject({ requests_ok: 2, requests_failed: 0, requests_late: 1 });
  });

  it('that the player timed out early count as late', async () => {
    const { hls } = await playing();
    const frag = hls.beginSegment();
    await pass(2_000);
    hls.fire('hlsError', { type: 'networkError', details: 'fragLoadTimeOut', fatal: false, frag });
    await pass(50);
    expect(newest()).toMatchObject({ request: { late: true, status: 0 } });
    expect(newest().pathways?.['cdn-a']).toMatchObject({ requests_failed: 0, requests_late: 1 });
  });

  it('that the player gave up itself are no failures', async () => {
    const { hls, video } = await playing();
    const frag = hls.beginSegment();
    await pass(1_000, video);
    frag.stats.aborted = true;
    await pass(10_000, video);
    expect(eventsOf('segment')).toEqual([]);
    expect(newest().pathways?.['cdn-a']).toMatchObject({ requests_ok: 1, requests_failed: 0, requests_late: 0 });
  });

  it('of init segments, which hls.js does not tell the end of, are counted', async () => {
    const { hls, video } = await playing();
    const init = hls.beginSegment();
    init.stats.loading.first = performance.now() + 10;
    init.stats.loading.end = performance.now() + 20;
    await pass(10_500, video);
    expect(newest().pathways?.['cdn-a']).toMatchObject({ requests_ok: 2, requests_late: 0 });
  });

  it('of playlists are told when they fail', async () => {
    const { hls } = await playing();
    hls.fire('hlsError', {
      type: 'networkError',
      details: 'levelLoadError',
      fatal: false,
      context: { url: 'https://cdn-b.example.com/350000.m3u8?token=t' },
      response: { code: 503 },
    });
    await pass(50);
    expect(newest()).toMatchObject({ type: 'segment', request: { pathway: 'cdn-b', status: 503 } });
    expect(newest().pathways?.['cdn-b']).toMatchObject({ requests_failed: 1 });
    expect(eventsOf('warning')).toEqual([]);
  });

  it('in a loop of failures do not flood', async () => {
    const { hls } = await playing();
    for (let i = 0; i < 1_000; i++) {
      hls.failSegment(hls.beginSegment(), 404);
    }
    await pass(6_000);
    expect(eventsOf('segment').length).toBeLessThan(200);
    expect(newest().pathways?.['cdn-a']?.requests_failed).toBe(1_000);
  });
});

describe('a stall belongs to', () => {
  it('the pathway of the late segment, not the one switched to', async () => {
    const { hls, video } = await playing();
    await pass(3_000, video);
    const late = hls.beginSegment('cdn-a');
    await pass(1_000, video);
    await pass(2_000);
    late.stats.aborted = true;
    hls.fire('hlsSteeringManifestLoaded', {
      steeringManifest: { 'PATHWAY-PRIORITY': ['cdn-b', 'cdn-a'] },
      url: STEERING + 'x~',
    });
    hls.goTo('cdn-b');
    const next = hls.beginSegment('cdn-b');
    await pass(1_000);
    hls.endSegment(next);
    await pass(11_000, video);
    const { counters, pathways } = newest();
    expect(counters.stall_count).toBe(1);
    expect(pathways?.['cdn-a']?.stall_ms).toBe(counters.stall_ms);
    expect(pathways?.['cdn-b']?.stall_ms).toBe(0);
    expect(pathways?.['cdn-b']?.playing_ms).toBeGreaterThan(8_000);
  });

  it('the pathway that failed, also when the stall begins after the switch', async () => {
    const { hls, video } = await playing();
    await pass(3_000, video);
    hls.failSegment(hls.beginSegment('cdn-a'), 503);
    await pass(500, video);
    hls.goTo('cdn-b');
    const next = hls.beginSegment('cdn-b');
    await pass(3_000);
    hls.endSegment(next);
    await pass(11_000, video);
    const { counters, pathways } = newest();
    expect(counters.stall_ms).toBeGreaterThan(2_500);
    expect(pathways?.['cdn-a']?.stall_ms).toBe(counters.stall_ms);
  });

  it('the pathway of the last segment when the next has only just begun', async () => {
    const { hls, video } = await playing();
    const slow = hls.beginSegment('cdn-a');
    await pass(3_500, video);
    hls.endSegment(slow);
    hls.goTo('cdn-b');
    const next = hls.beginSegment('cdn-b');
    await pass(800);
    hls.endSegment(next);
    await pass(11_000, video);
    const { counters, pathways } = newest();
    expect(counters.stall_count).toBe(1);
    expect(pathways?.['cdn-a']?.stall_ms).toBe(counters.stall_ms);
  });
});

describe('a pathway switch', () => {
  const steer = (hls: FakeHls, ...priority: string[]) =>
    hls.fire('hlsSteeringManifestLoaded', { steeringManifest: { 'PATHWAY-PRIORITY': priority }, url: STEERING + 'x~' });

  it('is told at once, with its reason', async () => {
    const { hls, video } = await playing();
    expect(eventsOf('pathway_switch')).toMatchObject([{ to: 'cdn-a', reason: 'start' }]);
    await pass(1_000, video);
    steer(hls, 'cdn-b', 'cdn-a');
    hls.goTo('cdn-b');
    hls.beginSegment('cdn-b');
    await pass(50, video);
    expect(newest()).toMatchObject({ type: 'pathway_switch', from: 'cdn-a', to: 'cdn-b', reason: 'steering' });
    expect(newest().pathway).toBe('cdn-b');
  });

  it('by the player itself says so', async () => {
    const { hls, video } = await playing();
    steer(hls, 'cdn-a', 'cdn-b');
    await pass(1_000, video);
    hls.failSegment(hls.beginSegment('cdn-a'), 404);
    hls.goTo('cdn-b');
    hls.beginSegment('cdn-b');
    await pass(50, video);
    expect(newest()).toMatchObject({ type: 'pathway_switch', reason: 'player' });
  });

  it('is not made of audio that lags behind', async () => {
    const { hls, video } = await playing();
    hls.goTo('cdn-b');
    hls.beginSegment('cdn-b');
    hls.beginSegment('cdn-a', 'audio');
    hls.beginSegment('cdn-b');
    await pass(11_000, video);
    expect(eventsOf('pathway_switch')).toHaveLength(2);
  });

  it('shows by the playlists as long as there is no segment', async () => {
    const hls = new FakeHls();
    kept(attach(hls, OPTIONS));
    hls.goTo('cdn-a');
    hls.fire('hlsLevelLoading', { level: 0, url: 'https://cdn-a.example.com/350000.m3u8' });
    hls.goTo('cdn-b');
    hls.fire('hlsLevelLoading', { level: 0, url: 'https://cdn-b.example.com/350000.m3u8' });
    await pass(50);
    expect(newest()).toMatchObject({ type: 'pathway_switch', from: 'cdn-a', to: 'cdn-b', pathway: 'cdn-b' });
  });
});

it('rendition switches are counted by direction, and bits by bitrate', async () => {
  const { hls, video } = await playing();
  for (const level of [0, 1, 0, 1]) {
    hls.fire('hlsLevelSwitched', { level });
    await pass(1_000, video);
  }
  await pass(7_000, video);
  expect(eventsOf('rendition').map(({ bitrate_kbps }) => bitrate_kbps)).toEqual([350, 1100, 350, 1100]);
  expect(newest().counters).toMatchObject({ switch_up: 2, switch_down: 1 });
  const bits = newest().counters.bits_played ?? 0;
  expect(bits / 1e6).toBeGreaterThan(8);
  expect(bits / 1e6).toBeLessThan(10);
});

it('a pathway switch at the same bitrate is no rendition switch', async () => {
  const { hls, video } = await playing();
  hls.fire('hlsLevelSwitched', { level: 0 });
  hls.goTo('cdn-b');
  hls.fire('hlsLevelSwitched', { level: 0 });
  await pass(10_000, video);
  expect(newest().counters).toMatchObject({ switch_up: 0, switch_down: 0 });
  expect(eventsOf('rendition')).toHaveLength(1);
});

it('the video may come later', async () => {
  const hls = new FakeHls();
  kept(attach(hls, OPTIONS));
  const video = new FakeVideo();
  hls.fire('hlsMediaAttached', { media: video.element });
  await start(video);
  await pass(50, video);
  expect(newest().type).toBe('first_frame');
});

it('a destroyed player ends the view, and nothing listens any more', async () => {
  const { hls } = await playing();
  hls.fire('hlsDestroying');
  await pass(50);
  expect(newest()).toMatchObject({ type: 'view_end', reason: 'abort' });
  expect([...hls.listeners.values()].every((set) => set.size === 0)).toBe(true);
});

it('a fatal error is told at once; the buffer plays out, then the view has failed', async () => {
  const { hls, video } = await playing();
  hls.fire('hlsError', {
    type: 'networkError',
    details: 'levelLoadError',
    fatal: true,
    context: { url: 'https://cdn-a.example.com/350000.m3u8?token=t' },
    response: { code: 502 },
    error: new Error('HTTP Error 502 at https://cdn-a.example.com/350000.m3u8?token=t'),
  });
  await pass(50);
  expect(newest()).toMatchObject({
    type: 'error',
    error: { severity: 'fatal', class: 'path', code: 'levelLoadError', status: 502, pathway: 'cdn-a' },
  });
  expect(JSON.stringify(events())).not.toContain('token');
  await pass(3_000, video);
  await pass(40_000);
  expect(newest()).toMatchObject({ state: 'failed', counters: { stall_count: 0 } });
});

it.each([
  ['networkError', 'manifestLoadError', 500, 'path'],
  ['networkError', 'manifestLoadError', 403, 'entitlement'],
  ['networkError', 'fragLoadError', 401, 'entitlement'],
  ['networkError', 'manifestParsingError', 200, 'content'],
  ['mediaError', 'bufferAppendError', undefined, 'content'],
  ['muxError', 'remuxAllocError', undefined, 'content'],
  ['keySystemError', 'keySystemNoKeys', undefined, 'drm'],
  ['keySystemError', 'keySystemLicenseRequestFailed', 403, 'entitlement'],
  ['otherError', 'internalException', undefined, 'client'],
])('%s %s with status %s is of class %4$s', (type, details, status, expected) => {
  expect(hlsErrorClass(type, details, status)).toBe(expected);
});

it('an error of the SDK never reaches the player', async () => {
  const { hls } = await playing({
    ...OPTIONS,
    pathwayOf: () => {
      throw new Error('of the page');
    },
  });
  const warn = vi.spyOn(console, 'warn').mockReturnValue();
  const strange = [undefined, null, 7, {}, { frag: null }];
  const names = [...hls.listeners.keys()];
  expect(names.length).toBeGreaterThan(8);
  for (const name of names.filter((name) => name !== 'hlsDestroying')) {
    for (const data of strange) {
      expect(() => hls.fire(name, data)).not.toThrow();
    }
  }
  const broken = { attachMedia() {}, levels: [], on: vi.fn(() => { throw new Error('no'); }) };
  expect(() => attach(broken as never, OPTIONS)).not.toThrow();
  expect(() => attach(null as never, OPTIONS)).not.toThrow();
  expect(warn).toHaveBeenCalledTimes(2);
});

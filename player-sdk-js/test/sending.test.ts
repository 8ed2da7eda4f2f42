import { describe, expect, it, vi } from 'vitest';
import { attach, type Beacon } from '../src/index.js';
import { retryDelayMs } from '../src/lib/retryDelayMs.js';
import { FakeVideo } from './support/FakeVideo.js';
import { OPTIONS, events, eventsOf, kept, leavePage, newest, pass, setVisible, start, world } from './support/setUp.js';

const seqs = (post = world.posts.at(-1)) => post?.beacon.events.map(({ seq }) => seq);

async function playing(options = OPTIONS) {
  const video = new FakeVideo();
  const handle = kept(attach(video.element, options));
  await start(video);
  await pass(100, video);
  return { video, handle };
}

/** Many events without a word to the collector: each toggle is one. */
function chatter(video: FakeVideo, count: number): void {
  for (let i = 0; i < count; i++) {
    video.muted = !video.muted;
    video.fire('volumechange');
  }
}

it('a beacon says who sends what', async () => {
  await playing();
  const { url, beacon, init } = world.posts[0]!;
  expect(url).toBe('https://qoe.example.com/v1/beacons?k=pk%201&v=k3v9Zt0aQ1mB7c');
  expect(init).toMatchObject({ method: 'POST', credentials: 'omit', keepalive: true });
  expect(init?.headers).toEqual({ 'Content-Type': 'text/plain' });
  expect(beacon).toMatchObject({ v: 1, dropped: 0, sent_ms: 1_767_225_600_000 });
  expect(beacon.ctx).toEqual({
    view_id: 'k3v9Zt0aQ1mB7c',
    session_id: expect.stringMatching(/^tab-[A-Za-z0-9]{8}$/),
    content_id: 'live/river',
    title: 'The river, live',
    stream_type: 'live',
    format: 'other',
    player: 'html5',
    device_class: 'desktop',
    os: 'linux',
    browser: 'chromium',
    sample_rate: 1,
  });
  expect(beacon.events[0]).toMatchObject({ type: 'view_start', seq: 0, mono_ms: 0, created_ms: 1_767_225_600_000 });
  expect(world.posts[1]?.beacon.rtt_ms).toBe(0);
});

it('a content id of other characters is made valid rather than refused', async () => {
  await playing({ ...OPTIONS, contentId: 'Fluß & Tal/1' });
  expect(world.posts[0]?.beacon.ctx.content_id).toBe('Flu____Tal/1');
});

describe('heartbeats', () => {
  const beats = () => eventsOf('heartbeat').map(({ mono_ms }) => Math.round(mono_ms / 1000));

  it('come every 10 s while playing, 5 s while stalled, 30 s while paused', async () => {
    const { video } = await playing();
    await pass(20_400, video);
    expect(beats()).toEqual([10, 20]);
    await pass(16_000);
    expect(beats()).toEqual([10, 20, 23, 28, 33]);
    video.paused = true;
    video.fire('pause');
    await pass(61_000);
    expect(beats()).toEqual([10, 20, 23, 28, 33, 63, 93]);
  });

  it('follow the collector', async () => {
    world.answer = { status: 202, body: { heartbeat_s: 2 } };
    const { video } = await playing();
    await pass(8_000, video);
    expect(beats()).toEqual([2, 4, 6, 8]);
  });

  it('keep their pace when the collector talks nonsense', async () => {
    world.answer = { status: 202, body: { heartbeat_s: -1, sample_rate: 'all' } };
    const { video } = await playing();
    await pass(10_000, video);
    expect(beats()).toEqual([10]);
  });
});

describe('a retry', () => {
  it('resends the same numbers, with what came since', async () => {
    world.answer = { status: 503, headers: { 'Retry-After': '2' } };
    const { video } = await playing();
    world.answer = { status: 202 };
    await pass(4_000, video);
    expect(world.posts.map((post) => seqs(post))).toEqual([[0], [0, 1, 2]]);
    const [first, second] = world.posts.map(({ beacon }) => beacon);
    expect(second?.events[0]).toEqual(first?.events[0]);
    expect(second?.sent_ms).toBeGreaterThan(first?.sent_ms ?? 0);
    await pass(7_000, video);
    expect(seqs()).toEqual([3]);
  });

  it.each([408, 429, 500, 503])('follows status %i', async (status) => {
    world.answer = { status };
    await playing();
    await pass(10_000);
    expect(world.posts.length).toBeGreaterThan(1);
    expect(seqs()).toContain(0);
  });

  it('follows silence', async () => {
    world.answer = 'no answer';
    await playing();
    await pass(10_000);
    expect(world.posts.length).toBeGreaterThan(1);
    expect(seqs()).toContain(0);
  });

  it('follows a collector that never answers', async () => {
    const { fetch: send } = globalThis;
    let hangs = true;
    vi.stubGlobal('fetch', (url: string, init: RequestInit) =>
      hangs
        ? new Promise((_, reject) => init.signal?.addEventListener('abort', () => reject(new Error('aborted'))))
        : send(url, init),
    );
    const { video } = await playing();
    await pass(10_000, video);
    hangs = false;
    expect(world.posts).toEqual([]);
    await pass(6_500, video);
    expect(seqs(world.posts[0])?.[0]).toBe(0);
  });

  it('waits for as long as Retry-After says', async () => {
    world.answer = { status: 429, headers: { 'Retry-After': '7' } };
    const { video } = await playing();
    await pass(9_000, video);
    const [first, second] = world.posts.map(({ atMs }) => atMs);
    expect((second ?? 0) - (first ?? 0)).toBeGreaterThanOrEqual(7_000);
    expect((second ?? 0) - (first ?? 0)).toBeLessThanOrEqual(8_000);
  });

  it('takes up to a minute, with full jitter', () => {
    expect(retryDelayMs(0, 0, 0)).toBe(0);
    expect(retryDelayMs(0, 0, 0.999)).toBeLessThan(1_000);
    expect(retryDelayMs(3, 0, 0.5)).toBe(4_000);
    expect(retryDelayMs(30, 0, 1)).toBe(60_000);
    expect(retryDelayMs(30, 5, 1)).toBe(60_000);
    expect(retryDelayMs(0, 5, 0)).toBe(5_000);
    expect(retryDelayMs(0, 120, 0.5)).toBe(120_000);
  });

  it('ends some time after the view', async () => {
    world.answer = 'no answer';
    const { handle } = await playing();
    handle.detach();
    await pass(600_000);
    const { length } = world.posts;
    await pass(600_000);
    expect(world.posts).toHaveLength(length);
    expect(length).toBeLessThan(12);
  });
});

it.each([400, 401, 403, 404, 413, 415])('status %i is final: the batch is given up and counted', async (status) => {
  world.answer = { status, body: { error: 'bad_json', detail: '' } };
  const { video } = await playing();
  await pass(5_000, video);
  expect(world.posts.map((post) => seqs(post))).toEqual([[0], [1, 2]]);
  world.answer = { status: 202 };
  await pass(6_000, video);
  expect(world.posts.at(-1)?.beacon.dropped).toBe(3);
  expect(seqs()).toEqual([3]);
});

it('one request is in flight at a time, and what was urgent follows it', async () => {
  const answers: (() => void)[] = [];
  let open = 0;
  let most = 0;
  const { fetch: send } = globalThis;
  vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
    most = Math.max(most, ++open);
    await new Promise<void>((resolve) => answers.push(resolve));
    open--;
    return send(url, init);
  });
  const { video, handle } = await playing();
  handle.flush();
  await pass(500, video);
  expect(answers).toHaveLength(1);
  answers.shift()?.();
  await pass(50, video);
  expect(answers).toHaveLength(1);
  answers.shift()?.();
  await pass(50, video);
  expect(most).toBe(1);
  expect(events().map(({ seq }) => seq)).toEqual([0, 1, 2]);
});

it('a batch holds at most 300 events and 500 KB; the rest follows', async () => {
  const { video, handle } = await playing();
  const before = world.posts.length;
  chatter(video, 700);
  handle.flush();
  await pass(500, video);
  const batches = world.posts.slice(before);
  expect(batches.map(({ beacon }) => beacon.events.length)).toEqual([300, 300, 100]);
  expect(Math.max(...batches.map(({ bytes }) => bytes))).toBeLessThan(500_000);
});

it('only a body up to 56 KiB asks for keepalive', async () => {
  const { video, handle } = await playing();
  chatter(video, 299);
  handle.flush();
  await pass(100, video);
  const big = world.posts.at(-1);
  expect(big?.bytes).toBeGreaterThan(56 * 1024);
  expect(big?.keepalive).toBe(false);
  expect(world.posts[0]?.keepalive).toBe(true);
});

it('a full queue gives up heartbeats first', async () => {
  world.answer = { status: 503, headers: { 'Retry-After': '300' } };
  const { video } = await playing();
  await pass(100_000, video);
  chatter(video, 6_000);
  world.answer = { status: 202 };
  await pass(210_000);
  const all = events();
  const dropped = world.posts.at(-1)?.beacon.dropped ?? 0;
  const early = all.filter(({ mono_ms }) => mono_ms < 101_000);
  expect(dropped).toBeGreaterThan(2_000);
  expect(early.filter(({ type }) => type === 'heartbeat')).toEqual([]);
  expect(all.length).toBeLessThanOrEqual(3_700);
});

describe('when the page is hidden', () => {
  it('the rest goes by sendBeacon, and not twice', async () => {
    const { video } = await playing();
    chatter(video, 3);
    setVisible(false);
    const last = world.posts.at(-1);
    expect(last).toMatchObject({ byBeacon: true, url: world.posts[0]?.url });
    expect(last?.beacon.events.at(-1)).toMatchObject({ type: 'visibility', visible: false, state: 'hidden' });
    const { length } = world.posts;
    await pass(5_000, video);
    expect(world.posts).toHaveLength(length);
  });

  it('each sendBeacon stays below the browser limit', async () => {
    const { video } = await playing();
    chatter(video, 290);
    setVisible(false);
    const beacons = world.posts.filter(({ byBeacon }) => byBeacon);
    expect(beacons.length).toBeGreaterThan(1);
    expect(Math.max(...beacons.map(({ bytes }) => bytes))).toBeLessThanOrEqual(56 * 1024);
    expect(events().length).toBe(newest().seq + 1);
  });

  it('a full browser queue leaves it to fetch', async () => {
    world.navigator.sendBeacon = () => false;
    const { video } = await playing();
    chatter(video, 3);
    setVisible(false);
    await pass(50, video);
    expect(newest()).toMatchObject({ type: 'visibility' });
  });

  it('a browser without sendBeacon does as well', async () => {
    delete world.navigator.sendBeacon;
    const { video } = await playing();
    setVisible(false);
    await pass(50, video);
    expect(newest()).toMatchObject({ type: 'visibility' });
  });

  it('and the collector is in trouble, all is sent again later', async () => {
    world.answer = { status: 503, headers: { 'Retry-After': '3' } };
    const { video } = await playing();
    setVisible(false);
    expect(world.posts.at(-1)?.byBeacon).toBe(true);
    world.answer = { status: 202 };
    await pass(5_000, video);
    expect(world.posts.at(-1)?.byBeacon).toBe(false);
    expect(seqs()?.[0]).toBe(0);
  });
});

describe('when the page goes', () => {
  it('the view ends by sendBeacon', async () => {
    await playing();
    leavePage();
    expect(world.posts.at(-1)).toMatchObject({ byBeacon: true });
    expect(newest()).toMatchObject({ type: 'view_end', reason: 'abort' });
  });

  it('from the background, it says so', async () => {
    await playing();
    setVisible(false);
    leavePage();
    expect(newest()).toMatchObject({ type: 'view_end', reason: 'background' });
  });

  it('into the back/forward cache, the view goes on', async () => {
    const { video } = await playing();
    leavePage(true);
    await pass(11_000, video);
    expect(newest()).toMatchObject({ type: 'heartbeat' });
    expect(eventsOf('view_end')).toEqual([]);
  });
});

it('detach ends the view and lets go of the element', async () => {
  const { video, handle } = await playing();
  handle.detach();
  handle.detach();
  await pass(50);
  expect(newest()).toMatchObject({ type: 'view_end', reason: 'abort' });
  const { length } = world.posts;
  video.fire('pause');
  setVisible(false);
  handle.flush();
  await pass(60_000, video);
  expect(world.posts).toHaveLength(length);
});

describe('sampling', () => {
  it('is decided per view, and what reports tells its share', async () => {
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.4);
    await playing({ ...OPTIONS, sampleRate: 0.5 });
    expect(world.posts[0]?.beacon.ctx.sample_rate).toBe(0.5);
    const { length } = world.posts;
    random.mockReturnValue(0.6);
    const handle = kept(attach(new FakeVideo().element, { ...OPTIONS, sampleRate: 0.5 }));
    await pass(40_000);
    handle.flush();
    expect(handle.viewId).toBe(OPTIONS.viewId);
    expect(world.posts.slice(length).every(({ beacon }) => beacon.events[0]?.seq !== 0)).toBe(true);
  });

  it('by the collector holds for later views', async () => {
    world.answer = { status: 202, body: { sample_rate: 0.25 } };
    const { handle } = await playing();
    handle.detach();
    vi.spyOn(Math, 'random').mockReturnValue(0.2);
    await playing({ ...OPTIONS, sampleRate: 0.9 });
    expect(world.posts.at(-1)?.beacon.ctx.sample_rate).toBe(0.25);
  });
});

describe('privacy', () => {
  it('no beacon holds a query or a fragment', async () => {
    const video = new FakeVideo();
    video.currentSrc = 'https://media.example.com/a.mp4?token=secret#secret';
    kept(attach(video.element, OPTIONS));
    await start(video);
    video.error = { code: 2, message: 'GET https://media.example.com/a.mp4?token=secret#secret (/b?secret) failed' };
    video.fire('error');
    await pass(100);
    expect(newest().error?.message).toBe('GET https://media.example.com/a.mp4 (/b) failed');
    expect(JSON.stringify(world.posts.map(({ beacon }) => beacon))).not.toContain('secret');
  });

  it('under Global Privacy Control there is neither session nor title', async () => {
    world.navigator.globalPrivacyControl = true;
    await playing();
    const { ctx } = world.posts[0]!.beacon;
    expect(ctx).not.toHaveProperty('session_id');
    expect(ctx).not.toHaveProperty('title');
    expect(ctx.content_id).toBe('live/river');
  });

  it('two views without an id of their own have different ones', async () => {
    const options = { ...OPTIONS, viewId: undefined };
    const ids = [0, 1].map(() => kept(attach(new FakeVideo().element, options)).viewId);
    expect(new Set(ids).size).toBe(2);
    ids.forEach((id) => expect(id).toMatch(/^[A-Za-z0-9]{14,64}$/));
  });
});

it('onBeacon sees what is sent, and may throw', async () => {
  const seen: Beacon[] = [];
  await playing({
    ...OPTIONS,
    onBeacon(beacon) {
      seen.push(beacon);
      throw new Error('of the page');
    },
  });
  expect(seen).toHaveLength(world.posts.length);
  expect(seen[0]?.events[0]?.type).toBe('view_start');
});

it('a world without anything does not break the player', async () => {
  vi.stubGlobal('fetch', undefined);
  world.navigator.sendBeacon = () => {
    throw new Error('no');
  };
  const { video, handle } = await playing();
  setVisible(false);
  handle.detach();
  expect(() => video.fire('pause')).not.toThrow();
  const broken = new Proxy(new FakeVideo(), {
    get(target, name) {
      if (name === 'currentTime') {
        throw new Error('gone');
      }
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const warn = vi.spyOn(console, 'warn').mockReturnValue();
  expect(() => kept(attach(broken as unknown as HTMLVideoElement, OPTIONS)).detach()).not.toThrow();
  expect(() => attach(undefined as never, undefined as never)).not.toThrow();
  expect(warn).toHaveBeenCalledTimes(2);
});

it('something that is no player is not measured, and the developer is told', () => {
  const warn = vi.spyOn(console, 'warn').mockReturnValue();
  const handle = attach({ on() {} } as never, OPTIONS);
  expect(handle.viewId).toBe(OPTIONS.viewId);
  expect(world.posts).toEqual([]);
  expect(warn.mock.calls[0]?.join(' ')).toContain('@spillway/player-sdk/hls');
});

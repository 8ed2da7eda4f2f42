import { afterEach, beforeEach, vi } from 'vitest';
import type { Beacon, BeaconEvent } from '../../src/index.js';
import { setServerRate } from '../../src/lib/sampling.js';
import type { AttachOptions, Handle } from '../../src/types.js';
import type { FakeVideo } from './FakeVideo.js';

/** One POST as the collector sees it. */
export interface Post {
  url: string;
  beacon: Beacon;
  bytes: number;
  keepalive: boolean;
  byBeacon: boolean;
  atMs: number;
  init?: RequestInit;
}

/** What the collector answers: a status, or nothing at all. */
export type Answer = { status: number; headers?: Record<string, string>; body?: unknown } | 'no answer';

/** The page, the browser's clock and a collector, all fake; `world` is new for each test. */
export interface World {
  posts: Post[];
  /** Answers from now on. */
  answer: Answer;
  page: EventTarget & { visibilityState: string };
  window: EventTarget;
  navigator: Record<string, unknown>;
  handles: Handle[];
}

export let world: World;

/** Options of a usual view. */
export const OPTIONS: AttachOptions = {
  endpoint: 'https://qoe.example.com',
  key: 'pk 1',
  viewId: 'k3v9Zt0aQ1mB7c',
  contentId: 'live/river',
  title: 'The river, live',
  streamType: 'live',
};

function record(url: string, body: string, byBeacon: boolean, init?: RequestInit): void {
  world.posts.push({
    url,
    beacon: JSON.parse(body),
    bytes: new TextEncoder().encode(body).length,
    keepalive: !!init?.keepalive,
    byBeacon,
    atMs: performance.now(),
    init,
  });
}

beforeEach(() => {
  setServerRate(1);
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date', 'performance'],
    now: 1_767_225_600_000,
  });
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  world = {
    posts: [],
    answer: { status: 202, body: { accepted: 1, rejected: [] } },
    page,
    window: new EventTarget(),
    navigator: {
      userAgent: 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/156.0.0.0 Safari/537.36',
      sendBeacon: (url: string, body: string) => {
        record(url, body, true);
        return true;
      },
    },
    handles: [],
  };
  vi.stubGlobal('document', page);
  vi.stubGlobal('window', world.window);
  vi.stubGlobal('navigator', world.navigator);
  vi.stubGlobal('fetch', async (url: string, init: RequestInit) => {
    record(url, String(init.body), false, init);
    const { answer } = world;
    if (answer === 'no answer') {
      throw new TypeError('Failed to fetch');
    }
    return new Response(JSON.stringify(answer.body ?? {}), answer);
  });
});

afterEach(() => {
  world.handles.forEach((handle) => handle.detach());
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

/** Keeps a handle, so that its view ends with the test. */
export function kept(handle: Handle): Handle {
  world.handles.push(handle);
  return handle;
}

/** Lets time pass; the playhead moves with it if `video` plays. */
export async function pass(ms: number, video?: FakeVideo): Promise<void> {
  for (let left = ms; left > 0; left -= 50) {
    const step = Math.min(50, left);
    if (video) {
      video.currentTime += step / 1000;
    }
    await vi.advanceTimersByTimeAsync(step);
  }
}

/** Starts to play: 400 ms of start-up, then moving. */
export async function start(video: FakeVideo): Promise<void> {
  video.play();
  await pass(400);
  video.readyState = 4;
  video.fire('playing');
}

/** All events that arrived, each once. */
export function events(): BeaconEvent[] {
  const bySeq = new Map(world.posts.flatMap(({ beacon }) => beacon.events).map((event) => [event.seq, event]));
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq);
}

export const eventsOf = (type: BeaconEvent['type']): BeaconEvent[] => events().filter((event) => event.type === type);

/** The newest event: heartbeats come at most after 30 s. */
export function newest(): BeaconEvent {
  const event = events().at(-1);
  if (!event) {
    throw new Error('no event arrived');
  }
  return event;
}

/** The tab goes to the background, or comes back. */
export function setVisible(visible: boolean): void {
  world.page.visibilityState = visible ? 'visible' : 'hidden';
  world.page.dispatchEvent(new Event('visibilitychange'));
}

/** The page goes. */
export function leavePage(persisted = false): void {
  world.window.dispatchEvent(Object.assign(new Event('pagehide'), { persisted }));
}

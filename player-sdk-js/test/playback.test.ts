import { describe, expect, it } from 'vitest';
import { attach } from '../src/index.js';
import { FakeVideo } from './support/FakeVideo.js';
import { OPTIONS, events, eventsOf, kept, newest, pass, setVisible, start } from './support/setUp.js';

const vod = { ...OPTIONS, streamType: 'vod' as const };

async function playing(options = OPTIONS) {
  const video = new FakeVideo();
  const handle = kept(attach(video.element, options));
  await start(video);
  return { video, handle };
}

describe('start-up', () => {
  it('is timed from the play request to the first frame', async () => {
    await playing();
    const [first] = eventsOf('first_frame');
    expect(first?.counters).toMatchObject({ startup_ms: 400, watched_ms: 400, stall_count: 0 });
    expect(events().map(({ type }) => type)).toEqual(['view_start', 'play_request', 'first_frame']);
  });

  it('is no stall however long it lasts', async () => {
    const video = new FakeVideo();
    kept(attach(video.element, OPTIONS));
    video.play();
    video.fire('waiting');
    await pass(12_000);
    expect(newest()).toMatchObject({ state: 'starting', counters: { stall_count: 0, stall_ms: 0 } });
    expect(newest().counters.startup_ms).toBeUndefined();
  });

  it('of an autoplaying element begins with the attachment', async () => {
    const video = new FakeVideo();
    video.autoplay = true;
    kept(attach(video.element, OPTIONS));
    await pass(700);
    video.readyState = 4;
    video.play();
    video.fire('playing');
    await pass(50);
    expect(eventsOf('play_request')).toHaveLength(1);
    expect(newest().counters.startup_ms).toBe(700);
  });

  it('ends quietly where autoplay is refused', async () => {
    const video = new FakeVideo();
    video.autoplay = true;
    kept(attach(video.element, OPTIONS));
    await pass(300);
    video.readyState = 4;
    video.fire('canplaythrough');
    await pass(40_000);
    expect(newest()).toMatchObject({ state: 'paused', counters: { watched_ms: 300 } });
  });

  it('is unknown where playback runs already', async () => {
    const video = new FakeVideo();
    Object.assign(video, { paused: false, currentTime: 40, readyState: 4 });
    const handle = kept(attach(video.element, OPTIONS));
    await pass(1_000, video);
    handle.detach();
    await pass(50);
    expect(newest().counters.startup_ms).toBeUndefined();
    expect(newest().counters.playing_ms).toBeGreaterThan(900);
    expect(eventsOf('first_frame')).toEqual([]);
  });
});

describe('a stall', () => {
  it('is counted once, with its time', async () => {
    const { video } = await playing();
    await pass(5_000, video);
    video.fire('waiting');
    await pass(1_500);
    video.fire('stalled');
    await pass(1_500);
    await pass(9_000, video);
    const { counters } = newest();
    expect(counters.stall_count).toBe(1);
    expect(counters.stall_ms).toBeGreaterThan(2_800);
    expect(counters.stall_ms).toBeLessThan(3_200);
    expect(counters.watched_ms).toBe(counters.playing_ms + counters.stall_ms + 400);
    expect(eventsOf('stall_start')).toHaveLength(1);
    expect(eventsOf('stall_end')[0]?.stall_ms).toBe(counters.stall_ms);
  });

  it('of 2 s is told while it lasts', async () => {
    const { video } = await playing();
    await pass(3_000, video);
    await pass(2_300);
    expect(newest()).toMatchObject({ type: 'heartbeat', state: 'stalled', counters: { stall_count: 1 } });
    expect(newest().counters.stall_ms).toBeGreaterThanOrEqual(2_000);
  });

  it('shorter than 250 ms is none, and counts as playing', async () => {
    const { video, handle } = await playing();
    await pass(3_000, video);
    await pass(200);
    await pass(3_000, video);
    handle.detach();
    await pass(50);
    expect(newest().counters).toMatchObject({ stall_count: 0, stall_ms: 0 });
    expect(newest().counters.playing_ms).toBeGreaterThan(6_100);
  });

  it('is not made of the stalled event of an element that plays on', async () => {
    const { video } = await playing();
    video.fire('stalled');
    await pass(11_000, video);
    expect(newest().counters.stall_count).toBe(0);
  });

  it('goes on while the player nudges the playhead over a hole', async () => {
    const { video } = await playing(vod);
    await pass(3_000, video);
    await pass(1_000);
    video.currentTime += 0.1;
    video.seeking = true;
    video.fire('seeking');
    await pass(100);
    video.seeking = false;
    video.fire('seeked');
    await pass(900);
    await pass(9_000, video);
    const { counters } = newest();
    expect(counters).toMatchObject({ stall_count: 1, seek_count: 0 });
    expect(counters.stall_ms).toBeGreaterThan(1_900);
  });

  it('of a live stream goes on while the player jumps back to the edge', async () => {
    const { video } = await playing();
    await pass(3_000, video);
    await pass(4_000);
    video.currentTime += 30;
    video.seeking = true;
    video.fire('seeking');
    await pass(3_000);
    video.seeking = false;
    video.fire('seeked');
    await pass(9_000, video);
    const { counters } = newest();
    expect(counters).toMatchObject({ stall_count: 1, seek_count: 0 });
    expect(counters.stall_ms).toBeGreaterThan(6_800);
  });
});

describe('not a stall is', () => {
  it('a seek, its buffering included', async () => {
    const { video } = await playing(vod);
    await pass(3_000, video);
    video.currentTime = 300;
    video.seeking = true;
    video.fire('seeking');
    await pass(1_000);
    video.seeking = false;
    video.fire('seeked');
    await pass(1_000);
    await pass(12_000, video);
    const { counters } = newest();
    expect(counters).toMatchObject({ stall_count: 0, stall_ms: 0, seek_count: 1 });
    expect(counters.seek_ms).toBeGreaterThan(1_900);
    expect(counters.seek_ms).toBeLessThan(2_200);
    expect(counters.watched_ms).toBe(counters.playing_ms + counters.seek_ms + 400);
  });

  it('a pause', async () => {
    const { video } = await playing();
    await pass(3_000, video);
    video.paused = true;
    video.fire('pause');
    await pass(20_000);
    video.play();
    video.fire('playing');
    await pass(10_000, video);
    const { counters } = newest();
    expect(counters).toMatchObject({ stall_count: 0, pause_ms: 20_000 });
    expect(counters.watched_ms).toBeLessThan(13_500);
    expect(events().map(({ type }) => type).filter((type) => type !== 'heartbeat')).toEqual([
      'view_start',
      'play_request',
      'first_frame',
      'pause',
      'play_request',
      'playing',
    ]);
  });

  it('a seek while paused', async () => {
    const { video } = await playing(vod);
    await pass(2_000, video);
    video.paused = true;
    video.fire('pause');
    video.currentTime = 100;
    video.seeking = true;
    video.fire('seeking');
    await pass(3_000);
    video.seeking = false;
    video.fire('seeked');
    await pass(40_000);
    expect(newest().counters).toMatchObject({ stall_count: 0, seek_count: 1, seek_ms: 0 });
  });

  it('a hidden tab that stands still', async () => {
    const { video } = await playing();
    await pass(3_000, video);
    setVisible(false);
    await pass(60_000);
    setVisible(true);
    await pass(10_000, video);
    const { counters } = newest();
    expect(counters).toMatchObject({ stall_count: 0, stall_ms: 0 });
    expect(counters.watched_ms).toBeLessThan(14_000);
  });

  it('a device that slept', async () => {
    const { video } = await playing();
    await pass(3_000, video);
    const now = performance.now();
    performance.now = () => now + 3_600_000;
    await pass(11_000);
    expect(newest().counters.stall_ms).toBeLessThan(11_100);
    expect(newest().counters.watched_ms).toBeLessThan(20_000);
  });
});

it('a hidden tab counts what it plays', async () => {
  const { video } = await playing();
  await pass(2_000, video);
  setVisible(false);
  await pass(31_000, video);
  expect(newest()).toMatchObject({ type: 'heartbeat', state: 'hidden' });
  expect(newest().counters.playing_ms).toBeGreaterThan(29_000);
});

it('counters only ever grow', async () => {
  const { video } = await playing(vod);
  for (let round = 0; round < 5; round++) {
    await pass(7_000, video);
    await pass(900);
    video.currentTime += 20;
    video.fire('seeking');
    video.fire('seeked');
    await pass(400);
  }
  const all = events();
  expect(all.length).toBeGreaterThan(20);
  all.slice(1).forEach((event, i) => {
    for (const [name, value] of Object.entries(all[i]?.counters ?? {})) {
      expect(event.counters[name as 'stall_ms']).toBeGreaterThanOrEqual(value);
    }
  });
});

it('what is unknown is absent, never 0 or null', async () => {
  const { video } = await playing();
  await pass(11_000, video);
  const text = JSON.stringify(events());
  expect(text).not.toMatch(/null|NaN/);
  const event = newest();
  for (const name of ['throughput_kbps', 'bitrate_kbps', 'pathway', 'host', 'pathways']) {
    expect(event).not.toHaveProperty(name);
  }
  for (const name of ['bits_played', 'switch_up', 'switch_down']) {
    expect(event.counters).not.toHaveProperty(name);
  }
  expect(events()[0]?.counters).not.toHaveProperty('startup_ms');
});

it('frames go on counting over a new source', async () => {
  const video = new FakeVideo();
  video.totalVideoFrames = 5_000;
  const handle = kept(attach(video.element, OPTIONS));
  await start(video);
  video.totalVideoFrames = 5_100;
  handle.flush();
  await pass(10_000, video);
  video.totalVideoFrames = 30;
  handle.detach();
  await pass(50);
  expect(newest().counters.decoded_frames).toBe(130);
});

it('a fatal error ends watching; more media revives it', async () => {
  const { video } = await playing();
  await pass(2_000, video);
  video.error = { code: 3, message: 'decode of https://a.example.com/x.mp4?token=1#t failed' };
  video.fire('error');
  await pass(100);
  expect(newest()).toMatchObject({
    type: 'error',
    state: 'failed',
    error: { severity: 'fatal', class: 'content', code: 'media_3', message: 'decode of https://a.example.com/x.mp4 failed' },
  });
  const { watched_ms } = newest().counters;
  await pass(40_000);
  expect(newest().counters.watched_ms).toBe(watched_ms);
  video.error = null;
  video.fire('playing');
  await pass(11_000, video);
  expect(newest().state).toBe('playing');
});

it('the end of the media ends the view', async () => {
  const { video } = await playing(vod);
  await pass(2_000, video);
  video.paused = video.ended = true;
  video.fire('pause');
  video.fire('ended');
  await pass(60_000);
  expect(newest()).toMatchObject({ type: 'view_end', reason: 'ended', state: 'ended' });
  expect(eventsOf('pause')).toEqual([]);
});

it('a plain video names its host where the pathway is unknown', async () => {
  const video = new FakeVideo();
  video.currentSrc = 'https://media.example.com/a.mp4?token=secret';
  kept(attach(video.element, OPTIONS));
  await start(video);
  await pass(11_000, video);
  expect(newest()).toMatchObject({ host: 'media.example.com', pathways: { 'media.example.com': { stall_ms: 0 } } });
  expect(newest().pathways?.['media.example.com']).not.toHaveProperty('requests_ok');
});

it('a plain video names the pathway that the page knows', async () => {
  const video = new FakeVideo();
  video.currentSrc = 'https://media.example.com/a.mp4?token=secret#t=9';
  const asked: string[] = [];
  const pathwayOf = (url: string) => {
    asked.push(url);
    return 'cdn-a';
  };
  kept(attach(video.element, { ...OPTIONS, pathwayOf }));
  await pass(31_000, video);
  expect(newest()).toMatchObject({ pathway: 'cdn-a' });
  expect(newest()).not.toHaveProperty('host');
  expect(asked).toEqual(['https://media.example.com/a.mp4']);
});

it('a host with a port is no name for counters', async () => {
  const video = new FakeVideo();
  video.currentSrc = 'http://127.0.0.1:9001/a.mp4';
  kept(attach(video.element, OPTIONS));
  await start(video);
  await pass(11_000, video);
  expect(newest().host).toBe('127.0.0.1:9001');
  expect(newest()).not.toHaveProperty('pathways');
});

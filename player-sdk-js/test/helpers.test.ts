import { describe, expect, it } from 'vitest';
import { client } from '../src/lib/client.js';
import { EventQueue } from '../src/lib/EventQueue.js';
import { isId } from '../src/lib/ids.js';
import { QUEUE_MAX_BYTES, QUEUE_MAX_EVENTS } from '../src/lib/limits.js';
import { PathwayMap } from '../src/lib/PathwayMap.js';
import { sidOf } from '../src/lib/sidOf.js';
import { hostOf, withoutQueries, withoutQuery } from '../src/lib/url.js';
import type { BeaconEvent } from '../src/wire.js';

describe('URLs', () => {
  it.each([
    ['https://a.example.com/x/y.m4s?t=1#f', 'a.example.com', 'https://a.example.com/x/y.m4s'],
    ['http://user:secret@127.0.0.1:8080/x', '127.0.0.1:8080', 'http://user:secret@127.0.0.1:8080/x'],
    ['//b.example.com?x', 'b.example.com', '//b.example.com'],
    ['blob:https://a.example.com/1-2', undefined, 'blob:https://a.example.com/1-2'],
    ['', undefined, ''],
  ])('%s', (url, host, bare) => {
    expect(hostOf(url)).toBe(host);
    expect(withoutQuery(url)).toBe(bare);
  });

  it('in a text lose their queries, and the text stays', () => {
    expect(withoutQueries('HTTP 403 for "https://a/b?c=d&e#f" (retry?)')).toBe('HTTP 403 for "https://a/b" (retry?)');
    expect(withoutQueries('level #2 failed')).toBe('level #2 failed');
  });
});

it.each([
  ['https://p/x.m3u8?sid=abc', 'abc'],
  ['/v1/steer/hls?t=abc~eu~~live', 'abc'],
  ['/v1/steer/hls?_HLS_pathway=a&t=a.b-c_d%7Eeu', 'a.b-c_d'],
  ['https://p/x.m3u8?sid=a%20b', undefined],
  ['https://p/x.m3u8?sid=' + 'a'.repeat(65), undefined],
  ['https://p/x.m3u8', undefined],
  ['data:application/json,{}', undefined],
  [undefined, undefined],
])('the session of %s is %s', (url, sid) => {
  expect(sidOf(url)).toBe(sid);
});

it('an id has the charset of the collector', () => {
  for (const good of ['a', 'own-fra.1_a', 'k3v9Zt0aQ1mB7c']) {
    expect(isId(good)).toBe(true);
  }
  for (const bad of ['', '..', 'a b', 'a/b', 'ä', 'host:80', 'a'.repeat(65), 7, null]) {
    expect(isId(bad)).toBe(false);
  }
});

it.each([
  ['Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/156.0 Safari/537.36 Edg/156.0', 'desktop', 'windows', 'edge'],
  ['Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Version/19.0 Mobile/15E148 Safari/604.1', 'mobile', 'ios', 'safari'],
  ['Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/156.0 Mobile Safari/537.36', 'mobile', 'android', 'chrome'],
  ['Mozilla/5.0 (Linux; Android 14; SM-X910) Chrome/156.0 Safari/537.36', 'tablet', 'android', 'chrome'],
  ['Mozilla/5.0 (Web0S; Linux/SmartTV) Chrome/108.0 Safari/537.36', 'tv', 'webos', 'chrome'],
  ['Mozilla/5.0 (SMART-TV; LINUX; Tizen 7.0) Version/7.0 TV Safari/537.36', 'tv', 'tizen', 'safari'],
  ['Mozilla/5.0 (PlayStation; PlayStation 5/8.00) Version/15.4 Safari/605.1.15', 'console', undefined, 'safari'],
  ['Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:153.0) Gecko/20100101 Firefox/153.0', 'desktop', 'macos', 'firefox'],
  ['Roku/DVP-12.5 (12.5.0.4178-CE)', 'tv', undefined, undefined],
  ['Mozilla/5.0 (X11; Linux armv7l) WPE WebKit/2.22 Safari/605.1.15 SomeBox_STB', 'stb', 'linux', 'safari'],
  ['something else', 'other', undefined, undefined],
])('%s', (agent, device_class, os, browser) => {
  expect(client(agent)).toEqual({ device_class, os, browser });
});

it('a playlist belongs to its pathway whatever its query, and audio to the pathway of its group', () => {
  const map = new PathwayMap();
  const level = (id: string) => ({ attrs: { 'PATHWAY-ID': id, AUDIO: `au-${id}` }, url: `https://${id}/v.m3u8?t=1` });
  map.learn([level('a'), level('b'), { attrs: {}, url: 'https://c/v.m3u8' }], [{ groupId: 'au-b', url: 'https://b/a.m3u8' }]);
  expect(map.of('https://a/v.m3u8?_HLS_msn=7')).toBe('a');
  expect(map.of('https://b/a.m3u8')).toBe('b');
  expect(map.of('https://c/v.m3u8')).toBeUndefined();
  expect(map.of(undefined)).toBeUndefined();
});

describe('the queue', () => {
  const event = (seq: number, type: BeaconEvent['type'], message = ''): BeaconEvent =>
    ({ seq, type, error: { severity: 'warning', class: 'client', code: '', message } }) as BeaconEvent;
  const seqs = (queue: EventQueue) => queue.peek(Infinity, Infinity).map(({ seq }) => seq);

  it('gives up the oldest heartbeat first, then the oldest', () => {
    const queue = new EventQueue();
    for (let seq = 0; seq < QUEUE_MAX_EVENTS; seq++) {
      queue.push(event(seq, seq === 5 || seq === 9 ? 'heartbeat' : 'mute'));
    }
    for (let more = 0; more < 3; more++) {
      queue.push(event(10_000 + more, 'segment'));
    }
    expect(queue.size).toBe(QUEUE_MAX_EVENTS);
    expect(queue.dropped).toBe(3);
    expect(seqs(queue).slice(0, 9)).toEqual([1, 2, 3, 4, 6, 7, 8, 10, 11]);
  });

  it('is bounded in bytes too', () => {
    const queue = new EventQueue();
    const message = 'ä'.repeat(50_000);
    for (let seq = 0; seq < 100; seq++) {
      queue.push(event(seq, 'warning', message));
    }
    expect(queue.size).toBe(Math.floor(QUEUE_MAX_BYTES / 100_100));
    expect(queue.size + queue.dropped).toBe(100);
  });

  it('gives at least one event, however large', () => {
    const queue = new EventQueue();
    queue.push(event(0, 'warning', 'x'.repeat(1_000)));
    queue.push(event(1, 'mute'));
    expect(queue.peek(300, 10).map(({ seq }) => seq)).toEqual([0]);
    expect(queue.peek(300, 10_000, 1).map(({ seq }) => seq)).toEqual([1]);
  });
});

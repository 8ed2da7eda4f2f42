import type { FakeVideo } from './FakeVideo.js';

type Listener = (event: string, data: unknown) => void;

/** Times of a load that took `ttfbMs` and `ttlbMs`, begun now. */
export function loadStats() {
  return { aborted: false, loaded: 0, loading: { start: performance.now(), first: 0, end: 0 } };
}

const level = (pathway: string, bitrate: number) => ({
  attrs: { 'PATHWAY-ID': pathway },
  bitrate,
  uri: `https://${pathway}.example.com/${bitrate}.m3u8?token=t`,
});

/** Levels of one pathway, as hls.js shows only those of the one that it uses. */
export const levelsOf = (pathway: string) => [level(pathway, 350_000), level(pathway, 1_100_000)];

/** An hls.js instance of which a test fires the events. */
export class FakeHls {
  static version = '1.7.4';
  readonly listeners = new Map<string, Set<Listener>>();
  levels: unknown[] = [];
  media: HTMLVideoElement | null = null;
  url: string | null = null;
  bandwidthEstimate = 5_200_000;
  autoLevelEnabled = true;

  constructor(video?: FakeVideo) {
    this.media = video?.element ?? null;
  }

  attachMedia(): void {}

  on(event: string, listener: Listener): void {
    this.listeners.set(event, (this.listeners.get(event) ?? new Set()).add(listener));
  }

  off(event: string, listener: Listener): void {
    this.listeners.get(event)?.delete(listener);
  }

  fire(event: string, data: unknown = {}): void {
    this.listeners.get(event)?.forEach((listener) => listener(event, data));
  }

  /** A playlist with two pathways is loaded, the first in use. */
  loadManifest(steeringUri?: string, url = 'https://play.example.com/live/river.m3u8'): void {
    this.levels = levelsOf('cdn-a');
    this.fire('hlsManifestLoaded', {
      levels: [...levelsOf('cdn-a'), ...levelsOf('cdn-b')],
      audioTracks: [],
      contentSteering: steeringUri ? { uri: steeringUri } : null,
      url,
    });
  }

  /** hls.js moves to the levels of a pathway. */
  goTo(pathway: string): void {
    this.levels = levelsOf(pathway);
    this.fire('hlsLevelsUpdated', { levels: this.levels });
  }

  /** A segment of a pathway is asked for. */
  beginSegment(pathway = 'cdn-a', type = 'main') {
    const frag = {
      type,
      sn: 7,
      level: 0,
      url: `https://${pathway}.example.com/7.m4s?token=t`,
      baseurl: `https://${pathway}.example.com/350000.m3u8?token=t`,
      stats: loadStats(),
    };
    this.fire('hlsFragLoading', { frag });
    return frag;
  }

  /** The segment is there. */
  endSegment(frag: ReturnType<FakeHls['beginSegment']>, bytes = 1000, ttfbMs = 40): void {
    const { stats } = frag;
    stats.loaded = bytes;
    stats.loading.first = stats.loading.start + ttfbMs;
    stats.loading.end = Math.max(stats.loading.first, performance.now());
    this.fire('hlsFragLoaded', { frag, part: null });
  }

  /** The segment is refused. */
  failSegment(frag: ReturnType<FakeHls['beginSegment']>, code: number): void {
    this.fire('hlsError', {
      type: 'networkError',
      details: 'fragLoadError',
      fatal: false,
      frag,
      response: { code, text: '' },
      error: new Error(`HTTP Error ${code}`),
    });
  }
}

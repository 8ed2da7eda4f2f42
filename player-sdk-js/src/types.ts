import type { Beacon } from './wire.js';

/** `vod`, `live`, or `ll` for low-latency live. */
export type StreamType = 'vod' | 'live' | 'll';

/** What one view is, and where its beacons go. */
export interface AttachOptions {
  /** Origin of the collector, with an optional path: `https://qoe.example.com`. */
  endpoint: string;
  /** Public write key of the property. */
  key: string;
  /** The view's id, if the page already has one: 1 to 64 characters of `[A-Za-z0-9._-]`. */
  viewId?: string;
  /** What is played: up to 128 characters of `[A-Za-z0-9._/-]`; others become `_`. */
  contentId: string;
  /** Title for people. Not sent under Global Privacy Control. */
  title?: string;
  /** Kind of stream. */
  streamType: StreamType;
  /** The pathway of a media URL (query and fragment already removed), where the playlist does not name it. */
  pathwayOf?: (url: string) => string | null | undefined;
  /** Version of the player, if the player does not tell it. */
  playerVersion?: string;
  /** Seconds between heartbeats while playing, until the collector says otherwise. Default 10. */
  heartbeatS?: number;
  /** Share of views that report at all, 0 to 1. Default 1; the collector may lower it for later views. */
  sampleRate?: number;
  /** Called with every beacon as it is sent, for debugging. */
  onBeacon?: (beacon: Beacon) => void;
}

/** One attached view. */
export interface Handle {
  /** The view's id, or `null` as long as it is still looked for in the playlist. */
  readonly viewId: string | null;
  /** Sends what is queued, now. */
  flush(): void;
  /** Ends the view, sends the rest, and lets go of the player. */
  detach(): void;
}

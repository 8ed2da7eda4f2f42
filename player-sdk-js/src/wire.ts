/**
 * The shapes of `docs/wire-protocol.md`, version 1. Absence means unknown; a number here was measured.
 * Names tell their unit: `_ms`, `_kbps`, `_bytes`; `bits_played` is in bits.
 */

/** What the player does now. */
export type State =
  | 'starting'
  | 'playing'
  | 'seeking'
  | 'stalled'
  | 'paused'
  | 'waiting'
  | 'ended'
  | 'failed'
  | 'hidden';

/** The event types that this SDK sends. */
export type EventType =
  | 'view_start'
  | 'play_request'
  | 'first_frame'
  | 'playing'
  | 'pause'
  | 'stall_start'
  | 'stall_end'
  | 'seek_start'
  | 'seek_end'
  | 'rendition'
  | 'pathway_switch'
  | 'segment'
  | 'error'
  | 'warning'
  | 'heartbeat'
  | 'rate'
  | 'mute'
  | 'visibility'
  | 'network'
  | 'view_end';

/** Whose fault an error is. */
export type ErrorClass = 'path' | 'content' | 'drm' | 'entitlement' | 'ad' | 'client';

/** Cumulative over the view. */
export interface Counters {
  watched_ms: number;
  playing_ms: number;
  startup_ms?: number;
  stall_count: number;
  stall_ms: number;
  seek_count: number;
  seek_ms: number;
  pause_ms: number;
  bits_played?: number;
  switch_up?: number;
  switch_down?: number;
  dropped_frames?: number;
  decoded_frames?: number;
}

/** Cumulative over the view, for one pathway. */
export interface PathwayCounters {
  requests_ok?: number;
  requests_failed?: number;
  requests_late?: number;
  bytes?: number;
  ttfb_sum_ms?: number;
  playing_ms: number;
  stall_ms: number;
}

/** One media request that failed or is late. */
export interface EventRequest {
  host?: string;
  pathway?: string;
  /** HTTP status, 0 for no answer. */
  status?: number;
  ttfb_ms?: number;
  ttlb_ms?: number;
  bytes?: number;
  late: boolean;
}

/** An error or a warning. */
export interface EventError {
  severity: 'fatal' | 'warning';
  class: ErrorClass;
  code: string;
  message?: string;
  status?: number;
  pathway?: string;
}

/** One event with the counters as they were when it was made. */
export interface BeaconEvent {
  type: EventType;
  seq: number;
  created_ms: number;
  mono_ms: number;
  state: State;
  playhead_ms?: number;
  buffer_ms?: number;
  throughput_kbps?: number;
  bitrate_kbps?: number;
  pathway?: string;
  host?: string;
  counters: Counters;
  pathways?: Record<string, PathwayCounters>;
  from?: string;
  to?: string;
  reason?: string;
  request?: EventRequest;
  error?: EventError;
  stall_ms?: number;
  visible?: boolean;
}

/** What stays the same over a view; sent once a beacon. */
export interface BeaconContext {
  view_id: string;
  session_id?: string;
  content_id: string;
  title?: string;
  stream_type: 'vod' | 'live' | 'll';
  format: 'hls' | 'dash' | 'other';
  player: string;
  player_version?: string;
  device_class: 'desktop' | 'mobile' | 'tablet' | 'tv' | 'stb' | 'console' | 'other';
  os?: string;
  browser?: string;
  page_type?: string;
  sample_rate?: number;
}

/** One POST: a batch of events of one view. */
export interface Beacon {
  v: 1;
  sdk: string;
  sent_ms: number;
  rtt_ms?: number;
  dropped: number;
  ctx: BeaconContext;
  events: BeaconEvent[];
}

import type { BeaconEvent, Counters, EventType, PathwayCounters, State } from '../wire.js';
import { NUDGE_S, NUDGE_STALLED_S, SLEEP_MS, STALL_LONG_MS, STALL_MIN_MS } from './limits.js';
import { monotonic } from './monotonic.js';

/** The player as it stands now. */
export interface Signals {
  playheadS: number;
  paused: boolean;
  seeking: boolean;
  hidden: boolean;
}

/** What the playback clock asks and tells. */
export interface PlaybackHooks {
  signals(): Signals;
  /** Bitrate of what is played, if known. */
  bitrateKbps(): number | undefined;
  /** Counters of the pathway that serves now. */
  serving(): PathwayCounters | undefined;
  /** Counters of the pathway that is to blame if playback stops now. */
  blamed(): PathwayCounters | undefined;
  emit(type: EventType, fields?: Partial<BeaconEvent>, urgent?: boolean): void;
}

interface Stall {
  ms: number;
  told: boolean;
  /** Found when the stall began: what serves later isn't its cause. */
  pathway: PathwayCounters | undefined;
}

/** Tells playing, stalling, seeking and pausing apart, and adds their times up. */
export class Playback {
  private readonly sum = { watched: 0, playing: 0, stall: 0, seek: 0, pause: 0 };
  private bits: number | undefined;
  private stallCount = 0;
  private seekCount = 0;
  private startupMs: number | undefined;

  private requested = false;
  private started = false;
  private seekOpen = false;
  private stopped: 'ended' | 'failed' | undefined;
  /** After a fatal error the buffer plays on, but nothing more will come. */
  private doomed = false;
  private stall: Stall | undefined;
  /** How long the playhead has stood still: playing or a stall, as will turn out. */
  private frozenMs = 0;
  private lastMs = monotonic();
  private last: Signals;

  constructor(
    private readonly live: boolean,
    private readonly hooks: PlaybackHooks,
  ) {
    this.last = hooks.signals();
  }

  /** Adds the time since the last call to the state it was spent in, then looks for a new state. */
  observe(): void {
    const now = this.hooks.signals();
    const nowMs = monotonic();
    // A jump is no progress: during a seek, and in the first look after it, the playhead says nothing.
    const steady = !now.seeking && !this.last.seeking;
    const mediaS = steady ? Math.max(0, now.playheadS - this.last.playheadS) : 0;
    this.account(nowMs - this.lastMs, mediaS);
    this.lastMs = nowMs;
    this.last = { ...now, playheadS: now.seeking ? this.last.playheadS : now.playheadS };
    if (mediaS) {
      this.moved();
    }
    this.settle(mediaS > 0);
  }

  /** The viewer, or autoplay, asked for playback. */
  request(): void {
    this.observe();
    this.requested = true;
    this.doomed = false;
    this.hooks.emit('play_request');
  }

  /** The player says that it plays. */
  playing(): void {
    this.observe();
    this.doomed = false;
    this.start();
  }

  /** Playback was already running when the view was attached: its start is unknown. */
  join(): void {
    this.requested = this.started = true;
    this.observe();
  }

  /** The playhead was moved; tells whether the viewer did it, and not the player to go on at all. */
  seek(): boolean {
    const jumpS = this.hooks.signals().playheadS - this.last.playheadS;
    this.observe();
    this.last.seeking = true;
    if (!this.started || this.stopped || this.seekOpen || this.isNudge(jumpS)) {
      return false;
    }
    this.endStall();
    this.seekOpen = true;
    this.seekCount++;
    this.hooks.emit('seek_start');
    return true;
  }

  /** Playback came to its end, or can't go on. */
  stop(state: 'ended' | 'failed'): void {
    this.observe();
    this.endStall();
    this.stopped = state;
    this.doomed = state === 'failed';
  }

  /** Media arrives again after a fatal error. */
  revive(): void {
    this.doomed = false;
  }

  get state(): State {
    const phase = this.phase();
    const active = phase === 'starting' || phase === 'playing' || phase === 'stalled' || phase === 'seeking';
    return active && this.last.hidden ? 'hidden' : phase;
  }

  counters(): Counters {
    const { watched, playing, stall, seek, pause } = this.sum;
    return {
      watched_ms: watched,
      playing_ms: playing,
      startup_ms: this.startupMs,
      stall_count: this.stallCount,
      stall_ms: stall,
      seek_count: this.seekCount,
      seek_ms: seek,
      pause_ms: pause,
      bits_played: this.bits,
    };
  }

  private phase(): State {
    if (this.stopped) {
      return this.stopped;
    }
    if (!this.requested) {
      return 'waiting';
    }
    if (this.last.paused) {
      return 'paused';
    }
    if (!this.started) {
      return 'starting';
    }
    if (this.seekOpen) {
      return 'seeking';
    }
    return this.stall ? 'stalled' : 'playing';
  }

  /** Adds `spentMs` to the state that it was spent in. */
  private account(spentMs: number, mediaS: number): void {
    const phase = this.phase();
    if (phase === 'waiting' || this.stopped) {
      return;
    }
    if (phase === 'paused') {
      this.sum.pause += spentMs;
      return;
    }
    if (this.last.hidden || spentMs > SLEEP_MS) {
      // Timers are unreliable here; the playhead is not.
      const ms = phase === 'playing' ? Math.min(spentMs, mediaS * 1000) : 0;
      this.sum.watched += ms;
      this.played(ms, mediaS);
      return;
    }
    this.sum.watched += spentMs;
    if (phase === 'seeking') {
      this.sum.seek += spentMs;
    } else if (phase === 'stalled') {
      this.stalled(spentMs);
    } else if (phase === 'playing') {
      this.frozenMs += spentMs;
      if (mediaS) {
        this.played(this.takeFrozen(), mediaS);
      }
    }
  }

  /**
   * Whether the player jumped by itself: over a hole, or anywhere in a stalled live stream. There it goes back to the
   * edge, or to where another pathway's playlist puts the moment; a viewer who jumps then still waits.
   */
  private isNudge(jumpS: number): boolean {
    return this.stall ? this.live || Math.abs(jumpS) <= NUDGE_STALLED_S : Math.abs(jumpS) <= NUDGE_S;
  }

  private takeFrozen(): number {
    const ms = this.frozenMs;
    this.frozenMs = 0;
    return ms;
  }

  private played(ms: number, mediaS: number): void {
    if (!ms) {
      return;
    }
    this.sum.playing += ms;
    const tally = this.hooks.serving();
    if (tally) {
      tally.playing_ms += ms;
    }
    const kbps = this.hooks.bitrateKbps();
    if (kbps !== undefined) {
      this.bits = (this.bits ?? 0) + kbps * mediaS * 1000;
    }
  }

  private stalled(ms: number): void {
    if (this.stall) {
      this.sum.stall += ms;
      this.stall.ms += ms;
      if (this.stall.pathway) {
        this.stall.pathway.stall_ms += ms;
      }
    }
  }

  private moved(): void {
    if (this.stopped === 'failed') {
      this.stopped = undefined;
    }
    this.start();
  }

  private start(): void {
    if (this.requested && !this.started) {
      this.started = true;
      this.startupMs = this.sum.watched;
      this.hooks.emit('first_frame', undefined, true);
    }
  }

  /** Ends and begins stalls and seeks. */
  private settle(moves: boolean): void {
    const { paused, seeking, hidden } = this.last;
    if (this.stall && (moves || hidden || paused)) {
      this.endStall();
    }
    if (this.seekOpen && !seeking && (moves || paused)) {
      this.seekOpen = false;
      this.hooks.emit('seek_end');
    }
    if (this.phase() !== 'playing' || hidden) {
      this.played(this.takeFrozen(), 0);
    } else if (this.frozenMs >= STALL_MIN_MS) {
      this.beginStall();
    }
    if (this.stall && !this.stall.told && this.stall.ms >= STALL_LONG_MS) {
      this.stall.told = true;
      this.hooks.emit('heartbeat', undefined, true);
    }
  }

  private beginStall(): void {
    if (this.doomed) {
      this.stopped = 'failed';
      this.played(this.takeFrozen(), 0);
      return;
    }
    this.stallCount++;
    this.stall = { ms: 0, told: false, pathway: this.hooks.blamed() };
    this.stalled(this.takeFrozen());
    this.hooks.emit('stall_start');
  }

  private endStall(): void {
    if (this.stall) {
      const { ms } = this.stall;
      this.stall = undefined;
      this.hooks.emit('stall_end', { stall_ms: ms }, ms >= STALL_LONG_MS);
    }
  }
}

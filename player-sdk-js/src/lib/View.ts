import type { AttachOptions, Handle } from '../types.js';
import type { BeaconEvent, EventError, EventType } from '../wire.js';
import { buildBeacon } from './buildBeacon.js';
import { buildContext } from './buildContext.js';
import { buildEvent } from './buildEvent.js';
import { Burst } from './Burst.js';
import { EventQueue } from './EventQueue.js';
import { guard } from './guard.js';
import { heartbeatPeriodS } from './heartbeatPeriodS.js';
import { isId, randomId } from './ids.js';
import {
  HEARTBEAT_MAX_S,
  HEARTBEAT_MIN_S,
  HEARTBEAT_S,
  MESSAGE_MAX_CHARS,
  TICK_MS,
  VIEW_ID_CHARS,
  VIEW_ID_WAIT_MS,
} from './limits.js';
import { Media, type MediaEvent } from './Media.js';
import { mediaError } from './mediaError.js';
import { monotonic } from './monotonic.js';
import { placeName, type Place } from './place.js';
import { Playback } from './Playback.js';
import { Requests } from './Requests.js';
import { setServerRate } from './sampling.js';
import { Sender, type Answer } from './Sender.js';
import type { Source } from './source.js';
import { Steering } from './Steering.js';
import { Tallies } from './Tallies.js';
import { hostOf, withoutQueries, withoutQuery } from './url.js';
import { watchPage } from './watchPage.js';

/** Why a view ended. */
export type EndReason = 'ended' | 'abort' | 'error' | 'background' | 'timeout';

const NOTHING = { playheadS: 0, paused: true, seeking: false, hidden: false };

/** One view, from the attachment to its end: takes in what the source feeds and makes events of it. */
export class View {
  /** What the page gets. */
  readonly handle: Handle;
  /** For a source that sees requests. */
  readonly requests: Requests;
  /** For a source that hears of steering answers. */
  readonly steering = new Steering();

  private readonly beganMs = monotonic();
  private readonly queue = new EventQueue();
  private readonly burst = new Burst();
  private readonly tallies: Tallies;
  private readonly playback: Playback;
  private readonly sender: Sender;
  private readonly timer: ReturnType<typeof setInterval>;
  private readonly stopPage: () => void;
  private readonly stopSource: () => void;

  private id: string | undefined;
  private seq = 0;
  private over = false;
  private heartbeatS = HEARTBEAT_S;
  private heartbeatMs = this.beganMs;
  private media: Media | undefined;
  private mediaPlace: { url: string; place: Place } | undefined;
  private asked = false;
  private paused = false;
  private muted: boolean | undefined;
  private bitrateKbps: number | undefined;
  private switchUp = 0;
  private switchDown = 0;

  constructor(
    private readonly options: AttachOptions,
    private readonly source: Source,
    private readonly sampleRate: number,
  ) {
    this.id = isId(options.viewId) ? options.viewId : undefined;
    if (!source.detailed) {
      this.settleId();
    }
    this.setHeartbeat(options.heartbeatS);
    this.tallies = new Tallies(source.detailed);
    this.requests = new Requests(this.tallies, {
      trouble: (request) => this.emit('segment', { request }, true),
      succeeded: () => this.playback.revive(),
      moved: (from, to) => this.moved(from, to),
    });
    this.playback = new Playback(options.streamType !== 'vod', {
      signals: () => this.media?.signals() ?? NOTHING,
      bitrateKbps: () => this.bitrateKbps,
      serving: () => this.tallies.at(this.serving()),
      blamed: () => this.tallies.at(this.requests.blamed ?? this.serving()),
      emit: (type, fields, urgent) => this.emit(type, fields, urgent),
    });
    this.sender = this.createSender();
    this.handle = this.createHandle();
    this.stopPage = this.watchPage();
    this.emit('view_start', undefined, true);
    this.stopSource = source.connect(this);
    this.timer = setInterval(
      guard(() => this.tick()),
      TICK_MS,
    );
  }

  /** Wraps a player's hook: brings the clock up to date, and keeps errors away from the player. */
  hook<A extends unknown[]>(hook: (...args: A) => void): (...args: A) => void {
    return guard((...args) => {
      if (!this.over) {
        this.playback.observe();
        hook(...args);
      }
    });
  }

  /** The element that plays, as soon as there is one. */
  setVideo(element: HTMLMediaElement | null | undefined): void {
    if (!element || element === this.media?.element) {
      return;
    }
    this.media?.release();
    const media = (this.media = new Media(element, (type) => this.heard(type)));
    this.muted = element.muted;
    this.playback.observe();
    if (this.asked || (element.paused && !media.autoplays)) {
      return;
    }
    this.asked = true;
    if (element.currentTime > 0 && element.readyState > 2) {
      this.playback.join();
      this.emit('playing');
    } else {
      this.playback.request();
    }
  }

  /** The id found in a playlist; the first one counts. */
  setId(found: string | undefined): void {
    if (!this.id && found) {
      this.id = found;
      this.sender.flush();
    }
  }

  /** Where a URL leads, with the pathway if the player knows it. */
  placeOf(url: string, pathway?: string): Place {
    let named: string | null | undefined = pathway;
    if (!isId(named)) {
      guard(() => (named = this.options.pathwayOf?.(withoutQuery(url))))();
    }
    return { pathway: isId(named) ? named : undefined, host: hostOf(url) };
  }

  /** Another bitrate is played. */
  rendition(kbps: number, reason: string): void {
    const before = this.bitrateKbps ?? kbps;
    this.switchUp += Number(kbps > before);
    this.switchDown += Number(kbps < before);
    if (kbps !== this.bitrateKbps) {
      this.bitrateKbps = kbps;
      this.emit('rendition', { reason });
    }
  }

  /** Something went wrong; `fatal` if playback can't go on by itself. */
  error(error: Omit<EventError, 'severity'>, fatal: boolean): void {
    if (fatal) {
      this.playback.stop('failed');
    }
    const message = error.message && withoutQueries(error.message).slice(0, MESSAGE_MAX_CHARS);
    const severity = fatal ? 'fatal' : 'warning';
    this.emit(fatal ? 'error' : 'warning', { error: { ...error, severity, message } as EventError }, fatal);
  }

  /** The view is over; `leaving` if the page goes too. */
  end(reason: EndReason, leaving = false): void {
    if (this.over) {
      return;
    }
    this.settleId();
    this.playback.observe();
    this.emit('view_end', { reason: this.playback.state === 'failed' ? 'error' : reason });
    this.over = true;
    clearInterval(this.timer);
    this.media?.release();
    this.stopSource();
    this.sender.end();
    if (leaving) {
      this.sender.leave(true);
    } else {
      this.sender.flush();
    }
  }

  private emit(type: EventType, fields?: Partial<BeaconEvent>, urgent = false): void {
    if (this.over || (/segment|warning/.test(type) && !this.burst.take())) {
      return;
    }
    if (type === 'heartbeat') {
      this.heartbeatMs = monotonic();
    }
    const stamp = {
      type,
      seq: this.seq++,
      createdMs: Date.now(),
      monoMs: monotonic() - this.beganMs,
    };
    this.queue.push(buildEvent(stamp, this.standing(), fields));
    if (urgent) {
      this.sender.flush();
    }
  }

  /** How the view stands now. */
  private standing(): Omit<BeaconEvent, 'type' | 'seq' | 'created_ms' | 'mono_ms'> {
    const { media, source, bitrateKbps } = this;
    const { pathway, host } = this.serving() ?? {};
    return {
      state: this.playback.state,
      playhead_ms: media && media.element.currentTime * 1000,
      buffer_ms: media?.bufferMs(),
      throughput_kbps: this.requests.done && source.throughputKbps?.(),
      bitrate_kbps: bitrateKbps,
      pathway,
      host: pathway ? undefined : host,
      counters: {
        ...this.playback.counters(),
        ...(source.detailed && { switch_up: this.switchUp, switch_down: this.switchDown }),
        ...media?.frames(),
      },
      pathways: this.tallies.all(),
    } as Omit<BeaconEvent, 'type' | 'seq' | 'created_ms' | 'mono_ms'>;
  }

  private serving(): Place | undefined {
    const url = this.media?.element.currentSrc;
    if (url && url !== this.mediaPlace?.url) {
      this.mediaPlace = { url, place: this.placeOf(url) };
    }
    return this.requests.serving ?? this.mediaPlace?.place;
  }

  private moved(before: Place | undefined, after: Place): void {
    const from = placeName(before);
    const to = placeName(after);
    const reason = before ? this.steering.reason(from, to) : 'start';
    this.emit('pathway_switch', { ...(from && { from }), ...(to && { to }), reason }, true);
  }

  private heard(type: MediaEvent): void {
    const element = this.media?.element;
    if (this.over || !element) {
      return;
    }
    this.playback.observe();
    if (type === 'play' && (!this.asked || this.paused)) {
      this.asked = true;
      this.playback.request();
    } else if (type === 'playing') {
      this.playback.playing();
      if (this.paused) {
        this.emit('playing');
      }
      this.paused = false;
    } else if (type === 'pause' && !element.ended) {
      this.paused = true;
      this.emit('pause');
    } else if (type === 'seeking' && this.playback.seek()) {
      this.requests.forget();
    } else if (type === 'ended') {
      this.playback.stop('ended');
      this.end('ended');
    } else if (type === 'error') {
      this.error(mediaError(element.error), true);
    } else if (type === 'ratechange') {
      this.emit('rate');
    } else if (type === 'volumechange' && element.muted !== this.muted) {
      this.muted = element.muted;
      this.emit('mute');
    }
  }

  private tick(): void {
    this.playback.observe();
    this.requests.tick();
    const nowMs = monotonic();
    if (nowMs - this.heartbeatMs >= heartbeatPeriodS(this.playback.state, this.heartbeatS) * 1000) {
      this.emit('heartbeat', undefined, true);
    }
    if (!this.id && nowMs - this.beganMs > VIEW_ID_WAIT_MS) {
      this.settleId();
      this.sender.flush();
    }
  }

  /** Waits no longer for an id from a playlist. */
  private settleId(): void {
    this.id ??= randomId(VIEW_ID_CHARS);
  }

  private setHeartbeat(seconds: unknown): void {
    if (typeof seconds === 'number' && seconds > 0) {
      this.heartbeatS = Math.min(HEARTBEAT_MAX_S, Math.max(HEARTBEAT_MIN_S, seconds));
    }
  }

  private answered({ heartbeat_s, sample_rate }: Answer): void {
    this.setHeartbeat(heartbeat_s);
    setServerRate(sample_rate);
  }

  private createSender(): Sender {
    const { endpoint, key, onBeacon } = this.options;
    return new Sender(this.queue, {
      url: () => this.id && `${endpoint}/v1/beacons?k=${encodeURIComponent(key)}&v=${encodeURIComponent(this.id)}`,
      build: (events, sending) =>
        buildBeacon(buildContext(this.id ?? '', this.options, this.source.info(), this.sampleRate), events, sending),
      sending: (beacon) => onBeacon?.(beacon),
      answered: (answer) => this.answered(answer),
      idle: () => this.over && this.stopPage(),
    });
  }

  private createHandle(): Handle {
    const view = this;
    return {
      get viewId() {
        return view.id ?? null;
      },
      flush: guard(() => this.sender.flush()),
      detach: guard(() => this.end('abort')),
    };
  }

  private watchPage(): () => void {
    return watchPage({
      visibility: (visible) => {
        this.playback.observe();
        this.emit('visibility', { visible });
        if (!visible) {
          this.settleId();
          this.sender.leave(false);
        }
      },
      leaving: (kept) => {
        if (kept || this.over) {
          this.sender.leave(!kept);
        } else {
          this.end(document.visibilityState === 'hidden' ? 'background' : 'abort', true);
        }
      },
      network: () => {
        this.playback.observe();
        this.emit('network');
      },
    });
  }
}

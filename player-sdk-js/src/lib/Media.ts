import { CounterRelay } from './CounterRelay.js';
import { HOLE_S } from './limits.js';
import { listen } from './listen.js';
import type { Signals } from './Playback.js';

const EVENTS = [
  'play',
  'playing',
  'pause',
  'seeking',
  'seeked',
  'waiting',
  'timeupdate',
  'canplaythrough',
  'ended',
  'error',
  'ratechange',
  'volumechange',
] as const;

/** Media events that the SDK listens to. */
export type MediaEvent = (typeof EVENTS)[number];

/** A media element, read only. */
export class Media {
  private begun: boolean;
  private readonly dropped = new CounterRelay();
  private readonly decoded = new CounterRelay();
  private readonly stops: (() => void)[];

  /** Takes over an element: `heard` is called for each of its events. */
  constructor(
    readonly element: HTMLMediaElement,
    heard: (type: MediaEvent) => void,
  ) {
    this.begun = !element.paused;
    this.frames();
    this.stops = EVENTS.map((type) =>
      listen(element, type, () => {
        this.begun ||= type === 'play';
        heard(type);
      }),
    );
  }

  /** Whether autoplay was asked for and hasn't been refused yet: the browser then shows `paused`. */
  get autoplays(): boolean {
    const { autoplay, readyState } = this.element;
    return autoplay && !this.begun && readyState < 4;
  }

  signals(): Signals {
    const { currentTime, paused, seeking } = this.element;
    return {
      playheadS: currentTime,
      paused: paused && !this.autoplays,
      seeking,
      hidden: document.visibilityState === 'hidden',
    };
  }

  /** What is buffered ahead of the playhead; unknown before the first data. */
  bufferMs(): number | undefined {
    const { buffered, currentTime, readyState } = this.element;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + HOLE_S && currentTime <= buffered.end(i)) {
        return (buffered.end(i) - currentTime) * 1000;
      }
    }
    return readyState ? 0 : undefined;
  }

  /** Frames dropped and decoded since the element was taken over. */
  frames(): { dropped_frames?: number; decoded_frames?: number } {
    const quality = (this.element as Partial<HTMLVideoElement>).getVideoPlaybackQuality?.();
    return quality
      ? {
          dropped_frames: this.dropped.sum(quality.droppedVideoFrames),
          decoded_frames: this.decoded.sum(quality.totalVideoFrames),
        }
      : {};
  }

  /** Lets go of the element. */
  release(): void {
    this.stops.forEach((stop) => stop());
  }
}

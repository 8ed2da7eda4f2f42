/** A `<video>` of which a test moves the playhead. */
export class FakeVideo extends EventTarget {
  currentTime = 0;
  paused = true;
  seeking = false;
  ended = false;
  autoplay = false;
  muted = false;
  readyState = 0;
  currentSrc = '';
  error: { code: number; message: string } | null = null;
  bufferEndS = 0;
  totalVideoFrames = 0;
  droppedVideoFrames = 0;

  get buffered() {
    const end = this.bufferEndS;
    return { length: end ? 1 : 0, start: () => 0, end: () => end };
  }

  getVideoPlaybackQuality() {
    const { totalVideoFrames, droppedVideoFrames } = this;
    return { totalVideoFrames, droppedVideoFrames };
  }

  fire(type: string): void {
    this.dispatchEvent(new Event(type));
  }

  play(): void {
    this.paused = false;
    this.fire('play');
  }

  /** As the SDK sees it. */
  get element(): HTMLVideoElement {
    return this as unknown as HTMLVideoElement;
  }
}

/** What the SDK uses of an hls.js instance; told apart from a `<video>` by `on`, `attachMedia` and `levels`. */
export interface HlsPlayer {
  on(event: any, listener: (...args: any[]) => void): void;
  off(event: any, listener: (...args: any[]) => void): void;
  attachMedia: unknown;
  readonly levels: readonly unknown[];
  readonly allAudioTracks?: readonly unknown[];
  readonly media: HTMLMediaElement | null;
  readonly url: string | null;
  readonly bandwidthEstimate: number;
  readonly autoLevelEnabled: boolean;
}

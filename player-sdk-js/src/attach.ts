import { attachView } from './lib/attachView.js';
import { videoSource } from './lib/videoSource.js';
import type { AttachOptions, Handle } from './types.js';

/**
 * Measures one view of a `<video>` element and reports it. Never throws and never makes playback wait.
 * For an hls.js instance, import `attach` from `@spillway/player-sdk/hls`.
 */
export function attach(video: HTMLVideoElement, options: AttachOptions): Handle {
  return attachView(options, () => videoSource(video));
}

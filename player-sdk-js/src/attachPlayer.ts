import type { HlsPlayer } from './hlsPlayer.js';
import { attachView } from './lib/attachView.js';
import { HlsSource } from './lib/HlsSource.js';
import { videoSource } from './lib/videoSource.js';
import type { AttachOptions, Handle } from './types.js';

const isHls = (player: HlsPlayer | HTMLVideoElement): player is HlsPlayer =>
  'attachMedia' in player && 'on' in player && 'levels' in player;

/** Measures one view of an hls.js instance or of a `<video>` element and reports it; like `attach` otherwise. */
export function attachPlayer(player: HlsPlayer | HTMLVideoElement, options: AttachOptions): Handle {
  return attachView(options, () => (isHls(player) ? new HlsSource(player) : videoSource(player)));
}

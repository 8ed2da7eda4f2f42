import type { PlayerInfo } from './buildContext.js';
import type { Source } from './source.js';
import { withoutQuery } from './url.js';

function formatOf(url: string): PlayerInfo['format'] {
  return url.endsWith('.m3u8') ? 'hls' : url.endsWith('.mpd') ? 'dash' : 'other';
}

/** A `<video>` element by itself: how it plays is seen, what it requests is not. */
export function videoSource(video: HTMLVideoElement): Source {
  if (!('currentTime' in video)) {
    throw new TypeError('player is no <video> element (for hls.js, import from @spillway/player-sdk/hls)');
  }
  return {
    detailed: false,
    info: () => ({ player: 'html5', format: formatOf(withoutQuery(video.currentSrc)) }),
    connect(view) {
      view.setVideo(video);
      return () => {};
    },
  };
}

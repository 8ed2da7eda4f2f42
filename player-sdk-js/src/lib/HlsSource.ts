import type { HlsPlayer } from '../hlsPlayer.js';
import type { PlayerInfo } from './buildContext.js';
import { hlsErrorClass } from './hlsErrorClass.js';
import { PathwayMap, type Playlist } from './PathwayMap.js';
import type { MediaRequest, Progress } from './Requests.js';
import { sidOf } from './sidOf.js';
import type { Source } from './source.js';
import type { View } from './View.js';

interface Fragment {
  type: string;
  sn: number | string;
  level: number;
  url: string;
  baseurl: string;
  stats: Progress;
}

type Hooks = Record<string, (data: any) => void>;

/** An hls.js instance; tried with 1.4, 1.6 and 1.7. */
export class HlsSource implements Source {
  readonly detailed = true;
  private readonly pathways = new PathwayMap();

  constructor(private readonly hls: HlsPlayer) {}

  info(): PlayerInfo {
    const { version } = this.hls.constructor as { version?: string };
    return { player: 'hls.js', version, format: 'hls' };
  }

  throughputKbps(): number {
    return this.hls.bandwidthEstimate / 1000;
  }

  connect(view: View): () => void {
    const { hls } = this;
    const listeners = Object.entries({ ...this.playerHooks(view), ...this.requestHooks(view) }).map(([event, hook]) => {
      const listener = view.hook((_event: unknown, data: unknown) => hook(data));
      hls.on(event, listener);
      return [event, listener] as const;
    });
    view.setVideo(hls.media);
    this.pathways.learn(hls.levels as Playlist[], hls.allAudioTracks as Playlist[]);
    view.setId(sidOf(hls.url));
    return () => listeners.forEach(([event, listener]) => hls.off(event, listener));
  }

  private playerHooks(view: View): Hooks {
    const { hls, pathways } = this;
    return {
      hlsMediaAttached: ({ media }) => view.setVideo(media ?? hls.media),
      hlsManifestLoaded({ levels, audioTracks, contentSteering, url }) {
        pathways.learn(levels, audioTracks);
        view.setId(sidOf(contentSteering?.uri) ?? sidOf(url));
      },
      hlsLevelsUpdated: ({ levels }) => pathways.learn(levels),
      hlsSteeringManifestLoaded: ({ steeringManifest, url }) => {
        view.steering.heard(steeringManifest['PATHWAY-PRIORITY']);
        view.setId(sidOf(url));
      },
      hlsLevelSwitched: ({ level }) =>
        view.rendition(
          (hls.levels[level] as { bitrate: number }).bitrate / 1000,
          hls.autoLevelEnabled ? 'abr' : 'manual',
        ),
      hlsDestroying: () => view.end('abort'),
    };
  }

  private requestHooks(view: View): Hooks {
    const { requests } = view;
    return {
      // Comes before hlsManifestLoaded: hls.js asks for the first level while it tells of the manifest.
      hlsLevelLoading: ({ level, url }) => requests.expect(view.placeOf(url, this.pathwayOfLevel(level))),
      hlsFragLoading: ({ frag }) => frag.type !== 'subtitle' && requests.begin(frag, this.requestOf(view, frag)),
      // Only the first of a row of parts is announced by hlsFragLoading.
      hlsFragLoaded: ({ frag, part }) => requests.succeed(frag, part && this.requestOf(view, frag, part)),
      hlsFragLoadEmergencyAborted: ({ frag }) => requests.abort(frag),
      hlsError: (data) => this.failed(view, data),
    };
  }

  private pathwayOfLevel(index: number): string | undefined {
    return (this.hls.levels[index] as Playlist | undefined)?.attrs?.['PATHWAY-ID'];
  }

  private requestOf(view: View, frag: Fragment, loads: { stats: Progress } = frag): MediaRequest {
    const { type, baseurl, level, sn } = frag;
    const pathway = this.pathways.of(baseurl) ?? (type === 'main' ? this.pathwayOfLevel(level) : undefined);
    return {
      kind: sn === 'initSegment' ? type + '-init' : type,
      place: view.placeOf(frag.url, pathway),
      progress: () => loads.stats,
    };
  }

  private failed(view: View, data: any): void {
    const { type, details, fatal, frag, context } = data;
    const status: number | undefined = data.response?.code ?? data.networkDetails?.status;
    const timedOut = /timeout/i.test(details);
    const url: string = data.url ?? context?.url ?? frag?.url ?? '';
    const place = view.placeOf(url, this.pathways.of(frag?.baseurl ?? url));
    // Stalls and the jumps out of them are measured, not taken from here.
    let told = /^buffer(Stalled|Nudge|Seek)|^aborted/.test(details);
    if (/^(frag|level|audioTrack)Load/.test(details)) {
      told = true;
      if (frag) {
        view.requests.fail(frag, status ?? 0, timedOut);
      } else {
        view.requests.failApart(place, status ?? 0, timedOut);
      }
    }
    if (fatal || !told) {
      const message = data.error?.message;
      const { pathway } = place;
      view.error({ class: hlsErrorClass(type, details, status), code: details, message, status, pathway }, fatal);
    }
  }
}

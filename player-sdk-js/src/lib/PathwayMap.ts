import { withoutQuery } from './url.js';

/** What is used of hls.js's levels and audio tracks, parsed or selected. */
export interface Playlist {
  attrs?: Partial<Record<string, string>>;
  groupId?: string;
  uri?: string;
  url?: string | string[];
}

const urlOf = ({ uri, url }: Playlist): string => withoutQuery(String(uri ?? url));

/** Which pathway a media playlist belongs to; it outlives a switch, after which hls.js shows other levels. */
export class PathwayMap {
  private readonly pathways = new Map<string, string>();
  private readonly groups = new Map<string, string>();

  /** Takes in the playlists of a multivariant playlist, or of one pathway of it. */
  learn(levels: readonly Playlist[] = [], audioTracks: readonly Playlist[] = []): void {
    for (const level of levels) {
      const pathway = level.attrs?.['PATHWAY-ID'];
      if (pathway) {
        this.pathways.set(urlOf(level), pathway);
        this.groups.set(level.attrs?.AUDIO ?? '', pathway);
      }
    }
    for (const track of audioTracks) {
      const pathway = this.groups.get(track.groupId ?? '');
      if (pathway) {
        this.pathways.set(urlOf(track), pathway);
      }
    }
  }

  /** The pathway of a media playlist. */
  of(playlistUrl: string | undefined): string | undefined {
    return this.pathways.get(withoutQuery(playlistUrl ?? ''));
  }
}

import type { AttachOptions } from '../types.js';
import type { BeaconContext } from '../wire.js';
import { client } from './client.js';
import { sessionId } from './ids.js';
import { TITLE_MAX_CHARS } from './limits.js';
import { privacyWanted } from './privacyWanted.js';

/** What the player tells about itself. */
export interface PlayerInfo {
  player: string;
  version?: string;
  format: BeaconContext['format'];
}

/** The part of a beacon that stays the same over a view. */
export function buildContext(
  viewId: string,
  options: AttachOptions,
  { player, version, format }: PlayerInfo,
  sampleRate: number,
): BeaconContext {
  const followed = !privacyWanted();
  return {
    view_id: viewId,
    session_id: followed ? sessionId() : undefined,
    content_id: options.contentId.replace(/[^\w./-]/g, '_').slice(0, 128),
    title: followed ? options.title?.slice(0, TITLE_MAX_CHARS) : undefined,
    stream_type: options.streamType,
    format,
    player,
    player_version: options.playerVersion ?? version,
    ...client(navigator.userAgent),
    sample_rate: sampleRate,
  };
}

import type { PlayerInfo } from './buildContext.js';
import type { View } from './View.js';

/** What is measured: a `<video>` element, or a player behind an adapter. */
export interface Source {
  info(): PlayerInfo;
  /** Whether it tells of requests, bitrates and pathways, and may find the view's id in a playlist. */
  detailed: boolean;
  /** Estimate of the player; asked after the first segment, since before it is only a default. */
  throughputKbps?(): number;
  /** Starts to feed the view; returns how to stop. */
  connect(view: View): () => void;
}

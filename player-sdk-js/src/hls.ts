export { attachPlayer as attach } from './attachPlayer.js';
export type { HlsPlayer } from './hlsPlayer.js';
export type { AttachOptions, Handle, StreamType } from './types.js';

/** Every limit, with its reason. */

/** A playhead that stands still this long is a stall; shorter ones are not seen by viewers (Mux's value too). */
export const STALL_MIN_MS = 250;
/** A stall that is worth telling at once. */
export const STALL_LONG_MS = 2_000;
/** How often the playhead is looked at: finer than the shortest stall. */
export const TICK_MS = 100;
/** A gap between two looks that is longer than this: the device slept. Intensive timer throttling gives 60 s. */
export const SLEEP_MS = 30_000;
/** A hole in the buffer this small is played over. */
export const HOLE_S = 0.1;
/** A seek this short while playing is the player stepping over a hole in the buffer, not the viewer. */
export const NUDGE_S = 0.3;
/** The same while stalled: hls.js nudges and jumps holes to get going again. */
export const NUDGE_STALLED_S = 2;
/** A request in flight longer than this is late; the collector's value. */
export const REQUEST_LATE_MS = 4_000;
/** A request younger than this can't be the cause of a stall: the last one that finished is. */
export const BLAME_MIN_MS = 1_000;
/** Pathways in one event: the collector's limit. */
export const PATHWAYS_MAX = 8;

/** Heartbeats while playing, until the collector says otherwise. */
export const HEARTBEAT_S = 10;
/** Bounds of what the collector may ask for. */
export const HEARTBEAT_MIN_S = 1;
export const HEARTBEAT_MAX_S = 300;
/** Heartbeats while the viewer waits: what happens now matters most. */
export const HEARTBEAT_STALLED_S = 5;
/** Heartbeats while paused or hidden: only to say that the view lives. */
export const HEARTBEAT_IDLE_S = 30;

/** Events kept while the collector is away: an hour at one a second. */
export const QUEUE_MAX_EVENTS = 3_600;
/** The same in bytes: memory of a television. */
export const QUEUE_MAX_BYTES = 2_000_000;
/** Events of a beacon: the collector's limit. */
export const BATCH_MAX_EVENTS = 300;
/** Bytes of a beacon: below the collector's 512 KiB. */
export const BATCH_MAX_BYTES = 500_000;
/** Bytes of a body that may outlive the page: browsers allow 64 KiB over all requests in flight. */
export const KEEPALIVE_MAX_BYTES = 56 * 1024;
/** Bytes kept free in a batch for what stands around the events. */
export const ENVELOPE_BYTES = 6_000;
/** Failures and warnings told one by one in a minute; the counters have the rest. */
export const BURST_PER_MINUTE = 120;

/** An answer that takes longer counts as none. */
export const ANSWER_TIMEOUT_MS = 15_000;
/** First step and cap of the pause between retries. */
export const RETRY_FIRST_MS = 1_000;
export const RETRY_MAX_MS = 60_000;
/** Retries after the view has ended. */
export const RETRIES_AFTER_END = 6;

/** How long an hls.js view waits for its id in the playlist before it takes a random one. */
export const VIEW_ID_WAIT_MS = 5_000;
/** Characters of a title and of a message: 4 and 1 KiB on the wire at worst. */
export const TITLE_MAX_CHARS = 1_000;
export const MESSAGE_MAX_CHARS = 250;
/** Characters of a random view id: 95 bits. */
export const VIEW_ID_CHARS = 16;

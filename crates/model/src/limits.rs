//! Every limit, with its reason. Sizes that an operator may change are configuration, not here.

/// Characters of an id: long enough for a UUID with a prefix, and CMCD allows 64 for `sid`.
pub const ID_MAX_CHARS: usize = 64;
/// Characters of a content id: CMCD allows 128 for `cid`.
pub const CONTENT_ID_MAX_CHARS: usize = 128;

/// Bytes of a beacon as sent: the largest batch a well-made SDK sends is 500 KB (Mux's limit too).
pub const BEACON_MAX_BYTES: usize = 512 * 1024;
/// Bytes of a beacon unpacked: a gzip bomb ends here.
pub const BEACON_MAX_UNPACKED_BYTES: usize = 4 * 1024 * 1024;
/// Events of a beacon.
pub const BEACON_MAX_EVENTS: usize = 300;
/// Bytes of a free text in an event.
pub const TEXT_MAX_BYTES: usize = 4 * 1024;
/// Pathways a view's counters may name in one event: a playlist holds at most six.
pub const EVENT_MAX_PATHWAYS: usize = 8;
/// What JavaScript can count to: a larger number is not meant.
pub const NUMBER_MAX: u64 = 1 << 53;
/// Rows of a batch that a role posts: an edge's log of a second at 10,000 requests.
pub const SERVICE_ROWS_MAX: usize = 10_000;
/// CMCD keys of one request: version 2 has some 60, and a player may add its own.
pub const CMCD_MAX_KEYS: usize = 96;
/// Bytes of a refused event that quarantine keeps: enough to see what it was.
pub const QUARANTINE_MAX_BYTES: usize = 4 * 1024;
/// How far an event may lie back: later ones go to quarantine.
pub const EVENT_MAX_AGE_MS: u64 = 48 * 3600 * 1000;

/// Records of a CMCD body: what fits into its bytes. A player that could not send for long sends all it has at once, and
/// one that is refused sends the same again for ever (dash.js).
pub const CMCD_MAX_RECORDS: usize = 4_000;
/// Bytes of one CMCD record: a `url` with a long token fits, a body that is one line does not.
pub const CMCD_RECORD_MAX_BYTES: usize = 8 * 1024;
/// Keys of a CMCD record beside those of the standard.
pub const CMCD_OTHERS_MAX: usize = 16;
/// Bytes of such a key: a reverse domain name with a name behind it.
pub const CMCD_KEY_MAX_BYTES: usize = 64;
/// Bytes of a CMCD value that is stored as text; CTA-5004 allows custom values 64 characters, headers of a response
/// (`cmsdd`, `smrt`) need more.
pub const CMCD_VALUE_MAX_BYTES: usize = 1024;
/// Characters of a CMCD target's name.
pub const CMCD_TARGET_MAX_CHARS: usize = 32;

/// Pathways of one playlist: more would make every player try long.
pub const PLAYLIST_MAX_PATHWAYS: usize = 6;
/// Pathways of one playlist: with a single one and that one dead, hls.js and Shaka stall for good.
pub const PLAYLIST_MIN_PATHWAYS: usize = 2;
/// Nodes that a playlist holds of one group.
pub const PLAYLIST_NODES_PER_GROUP: usize = 2;
/// Bytes of an origin's multivariant playlist or MPD.
pub const PLAYLIST_MAX_BYTES: usize = 5 * 1024 * 1024;

/// Shortest TTL of a steering answer, seconds.
pub const TTL_MIN_S: u32 = 2;
/// Longest TTL of a steering answer, seconds.
pub const TTL_MAX_S: u32 = 300;

/// Weights of a cohort sum to this.
pub const WEIGHT_TOTAL_PPM: u32 = 1_000_000;
/// Content classes of a deployment.
pub const CONTENT_CLASSES_MAX: usize = 32;
/// ASNs a region's frames tell apart; the others count as unknown.
pub const ASNS_PER_REGION_MAX: usize = 1_000;
/// Titles in a frame's content table.
pub const FRAME_CONTENT_MAX: usize = 200;
/// Manifests kept per region.
pub const MANIFEST_HISTORY: usize = 100;
/// Bytes of one manifest envelope: a region of 1,000 cohorts is well below.
pub const MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;

/// In flight longer than this is late: two live segments' time, before a usual live buffer runs out.
pub const REQUEST_LATE_MS: u64 = 4_000;
/// A view is silent, and closed, after this long without an event.
pub const VIEW_SILENCE_MS: u64 = 90_000;
/// An edge is gone after this many missed reports.
pub const LOAD_REPORTS_MISSED_MAX: u32 = 3;
/// Interval of load reports.
pub const LOAD_REPORT_INTERVAL_MS: u64 = 2_000;
/// An override must end by then (AWS ARC's rule).
pub const OVERRIDE_MAX_MS: u64 = 72 * 3600 * 1000;

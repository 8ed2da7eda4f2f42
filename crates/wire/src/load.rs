//! Load report v1 of an own edge, and the directives in its answer (`POST /v1/loads`, every 2 s).

use serde::{Deserialize, Serialize};

/// The version that this module reads and writes.
pub const LOAD_VERSION: u32 = 1;
/// Paths to prewarm in one answer.
pub const PREWARM_MAX: usize = 64;

/// What an own edge says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// 1.
    pub v: u32,
    /// The pathway that it is.
    pub pathway: String,
    /// Cluster that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Region that it stands in.
    pub region: String,
    /// Absolute base URL that viewers reach it by.
    pub base_url: String,
    /// 0, 1, 2 … per start.
    pub seq: u64,
    /// Its wall clock, ms since epoch.
    pub sent_ms: u64,
    /// Length of the reported interval.
    pub interval_ms: u64,
    /// Ceiling, bit/s.
    pub ceiling_bps: u64,
    /// Bits out per second in the interval.
    pub bits_out_bps: u64,
    /// Bits out per second, mean of the last 10 s.
    pub bits_out_10s_bps: u64,
    /// Bits out in a second that 95 % of the last minute's seconds did not exceed; absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_out_p95_bps: Option<u64>,
    /// Bits out per second a minute from now, if the last minute goes on so; absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_out_in_60s_bps: Option<u64>,
    /// Distinct active viewers (sessions, not connections), last 10 s.
    pub viewers: u64,
    /// Bits per viewer and second.
    pub bits_per_viewer_bps: u64,
    /// Open connections.
    pub connections: u64,
    /// Requests in the interval.
    pub requests: u64,
    /// Requests answered with 5xx in the interval.
    pub requests_failed: u64,
    /// Hits ÷ requests in the interval, ppm; absent without requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_ratio_ppm: Option<u32>,
    /// Requests that were no hits, by what they were for want of; absent = not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misses: Option<Misses>,
    /// CPU of the process in the interval, ppm of one core; absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ppm: Option<u32>,
    /// Memory of the process, bytes; absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Disk tier used, ppm; absent = no disk tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_ppm: Option<u32>,
    /// The origin as seen from here.
    pub origin: OriginSeen,
    /// Most wanted titles or paths, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_content: Vec<ContentLoad>,
    /// Most watched titles, the most watched first, at most 20; absent = not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top_titles: Vec<TitleLoad>,
    /// Being drained.
    pub draining: bool,
}

/// Requests of an interval that were no hits. Of ratios of intervals no ratio can be made, so these are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misses {
    /// The object was not there, or no longer good.
    pub content: u64,
    /// The origin failed.
    pub origin: u64,
    /// What no cache could have answered: for one client alone, other methods, refused.
    pub other: u64,
}

/// The origin as seen from an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginSeen {
    /// `up`, `failing` or `unknown`.
    pub state: String,
    /// Fetches in the interval.
    pub fetches: u64,
    /// Failed ones.
    pub failed: u64,
    /// Bytes fetched.
    pub bytes: u64,
}

/// Load by title or path prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentLoad {
    /// Title or path prefix.
    pub content: String,
    /// Bits out in the interval.
    pub bits: u64,
}

/// How much a title is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TitleLoad {
    /// Path of its multivariant playlist or MPD; of a media playlist where the multivariant one is served elsewhere.
    pub playlist: String,
    /// Requests for its segments in the interval.
    pub requests: u64,
}

/// Answer to a load report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directives {
    /// 1.
    pub v: u32,
    /// Epoch that the directives come from.
    pub epoch: u64,
    /// New sessions are admitted.
    pub admit: bool,
    /// Where new sessions may be redirected when not admitted: absolute base URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_to: Option<String>,
    /// Paths to fetch before they are asked for, the most important first, at most [`PREWARM_MAX`]. Of a playlist, what
    /// a player that begins with it asks for is meant, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prewarm: Vec<String>,
    /// Being drained by decision.
    pub drain: bool,
}

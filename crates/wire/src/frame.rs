//! Live rollup frame v1: one per collector (and steering node) and second, mergeable by addition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lenient::is_zero;

/// The version that this module reads and writes.
pub const FRAME_VERSION: u32 = 1;

/// Bus topic of frames.
pub const FRAME_TOPIC: &str = "rollup";

/// What one collector or steering node counted in one interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// 1.
    pub v: u32,
    /// Which process.
    pub source: String,
    /// `collector` or `steer`.
    pub kind: String,
    /// 0, 1, 2 … per source and start; a gap is a lost frame.
    pub seq: u64,
    /// Interval begins, ms since epoch.
    pub start_ms: u64,
    /// Interval ends, ms since epoch.
    pub end_ms: u64,
    /// Counters by cell.
    pub cells: Vec<Cell>,
    /// Views by title, the 200 largest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<ContentViews>,
    /// Viewers by device class, for the coverage of beacons: what steering nodes see beside what collectors hear.
    /// Absent in frames of older senders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceViews>,
}

/// Key of a cell.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellKey {
    /// Property.
    pub property: String,
    /// Pathway; empty where none is known yet (a start that reached no media).
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Network; absent = unknown or beyond the 1,000 told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// `hls`, `dash` or `other`.
    pub protocol: String,
}

/// Counters of one cell in one interval. All but the gauges (`views_active`) add up over intervals; all add up over
/// sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cell {
    /// Key.
    #[serde(flatten)]
    pub key: CellKey,
    /// Gauge: views that are on this pathway now.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_active: u64,
    /// Views that started here.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_new: u64,
    /// Windows closed (a window is a view's time between two heartbeats).
    #[serde(skip_serializing_if = "is_zero")]
    pub windows: u64,
    /// Bad ones by reason: `start_failure`, `fatal_error`, `stall`, `slow_start`, `silence`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bad: BTreeMap<String, u64>,
    /// Sum of window weights in thousandths, after the caps per session and prefix.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_milli: u64,
    /// Weight of the bad ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub bad_weight_milli: u64,
    /// Sum of squared weights, in millionths: effective sample size = weight² ÷ this.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_sq_micro: u64,
    /// Media requests answered well.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_ok: u64,
    /// Media requests failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_failed: u64,
    /// Media requests in flight for more than 4 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_late: u64,
    /// Distinct views with a failed request in this interval, after the caps.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_failing: u64,
    /// Distinct views with a late request in this interval, after the caps.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_late: u64,
    /// Bits of media delivered.
    #[serde(skip_serializing_if = "is_zero")]
    pub bits: u64,
    /// Time played, ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub playing_ms: u64,
    /// Time stalled, ms.
    #[serde(skip_serializing_if = "is_zero")]
    pub stall_ms: u64,
    /// TTFB sketch: index → count, where index = ceil(ln(ms) / ln(γ)), γ = 1.02/0.98 (`DDSketch`, 2 % relative error).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ttfb_sketch: BTreeMap<i32, u64>,
    /// Heartbeats that were due.
    #[serde(skip_serializing_if = "is_zero")]
    pub heartbeats_due: u64,
    /// Heartbeats that came.
    #[serde(skip_serializing_if = "is_zero")]
    pub heartbeats_received: u64,
    /// First windows after a switch, left out of health.
    #[serde(skip_serializing_if = "is_zero")]
    pub windows_left_out: u64,
    /// Gauge: views with a bad window here in the last minute, also those that are over or have left.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_bad: u64,
    /// Steering: sessions assigned to this pathway first, by playlist or decision.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_assigned: u64,
    /// Steering: polls answered with this pathway first.
    #[serde(skip_serializing_if = "is_zero")]
    pub polls: u64,
    /// Steering: gauge of distinct sessions that polled in the last TTL.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_polling: u64,
    /// Steering: playlists issued, then neither beacon nor poll.
    #[serde(skip_serializing_if = "is_zero")]
    pub ghost_starts: u64,
    /// Steering: requests without a valid session token, which were answered with this pathway first. Absent in frames
    /// of older senders.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_untrusted: u64,
    /// Steering: polls of sessions that were on this pathway at their last poll and were told to stay there. Absent in
    /// frames of older senders, like the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_settled: u64,
    /// Steering: of these, sessions that are elsewhere now.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_fled: u64,
}

/// Views of one title.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentViews {
    /// Title.
    pub content: String,
    /// Region.
    pub region: String,
    /// Gauge: views that watch it.
    pub views_active: u64,
}

/// Viewers with one class of device in one region. The gauges add up over sources, the rest also over intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceViews {
    /// Region.
    pub region: String,
    /// `desktop`, `mobile`, `tablet`, `tv`, `stb`, `console`, `other`, or `unknown`.
    pub device: String,
    /// Collector, gauge: views that report now.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_active: u64,
    /// Steering: sessions that got a playlist or a decision.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_assigned: u64,
    /// Steering, gauge: distinct sessions that polled in the last TTL.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_polling: u64,
    /// Steering: playlists issued, then no poll.
    #[serde(skip_serializing_if = "is_zero")]
    pub ghost_starts: u64,
}

impl Cell {
    /// Bad windows of all reasons.
    #[must_use]
    pub fn bad_windows(&self) -> u64 {
        self.bad.values().sum()
    }
}

//! What the orchestrator knows at the end of a round, for pages and terminals (bus topic and `GET /v1/overview`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bus topic of overviews.
pub const OVERVIEW_TOPIC: &str = "overview";

/// Regions × pathways at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// 1.
    pub v: u32,
    /// When, ms since epoch.
    pub at_ms: u64,
    /// By region.
    pub regions: BTreeMap<String, RegionView>,
    /// By pathway, over all regions.
    pub pathways: BTreeMap<String, PathwayTotals>,
    /// Newest last, at most 50.
    pub log: Vec<LogLine>,
    /// Share of frames that came, ppm; below 700,000 telemetry is not trusted.
    pub telemetry_ppm: u32,
    /// By device class, over all regions: who is steered, and who of them reports. Absent where nobody is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, DeviceCoverage>,
    /// Orders in force and what else to know that is no state of a pathway. Absent without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Something that holds now, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// `override`; `freeze`, `ad_break` or `event`; `canary` (a policy on trial or judged); `commit` (a volume that is
    /// paid and will not be used).
    pub kind: String,
    /// Region, if one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// What and why.
    pub text: String,
    /// Ends by itself, ms since epoch; absent = it has no end of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// Beacon coverage of one device class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceCoverage {
    /// Views that report now.
    pub views_active: u64,
    /// Sessions that poll steering now.
    pub sessions_polling: u64,
    /// Views that report ÷ sessions that poll, at most 1,000,000, ppm; absent = no session polls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage_ppm: Option<u32>,
    /// Playlists of the last minute that no poll followed.
    pub ghost_starts: u64,
}

/// One region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegionView {
    /// Epoch in force.
    pub epoch: u64,
    /// `observe`, `shadow` or `control`.
    pub mode: String,
    /// Views now.
    pub views_active: u64,
    /// Demand as planned for, bit/s.
    pub demand_bps: u64,
    /// Highest bitrate allowed, kbit/s, if demand exceeds all capacity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate_kbps: Option<u32>,
    /// By pathway.
    pub pathways: BTreeMap<String, PathwayView>,
    /// Verdicts in force, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<String>,
}

/// One pathway in one region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathwayView {
    /// State word.
    pub state: String,
    /// Why, for people.
    pub reason: String,
    /// In this state since, ms since epoch.
    pub since_ms: u64,
    /// Planned share of new views, ppm.
    pub weight_ppm: u32,
    /// Share of views now, ppm.
    pub share_ppm: u32,
    /// Views now.
    pub views_active: u64,
    /// Share of good windows in the last minute, ppm; absent = no window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_ppm: Option<u32>,
    /// Probes: `ok`, `bad` or `none`.
    pub probe: String,
}

/// One pathway over all regions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathwayTotals {
    /// `own` or `commercial`.
    pub kind: String,
    /// 10 s mean bits out ÷ ceiling, ppm; absent = unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilisation_ppm: Option<u32>,
    /// Ceiling, bit/s.
    pub capacity_bps: u64,
    /// Price, USD per GB.
    pub price_usd_per_gb: f64,
    /// Last load report, ms since epoch (own edges).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_ms: Option<u64>,
}

/// Something that happened, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When, ms since epoch.
    pub at_ms: u64,
    /// Region, if one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// What and why.
    pub text: String,
}

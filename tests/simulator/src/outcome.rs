//! What is measured in one run. Definitions as in the design: `detect_s` = fault injected → a manifest that takes at
//! least half of the broken pathway's share away; a view leaves with its first media request elsewhere and none to the
//! broken pathway after it; harmed view-minutes = minutes of views in a bad window.

use std::collections::BTreeMap;

use serde::Serialize;

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Scenario.
    pub scenario: String,
    /// Policy.
    pub policy: String,
    /// `fluid` or `session`.
    pub mode: String,
    /// Seed.
    pub seed: u64,
    /// Views that were there or came (session mode; 0 in fluid mode).
    pub views_started: u64,
    /// Manifests published over all regions.
    pub epochs: u64,
    /// First fault of a pathway → manifest that leaves it (see above); absent if none came.
    pub detect_s: Option<f64>,
    /// Largest TTL of an affected view at the time of the fault (session mode).
    pub ttl_s: f64,
    /// Views on the pathway when the fault began, that outlived it or left (session mode).
    pub views_affected: u64,
    /// Of them, left by a steering answer.
    pub left_by_steering: u64,
    /// Of them, left by themselves.
    pub left_by_player: u64,
    /// Of them, never left although they follow steering.
    pub stayed: u64,
    /// Of them, ignore steering and never left.
    pub stayed_ignoring: u64,
    /// Fault → left, median of the steerable ones that left; absent if none did.
    pub leave_s_p50: Option<f64>,
    /// Fault → left, 95th percentile of all steerable ones; absent if fewer than 95 % left.
    pub leave_s_p95: Option<f64>,
    /// Minutes of views in a bad window, those that are bad on any day included.
    pub harmed_view_minutes: f64,
    /// The same in a world where nothing is broken on the same pathways at the same seed isn't known here: minutes
    /// above the usual rate of the pathway that each view was on.
    pub excess_view_minutes: f64,
    /// Bad windows ÷ windows.
    pub bad_share: f64,
    /// Bits above ceilings ÷ bits.
    pub overload_share: f64,
    /// Bits delivered ÷ bits wanted.
    pub bitrate_share: f64,
    /// Highest bits out ÷ ceiling, 10 s mean, once settled, by pathway.
    pub peak_utilisation: BTreeMap<String, f64>,
    /// Cost of delivery, USD.
    pub cost_usd: f64,
    /// What was billed, by pathway; those that cost nothing are left out.
    pub bills: BTreeMap<String, Billed>,
    /// What the cheapest plan costs that keeps the engine's own rules and knows all demand, USD (oracle, worlds with
    /// contracts).
    pub within_rules_usd: Option<f64>,
    /// Shares of regions that were moved, weighted by their views.
    pub moved: f64,
    /// Highest bits from the origin once settled ÷ their mean before the first fault or surge.
    pub origin_peak: f64,
    /// States that changed.
    pub state_changes: Vec<StateChange>,
    /// Weight for new views of the first faulty pathway in its region (the first one, if everywhere), when it changed.
    pub faulty_weight: Vec<WeightChange>,
    /// For plots.
    #[serde(skip)]
    pub timeline: Timeline,
}

/// What a pathway was paid for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Billed {
    /// Volume, TB.
    pub tb: f64,
    /// 95th percentile of 5-minute means, Mbit/s.
    pub p95_mbps: f64,
    /// USD.
    pub usd: f64,
}

/// A state that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// When, s after the start.
    pub at_s: u64,
    /// Where.
    pub region: String,
    /// Which pathway.
    pub pathway: String,
    /// Into which state.
    pub state: String,
    /// Why.
    pub reason: String,
}

/// A weight that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WeightChange {
    /// When, s after the start.
    pub at_s: u64,
    /// New weight, ppm.
    pub weight_ppm: u32,
}

/// Samples over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Pathways, own clusters as one.
    pub lines: Vec<String>,
    /// Samples.
    pub samples: Vec<Sample>,
}

/// One sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// s after the start.
    pub at_s: u64,
    /// Share of all views, by line.
    pub shares: Vec<f64>,
    /// Load ÷ ceiling, by line, the fullest node of a cluster.
    pub utilisation: Vec<f64>,
    /// Bad windows ÷ windows.
    pub bad: f64,
    /// Bits from the origin ÷ usual.
    pub origin: f64,
    /// USD per hour.
    pub cost: f64,
}

/// The value below which `part` of `sorted` lies (nearest rank), of `all` values of which the missing are infinite.
pub(crate) fn percentile(sorted: &[f64], all: usize, part: f64) -> Option<f64> {
    let rank = ((all as f64 * part).ceil() as usize).max(1);
    sorted.get(rank - 1).copied()
}

//! What is measured. Definitions as in the design: `detect_s` = fault injected → epoch published; a view leaves with its
//! first media request elsewhere and none to the dead pathway after it; `ttl_s` = the largest TTL, jitter included,
//! handed to an affected view before detection; harmed view-minutes = minutes of views in a bad window.

use std::collections::BTreeMap;

use serde::Serialize;

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Scenario.
    pub scenario: String,
    /// `spillway` or `static`.
    pub policy: String,
    /// Seed.
    pub seed: u64,
    /// Views that were there or came.
    pub views_started: u64,
    /// Manifests published over all regions.
    pub epochs: u64,
    /// First fault → epoch with the pathway DOWN; absent if none came.
    pub detect_s: Option<u64>,
    /// Largest TTL of an affected view at the time of the fault.
    pub ttl_s: f64,
    /// Views on the pathway when the first fault began, that outlived it or left.
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
    pub leave_s_p50: Option<u64>,
    /// Fault → left, 95th percentile of all steerable ones; absent if fewer than 95 % left.
    pub leave_s_p95: Option<u64>,
    /// Minutes of views in a bad window, those that are bad on any day included.
    pub harmed_view_minutes: f64,
    /// Good windows ÷ windows.
    pub good_share: f64,
    /// Bits out ÷ ceiling, 10 s mean, highest from the 30th second on, by pathway.
    pub peak_utilisation: BTreeMap<String, f64>,
    /// Cost of delivery, USD.
    pub cost_usd: f64,
    /// States that changed.
    pub state_changes: Vec<StateChange>,
    /// Weight for new views of the first faulty pathway in its region (the first one, if everywhere), when it changed.
    pub faulty_weight: Vec<WeightChange>,
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

/// Both policies on one seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// With decisions.
    pub spillway: Outcome,
    /// With static weights.
    pub r#static: Outcome,
}

/// The value below which `part` of `sorted` lies (nearest rank), of `all` values of which the missing are infinite.
pub(crate) fn percentile(sorted: &[u64], all: usize, part: f64) -> Option<u64> {
    let rank = ((all as f64 * part).ceil() as usize).max(1);
    sorted.get(rank - 1).copied()
}

//! What a drill showed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::evidence::{Effect, Sums};
use super::file::Drill;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// Ran to its end, and the hypothesis held.
    Succeeded,
    /// Ran to its end, and it did not.
    Failed,
    /// Stopped by a rule or by an operator.
    Aborted,
    /// A step did not work.
    Interrupted,
    /// Did not begin: the others could not have carried the load.
    CapacityCheckFailed,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Since the first step, s.
    pub at_s: f64,
    /// What.
    pub text: String,
}

/// The report. Times are since the first step; `null` = it did not happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was to be done.
    pub drill: Drill,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, in words.
    pub why: String,
    /// Who started it.
    pub by: String,
    /// First step, ms since epoch.
    pub started_ms: u64,
    /// A manifest in which the pathway is DOWN or DEGRADED was published.
    pub detect_s: Option<f64>,
    /// Half of the views that were on the pathway are off it, by the live rollups' gauge.
    pub leave_s_p50: Option<f64>,
    /// 95 % of them are.
    pub leave_s_p95: Option<f64>,
    /// The pathway was HEALTHY again.
    pub recovered_s: Option<f64>,
    /// Views on the pathway in the region at the start.
    pub views_affected: u64,
    /// Manifests published for the region meanwhile: first and last epoch.
    pub epochs: (u64, u64),
    /// Highest 10 s mean utilisation meanwhile, by pathway.
    pub utilisation_peak: BTreeMap<String, f64>,
    /// The drilled cell (pathway × region).
    pub treated: Group,
    /// The control group: the region's other pathways.
    pub control: Group,
    /// Effect on bad windows against the control group; `null` where a group had no window.
    pub effect: Option<Effect>,
    /// What happened, in order.
    pub timeline: Vec<Event>,
}

/// Windows before and during.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Which cells.
    pub of: String,
    /// The last minute before.
    pub before: Sums,
    /// From the first step to the restore.
    pub during: Sums,
}

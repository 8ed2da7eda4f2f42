//! What goes into a round and what comes out of it, in domain types.

mod evidence;
mod learned;
mod order;
mod output;
mod setup;

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_model::{PathwayId, RegionId};
use spillway_routing::DrillNote;

pub use evidence::{
    CapacityLimit, CellEvidence, ClassEvidence, ContentEvidence, LoadEvidence, OriginEvidence, OriginSeen,
    ProbeEvidence, ProbeObject, SourceKind,
};
pub(crate) use learned::HOURS_OF_WEEK;
pub use learned::{Bill, HitRatio, Learned, NetworkHealth};
pub use order::{Calm, CalmKind, Override, OverrideKind};
pub use output::{
    CanaryNote, CanaryState, FindingNote, LogEntry, PathwayTotals, PathwayTrace, RegionPlan, RoundOutput,
};
pub use setup::{Canary, PathwaySetup, PriceSheet, PriceTier, RegionSetup, Setup, SharedCeilings, Switches};

/// Everything that was heard since the last round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundInput {
    /// Counters out of frames.
    pub cells: Vec<CellEvidence>,
    /// Load reports.
    pub loads: Vec<LoadEvidence>,
    /// Probe results.
    pub probes: Vec<ProbeEvidence>,
    /// Views by title, as the frames' content tables count them; may be empty.
    pub content: Vec<ContentEvidence>,
    /// All overrides that are stored; those out of their time are ignored here.
    pub overrides: Vec<Override>,
    /// Views by content class; may be empty.
    pub classes: Vec<ClassEvidence>,
    /// Load and health of origin groups; may be empty.
    pub origins: Vec<OriginEvidence>,
    /// Limits that CDNs publish of themselves, all that are known.
    pub limits: Vec<CapacityLimit>,
    /// Freezes in force, and regions in a live ad break: no optimisation moves there.
    pub calm: Vec<Calm>,
    /// Usual bad-window rate, learned from the lake; `learned.baselines` comes first.
    pub baselines: BTreeMap<(PathwayId, RegionId), f64>,
    /// What else the lake has taught.
    pub learned: Arc<Learned>,
    /// What has been used and paid in the billing period.
    pub bills: BTreeMap<PathwayId, Bill>,
    /// Frames that were due since the last round.
    pub frames_expected: u32,
    /// Frames that came.
    pub frames_received: u32,
    /// Drill in progress.
    pub drill: Option<DrillNote>,
}

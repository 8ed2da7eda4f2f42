//! What a round decided.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, ContentId, PathwayId, Ppm, RegionId, Verdict};
use spillway_routing::Manifest;

/// What a round decided.
#[derive(Clone, Debug)]
pub struct RoundOutput {
    /// By region.
    pub regions: BTreeMap<RegionId, RegionPlan>,
    /// By pathway, over all regions.
    pub pathways: BTreeMap<PathwayId, PathwayTotals>,
    /// What happened in this round, in words.
    pub log: Vec<LogEntry>,
    /// Share of frames that came lately; below `telemetry_min` they are not trusted.
    pub telemetry: Ppm,
    /// The policy under trial, if one is declared.
    pub canary: Option<CanaryNote>,
}

/// One region's plan.
#[derive(Clone, Debug)]
pub struct RegionPlan {
    /// Ready to publish but for `epoch` (0 here) and `valid_until` (= `issued` here). Compare with
    /// [`same_routing`](crate::same_routing) to see whether it is worth an epoch.
    pub manifest: Manifest,
    /// Views now.
    pub views_active: u64,
    /// Demand as planned for: measured, forecast and charged.
    pub demand: BitsPerSecond,
    /// Share of views now.
    pub shares: BTreeMap<PathwayId, Ppm>,
    /// Good windows ÷ windows of the last minute; `None` without windows.
    pub good: BTreeMap<PathwayId, Option<Ppm>>,
    /// Views now.
    pub views: BTreeMap<PathwayId, u64>,
    /// Last probes good or bad; `None` if there are no recent ones.
    pub probes: BTreeMap<PathwayId, Option<bool>>,
    /// Verdicts in force, for people.
    pub verdicts: Vec<String>,
    /// The same as data.
    pub findings: Vec<FindingNote>,
    /// Guards that held something back in this round, for people.
    pub guards: Vec<String>,
    /// The numbers behind the weights.
    pub trace: BTreeMap<PathwayId, PathwayTrace>,
    /// Part of the demand that no capacity is left for.
    pub unmet: Ppm,
    /// What the plan costs, USD per hour at list or contract prices of the margin.
    pub cost_usd_per_hour: f64,
}

/// A verdict as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingNote {
    /// What it is put down to.
    pub verdict: Verdict,
    /// The pathway, if it is one.
    pub pathway: Option<PathwayId>,
    /// The network, if it is one.
    pub asn: Option<u32>,
    /// Titles concerned; empty: all.
    pub content: Vec<ContentId>,
    /// What is seen, with numbers.
    pub text: String,
}

/// The chain of numbers that leads to a pathway's weight in a region.
#[derive(Clone, Debug, PartialEq)]
pub struct PathwayTrace {
    /// Bad-window rate, estimated.
    pub rate: f64,
    /// 90 % interval of it.
    pub rate_interval: (f64, f64),
    /// Effective number of windows behind it.
    pub windows: f64,
    /// Usual rate.
    pub baseline: f64,
    /// Rate of the other pathways of the region.
    pub reference: f64,
    /// CUSUM, nats.
    pub cusum: f64,
    /// Part of the usual share that its state allows.
    pub factor: f64,
    /// Bit/s of the region's demand that it is planned up to.
    pub target_bps: f64,
    /// Bit/s that nothing but a panic exceeds.
    pub ceiling_bps: f64,
    /// What the next GB costs, USD.
    pub price_usd_per_gb: f64,
    /// Good enough to be chosen by cost.
    pub in_floor: bool,
    /// Share that it is meant to have.
    pub wanted: f64,
    /// Share in force.
    pub share: f64,
}

/// How the policy under trial fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryNote {
    /// Its name.
    pub policy: String,
    /// Where it stands.
    pub state: CanaryState,
    /// Why, with numbers.
    pub text: String,
}

/// Where a policy under trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryState {
    /// In force in its region only.
    OnTrial,
    /// In force everywhere.
    Accepted,
    /// Taken back.
    RolledBack,
}

/// One pathway over all regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathwayTotals {
    /// Load ÷ ceiling; may exceed all; measured by load reports, else estimated from views; `None` if unknown.
    pub utilisation: Option<Ppm>,
    /// Ceiling by configuration, load report or override, whichever is lowest.
    pub capacity: BitsPerSecond,
    /// Ceiling as learned.
    pub learned_capacity: BitsPerSecond,
    /// Demand planned onto it.
    pub demand: BitsPerSecond,
}

/// Something that happened, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Region, if one.
    pub region: Option<RegionId>,
    /// What and why.
    pub text: String,
}

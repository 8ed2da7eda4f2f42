//! What goes into a round and what comes out of it, in domain types.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{
    BitsPerSecond, ContentId, GroupId, Millis, Mode, OriginGroupId, PathwayId, PathwayKind, Ppm, Protocol, RegionId,
    TimestampMs,
};
use spillway_routing::{DrillNote, Manifest, Serves, Target, Weights};

use crate::Parameters;

/// What a deployment declares.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Regions.
    pub regions: BTreeMap<RegionId, RegionSetup>,
    /// Pathways.
    pub pathways: BTreeMap<PathwayId, PathwaySetup>,
    /// Every number that decides.
    pub parameters: Parameters,
    /// Name of the policy, written into each manifest.
    pub policy: String,
}

/// A region as declared.
#[derive(Clone, Debug)]
pub struct RegionSetup {
    /// How far Spillway is in charge.
    pub mode: Mode,
    /// Share of sessions under control; the others are the holdback.
    pub control: Ppm,
    /// Weights when all else is lost and for the holdback; any positive numbers, brought to 1,000,000 here.
    pub static_weights: Weights,
}

/// A pathway as declared.
#[derive(Clone, Debug)]
pub struct PathwaySetup {
    /// Own node or commercial CDN.
    pub kind: PathwayKind,
    /// Own cluster that it is a node of.
    pub group: Option<GroupId>,
    /// Regions that it may serve; empty: all.
    pub regions: BTreeSet<RegionId>,
    /// Ceiling by configuration or agreement.
    pub capacity: BitsPerSecond,
    /// Price of delivery, USD per GB.
    pub price_usd_per_gb: f64,
    /// Names of what dies together with it; its own id and its group are added here.
    pub failure_domains: BTreeSet<String>,
    /// Where its misses go.
    pub origin_group: OriginGroupId,
    /// Absolute URL that media paths are appended to.
    pub base_url: String,
    /// What it can carry.
    pub serves: Serves,
}

/// Everything that was heard since the last round.
#[derive(Clone, Debug, Default)]
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
    /// Usual bad-window rate, learned from the lake.
    pub baselines: BTreeMap<(PathwayId, RegionId), f64>,
    /// Frames that were due since the last round.
    pub frames_expected: u32,
    /// Frames that came.
    pub frames_received: u32,
    /// Drill in progress.
    pub drill: Option<DrillNote>,
}

/// Which kind of process counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A collector: beacons.
    Collector,
    /// A steering node: polls and assignments.
    Steer,
}

/// One cell of one frame. All counters but `views_active` (a gauge) are of the interval.
#[derive(Clone, Debug, PartialEq)]
pub struct CellEvidence {
    /// End of the interval.
    pub at: TimestampMs,
    /// Length of the interval.
    pub interval: Millis,
    /// Which process counted.
    pub source: String,
    /// Its kind.
    pub kind: SourceKind,
    /// Pathway.
    pub pathway: PathwayId,
    /// Region.
    pub region: RegionId,
    /// Network, if known.
    pub asn: Option<u32>,
    /// Streaming protocol.
    pub protocol: Protocol,
    /// Gauge: views on this pathway now.
    pub views_active: u64,
    /// Views that started here.
    pub views_new: u64,
    /// Windows closed.
    pub windows: u64,
    /// Bad ones.
    pub bad_windows: u64,
    /// Sum of window weights, thousandths.
    pub weight_milli: u64,
    /// Weight of the bad ones, thousandths.
    pub bad_weight_milli: u64,
    /// Sum of squared weights, millionths.
    pub weight_sq_micro: u64,
    /// Media requests answered well.
    pub requests_ok: u64,
    /// Media requests failed.
    pub requests_failed: u64,
    /// Media requests in flight for more than 4 s.
    pub requests_late: u64,
    /// Distinct views with a failed request.
    pub views_failing: u64,
    /// Distinct views with a late request.
    pub views_late: u64,
    /// Bits of media delivered.
    pub bits: u64,
    /// Heartbeats due.
    pub heartbeats_due: u64,
    /// Heartbeats that came.
    pub heartbeats_received: u64,
    /// Steering: sessions assigned here first.
    pub sessions_assigned: u64,
    /// Steering, gauge: sessions that polled in the last TTL.
    pub sessions_polling: u64,
}

impl CellEvidence {
    /// A cell of one second in which nothing was counted.
    #[must_use]
    pub fn empty(at: TimestampMs, source: &str, kind: SourceKind, pathway: PathwayId, region: RegionId) -> Self {
        Self {
            at,
            interval: Millis(1000),
            source: source.to_owned(),
            kind,
            pathway,
            region,
            asn: None,
            protocol: Protocol::Other,
            views_active: 0,
            views_new: 0,
            windows: 0,
            bad_windows: 0,
            weight_milli: 0,
            bad_weight_milli: 0,
            weight_sq_micro: 0,
            requests_ok: 0,
            requests_failed: 0,
            requests_late: 0,
            views_failing: 0,
            views_late: 0,
            bits: 0,
            heartbeats_due: 0,
            heartbeats_received: 0,
            sessions_assigned: 0,
            sessions_polling: 0,
        }
    }
}

/// What an own edge says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadEvidence {
    /// The edge.
    pub pathway: PathwayId,
    /// When it said so.
    pub at: TimestampMs,
    /// Its ceiling.
    pub ceiling: BitsPerSecond,
    /// Bits out, mean of 10 s.
    pub bits_out_10s: BitsPerSecond,
    /// Distinct active viewers.
    pub viewers: u64,
    /// Bits per viewer.
    pub bits_per_viewer: BitsPerSecond,
    /// Hits ÷ requests; `None` without requests.
    pub hit_ratio: Option<Ppm>,
    /// The origin as seen from there.
    pub origin: OriginSeen,
    /// It is being drained.
    pub draining: bool,
}

/// The origin as an edge sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OriginSeen {
    /// It answers.
    Up,
    /// It fails.
    Failing,
    /// It was not asked.
    #[default]
    Unknown,
}

/// What a probe fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeObject {
    /// A small cached object.
    Small,
    /// A media segment.
    Segment,
    /// An object that no cache holds: it goes to the origin.
    Miss,
}

/// One fetch by us.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeEvidence {
    /// Pathway.
    pub pathway: PathwayId,
    /// Region of the vantage point.
    pub region: RegionId,
    /// What was fetched.
    pub object: ProbeObject,
    /// When it began.
    pub at: TimestampMs,
    /// Right status, all bytes, in time.
    pub ok: bool,
    /// Time to last byte, or until given up.
    pub total_ms: u64,
    /// Why not, for people.
    pub detail: String,
}

/// Views of one title in one region, summed over sources.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentEvidence {
    /// Title.
    pub content: ContentId,
    /// Region.
    pub region: RegionId,
    /// Gauge: views that watch it.
    pub views_active: u64,
}

/// What an override does to its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OverrideKind {
    /// No new views at once, running views leave over the drain time.
    Drain,
    /// No views at once.
    Exclude,
    /// All views, even if it is DOWN.
    Pin,
    /// A fixed share, 0 to 1, as long as it isn't DOWN.
    Weight(f64),
    /// A lower ceiling.
    Cap(BitsPerSecond),
}

impl OverrideKind {
    /// Word for manifests and pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Exclude => "exclude",
            Self::Pin => "pin",
            Self::Weight(_) => "weight",
            Self::Cap(_) => "cap",
        }
    }
}

/// An operator's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: OverrideKind,
    /// To what; a group means each of its nodes.
    pub target: Target,
    /// Where; `None`: everywhere.
    pub region: Option<RegionId>,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// In force from.
    pub since: TimestampMs,
    /// In force until.
    pub expires: TimestampMs,
}

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

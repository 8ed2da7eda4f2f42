//! What was heard: counters of frames, load reports, probes, origins, titles and classes.

use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, Millis, OriginGroupId, PathwayId, Ppm, Protocol, RegionId, TimestampMs,
};

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
    /// Gauge: of them, views whose player doesn't follow steering; their load cannot be moved.
    pub views_fixed: u64,
    /// Gauge: of them, views with a bad window in the last 60 s; 0 if nobody counts them. With it, few views that are
    /// bad in every window (broken, or lying) weigh as few.
    pub views_bad: u64,
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
    /// Steering: ghost starts, that is playlists that named this pathway first and of which neither a beacon nor a
    /// poll followed in time.
    pub ghost_starts: u64,
    /// Steering: requests without a valid session token; no audience, whatever their number.
    pub sessions_untrusted: u64,
    /// Steering: polls of sessions that were here at their last poll and were told to stay.
    pub sessions_settled: u64,
    /// Steering: of these, sessions that are elsewhere now: their players left by themselves.
    pub sessions_fled: u64,
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
            views_fixed: 0,
            views_bad: 0,
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
            ghost_starts: 0,
            sessions_untrusted: 0,
            sessions_settled: 0,
            sessions_fled: 0,
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

/// Views of one content class in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassEvidence {
    /// Class.
    pub class: ContentClass,
    /// Region.
    pub region: RegionId,
    /// Gauge: views of it.
    pub views_active: u64,
}

/// What an origin group says of itself, or its shields of it.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginEvidence {
    /// Origin group.
    pub origin_group: OriginGroupId,
    /// When it said so.
    pub at: TimestampMs,
    /// Bits out to caches, mean of 10 s.
    pub bits_out_10s: BitsPerSecond,
    /// Whether it answers.
    pub state: OriginSeen,
    /// Titles that fail while others are well; empty: all alike.
    pub failing_content: Vec<ContentId>,
}

/// A limit that a CDN publishes of itself (RFC 9808, `FCI.CapacityLimits`, limit type `egress`).
#[derive(Clone, Debug, PartialEq)]
pub struct CapacityLimit {
    /// Pathway.
    pub pathway: PathwayId,
    /// Where; `None`: everywhere.
    pub region: Option<RegionId>,
    /// Traffic that it asks to stay below.
    pub soft: Option<BitsPerSecond>,
    /// Traffic that it refuses beyond.
    pub hard: BitsPerSecond,
    /// Valid until; a limit that is too old says nothing.
    pub until: TimestampMs,
}

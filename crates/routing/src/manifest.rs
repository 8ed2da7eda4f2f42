//! What the orchestrator published for one region, checked.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use spillway_model::limits::WEIGHT_TOTAL_PPM;
use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, GroupId, Mode, OriginGroupId, PathwayId, PathwayKind, PathwayState, Ppm,
    RegionId, TimestampMs,
};

use crate::Weights;

/// What a weight is given to: a pathway, or a group whose nodes share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A single pathway.
    Pathway(PathwayId),
    /// All nodes of an own cluster.
    Group(GroupId),
}

impl Target {
    /// The name as it is written in the manifest.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pathway(id) => id.as_str(),
            Self::Group(id) => id.as_str(),
        }
    }
}

/// IP version of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// The one called `v4` or `v6`.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "v4" => Some(Self::V4),
            "v6" => Some(Self::V6),
            _ => None,
        }
    }
}

/// What a pathway can carry. An empty set means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serves {
    /// Content classes.
    pub classes: BTreeSet<ContentClass>,
    /// Codecs, as in `CODECS` (`avc1`, `hev1`, `av01` …).
    pub codecs: BTreeSet<String>,
    /// DRM systems.
    pub drm: BTreeSet<String>,
    /// ISO 3166 territories.
    pub territories: BTreeSet<String>,
    /// Address families.
    pub address_families: BTreeSet<AddressFamily>,
}

/// One way to deliver, as a consumer of the manifest needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pathway {
    /// Own node or commercial CDN.
    pub kind: PathwayKind,
    /// State in this region.
    pub state: PathwayState,
    /// Why, in numbers and words, for people.
    pub reason: String,
    /// Since when it is in this state.
    pub since: TimestampMs,
    /// 10 s mean bits out ÷ ceiling, at publishing; may exceed all.
    pub utilisation: Ppm,
    /// Ceiling by configuration or agreement.
    pub capacity: BitsPerSecond,
    /// Ceiling as learned, at most `capacity`.
    pub learned_capacity: BitsPerSecond,
    /// What it can carry.
    pub serves: Serves,
    /// Own cluster that it is a node of.
    pub group: Option<GroupId>,
    /// Where its misses go.
    pub origin_group: Option<OriginGroupId>,
    /// Names of what dies together with it (a PoP, a cluster, a transit).
    pub failure_domains: BTreeSet<String>,
    /// Absolute `http(s)` URL that media paths are appended to, without a trailing slash.
    pub base_url: String,
    /// Name of the signer that its URLs need, if any.
    pub signer: Option<String>,
}

/// Nodes of a group with their shares of its weight, bounded by load; sums to 1,000,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Parts per million by node.
    pub nodes: BTreeMap<PathwayId, u32>,
}

/// Weights of one cohort of the region; `None` in a field means all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortRule {
    /// Network.
    pub asn: Option<u32>,
    /// Content class.
    pub class: Option<ContentClass>,
    /// Device class.
    pub device_class: Option<String>,
    /// For views that started at `running_before` or later.
    pub weights_new: Weights,
    /// For views that started before `running_before`.
    pub weights_running: Weights,
    /// The line between running and new views.
    pub running_before: TimestampMs,
    /// For the order after the first: spare capacity.
    pub spare: Weights,
    /// Why these weights, for people.
    pub reason: String,
}

/// How far Spillway is in charge of a class (`None`: of all others).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeRule {
    /// Content class.
    pub class: Option<ContentClass>,
    /// Observe, shadow or control.
    pub mode: Mode,
    /// Share of sessions under control; the rest stays on static weights.
    pub control: Ppm,
}

/// Seconds between polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlPolicy {
    /// On demand.
    pub vod_s: u32,
    /// Live.
    pub live_s: u32,
    /// Where the pathway of the cell is suspect or being left.
    pub suspect_s: u32,
    /// Spread to either side by session hash.
    pub jitter: Ppm,
}

/// An override that is in force, as operators and pages see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideNote {
    /// Its id.
    pub id: String,
    /// `drain`, `exclude`, `pin`, `weight`, `cap`.
    pub kind: String,
    /// Pathway or group.
    pub target: String,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub expires: TimestampMs,
}

/// Running views that try a DOWN pathway, so that real players see it come back. They have a buffer to live on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeShare {
    /// Share of the running views.
    pub share: Ppm,
    /// Whose turn it is: another word chooses other views. Different for each pathway.
    pub turn: String,
}

/// A drill that is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillNote {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Pathway under drill.
    pub pathway: PathwayId,
    /// Phase it is in.
    pub phase: String,
    /// When it began.
    pub started: TimestampMs,
}

/// One region's routing manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Region.
    pub region: RegionId,
    /// Version; never goes back.
    pub epoch: u64,
    /// When it was made.
    pub issued: TimestampMs,
    /// After this, static weights.
    pub valid_until: TimestampMs,
    /// Policy that made it.
    pub policy: String,
    /// Modes; the first rule whose class fits wins.
    pub modes: Vec<ModeRule>,
    /// Pathways of the region.
    pub pathways: BTreeMap<PathwayId, Pathway>,
    /// Own clusters.
    pub groups: BTreeMap<GroupId, Group>,
    /// Cohorts; the most specific that fits wins, one must fit all.
    pub cohorts: Vec<CohortRule>,
    /// Highest bitrate a playlist offers, kbit/s by class, when demand exceeds all capacity.
    pub max_bitrate_kbps: Vec<(Option<ContentClass>, u32)>,
    /// DOWN pathways that a few running views try.
    pub probes: BTreeMap<PathwayId, ProbeShare>,
    /// Titles that one node should not carry alone, with the number of nodes that share them.
    pub hot_titles: BTreeMap<ContentId, u32>,
    /// Polling.
    pub ttl: TtlPolicy,
    /// When all else is lost, and for the holdback.
    pub static_weights: Weights,
    /// The plan beside the incumbent rules, in shadow mode.
    pub shadow: Vec<CohortRule>,
    /// Overrides in force.
    pub overrides: Vec<OverrideNote>,
    /// Drill in progress.
    pub drill: Option<DrillNote>,
}

/// Why a manifest is refused; each has a stable name for the counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Weights of the named table don't sum to 1,000,000.
    WeightSum {
        /// Which table.
        table: String,
        /// Its sum.
        sum: u64,
    },
    /// A name that is neither a pathway nor a group here.
    UnknownPathway(String),
    /// No cohort fits all.
    NoDefaultCohort,
    /// A TTL outside 2 to 300 s.
    Ttl(u32),
    /// No pathway at all.
    Empty,
}

impl Invalid {
    /// Stable name, for counters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::WeightSum { .. } => "weight_sum",
            Self::UnknownPathway(_) => "unknown_pathway",
            Self::NoDefaultCohort => "no_default_cohort",
            Self::Ttl(_) => "ttl_out_of_range",
            Self::Empty => "no_pathway",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WeightSum { table, sum } => {
                write!(f, "weights of {table} sum to {sum} instead of {WEIGHT_TOTAL_PPM}")
            }
            Self::UnknownPathway(name) => write!(f, "{name:?} is neither a pathway nor a group of this manifest"),
            Self::NoDefaultCohort => {
                f.write_str("no cohort without asn, class and device class, which all others need")
            }
            Self::Ttl(seconds) => write!(f, "a TTL of {seconds} s is outside 2 to 300 s"),
            Self::Empty => f.write_str("no pathway"),
        }
    }
}

impl core::error::Error for Invalid {}

impl Manifest {
    /// Checks what a consumer must refuse: weight sums, unknown names, TTL range, a missing default cohort.
    ///
    /// # Errors
    /// The first [`Invalid`] found.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.pathways.is_empty() {
            return Err(Invalid::Empty);
        }
        for (id, group) in &self.groups {
            self.check_sum(id.as_str(), group.nodes.values().map(|w| u64::from(*w)).sum())?;
            for node in group.nodes.keys() {
                self.known(&Target::Pathway(node.clone()))?;
            }
        }
        self.check_table("static_weights", &self.static_weights)?;
        for rule in self.cohorts.iter().chain(&self.shadow) {
            self.check_table("weights_new", &rule.weights_new)?;
            self.check_table("weights_running", &rule.weights_running)?;
            rule.spare.keys().try_for_each(|target| self.known(target))?;
        }
        self.probes.keys().try_for_each(|id| self.known(&Target::Pathway(id.clone())))?;
        if !self.cohorts.iter().any(|rule| rule.asn.is_none() && rule.class.is_none() && rule.device_class.is_none()) {
            return Err(Invalid::NoDefaultCohort);
        }
        for ttl in [self.ttl.vod_s, self.ttl.live_s, self.ttl.suspect_s] {
            if !(spillway_model::limits::TTL_MIN_S..=spillway_model::limits::TTL_MAX_S).contains(&ttl) {
                return Err(Invalid::Ttl(ttl));
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &str, weights: &Weights) -> Result<(), Invalid> {
        weights.keys().try_for_each(|target| self.known(target))?;
        self.check_sum(table, weights.values().map(|w| u64::from(*w)).sum())
    }

    fn check_sum(&self, table: &str, sum: u64) -> Result<(), Invalid> {
        if sum == u64::from(WEIGHT_TOTAL_PPM) { Ok(()) } else { Err(Invalid::WeightSum { table: table.into(), sum }) }
    }

    fn known(&self, target: &Target) -> Result<(), Invalid> {
        let known = match target {
            Target::Pathway(id) => self.pathways.contains_key(id),
            Target::Group(id) => self.groups.contains_key(id),
        };
        if known { Ok(()) } else { Err(Invalid::UnknownPathway(target.as_str().into())) }
    }
}

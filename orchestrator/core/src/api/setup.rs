//! What a deployment declares.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{
    BitsPerSecond, ContentClass, GroupId, Mode, OriginGroupId, PathwayId, PathwayKind, Ppm, RegionId,
};
use spillway_routing::{Serves, Target};

use crate::Parameters;

/// What a deployment declares.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Regions.
    pub regions: BTreeMap<RegionId, RegionSetup>,
    /// Pathways.
    pub pathways: BTreeMap<PathwayId, PathwaySetup>,
    /// Every number that decides.
    pub parameters: Parameters,
    /// Name of the policy, written into each manifest.
    pub policy: String,
    /// Ceilings that several pathways share.
    pub shared: SharedCeilings,
    /// Most that commercial pathways may cost per hour; demand beyond it is answered by a lower bitrate.
    pub spill_usd_per_hour_max: Option<f64>,
    /// Content classes, the least important first: in this order they give up bitrate when capacity is short. Classes
    /// that are not named give up last.
    pub classes: Vec<ContentClass>,
    /// A policy under trial.
    pub canary: Option<Canary>,
    /// Parts that a comparison takes out; in production all are on.
    pub switches: Switches,
}

/// Ceilings of what several pathways stand on.
#[derive(Clone, Debug, Default)]
pub struct SharedCeilings {
    /// Points of presence, by the name in [`PathwaySetup::pop`].
    pub pops: BTreeMap<String, BitsPerSecond>,
    /// Own clusters.
    pub groups: BTreeMap<GroupId, BitsPerSecond>,
    /// Everything that a region's viewers get.
    pub regions: BTreeMap<RegionId, BitsPerSecond>,
    /// Misses that an origin group can answer.
    pub origins: BTreeMap<OriginGroupId, BitsPerSecond>,
}

/// A policy that is tried in one region before it holds everywhere. It is accepted after `canary_s` seconds, and
/// rolled back at the first sign of harm; both are final until another policy is declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    /// Its name.
    pub policy: String,
    /// Its numbers.
    pub parameters: Parameters,
    /// Where it is tried.
    pub region: RegionId,
}

/// Parts of the decision that can be taken out to see what they are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Thin cells are pulled towards their parents.
    pub shrinkage: bool,
    /// A pathway is compared with the other pathways of its region.
    pub leave_one_out: bool,
    /// Pathways have ceilings.
    pub capacity: bool,
    /// Second places go by spare capacity; else by weight.
    pub spare_order: bool,
    /// Moves are limited and frozen.
    pub guards: bool,
    /// A recovered pathway comes back in steps.
    pub ramp: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { shrinkage: true, leave_one_out: true, capacity: true, spare_order: true, guards: true, ramp: true }
    }
}

/// A region as declared.
#[derive(Clone, Debug)]
pub struct RegionSetup {
    /// How far Spillway is in charge.
    pub mode: Mode,
    /// Share of sessions under control; the others are the holdback.
    pub control: Ppm,
    /// Weights when all else is lost and for the holdback; any positive numbers, brought to 1,000,000 here.
    pub static_weights: BTreeMap<Target, u32>,
    /// Content classes with a mode and share of their own.
    pub class_modes: BTreeMap<ContentClass, (Mode, Ppm)>,
}

impl Default for RegionSetup {
    /// Observed only, without static weights (equal ones are taken then).
    fn default() -> Self {
        Self { mode: Mode::Observe, control: Ppm::ZERO, static_weights: BTreeMap::new(), class_modes: BTreeMap::new() }
    }
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
    /// Price of delivery, USD per GB; own edges have a price too.
    pub price_usd_per_gb: f64,
    /// How the price depends on what has been used.
    pub price: PriceSheet,
    /// Point of presence that it stands in, if it shares one.
    pub pop: Option<String>,
    /// Names of what dies together with it; its own id and its group are added here.
    pub failure_domains: BTreeSet<String>,
    /// Where its misses go.
    pub origin_group: OriginGroupId,
    /// Absolute URL that media paths are appended to.
    pub base_url: String,
    /// Name of the signer that its URLs need, if any.
    pub signer: Option<String>,
    /// What it can carry.
    pub serves: Serves,
}

impl PathwaySetup {
    /// A pathway of which only the least is known: serves everything everywhere, without a price or a ceiling.
    #[must_use]
    pub fn bare(kind: PathwayKind, origin_group: OriginGroupId) -> Self {
        Self {
            kind,
            group: None,
            regions: BTreeSet::new(),
            capacity: BitsPerSecond::ZERO,
            price_usd_per_gb: 0.0,
            price: PriceSheet::Flat,
            pop: None,
            failure_domains: BTreeSet::new(),
            origin_group,
            base_url: String::new(),
            signer: None,
            serves: Serves::default(),
        }
    }
}

/// How a price depends on what has been used in the billing period.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PriceSheet {
    /// `price_usd_per_gb` for each GB.
    #[default]
    Flat,
    /// By the volume of the billing period.
    Volume {
        /// Volume that is paid whether it is used or not, GB; 0: none.
        committed_gb: f64,
        /// Cheaper by volume; below the first tier `price_usd_per_gb`. In ascending order of `from_gb`.
        tiers: Vec<PriceTier>,
    },
    /// By the 95th percentile of 5-minute levels.
    Percentile95 {
        /// USD per Mbit/s and billing period.
        usd_per_mbps: f64,
        /// Level that is paid in any case, Mbit/s.
        committed_mbps: f64,
    },
}

/// A step of a price sheet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceTier {
    /// From this volume on, GB.
    pub from_gb: f64,
    /// USD per GB.
    pub usd_per_gb: f64,
}

//! Who decides. Every policy hears the same evidence with the same luck and answers with manifests.

mod bandit;
mod fixed;
mod greedy;
mod hindsight;
mod oracle;
mod ours;
mod priority;
mod rules;
mod solver;
mod units;

use std::collections::BTreeMap;

use spillway_model::PathwayId;
use spillway_orchestrator_core::{Bill, Switches};
use spillway_routing::Manifest;

pub(crate) use rules::cheapest_within_rules;

use crate::Mode;
use crate::demand::Demand;
use crate::evidence::Evidence;
use crate::world::World;

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Static weights; a player knows one pathway.
    Static,
    /// The nearest pathway by region (as DNS by location); a player knows one pathway.
    Geo,
    /// Static weights, and players that leave a failing pathway by themselves.
    PlayerOnly,
    /// Always the pathway with the best moving average.
    Greedy,
    /// The same within capacities, cheapest first among the good.
    GreedyCapacity,
    /// Greedy, but only for a pathway below 0.65 times the present one's bad windows.
    Hysteresis,
    /// Discounted upper confidence bounds per group of sessions.
    Bandit,
    /// The same within capacities.
    BanditCapacity,
    /// Priorities with health × 1.4.
    Priority,
    /// The engine.
    Spillway,
    /// The engine without a part.
    Without(Part),
    /// Knows everything that is, at the same poll interval.
    Oracle,
    /// Knows everything that is, and moves everybody at once.
    OracleAtOnce,
}

/// A part of the engine that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Thin cells are pulled towards their parents.
    Shrinkage,
    /// A pathway is compared with its neighbours.
    LeaveOneOut,
    /// Ceilings.
    Capacity,
    /// Second places by spare capacity.
    SpareOrder,
    /// Limits and freezes of moves.
    Guards,
    /// Recovery in steps.
    Ramp,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 6] =
        [Self::Shrinkage, Self::LeaveOneOut, Self::Capacity, Self::SpareOrder, Self::Guards, Self::Ramp];

    fn switches(self) -> Switches {
        let all = Switches::default();
        match self {
            Self::Shrinkage => Switches { shrinkage: false, ..all },
            Self::LeaveOneOut => Switches { leave_one_out: false, ..all },
            Self::Capacity => Switches { capacity: false, ..all },
            Self::SpareOrder => Switches { spare_order: false, ..all },
            Self::Guards => Switches { guards: false, ..all },
            Self::Ramp => Switches { ramp: false, ..all },
        }
    }
}

impl Policy {
    /// All policies but those without a part, the oracles last.
    pub const ALL: [Self; 12] = [
        Self::Static,
        Self::Geo,
        Self::PlayerOnly,
        Self::Greedy,
        Self::GreedyCapacity,
        Self::Hysteresis,
        Self::Bandit,
        Self::BanditCapacity,
        Self::Priority,
        Self::Spillway,
        Self::Oracle,
        Self::OracleAtOnce,
    ];

    /// Word for reports and arguments.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Geo => "geo",
            Self::PlayerOnly => "player-only",
            Self::Greedy => "greedy",
            Self::GreedyCapacity => "greedy-capacity",
            Self::Hysteresis => "hysteresis",
            Self::Bandit => "ducb",
            Self::BanditCapacity => "ducb-capacity",
            Self::Priority => "priority",
            Self::Spillway => "spillway",
            Self::Without(Part::Shrinkage) => "spillway-no-shrinkage",
            Self::Without(Part::LeaveOneOut) => "spillway-no-leave-one-out",
            Self::Without(Part::Capacity) => "spillway-no-capacity",
            Self::Without(Part::SpareOrder) => "spillway-no-spare-order",
            Self::Without(Part::Guards) => "spillway-no-guards",
            Self::Without(Part::Ramp) => "spillway-no-ramp",
            Self::Oracle => "oracle",
            Self::OracleAtOnce => "oracle-ttl0",
        }
    }

    /// The policy of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let parts = Part::ALL.into_iter().map(Self::Without);
        Self::ALL.into_iter().chain(parts).find(|policy| policy.as_str() == name)
    }

    /// Whether players have more than one pathway to go to by themselves.
    pub(crate) const fn fails_over(self) -> bool {
        !matches!(self, Self::Static | Self::Geo)
    }

    /// Whether running views are moved at all.
    pub(crate) const fn steers(self) -> bool {
        !matches!(self, Self::Static | Self::Geo | Self::PlayerOnly)
    }

    /// Whether it hears nothing and depends on nobody.
    pub(crate) const fn knows_all(self) -> bool {
        matches!(self, Self::Oracle | Self::OracleAtOnce)
    }

    /// Whether it has an engine with states.
    pub(crate) const fn is_engine(self) -> bool {
        matches!(self, Self::Spillway | Self::Without(_))
    }

    /// Whether it needs evidence.
    pub(crate) const fn listens(self) -> bool {
        self.steers() && !self.knows_all()
    }

    /// `demand` is for those only that know all.
    pub(crate) fn start(self, world: &World, mode: Mode, origin_bits: f64, demand: &Demand<'_>) -> Box<dyn Decide> {
        match self {
            Self::Static | Self::PlayerOnly => Box::new(fixed::Fixed::weights(world)),
            Self::Geo => Box::new(fixed::Fixed::nearest(world)),
            Self::Greedy => Box::new(greedy::Greedy::new(world, greedy::Style::Best)),
            Self::GreedyCapacity => Box::new(greedy::Greedy::new(world, greedy::Style::Capacity)),
            Self::Hysteresis => Box::new(greedy::Greedy::new(world, greedy::Style::Sticky)),
            Self::Bandit => Box::new(bandit::Bandit::new(world, false)),
            Self::BanditCapacity => Box::new(bandit::Bandit::new(world, true)),
            Self::Priority => Box::new(priority::Priority::new(world)),
            Self::Spillway => Box::new(ours::Ours::new(world, Switches::default(), origin_bits)),
            Self::Without(part) => Box::new(ours::Ours::new(world, part.switches(), origin_bits)),
            Self::Oracle => Box::new(oracle::Oracle::new(world, mode, demand, false)),
            Self::OracleAtOnce => Box::new(oracle::Oracle::new(world, mode, demand, true)),
        }
    }
}

/// What really is; only oracles may look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// Bad windows without load, by cohort × pathway.
    pub bad: Vec<f64>,
    /// Real ceilings, bit/s.
    pub capacity: Vec<f64>,
    /// Bit/s wanted, by cohort, the most of the next seconds.
    pub demand: Vec<f64>,
    /// Bit/s wanted of all, the most of the time in which an audience is replaced.
    pub peak: f64,
    /// Something broke or came back since the last round.
    pub changed: bool,
    /// Some pathway is broken.
    pub broken: bool,
}

/// One round.
pub(crate) struct Round<'a> {
    pub world: &'a World,
    pub evidence: &'a Evidence,
    pub truth: &'a Truth,
    /// What has been used of each contract.
    pub bills: &'a BTreeMap<PathwayId, Bill>,
}

/// A policy at work.
pub(crate) trait Decide {
    /// What changes: regions and their new manifests.
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)>;

    /// It died and starts again.
    fn restart(&mut self, _world: &World) {}
}

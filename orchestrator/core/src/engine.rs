//! The engine: what is remembered, and the order of the stages in a round.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{ContentClass, ContentId, OriginGroupId, PathwayId, PathwayState, RegionId, TimestampMs};
use spillway_routing::{Manifest, Target};

use crate::canary::Trial;
use crate::classes::Caps;
use crate::course::Course;
use crate::demand::Demand;
use crate::levels::Usual;
use crate::memory::{CellMemory, PathwayMemory};
use crate::observe::Observed;
use crate::orders::Orders;
use crate::pace::Arrived;
use crate::reconfigure::{apart, contracts, fresh, origin_of, served};
use crate::state::Machine;
use crate::weights::Shares;
use crate::{FindingNote, HitRatio, OriginEvidence, Parameters, RoundInput, RoundOutput, Setup};

/// Holds everything that decisions remember between rounds. A copy decides the same, and changes nothing of the original.
#[derive(Clone)]
pub struct Engine {
    pub(crate) setup: Setup,
    pub(crate) served: BTreeMap<RegionId, Vec<PathwayId>>,
    pub(crate) apart: BTreeMap<PathwayId, BTreeSet<PathwayId>>,
    pub(crate) origin_of: BTreeMap<PathwayId, OriginGroupId>,
    pub(crate) observed: Observed,
    pub(crate) regions: BTreeMap<RegionId, RegionMemory>,
    pub(crate) pathways: BTreeMap<PathwayId, PathwayMemory>,
    pub(crate) telemetry: f64,
    started: Option<TimestampMs>,
    last: Option<TimestampMs>,
    pub(crate) changes: Vec<(TimestampMs, PathwayId)>,
    pub(crate) origins: BTreeMap<OriginGroupId, OriginEvidence>,
    pub(crate) hit_ratios: BTreeMap<PathwayId, HitRatio>,
    pub(crate) trial: Option<Trial>,
    /// What pathways with a contract would carry.
    pub(crate) levels: BTreeMap<PathwayId, Usual>,
}

/// What was moved last in a region.
#[derive(Clone, Debug)]
pub(crate) struct LastMove {
    pub begun: TimestampMs,
    pub at: TimestampMs,
    /// Weights before it.
    pub before: Shares,
    /// It could have waited.
    pub optional: bool,
}

/// What is remembered of a region.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegionMemory {
    pub cells: BTreeMap<PathwayId, CellMemory>,
    pub demand: Demand,
    /// The bitrate was known in an earlier round.
    pub settled: bool,
    pub course: Course,
    /// Weights came from a published manifest.
    pub adopted: bool,
    /// Factors of the last round.
    pub factors: BTreeMap<PathwayId, f64>,
    /// Overrides of the last round.
    pub orders: BTreeSet<String>,
    pub last_unhealthy: Option<TimestampMs>,
    pub hot: BTreeSet<ContentId>,
    /// Beacons can't be trusted here now.
    pub telemetry_lost: bool,
    /// Since when; until measurements have been back for long enough.
    pub lost_since: Option<TimestampMs>,
    pub back_since: Option<TimestampMs>,
    pub findings: Vec<FindingNote>,
    /// States of single networks on a pathway.
    pub networks: BTreeMap<(u32, PathwayId), Machine>,
    pub last_move: Option<LastMove>,
    /// Weights before a reload took pathways away that had some, until the next move.
    pub left: Option<Shares>,
    /// What moves brought lately.
    pub arrived: BTreeMap<PathwayId, Arrived>,
    /// Views by content class.
    pub class_views: BTreeMap<ContentClass, u64>,
    pub class_courses: BTreeMap<ContentClass, Course>,
    /// Highest bitrates in force.
    pub caps: Caps,
    /// Weights when long blindness began to count.
    pub drift_from: Option<Shares>,
    /// Guards that held something back in this round.
    pub guards: Vec<String>,
}

/// A round's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub now: TimestampMs,
    pub dt_s: f64,
    /// Views may not have been heard yet.
    pub warming: bool,
    /// So many pathways changed state that it is rather the measurement.
    pub mass_change: bool,
}

impl Engine {
    /// Starts with nothing heard and every pathway HEALTHY.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let served = served(&setup);
        let start = |(region, ids): (&RegionId, &Vec<PathwayId>)| {
            (region.clone(), fresh(ids, TimestampMs::ZERO, &setup.parameters))
        };
        Self {
            levels: contracts(&setup).map(|id| (id.clone(), Usual::default())).collect(),
            apart: apart(&setup),
            origin_of: origin_of(&setup),
            observed: Observed::new(&served),
            regions: served.iter().map(start).collect(),
            pathways: setup.pathways.keys().map(|id| (id.clone(), PathwayMemory::new())).collect(),
            served,
            setup,
            telemetry: 1.0,
            started: None,
            last: None,
            changes: Vec::new(),
            origins: BTreeMap::new(),
            hit_ratios: BTreeMap::new(),
            trial: None,
        }
    }

    /// Takes over states and weights of a region's last published manifest, so that a restart moves nobody. Call it
    /// before the first round; unknown regions and pathways are ignored.
    pub fn adopt(&mut self, manifest: &Manifest) {
        let p = &self.setup.parameters;
        let Some(region) = self.regions.get_mut(&manifest.region) else { return };
        for (id, pathway) in &manifest.pathways {
            if let Some(cell) = region.cells.get_mut(id) {
                cell.machine = Machine::adopt(pathway.state, pathway.since, &pathway.reason, manifest.issued, p);
                region.factors.insert(id.clone(), cell.machine.factor(p));
            }
        }
        let Some(rule) = manifest.cohorts.iter().find(|rule| rule.asn.is_none() && rule.class.is_none()) else {
            return;
        };
        let share_of = |weights: &spillway_routing::Weights, id: &PathwayId| {
            f64::from(weights.get(&Target::Pathway(id.clone())).copied().unwrap_or(0)) / 1e6
        };
        let weights: Shares = region
            .cells
            .keys()
            .map(|id| (id.clone(), share_of(&rule.weights_new, id)))
            .filter(|(_, share)| *share > 0.0)
            .collect();
        for (id, cell) in &mut region.cells {
            cell.followed = share_of(&rule.weights_running, id);
            cell.warm = cell.followed;
            if cell.machine.state == PathwayState::Draining {
                let kept = drain_kept(rule.running_before, manifest.issued, p);
                cell.drain_from = if kept > 0.0 { (cell.followed / kept).min(1.0) } else { 0.0 };
            }
        }
        if !weights.is_empty() {
            region.course = Course::adopt(weights);
            region.adopted = true;
            region.orders = manifest.overrides.iter().map(|note| note.id.clone()).collect();
        }
    }

    /// When the last round was.
    pub(crate) const fn last_round(&self) -> Option<TimestampMs> {
        self.last
    }

    /// What was declared.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Decides on everything heard since the last round. `now` must not go back; a round of the same moment as the
    /// last counts as 1 ms later.
    #[must_use]
    pub fn round(&mut self, now: TimestampMs, input: &RoundInput) -> RoundOutput {
        if self.started.is_none() {
            self.begin(now);
        }
        let dt_s = self.last.map_or(2.0, |last| now.since(last).as_secs_f64().clamp(0.001, 60.0));
        self.last = Some(now);
        if !self.setup.switches.ramp {
            let p = &mut self.setup.parameters;
            (p.recovery_first, p.recovery_second, p.recovery_third, p.recovery_step_s) = (1.0, 1.0, 1.0, 0.0);
        }
        let p = self.setup.parameters.clone();
        self.hear(now, dt_s, input, &p);
        self.doubt(dt_s, &p);
        self.estimate(now, dt_s, input, &p);
        let orders: BTreeMap<RegionId, Orders> = self
            .regions
            .keys()
            .map(|region| (region.clone(), Orders::of(region, &input.overrides, &self.setup, now)))
            .collect();
        let mut log = Vec::new();
        self.judge(now, &orders, input, &p, &mut log);
        self.measure_demand(dt_s, input);
        let warm_s = self.started.map_or(0.0, |started| now.since(started).as_secs_f64());
        self.changes.retain(|(at, _)| now.since(*at).as_secs_f64() <= 60.0);
        let changed: BTreeSet<&PathwayId> = self.changes.iter().map(|(_, id)| id).collect();
        let mass = changed.len() >= p.mass_change_min
            && changed.len() as f64 > p.mass_change_share * self.setup.pathways.len() as f64;
        let tick = Tick { now, dt_s, warming: warm_s < p.warm_up_s, mass_change: mass };
        self.decide(tick, &orders, input, log)
    }

    fn begin(&mut self, now: TimestampMs) {
        self.started = Some(now);
        for cell in self.regions.values_mut().flat_map(|region| region.cells.values_mut()) {
            if cell.machine.since == TimestampMs::ZERO {
                cell.machine = Machine::new(now);
            }
        }
    }

    /// Sessions assigned in the last seconds and not yet seen to start, without those that never will.
    pub(crate) fn pending(&self, region: &RegionId) -> f64 {
        let from = (self.observed.latest_s(region) + 1).saturating_sub(self.setup.parameters.charge_s);
        let (mut assigned, mut gone) = (0, 0);
        for (_, cell) in self.observed.region(region) {
            let (of_cell, started) = cell.assigned_since(from);
            assigned += of_cell;
            gone += started + cell.ghosts_since(from).0;
        }
        assigned.saturating_sub(gone) as f64
    }
}

/// The part of a draining pathway's running views that it still keeps: 1 at the start, 0 after the drain time.
pub(crate) fn drain_kept(since: TimestampMs, now: TimestampMs, p: &Parameters) -> f64 {
    let left = 1.0 - now.since(since).as_secs_f64() / p.drain_s.max(0.001);
    ((left * p.drain_steps).ceil() / p.drain_steps).clamp(0.0, 1.0)
}

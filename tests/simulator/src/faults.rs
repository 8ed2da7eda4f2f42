//! What is broken at a moment, for whom.

use crate::format::{Events, Fault, FaultKind, Status};
use crate::world::World;

/// What is broken now. Tables are flat over cohort × pathway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Broken {
    /// Share of views whose requests all fail.
    pub hard: Vec<f64>,
    /// What they get.
    pub status: Vec<Status>,
    /// Share of segments that are slow.
    pub slow: Vec<f64>,
    /// How many times slower these are.
    pub slower: Vec<f64>,
    /// Points of bad windows (fluid) besides hard failures.
    pub bad: Vec<f64>,
    /// Share of the failing views that can't report.
    pub silent: Vec<f64>,
    /// Bad windows, in points, that beacons put down to no pathway (licence), by cohort.
    pub blameless: Vec<f64>,
    /// Real ÷ claimed capacity, by pathway.
    pub capacity: Vec<f64>,
    /// Share of misses that fail at the origin.
    pub origin: f64,
    /// Share of frames lost, by region.
    pub frames_lost: Vec<f64>,
    /// Nobody decides.
    pub no_orchestrator: bool,
    /// Polls get no answer.
    pub no_steering: bool,
    /// Share of clients that lie, about which pathway, by region.
    pub forged: Vec<Option<(f64, usize)>>,
    /// Bots per second, by region.
    pub bots: Vec<f64>,
    /// Own nodes that are dead to load reports too, by pathway.
    pub mute: Vec<bool>,
    /// Something of a pathway is broken.
    pub any: bool,
}

impl Broken {
    pub(crate) fn nothing(world: &World) -> Self {
        let (cells, paths, regions) = (world.cells(), world.paths.len(), world.regions.len());
        Self {
            hard: vec![0.0; cells],
            status: vec![Status::Unavailable; cells],
            slow: vec![0.0; cells],
            slower: vec![1.0; cells],
            bad: vec![0.0; cells],
            silent: vec![0.0; cells],
            blameless: vec![0.0; world.cohorts.len()],
            capacity: vec![1.0; paths],
            origin: 0.0,
            frames_lost: vec![0.0; regions],
            no_orchestrator: false,
            no_steering: false,
            forged: vec![None; regions],
            bots: vec![0.0; regions],
            mute: vec![false; paths],
            any: false,
        }
    }

    /// What is broken at `second`.
    pub(crate) fn at(world: &World, events: &Events, second: u64) -> Self {
        let mut out = Self::nothing(world);
        for fault in events.fault.iter().filter(|fault| (fault.start_s..fault.end_s).contains(&second)) {
            out.add(world, fault, second);
        }
        out
    }

    /// Whether `at` may differ from one second to the next between `from` and `to`.
    pub(crate) fn changes(events: &Events, from: u64, to: u64) -> bool {
        events.fault.iter().any(|fault| {
            let inside = |second: u64| (from + 1..=to).contains(&second);
            let moving = matches!(fault.kind, FaultKind::Drift | FaultKind::Flap);
            inside(fault.start_s) || inside(fault.end_s) || (moving && fault.start_s <= to && from < fault.end_s)
        })
    }

    fn add(&mut self, world: &World, fault: &Fault, second: u64) {
        match fault.kind {
            FaultKind::Outage | FaultKind::Isp => self.add_hard(world, fault),
            FaultKind::Flap => {
                if (second - fault.start_s) % fault.period_s < fault.period_s / 2 {
                    self.add_hard(world, fault);
                }
            }
            FaultKind::Brownout => self.add_slow(world, fault, 1.0),
            FaultKind::Drift => {
                let part = (second - fault.start_s) as f64 / (fault.end_s - fault.start_s) as f64;
                self.add_slow(world, fault, part);
            }
            FaultKind::Origin => self.origin = self.origin.max(fault.share),
            // The title's segments fail alike on every pathway.
            FaultKind::Content => self.add_hard(world, fault),
            FaultKind::Licence => {
                let points = fault.bad_windows.unwrap_or(1.0) * fault.share;
                for c in (0..world.cohorts.len()).filter(|c| in_cohort(world, fault, *c)) {
                    self.blameless[c] = (self.blameless[c] + points).min(1.0);
                }
            }
            FaultKind::Capacity | FaultKind::Industry => {
                for p in (0..world.paths.len()).filter(|p| of_path(world, fault, *p)) {
                    self.capacity[p] *= fault.factor;
                }
            }
            FaultKind::Telemetry => {
                for r in (0..world.regions.len()).filter(|r| in_region(world, fault, *r)) {
                    self.frames_lost[r] = self.frames_lost[r].max(fault.share);
                }
            }
            FaultKind::Orchestrator => self.no_orchestrator = true,
            FaultKind::Steering => self.no_steering = true,
            FaultKind::Forged => {
                let accused = (0..world.paths.len()).find(|p| of_path(world, fault, *p));
                for r in (0..world.regions.len()).filter(|r| in_region(world, fault, *r)) {
                    self.forged[r] = accused.map(|p| (fault.share, p));
                }
            }
            FaultKind::Flood => {
                for r in (0..world.regions.len()).filter(|r| in_region(world, fault, *r)) {
                    self.bots[r] += fault.sessions_per_s * world.scale;
                }
            }
        }
    }

    fn add_hard(&mut self, world: &World, fault: &Fault) {
        let whole = fault.region.is_none() && fault.network.is_none() && fault.share >= 1.0;
        for p in (0..world.paths.len()).filter(|p| of_path(world, fault, *p)) {
            self.mute[p] |= whole && world.paths[p].own;
            for c in (0..world.cohorts.len()).filter(|c| in_cohort(world, fault, *c)) {
                let cell = world.cell(c, p);
                if world.serves[cell] {
                    self.hard[cell] = 1.0 - (1.0 - self.hard[cell]) * (1.0 - fault.share);
                    self.status[cell] = fault.status;
                    self.silent[cell] = self.silent[cell].max(fault.silent);
                    self.any = true;
                }
            }
        }
    }

    fn add_slow(&mut self, world: &World, fault: &Fault, part: f64) {
        let points = fault.bad_windows.unwrap_or(0.3 * fault.share) * part;
        for p in (0..world.paths.len()).filter(|p| of_path(world, fault, *p)) {
            for c in (0..world.cohorts.len()).filter(|c| in_cohort(world, fault, *c)) {
                let cell = world.cell(c, p);
                if world.serves[cell] {
                    self.bad[cell] = (self.bad[cell] + points).min(1.0);
                    self.slow[cell] = self.slow[cell].max(fault.share * part);
                    self.slower[cell] = self.slower[cell].max(fault.slower);
                    self.any = true;
                }
            }
        }
    }
}

/// Whether the fault is in this region.
pub(crate) fn in_region(world: &World, fault: &Fault, region: usize) -> bool {
    fault.region.as_deref().is_none_or(|id| id == world.regions[region].id.as_str())
}

/// Whether the fault hits this cohort.
pub(crate) fn in_cohort(world: &World, fault: &Fault, cohort: usize) -> bool {
    let here = &world.cohorts[cohort];
    in_region(world, fault, here.region) && fault.network.is_none_or(|rank| rank == here.rank + 1)
}

/// Whether the fault is of this pathway.
pub(crate) fn of_path(world: &World, fault: &Fault, path: usize) -> bool {
    let path = &world.paths[path];
    fault.pathway.as_deref().is_none_or(|id| id == path.id.as_str())
        && fault.group.as_deref().is_none_or(|group| path.group.as_ref().is_some_and(|own| own.as_str() == group))
}

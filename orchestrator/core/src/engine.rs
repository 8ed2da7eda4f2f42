//! The engine: what is remembered, and the order of the stages in a round.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{BitsPerSecond, ContentId, OriginGroupId, PathwayId, PathwayState, RegionId, TimestampMs};
use spillway_routing::{Manifest, Target};

use crate::course::Course;
use crate::demand::{Demand, Measured};
use crate::detect::{Finding, Scene, detect};
use crate::estimate::{Others, shrunk};
use crate::memory::{CellMemory, PathwayMemory};
use crate::observe::{Failing, Observed};
use crate::orders::Orders;
use crate::state::{Machine, Signals};
use crate::weights::Shares;
use crate::{LogEntry, OriginSeen, Parameters, RoundInput, RoundOutput, Setup};

/// Holds everything that decisions remember between rounds.
pub struct Engine {
    pub(crate) setup: Setup,
    pub(crate) served: BTreeMap<RegionId, Vec<PathwayId>>,
    apart: BTreeMap<PathwayId, BTreeSet<PathwayId>>,
    origin_of: BTreeMap<PathwayId, OriginGroupId>,
    pub(crate) observed: Observed,
    pub(crate) regions: BTreeMap<RegionId, RegionMemory>,
    pub(crate) pathways: BTreeMap<PathwayId, PathwayMemory>,
    pub(crate) telemetry: f64,
    started: Option<TimestampMs>,
    last: Option<TimestampMs>,
    changes: Vec<(TimestampMs, PathwayId)>,
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
    pub verdicts: Vec<String>,
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
        let start = TimestampMs::ZERO;
        let served: BTreeMap<RegionId, Vec<PathwayId>> = setup
            .regions
            .keys()
            .map(|region| {
                let serves = |id: &&PathwayId| {
                    let regions = &setup.pathways[*id].regions;
                    regions.is_empty() || regions.contains(region)
                };
                (region.clone(), setup.pathways.keys().filter(serves).cloned().collect())
            })
            .collect();
        let regions = served
            .iter()
            .map(|(region, ids)| {
                let cells = ids.iter().map(|id| (id.clone(), CellMemory::new(start, &setup.parameters))).collect();
                (region.clone(), RegionMemory { cells, ..RegionMemory::default() })
            })
            .collect();
        Self {
            apart: apart(&setup),
            origin_of: setup.pathways.iter().map(|(id, pathway)| (id.clone(), pathway.origin_group.clone())).collect(),
            observed: Observed::new(&served),
            regions,
            pathways: setup.pathways.keys().map(|id| (id.clone(), PathwayMemory::new())).collect(),
            served,
            setup,
            telemetry: 1.0,
            started: None,
            last: None,
            changes: Vec::new(),
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
        let p = self.setup.parameters.clone();
        self.hear(now, dt_s, input, &p);
        self.estimate(dt_s, input, &p);
        let orders: BTreeMap<RegionId, Orders> = self
            .regions
            .keys()
            .map(|region| (region.clone(), Orders::of(region, &input.overrides, &self.setup, now)))
            .collect();
        let mut log = Vec::new();
        self.judge(now, &orders, &p, &mut log);
        self.measure_demand(dt_s);
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

    fn hear(&mut self, now: TimestampMs, dt_s: f64, input: &RoundInput, p: &Parameters) {
        self.observed.take(now, &input.cells, p);
        if input.frames_expected > 0 {
            let share = (f64::from(input.frames_received) / f64::from(input.frames_expected)).min(1.0);
            self.telemetry += (1.0 - (-dt_s / p.telemetry_tau_s).exp()) * (share - self.telemetry);
        }
        for load in &input.loads {
            if let Some(pathway) = self.pathways.get_mut(&load.pathway) {
                pathway.take(load);
            }
        }
        for probe in &input.probes {
            let cell = self.regions.get_mut(&probe.region).and_then(|region| region.cells.get_mut(&probe.pathway));
            if let Some(cell) = cell {
                cell.probes.take(probe);
            }
        }
        for (id, region) in &mut self.regions {
            let latest = self.observed.latest_s(id) + 1;
            let from = latest.saturating_sub(p.silence_window_s);
            let heard: Vec<(u64, u64)> = self
                .observed
                .region(id)
                .map(|(_, cell)| cell.heartbeats_since(from))
                .filter(|(due, _)| *due >= p.silence_due_min / 2)
                .collect();
            let mute = !heard.is_empty()
                && heard.iter().all(|(due, received)| (*received as f64) < p.telemetry_min * *due as f64);
            // An audience doesn't leave from one second to the next.
            let vanished = region.demand.views() >= 10.0 && self.observed.views(id) == 0;
            region.telemetry_lost = self.telemetry < p.telemetry_min || mute || vanished;
        }
    }

    fn estimate(&mut self, dt_s: f64, input: &RoundInput, p: &Parameters) {
        for (region, memory) in &mut self.regions {
            for (id, cell) in &mut memory.cells {
                if let Some(seen) = self.observed.cell(region, id) {
                    cell.health.take(&seen.fresh, dt_s, p);
                }
            }
            let usual = memory.cells.values().map(|cell| cell.health.usual_sums());
            let (windows, bad) = usual.fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
            let pooled = shrunk(bad, windows, p.baseline_default, 500.0);
            for (id, cell) in &mut memory.cells {
                let learned = input.baselines.get(&(id.clone(), region.clone())).copied();
                let rate = learned.filter(|rate| rate.is_finite()).unwrap_or(pooled);
                cell.baseline = rate.clamp(p.baseline_min, p.baseline_max);
            }
            let references: BTreeMap<PathwayId, Others> = memory
                .cells
                .keys()
                .map(|id| (id.clone(), others(&self.observed, region, id, &memory.cells, &self.apart)))
                .collect();
            for (id, cell) in &mut memory.cells {
                if let Some(seen) = self.observed.cell(region, id)
                    && !memory.telemetry_lost
                {
                    let deff = cell.health.design_effect(p);
                    cell.cusum.take(&seen.fresh, references[id], cell.baseline, deff, dt_s, p);
                }
            }
        }
    }

    fn judge(
        &mut self,
        now: TimestampMs,
        orders: &BTreeMap<RegionId, Orders>,
        p: &Parameters,
        log: &mut Vec<LogEntry>,
    ) {
        let findings = self.findings(now, p);
        for (region, (mut found, verdicts)) in findings {
            let Some(memory) = self.regions.get_mut(&region) else { continue };
            memory.verdicts = verdicts;
            for (id, cell) in &mut memory.cells {
                let finding = found.remove(id).unwrap_or_default();
                let order = orders.get(&region).and_then(|orders| orders.get(id));
                let by_itself = self.pathways.get(id).and_then(|pathway| pathway.draining_since);
                let why = order
                    .and_then(|order| order.drain.as_ref())
                    .map(|(_, why)| why.as_str())
                    .or(by_itself.map(|_| "the edge reports that it is being drained"));
                let signals = Signals {
                    now,
                    good_probes: cell.probes.good_rounds(now, p),
                    probed: cell.probes.verdict(now, p).is_some(),
                    draining: why,
                };
                let before = cell.machine.state;
                if !cell.machine.advance(signals, &finding, p) {
                    continue;
                }
                let state = cell.machine.state;
                match state {
                    PathwayState::Recovering if before != state => {
                        cell.health.forget();
                        cell.cusum.reset();
                    }
                    PathwayState::Draining => {
                        cell.drain_from = memory.course.current.get(id).copied().unwrap_or(0.0);
                    }
                    PathwayState::Down | PathwayState::Degraded => self.changes.push((now, id.clone())),
                    _ => {}
                }
                let text = if before == state {
                    format!("{id} {state}: takes {:.0} % of its usual share", cell.machine.factor(p) * 100.0)
                } else {
                    format!("{id} {before} → {state}: {}", cell.machine.reason)
                };
                log.push(LogEntry { region: Some(region.clone()), text });
            }
        }
    }

    fn findings(
        &self,
        now: TimestampMs,
        p: &Parameters,
    ) -> BTreeMap<RegionId, (BTreeMap<PathwayId, Finding>, Vec<String>)> {
        let failing: BTreeMap<RegionId, BTreeMap<PathwayId, Failing>> = self
            .regions
            .keys()
            .map(|region| {
                let latest = self.observed.latest_s(region);
                // Old failures say nothing about now.
                let fresh = (latest + 10).saturating_mul(1000) >= now.0;
                let from = if fresh { (latest + 1).saturating_sub(p.fast_window_s) } else { u64::MAX };
                (
                    region.clone(),
                    self.observed.region(region).map(|(id, c)| (id.clone(), c.failing_since(from))).collect(),
                )
            })
            .collect();
        let fullest = self.pathways.iter().map(|(id, pathway)| (id.clone(), pathway.fullest())).collect();
        let gone = self.pathways.iter().filter(|(_, m)| m.is_gone(now)).map(|(id, _)| id.clone()).collect();
        let parents = self.parents(p);
        let origins = self.origins_failing(now, p);
        self.regions
            .iter()
            .map(|(region, memory)| {
                let scene = Scene {
                    now,
                    parameters: p,
                    region,
                    observed: &self.observed,
                    cells: &memory.cells,
                    apart: &self.apart,
                    origin_of: &self.origin_of,
                    parents: &parents,
                    failing: &failing,
                    telemetry_lost: memory.telemetry_lost,
                    fullest: &fullest,
                    reports_gone: &gone,
                    origins_failing: &origins,
                };
                (region.clone(), detect(&scene))
            })
            .collect()
    }

    /// Bad-window rate of each pathway over the regions in which it isn't DOWN.
    pub(crate) fn parents(&self, p: &Parameters) -> BTreeMap<PathwayId, f64> {
        let mut sums: BTreeMap<PathwayId, (f64, f64, f64)> = BTreeMap::new();
        for (id, cell) in self.regions.values().flat_map(|region| &region.cells) {
            let sum = sums.entry(id.clone()).or_default();
            if cell.machine.state != PathwayState::Down {
                let (windows, bad) = cell.health.sums();
                *sum = (sum.0 + windows, sum.1 + bad, sum.2.max(cell.baseline));
            }
        }
        sums.into_iter()
            .map(|(id, (windows, bad, baseline))| {
                let prior = if baseline > 0.0 { baseline } else { p.baseline_default };
                (id, shrunk(bad, windows, prior, p.prior_windows))
            })
            .collect()
    }

    /// Origin groups that most of their own edges, or probes through several pathways, call failing.
    fn origins_failing(&self, now: TimestampMs, p: &Parameters) -> BTreeSet<OriginGroupId> {
        let mut votes: BTreeMap<&OriginGroupId, (usize, usize)> = BTreeMap::new();
        let mut misses: BTreeMap<&OriginGroupId, BTreeMap<&PathwayId, bool>> = BTreeMap::new();
        for (id, pathway) in &self.pathways {
            match pathway.fresh_load(now).map(|load| load.origin) {
                Some(OriginSeen::Failing) => votes.entry(&self.origin_of[id]).or_default().0 += 1,
                Some(OriginSeen::Up) => votes.entry(&self.origin_of[id]).or_default().1 += 1,
                _ => {}
            }
        }
        for (id, cell) in self.regions.values().flat_map(|region| &region.cells) {
            if let Some(fails) = cell.probes.miss_fails(now, p) {
                *misses.entry(&self.origin_of[id]).or_default().entry(id).or_default() |= fails;
            }
        }
        let by_edges = votes.iter().filter(|(_, (down, up))| *down > 0 && down > up).map(|(origin, _)| *origin);
        let by_probes = misses.iter().filter_map(|(origin, pathways)| {
            let failing = pathways.values().filter(|fails| **fails).count();
            (failing >= p.origin_pathways_min && failing * 2 > pathways.len()).then_some(*origin)
        });
        by_edges.chain(by_probes).cloned().collect()
    }

    fn measure_demand(&mut self, dt_s: f64) {
        let p = &self.setup.parameters;
        for (region, memory) in &mut self.regions {
            let mut measured = Measured { views: self.observed.views(region) as f64, ..Measured::default() };
            for (id, seen) in self.observed.region(region) {
                // A pathway with a fault delivers less than its viewers want.
                let fair = memory.cells.get(id).is_some_and(|cell| cell.machine.is_reference() && cell.cusum.sum < 6.0);
                if fair && seen.fresh.bits > 0.0 {
                    measured.bits += seen.fresh.bits;
                    measured.view_s += seen.fresh.view_s;
                }
            }
            memory.demand.take(measured, dt_s, p);
        }
    }

    /// Sessions assigned in the last seconds and not yet seen to start.
    pub(crate) fn pending(&self, region: &RegionId) -> f64 {
        let from = (self.observed.latest_s(region) + 1).saturating_sub(self.setup.parameters.charge_s);
        let (assigned, started) = self
            .observed
            .region(region)
            .map(|(_, cell)| cell.assigned_since(from))
            .fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
        assigned.saturating_sub(started) as f64
    }

    /// Ceiling of one pathway: declared, reported, ordered.
    pub(crate) fn capacity(&self, id: &PathwayId, orders: &BTreeMap<RegionId, Orders>) -> BitsPerSecond {
        let capacity = self.pathways[id].capacity(&self.setup.pathways[id]);
        let caps = orders.values().filter_map(|orders| orders.get(id)?.cap);
        caps.fold(capacity, std::cmp::min)
    }
}

/// The part of a draining pathway's running views that it still keeps: 1 at the start, 0 after the drain time.
pub(crate) fn drain_kept(since: TimestampMs, now: TimestampMs, p: &Parameters) -> f64 {
    let left = 1.0 - now.since(since).as_secs_f64() / p.drain_s.max(0.001);
    ((left * p.drain_steps).ceil() / p.drain_steps).clamp(0.0, 1.0)
}

/// By pathway: those that share no failure domain with it; all others, if each of them does.
fn apart(setup: &Setup) -> BTreeMap<PathwayId, BTreeSet<PathwayId>> {
    let domains = |id: &PathwayId| {
        let pathway = &setup.pathways[id];
        let mut domains = pathway.failure_domains.clone();
        domains.insert(id.as_str().to_owned());
        domains.extend(pathway.group.as_ref().map(|group| group.as_str().to_owned()));
        domains
    };
    let all: BTreeMap<&PathwayId, BTreeSet<String>> = setup.pathways.keys().map(|id| (id, domains(id))).collect();
    all.iter()
        .map(|(id, own)| {
            let others = || all.iter().filter(|(other, _)| *other != id);
            let apart: BTreeSet<PathwayId> =
                others().filter(|(_, domains)| domains.is_disjoint(own)).map(|(other, _)| (*other).clone()).collect();
            let all_others = || others().map(|(other, _)| (*other).clone()).collect();
            ((*id).clone(), if apart.is_empty() { all_others() } else { apart })
        })
        .collect()
}

fn others(
    observed: &Observed,
    region: &RegionId,
    id: &PathwayId,
    cells: &BTreeMap<PathwayId, CellMemory>,
    apart: &BTreeMap<PathwayId, BTreeSet<PathwayId>>,
) -> Others {
    let latest = observed.latest_s(region) + 1;
    let mut out = Others::default();
    for (other, seen) in observed.region(region) {
        let fair = apart.get(id).is_some_and(|apart| apart.contains(other))
            && cells.get(other).is_some_and(|cell| cell.machine.is_reference());
        if fair {
            let (windows, bad) = seen.windows_between(latest.saturating_sub(20), latest);
            out.windows += seen.fresh.windows;
            out.bad += seen.fresh.bad;
            out.recent_windows += windows;
            out.recent_bad += bad;
        }
    }
    out
}

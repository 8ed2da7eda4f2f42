//! From evidence to states: stages three and four.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{ContentId, OriginGroupId, PathwayId, PathwayState, RegionId, TimestampMs};

use crate::detect::{Alarm, Finding, Found, Scene, detect, is_hard};
use crate::engine::{Engine, RegionMemory};
use crate::estimate::shrunk;
use crate::memory::{CellMemory, PathwayMemory};
use crate::observe::{Failing, Network, Observed};
use crate::orders::Orders;
use crate::state::{Machine, Signals};
use crate::{LogEntry, OriginSeen, Parameters, RoundInput};

impl Engine {
    pub(crate) fn judge(
        &mut self,
        now: TimestampMs,
        orders: &BTreeMap<RegionId, Orders>,
        input: &RoundInput,
        p: &Parameters,
        log: &mut Vec<LogEntry>,
    ) {
        let found = self.found(now, input, p);
        for (region, mut found) in found {
            let rooms = self.rooms_to_climb(&region, p);
            let Some(memory) = self.regions.get_mut(&region) else { continue };
            memory.findings = std::mem::take(&mut found.notes);
            memory.know_telemetry(now, p);
            let mut recovering = BTreeSet::new();
            for (id, cell) in &mut memory.cells {
                let finding = found.pathways.remove(id).unwrap_or_default();
                let order = orders.get(&region).and_then(|orders| orders.get(id));
                let by_itself = self.pathways.get(id).and_then(|pathway| pathway.draining_since);
                let why = order
                    .and_then(|order| order.drain.as_ref())
                    .map(|(_, why)| why.as_str())
                    .or(by_itself.map(|_| "the edge reports that it is being drained"));
                let sessions = tried(&self.observed, &region, id, &cell.machine, p);
                let signals = Signals {
                    now,
                    good_probes: if sessions == Some(false) { 0 } else { cell.probes.good_rounds(now, p) },
                    probed: cell.probes.verdict(now, p).is_some(),
                    tried: sessions,
                    draining: why,
                    may_climb: rooms.get(id).copied().unwrap_or(true),
                };
                let before = cell.machine.state;
                if !cell.machine.advance(signals, &finding, p) {
                    continue;
                }
                let state = cell.machine.state;
                match state {
                    PathwayState::Recovering if before != state => {
                        cell.forget_illness();
                        recovering.insert(id.clone());
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
            let back = judge_networks(&region, memory, found.networks, now, p, log);
            for (id, seen) in self.observed.region_mut(&region) {
                let forgets = |asn: Option<u32>| {
                    recovering.contains(id) || asn.is_some_and(|asn| back.contains(&(asn, id.clone())))
                };
                seen.networks.iter_mut().filter(|network| forgets(network.asn)).for_each(Network::forget);
            }
        }
    }

    fn found(&self, now: TimestampMs, input: &RoundInput, p: &Parameters) -> BTreeMap<RegionId, Found> {
        let failing: BTreeMap<RegionId, BTreeMap<PathwayId, Failing>> =
            self.regions.keys().map(|region| (region.clone(), failing_in(&self.observed, region, now, p))).collect();
        let fled_in = |region| self.observed.region(region).map(|(id, cell)| (id.clone(), cell.fled())).collect();
        let fled: BTreeMap<RegionId, BTreeMap<PathwayId, Failing>> =
            self.regions.keys().map(|region| (region.clone(), fled_in(region))).collect();
        let strained =
            self.pathways.iter().filter_map(|(id, pathway)| Some((id.clone(), pathway.carried.strain(p)?))).collect();
        let is_full = |(id, pathway): (&PathwayId, &PathwayMemory)| pathway.carried.is_full(p).then(|| id.clone());
        let full = self.pathways.iter().filter_map(is_full).collect();
        let gone = self.pathways.iter().filter(|(_, m)| m.is_gone(now)).map(|(id, _)| id.clone()).collect();
        let parents = self.parents(p);
        let origins = self.origins_failing(now, p);
        let origins_full = self.origins_full(now, p);
        let content: BTreeSet<ContentId> =
            self.fresh_origins(now, p).flat_map(|origin| origin.failing_content.iter().cloned()).collect();
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
                    fled: &fled,
                    telemetry_lost: memory.telemetry_lost,
                    strained: &strained,
                    full: &full,
                    reports_gone: &gone,
                    origins_failing: &origins,
                    origins_full: &origins_full,
                    content_failing: &content,
                    learned: &input.learned.networks,
                    moved_lately: memory.moved_lately(now, p),
                    compares: self.setup.switches.leave_one_out,
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

    /// Origin groups that say so themselves, or that most of their own edges, or probes through several pathways, call
    /// failing.
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
        let by_itself =
            self.fresh_origins(now, p).filter(|o| o.state == OriginSeen::Failing).map(|origin| &origin.origin_group);
        by_edges.chain(by_probes).chain(by_itself).cloned().collect()
    }

    /// Origin groups at their ceiling: the misses that they don't answer are no pathway's illness.
    pub(crate) fn origins_full(&self, now: TimestampMs, p: &Parameters) -> BTreeSet<OriginGroupId> {
        let fresh = self.fresh_origins(now, p).map(|origin| &origin.origin_group);
        fresh.filter(|origin| self.origin_room(origin).is_some_and(|room| room <= 0.0)).cloned().collect()
    }
}

impl RegionMemory {
    /// Notes since when measurements are missing, and since when they are back.
    fn know_telemetry(&mut self, now: TimestampMs, p: &Parameters) {
        if self.telemetry_lost {
            self.lost_since = self.lost_since.or(Some(now));
            self.back_since = None;
            return;
        }
        let back = *self.back_since.get_or_insert(now);
        if now.since(back).as_secs_f64() >= p.telemetry_back_s {
            self.lost_since = None;
        }
    }
}

/// Failing views by pathway; networks only where they may matter.
fn failing_in(
    observed: &Observed,
    region: &RegionId,
    now: TimestampMs,
    p: &Parameters,
) -> BTreeMap<PathwayId, Failing> {
    let latest = observed.latest_s(region);
    // Old failures say nothing about now.
    let fresh = (latest + 10).saturating_mul(1000) >= now.0;
    let from = if fresh { (latest + 1).saturating_sub(p.fast_window_s) } else { u64::MAX };
    let mut out: BTreeMap<PathwayId, Failing> =
        observed.region(region).map(|(id, cell)| (id.clone(), cell.failing_since(from))).collect();
    let suspect = |failing: &Failing| {
        is_hard(failing, p) || failing.networks.values().any(|counts| counts.1 >= p.fast_small_views_min)
    };
    if out.values().any(suspect) {
        for (id, cell) in observed.region(region) {
            out.insert(id.clone(), cell.failing_in_detail(from));
        }
    }
    out
}

/// What the running views that try a DOWN pathway meet; `None` if too few try it.
fn tried(observed: &Observed, region: &RegionId, id: &PathwayId, machine: &Machine, p: &Parameters) -> Option<bool> {
    if machine.state != PathwayState::Down {
        return None;
    }
    let from = (observed.latest_s(region) + 1).saturating_sub(p.tried_window_s);
    let (ok, failed) = observed.cell(region, id)?.requests_since(from);
    let share = failed as f64 / (ok + failed).max(1) as f64;
    match () {
        () if ok + failed >= p.tried_requests_min && share >= p.fast_share => Some(false),
        () if ok >= p.tried_requests_min && share < p.tried_failing_max => Some(true),
        () => None,
    }
}

/// Steps the states of networks on a pathway. The pathway's own state comes first: while that isn't well, its networks
/// say nothing. Returns those that begin to recover.
fn judge_networks(
    region: &RegionId,
    memory: &mut RegionMemory,
    mut found: BTreeMap<(u32, PathwayId), Finding>,
    now: TimestampMs,
    p: &Parameters,
    log: &mut Vec<LogEntry>,
) -> BTreeSet<(u32, PathwayId)> {
    let mut back = BTreeSet::new();
    for key in found.keys() {
        let known = memory.networks.contains_key(key);
        if known || memory.networks.len() < p.cohort_rules_max {
            memory.networks.entry(key.clone()).or_insert_with(|| Machine::new(now));
        }
    }
    let cells: &BTreeMap<PathwayId, CellMemory> = &memory.cells;
    memory.networks.retain(|(asn, id), machine| {
        let finding = found.remove(&(*asn, id.clone()));
        let quiet = finding.is_none();
        let finding = finding.unwrap_or(Finding { quiet, ..Finding::default() });
        // Nobody probes one network; after the hold its viewers do, in steps.
        let signals = Signals {
            now,
            good_probes: if finding.alarm == Alarm::None { p.probe_rounds } else { 0 },
            probed: true,
            tried: None,
            draining: None,
            may_climb: true,
        };
        let before = machine.state;
        if machine.advance(signals, &finding, p) && before != machine.state {
            let text = format!("{id} in AS{asn} {before} → {}: {}", machine.state, machine.reason);
            log.push(LogEntry { region: Some(region.clone()), text });
        }
        if before != machine.state && machine.state == PathwayState::Recovering {
            back.insert((*asn, id.clone()));
        }
        let dominated = cells.get(id).is_some_and(|cell| cell.machine.state == PathwayState::Down);
        let forgotten = machine.state == PathwayState::Healthy && machine.is_calm(now, p);
        !dominated && !forgotten
    });
    back
}

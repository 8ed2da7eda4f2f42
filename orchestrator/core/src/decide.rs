//! From states and demand to weights: capacities shared out between regions, fill, how far to move.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{BitsPerSecond, Mode, PathwayId, PathwayKind, PathwayState, Ppm, RegionId, Verdict};

use crate::course::Pace;
use crate::engine::{Engine, Tick};
use crate::fill::{Candidate, Filled, fill, own_part};
use crate::orders::Orders;
use crate::weights::Shares;
use crate::{LogEntry, Parameters, PathwayTotals, RoundInput, RoundOutput};

/// A region's orders by region.
pub(crate) type OrdersByRegion = BTreeMap<RegionId, Orders>;

/// Share that a pathway above its ceiling must lose for a move to be worth an epoch.
const WORTH_RELIEF: f64 = 1e-4;

/// What the fill said about a region.
pub(crate) struct Wish {
    /// Bit/s.
    pub demand: f64,
    pub filled: Filled,
    /// Part of its usual share that each pathway may have.
    pub factors: BTreeMap<PathwayId, f64>,
    /// Bit/s that each pathway may carry here.
    pub targets: BTreeMap<PathwayId, f64>,
}

impl Wish {
    fn is_dead(&self, id: &PathwayId) -> bool {
        self.factors.get(id).is_none_or(|factor| *factor <= 0.0)
    }

    /// Whether somebody must leave a dead pathway that isn't a last resort.
    fn evacuates(&self, current: &Shares) -> bool {
        let stays = |id: &PathwayId| self.filled.shares.contains_key(id);
        current.iter().any(|(id, share)| *share > 0.0 && self.is_dead(id) && !stays(id))
    }
}

/// What a round hands from stage to stage.
pub(crate) struct Round<'a> {
    pub tick: Tick,
    pub orders: &'a OrdersByRegion,
    pub input: &'a RoundInput,
    pub p: &'a Parameters,
    /// Load ÷ ceiling by pathway.
    pub utilisation: BTreeMap<PathwayId, Option<f64>>,
}

impl Engine {
    pub(crate) fn decide(
        &mut self,
        tick: Tick,
        orders: &OrdersByRegion,
        input: &RoundInput,
        mut log: Vec<LogEntry>,
    ) -> RoundOutput {
        let p = &self.setup.parameters.clone();
        let used = self.use_now();
        let utilisation = self.learn_load(tick, &used, p);
        let round = Round { tick, orders, input, p, utilisation };
        let wishes = self.wishes(&round);
        let crowded = self.to_relieve(&wishes, orders, p);
        for (region, wish) in &wishes {
            self.move_region(&round, region, wish, &crowded, &mut log);
            self.heat(region, input, p);
        }
        let planned = self.planned(&wishes);
        let pathways = self.totals(orders, &round.utilisation, &planned);
        let regions = wishes
            .iter()
            .map(|(region, wish)| (region.clone(), self.region_plan(&round, region, wish, &planned)))
            .collect();
        RoundOutput { regions, pathways, log, telemetry: Ppm::from_fraction(self.telemetry), canary: None }
    }

    /// Bit/s of the views on each pathway now.
    fn use_now(&self) -> BTreeMap<PathwayId, f64> {
        let mut used = BTreeMap::new();
        for (region, memory) in &self.regions {
            let bits = memory.demand.bits_per_view(&self.setup.parameters);
            for (id, seen) in self.observed.region(region) {
                *used.entry(id.clone()).or_insert(0.0) += seen.views_active() as f64 * bits;
            }
        }
        used
    }

    fn learn_load(
        &mut self,
        tick: Tick,
        used: &BTreeMap<PathwayId, f64>,
        p: &Parameters,
    ) -> BTreeMap<PathwayId, Option<f64>> {
        let mut out = BTreeMap::new();
        for (id, pathway) in &mut self.pathways {
            let used = used.get(id).copied().unwrap_or(0.0);
            let known = used > 0.0 || pathway.fresh_load(tick.now).is_some();
            let utilisation = pathway.utilisation(tick.now, &self.setup.pathways[id], used);
            pathway.learn(tick.now, utilisation, used, tick.dt_s, p);
            let mark = format!("{} {id}:", Verdict::Capacity);
            let too_full = self.regions.values().any(|r| r.verdicts.iter().any(|text| text.starts_with(&mark)));
            pathway.learn_capacity(too_full, tick.dt_s, p);
            out.insert(id.clone(), known.then_some(utilisation));
        }
        out
    }

    fn wishes(&self, round: &Round<'_>) -> BTreeMap<RegionId, Wish> {
        let p = round.p;
        let demands: BTreeMap<&RegionId, f64> = self
            .regions
            .iter()
            .map(|(id, memory)| (id, memory.demand.forecast(self.pending(id), f64::from(p.ttl_live_s), p)))
            .collect();
        let parents = self.parents(p);
        let mut candidates: BTreeMap<&RegionId, Vec<Candidate>> = BTreeMap::new();
        for region in self.regions.keys() {
            candidates.insert(region, self.candidates(round, region, &demands, &demands, &parents));
        }
        // Commercial capacity is shared out by what own edges leave.
        let rest: BTreeMap<&RegionId, f64> =
            demands.iter().map(|(id, demand)| (*id, demand * (1.0 - own_part(*demand, &candidates[id], p)))).collect();
        self.regions
            .keys()
            .map(|region| {
                let candidates = self.candidates(round, region, &demands, &rest, &parents);
                let demand = demands[region];
                let mut filled = fill(demand, &candidates, p);
                apply_orders(&mut filled, round.orders.get(region), &candidates);
                let factors = candidates.iter().map(|c| (c.id.clone(), c.factor)).collect();
                let targets = candidates.iter().map(|c| (c.id.clone(), c.target * c.factor)).collect();
                (region.clone(), Wish { demand, filled, factors, targets })
            })
            .collect()
    }

    fn candidates(
        &self,
        round: &Round<'_>,
        region: &RegionId,
        own_demands: &BTreeMap<&RegionId, f64>,
        demands: &BTreeMap<&RegionId, f64>,
        parents: &BTreeMap<PathwayId, f64>,
    ) -> Vec<Candidate> {
        let (p, orders) = (round.p, round.orders);
        let memory = &self.regions[region];
        let rate = |id: &PathwayId| memory.cells[id].health.estimate(parents[id], p);
        let best = memory
            .cells
            .iter()
            .filter(|(_, cell)| cell.machine.factor(p) > 0.0)
            .map(|(id, _)| rate(id))
            .fold(f64::INFINITY, f64::min);
        let floor = p.qoe_floor_rate.max(p.qoe_floor_times * best).max(best + p.qoe_floor_plus);
        self.served[region]
            .iter()
            .map(|id| {
                let declared = &self.setup.pathways[id];
                let own = declared.kind == PathwayKind::Own;
                let cell = &memory.cells[id];
                let wanted = if own { own_demands } else { demands };
                let capacity = self.capacity(id, orders).0 as f64 * self.pathways[id].learned;
                // Few sessions fall unevenly, and a node may serve more than its beacons tell.
                let heavier = if own { self.load_factor(round.tick, region, id) } else { 1.0 };
                let bits = capacity * self.part_of(id, region, wanted) / heavier;
                let order = orders.get(region).and_then(|orders| orders.get(id));
                let excluded = order.is_some_and(|order| order.exclude);
                let last_resort = match cell.machine.state {
                    _ if excluded => None,
                    PathwayState::Down => Some(1),
                    _ => Some(0),
                };
                Candidate {
                    id: id.clone(),
                    own,
                    target: bits * if own { p.own_target } else { p.cdn_target },
                    ceiling: bits * p.ceiling,
                    factor: if excluded { 0.0 } else { cell.machine.factor(p) },
                    price: declared.price_usd_per_gb,
                    in_floor: cell.health.at_least(parents[id], p) <= floor,
                    rate: rate(id),
                    last_resort,
                }
            })
            .collect()
    }

    /// The part of a pathway's capacity that `region` gets: by demand among the regions that it serves.
    fn part_of(&self, id: &PathwayId, region: &RegionId, demands: &BTreeMap<&RegionId, f64>) -> f64 {
        let regions = || self.served.iter().filter(|(_, ids)| ids.contains(id)).map(|(region, _)| region);
        let all: f64 = regions().map(|other| demands[other]).sum();
        if all > 0.0 { demands[region] / all } else { 1.0 / (regions().count().max(1) as f64) }
    }

    fn load_factor(&self, tick: Tick, region: &RegionId, id: &PathwayId) -> f64 {
        let heavier = if self.pathways[id].fresh_load(tick.now).is_some() { self.pathways[id].heavier } else { 1.0 };
        let controlled = self.setup.regions[region].mode == Mode::Control;
        heavier * if controlled { self.regions[region].cells[id].placed } else { 1.0 }
    }

    /// Bit/s that the weights in force put onto each pathway.
    fn planned(&self, wishes: &BTreeMap<RegionId, Wish>) -> BTreeMap<PathwayId, f64> {
        self.planned_if(wishes, &BTreeSet::new())
    }

    /// The same if the regions of `moved` were at their targets already.
    fn planned_if(&self, wishes: &BTreeMap<RegionId, Wish>, moved: &BTreeSet<&RegionId>) -> BTreeMap<PathwayId, f64> {
        let mut out: BTreeMap<PathwayId, f64> = BTreeMap::new();
        for (region, wish) in wishes {
            let shares =
                if moved.contains(region) { &wish.filled.shares } else { &self.regions[region].course.current };
            for (id, share) in shares {
                let own = self.setup.pathways.get(id).is_some_and(|declared| declared.kind == PathwayKind::Own);
                let placed = if own { self.regions[region].cells[id].placed * self.pathways[id].heavier } else { 1.0 };
                *out.entry(id.clone()).or_default() += share * wish.demand * placed;
            }
        }
        out
    }

    /// Pathways that some region must be moved off at once: those that would be too full if nobody were moved, and
    /// those that become so by that very relief. Targets are one solution over all regions, and a region that goes
    /// ahead alone would take the room that another has not left yet.
    fn to_relieve(
        &self,
        wishes: &BTreeMap<RegionId, Wish>,
        orders: &OrdersByRegion,
        p: &Parameters,
    ) -> BTreeSet<PathwayId> {
        let mut out = self.crowded(&self.planned(wishes), orders, p);
        loop {
            let leaves = |region: &RegionId, wish: &Wish| {
                let current = &self.regions[region].course.current;
                let share = |shares: &Shares, id: &PathwayId| shares.get(id).copied().unwrap_or(0.0);
                wish.evacuates(current)
                    || out.iter().any(|id| share(&wish.filled.shares, id) < share(current, id) - WORTH_RELIEF)
            };
            let moved = wishes.iter().filter(|(region, wish)| leaves(region, wish)).map(|(region, _)| region).collect();
            let more = self.crowded(&self.planned_if(wishes, &moved), orders, p);
            if more.is_subset(&out) {
                return out;
            }
            out.extend(more);
        }
    }

    /// Pathways that `planned` would fill too much.
    fn crowded(
        &self,
        planned: &BTreeMap<PathwayId, f64>,
        orders: &OrdersByRegion,
        p: &Parameters,
    ) -> BTreeSet<PathwayId> {
        planned
            .iter()
            .filter(|(id, bits)| {
                let own = self.setup.pathways[*id].kind == PathwayKind::Own;
                let most = if own { p.own_urgent } else { p.ceiling };
                **bits > most * self.capacity(id, orders).0 as f64 * self.pathways[*id].learned
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn move_region(
        &mut self,
        round: &Round<'_>,
        region: &RegionId,
        wish: &Wish,
        crowded: &BTreeSet<PathwayId>,
        log: &mut Vec<LogEntry>,
    ) {
        let (tick, p) = (round.tick, round.p);
        let ids = round.orders.get(region).map(|orders| orders.ids.clone()).unwrap_or_default();
        let Some(memory) = self.regions.get_mut(region) else { return };
        let target = &wish.filled.shares;
        let factor_before = |id: &PathwayId| memory.factors.get(id).copied().unwrap_or(1.0);
        let worse = wish.factors.iter().any(|(id, factor)| *factor < factor_before(id) - 1e-9);
        let better = wish.factors.iter().any(|(id, factor)| *factor > factor_before(id) + 1e-9);
        let relieved = crowded.iter().any(|id| {
            let share = |shares: &Shares| shares.get(id).copied().unwrap_or(0.0);
            share(target) < share(&memory.course.current) - WORTH_RELIEF
        });
        let known = memory.demand.is_known(p);
        let nobody_yet = !memory.settled && !memory.adopted;
        let evacuates = wish.evacuates(&memory.course.current);
        // Neither is an optimisation: where measurements come at all, no guard keeps a view on a dead pathway or a
        // pathway above its ceiling, and the target is the one way to do it that all capacities allow.
        let guarded = tick.mass_change || (tick.warming && memory.adopted);
        let frozen = memory.telemetry_lost || (guarded && !relieved && !evacuates);
        let reordered = ids != memory.orders;
        let pace = match () {
            () if reordered => Pace::AtOnce,
            () if frozen => Pace::Frozen,
            () if worse || relieved || evacuates || nobody_yet => Pace::AtOnce,
            () if better => Pace::StepsNow,
            () => Pace::Steps,
        };
        let dead = |id: &PathwayId| wish.is_dead(id);
        let before = memory.course.current.clone();
        if memory.course.advance(tick.now, target, &dead, pace, p) {
            let why = match () {
                () if reordered => "an override began or ended",
                () if worse => "a pathway got worse",
                () if relieved => "a pathway would be too full",
                () => "by cost and capacity",
            };
            let moves = moves(&before, &memory.course.current);
            if !before.is_empty() && !moves.is_empty() {
                log.push(LogEntry { region: Some(region.clone()), text: format!("{moves}: {why}") });
            }
        }
        memory.settled |= known;
        memory.factors.clone_from(&wish.factors);
        memory.orders = ids;
        if memory.cells.values().any(|cell| cell.machine.state != PathwayState::Healthy) {
            memory.last_unhealthy = Some(tick.now);
        }
        let views: BTreeMap<PathwayId, u64> =
            self.observed.region(region).map(|(id, seen)| (id.clone(), seen.views_active())).collect();
        let all: u64 = views.values().sum();
        for (id, cell) in &mut memory.cells {
            let weight = memory.course.current.get(id).copied().unwrap_or(0.0);
            cell.follow(weight, views.get(id).copied().unwrap_or(0), all, tick.dt_s, p);
        }
    }

    fn totals(
        &self,
        orders: &OrdersByRegion,
        utilisation: &BTreeMap<PathwayId, Option<f64>>,
        planned: &BTreeMap<PathwayId, f64>,
    ) -> BTreeMap<PathwayId, PathwayTotals> {
        self.pathways
            .iter()
            .map(|(id, pathway)| {
                let capacity = self.capacity(id, orders);
                let totals = PathwayTotals {
                    utilisation: utilisation[id].map(|share| Ppm((share.clamp(0.0, 1000.0) * 1e6) as u32)),
                    capacity,
                    learned_capacity: BitsPerSecond((capacity.0 as f64 * pathway.learned) as u64),
                    demand: BitsPerSecond(planned.get(id).copied().unwrap_or(0.0) as u64),
                };
                (id.clone(), totals)
            })
            .collect()
    }
}

/// Fixed shares and pins come before the fill.
fn apply_orders(filled: &mut Filled, orders: Option<&Orders>, candidates: &[Candidate]) {
    let Some(orders) = orders else { return };
    if let Some(pinned) = orders.pinned() {
        filled.shares = [(pinned.clone(), 1.0)].into();
        return;
    }
    for candidate in candidates.iter().filter(|candidate| candidate.factor > 0.0) {
        let Some(wanted) = orders.get(&candidate.id).and_then(|order| order.weight) else { continue };
        let rest: f64 = filled.shares.iter().filter(|(id, _)| **id != candidate.id).map(|(_, share)| share).sum();
        if rest <= 0.0 {
            continue;
        }
        for (id, share) in &mut filled.shares {
            if *id != candidate.id {
                *share *= (1.0 - wanted) / rest;
            }
        }
        filled.shares.insert(candidate.id.clone(), wanted);
    }
}

/// "cdn-a 65→0 %, cdn-b 30→95 %".
fn moves(before: &Shares, after: &Shares) -> String {
    let ids: BTreeSet<&PathwayId> = before.keys().chain(after.keys()).collect();
    let percent = |shares: &Shares, id: &PathwayId| (shares.get(id).copied().unwrap_or(0.0) * 100.0).round() as u32;
    let words: Vec<String> = ids
        .into_iter()
        .map(|id| (id, percent(before, id), percent(after, id)))
        .filter(|(_, from, to)| from != to)
        .map(|(id, from, to)| format!("{id} {from}→{to} %"))
        .collect();
    words.join(", ")
}

//! What the fill says about a region: demand, candidates with their capacities and prices, targets.

use std::collections::BTreeMap;

use spillway_model::{ContentClass, Mode, PathwayId, PathwayKind, PathwayState, RegionId};

use crate::capacity::limit_in;
use crate::classes::ClassWish;
use crate::decide::Round;
use crate::engine::{Engine, Tick};
use crate::fill::{Candidate, Filled, Limits, fill, own_part};
use crate::orders::Orders;
use crate::price::{Peers, beyond, price_of, usd_per_hour};
use crate::weights::Shares;
use crate::{Parameters, PriceSheet};

/// What the fill said about a region.
pub(crate) struct Wish {
    /// Bit/s of all views.
    pub demand: f64,
    /// Of it, what the weights for everybody place.
    pub movable: f64,
    /// Bit/s that no weight moves: players that ignore steering.
    pub fixed: BTreeMap<PathwayId, f64>,
    pub filled: Filled,
    /// Classes that not every pathway serves.
    pub classes: BTreeMap<ContentClass, ClassWish>,
    /// Part of its usual share that each pathway may have.
    pub factors: BTreeMap<PathwayId, f64>,
    /// What was chosen from.
    pub candidates: Vec<Candidate>,
    /// Part of the demand for which capacity or money is missing.
    pub unmet: f64,
    /// Bit/s that views which start must give up, so that everybody finds room.
    pub shortage: f64,
    /// What the targets cost, USD per hour.
    pub cost_usd_per_hour: f64,
}

impl Wish {
    pub(crate) fn is_dead(&self, id: &PathwayId) -> bool {
        self.factors.get(id).is_none_or(|factor| *factor <= 0.0)
    }

    /// Whether somebody must leave a dead pathway that isn't a last resort.
    pub(crate) fn evacuates(&self, current: &Shares) -> bool {
        let stays = |id: &PathwayId| self.filled.shares.contains_key(id);
        current.iter().any(|(id, share)| *share > 0.0 && self.is_dead(id) && !stays(id))
    }

    /// Mean USD per GB of `shares`.
    pub(crate) fn usd_per_gb(&self, shares: &Shares) -> f64 {
        self.mean(shares, |c| c.price_at(self.movable * shares.get(&c.id).copied().unwrap_or(0.0)))
    }

    /// Mean of `value` over `shares`.
    pub(crate) fn mean(&self, shares: &Shares, value: impl Fn(&Candidate) -> f64) -> f64 {
        let of = |candidate: &Candidate| shares.get(&candidate.id).copied().unwrap_or(0.0) * value(candidate);
        self.candidates.iter().map(of).sum()
    }
}

/// Demands that capacities are shared out by.
struct Parts<'a> {
    own: &'a BTreeMap<&'a RegionId, f64>,
    commercial: &'a BTreeMap<&'a RegionId, f64>,
}

impl Engine {
    pub(crate) fn wishes(&self, round: &Round<'_>) -> BTreeMap<RegionId, Wish> {
        let p = round.p;
        let demands: BTreeMap<&RegionId, f64> = self
            .regions
            .keys()
            .map(|id| (id, self.demand_of(round, id, f64::from(p.ttl_live_s) + p.growth_horizon_s)))
            .collect();
        let parts = Parts { own: &demands, commercial: &demands };
        // Commercial capacity is shared out by what own edges leave.
        let rest: BTreeMap<&RegionId, f64> = demands
            .iter()
            .map(|(id, demand)| {
                let candidates = self.candidates(round, id, &parts);
                (*id, demand * (1.0 - own_part(*demand, &candidates, p)))
            })
            .collect();
        let parts = Parts { commercial: &rest, ..parts };
        let mut wishes: BTreeMap<RegionId, Wish> =
            self.regions.keys().map(|region| (region.clone(), self.wish(round, region, &parts))).collect();
        self.cap_money(&mut wishes);
        wishes
    }

    /// Bit/s that a region will want in `horizon_s`.
    fn demand_of(&self, round: &Round<'_>, region: &RegionId, horizon_s: f64) -> f64 {
        let growth = round.input.learned.growth_10min.get(region).copied();
        self.regions[region].demand.forecast(self.pending(region), growth, horizon_s, round.p)
    }

    fn wish(&self, round: &Round<'_>, region: &RegionId, parts: &Parts<'_>) -> Wish {
        let p = round.p_of(region);
        let demand = parts.own[region];
        let mut candidates = self.candidates(round, region, parts);
        let bits_per_view = self.regions[region].demand.bits_per_view(p);
        let fixed: BTreeMap<PathwayId, f64> = self
            .observed
            .region(region)
            .filter(|(_, seen)| seen.fixed > 0)
            .map(|(id, seen)| (id.clone(), seen.fixed as f64 * bits_per_view))
            .collect();
        for candidate in &mut candidates {
            candidate.take(fixed.get(&candidate.id).copied().unwrap_or(0.0));
        }
        let movable = (demand - fixed.values().sum::<f64>()).max(0.0);
        let classes = self.class_wishes(region, movable, &mut candidates, p);
        let movable = (movable - classes.values().map(|class| class.demand).sum::<f64>()).max(0.0);
        let mut filled = fill(movable, &candidates, p);
        apply_orders(&mut filled.shares, round.orders.get(region), &candidates);
        let mut unmet = filled.unmet;
        if let Some(most) = self.setup.shared.regions.get(region).filter(|_| self.setup.switches.capacity) {
            unmet = unmet.max(1.0 - most.0 as f64 * p.ceiling / demand.max(1.0));
        }
        let room: f64 = candidates.iter().filter(|c| c.factor > 0.0).map(|c| c.ceiling).sum();
        let ahead = if self.setup.switches.capacity { self.demand_of(round, region, p.shortage_ahead_s) } else { 0.0 };
        let shortage = (ahead - (demand - movable) - room).max(0.0);
        let factors = candidates.iter().map(|c| (c.id.clone(), c.factor)).collect();
        let mut wish = Wish {
            demand,
            movable,
            fixed,
            filled,
            classes,
            factors,
            candidates,
            unmet,
            shortage,
            cost_usd_per_hour: 0.0,
        };
        wish.cost_usd_per_hour = usd_per_hour(movable, wish.usd_per_gb(&wish.filled.shares));
        wish
    }

    /// Money per hour is a ceiling too: what commercial pathways cost beyond it is answered by a lower bitrate.
    fn cap_money(&self, wishes: &mut BTreeMap<RegionId, Wish>) {
        let Some(most) = self.setup.spill_usd_per_hour_max else { return };
        let spilled = |wish: &Wish, own: bool| {
            let bits = |c: &Candidate| wish.movable * wish.filled.shares.get(&c.id).copied().unwrap_or(0.0);
            let usd = |c: &Candidate| usd_per_hour(wish.movable, c.price_at(bits(c)));
            wish.mean(&wish.filled.shares, |c| if c.own == own { usd(c) } else { 0.0 })
        };
        let all: f64 = wishes.values().map(|wish| spilled(wish, false)).sum();
        if all <= most {
            return;
        }
        for wish in wishes.values_mut() {
            let commercial = wish.mean(&wish.filled.shares, |c| if c.own { 0.0 } else { 1.0 });
            wish.unmet = wish.unmet.max(commercial * (1.0 - most.max(0.0) / all));
        }
    }

    fn candidates(&self, round: &Round<'_>, region: &RegionId, parts: &Parts<'_>) -> Vec<Candidate> {
        let (p, orders) = (round.p_of(region), round.orders);
        let memory = &self.regions[region];
        let emergency = self.setup.switches.guards && memory.in_emergency(p);
        self.served[region]
            .iter()
            .map(|id| {
                let declared = &self.setup.pathways[id];
                let own = declared.kind == PathwayKind::Own;
                let cell = &memory.cells[id];
                let part = self.part_of(id, region, if own { parts.own } else { parts.commercial });
                // Few sessions fall unevenly, and a node may serve more than its beacons tell.
                let heavier = if own { self.load_factor(round.tick, region, id) } else { 1.0 };
                let room = &round.rooms[id];
                let most = (room.learned * part).min(limit_in(region, id, round.tick, round.input));
                let bits = most / heavier;
                let order = orders.get(region).and_then(|orders| orders.get(id));
                let excluded = order.is_some_and(|order| order.exclude);
                let last_resort = match cell.machine.state {
                    _ if excluded => None,
                    PathwayState::Down => Some(1),
                    _ => Some(0),
                };
                let target = bits * if own { p.own_target } else { p.cdn_target };
                let soft = room.soft.map_or(f64::INFINITY, |soft| soft * part / heavier);
                let bill = round.input.bills.get(id);
                let by_level = matches!(declared.price, PriceSheet::Percentile95 { .. });
                let usd_per_gb = if by_level { self.elsewhere(round, id) } else { f64::INFINITY };
                let peers = Peers { usd_per_gb, usual: self.levels.get(id) };
                let price = price_of(&declared.price, declared.price_usd_per_gb, bill, peers, p);
                let ceiling = (bits * if own { p.own_ceiling } else { p.ceiling }).min(most * p.ceiling);
                Candidate {
                    id: id.clone(),
                    own,
                    target: target.min(soft),
                    ceiling,
                    gentle: if emergency { self.gentle(region, id, ceiling, bits, p) } else { f64::INFINITY },
                    factor: if excluded { 0.0 } else { cell.machine.factor(p) },
                    price: price.usd_per_gb,
                    price_below: price.below_usd_per_gb,
                    // Of a demand that nobody knows yet a level would cover everything.
                    level: if memory.demand.is_known(p) { price.level_bps * part } else { 0.0 },
                    in_floor: cell.floor.holds(),
                    explore: self.explores(round, region, cell, p),
                    rate: self.rate_in(round, region, id),
                    last_resort,
                }
            })
            .collect()
    }

    /// USD per GB that the cheapest other commercial pathway takes beyond all commitments.
    fn elsewhere(&self, round: &Round<'_>, id: &PathwayId) -> f64 {
        let others = self
            .setup
            .pathways
            .iter()
            .filter(|(other, declared)| *other != id && declared.kind == PathwayKind::Commercial);
        let price = |(other, declared): (&PathwayId, &crate::PathwaySetup)| {
            let (list, bill) = (declared.price_usd_per_gb, round.input.bills.get(other));
            beyond(&declared.price, list, bill, self.levels.get(other), round.p)
        };
        others.filter_map(price).fold(f64::INFINITY, f64::min)
    }

    /// Remembers what each pathway with a contract would be asked for if it were the cheapest everywhere.
    pub(crate) fn remember_levels(&mut self, round: &Round<'_>, wishes: &BTreeMap<RegionId, Wish>) {
        for (id, level) in &mut self.levels {
            let part = |(region, wish): (&RegionId, &Wish)| {
                let commercial = wish.mean(&wish.filled.shares, |c| if c.own { 0.0 } else { wish.movable });
                commercial * Limits::of(&wish.candidates, round.p_of(region)).concentration
            };
            let here = wishes.iter().filter(|(region, _)| self.served[*region].contains(id));
            let most = round.rooms[id].learned * round.p.cdn_target;
            level.take(here.map(part).sum(), most, round.tick.dt_s, round.p);
        }
    }

    /// Least share that keeps evidence coming from a pathway of which little is known: enough for `explore_windows` in
    /// half an hour. None in an event.
    fn explores(&self, round: &Round<'_>, region: &RegionId, cell: &crate::memory::CellMemory, p: &Parameters) -> f64 {
        let (windows, _) = cell.health.usual_sums();
        let event = round.calm(region).any(|calm| calm.kind == crate::CalmKind::Event);
        if event || windows >= p.explore_windows || cell.machine.state != PathwayState::Healthy {
            return 0.0;
        }
        let all: f64 = self.regions[region].cells.values().map(|cell| cell.health.usual_sums().0).sum();
        // Before anything is known there is nothing to explore against.
        if all < p.explore_windows { 0.0 } else { (p.explore_windows / all).clamp(p.explore_min, p.explore_max) }
    }

    /// Bit/s up to which a pathway takes views that flee from another one, without overload: they fill their buffers at
    /// twice the bitrate, its caches are cold, and so is what stands behind them.
    fn gentle(&self, region: &RegionId, id: &PathwayId, ceiling: f64, bits: f64, p: &Parameters) -> f64 {
        let memory = &self.regions[region];
        let load = memory.course.current.get(id).copied().unwrap_or(0.0) * memory.demand.now(p);
        let arrived = memory.arrived.get(id).copied().unwrap_or_default();
        let room = (ceiling - load - arrived.refill).max(0.0) / 2.0;
        let by_rate = (p.inflow_per_min * bits - arrived.minute).max(0.0);
        let origin = self.origin_room(&self.origin_of[id]).unwrap_or(f64::INFINITY);
        load + room.min(by_rate).min(origin / self.misses_after_move(id, p).max(1e-6))
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
}

/// Fixed shares and pins come before the fill.
pub(crate) fn apply_orders(shares: &mut Shares, orders: Option<&Orders>, candidates: &[Candidate]) {
    let Some(orders) = orders else { return };
    if let Some(pinned) = orders.pinned() {
        *shares = [(pinned.clone(), 1.0)].into();
        return;
    }
    let usable = candidates.iter().filter(|candidate| candidate.factor > 0.0);
    let wanted: BTreeMap<PathwayId, f64> = usable
        .filter_map(|candidate| Some((candidate.id.clone(), orders.get(&candidate.id).and_then(|order| order.weight)?)))
        .collect();
    if wanted.is_empty() {
        return;
    }
    // All at once: one after the other, each would take from those before it.
    let fixed: f64 = wanted.values().sum();
    let rest: f64 = shares.iter().filter(|(id, _)| !wanted.contains_key(*id)).map(|(_, share)| share).sum();
    let scale = if rest > 0.0 { (1.0 - fixed).max(0.0) / rest } else { 0.0 };
    if fixed + rest * scale <= 0.0 {
        return;
    }
    let mut fixed_first = wanted;
    for (id, share) in &*shares {
        fixed_first.entry(id.clone()).or_insert(share * scale);
    }
    *shares = crate::weights::normalised(&fixed_first);
}

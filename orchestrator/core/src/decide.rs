//! From states and demand to weights: capacities shared out between regions, fill, how far to move.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, PathwayId, Ppm, RegionId, Verdict};
use spillway_routing::Target;

use crate::capacity::Rooms;
use crate::engine::{Engine, RegionMemory, Tick};
use crate::memory::CellMemory;
use crate::observe::Network;
use crate::orders::Orders;
use crate::weights::{Shares, normalised};
use crate::wish::Wish;
use crate::{Calm, FindingNote, LogEntry, Parameters, PathwayTotals, RoundInput, RoundOutput};

/// A region's orders by region.
pub(crate) type OrdersByRegion = BTreeMap<RegionId, Orders>;

/// What a round hands from stage to stage.
pub(crate) struct Round<'a> {
    pub tick: Tick,
    pub orders: &'a OrdersByRegion,
    pub input: &'a RoundInput,
    pub p: &'a Parameters,
    /// Another policy's numbers in the region where it is tried.
    pub trial: Option<(RegionId, Parameters)>,
    pub rooms: Rooms,
    /// Bad-window rate by pathway over all regions.
    pub parents: BTreeMap<PathwayId, f64>,
    /// Load ÷ ceiling by pathway.
    pub utilisation: BTreeMap<PathwayId, Option<f64>>,
}

impl Round<'_> {
    /// The numbers that decide in `region`.
    pub(crate) fn p_of(&self, region: &RegionId) -> &Parameters {
        self.trial.as_ref().filter(|(on_trial, _)| on_trial == region).map_or(self.p, |(_, p)| p)
    }

    /// What asks for peace in `region`.
    pub(crate) fn calm(&self, region: &RegionId) -> impl Iterator<Item = &Calm> {
        let here = move |calm: &&Calm| calm.region.as_ref().is_none_or(|wanted| wanted == region);
        let now = self.tick.now;
        self.input.calm.iter().filter(move |calm| now < calm.until).filter(here)
    }
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
        self.count_classes(&input.classes);
        let rooms = self.rooms(tick, orders, input);
        let used = self.bits_now(|memory, _| memory.demand.bits_per_view(p));
        let utilisation = self.learn_load(tick, &used, p, &mut log);
        let canary = self.try_policy(tick, &mut log);
        let trial = self.on_trial();
        let parents = self.parents(p);
        let round = Round { tick, orders, input, p, trial, rooms, parents, utilisation };
        self.judge_floor(&round);
        let wishes = self.wishes(&round);
        self.remember_levels(&round, &wishes);
        self.move_regions(&round, &wishes, &mut log);
        for region in wishes.keys() {
            self.heat(region, input, p);
        }
        self.cap_bitrates(&round, &wishes);
        let planned = self.planned(&wishes);
        let pathways = self.totals(&round, &planned);
        let regions = wishes
            .iter()
            .map(|(region, wish)| (region.clone(), self.region_plan(&round, region, wish, &planned)))
            .collect();
        RoundOutput { regions, pathways, log, telemetry: Ppm::from_fraction(self.telemetry), canary }
    }

    /// Bit/s of the views on each pathway now, at so many bit/s `each`.
    fn bits_now(&self, each: impl Fn(&RegionMemory, &PathwayId) -> f64) -> BTreeMap<PathwayId, f64> {
        let mut bits = BTreeMap::new();
        for (region, memory) in &self.regions {
            for (id, seen) in self.observed.region(region) {
                *bits.entry(id.clone()).or_insert(0.0) += seen.views as f64 * each(memory, id);
            }
        }
        bits
    }

    fn learn_load(
        &mut self,
        tick: Tick,
        used: &BTreeMap<PathwayId, f64>,
        p: &Parameters,
        log: &mut Vec<LogEntry>,
    ) -> BTreeMap<PathwayId, Option<f64>> {
        let mut out = BTreeMap::new();
        let mut explained = Vec::new();
        let got =
            |memory: &RegionMemory, id: &PathwayId| memory.cells.get(id).map_or(0.0, |cell| cell.goodput.per_view());
        let delivered = self.bits_now(got);
        for (id, pathway) in &mut self.pathways {
            let used = used.get(id).copied().unwrap_or(0.0);
            let known = used > 0.0 || pathway.fresh_load(tick.now).is_some();
            let utilisation = pathway.utilisation(tick.now, &self.setup.pathways[id], used);
            pathway.weigh(tick.now, used, tick.dt_s, p);
            let capacity = pathway.capacity(&self.setup.pathways[id]).0 as f64;
            // What is wanted of it: a full node reports no more than it can send.
            let load = used.max(utilisation * capacity);
            let cells = || self.regions.values().filter_map(|region| region.cells.get(id));
            let quiet = cells().all(|cell| cell.cusum.sum < p.cusum_degraded / 2.0 && cell.machine.is_reference());
            pathway.carried.take(tick.now, load, capacity, quiet, tick.dt_s, p);
            let full = |note: &FindingNote| note.verdict == Verdict::Capacity && note.pathway.as_ref() == Some(id);
            // Cold caches pass: only what isn't delivered, or more than they can make bad, counts meanwhile.
            let delivered = delivered.get(id).copied().unwrap_or(0.0);
            let saturated = delivered < p.capacity_saturated * load;
            let warm = |cell: &CellMemory| !cell.is_cold(p) || cell.health.raw() > p.cold_rate;
            let counts = |region: &RegionMemory| saturated || region.cells.get(id).is_some_and(warm);
            let too_full = self.regions.values().any(|region| counts(region) && region.findings.iter().any(full));
            let suffers = pathway.carried.near_level(p) && cells().any(|cell| cell.floor.is_bad());
            if (too_full || suffers) && pathway.carried.cut(tick.now, delivered, p) {
                log.push(LogEntry {
                    region: None,
                    text: format!(
                        "{id} is too full: {:.0} % of its capacity is believed",
                        pathway.carried.learned() * 100.0
                    ),
                });
                explained.push(id.clone());
            }
            out.insert(id.clone(), known.then_some(utilisation));
        }
        for id in explained {
            self.forget_illness(&id);
        }
        out
    }

    /// Its bad windows have been explained: from now on it is judged by what it does with less load.
    fn forget_illness(&mut self, id: &PathwayId) {
        for (region, memory) in &mut self.regions {
            if let Some(cell) = memory.cells.get_mut(id) {
                cell.forget_illness();
                cell.floor.forgive();
            }
            if let Some(seen) = self.observed.cell_mut(region, id) {
                seen.networks.iter_mut().for_each(Network::forget);
            }
        }
    }

    /// Static weights by pathway, without what is dead.
    pub(crate) fn static_shares_of(&self, region: &RegionId, wish: &Wish) -> Shares {
        let mut shares = Shares::new();
        let served = || self.served[region].iter().filter(|id| !wish.is_dead(id));
        for (target, weight) in &self.setup.regions[region].static_weights {
            let nodes: Vec<&PathwayId> = match target {
                Target::Pathway(wanted) => served().filter(|id| *id == wanted).collect(),
                Target::Group(group) => {
                    served().filter(|id| self.setup.pathways[*id].group.as_ref() == Some(group)).collect()
                }
            };
            for id in &nodes {
                *shares.entry((*id).clone()).or_default() += f64::from(*weight) / nodes.len() as f64;
            }
        }
        if shares.is_empty() {
            shares = served().map(|id| (id.clone(), 1.0)).collect();
        }
        normalised(&shares)
    }

    fn totals(&self, round: &Round<'_>, planned: &BTreeMap<PathwayId, f64>) -> BTreeMap<PathwayId, PathwayTotals> {
        self.pathways
            .keys()
            .map(|id| {
                let room = &round.rooms[id];
                let utilisation = round.utilisation[id];
                let totals = PathwayTotals {
                    utilisation: utilisation.map(|share| Ppm((share.clamp(0.0, 1000.0) * 1e6) as u32)),
                    capacity: room.capacity,
                    learned_capacity: BitsPerSecond(room.learned as u64),
                    demand: BitsPerSecond(planned.get(id).copied().unwrap_or(0.0) as u64),
                };
                (id.clone(), totals)
            })
            .collect()
    }
}

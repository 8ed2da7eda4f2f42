//! Knows all that is (not what will break): the cheapest way to carry everything, in the currency of the headline J.

use spillway_routing::Manifest;

use super::hindsight::{Period, Plan};
use super::solver::{Problem, solve};
use super::{Decide, Round};
use crate::Mode;
use crate::bill::SLOT_S;
use crate::demand::Demand;
use crate::format::Pathway;
use crate::routing::manifest;
use crate::world::World;

/// Seconds between solutions while nothing breaks.
const EVERY_S: u64 = 10;
/// Below the knee of load by so many standard deviations of views that fall by hash.
const SPREAD: f64 = 2.5;
/// In fluid mode none falls by hash: what demand does between two polls needs no more than this.
const FLUID_SPREAD: f64 = 0.026;
/// What was ill is left alone for so long, s: what comes and goes would only be chased.
const TRUST_S: u64 = 150;
/// What a move must be worth, in J: moved views refill their buffers from caches that are cold.
const STAY: f64 = 0.05;
/// Views that start in this time give up what is missing, s, down to this part of the bitrate.
const START_S: f64 = 300.0;
const FLOOR: f64 = 0.5;
/// Bad share from which a pathway is no room at all: a lower bitrate is better.
const DEAD: f64 = 0.5;
/// Share that keeps a CDN's caches warm.
const WARM: f64 = 0.05;

pub(crate) struct Oracle {
    at_once: bool,
    mode: Mode,
    /// Worst bad share lately by cell, and until when it counts.
    worst: Vec<(f64, u64)>,
    /// Paid and carried in all solutions so far: J weighs cost by the mean of the run.
    paid: f64,
    bits: f64,
    /// Shares solved last, by cell.
    last: Vec<f64>,
    /// How contracts are used, and which slots may lie above billed levels; without contracts list prices decide.
    plan: Option<(Plan, Vec<bool>)>,
    sheets: Vec<Pathway>,
}

/// Most that pathways carry of what they can: below the knee of load.
fn rooms(world: &World, mode: Mode, capacity: impl Iterator<Item = f64>) -> Vec<f64> {
    let knee = world.quality.load_knee.min(1.0);
    let full = |capacity: f64| {
        let spread = SPREAD / (capacity / world.bits_per_view).max(1.0).sqrt();
        (knee - if mode == Mode::Fluid { spread.min(FLUID_SPREAD) } else { spread }).max(0.3)
    };
    capacity.map(|capacity| capacity * full(capacity)).collect()
}

impl Oracle {
    pub(crate) fn new(world: &World, mode: Mode, demand: &Demand<'_>, at_once: bool) -> Self {
        let period = Period::of(world, demand, rooms(world, mode, world.paths.iter().map(|path| path.claimed)));
        Self {
            at_once,
            mode,
            worst: vec![(0.0, 0); world.cells()],
            paid: 0.0,
            bits: 0.0,
            last: vec![0.0; world.cells()],
            plan: period.map(|(period, free)| (period.plan(), free)),
            sheets: world.paths.iter().map(|path| path.sheet.clone()).collect(),
        }
    }

    /// USD per GB that decides, by pathway, and what all costs on average.
    fn prices(&self) -> (Vec<f64>, f64) {
        if let Some((plan, _)) = &self.plan {
            return (plan.price.clone(), plan.usual);
        }
        let list: Vec<f64> = self.sheets.iter().map(|sheet| sheet.price_usd_per_gb).collect();
        let mean = list.iter().sum::<f64>() / list.len() as f64;
        (list, if self.bits > 0.0 { self.paid / self.bits } else { mean }.max(1e-6))
    }

    /// A point of bad windows is worth as much as all cost (J).
    fn costs(&self, round: &Round<'_>) -> Vec<f64> {
        let world = round.world;
        let (prices, usual) = self.prices();
        let mut out = Vec::with_capacity(world.cells());
        for c in 0..world.cohorts.len() {
            for (p, price) in prices.iter().enumerate() {
                let cell = world.cell(c, p);
                let cost = 100.0 * self.worst[cell].0 + price / usual - STAY * self.last[cell];
                let open = world.serves[cell] && self.worst[cell].0 < DEAD;
                out.push(if open { cost } else { f64::INFINITY });
            }
        }
        out
    }
}

impl Decide for Oracle {
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)> {
        let second = round.evidence.second;
        for (worst, bad) in self.worst.iter_mut().zip(&round.truth.bad) {
            if *bad >= worst.0 || second >= worst.1 {
                *worst = (*bad, second + TRUST_S);
            }
        }
        if !round.truth.changed && !round.evidence.second.is_multiple_of(EVERY_S) {
            return Vec::new();
        }
        let world = round.world;
        let n = world.paths.len();
        let mut room = rooms(world, self.mode, round.truth.capacity.iter().copied());
        let all: f64 = room.iter().sum();
        if let Some((plan, free)) = &self.plan {
            let free = free.get((second / SLOT_S) as usize).copied().unwrap_or(false);
            room = plan.room(&self.sheets, &room, round.truth.demand.iter().sum(), free);
        }
        let cost = self.costs(round);
        let flow = warmed(round, &room, &cost);
        for (i, flow) in flow.iter().enumerate() {
            self.paid += flow * world.paths[i % n].sheet.price_usd_per_gb;
            self.bits += flow;
        }
        for (i, last) in self.last.iter_mut().enumerate() {
            *last = flow[i] / round.truth.demand[i / n].max(1e-9);
        }
        let spare: Vec<f64> = (0..n)
            .map(|p| (room[p] - (0..world.cohorts.len()).map(|c| flow[c * n + p]).sum::<f64>()).max(0.0))
            .map(|free| free / all)
            .collect();
        (0..world.regions.len()).map(|r| (r, self.region(round, r, &flow, (&spare, all)))).collect()
    }
}

/// Solves. Where the origin has a ceiling, each CDN that is well keeps a warm share first.
fn warmed(round: &Round<'_>, room: &[f64], cost: &[f64]) -> Vec<f64> {
    let (world, demand) = (round.world, &round.truth.demand);
    let n = world.paths.len();
    let mut kept = vec![0.0; world.cells()];
    if world.origin_ceiling_times > 0.0 {
        for (i, kept) in kept.iter_mut().enumerate() {
            if world.serves[i] && !world.paths[i % n].own && round.truth.bad[i] < 0.05 {
                *kept = WARM * demand[i / n];
            }
        }
    }
    let left: Vec<f64> = demand.iter().zip(kept.chunks(n)).map(|(all, kept)| all - kept.iter().sum::<f64>()).collect();
    let taken = crate::world::by_path(world, &kept);
    let room: Vec<f64> = room.iter().zip(taken).map(|(room, taken)| (room - taken).max(0.0)).collect();
    let flow = solve(&Problem { demand: &left, room: &room, cost });
    flow.iter().zip(&kept).map(|(flow, kept)| flow + kept).collect()
}

impl Oracle {
    fn region(&self, round: &Round<'_>, r: usize, flow: &[f64], (spare, room): (&[f64], f64)) -> Manifest {
        let world = round.world;
        let region = &world.regions[r];
        let n = world.paths.len();
        let mut wanted = Vec::new();
        for c in region.cohorts.clone() {
            let row = &flow[c * n..(c + 1) * n];
            let sum: f64 = row.iter().sum();
            let left = 1.0 - sum / round.truth.demand[c].max(1e-9);
            // What fits nowhere overfills those that live, if any does.
            let lives = |p: usize| region.pathways.contains(&p) && round.truth.bad[c * n + p] < DEAD;
            let any = (0..n).any(lives);
            let takes = |p: usize| if any { lives(p) } else { region.pathways.contains(&p) };
            let all: f64 = (0..n).filter(|p| takes(*p)).map(|p| round.truth.capacity[p]).sum();
            let rest = |p: usize| if takes(p) { round.truth.capacity[p] / all } else { 0.0 };
            wanted.push((0..n).map(|p| row[p] / round.truth.demand[c].max(1e-9) + left.max(0.0) * rest(p)).collect());
        }
        // The solver leaves what is missing to one region; all share it.
        let unmet = 1.0 - flow.iter().sum::<f64>() / round.truth.demand.iter().sum::<f64>().max(1e-9);
        // Only new views take a lower bitrate over: it must be there before it is needed.
        let coming = 1.0 - room / round.truth.peak.max(1.0);
        // Those that run keep theirs: who starts in the next minutes gives up what is missing now.
        let starting = (START_S / world.view_s).min(1.0);
        let part = (1.0 - coming).min((1.0 - unmet / starting).max(FLOOR)).min(1.0);
        let most = (part < 0.999).then(|| (world.bits_per_view * part / 1e3) as u32);
        let ttl_s = if round.truth.broken { 5 } else { 10 };
        manifest(world, r, &wanted, spare, if self.at_once { 0 } else { ttl_s }, most)
    }
}

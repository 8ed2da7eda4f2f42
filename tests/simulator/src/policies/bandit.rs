//! Discounted upper confidence bounds per group of sessions, as Pytheas (NSDI 2017): a group is a cohort.

use spillway_routing::Manifest;

use super::greedy::{pour, publish};
use super::units::{Averages, Unit, units};
use super::{Decide, Round};
use crate::world::World;

/// Discount per decision, weight of the unknown, seconds between decisions: fitted on the training seeds (see the
/// README).
const GAMMA: f64 = 0.95;
const UNKNOWN: f64 = 0.02;
const EVERY_S: u64 = 10;

pub(crate) struct Bandit {
    within_capacity: bool,
    averages: Averages,
    units: Vec<Vec<Unit>>,
    /// Discounted windows and good ones, by cohort and unit.
    tried: Vec<Vec<(f64, f64)>>,
}

impl Bandit {
    pub(crate) fn new(world: &World, within_capacity: bool) -> Self {
        let units: Vec<Vec<Unit>> = (0..world.regions.len()).map(|r| units(world, r)).collect();
        let tried = world.cohorts.iter().map(|cohort| vec![(0.0, 0.0); units[cohort.region].len()]).collect();
        Self { within_capacity, averages: Averages::new(world, 30.0, 30.0), units, tried }
    }

    fn hear(&mut self, round: &Round<'_>) {
        let world = round.world;
        self.averages.hear(world, round.evidence);
        for (c, cohort) in world.cohorts.iter().enumerate() {
            if !round.evidence.frames[cohort.region] {
                continue;
            }
            for (u, unit) in self.units[cohort.region].iter().enumerate() {
                for p in &unit.paths {
                    let counts = &round.evidence.cells[world.cell(c, *p)];
                    // A view whose requests fail is a bad window in the making.
                    let windows = (counts.windows + counts.failing + counts.late) as f64;
                    self.tried[c][u].0 += windows;
                    self.tried[c][u].1 += counts.windows.saturating_sub(counts.bad) as f64;
                }
            }
        }
    }

    /// Units by their upper bound, best first.
    fn order(&self, c: usize) -> Vec<usize> {
        let tried = &self.tried[c];
        let all: f64 = tried.iter().map(|(windows, _)| windows).sum::<f64>().max(1.0);
        let bound = |(windows, good): &(f64, f64)| {
            // What nobody has tried is thought to be good.
            let n = windows + 1.0;
            (good + 1.0) / n + UNKNOWN * ((1.0 + all).ln() / n).sqrt()
        };
        let mut order: Vec<usize> = (0..tried.len()).collect();
        order.sort_by(|a, b| bound(&tried[*b]).total_cmp(&bound(&tried[*a])));
        order
    }
}

impl Decide for Bandit {
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)> {
        self.hear(round);
        if !round.evidence.second.is_multiple_of(EVERY_S) {
            return Vec::new();
        }
        let world = round.world;
        let shares = if self.within_capacity {
            pour(world, &self.averages, &self.units, &mut |c| self.order(c))
        } else {
            (0..world.cohorts.len())
                .map(|c| {
                    let mut shares = vec![0.0; self.tried[c].len()];
                    shares[self.order(c)[0]] = 1.0;
                    shares
                })
                .collect()
        };
        for tried in self.tried.iter_mut().flatten() {
            *tried = (tried.0 * GAMMA, tried.1 * GAMMA);
        }
        publish(world, &self.units, &shares, &self.averages)
    }
}

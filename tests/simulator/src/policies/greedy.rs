//! Greedy by moving average: plain, sticky (as Openmix: 0.65), and within capacities.

use spillway_routing::Manifest;

use super::units::{Averages, Unit, spread, units};
use super::{Decide, Round};
use crate::routing::manifest;
use crate::world::World;

/// Memory of the averages, s; pseudo-windows; seconds between decisions: fitted on training seeds (see the README of
/// the scenarios).
const BEST: (f64, f64, u64) = (300.0, 300.0, 10);
const STICKY_ONE: (f64, f64, u64) = (30.0, 30.0, 10);
const CAPACITY: (f64, f64, u64) = (900.0, 1000.0, 60);
/// A tie within 5 % goes to the cheaper one, as Openmix applications do.
const TIE: f64 = 0.95;
/// Sticky: leaves only for one below this part of the present score.
const STICKY: f64 = 0.65;
/// Capacity-aware: good enough to go by price, and how full pathways are planned.
const GOOD_TIMES: f64 = 1.3;
const GOOD_PLUS: f64 = 0.01;
const FULL: f64 = 0.85;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Best,
    Sticky,
    Capacity,
}

pub(crate) struct Greedy {
    style: Style,
    every_s: u64,
    averages: Averages,
    units: Vec<Vec<Unit>>,
    /// Unit chosen last, by cohort.
    chosen: Vec<Option<usize>>,
}

impl Greedy {
    pub(crate) fn new(world: &World, style: Style) -> Self {
        let (tau_s, prior, every_s) = match style {
            Style::Best => BEST,
            Style::Sticky => STICKY_ONE,
            Style::Capacity => CAPACITY,
        };
        Self {
            style,
            every_s,
            averages: Averages::new(world, tau_s, prior),
            units: (0..world.regions.len()).map(|r| units(world, r)).collect(),
            chosen: vec![None; world.cohorts.len()],
        }
    }

    /// Shares by unit of one cohort.
    fn choose(&mut self, world: &World, cohort: usize) -> Vec<f64> {
        let units = &self.units[world.cohorts[cohort].region];
        let scores: Vec<f64> = units.iter().map(|unit| self.averages.score(world, cohort, unit)).collect();
        let best = (0..units.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
        let tied = (0..units.len()).filter(|u| scores[*u] * TIE <= scores[best]);
        let best = tied.min_by(|a, b| units[*a].price.total_cmp(&units[*b].price)).unwrap_or(best);
        let unit = match self.chosen[cohort] {
            Some(present) if self.style == Style::Sticky && scores[best] >= STICKY * scores[present] => present,
            _ => best,
        };
        self.chosen[cohort] = Some(unit);
        let mut shares = vec![0.0; units.len()];
        shares[unit] = 1.0;
        shares
    }
}

/// Pours cohorts, the largest first, into units in the order that `order` gives, up to a part of what is claimed.
pub(super) fn pour(
    world: &World,
    averages: &Averages,
    units: &[Vec<Unit>],
    order: &mut dyn FnMut(usize) -> Vec<usize>,
) -> Vec<Vec<f64>> {
    let mut room: Vec<f64> = world.paths.iter().map(|path| path.claimed * FULL).collect();
    let mut out: Vec<Vec<f64>> = world.cohorts.iter().map(|cohort| vec![0.0; units[cohort.region].len()]).collect();
    let mut cohorts: Vec<usize> = (0..world.cohorts.len()).collect();
    cohorts.sort_by(|a, b| averages.demand(world, *b).total_cmp(&averages.demand(world, *a)));
    for c in cohorts {
        let demand = averages.demand(world, c).max(1.0);
        let mut left = 1.0;
        let order = order(c);
        for &u in &order {
            let unit = &units[world.cohorts[c].region][u];
            let free: f64 = unit.paths.iter().map(|p| room[*p]).sum();
            let take = f64::min(left, free / demand).max(0.0);
            if free > 0.0 {
                unit.paths.iter().for_each(|p| room[*p] -= room[*p] / free * take * demand);
            }
            out[c][u] += take;
            left -= take;
        }
        if left > 1e-9 {
            // Nobody has room: by capacity.
            let units = &units[world.cohorts[c].region];
            let size = |unit: &Unit| unit.paths.iter().map(|p| world.paths[*p].claimed).sum::<f64>();
            let all: f64 = units.iter().map(size).sum();
            out[c].iter_mut().zip(units).for_each(|(share, unit)| *share += left * size(unit) / all);
        }
    }
    out
}

impl Decide for Greedy {
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)> {
        let world = round.world;
        self.averages.hear(world, round.evidence);
        if !round.evidence.second.is_multiple_of(self.every_s) {
            return Vec::new();
        }
        let shares: Vec<Vec<f64>> = if self.style == Style::Capacity {
            let averages = &self.averages;
            let units = &self.units;
            pour(world, averages, units, &mut |c| {
                let units = &units[world.cohorts[c].region];
                let scores: Vec<f64> = units.iter().map(|unit| averages.score(world, c, unit)).collect();
                let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
                let good = (GOOD_TIMES * best).max(best + GOOD_PLUS);
                let mut order: Vec<usize> = (0..units.len()).collect();
                order.sort_by(|a, b| {
                    let key = |u: &usize| if scores[*u] <= good { (0, units[*u].price) } else { (1, scores[*u]) };
                    let ((i, x), (j, y)) = (key(a), key(b));
                    i.cmp(&j).then(x.total_cmp(&y))
                });
                order
            })
        } else {
            (0..world.cohorts.len()).map(|c| self.choose(world, c)).collect()
        };
        publish(world, &self.units, &shares, &self.averages)
    }
}

/// A manifest per region out of shares by cohort and unit; who takes over is drawn by static weights.
pub(super) fn publish(
    world: &World,
    units: &[Vec<Unit>],
    shares: &[Vec<f64>],
    averages: &Averages,
) -> Vec<(usize, Manifest)> {
    let of = |r: usize| {
        let cohorts = world.regions[r].cohorts.clone();
        let wanted: Vec<Vec<f64>> = cohorts.map(|c| spread(world, r, &units[r], &shares[c], averages)).collect();
        (r, manifest(world, r, &wanted, &world.regions[r].static_weights, 10, None))
    };
    (0..world.regions.len()).map(of).collect()
}

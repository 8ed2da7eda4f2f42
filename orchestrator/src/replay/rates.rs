//! How views fared where: bad-window rates of pathway and region. First counts what the round itself saw; where that is
//! little, the last seconds; where those are little, what the engine believes.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, RegionId};
use spillway_orchestrator_core::{Parameters, RoundInput};

use super::arm::Arm;

/// Memory of the last seconds, s: about what a view that is told to leave still stays, and is heard.
const MEMORY_S: f64 = 10.0;

/// Windows and the bad ones among them, by weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    pub all: f64,
    pub bad: f64,
}

/// Windows by region and pathway.
pub(super) type Cells = BTreeMap<RegionId, BTreeMap<PathwayId, Windows>>;

/// The round's windows of each cell, and decaying sums.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    fresh: Cells,
    recent: Cells,
}

/// A rate and what it rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// 0 to 1.
    pub bad: f64,
    /// Fewer windows than pseudo-windows: rather believed than observed.
    pub hardly_observed: bool,
}

impl Windows {
    fn add(&mut self, more: Self) {
        self.all += more.all;
        self.bad += more.bad;
    }
}

/// The round's windows by region and pathway, weighed as the engine does.
pub(super) fn fresh(input: &RoundInput) -> Cells {
    let mut out = Cells::new();
    for cell in input.cells.iter().filter(|cell| cell.windows > 0 || cell.weight_milli > 0) {
        let (all, bad) = if cell.weight_milli == 0 {
            (cell.windows as f64, cell.bad_windows as f64)
        } else {
            (cell.weight_milli as f64 / 1e3, cell.bad_weight_milli as f64 / 1e3)
        };
        let of_region = out.entry(cell.region.clone()).or_default();
        of_region.entry(cell.pathway.clone()).or_default().add(Windows { all, bad: bad.min(all) });
    }
    out
}

impl Rates {
    /// Takes a round's windows, which came in `seconds`.
    pub fn take(&mut self, seconds: f64, fresh: &Cells) {
        self.fresh.clone_from(fresh);
        let keep = (-seconds / MEMORY_S).exp();
        for windows in self.recent.values_mut().flat_map(BTreeMap::values_mut) {
            (windows.all, windows.bad) = (windows.all * keep, windows.bad * keep);
        }
        for (region, pathways) in fresh {
            for (pathway, windows) in pathways {
                self.recent.entry(region.clone()).or_default().entry(pathway.clone()).or_default().add(*windows);
            }
        }
    }

    /// The round's rate, pulled by ten pseudo-windows (as the engine pulls a network's) towards that of the last seconds,
    /// which is pulled by thirty (as it pulls a pathway's of 20 s) towards the base's own estimate, or the new one's of a
    /// pathway that the base doesn't have.
    pub fn of(&self, region: &RegionId, pathway: &PathwayId, (base, new): (&Arm, &Arm), p: &Parameters) -> Rate {
        let of = |cells: &Cells| cells.get(region).and_then(|of| of.get(pathway)).copied().unwrap_or_default();
        let (fresh, recent) = (of(&self.fresh), of(&self.recent));
        let believed = |arm: &Arm| Some(arm.plan(region)?.trace.get(pathway)?.rate);
        let believed = believed(base).or_else(|| believed(new)).unwrap_or(p.baseline_default);
        let lately = shrunk(recent, believed, p.reference_prior_windows);
        Rate {
            bad: shrunk(fresh, lately, p.neighbour_prior_windows),
            hardly_observed: recent.all < p.reference_prior_windows,
        }
    }
}

/// (bad + prior × parent) ÷ (windows + prior).
fn shrunk(windows: Windows, parent: f64, prior: f64) -> f64 {
    (windows.bad + prior * parent) / (windows.all + prior).max(1e-9)
}

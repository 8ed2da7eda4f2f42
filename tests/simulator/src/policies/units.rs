//! What the baselines choose among in a region: CDNs, and own clusters as a whole; and what they measure of these.

use crate::bill::average;
use crate::evidence::Evidence;
use crate::world::World;

/// A CDN, or the nodes of an own cluster.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub paths: Vec<usize>,
    pub price: f64,
}

/// The units of a region.
pub(crate) fn units(world: &World, region: usize) -> Vec<Unit> {
    let mut out: Vec<Unit> = Vec::new();
    for &p in &world.regions[region].pathways {
        let group = &world.paths[p].group;
        let same = |unit: &&mut Unit| group.is_some() && world.paths[unit.paths[0]].group == *group;
        match out.iter_mut().find(same) {
            Some(unit) => unit.paths.push(p),
            None => out.push(Unit { paths: vec![p], price: average(&world.paths[p].sheet) }),
        }
    }
    out
}

/// Moving averages of what viewers report.
#[derive(Clone, Debug)]
pub(crate) struct Averages {
    tau_s: f64,
    /// Pseudo-windows that a thin cell gets from its region, and the region from what is usual.
    prior: f64,
    windows: Vec<f64>,
    bad: Vec<f64>,
    views: Vec<f64>,
    failing: Vec<f64>,
    /// Views and bits per second lately, by cohort.
    pub cohort_views: Vec<f64>,
    pub bits_per_view: f64,
}

/// Pseudo-windows of a node when it is asked whether it is healthy.
const PRIOR: f64 = 30.0;

impl Averages {
    pub(crate) fn new(world: &World, tau_s: f64, prior: f64) -> Self {
        let cells = vec![0.0; world.cells()];
        Self {
            tau_s,
            prior,
            windows: cells.clone(),
            bad: cells.clone(),
            views: cells.clone(),
            failing: cells,
            cohort_views: vec![0.0; world.cohorts.len()],
            bits_per_view: world.bits_per_view,
        }
    }

    pub(crate) fn hear(&mut self, world: &World, evidence: &Evidence) {
        let keep = (-(evidence.interval_s as f64) / self.tau_s).exp();
        for (c, cohort) in world.cohorts.iter().enumerate() {
            if !evidence.frames[cohort.region] {
                continue;
            }
            let views: u64 = evidence.row(world, c).iter().map(|cell| cell.views).sum();
            if views > 0 {
                self.cohort_views[c] = views as f64;
            }
            for (p, counts) in evidence.row(world, c).iter().enumerate() {
                let i = world.cell(c, p);
                self.windows[i] = self.windows[i] * keep + counts.windows as f64;
                self.bad[i] = self.bad[i] * keep + counts.bad as f64;
                self.views[i] = self.views[i] * keep + counts.views as f64;
                self.failing[i] = self.failing[i] * keep + (counts.failing + counts.late) as f64;
            }
        }
        let (bits, views) = evidence.cells.iter().fold((0, 0), |sum, c| (sum.0 + c.bits, sum.1 + c.views));
        if views > 0 && bits > 0 {
            self.bits_per_view = bits as f64 / (views * evidence.interval_s) as f64;
        }
    }

    /// Bad windows and failing views of a cohort on a unit; thin cells lean on their region.
    pub(crate) fn score(&self, world: &World, cohort: usize, unit: &Unit) -> f64 {
        let sum = |cohorts: std::ops::Range<usize>| {
            let mut out = [0.0; 4];
            for i in cohorts.flat_map(|c| unit.paths.iter().map(move |p| world.cell(c, *p))) {
                for (sum, value) in out.iter_mut().zip([self.windows[i], self.bad[i], self.views[i], self.failing[i]]) {
                    *sum += value;
                }
            }
            out
        };
        let usual = world.quality.usual_bad_windows;
        let prior = self.prior;
        let [windows, bad, views, failing] = sum(world.regions[world.cohorts[cohort].region].cohorts.clone());
        let parent = (bad + prior * usual) / (windows + prior);
        let parent_failing = failing / (views + prior);
        let [windows, bad, views, failing] = sum(cohort..cohort + 1);
        (bad + prior * parent) / (windows + prior) + (failing + prior * parent_failing) / (views + prior)
    }

    /// Bit/s that a cohort wants.
    pub(crate) fn demand(&self, world: &World, cohort: usize) -> f64 {
        let views = self.cohort_views[cohort];
        let part = &world.cohorts[cohort];
        let views = if views > 0.0 { views } else { part.part * world.regions[part.region].views };
        views * self.bits_per_view
    }

    /// Bad share of one node against its sisters': a cluster's dead node gets nothing.
    pub(crate) fn healthy(&self, world: &World, region: usize, path: usize) -> bool {
        let cohorts = world.regions[region].cohorts.clone();
        let sums = cohorts.map(|c| world.cell(c, path)).fold((0.0, 0.0, 0.0, 0.0), |s, i| {
            (s.0 + self.windows[i], s.1 + self.bad[i], s.2 + self.views[i], s.3 + self.failing[i])
        });
        sums.1 / (sums.0 + PRIOR) < 0.15 && sums.3 / (sums.2 + PRIOR) < 0.15
    }
}

/// Shares by pathway of shares by unit: a cluster's by the capacity of its healthy nodes.
pub(crate) fn spread(world: &World, region: usize, units: &[Unit], shares: &[f64], averages: &Averages) -> Vec<f64> {
    let mut out = vec![0.0; world.paths.len()];
    for (unit, share) in units.iter().zip(shares).filter(|(_, share)| **share > 0.0) {
        let mut nodes: Vec<usize> =
            unit.paths.iter().copied().filter(|p| averages.healthy(world, region, *p)).collect();
        if nodes.is_empty() {
            nodes.clone_from(&unit.paths);
        }
        let all: f64 = nodes.iter().map(|p| world.paths[*p].claimed).sum();
        nodes.iter().for_each(|p| out[*p] += share * world.paths[*p].claimed / all);
    }
    out
}

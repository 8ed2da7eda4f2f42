//! The lower levels: networks of a pathway in a region, and protocols in a network.

use std::collections::BTreeMap;

use crate::Parameters;
use crate::estimate::{at_most, ill_if, shrunk};
use crate::observe::{CellSeen, Network, Windows, believed, without};

/// Memory of what a network's neighbours are compared by, s.
const RECENT_S: f64 = 20.0;

/// Sums over the pathways that are fit to be compared with, by network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    networks: BTreeMap<Option<u32>, Windows>,
}

impl Network {
    /// Takes the round's windows into its sums.
    pub(crate) fn learn(&mut self, dt_s: f64, p: &Parameters) {
        let keep = (-dt_s / p.health_tau_s).exp();
        self.health.decay(keep);
        self.recent.decay((-dt_s / RECENT_S).exp());
        for (windows, bad) in &mut self.protocols {
            *windows *= keep as f32;
            *bad *= keep as f32;
        }
        self.fresh.bad *= without(self.unsent, self.views as f64, self.fresh.all, self.fresh.bad);
        self.told = self.told * (-dt_s / RECENT_S).exp() + self.fresh.bad;
        let minute = (self.recent.all + self.fresh.all) * 60.0 / RECENT_S;
        let (views, views_bad) = (self.views as f64 - self.unsent, self.views_bad as f64 - self.unsent);
        self.fresh.bad *= believed(minute, self.told * 60.0 / RECENT_S, views, views_bad);
        let fresh = self.fresh;
        self.health.add(&fresh);
        self.recent.add(&fresh);
    }

    /// Bad-window rate, pulled towards the region's.
    pub(crate) fn estimate(&self, parent: f64, p: &Parameters) -> f64 {
        shrunk(self.health.bad, self.health.all, parent, p.prior_windows)
    }

    /// The same of one protocol, pulled towards the network's.
    pub(crate) fn estimate_protocol(&self, index: usize, parent: f64, p: &Parameters) -> f64 {
        let (windows, bad) = self.protocols[index];
        shrunk(f64::from(bad), f64::from(windows), self.estimate(parent, p), p.prior_windows)
    }

    /// Whether the neighbours' windows rule out that they are half as ill.
    pub(crate) fn neighbours_are_well(&self, p: &Parameters) -> bool {
        let [own, own_bad, others, others_bad] = self.run.map(f64::from);
        if others < 0.5 {
            return false;
        }
        let rate = own_bad / own.max(1.0) / 2.0;
        at_most(others_bad, others, rate) < p.others_ill_chance
    }

    /// Adds the round's evidence against `neighbours`, as the region's CUSUM does.
    fn compare(&mut self, neighbours: Windows, fresh: Windows, level: Level, dt_s: f64, p: &Parameters) {
        if self.fresh.all <= 0.0 {
            return;
        }
        let p0 = level
            .baseline
            .max(shrunk(neighbours.bad, neighbours.all, level.reference, p.neighbour_prior_windows))
            .min(0.9);
        let p1 = ill_if(p0, p);
        let good = (self.fresh.all - self.fresh.bad).max(0.0);
        let independent =
            if self.fresh.squares > 0.0 { (self.fresh.all / self.fresh.squares).clamp(0.0, 1.0) } else { 1.0 };
        let per_10_s = self.recent.all * 10.0 / RECENT_S;
        let effect = 1.0 + (per_10_s - 1.0).max(0.0) * p.window_correlation;
        let step = self.fresh.bad * (p1 / p0).ln() + good * ((1.0 - p1) / (1.0 - p0)).ln();
        let step = (step * independent / effect).min(p.cusum_clip_per_s * dt_s);
        self.cusum = (self.cusum + step).clamp(0.0, 2.0 * p.cusum_down);
        if self.cusum <= 0.0 {
            self.run = [0.0; 4];
            return;
        }
        let seen = [self.fresh.all, self.fresh.bad, fresh.all, fresh.bad];
        for (sum, seen) in self.run.iter_mut().zip(seen) {
            *sum += seen as f32;
        }
    }
}

/// What a pathway's networks start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    /// Usual rate of the pathway in the region.
    pub baseline: f64,
    /// Rate of its neighbours in the region.
    pub reference: f64,
    /// Others may be compared with it.
    pub fair: bool,
}

/// One round of all networks of a region. `levels` are in the order of `cells`.
pub(crate) fn learn_networks(cells: &mut [&mut CellSeen], levels: &[Level], dt_s: f64, p: &Parameters) {
    let mut recent = Neighbours::default();
    let mut fresh = Neighbours::default();
    for (cell, level) in cells.iter_mut().zip(levels) {
        for network in &mut cell.networks {
            network.learn(dt_s, p);
            if level.fair && network.recent.all > 0.01 {
                recent.networks.entry(network.asn).or_default().add(&network.recent);
                fresh.networks.entry(network.asn).or_default().add(&network.fresh);
            }
        }
    }
    for (cell, level) in cells.iter_mut().zip(levels) {
        for network in cell.networks.iter_mut().filter(|network| network.asn.is_some()) {
            let without = |of: &Neighbours, own: Windows| {
                let mut sums = of.networks.get(&network.asn).copied().unwrap_or_default();
                if level.fair && network.recent.all > 0.01 {
                    sums.all = (sums.all - own.all).max(0.0);
                    sums.bad = (sums.bad - own.bad).max(0.0);
                }
                sums
            };
            if network.fresh.all > 0.0 {
                let (of_recent, of_fresh) = (without(&recent, network.recent), without(&fresh, network.fresh));
                network.compare(of_recent, of_fresh, *level, dt_s, p);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(networks: &[(u32, f64, f64)]) -> CellSeen {
        let mut cell = CellSeen::default();
        for (asn, windows, bad) in networks {
            cell.network(Some(*asn)).fresh = Windows { all: *windows, bad: *bad, squares: *windows };
        }
        cell
    }

    #[test]
    fn a_network_that_is_ill_on_one_pathway_alone_stands_out_and_one_that_is_ill_on_both_does_not() {
        let p = Parameters::default();
        let mut ill = cell(&[(1, 10.0, 3.0), (2, 10.0, 3.0), (3, 10.0, 0.0)]);
        let mut well = cell(&[(1, 10.0, 0.0), (2, 10.0, 3.0), (3, 10.0, 0.0)]);
        let level = Level { baseline: 0.01, reference: 0.01, fair: true };
        for _ in 0..30 {
            learn_networks(&mut [&mut ill, &mut well], &[level, level], 2.0, &p);
        }
        assert!(ill.network(Some(1)).cusum > p.cusum_down && ill.network(Some(1)).neighbours_are_well(&p));
        assert!(ill.network(Some(2)).cusum < 1.0, "ACCESS, not PATH");
        assert!(ill.network(Some(3)).cusum < 1.0);
    }

    #[test]
    fn a_protocol_is_pulled_towards_its_network() {
        let p = Parameters::default();
        let mut seen = cell(&[(1, 100.0, 50.0)]);
        let network = seen.network(Some(1));
        network.protocols[0] = (100.0, 50.0);
        network.learn(2.0, &p);
        let (hls, dash) = (network.estimate_protocol(0, 0.01, &p), network.estimate_protocol(1, 0.01, &p));
        assert!(hls > dash && dash > 0.1, "{hls} {dash}");
    }
}

//! One network on one pathway: PATH×ASN, as far as the same network is well elsewhere.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, Verdict};

use crate::detect::reference::is_hard;
use crate::detect::{Alarm, Finding, Scene};
use crate::estimate::shrunk;
use crate::memory::CellMemory;
use crate::observe::{CellSeen, Failing, Network};

impl Scene<'_> {
    /// Networks that are ill on this pathway and well on its neighbours.
    pub(super) fn ill_networks(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen) -> BTreeMap<u32, Finding> {
        let mut out = BTreeMap::new();
        if !self.compares || !memory.machine.is_reference() || self.shielded_by_origin(id, memory) {
            return out;
        }
        if self.strained.contains_key(id) {
            return out;
        }
        let parent = memory.health.estimate(self.parent(id, memory), self.parameters);
        if !self.telemetry_lost {
            for network in seen.networks.iter().filter(|network| network.cusum > self.parameters.cusum_down) {
                if let (Some(asn), Some(finding)) = (network.asn, self.slow_network(id, memory, network, parent)) {
                    out.insert(asn, finding);
                }
            }
        }
        let here = self.failing.get(self.region);
        if let Some((here, own)) = here.and_then(|here| Some((here, here.get(id).filter(|own| own.failing > 0.0)?))) {
            let others = self.others(id, here);
            for (asn, counts) in &own.networks {
                let Some(asn) = asn else { continue };
                if let Some(finding) = self.fast_network(*asn, *counts, &others) {
                    out.insert(*asn, finding);
                }
            }
        }
        out
    }

    fn slow_network(&self, id: &PathwayId, memory: &CellMemory, network: &Network, parent: f64) -> Option<Finding> {
        let p = self.parameters;
        let asn = network.asn?;
        let rate = network.estimate(parent, p);
        // What is usual for the network there is no fault of today.
        let usual = self.learned.get(&(id.clone(), self.region.clone(), asn)).map_or(0.0, |health| {
            p.degraded_times_baseline * shrunk(health.bad_windows, health.windows, memory.baseline, p.prior_windows)
        });
        if rate <= self.ill_rate(memory).max(usual) || !network.neighbours_are_well(p) {
            return None;
        }
        let alarm = if rate > p.down_rate { Alarm::Down } else { Alarm::Degraded };
        let text = format!("{:.1} % of windows bad in AS{asn} (S {:.0}), well elsewhere", rate * 100.0, network.cusum);
        Some(Finding { alarm, text: format!("{}: {text}", Verdict::PathAsn), quiet: false })
    }

    fn fast_network(&self, asn: u32, (views, failing): (f64, f64), others: &[&Failing]) -> Option<Finding> {
        let p = self.parameters;
        let own = Failing { views, failing, networks: BTreeMap::new() };
        if !is_hard(&own, p) {
            return None;
        }
        let (there, failing_there) = others
            .iter()
            .filter_map(|other| other.networks.get(&Some(asn)))
            .fold((0.0, 0.0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
        let reference = (failing_there + 0.02 * p.reference_prior_views) / (there + p.reference_prior_views);
        if there < p.reference_prior_views || own.share() <= p.fast_times_reference * reference {
            return None;
        }
        let text = format!(
            "{failing:.0} of {views:.0} views of AS{asn} failing in {} s, {failing_there:.0} of {there:.0} elsewhere",
            p.fast_window_s
        );
        Some(Finding { alarm: Alarm::Down, text: format!("{}: {text}", Verdict::PathAsn), quiet: false })
    }
}

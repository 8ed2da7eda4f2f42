//! Rules for single networks: the region's weights, without what is ill for them.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{PathwayId, RegionId};
use spillway_routing::{CohortRule, Target};

use crate::Parameters;
use crate::engine::{Engine, RegionMemory};
use crate::weights::{Shares, normalised, to_weights};

impl Engine {
    /// A rule for each network with a pathway that is ill for it alone, those with most viewers first.
    pub(crate) fn network_rules(&self, region: &RegionId, everyone: &CohortRule, p: &Parameters) -> Vec<CohortRule> {
        let memory = &self.regions[region];
        let mut networks: BTreeSet<u32> = BTreeSet::new();
        for ((asn, _), machine) in &memory.networks {
            if machine.factor(p) < 1.0 {
                networks.insert(*asn);
            }
        }
        let mut rules: Vec<(u64, CohortRule)> = networks
            .into_iter()
            .filter_map(|asn| Some((self.views_of(region, asn), network_rule(memory, asn, everyone, p)?)))
            .collect();
        rules.sort_by(|(a, one), (b, other)| b.cmp(a).then(one.asn.cmp(&other.asn)));
        rules.into_iter().take(p.cohort_rules_max).map(|(_, rule)| rule).collect()
    }

    fn views_of(&self, region: &RegionId, asn: u32) -> u64 {
        let of = |seen: &crate::observe::CellSeen| {
            let found = seen.networks.binary_search_by_key(&Some(asn), |network| network.asn);
            found.map_or(0, |index| seen.networks[index].views)
        };
        self.observed.region(region).map(|(_, seen)| of(seen)).sum()
    }
}

fn network_rule(memory: &RegionMemory, asn: u32, everyone: &CohortRule, p: &Parameters) -> Option<CohortRule> {
    let mut factors: BTreeMap<&PathwayId, f64> = BTreeMap::new();
    let mut reasons = Vec::new();
    for ((network, id), machine) in &memory.networks {
        let factor = machine.factor(p);
        if *network == asn && factor < 1.0 {
            factors.insert(id, factor);
            reasons.push(format!("{id} {}: {}", machine.state, machine.reason));
        }
    }
    let adapt = |weights: &spillway_routing::Weights| {
        let shares: Shares = weights
            .iter()
            .filter_map(|(target, weight)| match target {
                Target::Pathway(id) => Some((id.clone(), f64::from(*weight) / 1e6)),
                Target::Group(_) => None,
            })
            .collect();
        let room: Shares = everyone
            .spare
            .iter()
            .filter_map(|(target, weight)| match target {
                Target::Pathway(id) if !factors.contains_key(id) => Some((id.clone(), f64::from(*weight))),
                _ => None,
            })
            .collect();
        to_weights(&without(&shares, &factors, &room)?)
    };
    let ill = |target: &Target| matches!(target, Target::Pathway(id) if factors.contains_key(id));
    let spare = everyone.spare.iter().filter(|(target, _)| !ill(target));
    let spare = spare.map(|(target, weight)| (target.clone(), *weight)).collect();
    Some(CohortRule {
        asn: Some(asn),
        weights_new: adapt(&everyone.weights_new)?,
        weights_running: adapt(&everyone.weights_running)?,
        spare,
        reason: reasons.join("; "),
        ..everyone.clone()
    })
}

/// `shares` with some pathways reduced to their factor; what they lose goes where there is `room`. `None` if nothing
/// else can take it.
fn without(shares: &Shares, factors: &BTreeMap<&PathwayId, f64>, room: &Shares) -> Option<Shares> {
    let room = normalised(room);
    if room.is_empty() {
        return None;
    }
    let mut out = shares.clone();
    let mut lost = 0.0;
    for (id, share) in &mut out {
        let kept = *share * factors.get(id).copied().unwrap_or(1.0);
        lost += *share - kept;
        *share = kept;
    }
    for (id, part) in room {
        *out.entry(id).or_default() += part * lost;
    }
    Some(normalised(&out))
}

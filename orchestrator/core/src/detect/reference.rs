//! The fast lane's reference: what share of views would fail on a pathway if it were as good as the others?

use crate::Parameters;
use crate::observe::Failing;

/// Failing share that is usual.
pub(super) const USUAL: f64 = 0.01;
/// Views elsewhere from which they are a reference at all.
const ENOUGH: f64 = 10.0;

/// Failing share to expect on a pathway with the networks of `own`, judging by `others` of the same region and, behind
/// them, by `world`: what shares its origin in other regions. `None` if neither has views.
///
/// Each network is compared with itself, so that an ISP fault raises the reference where its viewers are. The pooled
/// others count, or the best single one with enough views, so that two dead pathways don't excuse each other.
pub(crate) fn reference(own: &Failing, others: &[&Failing], world: &Failing, parameters: &Parameters) -> Option<f64> {
    let parent = if world.views >= ENOUGH { Some(shrunk(world.failing, world.views, USUAL, parameters)) } else { None };
    let mut pooled = Failing::default();
    others.iter().for_each(|other| pooled.add(other));
    if pooled.views < 1.0 {
        return parent;
    }
    let all = shrunk(pooled.failing, pooled.views, parent.unwrap_or(USUAL), parameters);
    let best_single = others
        .iter()
        .filter(|other| other.views >= parameters.reference_single_views as f64)
        .map(|other| standardised(own, other, shrunk(other.failing, other.views, all, parameters), parameters))
        .min_by(f64::total_cmp);
    let pooled = standardised(own, &pooled, all, parameters);
    Some(best_single.map_or(pooled, |single| single.min(pooled)))
}

fn shrunk(failing: f64, views: f64, parent: f64, parameters: &Parameters) -> f64 {
    let prior = parameters.reference_prior_views;
    (failing + prior * parent) / (views + prior)
}

/// `other`'s rates by network, in the mix of networks that `own` has.
fn standardised(own: &Failing, other: &Failing, rate: f64, parameters: &Parameters) -> f64 {
    if own.views <= 0.0 {
        return rate;
    }
    own.networks
        .iter()
        .map(|(asn, (views, _))| {
            let (there, failing) = other.networks.get(asn).copied().unwrap_or_default();
            views / own.views * shrunk(failing, there, rate, parameters)
        })
        .sum()
}

/// The network that holds at least `concentration` of the failing views while it isn't nearly all of the pathway and
/// while no other pathway has views in it to compare with.
pub(crate) fn lone_network(own: &Failing, others: &[&Failing], parameters: &Parameters) -> Option<Option<u32>> {
    let (asn, (views, failing)) = own.networks.iter().max_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b))?;
    let there: f64 = others.iter().filter_map(|other| other.networks.get(asn)).map(|(views, _)| views).sum();
    let concentrated = *failing >= parameters.asn_concentration * own.failing;
    let elsewhere = own.views - views >= parameters.reference_prior_views;
    (concentrated && elsewhere && there < parameters.reference_prior_views).then_some(*asn)
}

/// Whether so many of the views fail that it is a hard failure, whatever the others do.
pub(crate) fn is_hard(failing: &Failing, parameters: &Parameters) -> bool {
    let share = failing.share();
    (failing.failing >= parameters.fast_views_min && share >= parameters.fast_share)
        || (failing.failing >= parameters.fast_small_views_min && share >= parameters.fast_small_share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(networks: &[(u32, f64, f64)]) -> Failing {
        let mut out = Failing::default();
        for (asn, views, failing) in networks {
            out.add(&Failing { networks: [(Some(*asn), (*views, *failing))].into(), views: *views, failing: *failing });
        }
        out
    }

    #[test]
    fn a_network_is_compared_with_itself() {
        let parameters = Parameters::default();
        // Network 1 fails everywhere; the pathway has mostly network 1, the other one little of it.
        let own = cell(&[(1, 80.0, 80.0), (2, 20.0, 0.0)]);
        let other = cell(&[(1, 10.0, 10.0), (2, 90.0, 0.0)]);
        let reference = reference(&own, &[&other], &Failing::default(), &parameters).expect("views");
        assert!(reference > 0.6, "{reference}");
    }

    #[test]
    fn two_dead_pathways_do_not_excuse_each_other() {
        let parameters = Parameters::default();
        let dead = cell(&[(1, 100.0, 90.0)]);
        let well = cell(&[(1, 40.0, 0.0)]);
        let reference = reference(&dead, &[&dead, &well], &Failing::default(), &parameters).expect("views");
        assert!(reference < 0.1, "{reference}");
    }
}

//! What the cheapest plan costs that keeps the engine's own rules: own edges up to their target only, a warm share for
//! each CDN, no CDN with too large a part of a region. It knows all demand and looks at nothing but money, so what the
//! engine costs beyond it isn't the price of its rules.

use spillway_orchestrator_core::Parameters;

use super::hindsight::{Period, Plan, by_level};
use crate::bill::is_contract;
use crate::demand::Demand;
use crate::world::World;

/// What the rules leave to CDNs in one moment, over all regions.
#[derive(Clone, Debug)]
struct Left {
    wanted: f64,
    all: f64,
    /// Least and most by pathway; both 0 for own edges.
    least: Vec<f64>,
    most: Vec<f64>,
}

/// USD; `None` in a world without contracts.
pub(crate) fn cheapest_within_rules(world: &World, demand: &Demand<'_>) -> Option<f64> {
    let p = Parameters::default();
    let room = |path: &crate::world::Path| path.claimed * if path.own { p.own_target } else { p.cdn_target };
    let (period, _) = Period::of(world, demand, world.paths.iter().map(room).collect())?;
    let moments: Vec<Left> = period.moments.iter().map(|wanted| left(world, &period, wanted, &p)).collect();
    let judge = |plan: &Plan| {
        let loads: Vec<Vec<f64>> = moments
            .iter()
            .enumerate()
            .map(|(k, left)| pour(&period, plan, left, k + period.free >= moments.len()))
            .collect();
        let placed: f64 = loads.iter().flatten().sum();
        let wanted: f64 = moments.iter().map(|left| left.wanted).sum();
        period.bill_of(&loads, 0.0, placed, wanted, plan.usual)
    };
    Some(period.search(&judge).1.usd)
}

fn left(world: &World, period: &Period, wanted: &[f64], p: &Parameters) -> Left {
    let n = world.paths.len();
    let mut out = Left { wanted: 0.0, all: wanted.iter().sum(), least: vec![0.0; n], most: vec![0.0; n] };
    for region in &world.regions {
        let all: f64 = region.cohorts.clone().map(|c| wanted[c]).sum();
        let own: Vec<usize> = region.pathways.iter().copied().filter(|path| world.paths[*path].own).collect();
        let (warm, most) = match own.len() {
            0 => (p.warm_share_small, p.concentration_small),
            _ => (p.warm_share, p.concentration),
        };
        let cdns = (region.pathways.len() - own.len()) as f64;
        let on_own = own.iter().map(|path| period.room[*path]).sum::<f64>().min(all * (1.0 - warm * cdns));
        out.wanted += all - on_own;
        for &path in region.pathways.iter().filter(|path| !world.paths[**path].own) {
            out.least[path] += warm * all;
            out.most[path] += (most * (all - on_own)).max(warm * all);
        }
    }
    out.most.iter_mut().zip(&period.room).for_each(|(most, room)| *most = most.min(*room));
    out
}

/// Levels first, then what is committed or becomes cheaper, then the rest by list price; as far as the plan wants it, and
/// what is left as far as the rules allow.
fn pour(period: &Period, plan: &Plan, left: &Left, free: bool) -> Vec<f64> {
    let sheets = &period.sheets;
    let rank = |p: usize| match &sheets[p] {
        sheet if by_level(sheet) => 0,
        sheet if is_contract(sheet) => 1,
        _ => 2,
    };
    let mut order: Vec<usize> = (0..sheets.len()).filter(|p| left.most[*p] > 0.0).collect();
    order.sort_by(|a, b| {
        rank(*a).cmp(&rank(*b)).then(sheets[*a].price_usd_per_gb.total_cmp(&sheets[*b].price_usd_per_gb))
    });
    let mut out = left.least.clone();
    let mut rest = left.wanted - out.iter().sum::<f64>();
    let held = plan.held(sheets, &period.room, left.all, free);
    for most in [&held, &left.most] {
        for &p in &order {
            let take = (most[p].min(left.most[p]) - out[p]).clamp(0.0, rest.max(0.0));
            out[p] += take;
            rest -= take;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scenario;

    #[test]
    fn rules_cost_what_a_flat_price_makes_of_them() {
        // 100 Mbit/s, of which the edge may carry 40; each CDN keeps 5, and the cheap one at most 42 of the other 60.
        let text = r#"
            name = "rules"
            seconds = 86400
            step_s = 300
            [world]
            bitrate_kbps = 1000
            region = [{ id = "eu", views = 100, static_weights = { cdn-a = 1 } }]
            [[world.pathway]]
            id = "own-1"
            capacity_mbps = 50
            [[world.pathway]]
            id = "cdn-a"
            capacity_mbps = 1000
            price_usd_per_gb = 0.01
            [[world.pathway]]
            id = "cdn-b"
            capacity_mbps = 1000
            price_usd_per_gb = 0.02
            tiers = [[1, 0.015]]
        "#;
        let scenario = Scenario::parse(text, &|name| Err(name.to_owned())).expect("valid");
        let world = World::new(&scenario, 1, false);
        let usd = cheapest_within_rules(&world, &Demand::new(&world, &scenario.events, 1, 0.0)).expect("a contract");
        // 10.8 GB of a day at 1 Mbit/s: the dear one has 194.4 GB, less than a tier.
        let expected = 42.0 * 10.8 * 0.01 + 18.0 * 10.8 * 0.02;
        assert!((usd - expected).abs() < 0.001 * expected, "{usd} of {expected}");
    }
}

//! An evening in numbers: quiet → a spike → a CDN dies in one region → it comes back → an own edge is drained.

use spillway_wire::overview::{LogLine, Overview, PathwayTotals, PathwayView, RegionView};

/// Length of the story, s.
pub const STORY_S: u64 = 360;

const SPIKE_S: u64 = 80;
const OUTAGE_S: u64 = 160;
const DETECTED_S: u64 = OUTAGE_S + 4;
const RECOVERY_S: u64 = 220;
const RECOVERED_S: u64 = 262;
const DRAIN_S: u64 = 284;
const DRAINED_S: u64 = 312;
/// Running views follow the plan within this.
const FOLLOW_S: u64 = 14;

/// Mean bitrate of a view, bit/s.
const VIEW_BPS: u64 = 4_200_000;

/// Pathways with kind, capacity in Gbit/s and price.
const PATHWAYS: [(&str, &str, u64, f64); 6] = [
    ("cdn-alto", "commercial", 60, 0.0085),
    ("cdn-brio", "commercial", 40, 0.0110),
    ("cdn-corda", "commercial", 40, 0.0160),
    ("own-fra-1", "own", 20, 0.0012),
    ("own-fra-2", "own", 20, 0.0012),
    ("own-sto-1", "own", 20, 0.0016),
];

type Plan = [(&'static str, u32)];

/// Plans of a region: each from its second on, weights in per cent.
fn plans(region: &str) -> &'static [(u64, &'static Plan)] {
    match region {
        "eu-central" => &[
            (0, &[("own-fra-1", 46), ("own-fra-2", 46), ("cdn-alto", 6), ("cdn-brio", 1), ("cdn-corda", 1)]),
            (
                SPIKE_S + 12,
                &[("own-fra-1", 28), ("own-fra-2", 27), ("cdn-alto", 38), ("cdn-brio", 6), ("cdn-corda", 1)],
            ),
            (DETECTED_S, &[("own-fra-1", 30), ("own-fra-2", 30), ("cdn-brio", 28), ("cdn-corda", 12)]),
            (RECOVERY_S, &[("own-fra-1", 30), ("own-fra-2", 30), ("cdn-alto", 5), ("cdn-brio", 24), ("cdn-corda", 11)]),
            (242, &[("own-fra-1", 33), ("own-fra-2", 33), ("cdn-alto", 16), ("cdn-brio", 15), ("cdn-corda", 3)]),
            (RECOVERED_S, &[("own-fra-1", 37), ("own-fra-2", 37), ("cdn-alto", 20), ("cdn-brio", 5), ("cdn-corda", 1)]),
            (DRAIN_S, &[("own-fra-1", 48), ("cdn-alto", 40), ("cdn-brio", 11), ("cdn-corda", 1)]),
        ],
        "eu-north" => &[
            (0, &[("own-sto-1", 92), ("cdn-alto", 6), ("cdn-brio", 2)]),
            (SPIKE_S + 20, &[("own-sto-1", 84), ("cdn-alto", 13), ("cdn-brio", 3)]),
        ],
        "us-east" => &[(0, &[("cdn-alto", 68), ("cdn-brio", 25), ("cdn-corda", 7)])],
        _ => &[(0, &[("cdn-alto", 12), ("cdn-brio", 58), ("cdn-corda", 30)])],
    }
}

const REGIONS: [(&str, u64, u64); 4] =
    [("ap-south", 11, 1_150), ("eu-central", 96, 6_900), ("eu-north", 57, 3_400), ("us-east", 40, 2_450)];

/// The overview at `second` of the story, dated `at_ms`.
#[must_use]
pub fn story(second: u64, at_ms: u64) -> Overview {
    let mut overview = Overview { v: 1, at_ms, telemetry_ppm: 1_000_000, ..Overview::default() };
    for (name, epochs, quiet_views) in REGIONS {
        overview.regions.insert(name.to_owned(), region(name, epochs, quiet_views, second, at_ms));
    }
    for (name, kind, capacity_gbps, price_usd_per_gb) in PATHWAYS {
        let views = overview.regions.values().filter_map(|region| region.pathways.get(name));
        let bps = views.map(|pathway| pathway.views_active).sum::<u64>() * VIEW_BPS;
        let capacity_bps = capacity_gbps * 1_000_000_000;
        let totals = PathwayTotals {
            kind: kind.to_owned(),
            utilisation_ppm: Some(u32::try_from(bps * 1_000 / (capacity_bps / 1_000)).unwrap_or(u32::MAX)),
            capacity_bps,
            price_usd_per_gb,
            reported_ms: (kind == "own").then_some(at_ms - 900),
        };
        overview.pathways.insert(name.to_owned(), totals);
    }
    overview.log = log(second, at_ms);
    overview
}

fn region(name: &str, epochs: u64, quiet_views: u64, second: u64, at_ms: u64) -> RegionView {
    let risen = (second.saturating_sub(SPIKE_S) * 1_000 / 40).min(1_000);
    let ebbed = (second.saturating_sub(RECOVERY_S) * 1_000 / 60).min(700);
    let peak_permille = if name == "eu-central" { 900 } else { 260 };
    // A little life, the same each time.
    let wobble = (second * 37 + quiet_views) % 23;
    let views = quiet_views + quiet_views * peak_permille * (risen - ebbed.min(risen)) / 1_000_000 + wobble;
    let plans = plans(name);
    let index = plans.iter().rposition(|(from, _)| *from <= second).unwrap_or(0);
    let (from, plan) = plans[index];
    let before = plans[index.saturating_sub(1)].1;
    let followed = ((second - from) * 1_000 / FOLLOW_S).min(1_000);
    let percent =
        |plan: &Plan, pathway: &str| plan.iter().find(|(id, _)| *id == pathway).map_or(0, |(_, w)| u64::from(*w));
    let mut pathways = std::collections::BTreeMap::new();
    for (pathway, ..) in PATHWAYS {
        if !plans.iter().any(|(_, plan)| plan.iter().any(|(id, _)| *id == pathway)) {
            continue;
        }
        let share = (percent(before, pathway) * (1_000 - followed) + percent(plan, pathway) * followed) * 10;
        let view = PathwayView {
            weight_ppm: u32::try_from(percent(plan, pathway) * 10_000).unwrap_or(0),
            share_ppm: u32::try_from(share).unwrap_or(0),
            views_active: views * share / 1_000_000,
            ..state(name, pathway, second, at_ms)
        };
        pathways.insert(pathway.to_owned(), view);
    }
    let verdicts = if name == "eu-central" && (DETECTED_S..RECOVERY_S).contains(&second) {
        vec!["PATH: cdn-alto in eu-central, by failed requests and by probes".to_owned()]
    } else {
        Vec::new()
    };
    RegionView {
        epoch: epochs + index as u64 + second / 30,
        mode: "control".to_owned(),
        views_active: views,
        demand_bps: views * VIEW_BPS,
        max_bitrate_kbps: None,
        pathways,
        verdicts,
    }
}

/// State, reason, good views and probe.
fn state(region: &str, pathway: &str, second: u64, at_ms: u64) -> PathwayView {
    let since = |from: u64| at_ms - second.saturating_sub(from) * 1_000;
    let (word, reason, since_ms, good_ppm, probe) = match (region, pathway, second) {
        ("eu-central", "cdn-alto", OUTAGE_S..DETECTED_S) => (
            "DEGRADED",
            "38 sessions with a failed request in 2 s, neighbours well",
            since(OUTAGE_S + 2),
            Some(871_000),
            "ok",
        ),
        ("eu-central", "cdn-alto", DETECTED_S..RECOVERY_S) => (
            "DOWN",
            "9 of 10 requests fail with 503; neighbours well; probes agree",
            since(DETECTED_S),
            Some(124_000),
            "bad",
        ),
        ("eu-central", "cdn-alto", RECOVERY_S..RECOVERED_S) => {
            ("RECOVERING", "probes good for 30 s; coming back in steps", since(RECOVERY_S), Some(987_000), "ok")
        }
        ("eu-central", "own-fra-2", DRAIN_S..DRAINED_S) => {
            ("DRAINING", "drained by operator anna: disk replacement", since(DRAIN_S), Some(994_000), "ok")
        }
        ("eu-central", "own-fra-2", DRAINED_S..) => {
            ("DRAINING", "drained by operator anna: disk replacement; empty", since(DRAIN_S), None, "ok")
        }
        (_, id, _) => {
            let good = 990_000 + u32::try_from((second / 6 + id.len() as u64 * 3) % 10).unwrap_or(0) * 1_000;
            ("HEALTHY", "bad windows within what is usual", at_ms - 7_440_000, Some(good), "ok")
        }
    };
    PathwayView {
        state: word.to_owned(),
        reason: reason.to_owned(),
        since_ms,
        good_ppm,
        probe: probe.to_owned(),
        ..PathwayView::default()
    }
}

fn log(second: u64, at_ms: u64) -> Vec<LogLine> {
    let lines: [(u64, &str, &str); 13] = [
        (2, "", "orchestrator took the lead; 4 regions in control"),
        (
            SPIKE_S + 12,
            "eu-central",
            "demand up 61 % in 30 s: own-fra-1 and own-fra-2 reach 80 %, overflow goes to cdn-alto",
        ),
        (SPIKE_S + 20, "eu-north", "own-sto-1 reaches its target: 13 % of new views go to cdn-alto"),
        (OUTAGE_S + 2, "eu-central", "cdn-alto HEALTHY → DEGRADED: 38 sessions with a failed request in 2 s"),
        (
            DETECTED_S,
            "eu-central",
            "cdn-alto DEGRADED → DOWN: probes agree (503); new and running views move to cdn-brio, cdn-corda and own edges",
        ),
        (DETECTED_S + 10, "eu-central", "2,210 views left cdn-alto, 98 % by steering"),
        (RECOVERY_S, "eu-central", "cdn-alto DOWN → RECOVERING: probes good for 30 s; 5 % of new views"),
        (242, "eu-central", "cdn-alto: step to 16 %, good views stay at 98.7 %"),
        (RECOVERED_S, "eu-central", "cdn-alto RECOVERING → HEALTHY"),
        (RECOVERED_S + 8, "eu-central", "demand down: own edges carry 74 % again"),
        (DRAIN_S, "eu-central", "own-fra-2 HEALTHY → DRAINING: operator anna, disk replacement, until 05:30"),
        (DRAIN_S + 14, "eu-central", "overflow of own-fra-1 goes to cdn-alto while own-fra-2 is drained"),
        (DRAINED_S, "eu-central", "own-fra-2 is empty"),
    ];
    lines
        .into_iter()
        .filter(|(at, ..)| *at <= second)
        .map(|(at, region, text)| LogLine {
            at_ms: at_ms - (second - at) * 1_000,
            region: region.to_owned(),
            text: text.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_and_shares_sum_to_all_at_every_second() {
        for second in 0..STORY_S {
            for (name, region) in story(second, 10_000_000_000).regions {
                let weights: u32 = region.pathways.values().map(|pathway| pathway.weight_ppm).sum();
                let shares: u32 = region.pathways.values().map(|pathway| pathway.share_ppm).sum();
                assert_eq!((weights, shares), (1_000_000, 1_000_000), "{name} at {second} s");
            }
        }
    }

    #[test]
    fn no_own_edge_is_ever_above_its_ceiling() {
        for second in 0..STORY_S {
            for (name, totals) in story(second, 10_000_000_000).pathways {
                assert!(
                    totals.utilisation_ppm.is_some_and(|used| used <= 1_000_000),
                    "{name} at {second} s: {totals:?}"
                );
            }
        }
    }
}

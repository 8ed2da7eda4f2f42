use spillway_model::BitsPerSecond;
use spillway_model::PathwayState::{Down, Draining, Healthy, Recovering};
use spillway_orchestrator_core::{LoadEvidence, OriginSeen, OverrideKind, RoundInput, RoundOutput};

use crate::world::{BITS_PER_VIEW, World, pathway, running, setup, state_of, weight};

/// `own-1` carries 100 Mbit/s, that is 50 views.
fn small_own_edge(views: &[(&str, u64)]) -> World {
    let pathways = [("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.02), ("own-1", 100, 0.0)];
    let mut world = World::new(setup(&["eu"], &pathways));
    for (id, views) in views {
        world.crowd("eu", id, 1).views = *views;
    }
    world
}

#[test]
fn own_edges_are_filled_to_four_fifths_and_the_cheapest_cdn_takes_the_rest() {
    let mut world = small_own_edge(&[("cdn-a", 55), ("cdn-b", 5), ("own-1", 40)]);
    let mut output = world.round();
    for _ in 0..30 {
        world.follow(&output);
        output = world.round();
    }
    let weights = ["own-1", "cdn-a", "cdn-b"].map(|id| weight(&output, id));
    assert!((370_000..=430_000).contains(&weights[0]), "40 of 100 views: {weights:?}");
    assert!(weights[1] > 2 * weights[2] && weights[2] >= 50_000, "{weights:?}");
    assert!(f64::from(weights[1]) <= 0.701 * f64::from(weights[1] + weights[2]), "{weights:?}");
}

#[test]
fn with_room_everything_but_the_warm_shares_is_on_own_edges() {
    let mut world = small_own_edge(&[("cdn-a", 1), ("cdn-b", 1), ("own-1", 18)]);
    let output = world.rounds(60);
    assert_eq!(["own-1", "cdn-a", "cdn-b"].map(|id| weight(&output, id)), [900_000, 50_000, 50_000]);
}

#[test]
fn a_spike_never_overfills_an_own_edge() {
    // 44 views in all, of which 39 (78 Mbit/s) may be on the edge; 80 % more within 15 s. Running views follow the
    // weights within a TTL of 5 s, new ones at once.
    let mut plan = setup(&["eu"], &[("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.02), ("own-1", 100, 0.0)]);
    plan.parameters.ttl_live_s = 5;
    let mut world = World::new(plan);
    let (mut total, mut on_own) = (44.0, 38.0);
    let mut peak: f64 = 0.0;
    for round in 0..90 {
        if (30..38).contains(&round) {
            total += 44.0 * 0.8 / 8.0;
        }
        let own = on_own as u64;
        world.crowd("eu", "own-1", 1).views = own;
        world.crowd("eu", "cdn-a", 1).views = total as u64 - own;
        let output = world.round();
        let wanted = total * f64::from(weight(&output, "own-1")) / 1e6;
        on_own += (wanted - on_own) * 2.0 / 5.0;
        peak = peak.max(on_own / 50.0);
    }
    assert!(peak <= 1.0, "{peak}");
    assert!(on_own / 50.0 > 0.7, "and it is used afterwards: {on_own}");
}

#[test]
fn an_edge_that_serves_more_than_beacons_tell_gets_fewer_views() {
    let mut world = small_own_edge(&[("cdn-a", 60), ("own-1", 40)]);
    let calm = weight(&world.rounds(30), "own-1");
    let mut output = None;
    for _ in 0..30 {
        world.now.0 += 2000;
        let load = LoadEvidence {
            pathway: pathway("own-1"),
            at: world.now,
            ceiling: BitsPerSecond(100_000_000),
            bits_out_10s: BitsPerSecond(40 * BITS_PER_VIEW * 13 / 10),
            viewers: 52,
            bits_per_viewer: BitsPerSecond(BITS_PER_VIEW),
            hit_ratio: None,
            origin: OriginSeen::Up,
            draining: false,
        };
        let input = RoundInput { loads: vec![load], ..RoundInput::default() };
        let _ = world.engine.round(world.now, &input);
        output = Some(world.round());
    }
    let told = weight(&output.expect("rounds"), "own-1");
    assert!(f64::from(told) < 0.85 * f64::from(calm), "{told} of {calm}");
}

#[test]
fn a_drain_takes_new_views_at_once_and_running_ones_over_time() {
    let mut world = World::one_region(&[("cdn-a", 30), ("cdn-b", 30), ("own-1", 100)]);
    let before = world.rounds(30);
    assert!(weight(&before, "own-1") > 800_000);
    let begin = world.now;
    world.order("o-1", OverrideKind::Drain, "own-1", 900);
    let mut seen = vec![];
    for _ in 0..5 {
        let output = world.rounds(60);
        assert_eq!(weight(&output, "own-1"), 0);
        let rule = &output.regions["eu"].manifest.cohorts[0];
        assert!(rule.running_before == begin || running(&output, "own-1") == 0);
        seen.push(running(&output, "own-1"));
    }
    assert_eq!(state_of(&world.round(), "own-1"), Draining);
    assert!(seen.is_sorted_by(|a, b| a > b) && seen[0] > 700_000 && seen[4] == 0, "{seen:?}");
    world.rounds_until("own-1", Recovering, 200).expect("an override ends by itself");
    world.rounds_until("own-1", Healthy, 200).expect("and the edge comes back");
}

#[test]
fn an_excluded_pathway_gets_nothing_and_a_pinned_one_everything() {
    let mut world = World::one_region(&[("cdn-a", 60), ("cdn-b", 40)]);
    world.rounds(30);
    world.order("o-1", OverrideKind::Exclude, "cdn-a", 100);
    let output = world.round();
    assert_eq!((weight(&output, "cdn-a"), running(&output, "cdn-a")), (0, 0));
    assert_eq!(output.regions["eu"].manifest.overrides[0].kind, "exclude");
    world.overrides.clear();
    world.order("o-2", OverrideKind::Pin, "cdn-b", 100);
    assert_eq!(weight(&world.round(), "cdn-b"), 1_000_000);
    world.overrides.clear();
    world.order("o-3", OverrideKind::Weight(0.3), "cdn-b", 100);
    assert_eq!(weight(&world.round(), "cdn-b"), 300_000);
}

#[test]
fn fixed_weights_of_all_pathways_hold_together_and_a_dead_one_leaves_its_part_to_the_others() {
    let mut world = World::one_region(&[("cdn-a", 60), ("cdn-b", 40), ("cdn-c", 50)]);
    world.rounds(30);
    for (pathway, share) in [("cdn-a", 0.5), ("cdn-b", 0.3), ("cdn-c", 0.2)] {
        world.order("r-1", OverrideKind::Weight(share), pathway, 900);
    }
    let of = |output: &RoundOutput| ["cdn-a", "cdn-b", "cdn-c"].map(|id| weight(output, id));
    assert_eq!(of(&world.round()), [500_000, 300_000, 200_000], "at once");
    assert_eq!(of(&world.rounds(30)), [500_000, 300_000, 200_000]);
    world.crowd("eu", "cdn-a", 1).failing = 0.9;
    world.rounds_until("cdn-a", Down, 20).expect("it dies");
    assert_eq!(of(&world.round()), [0, 600_000, 400_000]);
}

#[test]
fn an_order_holds_also_where_nobody_watches_yet() {
    let mut world = World::new(setup(&["eu"], &[("cdn-a", 100, 0.01), ("cdn-b", 100, 0.02)]));
    world.round();
    world.order("o-1", OverrideKind::Weight(0.9), "cdn-b", 100);
    assert_eq!(weight(&world.round(), "cdn-b"), 900_000);
    assert_eq!(weight(&world.rounds(20), "cdn-b"), 900_000);
}

#[test]
fn if_everything_is_dead_the_least_bad_carries_it() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100), ("cdn-c", 100)]);
    world.rounds(30);
    for id in ["cdn-a", "cdn-b", "cdn-c"] {
        world.crowd("eu", id, 1).failing = 0.6;
        let output = world.rounds(3);
        assert_eq!(state_of(&output, id), if id == "cdn-c" { Healthy } else { Down }, "the last one has no reference");
    }
    world.order("o-1", OverrideKind::Exclude, "cdn-c", 100);
    let output = world.round();
    assert_eq!(weight(&output, "cdn-c"), 0);
    assert!(output.regions["eu"].verdicts.iter().any(|verdict| verdict.starts_with("PANIC")));
}

#[test]
fn more_demand_than_capacity_lowers_the_bitrate() {
    let mut world = World::new(setup(&["eu"], &[("cdn-a", 100, 0.01), ("own-1", 100, 0.0)]));
    world.crowd("eu", "cdn-a", 1).views = 100;
    world.crowd("eu", "own-1", 1).views = 40;
    let output = world.rounds(30);
    let plan = &output.regions["eu"];
    let limit = plan.manifest.max_bitrate_kbps.first().expect("a limit").1;
    assert!((1000..1500).contains(&limit), "{limit} kbit/s of 2000");
    let views = f64::from(weight(&output, "own-1")) * 140.0 / 1e6;
    assert!(views <= 47.5, "never above 95 of its 100, {views} views");
}

#[test]
fn views_go_back_to_own_edges_in_small_steps() {
    let mut world = small_own_edge(&[("cdn-a", 90), ("own-1", 30)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).views = 20;
    let mut last = weight(&world.round(), "own-1");
    for _ in 0..100 {
        let next = weight(&world.round(), "own-1");
        assert!(next <= last + 100_001, "{last} to {next}");
        last = next;
    }
    assert!(last > 700_000, "{last}");
}

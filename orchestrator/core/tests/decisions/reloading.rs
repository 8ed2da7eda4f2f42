use spillway_model::PathwayState::{Down, Healthy, Recovering};
use spillway_orchestrator_core::{Override, OverrideKind, Setup, same_routing};
use spillway_routing::Target;

use crate::world::{START_S, World, pathway, region, setup, state_of, weight};

/// The setup in force with a change.
fn changed(world: &World, change: impl FnOnce(&mut Setup)) -> Setup {
    let mut setup = world.engine.setup().clone();
    change(&mut setup);
    setup
}

/// Three CDNs, all probed, in which everybody follows the plan.
fn settled() -> World {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100), ("cdn-c", 100)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b", "cdn-c"]);
    for _ in 0..200 {
        let output = world.round();
        world.follow(&output);
    }
    world
}

fn add(setup: &mut Setup, id: &str, usd_per_gb: f64) {
    let like = setup.pathways[&pathway("cdn-a")].clone();
    let base_url = format!("http://{id}.example");
    let new = spillway_orchestrator_core::PathwaySetup { base_url, price_usd_per_gb: usd_per_gb, ..like };
    setup.pathways.insert(pathway(id), new);
}

#[test]
fn the_same_setup_again_changes_nothing() {
    let (mut one, mut other) = (settled(), settled());
    let out = other.engine.reconfigure(changed(&other, |_| {}));
    assert!(out.added.is_empty() && out.removed.is_empty(), "{out:?}");
    for _ in 0..60 {
        let (a, b) = (one.round(), other.round());
        assert_eq!(a.regions["eu"].manifest, b.regions["eu"].manifest);
        one.follow(&a);
        other.follow(&b);
    }
}

#[test]
fn what_is_down_stays_down_and_its_hold_goes_on() {
    let mut world = settled();
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.probes.insert(("eu".into(), "cdn-a".into()), false);
    world.rounds_until("cdn-a", Down, 5).expect("down");
    let before = world.rounds(10);
    let next = changed(&world, |setup| {
        setup.pathways.get_mut(&pathway("cdn-b")).expect("there").price_usd_per_gb = 0.5;
        add(setup, "cdn-d", 0.02);
    });
    world.engine.reconfigure(next);
    let after = world.round();
    let of = |output: &spillway_orchestrator_core::RoundOutput| {
        let pathway = &output.regions["eu"].manifest.pathways[&pathway("cdn-a")];
        (pathway.state, pathway.since, pathway.reason.clone())
    };
    assert_eq!(of(&after), of(&before));
    assert_eq!(weight(&after, "cdn-a"), 0);
    world.crowd("eu", "cdn-a", 1).failing = 0.0;
    world.probes.insert(("eu".into(), "cdn-a".into()), true);
    let held = world.rounds_until("cdn-a", Recovering, 100).expect("recovers");
    assert!((45..56).contains(&held), "the hold began with the fault: {held}");
}

#[test]
fn a_ramp_is_not_begun_again() {
    let mut world = settled();
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.rounds_until("cdn-a", Down, 5).expect("down");
    world.crowd("eu", "cdn-a", 1).failing = 0.0;
    world.rounds_until("cdn-a", Recovering, 200).expect("recovers");
    let mut reloaded = 0;
    let healthy = (1..=400).find(|round| {
        if round % 30 == 0 {
            reloaded += 1;
            let next = changed(&world, |setup| setup.spill_usd_per_hour_max = Some(1e9 + f64::from(reloaded)));
            world.engine.reconfigure(next);
        }
        let output = world.round();
        world.follow(&output);
        state_of(&output, "cdn-a") == Healthy
    });
    assert!(reloaded > 3 && healthy.is_some_and(|rounds| rounds < 220), "three steps of 120 s: {healthy:?}");
}

#[test]
fn a_new_pathway_takes_its_share_in_steps_and_moves_nobody_at_once() {
    let mut world = settled();
    let before = world.round();
    let next = changed(&world, |setup| add(setup, "cdn-d", 0.0));
    let out = world.engine.reconfigure(next);
    assert_eq!(out.added, [(region("eu"), pathway("cdn-d"))]);
    world.crowd("eu", "cdn-d", 1).views = 0;
    world.probe_all(&["eu"], &["cdn-d"]);
    let first = world.round();
    assert_eq!(state_of(&first, "cdn-d"), Recovering);
    for id in ["cdn-a", "cdn-b", "cdn-c"] {
        assert!(weight(&first, id).abs_diff(weight(&before, id)) <= 100_000, "{id}");
    }
    let mut most = 0;
    let mut states = vec![];
    for _ in 0..400 {
        let output = world.round();
        let now = weight(&output, "cdn-d");
        assert!(now <= most + 101_000, "from {most} to {now} in one step");
        most = most.max(now);
        states.push(state_of(&output, "cdn-d"));
        world.follow(&output);
    }
    assert!(most > 300_000, "the cheapest of all gets its share: {most}");
    assert_eq!(states.last(), Some(&Healthy));
}

#[test]
fn a_removed_pathway_is_gone_from_the_next_manifest_and_its_views_are_counted() {
    let mut world = settled();
    let before = world.round();
    let cheapest = "cdn-a";
    let views = world.crowd("eu", cheapest, 1).views;
    assert!(views > 100, "{views}");
    let next = changed(&world, |setup| {
        setup.pathways.remove(&pathway(cheapest));
        setup.regions.values_mut().for_each(|region| {
            region.static_weights.remove(&Target::Pathway(pathway(cheapest)));
        });
    });
    let out = world.engine.reconfigure(next);
    assert_eq!(out.removed, [(region("eu"), pathway(cheapest), views)]);
    let after = world.round();
    assert!(!after.regions["eu"].manifest.pathways.contains_key(&pathway(cheapest)));
    assert!(!after.pathways.contains_key(&pathway(cheapest)));
    assert_eq!(weight(&after, "cdn-b") + weight(&after, "cdn-c"), 1_000_000);
    assert!(weight(&before, cheapest) > 300_000);
    world.rounds(100);
}

#[test]
fn a_pathway_can_go_and_come_back_while_another_is_down() {
    let mut world = settled();
    world.crowd("eu", "cdn-b", 1).failing = 0.6;
    world.rounds_until("cdn-b", Down, 5).expect("down");
    let with = world.engine.setup().clone();
    let without = changed(&world, |setup| drop(setup.pathways.remove(&pathway("cdn-a"))));
    world.engine.reconfigure(without);
    let gone = world.round();
    assert_eq!((state_of(&gone, "cdn-b"), weight(&gone, "cdn-c")), (Down, 1_000_000));
    world.engine.reconfigure(with);
    let back = world.round();
    assert_eq!((state_of(&back, "cdn-a"), state_of(&back, "cdn-b")), (Recovering, Down));
}

#[test]
fn a_price_moves_traffic_and_states_stay() {
    let mut world = settled();
    let before = world.round();
    assert!(weight(&before, "cdn-a") > weight(&before, "cdn-c") + 200_000, "the cheapest has most");
    let next = changed(&world, |setup| {
        for (id, usd) in [("cdn-a", 0.03), ("cdn-c", 0.001)] {
            setup.pathways.get_mut(&pathway(id)).expect("there").price_usd_per_gb = usd;
        }
    });
    world.engine.reconfigure(next);
    let mut output = world.round();
    assert!(weight(&output, "cdn-a").abs_diff(weight(&before, "cdn-a")) <= 101_000, "in steps");
    for _ in 0..200 {
        world.follow(&output);
        output = world.round();
    }
    assert!(
        weight(&output, "cdn-c") > weight(&output, "cdn-a") + 200_000,
        "{:?}",
        output.regions["eu"].manifest.cohorts
    );
    assert!(world.changes().is_empty(), "{:?}", world.changes());
}

#[test]
fn a_new_region_begins_with_static_weights_and_a_removed_one_is_gone() {
    let mut world = settled();
    let next = changed(&world, |setup| {
        let eu = setup.regions[&region("eu")].clone();
        setup.regions.insert(region("us"), eu);
    });
    world.engine.reconfigure(next);
    let both = world.round();
    assert_eq!(both.regions.len(), 2);
    let us = &both.regions["us"].manifest;
    assert!(us.pathways.values().all(|pathway| pathway.state == Healthy && pathway.since.0 > START_S * 1000));
    assert!(us.cohorts[0].weights_new.values().all(|ppm| ppm.abs_diff(333_333) <= 1), "{:?}", us.cohorts[0]);
    let next = changed(&world, |setup| drop(setup.regions.remove(&region("us"))));
    assert_eq!(world.engine.reconfigure(next).removed.len(), 3);
    assert_eq!(world.round().regions.keys().collect::<Vec<_>>(), [&region("eu")]);
}

#[test]
fn every_pathway_of_a_region_may_change_at_once() {
    let mut world = settled();
    let next = setup(&["eu"], &[("cdn-x", 10_000, 0.01), ("own-1", 10_000, 0.001)]);
    let out = world.engine.reconfigure(next);
    assert_eq!((out.added.len(), out.removed.len()), (2, 3));
    let after = world.round();
    assert!(after.regions["eu"].manifest.pathways.values().all(|pathway| pathway.state == Healthy));
    assert_eq!(weight(&after, "cdn-x") + weight(&after, "own-1"), 1_000_000);
}

#[test]
fn a_copy_that_is_tried_changes_nothing_of_the_original() {
    let mut world = settled();
    let before = world.round();
    let next = changed(&world, |setup| drop(setup.pathways.remove(&pathway("cdn-a"))));
    let mut copy = world.engine.clone();
    copy.reconfigure(next);
    let tried = copy.round(world.now, &world.input);
    assert!(!same_routing(&before.regions["eu"].manifest, &tried.regions["eu"].manifest));
    assert!(same_routing(&before.regions["eu"].manifest, &world.round().regions["eu"].manifest));
}

#[test]
fn an_order_on_a_pathway_that_is_gone_does_nothing() {
    let mut world = settled();
    world.overrides.push(Override {
        id: "o-1".into(),
        kind: OverrideKind::Pin,
        target: Target::Pathway(pathway("cdn-a")),
        region: None,
        by: "kim".into(),
        reason: "test".into(),
        since: world.now,
        expires: spillway_model::TimestampMs(world.now.0 + 3_600_000),
    });
    assert_eq!(weight(&world.rounds(3), "cdn-a"), 1_000_000);
    let next = changed(&world, |setup| drop(setup.pathways.remove(&pathway("cdn-a"))));
    world.engine.reconfigure(next);
    let after = world.rounds(3);
    assert_eq!(weight(&after, "cdn-b") + weight(&after, "cdn-c"), 1_000_000);
    assert!(after.regions["eu"].manifest.overrides.is_empty());
}

#[test]
fn whatever_comes_and_goes_every_manifest_is_valid_and_names_what_is_there() {
    for seed in 1..=20_u64 {
        let mut state = seed;
        let mut draw = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let ids = ["cdn-a", "cdn-b", "cdn-c", "own-1", "own-2"];
        let all: Vec<(&str, u64, f64)> = ids.iter().map(|id| (*id, 1 + draw(3_000), draw(5) as f64 / 100.0)).collect();
        let mut world = World::new(setup(&["eu", "us"], &all));
        for id in ids {
            for at in ["eu", "us"] {
                world.crowd(at, id, 1).views = draw(200);
            }
        }
        for round in 0..150 {
            let output = world.round();
            for (at, plan) in &output.regions {
                let declared = world.engine.setup();
                assert!(declared.regions.contains_key(at), "seed {seed} round {round}");
                assert!(plan.manifest.pathways.keys().all(|id| declared.pathways.contains_key(id)));
            }
            let id = ids[draw(5) as usize];
            match draw(8) {
                0 => world.crowd("eu", id, 1).failing = draw(2) as f64 * 0.6,
                1 => world.crowd("us", id, 1).bad = draw(2) as f64 * 0.5,
                2 => world.deaf = draw(3) == 0,
                3 => drop(world.probes.insert(("eu".into(), id.into()), draw(2) == 0)),
                4 | 5 => {
                    let some: Vec<_> = all.iter().copied().filter(|_| draw(3) > 0).collect();
                    let at: &[&str] = [&["eu", "us"][..], &["eu"], &["us"]][draw(3) as usize];
                    if !some.is_empty() {
                        world.engine.reconfigure(setup(at, &some));
                    }
                }
                _ => {}
            }
        }
    }
}

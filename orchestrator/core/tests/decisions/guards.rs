//! What holds moves back, and what nothing holds back.

use spillway_model::PathwayState::Down;
use spillway_model::{Millis, TimestampMs};
use spillway_orchestrator_core::{Calm, CalmKind, Canary, CanaryState, Parameters};
use spillway_routing::DrillNote;

use crate::world::{World, pathway, region, setup, weight};

fn world() -> World {
    let pathways = [("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.02), ("own-1", 200, 0.0)];
    let mut world = World::new(setup(&["eu"], &pathways));
    for (id, views) in [("cdn-a", 90), ("cdn-b", 20), ("own-1", 60)] {
        world.crowd("eu", id, 1).views = views;
    }
    world.rounds(40);
    world
}

fn calm(world: &World, kind: CalmKind) -> Calm {
    Calm { kind, region: None, until: world.now.after(Millis::from_secs(3600)), reason: "final".into() }
}

#[test]
fn an_ad_break_holds_optimisation_and_not_an_evacuation() {
    let mut world = world();
    let before = weight(&world.round(), "own-1");
    world.input.calm = vec![calm(&world, CalmKind::AdBreak)];
    world.crowd("eu", "cdn-a", 1).views = 30;
    let held = world.rounds(120);
    assert_eq!(weight(&held, "own-1"), before);
    let guards = &held.regions["eu"].guards;
    assert!(guards.iter().any(|guard| guard.contains("ad break")), "{guards:?}");
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.rounds_until("cdn-a", Down, 3).expect("down");
    assert_eq!(weight(&world.round(), "cdn-a"), 0);
    world.crowd("eu", "cdn-a", 1).failing = 0.0;
    world.input.calm.clear();
    assert!(weight(&world.rounds(200), "own-1") > before);
}

#[test]
fn a_drill_is_seen_alone() {
    let mut world = world();
    let before = weight(&world.round(), "own-1");
    world.input.drill = Some(DrillNote {
        id: "d-1".into(),
        kind: "fail".into(),
        pathway: pathway("cdn-b"),
        phase: "running".into(),
        started: world.now,
    });
    world.crowd("eu", "cdn-a", 1).views = 30;
    assert_eq!(weight(&world.rounds(60), "own-1"), before, "no optimisation beside it");
    world.crowd("eu", "cdn-b", 1).failing = 0.6;
    world.rounds_until("cdn-b", Down, 4).expect("an incident comes before a drill");
    assert_eq!(weight(&world.round(), "cdn-b"), 0);
}

#[test]
fn views_that_flee_are_spread_so_that_filling_buffers_overloads_nobody() {
    // cdn-a carries 120 of 200 views; cdn-b could take all of them and is cheaper than cdn-c, but not at once.
    let pathways = [("cdn-a", 1000, 0.01), ("cdn-b", 500, 0.02), ("cdn-c", 1000, 0.03)];
    let mut world = World::new(setup(&["eu"], &pathways));
    for (id, views) in [("cdn-a", 140), ("cdn-b", 40), ("cdn-c", 20)] {
        world.crowd("eu", id, 1).views = views;
    }
    let before = world.rounds(60);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.rounds_until("cdn-a", Down, 3).expect("down");
    let after = world.round();
    let bits = |output: &_, id| f64::from(weight(output, id)) / 1e6 * 400.0;
    let (was, is) = (bits(&before, "cdn-b"), bits(&after, "cdn-b"));
    assert!(was + 2.0 * (is - was) <= 500.0 * 0.96, "{was} to {is} Mbit/s of 500");
    assert!(bits(&after, "cdn-c") > 150.0, "the dearer one helps: {}", bits(&after, "cdn-c"));
    assert_eq!(weight(&after, "cdn-a"), 0);
}

/// A policy that no CDN's price matters to, tried in `us`.
fn trial(harm: bool) -> (World, CanaryState) {
    let mut declared = setup(&["eu", "us"], &[("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.02)]);
    declared.canary = Some(Canary {
        policy: "new".into(),
        parameters: Parameters { concentration: 0.5, ..Parameters::default() },
        region: region("us"),
    });
    let mut world = World::new(declared);
    for at in ["eu", "us"] {
        for id in ["cdn-a", "cdn-b"] {
            world.crowd(at, id, 1).views = 100;
        }
    }
    let first = world.rounds(60);
    assert_eq!(first.canary.expect("a trial").state, CanaryState::OnTrial);
    let policy = |at: &str| first.regions[at].manifest.policy.clone();
    assert_eq!((policy("us").as_str(), policy("eu").as_str()), ("new", "test"));
    if harm {
        for id in ["cdn-a", "cdn-b"] {
            world.crowd("us", id, 1).bad = 0.06;
        }
    }
    let mut state = CanaryState::OnTrial;
    for _ in 0..320 {
        state = world.round().canary.expect("a trial").state;
        if state != CanaryState::OnTrial {
            break;
        }
    }
    (world, state)
}

#[test]
fn a_policy_on_trial_that_harms_is_rolled_back_and_stays_so() {
    let (mut world, state) = trial(true);
    assert_eq!(state, CanaryState::RolledBack);
    assert!(world.log.iter().any(|entry| entry.text.contains("rolled back")));
    let later = world.rounds(400);
    assert_eq!(later.regions["us"].manifest.policy, "test");
}

#[test]
fn a_policy_without_harm_is_accepted_everywhere() {
    let (mut world, state) = trial(false);
    assert_eq!(state, CanaryState::Accepted);
    assert_eq!(world.round().regions["eu"].manifest.policy, "new");
    assert!((world.engine.setup().parameters.concentration - 0.5).abs() < 1e-9);
    assert!(world.now > TimestampMs(0));
}

#[test]
fn a_policy_is_not_accepted_where_nobody_watches() {
    let mut declared = setup(&["eu", "us"], &[("cdn-a", 10_000, 0.01)]);
    declared.canary = Some(Canary { policy: "new".into(), parameters: Parameters::default(), region: region("us") });
    let mut world = World::new(declared);
    world.crowd("eu", "cdn-a", 1).views = 100;
    let note = world.rounds(400).canary.expect("a trial");
    assert_eq!(note.state, CanaryState::OnTrial);
    assert!(note.text.contains("waits for 200 windows"), "{}", note.text);
}

use spillway_model::BitsPerSecond;
use spillway_model::PathwayState::{Down, Recovering};
use spillway_orchestrator_core::{Engine, same_routing};

use crate::world::{World, region, state_of, weight};

#[test]
fn a_restarted_orchestrator_keeps_states_and_weights() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 40), ("own-1", 60)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b", "own-1"]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.probes.insert(("eu".into(), "cdn-a".into()), false);
    world.rounds_until("cdn-a", Down, 3).expect("down");
    let before = world.rounds(5);
    let published = before.regions["eu"].manifest.clone();
    let mut engine = Engine::new(world.engine.setup().clone());
    engine.adopt(&published);
    world.engine = engine;
    let after = world.round();
    assert!(same_routing(&published, &after.regions["eu"].manifest));
    assert_eq!(state_of(&after, "cdn-a"), Down);
    assert_eq!(weight(&after, "cdn-a"), 0);
    world.crowd("eu", "cdn-a", 1).failing = 0.0;
    world.probes.insert(("eu".into(), "cdn-a".into()), true);
    let held = world.rounds_until("cdn-a", Recovering, 100).expect("recovers");
    assert!((50..62).contains(&held), "the hold began with the fault: {held}");
}

#[test]
fn a_restart_in_the_dark_moves_nobody() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 40), ("own-1", 60)]);
    let before = world.rounds(30).regions["eu"].manifest.clone();
    let mut engine = Engine::new(world.engine.setup().clone());
    engine.adopt(&before);
    world.engine = engine;
    world.deaf = true;
    let after = world.rounds(30);
    assert!(same_routing(&before, &after.regions["eu"].manifest));
}

#[test]
fn a_steady_world_needs_no_new_epoch() {
    let mut world = World::one_region(&[("cdn-a", 300), ("cdn-b", 140), ("own-1", 60)]);
    world.noise = Some(3);
    let first = world.rounds(60).regions[&region("eu")].manifest.clone();
    for _ in 0..300 {
        assert!(same_routing(&first, &world.round().regions["eu"].manifest));
    }
}

#[test]
fn before_anybody_was_heard_static_weights_are_in_force_and_are_left_in_steps() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 40), ("own-1", 60)]);
    world.deaf = true;
    let dark = world.rounds(5);
    for id in ["cdn-a", "cdn-b", "own-1"] {
        assert!(weight(&dark, id).abs_diff(333_333) <= 1, "no plan for the demand of nobody: {}", weight(&dark, id));
    }
    world.deaf = false;
    let heard = world.rounds(3);
    assert_eq!(weight(&heard, "own-1"), weight(&dark, "own-1"), "nothing dies and nothing is full: no haste");
    assert!(weight(&world.rounds(200), "own-1") > 700_000);
}

#[test]
fn bits_per_view_are_those_of_the_lake_until_enough_is_measured() {
    let mut world = World::one_region(&[("cdn-a", 100), ("own-1", 60)]);
    world.learned.bits_per_view.insert(region("eu"), BitsPerSecond(7_000_000));
    let crowd = |world: &mut World, views| {
        for id in ["cdn-a", "own-1"] {
            world.crowd("eu", id, 1).views = views;
        }
    };
    crowd(&mut world, 1);
    let few = world.round().regions["eu"].demand.0;
    assert!((10_000_000..=20_000_000).contains(&few), "two views of 7 Mbit/s: {few}");
    crowd(&mut world, 100);
    let many = world.rounds(60).regions["eu"].demand.0;
    let measured = 200 * crate::world::BITS_PER_VIEW;
    assert!(many.abs_diff(measured) < measured / 5, "{many}, measured {measured}");
}

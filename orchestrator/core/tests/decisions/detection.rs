use spillway_model::PathwayState::{Degraded, Down, Healthy, Recovering};

use crate::world::{World, reason_of, setup, state_of, weight};

#[test]
fn a_hard_failure_is_seen_in_two_rounds_at_110_views() {
    let mut world = World::one_region(&[("cdn-a", 110), ("cdn-b", 40)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.4;
    assert!(world.rounds_until("cdn-a", Down, 2).is_some(), "{:?}", world.changes());
    let output = world.round();
    assert_eq!(weight(&output, "cdn-a"), 0);
    assert!(reason_of(&output, "cdn-a").starts_with("PATH: "), "{}", reason_of(&output, "cdn-a"));
    assert!(reason_of(&output, "cdn-a").contains("of 110 views failing in 3 s, others 0 %"));
}

#[test]
fn a_hard_failure_is_seen_in_two_rounds_at_50_views() {
    let mut world = World::one_region(&[("cdn-a", 50), ("cdn-b", 10)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.3;
    assert!(world.rounds_until("cdn-a", Down, 2).is_some(), "{:?}", world.changes());
}

#[test]
fn a_hard_failure_is_seen_with_ten_views() {
    let mut world = World::one_region(&[("cdn-a", 10), ("cdn-b", 10)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    assert!(world.rounds_until("cdn-a", Down, 4).is_some(), "{:?}", world.changes());
}

#[test]
fn two_broken_players_of_ten_are_no_outage() {
    let mut world = World::one_region(&[("cdn-a", 10), ("cdn-b", 10)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.2;
    world.rounds(30);
    assert_eq!(world.changes(), Vec::<&str>::new());
}

#[test]
fn two_cdns_that_die_at_once_do_not_excuse_each_other() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100), ("cdn-c", 30)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.crowd("eu", "cdn-b", 1).failing = 0.5;
    let output = world.rounds(3);
    assert_eq!(["cdn-a", "cdn-b", "cdn-c"].map(|id| state_of(&output, id)), [Down, Down, Healthy]);
}

#[test]
fn a_brownout_of_8_percent_is_degraded_within_120_s() {
    let mut world = World::one_region(&[("cdn-a", 50), ("cdn-b", 50)]);
    world.rounds(100);
    world.crowd("eu", "cdn-a", 1).bad = 0.08;
    assert!(world.rounds_until("cdn-a", Degraded, 60).is_some(), "{:?}", world.changes());
    let output = world.round();
    assert!(reason_of(&output, "cdn-a").contains("of windows bad"));
    assert!((1..100_000).contains(&weight(&output, "cdn-a")), "a tenth of its usual share");
}

#[test]
fn a_degraded_pathway_recovers_when_it_is_quiet() {
    let mut world = World::one_region(&[("cdn-a", 50), ("cdn-b", 50)]);
    world.rounds(100);
    world.crowd("eu", "cdn-a", 1).bad = 0.10;
    world.rounds_until("cdn-a", Degraded, 60).expect("degraded");
    world.crowd("eu", "cdn-a", 1).bad = 0.009;
    let rounds = world.rounds_until("cdn-a", Recovering, 400).expect("recovers");
    assert!(rounds >= 60, "not before the hold of 120 s, but after {rounds} rounds");
}

#[test]
fn the_same_fault_on_all_pathways_moves_nobody() {
    let mut world = World::one_region(&[("cdn-a", 110), ("cdn-b", 40), ("own-1", 60)]);
    world.rounds(30);
    let ids = ["cdn-a", "cdn-b", "own-1"];
    for id in ids {
        let crowd = world.crowd("eu", id, 1);
        (crowd.failing, crowd.bad) = (0.4, 0.3);
    }
    let output = world.rounds(150);
    assert_eq!(world.changes(), Vec::<&str>::new());
    let verdicts = &output.regions["eu"].verdicts;
    assert!(verdicts.iter().any(|verdict| verdict.starts_with("ORIGIN")), "{verdicts:?}");
}

#[test]
fn one_network_failing_on_all_pathways_moves_nobody() {
    let mut world = World::one_region(&[("cdn-a", 60), ("cdn-b", 60)]);
    for id in ["cdn-a", "cdn-b"] {
        world.crowd("eu", id, 2).views = if id == "cdn-a" { 50 } else { 15 };
    }
    world.rounds(30);
    for id in ["cdn-a", "cdn-b"] {
        let crowd = world.crowd("eu", id, 2);
        (crowd.failing, crowd.bad) = (0.5, 0.2);
    }
    let output = world.rounds(60);
    assert_eq!(world.changes(), Vec::<&str>::new());
    let verdicts = &output.regions["eu"].verdicts;
    assert!(verdicts.iter().any(|verdict| verdict.starts_with("ACCESS") && verdict.contains("AS2")), "{verdicts:?}");
}

#[test]
fn silence_of_one_pathway_among_talking_neighbours_is_evidence() {
    let mut world = World::one_region(&[("cdn-a", 60), ("cdn-b", 60)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).silent = true;
    assert!(world.rounds_until("cdn-a", Degraded, 8).is_some(), "{:?}", world.changes());
    world.probe_all(&["eu"], &["cdn-a", "cdn-b"]);
    world.probes.insert(("eu".into(), "cdn-a".into()), false);
    assert!(world.rounds_until("cdn-a", Down, 8).is_some(), "{:?}", world.changes());
}

#[test]
fn without_beacons_and_probes_nothing_changes() {
    let mut world = World::one_region(&[("cdn-a", 110), ("cdn-b", 40)]);
    let before = world.rounds(30);
    world.deaf = true;
    let after = world.rounds(300);
    assert_eq!(world.changes(), Vec::<&str>::new());
    assert_eq!(weight(&before, "cdn-a"), weight(&after, "cdn-a"));
    assert!(after.regions["eu"].verdicts[0].starts_with("TELEMETRY"));
}

#[test]
fn probes_alone_find_a_dead_pathway_without_viewers() {
    let mut world = World::one_region(&[("cdn-a", 0), ("cdn-b", 40)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b"]);
    world.rounds(30);
    world.probes.insert(("eu".into(), "cdn-a".into()), false);
    assert!(world.rounds_until("cdn-a", Down, 6).is_some(), "{:?}", world.changes());
}

#[test]
fn probes_that_all_fail_are_the_vantage_point() {
    let mut world = World::one_region(&[("cdn-a", 0), ("cdn-b", 0)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b"]);
    world.rounds(30);
    world.probes.values_mut().for_each(|ok| *ok = false);
    world.rounds(60);
    assert_eq!(world.changes(), Vec::<&str>::new());
}

#[test]
fn bad_probes_of_a_pathway_whose_viewers_are_well_change_nothing() {
    let mut world = World::one_region(&[("cdn-a", 60), ("cdn-b", 40)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b"]);
    world.rounds(30);
    world.probes.insert(("eu".into(), "cdn-a".into()), false);
    world.rounds(60);
    assert_eq!(world.changes(), Vec::<&str>::new());
}

#[test]
fn a_pathway_comes_back_in_steps_and_a_flap_doubles_the_hold() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 40)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b"]);
    let before = world.rounds(30);
    let usual = weight(&before, "cdn-a");
    let kill = |world: &mut World, dead: bool| {
        let crowd = world.crowd("eu", "cdn-a", 1);
        crowd.failing = if dead { 0.5 } else { 0.0 };
        world.probes.insert(("eu".into(), "cdn-a".into()), !dead);
    };
    kill(&mut world, true);
    world.rounds_until("cdn-a", Down, 3).expect("down");
    world.crowd("eu", "cdn-a", 1).views = 5;
    kill(&mut world, false);
    let held = world.rounds_until("cdn-a", Recovering, 200).expect("recovers");
    assert!((59..=64).contains(&held), "120 s, but {held} rounds");
    let mut steps = vec![weight(&world.rounds(20), "cdn-a")];
    for _ in 0..2 {
        steps.push(weight(&world.rounds(60), "cdn-a"));
    }
    let expected = [0.10, 0.22, 0.48].map(|factor| f64::from(usual) * factor);
    for (step, expected) in steps.iter().zip(expected) {
        assert!((f64::from(*step) - expected).abs() < 30_000.0, "{steps:?} of {usual}");
    }
    world.crowd("eu", "cdn-a", 1).views = 40;
    kill(&mut world, true);
    world.rounds_until("cdn-a", Down, 3).expect("down again");
    kill(&mut world, false);
    let held = world.rounds_until("cdn-a", Recovering, 400).expect("recovers");
    assert!((119..=124).contains(&held), "240 s, but {held} rounds");
    world.rounds_until("cdn-a", Healthy, 400).expect("healthy");
}

#[test]
fn a_quiet_day_with_noise_changes_no_state() {
    let regions = ["eu", "us", "br", "in", "jp", "za"];
    let ids = ["cdn-a", "cdn-b", "cdn-c", "own-1"];
    let mut world = World::new(setup(&regions, &ids.map(|id| (id, 100_000, 0.01))));
    world.noise = Some(7);
    for (i, at) in regions.iter().enumerate() {
        for (j, id) in ids.iter().enumerate() {
            for asn in 1..3 {
                world.crowd(at, id, asn).views = 10 + 40 * ((i + j) as u64 % 4);
            }
        }
    }
    world.probe_all(&regions, &ids);
    world.rounds(3600);
    assert_eq!(world.changes(), Vec::<&str>::new());
}

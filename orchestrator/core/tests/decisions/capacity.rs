//! Ceilings, classes, money, and what cannot be moved.

use spillway_model::{BitsPerSecond, ContentClass, GroupId, TimestampMs};
use spillway_orchestrator_core::{Bill, CapacityLimit, ClassEvidence, PriceSheet, RoundOutput, Setup};
use spillway_routing::{Target, Weights};

use crate::world::{World, pathway, region, setup, weight};

const THREE: [(&str, u64, f64); 3] = [("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.02), ("own-1", 100, 0.0)];

fn world(setup: Setup, views: &[(&str, u64)]) -> World {
    let mut world = World::new(setup);
    for (id, views) in views {
        world.crowd("eu", id, 1).views = *views;
    }
    world
}

/// Two minutes in which views go where they are sent.
fn followed(world: &mut World) -> RoundOutput {
    let mut output = world.round();
    for _ in 0..60 {
        world.follow(&output);
        output = world.round();
    }
    output
}

fn share(output: &RoundOutput, id: &str) -> f64 {
    f64::from(weight(output, id)) / 1e6
}

#[test]
fn nodes_of_a_group_share_its_ceiling() {
    let pathways = [("cdn-a", 10_000, 0.01), ("own-1", 100, 0.0), ("own-2", 100, 0.0)];
    let mut declared = setup(&["eu"], &pathways);
    declared.shared.groups = [(GroupId::new("own").expect("id"), BitsPerSecond(100_000_000))].into();
    let output = followed(&mut world(declared, &[("cdn-a", 100), ("own-1", 20), ("own-2", 20)]));
    let own = share(&output, "own-1") + share(&output, "own-2");
    assert!((own * 140.0 - 40.0).abs() < 3.0, "80 of 100 Mbit/s are 40 views: {}", own * 140.0);
}

#[test]
fn a_limit_that_a_cdn_publishes_holds_until_it_is_too_old() {
    let mut world = world(setup(&["eu"], &THREE), &[("cdn-a", 100), ("cdn-b", 40), ("own-1", 30)]);
    let free = share(&world.rounds(40), "cdn-a");
    let limit = CapacityLimit {
        pathway: pathway("cdn-a"),
        region: None,
        soft: Some(BitsPerSecond(40_000_000)),
        hard: BitsPerSecond(80_000_000),
        until: TimestampMs(world.now.0 + 200_000),
    };
    world.input.limits = vec![limit];
    let limited = world.rounds(2);
    assert!(share(&limited, "cdn-a") * 170.0 <= 40.0, "beyond its ceiling it is relieved at once");
    assert!(free * 170.0 > 60.0);
    let after = share(&world.rounds(250), "cdn-a");
    assert!(after * 170.0 > 60.0, "{after}");
}

#[test]
fn players_that_ignore_steering_are_load_that_stays() {
    let mut world = world(setup(&["eu"], &THREE), &[("cdn-a", 93), ("cdn-b", 7), ("own-1", 40)]);
    let before = share(&followed(&mut world), "own-1") * 140.0;
    world.crowd("eu", "own-1", 1).fixed = 20;
    let mut output = world.rounds(1);
    for _ in 0..60 {
        for id in ["cdn-a", "cdn-b", "own-1"] {
            let crowd = world.crowd("eu", id, 1);
            crowd.views = crowd.fixed + (share(&output, id) * 120.0).round() as u64;
        }
        output = world.round();
    }
    let followers = share(&output, "own-1") * 120.0;
    assert!((before - 40.0).abs() < 3.0, "{before}");
    assert!((followers - 20.0).abs() < 3.0, "40 views fit, 20 stay anyway: {followers}");
}

#[test]
fn a_class_that_one_pathway_serves_has_a_rule_and_its_room() {
    let uhd = ContentClass::new("UHD-DRM").expect("class");
    let kids = ContentClass::new("kids").expect("class");
    let mut declared = setup(&["eu"], &[("cdn-a", 200, 0.01), ("cdn-b", 10_000, 0.02)]);
    declared.pathways.get_mut("cdn-b").expect("cdn-b").serves.classes = [kids].into();
    let mut world = world(declared, &[("cdn-a", 50), ("cdn-b", 50)]);
    world.input.classes = vec![ClassEvidence { class: uhd.clone(), region: region("eu"), views_active: 60 }];
    let output = world.rounds(40);
    let manifest = &output.regions["eu"].manifest;
    let rule = manifest.cohorts.iter().find(|rule| rule.class.as_ref() == Some(&uhd)).expect("a rule");
    assert_eq!(rule.weights_new, Weights::from([(Target::Pathway(pathway("cdn-a")), 1_000_000)]));
    let everyone = share(&output, "cdn-a") * 40.0 + 60.0;
    assert!(everyone <= 0.851 * 100.0, "the other 40 leave room for the 60: {everyone}");
}

#[test]
fn the_least_important_class_gives_up_bitrate_first() {
    let class = |name| ContentClass::new(name).expect("class");
    let mut declared = setup(&["eu"], &[("cdn-a", 100, 0.01), ("own-1", 100, 0.0)]);
    declared.classes = vec![class("kids"), class("sport")];
    let mut world = world(declared, &[("cdn-a", 60), ("own-1", 40)]);
    let of = |name, views_active| ClassEvidence { class: class(name), region: region("eu"), views_active };
    world.input.classes = vec![of("kids", 40), of("sport", 60)];
    let output = followed(&mut world);
    let plan = &output.regions["eu"];
    let limits = &plan.manifest.max_bitrate_kbps;
    // 100 views of 2 Mbit/s want 200; 95 and 90 can be carried: 40 views give up 15.
    assert_eq!(limits.len(), 1, "{limits:?}");
    assert_eq!(limits[0].0, Some(class("kids")));
    assert!((1_500..1_650).contains(&limits[0].1), "{limits:?}");
    assert!((0.07..0.10).contains(&plan.unmet.as_fraction()), "{}", plan.unmet);
}

#[test]
fn a_commit_that_falls_behind_its_profile_is_used_before_a_cheaper_list_price() {
    let mut declared = setup(&["eu"], &[("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.03)]);
    declared.pathways.get_mut("cdn-b").expect("cdn-b").price =
        PriceSheet::Volume { committed_gb: 1_000_000.0, tiers: vec![] };
    let mut world = world(declared, &[("cdn-a", 100), ("cdn-b", 20)]);
    let ahead = Bill { used_gb: 700_000.0, profile: 0.5, ..Bill::default() };
    world.input.bills = [(pathway("cdn-b"), ahead)].into();
    let first = world.rounds(40);
    world.input.bills = [(pathway("cdn-b"), Bill { used_gb: 300_000.0, ..ahead })].into();
    let second = world.rounds(300);
    assert!(share(&first, "cdn-b") < 0.31 && share(&second, "cdn-b") > 0.69, "{second:?}");
    assert!(second.regions["eu"].cost_usd_per_hour < first.regions["eu"].cost_usd_per_hour);
    assert_eq!(second.regions["eu"].trace[&pathway("cdn-b")].price_usd_per_gb, 0.0);
}

#[test]
fn a_level_that_is_billed_anyway_is_filled_and_not_exceeded() {
    let mut declared = setup(&["eu"], &[("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.0)]);
    declared.pathways.get_mut("cdn-b").expect("cdn-b").price =
        PriceSheet::Percentile95 { usd_per_mbps: 10.0, committed_mbps: 100.0 };
    let output = world(declared, &[("cdn-a", 80), ("cdn-b", 20)]).rounds(60);
    let carried = share(&output, "cdn-b") * 200.0;
    assert!((90.0..=101.0).contains(&carried), "{carried} of 100 Mbit/s");
}

#[test]
fn money_per_hour_is_a_ceiling_that_bitrate_answers() {
    let mut declared = setup(&["eu"], &THREE);
    // 100 views beside the edge's 40: 120 Mbit/s, 54 GB/h.
    declared.spill_usd_per_hour_max = Some(0.4);
    let mut world = world(declared, &[("cdn-a", 60), ("cdn-b", 5), ("own-1", 35)]);
    let output = world.rounds(60);
    let plan = &output.regions["eu"];
    assert!(plan.unmet.0 > 100_000, "{}", plan.unmet);
    assert_eq!(plan.manifest.max_bitrate_kbps.len(), 1);
    assert!(plan.verdicts.iter().any(|verdict| verdict.starts_with("LIMIT")), "{:?}", plan.verdicts);
}

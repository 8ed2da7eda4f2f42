use spillway_model::PathwayState::{Down, Healthy};
use spillway_model::Verdict;
use spillway_routing::{CohortRule, Target};

use crate::world::{World, pathway, state_of};

/// Two CDNs, three networks on each.
fn world() -> World {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100)]);
    for asn in [2, 3] {
        for id in ["cdn-a", "cdn-b"] {
            world.crowd("eu", id, asn).views = 100;
        }
    }
    world.rounds(60);
    world
}

fn rule(output: &spillway_orchestrator_core::RoundOutput, asn: Option<u32>) -> Option<&CohortRule> {
    output.regions["eu"].manifest.cohorts.iter().find(|rule| rule.asn == asn)
}

fn weight_in(rule: &CohortRule, id: &str) -> u32 {
    rule.weights_new.get(&Target::Pathway(pathway(id))).copied().unwrap_or(0)
}

#[test]
fn one_network_failing_on_one_pathway_is_moved_alone() {
    let mut world = world();
    world.crowd("eu", "cdn-a", 2).failing = 0.6;
    let output = world.rounds(3);
    assert_eq!(state_of(&output, "cdn-a"), Healthy, "{:?}", world.changes());
    let moved = rule(&output, Some(2)).expect("a rule of its own");
    assert_eq!(weight_in(moved, "cdn-a"), 0);
    assert!(moved.reason.contains("PATHxASN"), "{}", moved.reason);
    assert!(weight_in(rule(&output, None).expect("everyone"), "cdn-a") > 0);
    assert!(rule(&output, Some(3)).is_none());
    let note = output.regions["eu"].findings.iter().find(|note| note.verdict == Verdict::PathAsn).expect("a finding");
    assert_eq!((note.asn, note.pathway.as_ref().map(|id| id.as_str())), (Some(2), Some("cdn-a")));
}

#[test]
fn a_network_that_stalls_on_one_pathway_is_moved_alone_and_comes_back() {
    let mut world = world();
    world.crowd("eu", "cdn-a", 2).bad = 0.3;
    let mut output = world.rounds(1);
    let mut rounds = 0;
    while rule(&output, Some(2)).is_none() && rounds < 90 {
        output = world.round();
        rounds += 1;
    }
    assert!(rounds < 60, "seen within two minutes: {rounds} rounds, {:?}", world.changes());
    assert_eq!(state_of(&output, "cdn-a"), Healthy, "{:?}", world.changes());
    let crowd = world.crowd("eu", "cdn-a", 2);
    (crowd.bad, crowd.views) = (0.009, 5);
    for _ in 0..600 {
        output = world.round();
    }
    assert!(rule(&output, Some(2)).is_none(), "{:?}", world.changes());
}

#[test]
fn a_pathway_that_fails_in_every_network_is_down_for_all() {
    let mut world = world();
    for asn in [1, 2, 3] {
        world.crowd("eu", "cdn-a", asn).failing = 0.6;
    }
    let output = world.rounds(2);
    assert_eq!(state_of(&output, "cdn-a"), Down, "{:?}", world.changes());
    assert_eq!(output.regions["eu"].manifest.cohorts.len(), 1, "parent state dominates");
}

#[test]
fn a_brownout_in_every_network_is_no_networks_fault() {
    let mut world = world();
    for asn in [1, 2, 3] {
        world.crowd("eu", "cdn-a", asn).bad = 0.10;
    }
    let rounds = world.rounds_until("cdn-a", spillway_model::PathwayState::Degraded, 60);
    assert!(rounds.is_some_and(|rounds| rounds < 40), "{rounds:?} {:?}", world.changes());
}

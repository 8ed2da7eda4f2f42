//! The committed scenarios, with production timings.

use spillway_simulator::{Policy, Scenario, compare, run};

fn outage() -> Scenario {
    Scenario::parse(include_str!("../../scenarios/outage.toml")).expect("the committed scenario is valid")
}

#[test]
fn a_dead_cdn_is_left_quickly_and_comes_back_in_steps() {
    let scenario = outage();
    for seed in [1, 2, 3] {
        let both = compare(&scenario, seed);
        let outcome = &both.spillway;
        let fault = &scenario.fault[0];
        let before: Vec<_> = outcome.state_changes.iter().filter(|change| change.at_s < fault.start_s).collect();
        assert!(before.is_empty(), "{before:?}");
        let detect_s = outcome.detect_s.expect("detected");
        assert!(detect_s <= 5, "seed {seed}: detected after {detect_s} s");
        assert!(outcome.views_affected >= 60, "{}", outcome.views_affected);
        let leave_s_p95 = outcome.leave_s_p95.expect("95 % left") as f64;
        assert!(leave_s_p95 <= detect_s as f64 + outcome.ttl_s + 2.0, "seed {seed}: {leave_s_p95} s");
        assert_eq!(outcome.stayed, 0);
        assert!(outcome.left_by_steering * 10 >= outcome.views_affected * 8, "{outcome:?}");
        let states: Vec<&str> = outcome.state_changes.iter().map(|change| change.state.as_str()).collect();
        assert_eq!(states, ["DOWN", "RECOVERING", "HEALTHY"], "{:?}", outcome.state_changes);
        assert!(outcome.state_changes.iter().all(|change| change.pathway == "cdn-a" && change.region == "south"));
        let after: Vec<u32> = outcome
            .faulty_weight
            .iter()
            .filter(|change| change.at_s >= fault.end_s)
            .map(|change| change.weight_ppm)
            .collect();
        assert!(after.len() >= 4 && after.is_sorted(), "{after:?}");
        assert!(after[0] < 100_000 && after.last().is_some_and(|last| *last > 500_000), "{after:?}");
        let usual = usual_harm(&scenario, seed);
        let harmed = outcome.harmed_view_minutes - usual;
        let harmed_static = both.r#static.harmed_view_minutes - usual;
        assert!(harmed_static > 10.0 * harmed, "seed {seed}: {harmed} against {harmed_static} minutes");
        assert!(outcome.peak_utilisation["own-n1"] <= 1.0);
    }
}

/// What is bad on any day: the same seed without the fault.
fn usual_harm(scenario: &Scenario, seed: u64) -> f64 {
    let quiet = Scenario { fault: vec![], ..scenario.clone() };
    run(&quiet, Policy::Spillway, seed).harmed_view_minutes
}

#[test]
fn a_spike_outgrows_the_own_edges_and_overfills_none() {
    let text = include_str!("../../scenarios/spike.toml");
    let scenario = Scenario::parse(text).expect("the committed scenario is valid");
    for seed in 1..=10 {
        let both = compare(&scenario, seed);
        for edge in ["own-e1", "own-e2"] {
            let peak = both.spillway.peak_utilisation[edge];
            assert!((0.6..=1.0).contains(&peak), "seed {seed}: {edge} at {peak}");
            assert!(both.r#static.peak_utilisation[edge] > 1.0, "else the spike proves nothing");
        }
        assert!(both.spillway.state_changes.is_empty(), "{:?}", both.spillway.state_changes);
    }
}

#[test]
fn the_same_seed_twice_gives_identical_bytes() {
    let scenario = Scenario { seconds: 600, ..outage() };
    let bytes = |seed| serde_json::to_vec(&compare(&scenario, seed)).expect("an outcome is JSON");
    assert_eq!(bytes(5), bytes(5));
    assert_ne!(bytes(5), bytes(6));
}

#[test]
fn a_day_without_a_fault_changes_no_state() {
    let scenario = Scenario { fault: vec![], ..outage() };
    let outcome = run(&scenario, Policy::Spillway, 4);
    assert!(outcome.state_changes.is_empty(), "{:?}", outcome.state_changes);
    assert!(outcome.epochs <= 30, "{} epochs", outcome.epochs);
}

#[test]
fn an_unknown_key_or_pathway_is_refused_with_what_would_be_valid() {
    let text = include_str!("../../scenarios/outage.toml");
    let error = Scenario::parse(&format!("colour = 1\n{text}")).expect_err("unknown key").to_string();
    assert!(error.contains("colour"), "{error}");
    let wrong = text.replace("pathway = \"cdn-a\"", "pathway = \"cdn-x\"");
    let error = Scenario::parse(&wrong).expect_err("unknown pathway").to_string();
    assert!(error.contains("cdn-x") && error.contains("cdn-a, cdn-b, cdn-c, own-n1"), "{error}");
}

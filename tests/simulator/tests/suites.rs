//! The suites that come with the program.

use std::collections::{BTreeMap, BTreeSet};

use spillway_simulator::{Line, Mode, Plan, Policy, Suite, Traces, html, verdicts};

#[test]
fn every_scenario_of_a_suite_is_valid_and_has_a_name_of_its_own() {
    for (name, least) in [("core", 31), ("validation", 4)] {
        let suite = Suite::named(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let names: BTreeSet<&str> = suite.scenarios.iter().map(|scenario| scenario.events.name.as_str()).collect();
        assert!(suite.scenarios.len() >= least && names.len() == suite.scenarios.len(), "{names:?}");
    }
    let error = Suite::named("nuclear").expect_err("no such suite").to_string();
    assert!(error.contains("nuclear") && error.contains("core, validation"), "{error}");
}

#[test]
fn all_policies_share_one_world_and_the_oracle_is_what_they_are_measured_against() {
    let mut suite = Suite::named("core").expect("valid");
    suite.scenarios.retain(|scenario| scenario.events.name == "S21");
    suite.scenarios[0].events.seconds = 400;
    suite.scenarios[0].events.fault[0].start_s = 200;
    suite.scenarios[0].events.fault[0].end_s = 380;
    let plan = Plan { seeds: 1, policy: Some(Policy::Spillway), ablations: false };
    let runs: BTreeMap<_, _> =
        suite.jobs(&plan).into_iter().map(|job| (job, suite.run(&job, &Traces::default()))).collect();
    let lines = suite.lines(&runs);
    let policies: Vec<&str> = lines.iter().map(|line| line.policy.as_str()).collect();
    assert_eq!(policies, ["spillway", "oracle"]);
    assert!(lines[0].regret.is_some_and(|regret| regret.value.abs() < 5.0), "{:?}", lines[0].regret);
    assert_eq!(lines[1].regret.map(|regret| regret.value), Some(0.0));
    assert!(lines[0].detect_s_p95.is_some_and(|time| time.value <= 5.0), "{:?}", lines[0].detect_s_p95);
    let judged = verdicts(&suite, &runs, &lines);
    assert!(judged.iter().any(|verdict| verdict.name == "gate_oracle" && verdict.value.is_some()), "{judged:?}");
    let page = html(&suite, &runs, &lines, &judged);
    assert!(page.contains("<svg") && page.contains("S21") && !page.contains("<script"), "a page without scripts");
    assert!(suite.jobs(&plan).iter().all(|job| job.mode == Mode::Fluid));
}

#[test]
fn with_contracts_no_policy_has_a_lower_bill_or_headline_than_the_oracle() {
    let mut suite = Suite::named("core").expect("valid");
    suite.scenarios.retain(|scenario| scenario.events.name == "S15");
    // Six days of the month, and as much of its volumes.
    let days = 6;
    let scenario = &mut suite.scenarios[0];
    (scenario.events.seconds, scenario.events.step_s) = (days * 86_400, 300);
    scenario.events.surge.truncate(1);
    let part = days as f64 / 30.0;
    for pathway in &mut scenario.world.pathway {
        pathway.commit_tb *= part;
        pathway.tiers.iter_mut().for_each(|tier| tier.0 *= part);
        pathway.p95_usd_per_mbps *= part;
    }
    let plan = Plan { seeds: 1, policy: None, ablations: false };
    let played = [Policy::Static, Policy::GreedyCapacity, Policy::Spillway, Policy::Oracle];
    let jobs = suite.jobs(&plan).into_iter().filter(|job| played.contains(&job.policy));
    let runs: BTreeMap<_, _> = jobs.map(|job| (job, suite.run(&job, &Traces::default()))).collect();
    let lines = suite.lines(&runs);
    let value = |policy: &str, of: &dyn Fn(&Line) -> Option<f64>| {
        lines.iter().find(|line| line.policy == policy).and_then(of).expect("measured")
    };
    for policy in ["static", "greedy-capacity", "spillway"] {
        let cost = value(policy, &|line| Some(line.cost_ratio?.value));
        assert!(cost > 1.0, "{policy} costs {cost} of the oracle's");
        let above = value(policy, &|line| Some(line.j?.value)) - value("oracle", &|line| Some(line.j?.value));
        assert!(above > 0.0, "{policy}: {above}");
    }
    let within = |policy| value(policy, &|line| Some(line.cost_ratio_within_rules?.value));
    assert!(within("oracle") < 1.0 && within("spillway") > 1.0, "{} {}", within("oracle"), within("spillway"));
    let again = suite.jobs(&plan).into_iter().find(|job| job.policy == Policy::Spillway).expect("a job");
    assert_eq!(suite.run(&again, &Traces::default()), runs[&again], "the same seed twice");
}

//! `spillway simulate SCENARIO.toml`: a policy in a simulated world.

use anyhow::Context as _;
use spillway_simulator::{Outcome, Policy, Scenario, run as play};

use crate::cli::Simulate;

/// Plays the scenario and prints what came out of it. The same scenario, policy and seed print the same bytes.
///
/// # Errors
/// A file that can't be read, or a scenario that is not valid.
pub fn run(arguments: &Simulate) -> anyhow::Result<()> {
    let shown = arguments.scenario.display();
    let text = std::fs::read_to_string(&arguments.scenario).with_context(|| format!("read {shown}"))?;
    let scenario = Scenario::parse(&text).with_context(|| shown.to_string())?;
    let policy = if arguments.policy == "static" { Policy::Static } else { Policy::Spillway };
    let outcome = play(&scenario, policy, arguments.seed);
    if arguments.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print_outcome(&outcome);
    }
    Ok(())
}

fn print_outcome(outcome: &Outcome) {
    let seconds = |value: Option<u64>| value.map_or("never".to_owned(), |value| format!("{value} s"));
    println!("{} under policy {}, seed {}", outcome.scenario, outcome.policy, outcome.seed);
    println!("  detected             {}", seconds(outcome.detect_s));
    println!("  left, median / 95 %  {} / {}", seconds(outcome.leave_s_p50), seconds(outcome.leave_s_p95));
    println!(
        "  views affected       {} ({} left by steering, {} by themselves, {} stayed)",
        outcome.views_affected, outcome.left_by_steering, outcome.left_by_player, outcome.stayed
    );
    println!("  harmed view-minutes  {:.1}", outcome.harmed_view_minutes);
    println!("  good windows         {:.2} %", outcome.good_share * 100.0);
    println!("  epochs               {}", outcome.epochs);
    println!("  cost                 {:.2} USD", outcome.cost_usd);
    for (pathway, peak) in &outcome.peak_utilisation {
        println!("  peak utilisation     {:.0} % {pathway}", peak * 100.0);
    }
    for change in &outcome.state_changes {
        println!(
            "  {:>6} s  {} in {}: {} ({})",
            change.at_s, change.pathway, change.region, change.state, change.reason
        );
    }
}

//! Fluid shares are those that `rank()` gives to many sessions: a fluid run and a session run of the same static world
//! put the same part of the views on each pathway.

use spillway_simulator::{Mode, Policy, Scenario, Traces, play, world};

#[test]
fn fluid_shares_are_those_of_rank_over_many_sessions() {
    let text = "name = \"shares\"\nseconds = 300\nworld = \"six-regions\"\nsession_views = 3000\n";
    let scenario = Scenario::parse(text, &world).expect("valid");
    for policy in [Policy::Static, Policy::Spillway] {
        let last = |mode| {
            let outcome = play(&scenario, policy, mode, 3, &Traces::default());
            // Windows of many seconds: a second of session mode is few.
            let samples = &outcome.timeline.samples[outcome.timeline.samples.len() / 2..];
            let mean = |line: usize| samples.iter().map(|s| s.shares[line]).sum::<f64>() / samples.len() as f64;
            (0..outcome.timeline.lines.len()).map(mean).collect::<Vec<f64>>()
        };
        let (fluid, session) = (last(Mode::Fluid), last(Mode::Session));
        for (a, b) in fluid.iter().zip(&session) {
            // The engine leaves room for uneven draws of few sessions, so its plans differ a little by themselves.
            let most = if policy == Policy::Spillway { 0.08 } else { 0.03 };
            assert!((a - b).abs() < most, "{policy:?}: {fluid:?} against {session:?}");
        }
    }
}

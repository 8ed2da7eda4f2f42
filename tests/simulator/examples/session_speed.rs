//! How long session mode takes: 20,000 sessions at a time over 100 minutes (or as many sessions and minutes as the
//! first two numbers say), scenario S1 of the suite `core`, policy `spillway`, one run.
//! `cargo run --release -p spillway-simulator --example session_speed [-- SESSIONS MINUTES] [--json] [--outcome]`
//!
//! Exits 1 if it misses its target; `--outcome` prints what came of the run, to compare two builds.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::process::ExitCode;
use std::time::Instant;

use spillway_simulator::{Mode, Policy, Suite, Traces, play};

const TARGET_S: f64 = 60.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |word: &str| arguments.iter().any(|argument| argument == word);
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let (sessions, minutes) = (numbers.next().unwrap_or(20_000), numbers.next().unwrap_or(100));
    let suite = Suite::named("core").expect("a suite of the program");
    let found = suite.scenarios.into_iter().find(|scenario| scenario.events.name == "S1");
    let mut scenario = found.expect("S1 is of the suite");
    scenario.events.session_views = Some(sessions);
    scenario.events.seconds = minutes * 60;
    let begun = Instant::now();
    let outcome = play(&scenario, Policy::Spillway, Mode::Session, 1, &Traces::default());
    let took_s = begun.elapsed().as_secs_f64();
    if given("--outcome") {
        println!("{}", serde_json::to_string(&outcome).expect("an outcome is JSON"));
    }
    let ok = took_s <= TARGET_S;
    if given("--json") {
        println!(
            "{{\"benchmark\":\"session_mode\",\"sessions\":{sessions},\"minutes\":{minutes},\"value\":{took_s:.2},\
             \"unit\":\"s\",\"at_most\":{TARGET_S},\"ok\":{ok}}}"
        );
    } else {
        println!(
            "session mode: {sessions} sessions over {minutes} minutes ({} views) in {took_s:.1} s (at most {TARGET_S} s: \
             {})",
            outcome.views_started,
            if ok { "holds" } else { "missed" }
        );
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

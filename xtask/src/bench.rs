//! `cargo xtask bench`: builds for release, and runs the benchmark of `tests/bench`, or those of decisions.

use std::ffi::OsStr;
use std::process::Command;

use crate::sh::{self, Result};
use crate::tools;

/// The peer of `collect`, from PyPI.
const DUCKDB: &str = "duckdb==2.0.0";

/// What `decisions` runs: package and example. Each prints its figure, its target and whether that holds, one JSON
/// object with `--json`, and exits 1 if it doesn't.
const DECISIONS: [(&str, &str); 3] = [
    ("spillway-routing", "rank_speed"),
    ("spillway-orchestrator-core", "round_speed"),
    ("spillway-simulator", "session_speed"),
];

/// `bench collect|steer|edge [--runs N] [--seconds N] [--json]`; more arguments go to the benchmark. `bench soak`,
/// `bench decisions [--json]`.
pub fn run(arguments: &[String]) -> Result<u8> {
    match arguments.split_first() {
        Some((which, rest)) if which == "collect" => {
            let python = tools::python("bench", &[DUCKDB])?;
            beside_a_peer(which, &["--python".as_ref(), python.as_os_str()], rest)
        }
        Some((which, rest)) if which == "steer" => {
            let knotd = tools::knotd()?;
            // Alone: together with the others cargo would choose other features.
            let example = ["build", "--release", "-p", "spillway-steering", "--example", "rewrite_speed"];
            sh::run_aside(sh::cargo().args(example).current_dir(sh::root()))?;
            let rewrites = sh::target_dir().join("release/examples/rewrite_speed");
            let own = ["--knotd".as_ref(), knotd.as_os_str(), "--rewrites".as_ref(), rewrites.as_os_str()];
            beside_a_peer(which, &own, rest)
        }
        Some((which, rest)) if which == "edge" => {
            let (nginx, varnish) = (tools::nginx()?, tools::varnish()?);
            let own = ["--nginx".as_ref(), nginx.as_os_str(), "--varnish".as_ref(), varnish.as_os_str()];
            beside_a_peer(which, &own, rest)
        }
        Some((which, rest)) if which == "soak" => beside_a_peer(which, &[], rest),
        Some((which, rest)) if which == "decisions" => decisions(rest),
        other => {
            let given = other.map_or("", |(which, _)| which.as_str());
            Err(format!("bench {given:?} is unknown (valid: collect, steer, edge, soak, decisions)"))
        }
    }
}

/// Runs a benchmark of `tests/bench` on the release build.
fn beside_a_peer(which: &str, own: &[&OsStr], rest: &[String]) -> Result<u8> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("a benchmark needs two cores: one for the server, one for the client".into());
    }
    if !sh::exists("taskset") {
        return Err("taskset is missing: install util-linux".into());
    }
    let packages = ["-p", "spillway", "-p", "spillway-demo", "-p", "spillway-bench"];
    sh::run_aside(sh::cargo().args(["build", "--release"]).args(packages).current_dir(sh::root()))?;
    let built = sh::target_dir().join("release");
    let mut bench = Command::new(built.join("spillway-bench"));
    bench.arg("--spillway").arg(built.join("spillway")).arg(which).args(own).args(rest);
    sh::run(&mut bench)?;
    Ok(0)
}

/// 1 if a target is missed; the others run all the same.
fn decisions(rest: &[String]) -> Result<u8> {
    if let Some(other) = rest.iter().find(|argument| *argument != "--json") {
        return Err(format!("bench decisions {other:?} is unknown (valid: --json)"));
    }
    // One build for each: together, cargo would build dependencies with the features that all of them want.
    for (package, example) in DECISIONS {
        let arguments = ["build", "--release", "-p", package, "--example", example];
        sh::run_aside(sh::cargo().args(arguments).current_dir(sh::root()))?;
    }
    let built = sh::target_dir().join("release/examples");
    let mut missed = 0;
    for (_, example) in DECISIONS {
        let program = built.join(example);
        let ended = Command::new(&program).args(rest).status();
        match ended.map_err(|error| format!("{}: {error}", program.display()))?.code() {
            Some(0) => {}
            Some(1) => missed = 1,
            other => return Err(format!("{example} ended with {other:?} (valid: 0, and 1 for a missed target)")),
        }
    }
    Ok(missed)
}

//! `cargo xtask test`: what must hold before anything lands.

use std::process::Command;

use crate::sh::{self, Result};
use crate::{demo, players, tools};

type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 8] = [
    ("fmt", fmt),
    ("clippy", clippy),
    ("rust", rust),
    ("soak", soak),
    ("sdk", sdk),
    ("browser", browser),
    ("players", real_players),
    ("deny", deny),
];

/// Runs every step, or the one after `--only`.
pub fn run(arguments: &[String]) -> Result<u8> {
    let only = match arguments {
        [] => None,
        [flag, step] if flag == "--only" && STEPS.iter().any(|(name, _)| name == step) => Some(step.as_str()),
        other => {
            let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
            return Err(format!("test {other:?} is not valid (valid: --only {})", names.join("|")));
        }
    };
    for (name, step) in STEPS {
        if only.is_none_or(|only| only == name) {
            eprintln!("== {name}");
            step().map_err(|error| format!("step {name}: {error}"))?;
        }
    }
    eprintln!("== all passed");
    Ok(0)
}

fn fmt() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]).current_dir(sh::root()))
}

fn clippy() -> Result<()> {
    let mut clippy = sh::cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--profile", "demo", "--", "-D", "warnings"]);
    sh::run(clippy.current_dir(sh::root()))
}

fn rust() -> Result<()> {
    // System tests start the programs that the demo starts.
    demo::build()?;
    // The edge agent is tested beside these; without them those tests say so and end.
    for peer in [tools::nginx(), tools::varnish()] {
        if let Err(error) = peer {
            eprintln!("not tested: {error}");
        }
    }
    let mut tests = sh::cargo();
    if sh::exists("cargo-nextest") {
        tests.args(["nextest", "run", "--workspace", "--cargo-profile", "demo"]);
    } else {
        eprintln!("cargo-nextest is not installed: using cargo test");
        tests.args(["test", "--workspace", "--profile", "demo"]);
    }
    sh::run(tests.current_dir(sh::root()))
}

/// Long enough for a kill and some thousand checked bodies.
fn soak() -> Result<()> {
    demo::build_programs()?;
    let mut build = sh::cargo();
    build.args(["build", "--profile", "demo", "-p", "spillway-bench"]).current_dir(sh::root());
    sh::run_aside(&mut build)?;
    let built = sh::target_dir().join("demo");
    for tiers in [&[][..], &["--no-disk"]] {
        let mut soak = Command::new(built.join("spillway-bench"));
        soak.arg("--spillway").arg(built.join("spillway")).args(["soak", "--minutes", "0.3"]).args(tiers);
        sh::run(&mut soak)?;
    }
    Ok(())
}

fn sdk() -> Result<()> {
    tools::npm_ci("player-sdk-js")?;
    sh::run(Command::new("npm").args(["run", "--silent", "test"]).current_dir(sh::root().join("player-sdk-js")))
}

fn browser() -> Result<()> {
    let chromium = tools::chromium()?;
    demo::build()?;
    tools::npm_ci("tests/browser")?;
    let built = demo::command();
    let mut test = Command::new("node");
    test.arg("run.mjs").current_dir(sh::root().join("tests/browser"));
    test.env("CHROMIUM", chromium).env("SCREENSHOTS", sh::target_dir().join("screenshots"));
    test.arg("--").arg(built.get_program()).args(built.get_args());
    sh::run(&mut test)
}

fn real_players() -> Result<()> {
    sh::run(players::command()?.arg("--short"))
}

fn deny() -> Result<()> {
    let deny = tools::cargo_deny()?;
    let mut check = Command::new(&deny);
    check.args(["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]).current_dir(sh::root());
    sh::run(&mut check)?;
    let mut advisories = Command::new(&deny);
    advisories.args(["fetch", "db"]).current_dir(sh::root());
    advisories.stderr(std::process::Stdio::null());
    if sh::run(&mut advisories).is_err() {
        eprintln!("advisories: NOT checked, the database (github.com/rustsec/advisory-db) is not reachable from here");
        return Ok(());
    }
    sh::run(Command::new(&deny).args(["check", "--disable-fetch", "advisories"]).current_dir(sh::root()))
}

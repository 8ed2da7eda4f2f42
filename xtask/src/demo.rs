//! `cargo xtask demo`: build, then hand over to the demo program.

use std::process::Command;

use crate::sh::{self, Result};
use crate::tools;

/// Builds the programs. Always the same ones together, so that they share the features of their dependencies.
pub fn build_programs() -> Result<()> {
    let mut build = sh::cargo();
    build.args(["build", "--profile", "demo", "-p", "spillway", "-p", "spillway-demo", "-p", "spillway-system-tests"]);
    sh::run_aside(build.current_dir(sh::root()))
}

/// Builds the programs and the parts of the watch page.
pub fn build() -> Result<()> {
    build_programs()?;
    tools::npm_ci("player-sdk-js")?;
    tools::npm_ci("tests/demo/watch")?;
    sh::run_aside(Command::new("npm").args(["run", "--silent", "build"]).current_dir(sh::root().join("player-sdk-js")))
}

/// The demo program with the paths that it needs.
pub fn command() -> Command {
    let built = sh::target_dir().join("demo");
    let mut demo = Command::new(built.join("spillway-demo"));
    demo.arg("--spillway").arg(built.join("spillway"));
    demo.arg("--sdk").arg(sh::root().join("player-sdk-js/dist"));
    demo.arg("--hls-js").arg(sh::root().join("tests/demo/watch/node_modules/hls.js/dist/hls.min.js"));
    demo
}

/// Runs the demo; its exit status is ours.
pub fn run(arguments: &[String]) -> Result<u8> {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        let mut build = sh::cargo();
        build.args(["build", "--profile", "demo", "-p", "spillway-demo"]).current_dir(sh::root());
        sh::run_aside(&mut build)?;
    } else {
        build()?;
    }
    let status = command().args(arguments).status().map_err(|error| format!("spillway-demo: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

//! `cargo xtask players`: real players in a real browser report by CMCD to the real collector.

use std::process::Command;

use crate::sh::{self, Result};
use crate::{demo, tools};

/// Runs `tests/players`; its exit status is ours.
pub fn run(arguments: &[String]) -> Result<u8> {
    let status = command()?.args(arguments).status().map_err(|error| format!("node: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The test with the programs that it needs, built.
pub fn command() -> Result<Command> {
    let chromium = tools::chromium()?;
    demo::build_programs()?;
    tools::npm_ci("tests/players")?;
    let built = sh::target_dir().join("demo");
    let mut test = Command::new("node");
    test.arg(sh::root().join("tests/players/run.mjs")).env("CHROMIUM", chromium);
    test.arg("--spillway").arg(built.join("spillway")).arg("--origin").arg(built.join("spillway-demo-origin"));
    Ok(test)
}

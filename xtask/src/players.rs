//! `cargo xtask players`: real players in a real browser follow steering, report by CMCD to the real collector, and play through
//! a real own edge.

use std::path::PathBuf;
use std::process::Command;

use crate::sh::{self, Result};
use crate::{demo, tools};

/// DuckDB's version in `tests/players/package.json`: an extension fits one only.
const DUCKDB: &str = "1.5.5";

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
    match duckdb_delta() {
        Ok(extension) => _ = test.arg("--delta-extension").arg(extension),
        Err(error) => eprintln!("players: DuckDB reads files only, its Delta extension is not to be had: {error}"),
    }
    Ok(test)
}

/// DuckDB's reader of Delta tables, which no npm package has; PyPI has it for most machines.
fn duckdb_delta() -> Result<PathBuf> {
    let folder = tools::cache().join(format!("duckdb-{DUCKDB}"));
    let extension = folder.join(format!("duckdb_extension_delta/extensions/v{DUCKDB}/delta.duckdb_extension"));
    if extension.exists() {
        return Ok(extension);
    }
    let package = format!("duckdb-extension-delta=={DUCKDB}");
    let mut download = Command::new("python3");
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]);
    sh::run_aside(download.arg(&folder).arg(package))?;
    let files = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut wheels = files.flatten().map(|file| file.path()).filter(|path| path.extension() == Some("whl".as_ref()));
    let wheel = wheels.next().ok_or_else(|| format!("{}: no wheel", folder.display()))?;
    sh::run_aside(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&folder))?;
    // Best effort: 26 MB that nobody needs any more.
    _ = std::fs::remove_file(wheel);
    if extension.exists() { Ok(extension) } else { Err(format!("{} is not in the wheel", extension.display())) }
}

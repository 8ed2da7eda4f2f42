//! `cargo xtask bench`: builds for release, and runs a benchmark of `tests/bench`.

use std::process::Command;

use crate::sh::{self, Result};
use crate::tools;

/// The peer of `collect`, from PyPI.
const DUCKDB: &str = "duckdb==2.0.0";

/// `bench collect [--runs N] [--seconds N] [--json]`; more arguments go to the benchmark.
pub fn run(arguments: &[String]) -> Result<u8> {
    let Some((which, rest)) = arguments.split_first().filter(|(which, _)| *which == "collect") else {
        return Err(format!("bench {:?} is unknown (valid: collect)", arguments.first().map_or("", String::as_str)));
    };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("a benchmark needs two cores: one for the server, one for the client".into());
    }
    if !sh::exists("taskset") {
        return Err("taskset is missing: install util-linux".into());
    }
    let python = tools::python("bench", &[DUCKDB])?;
    let packages = ["-p", "spillway", "-p", "spillway-demo", "-p", "spillway-bench"];
    sh::run_aside(sh::cargo().args(["build", "--release"]).args(packages).current_dir(sh::root()))?;
    let built = sh::target_dir().join("release");
    let mut bench = Command::new(built.join("spillway-bench"));
    bench.arg("--spillway").arg(built.join("spillway")).arg(which).arg("--python").arg(python).args(rest);
    sh::run(&mut bench)?;
    Ok(0)
}

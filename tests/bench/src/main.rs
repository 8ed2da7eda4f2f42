//! Benchmarks: the real binary beside a peer on the same machine, in one run.
//!
//! Server and client each get a core of their own. Rates are per CPU-second of the server, as the kernel counts it for the
//! process, so that the client's core is not the limit; the result is the median of alternating runs.

mod bare;
mod collect;
mod collector;
mod dns;
mod duckdb;
mod edge;
mod http_load;
mod process;
mod soak;
mod steer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What to measure.
#[derive(Debug, Parser)]
#[command(about = "Benchmarks of Spillway beside its peers")]
struct Cli {
    /// The `spillway` binary, built for release
    #[arg(long, value_name = "FILE")]
    spillway: PathBuf,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The collector beside DuckDB's NDJSON → Parquet
    Collect(collect::Arguments),
    /// The steering node beside a bare axum handler
    Steer(steer::Arguments),
    /// The bare handler (started by `steer`)
    #[command(hide = true)]
    Bare(bare::Arguments),
    /// The own edge beside nginx and Varnish
    Edge(edge::Arguments),
    /// Connections that say nothing (started by `edge`)
    #[command(hide = true)]
    EdgeIdle(edge::idle::Arguments),
    /// The own edge with a failing origin and small tiers, for long
    Soak(soak::Arguments),
    /// The steering node's DNS zone beside Knot DNS
    Dns(dns::Arguments),
}

fn main() -> ExitCode {
    let Cli { spillway, bench } = Cli::parse();
    let done = match bench {
        Bench::Collect(arguments) => collect::run(&spillway, &arguments),
        Bench::Steer(arguments) => steer::run(&spillway, &arguments),
        Bench::Bare(arguments) => bare::run(&arguments),
        Bench::Edge(arguments) => edge::run(&spillway, &arguments),
        Bench::EdgeIdle(arguments) => edge::idle::run(&arguments),
        Bench::Soak(arguments) => soak::run(&spillway, &arguments),
        Bench::Dns(arguments) => dns::run(&spillway, &arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

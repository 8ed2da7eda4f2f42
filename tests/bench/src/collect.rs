//! `collect`: events a second and core that the collector makes durable and commits, beside DuckDB's NDJSON → Parquet of
//! the same events.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::collector::Collector;
use crate::duckdb;
use crate::process::{self, median, number};

/// Seconds between two heartbeats of a viewer, for cores per million viewers.
const HEARTBEAT_S: f64 = 10.0;
/// Connections of the bulk case: each waits for the end
/// of a group commit of 20 ms, so enough of them that waiting for it is not the limit.
const CONNECTIONS: u32 = 256;
/// Connections of the steady case.
const STEADY_CONNECTIONS: u32 = 1_000;
/// Views that report in turn.
const VIEWS: u32 = 20_000;
/// Beacons a second while freshness is measured: a tenth of what the bulk case reaches.
const FRESHNESS_BEACONS_PER_S: u32 = 500;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Python with the package duckdb
    #[arg(long, value_name = "FILE")]
    python: PathBuf,
    /// Alternating runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Seconds of load in each run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=120))]
    seconds: u32,
    /// Events that DuckDB converts
    #[arg(long, default_value_t = 500_000)]
    duckdb_events: u64,
    /// One JSON line
    #[arg(long)]
    json: bool,
}

/// One run under load.
struct Run {
    beacons_per_cpu_s: f64,
    events_per_cpu_s: f64,
    events_per_s: f64,
    rss_mb_max: f64,
    latency_ms_p99: f64,
}

pub(crate) fn run(spillway: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let ndjson = dir.path().join("events.ndjson");
    let events = arguments.duckdb_events;
    let mut write = std::process::Command::new(spillway);
    write.args(["load", "events", "--count", &events.to_string(), "--views", &VIEWS.to_string()]).arg(&ndjson);
    let written = process::json(&mut write)?;

    let (mut bulk, mut peer, mut version) = (Vec::new(), Vec::new(), Value::Null);
    for number in 1..=arguments.runs {
        let collector = Collector::start(spillway)?;
        let run = measure(&collector, &mut collector.load(), 20, CONNECTIONS, arguments.seconds)?;
        collector.server.end()?;
        let (rate, of) = duckdb::events_per_cpu_s(&arguments.python, &ndjson, events)?;
        eprintln!(
            "run {number}: {:.0} events/s/core (wall {:.0}/s, p99 {:.1} ms, {:.0} MB); duckdb {rate:.0}",
            run.events_per_cpu_s, run.events_per_s, run.latency_ms_p99, run.rss_mb_max
        );
        bulk.push(run);
        peer.push(rate);
        version = of;
    }
    let mut steady = Vec::new();
    for events_per_beacon in [1, 3] {
        let collector = Collector::start(spillway)?;
        let mut load = collector.load_tls();
        let run = measure(&collector, &mut load, events_per_beacon, STEADY_CONNECTIONS, arguments.seconds)?;
        collector.server.end()?;
        eprintln!(
            "steady, {events_per_beacon} events a beacon, TLS: {:.0} beacons/s/core (p99 {:.1} ms, {:.0} MB)",
            run.beacons_per_cpu_s, run.latency_ms_p99, run.rss_mb_max
        );
        steady.push(run.beacons_per_cpu_s);
    }
    let (freshness, bytes_per_event) = freshness(spillway, arguments.seconds)?;

    let events_per_s_per_core = median(bulk.iter().map(|run| run.events_per_cpu_s).collect());
    let duckdb_rate = median(peer);
    let largest = |value: fn(&Run) -> f64| bulk.iter().map(value).fold(0.0, f64::max);
    let result = json!({
        "events_per_s_per_core": events_per_s_per_core.round(),
        "duckdb_events_per_s_per_core": duckdb_rate.round(),
        "ratio": round(events_per_s_per_core / duckdb_rate),
        "steady": {
            "beacons_per_s_per_core_1": steady[0].round(),
            "beacons_per_s_per_core_3": steady[1].round(),
            "cores_per_million_viewers": round(1e6 / HEARTBEAT_S / steady[0]),
        },
        "freshness_s_p99": freshness,
        "rss_mb_max": largest(|run| run.rss_mb_max).round(),
        "bytes_per_event": round(bytes_per_event),
        "events_per_s_wall": median(bulk.iter().map(|run| run.events_per_s).collect()).round(),
        "latency_ms_p99": round(largest(|run| run.latency_ms_p99)),
        "bytes_per_json_event": written["bytes_per_event"],
        "runs": arguments.runs,
        "duckdb": version,
    });
    if arguments.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

/// Loads the collector as fast as it answers, then waits for the commits: they are part of the work.
fn measure(
    collector: &Collector,
    load: &mut std::process::Command,
    events_per_beacon: u32,
    connections: u32,
    seconds: u32,
) -> anyhow::Result<Run> {
    let before_s = collector.server.cpu_s()?;
    let said = process::json(
        load.args(["--max", "--events-per-beacon", &events_per_beacon.to_string()])
            .args(["--connections", &connections.to_string(), "--views", &VIEWS.to_string()])
            .args(["--seconds", &seconds.to_string()]),
    )?;
    collector.committed()?;
    let cpu_s = collector.server.cpu_s()? - before_s;
    let events = number(&said, "events_acknowledged")?;
    Ok(Run {
        beacons_per_cpu_s: events / f64::from(events_per_beacon) / cpu_s,
        events_per_cpu_s: events / cpu_s,
        events_per_s: number(&said, "events_per_s")?,
        rss_mb_max: collector.server.rss_mb_max()?,
        latency_ms_p99: number(&said["latency_ms"], "p99")?,
    })
}

/// Freshness under a steady load, and the size of what that leaves in the table.
fn freshness(spillway: &Path, seconds: u32) -> anyhow::Result<(Value, f64)> {
    let collector = Collector::start(spillway)?;
    let seconds = seconds.max(20);
    let mut load = collector.load();
    load.args(["--rate", &FRESHNESS_BEACONS_PER_S.to_string(), "--events-per-beacon", "20"]).args([
        "--connections",
        "8",
        "--views",
        &VIEWS.to_string(),
        "--seconds",
        &seconds.to_string(),
    ]);
    let load = process::Server::start(&mut load)?;
    std::thread::sleep(Duration::from_secs(1));
    let said = process::json(&mut collector.tool(&["load", "freshness", "--json", "--seconds", "15"]))?;
    drop(load);
    collector.committed()?;
    let bytes = collector.bytes_per_event()?;
    collector.server.end()?;
    Ok((json!({ "tail": said["tail_s_p99"], "table": said["table_s_p99"] }), bytes))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

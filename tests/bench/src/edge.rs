//! `edge`: answers a second and core of an own edge, beside nginx and Varnish, out of the cache; how it shares a fetch,
//! and what idle connections cost.
//!
//! All three have the same objects from the same origin, and are asked the same requests, in turns.

mod cell;
mod client;
mod coalesce;
pub(crate) mod idle;
pub(crate) mod origin;
pub(crate) mod servers;

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::process::stay_on_the_clients_core;
use cell::{CELLS, Cell, Effort};
use client::Waiting;
use origin::Origin;
use servers::{Cache, Scene, version};

const COALESCE: &str = "coalesce";
const IDLE: &str = "idle";

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Alternating runs
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Seconds of load in each run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Which parts, by comma [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(names()))]
    cells: Vec<String>,
    /// Connections that miss one object at once, in `coalesce`
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    waiters: u32,
    /// Let the client sleep while no answer is there; over loopback, waking it is the server's cost
    #[arg(long)]
    client_sleeps: bool,
    /// The nginx server
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    /// The Varnish server
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/varnishd")]
    varnish: PathBuf,
    /// One JSON line; the table goes to standard error
    #[arg(long)]
    json: bool,
}

fn names() -> Vec<&'static str> {
    CELLS.iter().map(|cell| cell.name).chain([COALESCE, IDLE]).collect()
}

pub(crate) fn run(spillway: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    stay_on_the_clients_core()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (result, table) = runtime.block_on(measure(spillway, arguments))?;
    if arguments.json {
        eprintln!("{table}");
        println!("{result}");
    } else {
        println!("{table}");
    }
    Ok(())
}

async fn measure(spillway: &Path, arguments: &Arguments) -> anyhow::Result<(Value, String)> {
    let wants = |name: &str| arguments.cells.is_empty() || arguments.cells.iter().any(|cell| cell == name);
    let origin = Origin::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let scene = Scene::new(listener.local_addr()?.port())?;
    origin::serve(origin.clone(), listener);
    let mut table = heading();
    let mut ok = true;

    let cells: Vec<&Cell> = CELLS.iter().filter(|cell| wants(cell.name)).collect();
    let mut rows = Vec::new();
    if !cells.is_empty() {
        let caches = Caches::start(&scene, spillway, arguments, &cells).await?;
        for cell in cells {
            let row = caches.measure(cell, &scene, &origin, arguments).await?;
            table.push_str(&line(cell, &row.json));
            ok &= row.reached;
            rows.push(row.json);
        }
        caches.end()?;
    }
    let mut coalesced = Value::Null;
    if wants(COALESCE) {
        let ours = scene.ours(spillway, false).await?;
        let result = coalesce::measure(&ours, &origin, arguments.runs, arguments.waiters as usize).await?;
        ours.server.end()?;
        table.push_str(&format!(
            "{} waiters for one object: {} fetches, {} had their first byte before the origin sent its last: {}\n",
            result.json["waiters"],
            result.json["origin_fetches"],
            result.json["first_byte_before_the_origins_last"],
            word(result.reached)
        ));
        ok &= result.reached;
        coalesced = result.json;
    }
    let mut idle = Value::Null;
    if wants(IDLE) {
        let ours = scene.ours(spillway, false).await?;
        let result = idle::measure(&ours).await?;
        ours.server.end()?;
        table.push_str(&format!(
            "{} idle connections: {} MB, before them {} MB: {} kB each, aimed at {}: {}\n",
            result.json["count"],
            result.json["rss_mb"],
            result.json["rss_before_mb"],
            result.json["kb_each"],
            result.json["kb_each_max"],
            word(result.reached)
        ));
        ok &= result.reached;
        idle = result.json;
    }
    let result = json!({
        "cells": rows,
        "coalesce": coalesced,
        "idle_connections": idle,
        "peers": [version(&arguments.nginx, "-v")?, version(&arguments.varnish, "-V")?],
        "runs": arguments.runs,
        "seconds": arguments.seconds,
        "client_sleeps": arguments.client_sleeps,
        "ok": ok,
    });
    Ok((result, table))
}

/// Those that run side by side; only one is asked at a time.
struct Caches {
    ours: Cache,
    ours_on_disk: Option<Cache>,
    nginx: Cache,
    varnish: Option<Cache>,
}

impl Caches {
    async fn start(scene: &Scene, spillway: &Path, arguments: &Arguments, cells: &[&Cell]) -> anyhow::Result<Self> {
        let any = |which: fn(&Cell) -> bool| cells.iter().any(|cell| which(cell));
        Ok(Self {
            ours: scene.ours(spillway, any(|cell| cell.tls)).await?,
            ours_on_disk: match any(Cell::is_on_disk) {
                true => Some(scene.ours_on_disk(spillway, any(|cell| cell.tls)).await?),
                false => None,
            },
            nginx: scene.nginx(&arguments.nginx).await?,
            varnish: match any(Cell::has_varnish) {
                true => Some(scene.varnish(&arguments.varnish).await?),
                false => None,
            },
        })
    }

    async fn measure(
        &self,
        cell: &Cell,
        scene: &Scene,
        origin: &Origin,
        arguments: &Arguments,
    ) -> anyhow::Result<cell::Row> {
        let ours = self.ours_on_disk.as_ref().filter(|_| cell.is_on_disk()).unwrap_or(&self.ours);
        let varnish = self.varnish.as_ref().filter(|_| cell.has_varnish());
        let all: Vec<&Cache> = [ours, &self.nginx].into_iter().chain(varnish).collect();
        let waiting = if arguments.client_sleeps { Waiting::Asleep } else { Waiting::Awake };
        let effort = Effort { runs: arguments.runs, seconds: f64::from(arguments.seconds), waiting };
        let row = cell::measure(cell, &all, origin, effort).await?;
        if cell.is_on_disk() {
            let (kept, bytes) = (scene.disk_bytes()?, cell.bytes());
            ensure!(kept >= bytes, "{}: {kept} bytes on the disk, of {bytes}: it came from elsewhere", cell.name);
        }
        Ok(row)
    }

    fn end(self) -> anyhow::Result<()> {
        self.ours.server.end()?;
        self.ours_on_disk.map_or(Ok(()), |ours| ours.server.end())
    }
}

fn heading() -> String {
    let columns = ["ours", "nginx", "varnish", "ratio", "aimed at", "p99 ms: ours", "nginx", "varnish", "ratio"];
    spread("per CPU-second of a server", columns.map(str::to_owned))
}

fn line(cell: &Cell, row: &Value) -> String {
    let shown = |key: &str, digits: usize| row[key].as_f64().map_or("-".into(), |value| format!("{value:.digits$}"));
    let peers = ["ratio_nginx", "ratio_varnish"].into_iter().filter_map(|key| row[key].as_f64());
    let columns = [
        shown("ours_per_cpu_s", 0),
        shown("nginx_per_cpu_s", 0),
        shown("varnish_per_cpu_s", 0),
        format!("{:.2}", peers.fold(f64::INFINITY, f64::min)),
        format!("{} {}", shown("ratio_min", 2), word(row["ratio_reached"] == true)),
        shown("ours_p99_ms", 2),
        shown("nginx_p99_ms", 2),
        shown("varnish_p99_ms", 2),
        format!("{} {}", shown("p99_ratio", 2), word(row["p99_reached"] == true)),
    ];
    spread(cell.name, columns)
}

fn spread(name: &str, [a, b, c, d, e, f, g, h, i]: [String; 9]) -> String {
    format!("{name:<26} {a:>7} {b:>7} {c:>7} {d:>6} {e:>13} {f:>14} {g:>7} {h:>7} {i:>13}\n")
}

fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}

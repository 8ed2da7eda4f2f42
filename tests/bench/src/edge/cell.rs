//! One row of the table: objects of one size, over TLS or not, out of memory or from the disk.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use crate::edge::client::{Ask, Clients, Waiting};
use crate::edge::origin::{OBJECTS, Origin, path};
use crate::edge::servers::Cache;
use crate::process::{median, own_cpu_s};

const CONNECTIONS: usize = 64;
/// Each object is asked for so often before it counts: a cache may keep only what is asked for again.
const WARM_ROUNDS: usize = 3;
const WARM_SECONDS: f64 = 0.5;
/// p99 at full load: no worse than the better peer's.
const P99_RATIO_MAX: f64 = 1.0;

/// A row and its target.
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    object_bytes: usize,
    pub(crate) tls: bool,
    pub(crate) tier: &'static str,
    /// Answers per CPU-second, in multiples of the better peer's.
    ratio_min: f64,
}

impl Cell {
    pub(crate) fn is_on_disk(&self) -> bool {
        self.tier == DISK
    }

    /// Whether Varnish is a peer: it has no TLS, and what it keeps, it keeps in memory.
    pub(crate) fn has_varnish(&self) -> bool {
        !self.tls && !self.is_on_disk()
    }

    fn objects(&self) -> usize {
        OBJECTS.iter().find(|(bytes, _)| *bytes == self.object_bytes).map_or(0, |(_, count)| *count)
    }

    /// Bytes of all its objects.
    pub(crate) fn bytes(&self) -> u64 {
        (self.object_bytes * self.objects()) as u64
    }
}

const MEMORY: &str = "memory";
const DISK: &str = "disk";
const KIB: usize = 1024;

/// All rows.
pub(crate) const CELLS: [Cell; 10] = [
    Cell { name: "1k", object_bytes: KIB, tls: false, tier: MEMORY, ratio_min: 1.4 },
    Cell { name: "64k", object_bytes: 64 * KIB, tls: false, tier: MEMORY, ratio_min: 1.1 },
    Cell { name: "1m", object_bytes: KIB * KIB, tls: false, tier: MEMORY, ratio_min: 1.2 },
    Cell { name: "64k-disk", object_bytes: 64 * KIB, tls: false, tier: DISK, ratio_min: 1.0 },
    Cell { name: "1m-disk", object_bytes: KIB * KIB, tls: false, tier: DISK, ratio_min: 1.0 },
    Cell { name: "1k-tls", object_bytes: KIB, tls: true, tier: MEMORY, ratio_min: 1.3 },
    Cell { name: "64k-tls", object_bytes: 64 * KIB, tls: true, tier: MEMORY, ratio_min: 1.3 },
    Cell { name: "1m-tls", object_bytes: KIB * KIB, tls: true, tier: MEMORY, ratio_min: 1.3 },
    Cell { name: "64k-disk-tls", object_bytes: 64 * KIB, tls: true, tier: DISK, ratio_min: 1.0 },
    Cell { name: "1m-disk-tls", object_bytes: KIB * KIB, tls: true, tier: DISK, ratio_min: 1.0 },
];

/// Runs of one server.
#[derive(Default)]
struct Runs {
    per_s: Vec<f64>,
    per_cpu_s: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// Shares of their cores that server and client used.
    server_busy: Vec<f64>,
    client_busy: Vec<f64>,
}

/// What a row came to.
pub(crate) struct Row {
    pub(crate) json: Value,
    pub(crate) reached: bool,
}

/// How it is measured.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) runs: u32,
    pub(crate) seconds: f64,
    pub(crate) waiting: Waiting,
}

/// Measures `caches`, ours first, in alternating order.
pub(crate) async fn measure(cell: &Cell, caches: &[&Cache], origin: &Origin, effort: Effort) -> anyhow::Result<Row> {
    let asks: Rc<[Ask]> = (0..cell.objects())
        .map(|number| Ask::new(&path(cell.object_bytes, number), origin.body(cell.object_bytes, number)))
        .collect();
    for cache in caches {
        warm(cell, cache, &asks).await.with_context(|| format!("{} of {}", cell.name, cache.name))?;
    }
    let mut all: Vec<Runs> = caches.iter().map(|_| Runs::default()).collect();
    for run in 0..effort.runs as usize {
        for turn in 0..caches.len() {
            // Who begins changes from run to run.
            let at = (run + turn) % caches.len();
            let fetched = origin.answered();
            let named = || format!("{} of {}", cell.name, caches[at].name);
            one(cell, caches[at], &asks, effort, &mut all[at]).await.with_context(named)?;
            let fetched = origin.answered() - fetched;
            ensure!(fetched == 0, "{}: the origin was asked {fetched} times for what is cached", named());
        }
        let shown = caches
            .iter()
            .zip(&all)
            .map(|(cache, runs)| format!("{} {:.0}", cache.name, runs.per_cpu_s.last().copied().unwrap_or(f64::NAN)));
        eprintln!("{} run {}: {} per CPU-second", cell.name, run + 1, shown.collect::<Vec<_>>().join(", "));
    }
    Ok(row(cell, &caches.iter().map(|cache| cache.name).collect::<Vec<_>>(), all))
}

/// Every object, whole, some times over one connection; then some load that doesn't count.
async fn warm(cell: &Cell, cache: &Cache, asks: &Rc<[Ask]>) -> anyhow::Result<()> {
    for _ in 0..WARM_ROUNDS {
        Clients::connect(&cache.target(cell.tls)?, 1).await?.walk(asks).await?;
    }
    Clients::connect(&cache.target(cell.tls)?, CONNECTIONS).await?.run(asks, WARM_SECONDS, Waiting::Asleep).await?;
    Ok(())
}

async fn one(cell: &Cell, cache: &Cache, asks: &Rc<[Ask]>, effort: Effort, runs: &mut Runs) -> anyhow::Result<()> {
    let clients = Clients::connect(&cache.target(cell.tls)?, CONNECTIONS).await?;
    let (before_s, own_before_s) = (cache.server.cpu_s()?, own_cpu_s()?);
    let answers = clients.run(asks, effort.seconds, effort.waiting).await?;
    let (cpu_s, own_cpu_s) = (cache.server.cpu_s()? - before_s, own_cpu_s()? - own_before_s);
    ensure!(cpu_s > 0.1, "only {cpu_s} s of the server's CPU: too short a run to say anything");
    runs.per_s.push(answers.count as f64 / answers.seconds);
    runs.per_cpu_s.push(answers.count as f64 / cpu_s);
    runs.p50_ms.push(answers.latency_ms(0.5));
    runs.p99_ms.push(answers.latency_ms(0.99));
    runs.server_busy.push(cpu_s / answers.seconds);
    runs.client_busy.push(own_cpu_s / answers.seconds);
    Ok(())
}

fn row(cell: &Cell, names: &[&'static str], all: Vec<Runs>) -> Row {
    let mut out = Map::new();
    out.insert("object_bytes".into(), json!(cell.object_bytes));
    out.insert("tls".into(), json!(cell.tls));
    out.insert("tier".into(), json!(cell.tier));
    let mut per_cpu_s = BTreeMap::new();
    let mut p99_ms = BTreeMap::new();
    for (name, key) in [("ours", "ours"), ("nginx", "nginx"), ("varnish", "varnish")] {
        let at = names.iter().position(|known| known.split('-').next() == Some(name));
        let Some(runs) = at.and_then(|at| all.get(at)) else {
            out.insert(format!("{key}_per_s"), Value::Null);
            continue;
        };
        let of = |values: &[f64]| median(values.to_vec());
        out.insert(format!("{key}_per_s"), json!(of(&runs.per_s).round()));
        out.insert(format!("{key}_per_cpu_s"), json!(of(&runs.per_cpu_s).round()));
        out.insert(format!("{key}_p50_ms"), json!(round(of(&runs.p50_ms))));
        out.insert(format!("{key}_p99_ms"), json!(round(of(&runs.p99_ms))));
        out.insert(format!("{key}_server_busy"), json!(round(of(&runs.server_busy))));
        out.insert(format!("{key}_client_busy"), json!(round(of(&runs.client_busy))));
        per_cpu_s.insert(name, of(&runs.per_cpu_s));
        p99_ms.insert(name, of(&runs.p99_ms));
    }
    let ratio = |peer: &str| Some(per_cpu_s.get("ours")? / per_cpu_s.get(peer)?);
    let (nginx, varnish) = (ratio("nginx"), ratio("varnish"));
    let better = [nginx, varnish].into_iter().flatten().fold(f64::INFINITY, f64::min);
    let best_p99_ms =
        ["nginx", "varnish"].iter().filter_map(|peer| p99_ms.get(peer)).copied().fold(f64::INFINITY, f64::min);
    let p99_ratio = p99_ms.get("ours").map_or(f64::NAN, |ours| ours / best_p99_ms);
    let (fast, calm) = (better >= cell.ratio_min, p99_ratio <= P99_RATIO_MAX);
    for (key, value) in [
        ("ratio_nginx", json!(nginx.map(round))),
        ("ratio_varnish", json!(varnish.map(round))),
        ("p99_ratio", json!(round(p99_ratio))),
        ("ratio_min", json!(cell.ratio_min)),
        ("ratio_reached", json!(fast)),
        ("p99_reached", json!(calm)),
    ] {
        out.insert(key.into(), value);
    }
    Row { json: Value::Object(out), reached: fast && calm }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

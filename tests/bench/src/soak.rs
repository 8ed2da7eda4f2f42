//! `soak`: a real edge with small tiers, a working set ten times as large, an origin that fails in every way, viewers of
//! every kind, a purge now and then, and in the middle a SIGKILL. With a disk tier, or without one, where large bodies lie
//! in files of memory.
//!
//! No byte may be wrong, no cut may look like an end, memory and disk keep to their sizes, nothing panics, and in the end
//! every object can be read.

mod client;
mod objects;
mod origin;
mod random;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use crate::edge::servers::{Cache, Scene, Sizes};
use crate::http_load::Target;
use crate::process::stay_on_the_clients_core;
use client::{Outcome, Viewer, walk};
use objects::Objects;
use origin::Origin;
use random::Random;

/// The edge's tiers, and what is asked for beside them.
const SIZES: Sizes = Sizes { memory_mb: 64, disk_mb: Some(256), max_object_mb: 8, fill_mb: 32 };
const WORKING_SET: u64 = 10;
/// What an edge takes under load beside its kept and arriving objects and what it takes before: connections with their TLS
/// and HTTP/2 buffers, the index of the disk tier, and what the allocator holds back.
const BESIDE_MB: f64 = 28.0;
/// How much more than configured is still within.
const TOLERANCE: f64 = 1.1;
/// What lies in the disk tier's folder beside its files: the one that is being written, and the log of purges.
const DISK_BESIDE_MB: f64 = 17.0;
/// Connections of each sort: plain, TLS, and both with HTTP/2.
const VIEWERS: usize = 8;
const SAMPLED_EVERY: Duration = Duration::from_secs(1);
/// Who can't connect tries again after this.
const TRIED_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Of the answers so many must be whole, or the rest says nothing.
const RIGHT_SHARE_MIN: f64 = 0.5;
/// Failures that are told in full.
const TOLD: usize = 10;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Minutes of load
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// What chance begins with
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// SIGKILLs, evenly spread
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    kills: u32,
    /// Without a disk tier: large bodies lie in files of memory, or in plain memory where TLS reads them
    #[arg(long)]
    no_disk: bool,
    /// One JSON line on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(spillway: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(
        arguments.minutes > 0.0 && arguments.minutes <= 1_440.0,
        "--minutes {} is not valid (valid: above 0, up to 1440)",
        arguments.minutes
    );
    stay_on_the_clients_core()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let soaked = LocalSet::new().block_on(&runtime, soak(spillway, arguments))?;
    if arguments.json {
        println!("{soaked}");
    } else {
        println!("{soaked:#}");
    }
    ensure!(soaked["ok"] == true, "the edge did not hold");
    Ok(())
}

/// What the viewers saw.
#[derive(Default)]
struct Seen {
    outcomes: BTreeMap<Outcome, u64>,
    /// Connections that could not be made, or ended.
    lost_connections: u64,
    told: usize,
}

impl Seen {
    fn count(&self, of: impl Fn(Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|(outcome, _)| of(**outcome)).map(|(_, count)| count).sum()
    }
}

/// The most that was seen of the edge.
#[derive(Default)]
struct Most {
    /// With its files of memory.
    rss_mb: f64,
    disk_mb: f64,
}

async fn soak(spillway: &Path, arguments: &Arguments) -> anyhow::Result<Value> {
    let mut random = Random::new(arguments.seed);
    let sizes = Sizes { disk_mb: SIZES.disk_mb.filter(|_| !arguments.no_disk), ..SIZES };
    let tiers_mb = sizes.memory_mb + sizes.disk_mb.unwrap_or(0);
    let bytes = usize::try_from(WORKING_SET * tiers_mb * 1024 * 1024)?;
    let objects = Arc::new(Objects::new(bytes, &mut random));
    eprintln!("{} objects of {} MB together, seed {}", objects.count(), objects.bytes() / 1_000_000, arguments.seed);
    let origin = Origin::new(Arc::clone(&objects), random.fork());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let scene = Scene::new(listener.local_addr()?.port())?;
    origin::serve(Arc::clone(&origin), listener);

    let mut edge = scene.soaked(spillway, sizes, None).await?;
    let base_mb = edge.server.rss_mb()?;
    let (seen, viewers) = (Rc::<RefCell<Seen>>::default(), LocalSet::new());
    for number in 0..4 * VIEWERS {
        let target = edge.target(number % 2 == 1)?;
        let (objects, seen, random) = (Arc::clone(&objects), Rc::clone(&seen), random.fork());
        viewers.spawn_local(watch(target, number % 4 >= 2, objects, seen, random));
    }
    let mut most = Most::default();
    let between = Duration::from_secs_f64(arguments.minutes * 60.0 / f64::from(arguments.kills + 1));
    viewers.run_until(sampled(&mut edge, &scene, &seen, between, &mut most)).await?;
    for _ in 0..arguments.kills {
        let ports = edge.ports();
        eprintln!("SIGKILL");
        edge.server.end_hard()?;
        edge = viewers.run_until(scene.soaked(spillway, sizes, Some(ports))).await?;
        viewers.run_until(sampled(&mut edge, &scene, &seen, between, &mut most)).await?;
    }
    drop(viewers);
    origin.calm_down().await?;
    let readable = try_join_all((0..VIEWERS).map(|from| walked(&edge, &objects, from))).await;
    let readable = readable.map(|_| true).unwrap_or_else(|error| {
        eprintln!("in the end: {error:#}");
        false
    });
    edge.server.end()?;
    let panics = scene.said()?.matches("panicked").count();
    if panics > 0 {
        eprintln!("{}", scene.said()?);
    }
    let seen = seen.borrow();
    Ok(result(arguments, &seen, &most, base_mb, &origin, panics, readable))
}

async fn walked(edge: &Cache, objects: &Objects, from: usize) -> anyhow::Result<()> {
    walk(&edge.target(from % 2 == 1)?, objects, from, VIEWERS).await
}

fn result(
    arguments: &Arguments,
    seen: &Seen,
    most: &Most,
    idle_mb: f64,
    origin: &Origin,
    panics: usize,
    readable: bool,
) -> Value {
    let round = |mb: f64| (mb * 10.0).round() / 10.0;
    let mb = |mib: u64| mib as f64 * 1.048_576;
    // Before any load it is the program itself, of which the edge is one role of many.
    let rss_mb_bound = idle_mb + mb(SIZES.memory_mb + SIZES.fill_mb) + BESIDE_MB;
    let disk_mb_bound = if arguments.no_disk { 0.0 } else { mb(SIZES.disk_mb.unwrap_or(0)) + DISK_BESIDE_MB };
    let (failures, all) = (seen.count(Outcome::is_failure), seen.count(|_| true));
    let right = seen.count(|outcome| matches!(outcome, Outcome::Right | Outcome::Left | Outcome::Bodiless));
    let ok = failures == 0
        && panics == 0
        && readable
        && right as f64 >= all as f64 * RIGHT_SHARE_MIN
        && most.rss_mb <= rss_mb_bound * TOLERANCE
        && most.disk_mb <= disk_mb_bound;
    let outcomes: BTreeMap<&str, u64> = seen.outcomes.iter().map(|(outcome, count)| (outcome.name(), *count)).collect();
    json!({
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "requests": all,
        "bodies_checked": seen.count(|outcome| matches!(outcome, Outcome::Right | Outcome::Left)),
        "wrong_bytes": seen.count(|outcome| outcome == Outcome::Wrong),
        "cut_bodies_that_looked_whole": seen.count(|outcome| outcome == Outcome::LooksWhole),
        "outcomes": outcomes,
        "lost_connections": seen.lost_connections,
        "rss_mb_max": round(most.rss_mb),
        "rss_mb_bound": round(rss_mb_bound),
        "rss_mb_idle": round(idle_mb),
        "disk_mb_max": round(most.disk_mb),
        "disk_mb_bound": round(disk_mb_bound),
        "origin_faults": origin.counts(),
        "kills": arguments.kills,
        "disk": !arguments.no_disk,
        "panics": panics,
        "all_readable": readable,
        "ok": ok,
    })
}

/// Looks at the edge, and tells now and then, for so long.
async fn sampled(
    edge: &mut Cache,
    scene: &Scene,
    seen: &RefCell<Seen>,
    time: Duration,
    most: &mut Most,
) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    for second in 1_u32.. {
        sleep(SAMPLED_EVERY.min(until - Instant::now())).await;
        ensure!(!edge.server.has_ended()?, "the edge ended by itself; it said:\n{}", scene.said()?);
        let rss_mb = edge.server.rss_mb()? + edge.server.memory_files_mb()?;
        let disk_mb = scene.disk_bytes()? as f64 / 1e6;
        most.rss_mb = most.rss_mb.max(rss_mb);
        most.disk_mb = most.disk_mb.max(disk_mb);
        if second % 15 == 0 {
            let seen = seen.borrow();
            let failures = seen.count(Outcome::is_failure);
            eprintln!("{} answers, {failures} failures; {rss_mb:.0} MB, on disk {disk_mb:.0} MB", seen.count(|_| true));
        }
        if Instant::now() >= until {
            return Ok(());
        }
    }
    Ok(())
}

/// Asks for ever, over one connection after the other.
async fn watch(target: Target, h2: bool, objects: Arc<Objects>, seen: Rc<RefCell<Seen>>, mut random: Random) {
    let mut open = None;
    loop {
        let viewer = match open.take().filter(Viewer::is_open) {
            Some(viewer) => Ok(viewer),
            None => Viewer::connect(&target, h2).await.context("connect"),
        };
        let asked = match viewer {
            Ok(mut viewer) => viewer.ask(&objects, &mut random).await.map(|answered| (viewer, answered)),
            Err(error) => Err(error),
        };
        match asked {
            Ok((viewer, (outcome, note))) => {
                open = Some(viewer);
                let mut seen = seen.borrow_mut();
                *seen.outcomes.entry(outcome).or_default() += 1;
                if outcome.is_failure() && seen.told < TOLD {
                    seen.told += 1;
                    eprintln!("{}: {note}", outcome.name());
                }
            }
            Err(_) => {
                seen.borrow_mut().lost_connections += 1;
                sleep(TRIED_AGAIN_AFTER).await;
            }
        }
    }
}

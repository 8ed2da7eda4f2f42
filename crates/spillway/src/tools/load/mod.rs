//! `spillway load`: `beacons` is load for a collector, bounded, as many players would send it; [`events`] writes the same
//! events to a file, [`freshness`] asks when they are seen.
//!
//! [`template`] writes bodies, [`worker`] sends them over one [`client`] connection each until they are acknowledged,
//! [`ledger`] notes what was, [`tally`] counts.

mod client;
pub mod events;
pub mod freshness;
mod ledger;
mod tally;
mod template;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use spillway_model::Clock as _;
use spillway_service::{CancellationToken, SystemClock, shutdown_on_signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cli::LoadBeacons;

use client::{Target, Trust};
use ledger::Ledger;
use tally::{Summary, Tally};
use template::Template;
use worker::{Pace, Shared, Worker};

/// Beacons that are under way at the end may still be acknowledged.
const GRACE: Duration = Duration::from_secs(5);

/// Sends beacons until time or count is reached, or a signal comes; prints what came of it.
///
/// # Errors
/// Bad arguments, a collector that refuses beacons for good, and a run without a single acknowledgement.
pub async fn beacons(arguments: &LoadBeacons) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let (tally, summary) = send(arguments, &shutdown).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!("{}", summary.text());
    }
    if let Some(why) = tally.refused {
        bail!(why);
    }
    if tally.beacons_acknowledged == 0 {
        bail!("no beacon was acknowledged; last error: {}", tally.unanswered.as_deref().unwrap_or("none"));
    }
    Ok(())
}

async fn send(arguments: &LoadBeacons, shutdown: &CancellationToken) -> anyhow::Result<(Tally, Summary)> {
    let (shared, workers) = prepare(arguments).await?;
    let begun = Instant::now();
    let tally = work(&shared, workers, begun + Duration::from_secs(arguments.seconds), shutdown).await?;
    let seconds = begun.elapsed().as_secs_f64();
    if let Some(ledger) = &shared.ledger {
        ledger.flush()?;
    }
    let summary = tally.summary(seconds, arguments.events_per_beacon)?;
    Ok((tally, summary))
}

async fn prepare(arguments: &LoadBeacons) -> anyhow::Result<(Arc<Shared>, Vec<Worker>)> {
    let connections = arguments.connections;
    if arguments.views < connections {
        bail!(
            "--views {} is below --connections {connections}: each connection needs a view of its own",
            arguments.views
        );
    }
    let trust = Trust { authorities: arguments.tls_ca.as_deref(), insecure: arguments.insecure };
    let mut targets = Vec::new();
    for url in std::iter::once(&arguments.url).chain(&arguments.failover) {
        targets.push(Target::resolve(url, &arguments.key, trust, arguments.allow_remote).await?);
    }
    let clock = SystemClock::new();
    let seed = arguments.seed.unwrap_or_else(|| clock.now().0);
    let interval = (!arguments.max).then(|| Duration::from_secs_f64(1.0 / f64::from(arguments.rate)));
    let shared = Arc::new(Shared {
        template: Template::new(seed, arguments.events_per_beacon, arguments.pathways.clone()),
        targets,
        pace: Pace::new(Instant::now(), interval, arguments.count.unwrap_or(u64::MAX)),
        gzip: arguments.gzip,
        ledger: arguments.ledger.as_deref().map(Ledger::open).transpose()?,
        clock: Arc::new(clock),
        seed,
        stop: CancellationToken::new(),
        abandon: CancellationToken::new(),
    });
    let step = usize::try_from(connections)?;
    let workers = (0..connections).zip(0..).map(|(first, number)| {
        let views = (first..arguments.views).step_by(step).collect();
        Worker::new(Arc::clone(&shared), number, views)
    });
    let workers = workers.collect();
    Ok((shared, workers))
}

async fn work(
    shared: &Shared,
    workers: Vec<Worker>,
    until: Instant,
    shutdown: &CancellationToken,
) -> anyhow::Result<Tally> {
    let mut tasks: JoinSet<_> = workers.into_iter().map(Worker::run).collect();
    let mut tally = Tally::default();
    let bound = async {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = shutdown.cancelled() => {}
            () = shared.stop.cancelled() => {}
        }
        shared.stop.cancel();
        tokio::time::sleep(GRACE).await;
        shared.abandon.cancel();
        // The connections end now, and with them the whole.
        std::future::pending::<()>().await;
    };
    tokio::pin!(bound);
    while !tasks.is_empty() {
        tokio::select! {
            Some(ended) = tasks.join_next() => tally.add(ended??)?,
            () = &mut bound => {}
        }
    }
    Ok(tally)
}

//! Own edge: an HTTP cache for media that tells its load.
//!
//! The path of a request: `serve` (connections, requests, who may) → `cache` (kept, being fetched, or for this request
//! alone; one fetch for all who wait; `origin` knows the servers and asks them, `rules` say what is kept, for how long and
//! for whom) → `respond` (whole, parts, not modified) → `serve` again, and `access` (a line for the lake).
//! Beside it `video` reads the playlists that are served and fetches ahead, `load` counts and reports, and takes an
//! orchestrator's orders, `operate` obeys operators. `agent` reports for a server that isn't ours.
//!
//! Invariant: a request never waits for an orchestrator or a collector. An answer that was cut never looks complete, and is never
//! kept. Memory is bounded by configuration: kept objects, objects in flight, sessions, connections.

/// Those of some keys of a configuration whose values differ.
macro_rules! differing {
    ($a:expr, $b:expr, $($key:ident),*) => {{
        let differs = |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| format!("{a:?}") != format!("{b:?}");
        let keys = [$((stringify!($key), differs(&$a.$key, &$b.$key))),*];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }};
}

mod access;
pub mod agent;
mod cache;
mod config;
mod edge;
mod load;
mod operate;
mod origin;
mod plan;
mod respond;
mod rules;
mod serve;
mod video;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use spillway_model::Clock;
use spillway_service::config::ConfigError;
use spillway_service::{CancellationToken, Readiness};

pub use config::EdgeConfig;
pub use operate::faults::Fault;
pub use operate::reload::Reload;
pub use origin::{ClusterConfig, OriginConfig};
pub use serve::doors::Doors;
pub use serve::signing::SigningConfig;
pub use video::prefetch::Prefetch;

use edge::Edge;
use load::report;
use operate::faults::Faults;
use operate::handover::{Handover, Kind};
use operate::{admin, reload};
use origin::EdgeToken;
use plan::Plan;
use serve::{answer, server};

/// The lines of the last answers, after the drain.
const LAST_LINES: Duration = Duration::from_secs(1);

/// An edge with a large disk tier is ready after so long, whatever it has not found by then.
const DISK_WAIT: Duration = Duration::from_secs(10);

/// What the process around an edge, or around an agent with its own configuration, gives it.
#[derive(Clone)]
pub struct EdgeShell<C = EdgeConfig> {
    /// Secret between roles: bearer of load reports, and key to `/.spillway/metrics`.
    pub service_token: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Set while requests should come.
    pub readiness: Readiness,
    /// The process's metrics, if it has a recorder.
    pub metrics: Option<PrometheusHandle>,
    /// Ends the edge.
    pub shutdown: CancellationToken,
    /// How the configuration is read anew, if it is.
    pub reload: Option<Reload<C>>,
    /// What an edge breaks on purpose from the start; with `None` nothing can be.
    pub faults: Option<Vec<Fault>>,
}

/// Runs an edge behind `doors` until the shell's `shutdown`, then drains: one last load report says so, no new session
/// is taken, and open answers may end for at most [`spillway_service::DRAIN`].
///
/// # Errors
/// [`ConfigError`] before anything is served: a value that is not valid, or `admin_listen` taken.
pub async fn run(config: EdgeConfig, shell: EdgeShell, doors: impl Into<Doors>) -> Result<(), ConfigError> {
    let mut doors = doors.into();
    let ending = shell.shutdown.child_token();
    let plan = Plan { edge_token: EdgeToken::new(&shell.service_token), ..config.plan()? };
    if let (None, Some(address)) = (&doors.admin, config.admin_listen) {
        doors.admin = Some(spillway_service::bind("edge.admin_listen", address).await?);
    }
    // A copy keeps a port open: none without need.
    let copies = config.handover.as_ref().map(|_| doors.copies());
    let (admin, predecessor) = (doors.admin.take(), doors.predecessor.take());
    let own = answer::OwnPaths {
        enabled: admin.is_none(),
        metrics: shell.metrics.clone(),
        service_token: shell.service_token.clone(),
    };
    let (access, lines) = access::AccessLog::start(&plan, &shell.service_token, shell.clock.clone())?;
    let faults = shell.faults.map(Faults::new).transpose()?;
    let edge = Arc::new(Edge::new(plan, shell.clock, shell.readiness.clone(), access, faults)?);
    let admin = admin.map(|listener| {
        let health = spillway_service::health_router(shell.readiness.clone(), shell.metrics);
        let router = health.merge(admin::router(edge.clone(), shell.service_token.clone()));
        tokio::spawn(spillway_service::serve(listener, router, ending.clone()))
    });
    let (reporting, token, until) = (edge.clone(), shell.service_token, ending.clone());
    let reports = tokio::spawn(async move {
        let reported = report::EdgeReported::new(reporting.clone()).await;
        report::run(reported, &reporting.plan.orchestrators, &token, until).await;
    });
    let probes = tokio::spawn({
        let (edge, shutdown) = (edge.clone(), ending.clone());
        async move { edge.origins.probe(shutdown).await }
    });
    if let Some(disk) = &edge.disk {
        // Who comes before it has been looked through is served by the origin, which should not be all at once.
        let _ = tokio::time::timeout(DISK_WAIT, disk.looked_through()).await;
    }
    shell.readiness.set(true);
    tracing::info!(pathway = %edge.plan.pathway, address = doors.plain.local_addr().ok().map(tracing::field::display), "edge serves");
    if let Some(predecessor) = predecessor {
        predecessor.relieve();
    }
    if let (Some(path), Some(copies)) = (&config.handover, copies) {
        let (handover, copies) = (Handover::listen(path)?, copies.map_err(|error| no_copies(path, &error))?);
        tokio::spawn(hand_over(edge.clone(), handover, copies, ending.clone()));
    }
    if let Some(reload) = shell.reload {
        tokio::spawn(reload::follow(edge.clone(), config, reload, ending.clone()));
    }
    let server = Arc::new(answer::Server { edge, own });
    server::serve(server, doors, ending).await;
    let _ = tokio::join!(reports, probes);
    lines.finish(LAST_LINES).await;
    if let Some(admin) = admin {
        let _ = admin.await;
    }
    Ok(())
}

/// Ends this edge when a successor serves.
async fn hand_over(edge: Arc<Edge>, handover: Handover, copies: Vec<(Kind, OwnedFd)>, ending: CancellationToken) {
    let asked = |asked| {
        if let Some(disk) = &edge.disk {
            disk.pause(asked);
        }
    };
    tokio::select! {
        () = handover.succeeded(copies, asked) => {
            tracing::info!("the successor serves");
            edge.retire();
            ending.cancel();
        }
        () = ending.cancelled() => {}
    }
}

fn no_copies(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::invalid("edge.handover", path.display(), format!("sockets that can be copied; {error}"))
}

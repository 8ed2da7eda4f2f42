//! An agent beside nginx, Varnish or Apache Traffic Server: it tells an orchestrator their load as an own edge tells its
//! own.
//!
//! The path of a figure: `follow` (a log file as it grows) or `child` (varnishncsa) → `lines` → `line` (what one request
//! was) → `watched` (bits, viewers, results, counted as the edge counts its own); every 2 s `statistics` (what the server
//! says of itself) and `processes` (what the system says of it), and `measure` makes one measurement of all, which
//! `crate::load::report` sends. What comes back goes to `orders` (files that the server may look at) and `admin`.
//!
//! Invariant: nothing is told that isn't known. No statistics, no log, or a log that says nothing of what the server
//! answers (`unlogged`), no report: after three missed ones the
//! orchestrator takes the node for gone, and if its probes fail too, for dead. A statistics page that broke beside a
//! server that serves moves nobody.

mod admin;
mod child;
mod config;
mod flow;
mod follow;
mod line;
mod lines;
mod measure;
mod orders;
mod page;
mod processes;
mod statistics;
mod unlogged;
mod watched;

use std::sync::Arc;

use spillway_service::CancellationToken;
use spillway_service::config::ConfigError;
use tokio::net::TcpListener;

use crate::EdgeShell;
use crate::load::report;
use crate::operate::reload::{Reload, each};

pub use config::{AgentConfig, ServerKind};

/// How the agent calls itself towards the server; such requests are nobody's.
const USER_AGENT: &str = "spillway-edge-agent";

/// Runs an agent until the shell's `shutdown`; its last report says that the node goes. `admin` is the port of
/// `config.admin_listen`, where there is one. Of what the shell's `reload` reads, the ceiling is taken.
///
/// # Errors
/// [`ConfigError`] before anything is done.
pub async fn run(
    config: AgentConfig,
    shell: EdgeShell<AgentConfig>,
    admin: Option<TcpListener>,
) -> Result<(), ConfigError> {
    let plan = config.plan()?;
    let orchestrators = plan.orchestrators.clone();
    let watched = Arc::new(watched::Watched::new(&plan, shell.clock.clone()));
    let mut beside = Vec::new();
    if let Some(listener) = admin {
        let health = spillway_service::health_router(shell.readiness.clone(), shell.metrics);
        let router = health.merge(admin::router(watched.clone(), shell.service_token.clone()));
        beside.push(tokio::spawn(spillway_service::serve(listener, router, shell.shutdown.clone())));
    }
    beside.push(match plan.log.clone() {
        Some(path) => tokio::spawn(follow::run(path, watched.clone(), shell.shutdown.clone())),
        None => tokio::spawn(child::run(plan.instance.clone(), watched.clone(), shell.shutdown.clone())),
    });
    if let Some(reload) = shell.reload {
        beside.push(tokio::spawn(follow_file(config, watched.clone(), reload, shell.shutdown.clone())));
    }
    if let Some(dir) = plan.orders_dir.clone() {
        beside.push(tokio::spawn(orders::run(dir, watched.clone(), shell.shutdown.clone())));
    }
    tracing::info!(pathway = %plan.identity.pathway, server = plan.server.as_str(), "edge agent watches");
    let subject = measure::Subject::new(plan, watched, shell.readiness).await;
    report::run(subject, &orchestrators, &shell.service_token, shell.shutdown).await;
    for task in beside {
        let _ = task.await;
    }
    Ok(())
}

/// Takes what may change of each configuration that is read. The command line says still beside what the agent stands.
async fn follow_file(
    running: AgentConfig,
    watched: Arc<watched::Watched>,
    reload: Reload<AgentConfig>,
    shutdown: CancellationToken,
) {
    let take = |config: AgentConfig| {
        let plan = config.beside(running.server).and_then(|config| Ok((config.plan()?, config)));
        let (plan, config) = plan.map_err(|error| error.to_string())?;
        watched.carries(plan.ceiling_bps);
        Ok(config.fixed_keys_that_differ(&running))
    };
    each("spillway_edge_agent_reloads_total", reload, take, shutdown).await;
}

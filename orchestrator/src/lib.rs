//! The orchestrator: every two seconds it decides where views go, and publishes that.
//!
//! The path of a decision, file by file: [`observe`] (frames, probes, load reports since the last round) → `core` (the
//! pure crate below `core/`: estimate, detect, fill, plan) → [`round`] (the loop) → [`publish`] (epoch, signature,
//! store). Steering nodes (`steering/`) serve players from the manifest alone. Beside it: [`api`] (manifests, overview, load
//! reports), [`admin`] (overrides, freezes and events, titles to prewarm, drills; each change goes into the lake), [`probe`]
//! (synthetic fetches), [`decisions`] (what was decided goes into the lake), [`record`] (so does what it was decided by),
//! [`mirror`] (manifests as files elsewhere), [`keys`] (who signs), [`manifests_api`] (what is asked about manifests),
//! [`learn`] (what the lake teaches comes back), [`follow`] (players that don't follow), [`directives`] (what own edges should do), [`capacity`] (what CDNs publish
//! of themselves), [`canary`] (a policy on
//! trial and its judgement), [`reload`] (another configuration between two rounds). [`replay`] decides recorded rounds again under another policy.
//!
//! Invariant: a request never triggers a round.

mod admin;
mod api;
mod calm;
mod canary;
mod capacity;
mod classes;
mod commits;
mod config;
mod coverage;
mod decisions;
mod directives;
mod drill;
mod follow;
mod keys;
mod learn;
mod ledger;
mod manifests_api;
mod mirror;
mod observe;
mod orders;
mod origins;
mod overrides;
mod prewarm;
mod probe;
mod publish;
mod record;
mod reload;
pub mod replay;
mod rollback;
mod round;
mod setup;
mod shell;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use spillway_bus::{Bus as _, LocalBus, Store};
use spillway_model::{Clock, Millis};
use spillway_orchestrator_core::Engine;
use spillway_service::auth::TokenConfig;
use spillway_service::{CancellationToken, Deploys, Readiness};
use spillway_wire::frame::FRAME_TOPIC;
use spillway_wire::overview::Overview;
use spillway_wire::probe::PROBE_TOPIC;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub use canary::{CanaryConfig, changed};
pub use config::{OrchestratorConfig, ProbeConfig};
pub use drill::{Drill, Report, Verdict};
pub use learn::Lake;
pub use publish::{PublishError, Publisher};
pub use record::ShapeError;
pub use reload::{Configured, KeyChange, Reread, Rereader, follow_file};
pub use setup::setup;

/// An operator's change is in the lake after so long.
const AUDIT_EVERY: Duration = Duration::from_secs(2);

/// Everything that the shell hands to the orchestrator.
pub struct Parts {
    /// What is in force until a reload.
    pub configured: Configured,
    /// Tells all who read the deployment of another one; it begins with that of `configured`.
    pub deploys: Deploys,
    /// Reads the configuration again.
    pub reread: Rereader,
    /// Counts requests to do so (SIGHUP).
    pub hangups: watch::Receiver<u64>,
    /// Admin tokens.
    pub tokens: Vec<TokenConfig>,
    /// Secret shared between roles.
    pub service_token: String,
    /// File of the manifest signing key; made if missing.
    pub key_file: PathBuf,
    /// Content class by path prefix, as `steer.class_of` has it.
    pub class_of: BTreeMap<String, String>,
    /// Where the lake is and how to read its newest rows.
    pub lake: Lake,
    /// Manifests, overrides.
    pub store: Arc<dyn Store>,
    /// Frames and probes in, overviews out.
    pub bus: LocalBus,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The bound listener.
    pub listener: TcpListener,
    /// Says ready once every region has a manifest.
    pub readiness: Readiness,
    /// `/metrics`, if this process has it.
    pub metrics: Option<PrometheusHandle>,
    /// Ends it.
    pub shutdown: CancellationToken,
}

/// Runs the orchestrator until shutdown.
///
/// # Errors
/// If it can't start: a bad deployment, an unreadable key, an unreachable store.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let Configured { deployment, parameters, config, recorded } = parts.configured.clone();
    let valid = Millis::from_secs(config.manifest_valid_s);
    let mut publisher = Publisher::open(Arc::clone(&parts.store), &parts.key_file, valid).await?;
    if let Some(next) = &config.next_key_file {
        let lead = Millis::from_secs(config.key_lead_s);
        publisher.follow_with(next, lead, parts.clock.now()).await?;
    }
    let mirrors = mirror::targets(&config)?;
    let mut setup = setup(&deployment, parameters, &config)?;
    let trial = canary::Trial::open(&parts.store, config.canary.as_ref(), &mut setup).await?;
    let engine = Engine::new(setup);
    let (overview, seen) = watch::channel(Overview::default());
    let deployed = parts.deploys.deployed();
    let drills = Arc::new(drill::Drills::new(
        deployed.clone(),
        (config.drill_hosts.clone(), parts.service_token.clone()),
        Arc::clone(&parts.clock),
        seen.clone(),
        parts.lake.root.clone(),
    ));
    let ears = observe::Ears::new(
        parts.bus.subscribe(FRAME_TOPIC),
        parts.bus.subscribe(PROBE_TOPIC),
        config.frame_sources,
        classes::ClassViews::new(spillway_service::classes::ClassTable::new(&parts.class_of)?, &deployment),
    );
    let (changes, audit) = ledger::start(parts.lake.root.clone(), format!("{}-audit", config.id), AUDIT_EVERY);
    let decisions = decisions::Decisions::start(parts.lake.root.clone(), &config.id);
    let recorder = config.record_rounds.then(|| record::Recorder::start(parts.lake.root.clone(), &config.id, recorded));
    let learner =
        learn::Learner::start(parts.lake, deployed.clone(), Arc::clone(&parts.store), Arc::clone(&parts.clock));
    let feeds = capacity::Feeds::start(&deployment, &parts.clock);
    let (reloads, asks) = reload::Reloads::new(parts.reread);
    let shell = Arc::new(shell::Shell {
        deployed: deployed.clone(),
        store: parts.store,
        bus: parts.bus.clone(),
        clock: Arc::clone(&parts.clock),
        tokens: parts.tokens,
        service_token: parts.service_token,
        readiness: parts.readiness,
        metrics: parts.metrics,
        overview: seen,
        loads: observe::Loads::default(),
        directives: watch::Sender::default(),
        drills: Arc::clone(&drills),
        id: config.id.clone(),
        changes,
        reloads,
        wake: Notify::new(),
        shutdown: parts.shutdown.clone(),
    });
    let aides = round::Aides { decisions, learner, trial, feeds, recorder };
    let configuration = round::Configuration { configured: parts.configured, deploys: parts.deploys, asks };
    let mut rounds = round::Rounds::new(Arc::clone(&shell), engine, ears, publisher, aides, configuration, overview);
    rounds.adopt(config.publish_dir.as_deref()).await?;
    let (store, publications) = (Arc::clone(&shell.store), rounds.publications());
    let mirrored = mirror::run(mirrors, store, deployed.clone(), publications, parts.shutdown.clone());
    let every = Duration::from_millis(config.round_ms.max(100));
    let bus: Arc<dyn spillway_bus::Bus> = Arc::new(parts.bus);
    tokio::join!(
        rounds.run(every),
        mirrored,
        reload::at_hangups(Arc::clone(&shell), parts.hangups),
        probe::run(config.probe, deployed, Arc::clone(&bus), parts.clock, parts.shutdown.clone()),
        drills.listen(bus.as_ref(), parts.shutdown.clone()),
        spillway_service::serve(parts.listener, api::router(shell), parts.shutdown),
    );
    audit.close().await;
    Ok(())
}

#[cfg(test)]
#[path = "../../steering/src/tests/world.rs"]
mod fixtures;
#[cfg(test)]
mod tests;

//! The configuration again, while the orchestrator runs: by `POST /v1/reload` and SIGHUP.
//!
//! The path of a reload: [`Reloads`] (one at a time; the file is read and checked beside the rounds) → `apply` (between two
//! rounds: refused, tried on a copy, or put in force for every part of the process) → `told` (what is answered). What can
//! change so is what [`Configured`] holds; of all else the file's reader says that it needs a restart.
//!
//! A file that is refused changes nothing.

mod apply;
mod told;

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;
use spillway_bus::StoreError;
use spillway_orchestrator_core::Parameters;
use spillway_service::auth::{Caller, Role};
use spillway_service::config::ConfigError;
use spillway_service::deployment::Deployment;
use spillway_service::{CancellationToken, Deploys};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::config::OrchestratorConfig;
use crate::shell::Shell;
pub(crate) use told::Told;

/// What of the configuration may change while the orchestrator runs.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Regions, pathways, prices, prefixes.
    pub deployment: Arc<Deployment>,
    /// Every number that decides.
    pub parameters: Parameters,
    /// `[orchestrator]`: its ceilings, budget, order of classes and canary; the others are as they were at the start.
    pub config: OrchestratorConfig,
    /// The sections that decide (TOML), for the recording of rounds; without secrets.
    pub recorded: String,
}

/// A key of the file that differs from what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    /// Which: `pathway[cdn-a].price_usd_per_gb`.
    pub key: String,
    /// What is in force; nothing: it is new.
    pub from: Option<String>,
    /// What the file says; nothing: it is gone.
    pub to: Option<String>,
}

/// The file, read again and checked whole.
pub struct Reread {
    /// What would be in force.
    pub configured: Configured,
    /// What of it differs.
    pub changed: Vec<KeyChange>,
    /// Keys that differ and can't change in a running process; of these `configured` has what is in force. Without their
    /// values, which may be secrets.
    pub needs_restart: Vec<String>,
    /// To be called once it is in force: the next file is compared with this one.
    pub taken: Box<dyn FnOnce() + Send + Sync>,
}

/// Reads the file again.
pub type Rereader = Arc<dyn Fn() -> Result<Reread, ConfigError> + Send + Sync>;

/// Why a reload changes nothing: for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The file is not valid.
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    /// Something that would be gone is in use.
    #[error("{0}")]
    InUse(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process ends.
    #[error("the orchestrator ends")]
    Ending,
}

impl ReloadError {
    /// Stable name, for answers and counters.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "bad_configuration",
            Self::InUse(_) => "in_use",
            Self::Store(_) => "store",
            Self::Ending => "ending",
        }
    }
}

/// A file for the rounds.
pub(crate) struct Ask {
    reread: Reread,
    /// Changes nothing.
    dry_run: bool,
    answer: oneshot::Sender<Result<Told, ReloadError>>,
}

/// The way to a reload.
pub(crate) struct Reloads {
    reread: Rereader,
    rounds: mpsc::Sender<Ask>,
    /// One at a time, from reading the file until it is in force: two files at once would be compared with the same one.
    turn: Semaphore,
}

impl Reloads {
    /// With where the rounds take it from.
    pub(crate) fn new(reread: Rereader) -> (Self, mpsc::Receiver<Ask>) {
        let (rounds, asks) = mpsc::channel(1);
        (Self { reread, rounds, turn: Semaphore::new(1) }, asks)
    }

    /// Reads the file and puts it in force between two rounds; only tries it with `dry_run`. Counts what became of it.
    ///
    /// # Errors
    /// [`ReloadError`]; then what was in force stays.
    async fn reload(&self, dry_run: bool) -> Result<Told, ReloadError> {
        let told = self.hand_over(dry_run).await;
        let outcome = told.as_ref().map_or_else(ReloadError::name, |told| told.outcome);
        metrics::counter!("spillway_reloads_total", "outcome" => outcome).increment(1);
        told
    }

    async fn hand_over(&self, dry_run: bool) -> Result<Told, ReloadError> {
        let _turn = self.turn.acquire().await.map_err(|_| ReloadError::Ending)?;
        let reread = Arc::clone(&self.reread);
        // Reads the file, and whatever files it names.
        let read = tokio::task::spawn_blocking(move || reread()).await;
        let reread = read.map_err(|_| ReloadError::Ending)??;
        let (answer, told) = oneshot::channel();
        self.rounds.send(Ask { reread, dry_run, answer }).await.map_err(|_| ReloadError::Ending)?;
        told.await.map_err(|_| ReloadError::Ending)?
    }
}

/// Reloads at each SIGHUP until shutdown: `hangups` counts them.
pub(crate) async fn at_hangups(shell: Arc<Shell>, mut hangups: watch::Receiver<u64>) {
    let caller = Caller { name: "SIGHUP".into(), role: Role::Admin };
    loop {
        tokio::select! {
            changed = hangups.changed() => if changed.is_err() { return shell.shutdown.cancelled().await },
            () = shell.shutdown.cancelled() => return,
        }
        // What went wrong is logged, as by the API.
        drop(reload(&shell, caller.clone(), false).await);
    }
}

/// Reloads at each SIGHUP, for a process without an orchestrator: its other roles take the new deployment at once.
pub async fn follow_file(
    reread: Rereader,
    deploys: Deploys,
    mut hangups: watch::Receiver<u64>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = hangups.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
        let reread = Arc::clone(&reread);
        let outcome = match tokio::task::spawn_blocking(move || reread()).await {
            Ok(Ok(read)) => {
                warn_of(&read.needs_restart);
                let outcome = if read.changed.is_empty() { told::UNCHANGED } else { told::APPLIED };
                deploys.put(read.configured.deployment);
                (read.taken)();
                tracing::info!(outcome, changed = read.changed.len(), "configuration read again");
                outcome
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "configuration not reloaded; the old one goes on");
                ReloadError::from(error).name()
            }
            Err(_) => return,
        };
        metrics::counter!("spillway_reloads_total", "outcome" => outcome).increment(1);
    }
}

fn warn_of(needs_restart: &[String]) {
    for key in needs_restart {
        tracing::warn!(key, "changed in the file; needs a restart");
    }
}

/// Reloads and writes down what came of it, also if who asked does not wait for the answer.
///
/// # Errors
/// [`ReloadError`].
pub(crate) async fn reload(shell: &Arc<Shell>, caller: Caller, dry_run: bool) -> Result<Told, ReloadError> {
    let shell = Arc::clone(shell);
    let reloading = tokio::spawn(async move {
        let told = shell.reloads.reload(dry_run).await;
        match &told {
            Ok(told) => tell(&shell, &caller, told),
            Err(error) => {
                let by = caller.name;
                tracing::error!(by, %error, reason = error.name(), "configuration not reloaded; the old one goes on");
            }
        }
        told
    });
    reloading.await.map_err(|_| ReloadError::Ending)?
}

fn tell(shell: &Shell, caller: &Caller, told: &Told) {
    warn_of(&told.needs_restart);
    tracing::info!(outcome = told.outcome, changed = told.changed.len(), "configuration read again");
    if told.outcome == told::APPLIED {
        let detail = json!({"changed": told.changed, "removed": told.removed, "added": told.added});
        crate::admin::audit(shell, caller, "config.reload", "configuration", "", &detail);
    }
}

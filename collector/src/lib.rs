//! The collector: the path of a beacon.
//!
//! `receive` reads the body, `admit` checks the events and gives them their time, `batch` takes out duplicates and has
//! the rest written to the WAL, after which the sender gets its 202, `write` brings the WAL's rows into the table, and
//! `rollup` counts what became durable into one frame a second. `account` keeps the books: received = accepted +
//! discarded.
//!
//! Invariant: the collector knows no plan and no pathway's health; nothing is acknowledged before it is durable; an
//! address is in memory only and never at rest.

mod account;
mod admit;
mod batch;
mod clean;
mod cmcd;
mod config;
mod dedupe;
mod internal;
mod limit;
mod quarantine;
mod receive;
mod refusal;
mod rollup;
mod service_rows;
mod write;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use spillway_bus::Bus;
use spillway_lake::schema::TableName;
use spillway_lake::{EventLog, EventLogOptions, LakeError, Tail};
use spillway_model::Clock;
use spillway_service::auth::token_hash;
use spillway_service::config::ConfigError;
use spillway_service::device::Devices;
use spillway_service::tls::Listener;
use spillway_service::{CancellationToken, Deployed, Readiness};
use spillway_wire::frame::FRAME_TOPIC;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub use account::Counts;
pub use config::CollectorConfig;
pub use service_rows::complete;

use account::Account;
use dedupe::{Dedupe, view_key};
use limit::Limits;
use rollup::{Rollups, Settings};

/// Rows this old are asked from the table at the start, for the memory of duplicates; older repetitions are rare and
/// removed by the reading view.
const RECENT_MS: u64 = 10 * 60 * 1000;
/// Views in the memory of duplicates for each view followed.
const DEDUPE_VIEWS_FACTOR: usize = 2;
/// Open requests at the end.
const DRAIN_REQUESTS: Duration = Duration::from_secs(3);
/// The WAL's last group.
const DRAIN_WAL: Duration = Duration::from_secs(2);
/// The last commit; what it does not reach is replayed at the next start.
const DRAIN_COMMIT: Duration = Duration::from_secs(3);

/// What surrounds a collector.
#[derive(Clone)]
pub struct Shell {
    /// Root of the lake (`file://…`).
    pub lake_root: Url,
    /// Directory of this collector's WAL.
    pub wal_dir: PathBuf,
    /// Properties, pathways, prefixes.
    pub deployed: Deployed,
    /// Where frames go.
    pub bus: Arc<dyn Bus>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Secret of `/internal/*`.
    pub service_token: String,
    /// Set once beacons may come, and unset for the drain.
    pub readiness: Readiness,
    /// Serves `/metrics`, if there.
    pub metrics: Option<PrometheusHandle>,
    /// Ends the collector.
    pub shutdown: CancellationToken,
}

/// Why a collector can't run.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// A configuration value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// WAL or table.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// What the handlers share.
pub(crate) struct App {
    config: CollectorConfig,
    deployed: Deployed,
    clock: Arc<dyn Clock>,
    service_token_hash: String,
    log: Arc<EventLog>,
    account: Account,
    dedupe: Arc<Dedupe>,
    limits: Limits,
    rollups: Rollups,
    devices: Devices,
    quarantine: quarantine::Budget,
}

/// A collector with its WAL and table open.
pub struct Collector {
    app: Arc<App>,
    shell: Shell,
}

/// Opens and serves a collector until the shell's shutdown.
///
/// # Errors
/// [`CollectorError`] before the first beacon is taken; nothing afterwards.
pub async fn run(config: CollectorConfig, shell: Shell, listener: TcpListener) -> Result<(), CollectorError> {
    Collector::open(config, shell).await?.serve(listener, None).await;
    Ok(())
}

impl Collector {
    /// Checks the configuration, opens WAL and table, and remembers what is in them.
    ///
    /// # Errors
    /// [`CollectorError`]: a bad value, a damaged WAL, an empty one and a table that can't be opened.
    pub async fn open(config: CollectorConfig, shell: Shell) -> Result<Self, CollectorError> {
        config.check()?;
        let options = EventLogOptions {
            durability: config.durability,
            group_commit_ms: config.group_commit_ms,
            queue_max_bytes: config.queue_max_bytes,
            tail_max_bytes: config.tail_max_bytes,
            commit_max_bytes: config.commit_max_bytes,
            segment_max_bytes: config.segment_max_bytes,
            skip_corrupt: config.skip_corrupt,
            ..EventLogOptions::new(&config.id)
        };
        let dedupe = Arc::new(Dedupe::new(config.views_max.saturating_mul(DEDUPE_VIEWS_FACTOR)));
        let started_ms = shell.clock.monotonic().0;
        let memory = Arc::clone(&dedupe);
        let on_rows = move |rows: &RecordBatch| remember(&memory, rows, started_ms);
        let (log, recovered) =
            EventLog::open(&shell.lake_root, &shell.wal_dir, options, Arc::clone(&shell.clock), on_rows).await?;
        let since_ms = shell.clock.now().0.saturating_sub(RECENT_MS);
        match &recovered.table_error {
            None => {
                for rows in spillway_lake::recent_keys(&shell.lake_root, since_ms).await? {
                    remember(&dedupe, &rows, started_ms);
                }
            }
            // Repetitions of what is only in the table are stored again; the reading view removes them.
            Some(error) => {
                metrics::gauge!("spillway_lake_commit_failing").set(1.0);
                tracing::error!(%error, "the tables are out of reach; beacons are taken and wait in the wal");
            }
        }
        let account = Account::default();
        account.recovered(recovered.replayed_rows);
        tracing::info!(
            id = config.id,
            replayed_rows = recovered.replayed_rows,
            committed_seq = recovered.committed_seq,
            torn_tails = recovered.wal.torn_tails,
            "collector opened"
        );
        let settings = Settings {
            source: config.id.clone(),
            heartbeat_ms: u64::from(config.heartbeat_s) * 1000,
            cap_share: config.weight_cap_prefix_share,
            cap_min_views: config.weight_cap_min_views,
            views_max: config.views_max,
        };
        let app = App {
            limits: Limits::new(&config),
            devices: Devices::default(),
            quarantine: quarantine::Budget::new(config.quarantine_bytes_per_s),
            rollups: Rollups::new(settings, shell.deployed.clone(), shell.clock.now().0),
            config,
            deployed: shell.deployed.clone(),
            clock: Arc::clone(&shell.clock),
            service_token_hash: token_hash(&shell.service_token),
            log: Arc::new(log),
            account,
            dedupe,
        };
        Ok(Self { app: Arc::new(app), shell })
    }

    /// The rows that are not yet in the table, for queries in this process.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.app.log.tail()
    }

    /// Serves everything on `listener`, and what players send also on `public`, until the shell's shutdown; then stops
    /// the intake, writes what is queued and commits, within 8 s.
    pub async fn serve(self, listener: TcpListener, public: Option<Listener>) {
        let Self { app, shell } = self;
        let router = router(Arc::clone(&app), &shell);
        let _public = public.map(|listener| {
            let router = intake(&app.config).with_state(Arc::clone(&app));
            AbortOnDropHandle::new(tokio::spawn(spillway_service::serve(listener, router, shell.shutdown.clone())))
        });
        let interval = Duration::from_secs(app.config.commit_interval_s);
        let commits = AbortOnDropHandle::new(tokio::spawn(write::commit_loop(
            Arc::clone(&app.log),
            interval,
            shell.shutdown.clone(),
        )));
        let frames = AbortOnDropHandle::new(tokio::spawn(frame_loop(
            Arc::clone(&app),
            Arc::clone(&shell.bus),
            shell.shutdown.clone(),
        )));
        let requests =
            AbortOnDropHandle::new(tokio::spawn(spillway_service::serve(listener, router, shell.shutdown.clone())));
        shell.readiness.set(true);
        shell.shutdown.cancelled().await;
        shell.readiness.set(false);
        let _ = tokio::time::timeout(DRAIN_REQUESTS, requests).await;
        let _ = tokio::time::timeout(DRAIN_WAL, app.log.close()).await;
        let last = async {
            let _ = commits.await;
            write::commit_all(&app.log).await
        };
        let committed = tokio::time::timeout(DRAIN_COMMIT, last).await.unwrap_or(false);
        drop(frames);
        tracing::info!(committed, "collector stopped");
    }

    /// Where it would listen by its configuration.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.app.config.listen
    }
}

/// What players send.
fn intake(config: &CollectorConfig) -> Router<Arc<App>> {
    Router::new()
        .route(&config.path, post(receive::beacon).options(receive::preflight))
        .route(&config.cmcd_path, post(cmcd::events).options(receive::preflight))
}

fn router(app: Arc<App>, shell: &Shell) -> Router {
    intake(&app.config)
        .route("/v1/deliveries", post(service_rows::deliveries))
        .route("/v1/steers", post(service_rows::steers))
        .route("/internal/counters", get(internal::counters))
        .route("/internal/tail", get(internal::tail))
        .with_state(app)
        .merge(spillway_service::health_router(shell.readiness.clone(), shell.metrics.clone()))
}

/// What waits, for `/metrics`.
fn tell(app: &App) {
    let tail = app.log.tail();
    let (stats, now_ms) = (tail.stats(), app.clock.now().0);
    let lag_ms = tail.waiting_since_ms().map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
    metrics::gauge!("spillway_lake_commit_lag_seconds").set(lag_ms as f64 / 1e3);
    metrics::gauge!("spillway_lake_pending_rows").set(stats.pending_rows as f64);
    metrics::gauge!("spillway_lake_pending_bytes").set(stats.pending_bytes as f64);
    metrics::gauge!("spillway_wal_queue_bytes").set(app.log.queue_bytes() as f64);
}

/// A frame each second, and every minute the memories are swept.
async fn frame_loop(app: Arc<App>, bus: Arc<dyn Bus>, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    ticks.tick().await;
    for count in 1_u64.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        tell(&app);
        let frame = app.rollups.frame(app.clock.now().0, app.clock.monotonic().0);
        match serde_json::to_vec(&frame) {
            Ok(bytes) => bus.publish(FRAME_TOPIC, Bytes::from(bytes)).await,
            Err(error) => tracing::error!(%error, "a frame could not be written"),
        }
        if count.is_multiple_of(60) {
            app.dedupe.sweep(app.clock.monotonic().0);
            app.limits.sweep();
        }
    }
}

/// Remembers stored rows by their columns: events, or batches of deliveries and steering answers. Quarantined events
/// have no sequence, and may come again.
fn remember(dedupe: &Dedupe, rows: &RecordBatch, now_ms: u64) {
    let text = |name: &str| rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let int = |name: &str| rows.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
    let seq_of = |seq: &Int64Array, row: usize| u64::try_from(seq.value(row)).unwrap_or(0);
    if let (Some(property), Some(view), Some(source), Some(seq)) =
        (text("property"), text("view_id"), text("source"), int("seq"))
    {
        for row in 0..rows.num_rows() {
            let key = view_key(property.value(row), view.value(row), source.value(row));
            dedupe.remember(key, seq_of(seq, row), now_ms);
        }
    }
    for (table, sender) in [(TableName::Deliveries, text("source")), (TableName::Steers, text("node"))] {
        let (Some(sender), Some(seq)) = (sender, int("batch_seq")) else { continue };
        let mut last = None;
        for row in 0..rows.num_rows() {
            let batch = (sender.value(row), seq_of(seq, row));
            if last.replace(batch) != Some(batch) {
                dedupe.remember(service_rows::batch_key(table, batch.0), batch.1, now_ms);
            }
        }
    }
}

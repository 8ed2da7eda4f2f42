//! What the orchestrator's parts share.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use spillway_bus::{LocalBus, Store};
use spillway_lake::records::Change;
use spillway_model::Clock;
use spillway_service::auth::TokenConfig;
use spillway_service::{CancellationToken, Deployed, Readiness};
use spillway_wire::overview::Overview;
use tokio::sync::{Notify, watch};

use crate::directives;
use crate::drill::Drills;
use crate::ledger::Ledger;
use crate::observe::Loads;
use crate::reload::Reloads;

/// Shared by the round, the API and the drills.
pub(crate) struct Shell {
    /// In force: ask for each request.
    pub(crate) deployed: Deployed,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: LocalBus,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tokens: Vec<TokenConfig>,
    pub(crate) service_token: String,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) overview: watch::Receiver<Overview>,
    pub(crate) loads: Loads,
    /// What own edges should do, by the last round.
    pub(crate) directives: watch::Sender<directives::ByPathway>,
    pub(crate) drills: Arc<Drills>,
    /// Name of this process.
    pub(crate) id: String,
    /// Changes by operators, for the lake.
    pub(crate) changes: Ledger<Change>,
    /// Reads the configuration again.
    pub(crate) reloads: Reloads,
    /// Begins the next round early: an operator's order should not wait.
    pub(crate) wake: Notify,
    pub(crate) shutdown: CancellationToken,
}

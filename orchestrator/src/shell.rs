//! What the orchestrator's parts share.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use spillway_bus::{LocalBus, Store};
use spillway_lake::records::Change;
use spillway_model::{Clock, PathwayId};
use spillway_service::auth::TokenConfig;
use spillway_service::{CancellationToken, Deployed, Readiness};
use spillway_wire::load::Directives;
use spillway_wire::overview::Overview;
use tokio::sync::{Notify, watch};

use crate::drill::Drills;
use crate::ledger::Ledger;
use crate::observe::Loads;
use crate::reload::Reloads;

/// Above this share of its ceiling an own edge takes no new session, ppm.
const ADMIT_BELOW_PPM: u32 = 980_000;

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

impl Shell {
    /// What an edge should do, by the last round.
    pub(crate) fn directives(&self, pathway: &PathwayId) -> Directives {
        let overview = self.overview.borrow();
        let here = |view: &spillway_wire::overview::RegionView| {
            view.pathways.get(pathway.as_str()).map(|view| view.state.clone())
        };
        let states: Vec<String> = overview.regions.values().filter_map(here).collect();
        let utilisation = overview.pathways.get(pathway.as_str()).and_then(|totals| totals.utilisation_ppm);
        Directives {
            epoch: overview.regions.values().map(|region| region.epoch).max().unwrap_or(0),
            admit: utilisation.is_none_or(|used| used < ADMIT_BELOW_PPM),
            drain: !states.is_empty() && states.iter().all(|state| state == "DRAINING"),
            ..Directives::default()
        }
    }
}

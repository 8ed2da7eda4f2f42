//! Back to the weights of an earlier manifest: an operator's order like others, with a reason and an end.
//!
//! It stands as fixed weights of every pathway of the region, so that the engine knows where views are and goes on from
//! there when it ends. A pathway that is DOWN by then gets nothing; what it had is shared among the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use spillway_bus::Store;
use spillway_model::{PathwayId, TimestampMs};
use spillway_orchestrator_core as core;
use spillway_routing::{Manifest, Target};
use spillway_service::deployment::Deployment;
use spillway_service::random;
use spillway_wire::overview::Note;

use crate::orders::{self, Order, OrderError, invalid};
use crate::round::weights_by_pathway;

/// What an operator asks for (`POST /v1/admin/manifests/{region}/rollback`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Epoch whose weights are wanted.
    pub epoch: u64,
    /// Why.
    pub reason: String,
    /// Ends by itself after so many seconds, at most 72 h.
    pub expires_s: u64,
}

/// The same as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRollback {
    /// Its id.
    pub id: String,
    /// Who ordered it.
    pub by: String,
    /// Region.
    pub region: String,
    /// Epoch whose weights these are.
    pub epoch: u64,
    /// Share of new views by pathway, ppm.
    pub weights_ppm: BTreeMap<String, u32>,
    /// Why.
    pub reason: String,
    /// Since when, ms since epoch.
    pub since_ms: u64,
    /// Until when, ms since epoch.
    pub expires_ms: u64,
}

impl Order for StoredRollback {
    const PREFIX: &'static str = "rollbacks/";
    const WORD: &'static str = "rollback";
    const ADDED: &'static str = "rollback.add";
    const ENDED: &'static str = "rollback.end";

    fn id(&self) -> &str {
        &self.id
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

/// Keeps the order to go back to the weights of `to`; an earlier rollback of the region ends with that.
///
/// # Errors
/// [`OrderError`]; also if `to` names a pathway that the region no longer has.
pub(crate) async fn add(
    store: &Arc<dyn Store>,
    deployment: &Deployment,
    by: &str,
    now: TimestampMs,
    request: RollbackRequest,
    to: &Manifest,
) -> Result<StoredRollback, OrderError> {
    orders::check(&request.reason, request.expires_s)?;
    let weights = weights_by_pathway(to);
    if let Some((id, _)) = weights.iter().find(|(id, _)| !deployment.serves(id, &to.region)) {
        let valid = format!("an epoch of which every pathway still serves {}; {id} does not", to.region);
        return Err(invalid("epoch", request.epoch, valid));
    }
    let stored = StoredRollback {
        id: format!("r-{}", random::id(8)),
        by: by.to_owned(),
        region: to.region.to_string(),
        epoch: request.epoch,
        weights_ppm: weights.into_iter().map(|(id, ppm)| (id.to_string(), ppm)).collect(),
        reason: request.reason,
        since_ms: now.0,
        expires_ms: now.0 + request.expires_s * 1000,
    };
    to_core(&stored, deployment)?;
    let earlier = orders::in_force::<StoredRollback>(store, now).await?;
    orders::keep(store, &stored).await?;
    for (id, _) in earlier.iter().filter(|(_, earlier)| earlier.region == stored.region) {
        orders::remove::<StoredRollback>(store, id).await?;
    }
    Ok(stored)
}

/// As the decision core takes it: the weight of every pathway of the region.
///
/// # Errors
/// [`OrderError::Invalid`] for a region that is no longer declared.
pub(crate) fn to_core(stored: &StoredRollback, deployment: &Deployment) -> Result<Vec<core::Override>, OrderError> {
    let Some(region) = orders::region(Some(&stored.region), deployment)? else { return Ok(vec![]) };
    let one = |id: &PathwayId| core::Override {
        id: stored.id.clone(),
        kind: core::OverrideKind::Weight(f64::from(stored.weights_ppm.get(id.as_str()).copied().unwrap_or(0)) / 1e6),
        target: Target::Pathway(id.clone()),
        region: Some(region.clone()),
        by: stored.by.clone(),
        reason: format!("back to epoch {}: {}", stored.epoch, stored.reason),
        since: TimestampMs(stored.since_ms),
        expires: TimestampMs(stored.expires_ms),
    };
    Ok(deployment.pathways.keys().filter(|id| deployment.serves(id, &region)).map(one).collect())
}

/// As pages show it.
pub(crate) fn note(stored: &StoredRollback) -> Note {
    Note {
        kind: "rollback".into(),
        region: stored.region.clone(),
        text: format!("weights of epoch {}: {} ({})", stored.epoch, stored.reason, stored.by),
        until_ms: Some(stored.expires_ms),
    }
}

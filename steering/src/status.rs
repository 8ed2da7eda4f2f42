//! `GET /internal/steer`: what this node steers by.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use spillway_model::TimestampMs;

use crate::manifests::RegionStatus;
use crate::{SteerState, reply};

#[derive(Serialize)]
struct Status {
    id: String,
    ttl_stretch_milli: u64,
    regions: BTreeMap<String, Region>,
}

#[derive(Serialize)]
struct Region {
    epoch: u64,
    /// `manifest`, `expired` or `static`.
    plan: &'static str,
    /// The source of the manifest: `store`, `copy` (the node's own disk) or as configured; absent without a manifest.
    from: Option<String>,
    /// Since it was made; absent without a manifest.
    age_ms: Option<u64>,
    /// Since it was accepted here; absent without a manifest.
    accepted_ms_ago: Option<u64>,
    /// Until its time is over; absent without a manifest.
    valid_for_ms: Option<u64>,
    refused: BTreeMap<&'static str, u64>,
    last_refusal: Option<String>,
    /// Pathways that playlists leave out, since this node has no key of their signer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_key: Vec<String>,
}

/// `GET /internal/steer`.
pub(crate) async fn status(State(state): State<Arc<SteerState>>) -> Response {
    let now = state.clock.now();
    let regions = state.manifests.status(now);
    reply::json(&Status {
        id: state.settings.id.clone(),
        ttl_stretch_milli: state.counters.stretch_milli(),
        regions: regions.into_iter().map(|(id, status)| (id.to_string(), region(status, now))).collect(),
    })
}

fn region(status: RegionStatus, now: TimestampMs) -> Region {
    let manifest = &status.current.manifest;
    let held = status.accepted.is_some();
    Region {
        epoch: manifest.epoch,
        plan: status.current.source.as_str(),
        age_ms: held.then(|| now.since(manifest.issued).0),
        from: status.from,
        accepted_ms_ago: status.accepted.map(|accepted| now.since(accepted).0),
        valid_for_ms: held.then(|| manifest.valid_until.since(now).0),
        refused: status.refusals.by_reason,
        last_refusal: status.refusals.last,
        without_key: manifest.keyless().iter().map(ToString::to_string).collect(),
    }
}

//! Overrides: what an operator orders; always with a reason and an end. Kept in the store, so that they outlive a
//! restart and reach every orchestrator.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spillway_bus::{Store, StoreError};
use spillway_model::limits::OVERRIDE_MAX_MS;
use spillway_model::{BitsPerSecond, GroupId, PathwayId, RegionId, TimestampMs};
use spillway_orchestrator_core as core;
use spillway_routing::Target;
use spillway_service::deployment::Deployment;
use spillway_service::random;

const PREFIX: &str = "overrides/";

/// What an operator asks for (`POST /v1/admin/overrides`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// `drain`, `exclude`, `pin`, `weight` or `cap`.
    pub kind: String,
    /// Pathway or group.
    pub target: String,
    /// Region; absent = all.
    #[serde(default)]
    pub region: Option<String>,
    /// `weight`: 0 to 1. `cap`: Mbit/s.
    #[serde(default)]
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
    /// Ends by itself after so many seconds, at most 72 h.
    pub expires_s: u64,
}

/// An override as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredOverride {
    /// Its id.
    pub id: String,
    /// Who ordered it.
    pub by: String,
    /// Since when, ms since epoch.
    pub since_ms: u64,
    /// Until when, ms since epoch.
    pub expires_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Described,
}

/// The lasting part of an [`OverrideRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Described {
    /// Kind.
    pub kind: String,
    /// Pathway or group.
    pub target: String,
    /// Region.
    pub region: Option<String>,
    /// Number, if the kind has one.
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
}

/// Why an override is refused: for people.
#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// A value that is not valid.
    #[error("{field} {value:?} is not valid (valid: {valid})")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn invalid(field: &'static str, value: impl ToString, valid: impl Into<String>) -> OverrideError {
    OverrideError::Invalid { field, value: value.to_string(), valid: valid.into() }
}

/// Checks a request against the deployment and keeps it.
///
/// # Errors
/// [`OverrideError`] names field, value and what is valid.
pub async fn add(
    store: &Arc<dyn Store>,
    deployment: &Deployment,
    by: &str,
    now: TimestampMs,
    request: OverrideRequest,
) -> Result<StoredOverride, OverrideError> {
    let max_s = OVERRIDE_MAX_MS / 1000;
    if request.expires_s == 0 || request.expires_s > max_s {
        return Err(invalid("expires_s", request.expires_s, format!("1 to {max_s}")));
    }
    if request.reason.trim().is_empty() || request.reason.len() > 500 {
        return Err(invalid("reason", &request.reason, "1 to 500 characters"));
    }
    let stored = StoredOverride {
        id: format!("o-{}", random::id(8)),
        by: by.to_owned(),
        since_ms: now.0,
        expires_ms: now.0 + request.expires_s * 1000,
        what: Described {
            kind: request.kind,
            target: request.target,
            region: request.region,
            value: request.value,
            reason: request.reason,
        },
    };
    to_core(&stored, deployment)?;
    let value = serde_json::to_vec(&stored).expect("plain fields");
    store.compare_and_set(&format!("{PREFIX}{}", stored.id), 0, Bytes::from(value)).await?;
    Ok(stored)
}

/// Ends an override early; false if there is none of that id.
///
/// # Errors
/// The store's.
pub async fn remove(store: &Arc<dyn Store>, id: &str) -> Result<bool, StoreError> {
    let key = format!("{PREFIX}{id}");
    if store.get(&key).await?.is_none() {
        return Ok(false);
    }
    store.remove(&key).await?;
    Ok(true)
}

/// Every override that is in force at `now`; ended ones are removed.
///
/// # Errors
/// The store's.
pub async fn in_force(
    store: &Arc<dyn Store>,
    now: TimestampMs,
) -> Result<BTreeMap<String, StoredOverride>, StoreError> {
    let mut out = BTreeMap::new();
    for key in store.list(PREFIX).await? {
        let Some(found) = store.get(&key).await? else { continue };
        match serde_json::from_slice::<StoredOverride>(&found.value) {
            Ok(stored) if stored.expires_ms > now.0 => {
                out.insert(stored.id.clone(), stored);
            }
            Ok(_) => store.remove(&key).await?,
            Err(error) => tracing::warn!(key, %error, "an override does not read and is left out"),
        }
    }
    Ok(out)
}

/// As the decision core takes it.
///
/// # Errors
/// [`OverrideError::Invalid`] for an unknown kind, target or region, or a value out of range.
pub fn to_core(stored: &StoredOverride, deployment: &Deployment) -> Result<core::Override, OverrideError> {
    let what = &stored.what;
    let number = |valid: &'static str, holds: fn(f64) -> bool| match what.value {
        Some(value) if value.is_finite() && holds(value) => Ok(value),
        Some(value) => Err(invalid("value", value, valid)),
        None => Err(invalid("value", "none", valid)),
    };
    let kind = match what.kind.as_str() {
        "drain" => core::OverrideKind::Drain,
        "exclude" => core::OverrideKind::Exclude,
        "pin" => core::OverrideKind::Pin,
        "weight" => core::OverrideKind::Weight(number("0 to 1", |value| (0.0..=1.0).contains(&value))?),
        "cap" => {
            let mbps = number("Mbit/s, 0 or more", |value| value >= 0.0)?;
            core::OverrideKind::Cap(BitsPerSecond((mbps * 1e6) as u64))
        }
        other => return Err(invalid("kind", other, "drain, exclude, pin, weight, cap")),
    };
    let names = || {
        let pathways = deployment.pathways.keys().map(PathwayId::as_str);
        pathways.chain(deployment.groups.keys().map(GroupId::as_str)).collect::<Vec<_>>().join(", ")
    };
    let target = if let Some((id, _)) = deployment.pathways.get_key_value(what.target.as_str()) {
        Target::Pathway(id.clone())
    } else if let Some((id, _)) = deployment.groups.get_key_value(what.target.as_str()) {
        Target::Group(id.clone())
    } else {
        return Err(invalid("target", &what.target, names()));
    };
    let region = match &what.region {
        None => None,
        Some(name) => match deployment.regions.get_key_value(name.as_str()) {
            Some((id, _)) => Some(id.clone()),
            None => {
                let names: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
                return Err(invalid("region", name, names.join(", ")));
            }
        },
    };
    Ok(core::Override {
        id: stored.id.clone(),
        kind,
        target,
        region,
        by: stored.by.clone(),
        reason: what.reason.clone(),
        since: TimestampMs(stored.since_ms),
        expires: TimestampMs(stored.expires_ms),
    })
}

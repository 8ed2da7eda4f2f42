//! Overrides: weight, cap, exclude, drain, pin; always with a reason and an end.

use serde::{Deserialize, Serialize};
use spillway_model::{BitsPerSecond, GroupId, PathwayId, TimestampMs};
use spillway_orchestrator_core as core;
use spillway_routing::Target;
use spillway_service::deployment::Deployment;
use spillway_service::random;
use spillway_wire::overview::Note;

use crate::orders::{self, Order, OrderError, Requested, invalid};

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

impl Order for StoredOverride {
    const PREFIX: &'static str = "overrides/";
    const WORD: &'static str = "override";
    const ADDED: &'static str = "override.add";
    const ENDED: &'static str = "override.end";

    fn id(&self) -> &str {
        &self.id
    }

    fn reason(&self) -> &str {
        &self.what.reason
    }

    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

impl Requested for StoredOverride {
    type Request = OverrideRequest;

    fn of(request: OverrideRequest, by: &str, now: TimestampMs, deployment: &Deployment) -> Result<Self, OrderError> {
        orders::check(&request.reason, request.expires_s)?;
        let stored = Self {
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
        Ok(stored)
    }
}

/// As the decision core takes it.
///
/// # Errors
/// [`OrderError::Invalid`] for an unknown kind, target or region, or a value out of range.
pub fn to_core(stored: &StoredOverride, deployment: &Deployment) -> Result<core::Override, OrderError> {
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
    Ok(core::Override {
        id: stored.id.clone(),
        kind,
        target,
        region: orders::region(what.region.as_deref(), deployment)?,
        by: stored.by.clone(),
        reason: what.reason.clone(),
        since: TimestampMs(stored.since_ms),
        expires: TimestampMs(stored.expires_ms),
    })
}

/// As pages show it.
pub(crate) fn note(stored: &StoredOverride) -> Note {
    let Described { kind, target, region, value, reason } = &stored.what;
    let value = value.map(|value| format!(" {value}")).unwrap_or_default();
    Note {
        kind: "override".into(),
        region: region.clone().unwrap_or_default(),
        text: format!("{kind} {target}{value}: {reason} ({})", stored.by),
        until_ms: Some(stored.expires_ms),
    }
}

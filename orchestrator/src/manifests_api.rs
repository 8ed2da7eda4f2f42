//! What is asked about manifests: the one in force (also by waiting for the next), the keys, the last hundred, and what
//! changed between two of them; and who follows them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;
use spillway_bus::Versioned;
use spillway_model::RegionId;
use spillway_routing::Manifest;
use spillway_wire::diff::{diff, shadow_diff};
use spillway_wire::envelope::{KEYS_KEY, manifest_key};
use spillway_wire::follow::{FOLLOW_KEY, FOLLOW_VERSION, FollowRegistry};

use crate::admin::Refusal;
use crate::publish::{epochs_kept, history_key, read};
use crate::shell::Shell;

/// Longest time that a question waits for a newer manifest, s: below the idle time-outs of proxies.
const WAIT_MAX_S: u64 = 30;

/// Routes below `/v1/manifests`, `/v1/keys` and `/v1/players`.
pub(crate) fn router(shell: Arc<Shell>) -> Router {
    Router::new()
        .route("/v1/manifests/{region}", get(manifest))
        .route("/v1/manifests/{region}/history", get(history))
        .route("/v1/manifests/{region}/diff", get(difference))
        .route("/v1/keys", get(keys))
        .route("/v1/players", get(players))
        .with_state(shell)
}

fn not_published() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not_published", "no manifest was published yet".into())
}

pub(crate) fn known_region(shell: &Shell, name: &str) -> Result<RegionId, Refusal> {
    let deployment = shell.deployed.now();
    deployment.regions.get_key_value(name).map(|(id, _)| id.clone()).ok_or_else(|| {
        let names: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
        Refusal(StatusCode::NOT_FOUND, "unknown_region", format!("{name:?} (valid: {})", names.join(", ")))
    })
}

fn number<T: std::str::FromStr>(query: &BTreeMap<String, String>, name: &str) -> Result<Option<T>, Refusal> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let number = text.parse();
    number
        .map(Some)
        .map_err(|_| Refusal(StatusCode::BAD_REQUEST, "bad_value", format!("{name} {text:?} (valid: a number)")))
}

/// The envelope in force, with its epoch as `ETag`. With `?wait_s=` and `If-None-Match` it waits for another one, at most
/// so long (and at most 30 s), and then answers 304.
async fn manifest(
    State(shell): State<Arc<Shell>>,
    Path(region): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let region = &known_region(&shell, &region)?;
    let wait_s: u64 = number(&query, "wait_s")?.unwrap_or(0);
    let key = manifest_key(region);
    let mut found = shell.store.get(&key).await?;
    let matches = |found: &Option<Versioned>| match (found, headers.get(header::IF_NONE_MATCH)) {
        (Some(found), Some(seen)) => seen.as_bytes() == etag(found.version).as_bytes(),
        (found, _) => found.is_none(),
    };
    if wait_s > 0 && matches(&found) {
        let seen = found.as_ref().map_or(0, |found| found.version);
        let wait = Duration::from_secs(wait_s.min(WAIT_MAX_S));
        tokio::select! {
            changed = tokio::time::timeout(wait, shell.store.changed(&key, seen)) => {
                if let Ok(changed) = changed {
                    found = Some(changed?);
                }
            }
            () = shell.shutdown.cancelled() => {}
        }
    }
    let same = matches(&found);
    let Some(found) = found else { return Err(not_published()) };
    let tag = [(header::ETAG, etag(found.version)), (header::CACHE_CONTROL, "no-cache".into())];
    if same {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, [(header::CONTENT_TYPE, "application/json")], found.value).into_response())
}

fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// The public keys: JSON, key id → base64 of 32 bytes.
async fn keys(State(shell): State<Arc<Shell>>) -> Result<Response, Refusal> {
    let found = shell.store.get(KEYS_KEY).await?;
    let keys = found.map_or_else(|| Bytes::from_static(b"{}"), |found| found.value);
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], keys).into_response())
}

/// The registry of players: who follows steering. For steering nodes without the store.
async fn players(State(shell): State<Arc<Shell>>) -> Result<Response, Refusal> {
    let found = shell.store.get(FOLLOW_KEY).await?;
    let none = || serde_json::to_vec(&FollowRegistry { v: FOLLOW_VERSION, ..FollowRegistry::default() });
    let registry = found.map_or_else(|| Bytes::from(none().unwrap_or_default()), |found| found.value);
    Ok(([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], registry).into_response())
}

/// The manifests that are kept, the newest first; `?limit=` of them (20), at most the hundred that are kept.
async fn history(
    State(shell): State<Arc<Shell>>,
    Path(region): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let region = &known_region(&shell, &region)?;
    let limit = number(&query, "limit")?.unwrap_or(20);
    let mut epochs = epochs_kept(shell.store.as_ref(), region).await?;
    epochs.reverse();
    let mut out = Vec::new();
    for epoch in epochs.into_iter().take(limit) {
        let Some(found) = shell.store.get(&history_key(region, epoch)).await? else {
            continue;
        };
        // One that no longer reads is shown as such: it must not hide the others.
        out.push(match read(&found.value) {
            Ok(manifest) => {
                let everyone = manifest.cohorts.iter().find(|rule| rule.asn.is_none() && rule.class.is_none());
                let weights = everyone.map(|rule| &rule.weights_new).into_iter().flatten();
                let weights: BTreeMap<&str, u32> = weights.map(|(target, ppm)| (target.as_str(), *ppm)).collect();
                json!({"epoch": epoch, "issued_ms": manifest.issued.0, "policy": manifest.policy,
                       "reason": everyone.map_or("", |rule| rule.reason.as_str()), "weights_ppm": weights})
            }
            Err(error) => json!({"epoch": epoch, "unreadable": error}),
        });
    }
    Ok(Json(out).into_response())
}

/// What changed `?from=` one epoch `&to=` another; by default from the one before the one in force, to that one. With
/// `?shadow=1`: how the shadow plan differs from what is steered by.
async fn difference(
    State(shell): State<Arc<Shell>>,
    Path(region): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let region = &known_region(&shell, &region)?;
    let (from, to): (Option<u64>, Option<u64>) = (number(&query, "from")?, number(&query, "to")?);
    let to = at(&shell, region, to).await?;
    if query.get("shadow").is_some_and(|shadow| shadow == "1") {
        let Some(found) = shadow_diff(&to) else {
            let detail = format!("no class of {region} is in shadow mode in epoch {}", to.epoch);
            return Err(Refusal(StatusCode::NOT_FOUND, "no_shadow", detail));
        };
        return Ok(Json(json!({"region": region.as_str(), "epoch": to.epoch, "cohorts": found})).into_response());
    }
    let from = match from {
        Some(epoch) => epoch,
        None => {
            let epochs = epochs_kept(shell.store.as_ref(), region).await?;
            let before = epochs.into_iter().rfind(|epoch| *epoch < to.epoch);
            before.ok_or_else(|| unknown_epoch(region, "before it", "it is the first one that is kept"))?
        }
    };
    let from = at(&shell, region, Some(from)).await?;
    let changes = diff(&from, &to);
    let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let out = json!({"region": region.as_str(), "from": from.epoch, "to": to.epoch, "changes": changes, "text": text});
    Ok(Json(out).into_response())
}

fn unknown_epoch(region: &RegionId, epoch: impl std::fmt::Display, why: &str) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "unknown_epoch", format!("no manifest {epoch} of {region}: {why}"))
}

/// The manifest of an epoch; by default the one in force.
pub(crate) async fn at(shell: &Shell, region: &RegionId, epoch: Option<u64>) -> Result<Manifest, Refusal> {
    let key = epoch.map_or_else(|| manifest_key(region), |epoch| history_key(region, epoch));
    let found = shell.store.get(&key).await?;
    match (found, epoch) {
        (Some(found), _) => {
            read(&found.value).map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "unreadable", error))
        }
        (None, None) => Err(not_published()),
        (None, Some(epoch)) => Err(unknown_epoch(region, epoch, "the last hundred are kept (…/history)")),
    }
}

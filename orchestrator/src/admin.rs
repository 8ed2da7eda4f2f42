//! The admin API: overrides, times of calm, titles to prewarm, rollbacks, drills and reloads, by bearer token and role; every change is audited.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;
use spillway_lake::records::Change;
use spillway_service::auth::{self, AuthError, Caller, Role};

use crate::calm::StoredCalm;
use crate::drill::{Drill, DrillError};
use crate::manifests_api;
use crate::orders::{self, Order, OrderError, Requested};
use crate::overrides::StoredOverride;
use crate::prewarm::StoredPrewarm;
use crate::reload::{self, ReloadError};
use crate::rollback::{self, RollbackRequest, StoredRollback};
use crate::shell::Shell;

/// Routes below `/v1/admin`, and the reload.
pub(crate) fn router(shell: Arc<Shell>) -> Router {
    Router::new()
        .route("/v1/admin/overrides", get(list::<StoredOverride>).post(add::<StoredOverride>))
        .route("/v1/admin/overrides/{id}", delete(end::<StoredOverride>))
        .route("/v1/admin/calm", get(list::<StoredCalm>).post(add::<StoredCalm>))
        .route("/v1/admin/calm/{id}", delete(end::<StoredCalm>))
        .route("/v1/admin/prewarm", get(list::<StoredPrewarm>).post(add::<StoredPrewarm>))
        .route("/v1/admin/prewarm/{id}", delete(end::<StoredPrewarm>))
        .route("/v1/admin/manifests/{region}/rollback", post(roll_back))
        .route("/v1/admin/rollbacks", get(list::<StoredRollback>))
        .route("/v1/admin/rollbacks/{id}", delete(end::<StoredRollback>))
        .route("/v1/reload", post(reload))
        .route("/v1/admin/drills", post(start_drill))
        .route("/v1/admin/drills/{id}", get(show_drill).delete(abort_drill))
        .with_state(shell)
}

/// An answer that says in one word and one sentence what is wrong.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) &'static str, pub(crate) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1, "detail": self.2}))).into_response()
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unknown(_) => Self(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string()),
            AuthError::Forbidden { .. } => Self(StatusCode::FORBIDDEN, "forbidden", error.to_string()),
        }
    }
}

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Invalid { .. } => Self(StatusCode::BAD_REQUEST, "bad_value", error.to_string()),
            OrderError::Store(_) => Self(StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string()),
        }
    }
}

impl From<spillway_bus::StoreError> for Refusal {
    fn from(error: spillway_bus::StoreError) -> Self {
        OrderError::from(error).into()
    }
}

impl From<DrillError> for Refusal {
    fn from(error: DrillError) -> Self {
        let (status, name) = match &error {
            DrillError::Invalid { .. } => (StatusCode::BAD_REQUEST, "bad_value"),
            DrillError::Busy(_) => (StatusCode::CONFLICT, "busy"),
            DrillError::Incident { .. } => (StatusCode::CONFLICT, "incident"),
        };
        Self(status, name, error.to_string())
    }
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        let status = match &error {
            ReloadError::Invalid(_) => StatusCode::BAD_REQUEST,
            ReloadError::InUse(_) => StatusCode::CONFLICT,
            ReloadError::Store(_) | ReloadError::Ending => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.name(), error.to_string())
    }
}

fn caller(shell: &Shell, headers: &HeaderMap, needed: Role) -> Result<Caller, Refusal> {
    Ok(auth::authorize(headers, &shell.tokens, needed)?)
}

/// Writes a change down: into the log at once, into the lake within seconds.
pub(crate) fn audit(
    shell: &Shell,
    caller: &Caller,
    what: &'static str,
    id: &str,
    reason: &str,
    detail: &impl Serialize,
) {
    tracing::info!(target: "audit", by = caller.name, role = caller.role.as_str(), what, id, "admin change");
    shell.changes.record(Change {
        at_ms: shell.clock.now().0,
        orchestrator: shell.id.clone(),
        actor: caller.name.clone(),
        role: caller.role.as_str().to_owned(),
        action: what.to_owned(),
        object: id.to_owned(),
        reason: reason.to_owned(),
        detail_json: json!(detail).to_string(),
    });
}

fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal(StatusCode::BAD_REQUEST, "bad_json", error.to_string()))
}

async fn list<O: Order>(State(shell): State<Arc<Shell>>, headers: HeaderMap) -> Result<Response, Refusal> {
    caller(&shell, &headers, Role::Viewer)?;
    Ok(Json(orders::in_force::<O>(&shell.store, shell.clock.now()).await?).into_response())
}

/// Takes an order of any kind that its request alone describes.
async fn add<O: Requested>(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    bytes: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let order = O::of(body(&bytes)?, &caller.name, shell.clock.now(), &shell.deployed.now())?;
    orders::keep(&shell.store, &order).await?;
    Ok(added(&shell, &caller, &order))
}

/// What is new and kept is audited, and decided by at once.
fn added<O: Order>(shell: &Shell, caller: &Caller, order: &O) -> Response {
    audit(shell, caller, O::ADDED, order.id(), order.reason(), order);
    shell.wake.notify_one();
    (StatusCode::CREATED, Json(order)).into_response()
}

async fn roll_back(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    Path(region): Path<String>,
    bytes: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let request: RollbackRequest = body(&bytes)?;
    let region = manifests_api::known_region(&shell, &region)?;
    let to = manifests_api::at(&shell, &region, Some(request.epoch)).await?;
    let stored =
        rollback::add(&shell.store, &shell.deployed.now(), &caller.name, shell.clock.now(), request, &to).await?;
    Ok(added(&shell, &caller, &stored))
}

/// Ends an order of any kind before its time.
async fn end<O: Order>(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<StatusCode, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let ended = orders::in_force::<O>(&shell.store, shell.clock.now()).await?.remove(&id);
    if !orders::remove::<O>(&shell.store, &id).await? {
        return Err(Refusal(StatusCode::NOT_FOUND, "unknown", format!("no {} {id:?} is in force", O::WORD)));
    }
    let reason = query.get("reason").map(String::as_str).unwrap_or_default();
    audit(&shell, &caller, O::ENDED, &id, reason, &ended);
    shell.wake.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the configuration file again and puts it in force; with `?dry_run=true` only says what would change.
async fn reload(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let dry_run = match query.get("dry_run").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            let detail = format!("dry_run {other:?} (valid: true, false)");
            return Err(Refusal(StatusCode::BAD_REQUEST, "bad_value", detail));
        }
    };
    Ok(Json(reload::reload(&shell, caller, dry_run).await?).into_response())
}

async fn start_drill(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    bytes: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let drill: Drill = body(&bytes)?;
    let (id, detail) = (drill.id.clone(), json!(drill));
    shell.drills.start(drill, &caller.name, &shell.shutdown)?;
    audit(&shell, &caller, "drill.start", &id, "", &detail);
    Ok((StatusCode::ACCEPTED, Json(json!({"id": id}))).into_response())
}

async fn show_drill(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    caller(&shell, &headers, Role::Viewer)?;
    match shell.drills.progress(&id) {
        Some(progress) => Ok(Json(progress).into_response()),
        None => Err(Refusal(StatusCode::NOT_FOUND, "unknown", format!("no drill {id:?} ran in this process"))),
    }
}

async fn abort_drill(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<StatusCode, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    if !shell.drills.abort(&id) {
        return Err(Refusal(StatusCode::NOT_FOUND, "unknown", format!("no drill {id:?} is running")));
    }
    let reason = query.get("reason").map(String::as_str).unwrap_or_default();
    audit(&shell, &caller, "drill.abort", &id, reason, &json!({}));
    Ok(StatusCode::ACCEPTED)
}

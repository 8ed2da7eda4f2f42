//! The admin API: overrides and drills, by bearer token and role; every change is audited.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::json;
use spillway_service::auth::{self, AuthError, Caller, Role};

use crate::drill::{Drill, DrillError};
use crate::overrides::{self, OverrideError, OverrideRequest};
use crate::shell::Shell;

/// Routes below `/v1/admin`.
pub(crate) fn router(shell: Arc<Shell>) -> Router {
    Router::new()
        .route("/v1/admin/overrides", get(list_overrides).post(add_override))
        .route("/v1/admin/overrides/{id}", delete(end_override))
        .route("/v1/admin/drills", post(start_drill))
        .route("/v1/admin/drills/{id}", get(show_drill).delete(abort_drill))
        .with_state(shell)
}

/// An answer that says in one word and one sentence what is wrong.
struct Refusal(StatusCode, &'static str, String);

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

impl From<OverrideError> for Refusal {
    fn from(error: OverrideError) -> Self {
        match error {
            OverrideError::Invalid { .. } => Self(StatusCode::BAD_REQUEST, "bad_value", error.to_string()),
            OverrideError::Store(_) => Self(StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string()),
        }
    }
}

impl From<spillway_bus::StoreError> for Refusal {
    fn from(error: spillway_bus::StoreError) -> Self {
        OverrideError::from(error).into()
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

fn caller(shell: &Shell, headers: &HeaderMap, needed: Role) -> Result<Caller, Refusal> {
    Ok(auth::authorize(headers, &shell.tokens, needed)?)
}

fn audit(caller: &Caller, what: &'static str, id: &str) {
    tracing::info!(target: "audit", by = caller.name, role = caller.role.as_str(), what, id, "admin change");
}

fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal(StatusCode::BAD_REQUEST, "bad_json", error.to_string()))
}

async fn list_overrides(State(shell): State<Arc<Shell>>, headers: HeaderMap) -> Result<Response, Refusal> {
    caller(&shell, &headers, Role::Viewer)?;
    Ok(Json(overrides::in_force(&shell.store, shell.clock.now()).await?).into_response())
}

async fn add_override(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    bytes: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let request: OverrideRequest = body(&bytes)?;
    let stored = overrides::add(&shell.store, &shell.deployment, &caller.name, shell.clock.now(), request).await?;
    audit(&caller, "override.add", &stored.id);
    shell.wake.notify_one();
    Ok((StatusCode::CREATED, Json(stored)).into_response())
}

async fn end_override(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    if !overrides::remove(&shell.store, &id).await? {
        return Err(Refusal(StatusCode::NOT_FOUND, "unknown", format!("no override {id:?} is in force")));
    }
    audit(&caller, "override.end", &id);
    shell.wake.notify_one();
    Ok(StatusCode::NO_CONTENT)
}

async fn start_drill(
    State(shell): State<Arc<Shell>>,
    headers: HeaderMap,
    bytes: axum::body::Bytes,
) -> Result<Response, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    let drill: Drill = body(&bytes)?;
    let id = drill.id.clone();
    shell.drills.start(drill, &caller.name, &shell.shutdown)?;
    audit(&caller, "drill.start", &id);
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
) -> Result<StatusCode, Refusal> {
    let caller = caller(&shell, &headers, Role::Operator)?;
    if !shell.drills.abort(&id) {
        return Err(Refusal(StatusCode::NOT_FOUND, "unknown", format!("no drill {id:?} is running")));
    }
    audit(&caller, "drill.abort", &id);
    Ok(StatusCode::ACCEPTED)
}

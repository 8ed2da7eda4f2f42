//! What others ask of the orchestrator: the overview, load reports, and all that other files answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use spillway_bus::http_router;
use spillway_model::PathwayId;
use spillway_service::{auth, health_router};
use spillway_wire::load::{Directives, LOAD_VERSION, LoadReport};

use crate::shell::Shell;
use crate::{admin, manifests_api};

/// Every route of the orchestrator's listener.
pub(crate) fn router(shell: Arc<Shell>) -> Router {
    let own = Router::new()
        .route("/v1/overview", get(overview))
        .route("/v1/loads", post(load))
        .with_state(Arc::clone(&shell));
    own.merge(manifests_api::router(Arc::clone(&shell)))
        .merge(admin::router(Arc::clone(&shell)))
        .merge(http_router(shell.bus.clone(), &shell.service_token))
        .merge(health_router(shell.readiness.clone(), shell.metrics.clone()))
}

fn refuse(status: StatusCode, error: &str, detail: impl ToString) -> Response {
    (status, Json(json!({"error": error, "detail": detail.to_string()}))).into_response()
}

async fn overview(State(shell): State<Arc<Shell>>) -> Response {
    Json(shell.overview.borrow().clone()).into_response()
}

/// Takes an own edge's report and answers with directives. A report by an unknown pathway is refused: capacity that
/// nobody configured must not take viewers.
async fn load(State(shell): State<Arc<Shell>>, headers: HeaderMap, body: axum::body::Bytes) -> Response {
    if !auth::is_service(&headers, &shell.service_token) {
        return refuse(StatusCode::UNAUTHORIZED, "unauthorized", "the service token is needed");
    }
    let report: LoadReport = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "bad_json", error),
    };
    if report.v != LOAD_VERSION {
        return refuse(StatusCode::BAD_REQUEST, "unknown_version", format!("{} (valid: {LOAD_VERSION})", report.v));
    }
    let deployment = shell.deployed.now();
    let known = PathwayId::new(&report.pathway).ok().filter(|id| deployment.pathways.contains_key(id));
    let Some(pathway) = known else {
        let names: Vec<&str> = deployment.pathways.keys().map(PathwayId::as_str).collect();
        return refuse(
            StatusCode::BAD_REQUEST,
            "unknown_pathway",
            format!("{:?} (valid: {})", report.pathway, names.join(", ")),
        );
    };
    // Before the first round nobody is turned away.
    let directives = shell.directives.borrow().get(&pathway).cloned();
    let directives = directives.unwrap_or_else(|| Directives { v: LOAD_VERSION, admit: true, ..Directives::default() });
    shell.loads.take(pathway, report, shell.clock.now());
    Json(directives).into_response()
}

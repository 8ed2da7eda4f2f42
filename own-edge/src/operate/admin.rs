//! What operators ask of an edge, on its own port and with the service token.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{any, post};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use spillway_service::auth::is_service;

use crate::cache::purge::{PURGE_MAX_BYTES, purge};
use crate::edge::Edge;

/// An edge and the token that opens it.
#[derive(Clone)]
struct Admin {
    edge: Arc<Edge>,
    service_token: Arc<str>,
}

/// `POST /v1/purge`, and `/v1/faults` where they are allowed.
pub(crate) fn router(edge: Arc<Edge>, service_token: String) -> Router {
    let state = Admin { edge, service_token: service_token.into() };
    let mut router = Router::new().route("/v1/purge", post(purged));
    if state.edge.faults.is_some() {
        router = router.route("/v1/faults", any(faults));
    }
    router.layer(DefaultBodyLimit::max(PURGE_MAX_BYTES)).with_state(state)
}

/// Whether `headers` bear the token; with no token nobody may.
pub(crate) fn is_allowed(headers: &HeaderMap, service_token: &str) -> bool {
    !service_token.is_empty() && is_service(headers, service_token)
}

type Json = (StatusCode, [(http::HeaderName, &'static str); 1], String);

fn json((status, text): (StatusCode, String)) -> Json {
    (status, [(CONTENT_TYPE, "application/json")], text)
}

fn unauthorized() -> Json {
    let text = r#"{"error":"unauthorized","detail":"the service token is needed"}"#;
    json((StatusCode::UNAUTHORIZED, text.into()))
}

async fn purged(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Json {
    if !is_allowed(&headers, &admin.service_token) {
        return unauthorized();
    }
    json(purge(&admin.edge, &body).await)
}

async fn faults(State(admin): State<Admin>, method: Method, headers: HeaderMap, body: Bytes) -> Json {
    match &admin.edge.faults {
        Some(faults) if is_allowed(&headers, &admin.service_token) => json(faults.command(&method, &body)),
        _ => unauthorized(),
    }
}

//! What operators ask of an edge, on its own port and with the service token.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use spillway_service::auth::is_service;

use crate::edge::Edge;
use crate::purge::{PURGE_MAX_BYTES, purge};

/// An edge and the token that opens it.
#[derive(Clone)]
struct Admin {
    edge: Arc<Edge>,
    service_token: Arc<str>,
}

/// `POST /v1/purge`.
pub(crate) fn router(edge: Arc<Edge>, service_token: String) -> Router {
    let state = Admin { edge, service_token: service_token.into() };
    Router::new().route("/v1/purge", post(purged)).layer(DefaultBodyLimit::max(PURGE_MAX_BYTES)).with_state(state)
}

/// Whether `headers` bear the token; with no token nobody may.
pub(crate) fn is_allowed(headers: &HeaderMap, service_token: &str) -> bool {
    !service_token.is_empty() && is_service(headers, service_token)
}

async fn purged(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(http::HeaderName, &'static str); 1], String) {
    let (status, text) = if is_allowed(&headers, &admin.service_token) {
        purge(&admin.edge, &body).await
    } else {
        (StatusCode::UNAUTHORIZED, r#"{"error":"unauthorized","detail":"the service token is needed"}"#.into())
    };
    (status, [(CONTENT_TYPE, "application/json")], text)
}

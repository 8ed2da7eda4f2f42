//! What an operator and the server ask of the agent.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::line::{Fetches, Request, address};
use super::watched::Watched;
use crate::load::account::CacheResult;
use crate::operate::admin::is_allowed;
use crate::serve::admit::Admission;

const BODY_MAX_BYTES: usize = 1_024;
const REASON: HeaderName = HeaderName::from_static("x-spillway-reason");
const REDIRECT: HeaderName = HeaderName::from_static("x-spillway-redirect");

#[derive(Clone)]
struct Admin {
    watched: Arc<Watched>,
    service_token: Arc<str>,
}

/// `POST /v1/drain` and `GET /v1/admission`.
pub(super) fn router(watched: Arc<Watched>, service_token: String) -> Router {
    Router::new()
        .route("/v1/drain", post(drain))
        .route("/v1/admission", get(admission))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Admin { watched, service_token: service_token.into() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    drain: bool,
}

type Answer = (StatusCode, Json<serde_json::Value>);

/// Drains the node, or ends that; until the agent ends. With the service token.
async fn drain(State(admin): State<Admin>, headers: HeaderMap, body: axum::body::Bytes) -> Answer {
    if !is_allowed(&headers, &admin.service_token) {
        let detail = "the service token is needed";
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "unauthorized", "detail": detail })));
    }
    match serde_json::from_slice::<Drain>(&body) {
        Ok(Drain { drain }) => {
            tracing::info!(drain, "an operator says whether the node is drained");
            admin.watched.drain(drain);
            (StatusCode::OK, Json(json!({ "drain": drain })))
        }
        Err(error) => {
            let detail = format!("{error} (valid: {{\"drain\": true}} or {{\"drain\": false}})");
            (StatusCode::BAD_REQUEST, Json(json!({ "error": "bad_json", "detail": detail })))
        }
    }
}

/// Whether a request's session is served: 204, or 403 with the reason and where it may go. As nginx's `auth_request`
/// asks: the request's own headers, and `X-Original-URI` and `X-Real-IP` beside them.
async fn admission(State(admin): State<Admin>, headers: HeaderMap) -> (StatusCode, HeaderMap) {
    let mut answer = HeaderMap::new();
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let Some((target, client)) = text("x-original-uri").zip(text("x-real-ip")) else {
        return (StatusCode::BAD_REQUEST, answer);
    };
    let request = Request {
        client: address(&client),
        target,
        status: 200,
        bytes_out: 0,
        result: CacheResult::Hit,
        fetches: Fetches::default(),
        user_agent: text("user-agent"),
        cmcd_session: text("cmcd-session"),
    };
    match admin.watched.admission(&request) {
        Admission::Served => (StatusCode::NO_CONTENT, answer),
        Admission::Refused(reason, redirect_to) => {
            answer.insert(REASON, HeaderValue::from_static(reason));
            if let Some(to) = redirect_to.and_then(|url| HeaderValue::try_from(url).ok()) {
                answer.insert(REDIRECT, to);
            }
            (StatusCode::FORBIDDEN, answer)
        }
    }
}

//! Every route of the steering node.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, Method, header};
use axum::routing::{MethodRouter, any, get, post};
use spillway_model::Protocol;
use spillway_model::limits::PLAYLIST_MAX_BYTES;
use tower::Layer as _;
use tower_http::cors::{Any, Cors, CorsLayer};

use crate::{SteerState, answers, custom, explain, playlists, reply, sessions, status};

/// Browsers cap this at two hours or less.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7_200);

/// Players on any page ask; there is nothing here that a cookie would open.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::OPTIONS])
        .allow_headers(Any)
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static(reply::EPOCH_HEADER),
            HeaderName::from_static(reply::REASON_HEADER),
        ])
        .max_age(PREFLIGHT_MAX_AGE)
}

/// Routes that players use.
pub(crate) fn router(state: Arc<SteerState>) -> Router {
    let mut playlists = Router::new();
    for protocol in [Protocol::Hls, Protocol::Dash] {
        let fetched =
            move |state, peer, headers, query, uri| playlists::fetched(protocol, state, peer, headers, query, uri);
        let posted =
            move |state, peer, headers, query, body| playlists::posted(protocol, state, peer, headers, query, body);
        playlists = playlists
            .route(&format!("/v1/playlists/{protocol}"), post(posted))
            .route(&format!("/v1/playlists/{protocol}/{{*path}}"), get(fetched));
    }
    // What is asked most carries its headers itself: a layer costs as much as the answer. Only the preflight is left.
    let steering = Router::new()
        .route("/v1/steer/hls", get(answers::hls).options_service(preflight()))
        .route("/v1/steer/dash", get(answers::dash).options_service(preflight()))
        .route("/v1/decide", get(custom::decide).options_service(preflight()));
    let others = Router::new()
        .merge(playlists)
        .route("/v1/explain", get(explain::explain))
        .route("/v1/go/{*path}", get(custom::go))
        .route("/v1/sessions", post(sessions::create))
        .layer(DefaultBodyLimit::max(PLAYLIST_MAX_BYTES))
        .layer(cors());
    steering.merge(others).with_state(state)
}

/// Answers OPTIONS.
fn preflight() -> Cors<MethodRouter> {
    cors().layer(any(|| async {}))
}

/// Routes of the private network.
pub(crate) fn private(state: Arc<SteerState>) -> Router {
    Router::new().route("/internal/steer", get(status::status)).with_state(state)
}

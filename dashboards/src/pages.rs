//! Routes, and the headers that every answer carries.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use spillway_model::Clock;
use spillway_service::{Readiness, health_router};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use crate::board::SharedBoard;
use crate::feed::{self, Feed, NoStream};
use crate::{DashboardConfig, assets, view};

/// Nothing but our own files, no inline script or style, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What every page needs.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) config: Arc<DashboardConfig>,
    pub(crate) board: SharedBoard,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) feed: Feed,
}

/// Every route of the role.
pub(crate) fn router(pages: Pages, readiness: Readiness) -> Router {
    Router::new()
        .route("/", get(overview))
        .route("/events", get(events))
        .route("/api/overview.json", get(overview_json))
        .with_state(pages)
        .merge(assets::router())
        .merge(health_router(readiness, None))
        .fallback(|| async { (StatusCode::NOT_FOUND, "no such page (there are: /, /api/overview.json)\n") })
        .layer(map_response(harden))
}

/// `GET /`.
async fn overview(State(pages): State<Pages>) -> impl IntoResponse {
    let now_ms = pages.clock.now().0;
    let html = pages.board.with(|board| view::page(&pages.config, board, now_ms));
    ([(header::CACHE_CONTROL, "no-store")], Html(html))
}

/// `GET /events`: the page's board as an event of name `board`, at once and whenever it changes.
async fn events(State(pages): State<Pages>) -> Response {
    let now_ms = pages.clock.now().0;
    let html = pages.board.with(|board| view::fragment(&pages.config, board, now_ms));
    match pages.feed.join(feed::frame(now_ms, &html)) {
        Ok(frames) => {
            let headers = [
                (header::CONTENT_TYPE, "text/event-stream"),
                (header::CACHE_CONTROL, "no-store"),
                // nginx would hold events back until its buffer is full.
                (header::HeaderName::from_static("x-accel-buffering"), "no"),
            ];
            (headers, Body::from_stream(ReceiverStream::new(frames).map(Ok::<_, Infallible>))).into_response()
        }
        Err(why) => {
            let text = match why {
                NoStream::Full => "too many pages are open\n",
                NoStream::Ending => "shutting down\n",
            };
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], text).into_response()
        }
    }
}

/// `GET /api/overview.json`: the newest overview as the orchestrator published it; 404 before the first.
async fn overview_json(State(pages): State<Pages>) -> Response {
    let json = pages.board.with(|board| board.overview.as_ref().map(serde_json::to_vec));
    match json {
        Some(Ok(json)) => {
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            (headers, json).into_response()
        }
        Some(Err(error)) => {
            tracing::error!(%error, "overview does not serialise");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        None => (StatusCode::NOT_FOUND, "no overview has come yet\n").into_response(),
    }
}

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

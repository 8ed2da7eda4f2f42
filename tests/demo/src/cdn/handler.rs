//! One request to a CDN.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::{AGE, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::Cdn;
use super::body::Sending;
use super::cache::{Found, Object};
use super::client::Client;
use super::connection::Connection;
use crate::origin::respond;

/// Longest time a hanging request is kept.
pub(crate) const HANG_AT_MOST: Duration = Duration::from_secs(30);

const X_CDN: HeaderName = HeaderName::from_static("x-cdn");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

pub(crate) async fn handle(State(cdn): State<Arc<Cdn>>, request: Request) -> Response {
    let name = HeaderValue::from_str(cdn.name()).expect("checked when the CDN was made");
    let (parts, _) = request.into_parts();
    let mut response = answer(cdn, &parts).await;
    respond::allow_every_origin(response.headers_mut());
    response.headers_mut().insert(X_CDN, name);
    response
}

async fn answer(cdn: Arc<Cdn>, request: &Parts) -> Response {
    let with_body = match request.method {
        Method::GET => true,
        Method::HEAD => false,
        // Browsers remember the answer; a fault on it would hide the faults on what follows.
        Method::OPTIONS => return respond::preflight(),
        _ => return respond::method_not_allowed(),
    };
    let connection = request.extensions.get::<ConnectInfo<Connection>>().map(|info| info.0.clone());
    let peer = connection.as_ref().map(|connection| connection.peer);
    let client = Client::of(peer, &cdn.config);
    let request_id = cdn.requests.fetch_add(1, Ordering::Relaxed);
    cdn.counters.request(&client.region);

    let latency_ms = cdn.config.base_latency_ms + cdn.faults.effect(&client, request_id).latency_ms;
    if latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(latency_ms)).await;
    }
    if !cdn.faults.outlast_hang(&client, request_id, HANG_AT_MOST).await {
        cdn.counters.broken(&client.region);
        return broken_off(connection.as_ref());
    }
    let effect = cdn.faults.effect(&client, request_id);
    let (status, headers, body) = match effect.status.and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(status) => fault_status(status),
        None => {
            let (object, found) = cdn.cache.get(request.uri.path()).await;
            (object.status, object_headers(cdn.name(), &object, found), object.body.clone())
        }
    };
    cdn.counters.status(&client.region, status);
    if effect.reset && (!with_body || body.is_empty()) {
        cdn.counters.broken(&client.region);
        return broken_off(connection.as_ref());
    }
    let length = body.len();
    let body =
        if with_body { Sending { cdn, client, connection, request_id, body }.into_body() } else { Body::empty() };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// Breaks the connection before the first byte. Without one (a router under test) it stays a 504.
fn broken_off(connection: Option<&Connection>) -> Response {
    if let Some(connection) = connection {
        connection.break_off();
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response
}

fn fault_status(status: StatusCode) -> (StatusCode, HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    (status, headers, Bytes::from(format!("injected fault: {status}\n")))
}

fn object_headers(cdn_name: &str, object: &Object, found: Found) -> HeaderMap {
    let mut headers = object.headers.clone();
    headers.insert(AGE, HeaderValue::from(object.age().as_secs()));
    let how = match found {
        Found::Hit => format!("hit; ttl={}", object.ttl().as_secs()),
        Found::Miss => "fwd=uri-miss".to_owned(),
        Found::Collapsed => "fwd=uri-miss; collapsed".to_owned(),
    };
    let cache_status =
        HeaderValue::from_str(&format!("{cdn_name}; {how}")).expect("the name was checked, the rest is ASCII");
    headers.insert(CACHE_STATUS, cache_status);
    headers
}

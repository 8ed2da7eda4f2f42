//! Connections: accepted up to a limit, parsed strictly, drained within a bound.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use metrics::counter;
use metrics_exporter_prometheus::PrometheusHandle;
use spillway_service::{CancellationToken, DRAIN};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::admin::is_allowed;
use crate::admit::Admission;
use crate::body::EdgeBody;
use crate::connection::{Connection, HeadSeen, Shared};
use crate::edge::Edge;
use crate::origin::RequestBody;
use crate::purge::{PURGE_MAX_BYTES, purge};
use crate::receive::{Refusal, check_head, receive};
use crate::{prefetch, respond};

/// Header lines of a request.
const HEADERS_MAX: usize = 100;
/// HTTP/2: requests at once on one connection, and bytes of its headers.
const STREAMS_MAX: u32 = 128;
const H2_HEADERS_MAX_BYTES: u32 = 32 * 1024;
/// HTTP/2: an idle connection is asked whether it lives.
const H2_PING: Duration = Duration::from_secs(20);
/// Paths below are ours, not the origin's.
const OWN_PATHS: &str = "/.spillway/";

/// What answers under [`OWN_PATHS`].
pub(crate) struct OwnPaths {
    /// Present where no other listener serves them.
    pub metrics: Option<PrometheusHandle>,
    pub enabled: bool,
    pub service_token: String,
}

/// Serves until `shutdown`, then lets open answers end for at most [`DRAIN`].
pub(crate) async fn serve(edge: Arc<Edge>, own: OwnPaths, listener: TcpListener, shutdown: CancellationToken) {
    let own = Arc::new(own);
    let builder = builder(&edge);
    let graceful = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(edge.plan.max_connections));
    let turned_away = counter!("spillway_edge_connections_refused_total");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: waiting is better than spinning.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = free.clone().try_acquire_owned() else {
            turned_away.increment(1);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, edge.meter.clone(), edge.plan.header_timeout, edge.plan.write_stall);
        let shared = connection.shared();
        let (edge, own) = (edge.clone(), own.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (edge, own, shared) = (edge.clone(), own.clone(), shared.clone());
            async move {
                let seen = shared.begin_request();
                let version = request.version();
                let mut response = answer(&edge, &own, &shared, peer, request, seen).await;
                // What follows a body was not looked at, so nothing may follow it.
                if seen.last && version < Version::HTTP_2 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let served = graceful.watch(builder.serve_connection(TokioIo::new(connection), service).into_owned());
        tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::debug!(%error, %peer, "connection ended");
            }
            drop(place);
        });
    }
    edge.stop();
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("open answers were cut at the end of the drain");
    }
}

fn builder(edge: &Edge) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(edge.plan.header_timeout).max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(H2_HEADERS_MAX_BYTES)
        .keep_alive_interval(H2_PING);
    builder
}

/// The path of a request; `seen` is what the socket saw of its head.
async fn answer(
    edge: &Arc<Edge>,
    own: &OwnPaths,
    connection: &Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
    seen: HeadSeen,
) -> Response<EdgeBody> {
    let began = edge.now();
    let has_body = !request.body().is_end_stream();
    let (parts, body) = request.into_parts();
    let version = parts.version;
    if let Err(refusal) = check_head(&parts, has_body, seen) {
        return respond::refused(edge, refusal, version);
    }
    if parts.method == Method::OPTIONS {
        return respond::preflight(edge, &parts.headers);
    }
    if let Some(path) = parts.uri.path().strip_prefix(OWN_PATHS) {
        let head_only = parts.method == Method::HEAD;
        let (status, text) = own_path(edge, own, &parts, path, body).await;
        return respond::page(edge, status, text, head_only);
    }
    if !edge.plan.methods.allow(&parts.method) {
        let refusal = Refusal { status: StatusCode::METHOD_NOT_ALLOWED, word: "method" };
        return respond::refused(edge, refusal, version);
    }
    let asked = match receive(parts, peer, &edge.plan, &edge.sessions, edge.clock.now()) {
        Ok(asked) => asked,
        Err(refusal) => return respond::refused(edge, refusal, version),
    };
    let mut response = match edge.admission(&asked) {
        Admission::Refused(why, elsewhere) => respond::not_admitted(edge, &asked, why, elsewhere),
        Admission::Served => {
            edge.sessions.served(asked.session, edge.now());
            match asked.method {
                Method::GET | Method::HEAD => {
                    let response = respond::serve(edge, &asked, connection).await;
                    prefetch::ahead(edge, &asked);
                    response
                }
                _ => respond::forward(edge, &asked, RequestBody::of(body), connection).await,
            }
        }
    };
    if let Some(access) = &edge.access {
        access.open(asked, began, &mut response);
    }
    response
}

async fn own_path(
    edge: &Arc<Edge>,
    own: &OwnPaths,
    request: &Parts,
    path: &str,
    body: Incoming,
) -> (StatusCode, String) {
    let may = || is_allowed(&request.headers, &own.service_token);
    let read = matches!(request.method, Method::GET | Method::HEAD);
    match path {
        _ if !own.enabled => (StatusCode::NOT_FOUND, "not here\n".into()),
        "healthz" if read => (StatusCode::OK, "ok\n".into()),
        "readyz" if read && edge.readiness.is_ready() && !edge.is_draining() => (StatusCode::OK, "ready\n".into()),
        "readyz" if read => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
        "metrics" if read && own.metrics.is_none() => (StatusCode::NOT_FOUND, "no metrics recorder runs\n".into()),
        "metrics" | "purge" if !may() => (StatusCode::UNAUTHORIZED, "the service token is needed\n".into()),
        "metrics" if read => (StatusCode::OK, own.metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default()),
        "purge" if request.method == Method::POST => {
            let whole = Limited::new(body, PURGE_MAX_BYTES).collect();
            match tokio::time::timeout(edge.plan.header_timeout, whole).await {
                Ok(Ok(bytes)) => purge(edge, &bytes.to_bytes()).await,
                Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("the request's body: {error}\n")),
                Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request's body did not come\n".into()),
            }
        }
        "purge" | "metrics" | "healthz" | "readyz" => (StatusCode::METHOD_NOT_ALLOWED, "not by this method\n".into()),
        _ => (StatusCode::NOT_FOUND, "not here\n".into()),
    }
}

//! Connections: accepted up to a limit, parsed strictly, drained within a bound.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, Version};
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

use crate::admit::Admission;
use crate::body::EdgeBody;
use crate::connection::{Connection, Shared};
use crate::edge::Edge;
use crate::origin::RequestBody;
use crate::receive::{Refusal, check_head, receive};
use crate::respond;

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
            async move { Ok::<_, Infallible>(answer(&edge, &own, &shared, peer, request).await) }
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

/// The path of a request.
async fn answer(
    edge: &Arc<Edge>,
    own: &OwnPaths,
    connection: &Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<EdgeBody> {
    let began = edge.now();
    let seen = connection.begin_request();
    let has_body = !request.body().is_end_stream();
    let (parts, body) = request.into_parts();
    let version = parts.version;
    if let Err(refusal) = check_head(&parts, has_body, seen) {
        return respond::refused(edge, refusal, version);
    }
    if parts.method == Method::OPTIONS {
        return respond::preflight(edge, &parts.headers);
    }
    if !edge.plan.methods.allow(&parts.method) {
        let refusal = Refusal { status: StatusCode::METHOD_NOT_ALLOWED, word: "method" };
        return respond::refused(edge, refusal, version);
    }
    if let Some(path) = parts.uri.path().strip_prefix(OWN_PATHS) {
        let head_only = parts.method == Method::HEAD;
        let (status, body) = own_path(edge, own, path, spillway_service::auth::bearer(&parts.headers));
        return respond::page(edge, status, body, head_only);
    }
    let asked = match receive(parts, peer, &edge.plan, &edge.sessions) {
        Ok(asked) => asked,
        Err(refusal) => return respond::refused(edge, refusal, version),
    };
    let mut response = match edge.admission(&asked) {
        Admission::Refused(why, elsewhere) => respond::not_admitted(edge, &asked, why, elsewhere),
        Admission::Served => {
            edge.sessions.served(asked.session, edge.now());
            match asked.method {
                Method::GET | Method::HEAD => respond::serve(edge, &asked, connection).await,
                _ => respond::forward(edge, &asked, RequestBody::of(body), connection).await,
            }
        }
    };
    if seen.last && version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(access) = &edge.access {
        access.open(asked, began, &mut response);
    }
    response
}

fn own_path(edge: &Edge, own: &OwnPaths, path: &str, bearer: Option<&str>) -> (StatusCode, String) {
    let token_hash = spillway_service::auth::token_hash;
    match path {
        _ if !own.enabled => (StatusCode::NOT_FOUND, "not here\n".into()),
        "healthz" => (StatusCode::OK, "ok\n".into()),
        "readyz" if edge.readiness.is_ready() && !edge.is_draining() => (StatusCode::OK, "ready\n".into()),
        "readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
        "metrics" => match (&own.metrics, bearer) {
            (None, _) => (StatusCode::NOT_FOUND, "no metrics recorder runs\n".into()),
            // Hashes are compared, so timing tells nothing of the token.
            (Some(metrics), Some(token))
                if !own.service_token.is_empty() && token_hash(token) == token_hash(&own.service_token) =>
            {
                (StatusCode::OK, metrics.render())
            }
            _ => (StatusCode::UNAUTHORIZED, "the service token is needed\n".into()),
        },
        _ => (StatusCode::NOT_FOUND, "not here\n".into()),
    }
}

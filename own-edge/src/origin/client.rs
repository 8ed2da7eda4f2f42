//! One server: a pooled client with a limit and a time for each step, and what is known of its health.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Either, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::{Counter, Gauge, counter, gauge};
use spillway_model::{Clock, Millis};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::choice::{Place, Role};
use super::config::{ProbePlan, ServerPlan};
use super::health::{Change, FAILURES_MAX, Health, Turn};
use super::{Answer, FetchError, OriginRequest, RequestBody, Seen};
use crate::plan::Plan;

/// Idle connections are closed before usual servers do, so that a request seldom meets a dead one.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// HTTP/1: what is read at once, and the longest head. A part holds the whole buffer that it came in, so these are small.
const H1_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2: bytes under way of one answer, and of all on a connection. The usual 64 KiB would let a far origin send a
/// few Mbit/s.
const H2_STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Bytes that a client may send with one request.
const REQUEST_BODY_MAX_BYTES: usize = 16 * 1024 * 1024;
/// A probe that failed counts as so many fetches: it asks for what always works.
const PROBE_WEIGHT: u32 = 2;
/// Bytes of a probe's answer that are read, so that its connection can be used again.
const PROBE_MAX_BYTES: usize = 64 * 1024;

type RequestBytes = Either<Empty<Bytes>, Limited<Incoming>>;

/// A server that the edge fetches from.
pub(super) struct Server {
    pub place: Place,
    pub probe: Option<ProbePlan>,
    client: Client<HttpsConnector<HttpConnector>, RequestBytes>,
    /// Scheme, host and path in front of what is asked for.
    base: String,
    host: HeaderValue,
    free: Arc<Semaphore>,
    /// The same for requests that it holds on purpose: they must not take the others' places while nothing happens.
    held: Arc<Semaphore>,
    connect: Duration,
    /// Something must come within, while it answers.
    pub read: Duration,
    clock: Arc<dyn Clock>,
    health: Mutex<Health>,
    /// It is out because it says nothing any more: who still waits for it waits in vain.
    silent: watch::Sender<bool>,
    exported: Exported,
}

struct Exported {
    fetches: Counter,
    errors: [Counter; 6],
    bytes: Counter,
    failovers: Counter,
    up: Gauge,
}

/// How a request to a server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or none in time.
    Connect,
    /// Nothing came in time.
    Timeout,
    /// What came was no answer, or was cut.
    Answer,
    /// As many requests as it may get are open already.
    Busy,
    /// A status that says that the server, not the request, is at fault.
    Status,
    /// An edge of ours refused to answer another one.
    Refused,
}

const FAILURES: [(Failure, &str); 6] = [
    (Failure::Connect, "connect"),
    (Failure::Timeout, "timeout"),
    (Failure::Answer, "answer"),
    (Failure::Busy, "busy"),
    (Failure::Status, "status"),
    (Failure::Refused, "refused"),
];

impl Server {
    pub(super) fn new(server: &ServerPlan, plan: &Plan, clock: Arc<dyn Clock>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(server.connect));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(server.tls.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_buf_size(H1_BUFFER_BYTES)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .build(connector);
        let label = || server.place.name.clone();
        let exported = Exported {
            fetches: counter!("spillway_edge_origin_fetches_total", "origin" => label()),
            errors: FAILURES
                .map(|(_, kind)| counter!("spillway_edge_origin_errors_total", "origin" => label(), "kind" => kind)),
            bytes: counter!("spillway_edge_origin_bytes_total", "origin" => label()),
            failovers: counter!("spillway_edge_origin_failovers_total", "origin" => label()),
            up: gauge!("spillway_edge_origin_up", "origin" => label()),
        };
        exported.up.set(1.0);
        let target = &server.target;
        Self {
            place: server.place.clone(),
            client,
            base: format!("{}://{}{}", target.scheme, target.authority, target.prefix),
            host: HeaderValue::from_str(&target.authority).expect("an authority of a parsed URL is a header value"),
            free: Arc::new(Semaphore::new(plan.origin_requests)),
            held: Arc::new(Semaphore::new(plan.origin_requests)),
            connect: server.connect,
            read: plan.origin_read,
            clock,
            silent: watch::Sender::new(false),
            health: Mutex::new(Health::new(server.hold_max_ms, server.probe.is_some())),
            probe: server.probe.clone(),
            exported,
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        self.clock.monotonic()
    }

    pub(super) fn is_up(&self) -> bool {
        self.health().is_up()
    }

    /// Whether a client's request may go there now.
    pub(super) fn turn(&self) -> Turn {
        let now = self.now();
        self.health().turn(now)
    }

    /// Asks, and says whether the answer speaks against the server.
    ///
    /// # Errors
    /// [`FetchError`], within `limit`.
    pub(super) async fn ask(
        self: &Arc<Self>,
        asked: Ask<'_>,
        limit: Duration,
        seen: Option<Arc<Seen>>,
    ) -> Result<(Answer, Option<Failure>), FetchError> {
        let (began, turn, hold) = (self.now(), asked.turn, asked.request.hold);
        let asked_at = Instant::now();
        self.exported.fetches.increment(1);
        let leaves = asked.leaves;
        let result = tokio::select! {
            result = self.exchange(asked, limit, seen) => result,
            () = self.silence(), if leaves => Err(TOO_LATE),
        };
        let failure = match &result {
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                let in_vain = hold.is_some_and(|hold| hold.was_kept(asked_at.elapsed()));
                (!in_vain).then_some(Failure::Status)
            }
            Ok(answer) => self.failure(answer.status),
            Err((_, failure)) => Some(*failure),
        };
        // An edge that passes on its origin's error lives.
        if failure.is_none() || (failure == Some(Failure::Status) && self.place.role != Role::Origin) {
            self.changed(|health, now| health.answered(began, now), "an answer", false);
        }
        match failure {
            // It might have held it for longer than it was waited for.
            Some(failure @ Failure::Timeout) if hold.is_some_and(|hold| limit < hold.longest()) => {
                self.count_failure(failure);
            }
            Some(failure) => self.failed(failure, turn),
            None => {}
        }
        let mut answer = result.map_err(|(error, _)| error)?;
        if failure.is_none() {
            answer.body.speaks_well();
        }
        Ok((answer, failure))
    }

    /// What a status says of the server: an edge of ours passes on what its origins say.
    fn failure(&self, status: StatusCode) -> Option<Failure> {
        match status {
            StatusCode::LOOP_DETECTED | StatusCode::MISDIRECTED_REQUEST if self.place.role != Role::Origin => {
                Some(Failure::Refused)
            }
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => None,
            status if status.is_server_error() => Some(Failure::Status),
            _ => None,
        }
    }

    /// Bytes of a body came.
    pub(super) fn sent(&self, bytes: u64) {
        self.exported.bytes.increment(bytes);
    }

    /// A body came to its end.
    pub(super) fn ended(&self) {
        self.health().ended();
    }

    /// Counts a failure, and what it says of the server's health.
    pub(super) fn failed(&self, failure: Failure, turn: Turn) {
        let why = self.count_failure(failure);
        let weight = match failure {
            // Our own limit.
            Failure::Busy => return,
            // A shield that can't reach the origin either is no worse than the origin, and a storm of all edges on an
            // origin that comes back is what it is there against.
            Failure::Status if self.place.role != Role::Origin => return,
            // Whether it or what it waits for itself is slow, its probe knows.
            Failure::Timeout if self.place.role != Role::Origin && self.probe.is_some() => return,
            // For a peer another one stands by, and the probe brings it back.
            Failure::Connect if self.place.role == Role::Peer => FAILURES_MAX,
            _ => 1,
        };
        let silent = matches!(failure, Failure::Connect | Failure::Timeout);
        self.changed(|health, now| health.failed(turn, weight, now), why, silent);
    }

    fn count_failure(&self, failure: Failure) -> &'static str {
        let Some(kind) = FAILURES.iter().position(|(known, _)| *known == failure) else { return "failure" };
        self.exported.errors[kind].increment(1);
        FAILURES[kind].1
    }

    fn changed(&self, change: impl FnOnce(&mut Health, Millis) -> Option<Change>, why: &'static str, silent: bool) {
        let now = self.now();
        let change = change(&mut self.health(), now);
        match change {
            Some(Change::Out(hold_ms)) => {
                self.exported.up.set(0.0);
                self.silent.send_replace(silent);
                tracing::warn!(origin = self.place.name, why, hold_ms, "an origin fails");
            }
            Some(Change::Back) => {
                self.exported.up.set(1.0);
                self.silent.send_replace(false);
                tracing::info!(origin = self.place.name, why, "an origin answers again");
            }
            None => {}
        }
    }

    /// Waits until it is out because it says nothing any more.
    pub(super) async fn silence(&self) {
        // It ends with the server, which is borrowed here.
        let _ = self.silent.subscribe().wait_for(|silent| *silent).await;
    }

    /// Another server is asked in its place.
    pub(super) fn passed_over(&self) {
        self.exported.failovers.increment(1);
    }

    async fn exchange(
        self: &Arc<Self>,
        asked: Ask<'_>,
        limit: Duration,
        seen: Option<Arc<Seen>>,
    ) -> Result<Answer, (FetchError, Failure)> {
        let until = Instant::now() + limit;
        let places = if asked.request.hold.is_some() { &self.held } else { &self.free };
        let place = tokio::time::timeout(self.connect.min(limit), places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err((FetchError::Busy, Failure::Busy)) };
        let method = asked.request.method.clone();
        let request = self.request(asked).ok_or(UNREADABLE)?;
        let response = tokio::time::timeout_at(until, self.client.request(request))
            .await
            .map_err(|_| TOO_LATE)?
            .map_err(|error| fetch_error(&error))?;
        let (parts, body) = response.into_parts();
        if parts.status.is_informational() {
            return Err(UNREADABLE);
        }
        Ok(Answer::new(&method, parts, body, Arc::clone(self), seen, place))
    }

    fn request(&self, asked: Ask<'_>) -> Option<Request<RequestBytes>> {
        let OriginRequest { method, path_and_query, informed, .. } = asked.request;
        let uri: Uri = format!("{}{path_and_query}", self.base).parse().ok()?;
        let body = match asked.body.0 {
            Some(body) => Either::Right(Limited::new(body, REQUEST_BODY_MAX_BYTES)),
            None => Either::Left(Empty::new()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = asked.headers;
        request.headers_mut().insert(HOST, self.host.clone());
        if let Some(informed) = informed.clone() {
            hyper::ext::on_informational(&mut request, move |head| informed.hear(head.status(), head.headers()));
        }
        Some(request)
    }

    /// Asks whether the server works, unless it is held out.
    pub(super) async fn probe(&self, probe: &ProbePlan) {
        let began = self.now();
        let turn = self.health().probe_turn(began);
        if turn == Turn::Leave {
            return;
        }
        let result = tokio::time::timeout(probe.timeout, self.probe_answer(&probe.path)).await;
        let failure = match result {
            Ok(Some(status)) if status.as_u16() < probe.bad_from => None,
            Ok(Some(_)) => Some("probe-status"),
            Ok(None) => Some("probe-answer"),
            Err(_) => Some("probe-timeout"),
        };
        match failure {
            None => self.changed(|health, now| health.answered(began, now), "a probe", false),
            Some(why) => {
                let silent = why != "probe-status";
                self.changed(|health, now| health.failed(turn, PROBE_WEIGHT, now), why, silent);
            }
        }
    }

    async fn probe_answer(&self, path: &str) -> Option<StatusCode> {
        let mut request = Request::new(Either::Left(Empty::new()));
        *request.uri_mut() = format!("{}{path}", self.base).parse().ok()?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("spillway-edge-probe"));
        let response = self.client.request(request).await.ok()?;
        let status = response.status();
        // A longer one ends its connection, and is an answer all the same.
        let _ = Limited::new(response.into_body(), PROBE_MAX_BYTES).collect().await;
        Some(status)
    }
}

/// A request on its way to one server.
pub(super) struct Ask<'a> {
    pub request: &'a OriginRequest<'a>,
    pub headers: HeaderMap,
    pub body: RequestBody,
    pub turn: Turn,
    /// Whether it goes elsewhere when the server falls silent.
    pub leaves: bool,
}

pub(super) const TOO_LATE: (FetchError, Failure) = (FetchError::Timeout, Failure::Timeout);

pub(super) const UNREADABLE: (FetchError, Failure) = (FetchError::Answer, Failure::Answer);

fn fetch_error(error: &hyper_util::client::legacy::Error) -> (FetchError, Failure) {
    let mut sources = std::iter::successors(std::error::Error::source(error), |inner| inner.source());
    let timed_out = sources.any(|inner| {
        inner.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
    });
    match (error.is_connect(), timed_out) {
        (true, true) => (FetchError::Timeout, Failure::Connect),
        (true, false) => (FetchError::Connect, Failure::Connect),
        (false, true) => (FetchError::Timeout, Failure::Timeout),
        (false, false) => UNREADABLE,
    }
}

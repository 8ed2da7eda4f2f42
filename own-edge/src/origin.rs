//! The origin: one pooled client with a limit and a time for each step, and what is known of the origin's health.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt as _, Either, Empty, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use metrics::{Counter, counter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Plan, Target};
use crate::informed::Informed;
use crate::rules::policy::Framing;

/// Idle connections are closed before usual servers do, so that a request seldom meets a dead one.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// HTTP/2: bytes under way of one answer, and of all on a connection. The usual 64 KiB would let a far origin send a
/// few Mbit/s.
const H2_STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const H2_CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Why nothing usable came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// No connection.
    #[error("connect to the origin")]
    Connect,
    /// No connection, head or next piece in time.
    #[error("wait for the origin")]
    Timeout,
    /// A connection that ended early, or an answer that can't be understood.
    #[error("read the origin's answer")]
    Answer,
    /// As many requests as the origin may get are open already.
    #[error("find a free request to the origin")]
    Busy,
}

impl FetchError {
    /// Word for `Cache-Status` and metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Connect => "origin-connect",
            Self::Timeout => "origin-timeout",
            Self::Answer => "origin-answer",
            Self::Busy => "origin-busy",
        }
    }

    /// What the client is told.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Connect | Self::Answer => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What the origin is asked.
pub(crate) struct OriginRequest<'a> {
    pub method: Method,
    pub path_and_query: &'a str,
    pub headers: HeaderMap,
    pub body: RequestBody,
    /// Who hears of what comes before the answer (103).
    pub informed: Option<Informed>,
}

/// Nothing, or what a client sends.
#[derive(Default)]
pub(crate) struct RequestBody(Option<Incoming>);

/// Bytes that a client may send with one request.
const REQUEST_BODY_MAX_BYTES: usize = 16 * 1024 * 1024;

impl RequestBody {
    /// What the client of a request sends.
    pub(crate) fn of(incoming: Option<Incoming>) -> Self {
        Self(incoming.filter(|incoming| !incoming.is_end_stream()))
    }
}

/// The origin.
pub(crate) struct Origin {
    client: Client<HttpsConnector<HttpConnector>, Either<Empty<Bytes>, Limited<Incoming>>>,
    target: Target,
    host: HeaderValue,
    free: Arc<Semaphore>,
    first_byte: Duration,
    read: Duration,
    connect: Duration,
    seen: Arc<Seen>,
}

/// Counts since the last reading.
struct Seen {
    fetches: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    exported_errors: [Counter; 5],
    exported_bytes: Counter,
}

/// Origin traffic of an interval: requests, failed requests, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OriginInterval {
    pub fetches: u64,
    pub failed: u64,
    pub bytes: u64,
}

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    pub body: AnswerBody,
}

/// The rest of an answer. Holds its place among the requests to the origin.
pub(crate) struct AnswerBody {
    body: Incoming,
    read: Duration,
    seen: Arc<Seen>,
    _place: OwnedSemaphorePermit,
}

const ERROR_KINDS: [&str; 5] = ["connect", "timeout", "answer", "busy", "status"];

impl Seen {
    fn failed(&self, kind: usize) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.exported_errors[kind].increment(1);
    }
}

impl Origin {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(plan.origin_connect));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(plan.origin_tls.clone())
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
            .build(connector);
        let seen = Seen {
            fetches: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            exported_errors: ERROR_KINDS.map(|kind| counter!("spillway_edge_origin_errors_total", "kind" => kind)),
            exported_bytes: counter!("spillway_edge_origin_bytes_total"),
        };
        Self {
            client,
            host: HeaderValue::from_str(&plan.origin.authority)
                .expect("an authority of a parsed URL is a header value"),
            target: plan.origin.clone(),
            free: Arc::new(Semaphore::new(plan.origin_requests)),
            first_byte: plan.origin_first_byte,
            read: plan.origin_read,
            connect: plan.origin_connect,
            seen: Arc::new(seen),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`FetchError`], within the sum of the configured times.
    pub(crate) async fn fetch(&self, request: OriginRequest<'_>) -> Result<Answer, FetchError> {
        self.seen.fetches.fetch_add(1, Ordering::Relaxed);
        let path_and_query = request.path_and_query;
        let result = self.ask(request).await;
        match &result {
            Ok(answer) if answer.status.is_server_error() => self.seen.failed(4),
            Ok(_) => {}
            Err(error) => {
                self.seen.failed(*error as usize);
                tracing::debug!(%error, path_and_query, "fetch failed");
            }
        }
        result
    }

    async fn ask(&self, asked: OriginRequest<'_>) -> Result<Answer, FetchError> {
        let OriginRequest { method, path_and_query, headers, body, informed } = asked;
        let place = tokio::time::timeout(self.connect, self.free.clone().acquire_owned())
            .await
            .map_err(|_| FetchError::Busy)?
            .map_err(|_| FetchError::Busy)?;
        let uri: Uri =
            format!("{}://{}{}{path_and_query}", self.target.scheme, self.target.authority, self.target.prefix)
                .parse()
                .map_err(|_| FetchError::Answer)?;
        let body = match body.0 {
            Some(body) => Either::Right(Limited::new(body, REQUEST_BODY_MAX_BYTES)),
            None => Either::Left(Empty::new()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.host.clone());
        if let Some(informed) = informed {
            hyper::ext::on_informational(&mut request, move |head| informed.hear(head.status(), head.headers()));
        }
        let response = tokio::time::timeout(self.first_byte, self.client.request(request))
            .await
            .map_err(|_| FetchError::Timeout)?
            .map_err(|error| fetch_error(&error))?;
        let (parts, body) = response.into_parts();
        if parts.status.is_informational() {
            return Err(FetchError::Answer);
        }
        let framing = framing(&method, &parts, &body);
        let body = AnswerBody { body, read: self.read, seen: self.seen.clone(), _place: place };
        Ok(Answer { status: parts.status, headers: parts.headers, framing, body })
    }

    /// Counts since the last call.
    pub(crate) fn take_interval(&self) -> OriginInterval {
        OriginInterval {
            fetches: self.seen.fetches.swap(0, Ordering::Relaxed),
            failed: self.seen.failed.swap(0, Ordering::Relaxed),
            bytes: self.seen.bytes.swap(0, Ordering::Relaxed),
        }
    }
}

fn fetch_error(error: &hyper_util::client::legacy::Error) -> FetchError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut) {
            return FetchError::Timeout;
        }
        source = inner.source();
    }
    if error.is_connect() { FetchError::Connect } else { FetchError::Answer }
}

fn framing(method: &Method, head: &Parts, body: &Incoming) -> Framing {
    let (status, headers) = (head.status, &head.headers);
    if *method == Method::HEAD {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        return length.map_or(Framing::UntilClose, Framing::Length);
    }
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Framing::Length(0);
    }
    if let Some(length) = body.size_hint().exact() {
        return Framing::Length(length);
    }
    // Its frames say where it ends.
    if head.version == Version::HTTP_2 {
        return Framing::Chunked;
    }
    let chunked = headers.get_all(TRANSFER_ENCODING).iter().next_back().is_some_and(|value| {
        value
            .as_bytes()
            .rsplit(|byte| *byte == b',')
            .next()
            .unwrap_or_default()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    });
    if chunked { Framing::Chunked } else { Framing::UntilClose }
}

impl AnswerBody {
    /// The next bytes; `None` at the proper end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        loop {
            match tokio::time::timeout(self.read, self.body.frame()).await {
                Err(_) => {
                    self.seen.failed(FetchError::Timeout as usize);
                    return Some(Err(FetchError::Timeout));
                }
                Ok(None) => return None,
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "origin's answer ended early");
                    self.seen.failed(FetchError::Answer as usize);
                    return Some(Err(FetchError::Answer));
                }
                Ok(Some(Ok(frame))) => {
                    // Trailers are dropped.
                    if let Ok(bytes) = frame.into_data() {
                        self.seen.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        self.seen.exported_bytes.increment(bytes.len() as u64);
                        return Some(Ok(bytes));
                    }
                }
            }
        }
    }
}

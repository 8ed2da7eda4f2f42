//! Receive: the HTTP side of a beacon. Body, encoding, type, origin; no meaning yet.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use futures::StreamExt as _;
use spillway_model::PropertyId;
use spillway_model::limits::{BEACON_MAX_BYTES, BEACON_MAX_UNPACKED_BYTES};
use spillway_service::device::Device;
use spillway_service::geo::Place;
use spillway_wire::beacon::{self, Accepted};
use spillway_wire::cmcd::SenderMark;

use crate::limit::Prefix;
use crate::refusal::Refusal;
use crate::{App, admit, batch, cmcd};

/// A refused body is read on (and thrown away) up to here, so that the sender hears the answer instead of a reset.
const DRAIN_MAX_BYTES: usize = 32 << 20;
/// And for as long as this.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Larger bodies are unpacked and read beside the event loop.
const INLINE_MAX_BYTES: usize = 32 << 10;
/// A browser may keep a preflight's answer this long (Chromium's own limit is two hours).
const PREFLIGHT_MAX_AGE_S: &str = "7200";

/// Source of an SDK's events.
pub(crate) const SDK: &str = "sdk";

/// What an endpoint takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intake {
    Beacon,
    Cmcd,
}

impl Intake {
    const fn media_types(self) -> [&'static str; 2] {
        match self {
            Self::Beacon => ["text/plain", "application/json"],
            Self::Cmcd => [spillway_wire::cmcd::MEDIA_TYPE, "text/plain"],
        }
    }
}

/// Where a beacon came from.
pub(crate) struct Sender {
    pub(crate) property: PropertyId,
    /// All that is left of the address, which goes no further.
    pub(crate) place: Place,
    pub(crate) prefix: Prefix,
    /// All that is left of the user agent.
    pub(crate) device: Device,
    /// Global Privacy Control is on.
    pub(crate) gpc: bool,
    /// `sdk`, or the CMCD target.
    pub(crate) source: String,
    /// CMCD: tells senders of records without `sid` apart.
    pub(crate) mark: Option<SenderMark>,
}

/// What was read of a request's body.
pub(crate) struct Taken<T> {
    pub(crate) sender: Sender,
    pub(crate) read: T,
    /// Bytes, unpacked.
    pub(crate) size: usize,
    pub(crate) received_ms: u64,
}

/// `POST {path}`.
pub(crate) async fn beacon(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request<Body>,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let answered = async {
        let taken = take(&app, Intake::Beacon, &query, request, parse).await?;
        let admitted = admit::admit(&app, &taken.sender, taken.read, taken.received_ms);
        batch::store(&app, admitted, taken.size).await
    };
    answer(&app, StatusCode::ACCEPTED, answered.await, origin)
}

fn parse(body: &Bytes) -> Result<beacon::Received, Refusal> {
    beacon::parse(body).map_err(Refusal::Beacon)
}

/// The answer to a beacon of either kind, in the books and for browsers.
pub(crate) fn answer(
    app: &App,
    status: StatusCode,
    answered: Result<Accepted, Refusal>,
    origin: Option<HeaderValue>,
) -> Response {
    let (response, origin) = match answered {
        Ok(accepted) => {
            app.account.beacon_accepted();
            ((status, Json(accepted)).into_response(), origin)
        }
        Err(refusal) => {
            app.account.beacon_refused(refusal.reason());
            // An origin that may not send learns nothing from the answer either.
            let origin = origin.filter(|_| !matches!(refusal, Refusal::OriginNotAllowed(_)));
            (refusal.into_response(), origin)
        }
    };
    cors(response, origin)
}

/// Checks a request, and reads its body with `parse`, away from the event loop if it is large.
pub(crate) async fn take<T: Send + 'static>(
    app: &Arc<App>,
    intake: Intake,
    query: &BTreeMap<String, String>,
    request: Request<Body>,
    parse: fn(&Bytes) -> Result<T, Refusal>,
) -> Result<Taken<T>, Refusal> {
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let headers = &parts.headers;
    let sender = match check(app, intake, query, peer, headers) {
        Ok(sender) => sender,
        Err(refusal) => {
            drain(body).await;
            return Err(refusal);
        }
    };
    let timeout = Duration::from_millis(app.config.body_timeout_ms);
    let bytes = tokio::time::timeout(timeout, read(body)).await.map_err(|_| Refusal::BodyTimeout)??;
    let received_ms = app.clock.now().0;
    let gzip = is_gzip(headers, &bytes)?;
    let read = move || {
        let plain = if gzip { Bytes::from(gunzip(&bytes)?) } else { bytes };
        Ok((parse(&plain)?, plain.len()))
    };
    let (read, size) = if gzip || content_length(headers).is_none_or(|length| length > INLINE_MAX_BYTES) {
        tokio::task::spawn_blocking(read).await.map_err(|_| Refusal::BodyCut)??
    } else {
        read()?
    };
    Ok(Taken { sender, read, size, received_ms })
}

/// Everything that can be said without the body.
fn check(
    app: &App,
    intake: Intake,
    query: &BTreeMap<String, String>,
    peer: Option<SocketAddr>,
    headers: &HeaderMap,
) -> Result<Sender, Refusal> {
    let peer = peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let deployment = app.deployed.now();
    let client = deployment.client(peer, headers, app.config.trusted_header.as_deref());
    let prefix = Prefix::of(client.address);
    app.limits.check_prefix(prefix)?;
    let key = query.get("k").filter(|key| !key.is_empty()).ok_or(Refusal::MissingKey)?;
    let (property, origins) = deployment.properties.get(key.as_str()).ok_or(Refusal::UnknownKey)?;
    app.limits.check_key(key)?;
    if let Some(origin) = headers.get(header::ORIGIN)
        && !origins.is_empty()
        && !origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    {
        let shown = String::from_utf8_lossy(origin.as_bytes()).chars().take(128).collect();
        return Err(Refusal::OriginNotAllowed(shown));
    }
    let media_type = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap_or("?"));
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !intake.media_types().iter().any(|valid| essence.eq_ignore_ascii_case(valid)) {
        return Err(Refusal::UnsupportedMediaType(media_type.chars().take(128).collect()));
    }
    if content_length(headers).is_some_and(|length| length > BEACON_MAX_BYTES) {
        return Err(Refusal::BodyTooLarge);
    }
    let (source, mark) = match intake {
        Intake::Beacon => (SDK.to_owned(), None),
        Intake::Cmcd => (cmcd::source(query.get("t").map(String::as_str))?, Some(cmcd::mark(app, client.address))),
    };
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Sender {
        property: property.clone(),
        place: deployment.locate(&client),
        prefix,
        device: app.devices.of(agent),
        gpc: headers.get("sec-gpc").is_some_and(|value| value.as_bytes() == b"1"),
        source,
        mark,
    })
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) async fn read(body: Body) -> Result<Bytes, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refusal::BodyCut)?;
        if bytes.len() + chunk.len() > BEACON_MAX_BYTES {
            drain(Body::from_stream(chunks)).await;
            return Err(Refusal::BodyTooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

pub(crate) async fn drain(body: Body) {
    let mut chunks = body.into_data_stream();
    let mut left = DRAIN_MAX_BYTES;
    let reading = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    // Whoever sends slower has to live with the reset.
    let _ = tokio::time::timeout(DRAIN_MAX, reading).await;
}

pub(crate) fn is_gzip(headers: &HeaderMap, body: &[u8]) -> Result<bool, Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?"));
    match encoding.to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "" | "identity" => Ok(body.starts_with(&[0x1f, 0x8b])),
        other => Err(Refusal::UnsupportedMediaType(format!("encoding {other}").chars().take(128).collect())),
    }
}

pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut plain = Vec::new();
    let mut limited = GzDecoder::new(bytes).take(BEACON_MAX_UNPACKED_BYTES as u64 + 1);
    limited.read_to_end(&mut plain).map_err(|_| Refusal::BadGzip)?;
    if plain.len() > BEACON_MAX_UNPACKED_BYTES { Err(Refusal::BodyTooLarge) } else { Ok(plain) }
}

/// `OPTIONS {path}`: senders of `application/json`, `application/cmcd` or gzip come here.
pub(crate) async fn preflight(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let origin = headers.get(header::ORIGIN).cloned();
    let deployment = app.deployed.now();
    let known = query.get("k").and_then(|key| deployment.properties.get(key.as_str()));
    if let (Some(origin), Some((_, origins))) = (&origin, known)
        && !origins.is_empty()
        && !origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
    {
        return Refusal::OriginNotAllowed(String::from_utf8_lossy(origin.as_bytes()).chars().take(128).collect())
            .into_response();
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, content-encoding"));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE_S));
    cors(response, origin)
}

fn cors(mut response: Response, origin: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("write");
        encoder.finish().expect("finish")
    }

    #[test]
    fn gzip_is_unpacked_up_to_the_limit() {
        assert_eq!(gunzip(&gzip(b"beacon")).expect("plain"), b"beacon");
        let bomb = gzip(&vec![0; BEACON_MAX_UNPACKED_BYTES + 1]);
        assert!(bomb.len() < 10_000);
        assert!(matches!(gunzip(&bomb), Err(Refusal::BodyTooLarge)));
        let whole = gzip(b"beacon");
        assert!(matches!(gunzip(&whole[..whole.len() - 3]), Err(Refusal::BadGzip)));
    }
}

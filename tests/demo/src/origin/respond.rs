//! Answers and their headers. CORS is on every one of them, or a browser would hide the status.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::media::Rendition;

pub(crate) const HLS: &str = "application/vnd.apple.mpegurl";
pub(crate) const DASH: &str = "application/dash+xml";
const TEXT: &str = "text/plain; charset=utf-8";

const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");
const METHODS: &str = "GET, HEAD, OPTIONS";
const EXPOSED: &str = "Age, Cache-Status, Content-Length, Date, Retry-After, X-Cdn";

/// The media type of a rendition's segments.
pub(crate) fn media_type(rendition: &Rendition) -> &'static str {
    if rendition.is_video() { "video/mp4" } else { "audio/mp4" }
}

/// Lets every page read the answer, its timing and the headers that tell of caches.
pub(crate) fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

/// Answer to `OPTIONS`: anything a player may want to send, remembered for ten minutes.
pub(crate) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    allow_every_origin(headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Answer to a method that changes something.
pub(crate) fn method_not_allowed() -> Response {
    let mut response = Response::new(Body::from(format!("valid methods: {METHODS}\n")));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    allow_every_origin(response.headers_mut());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
    response
}

/// An answer before it is known whether the body is wanted.
pub(crate) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    max_age_s: u32,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Bytes>, content_type: &'static str, max_age_s: u32) -> Self {
        let (status, body) = (StatusCode::OK, body.into());
        Self { status, content_type, max_age_s, body }
    }

    /// 404 with its reason, which caches may keep: it spares the origin a player that insists.
    pub(crate) fn not_found(why: String, max_age_s: u32) -> Self {
        let body = Bytes::from(why + "\n");
        Self { status: StatusCode::NOT_FOUND, content_type: TEXT, max_age_s, body }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    /// `with_body` false answers `HEAD`: all headers, the length included.
    pub(crate) fn into_response(self, with_body: bool) -> Response {
        let length = self.body.len();
        let body = if with_body { Body::from(self.body) } else { Body::empty() };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        allow_every_origin(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        let cache_control = HeaderValue::from_str(&format!("public, max-age={}", self.max_age_s))
            .expect("digits are valid in a header");
        headers.insert(CACHE_CONTROL, cache_control);
        response
    }
}

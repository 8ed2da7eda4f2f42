//! Answers: the headers that all of them share.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

/// Epoch of the manifest that an answer comes from; 0 without one.
pub(crate) const EPOCH_HEADER: &str = "x-spillway-epoch";
/// Why an answer is not what was asked for.
pub(crate) const REASON_HEADER: &str = "x-spillway-reason";

/// Media type of [`open`]'s JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// 200 with everything that a player on any page needs, never stored. A layer for CORS costs as much as the answer.
pub(crate) fn open(media_type: HeaderValue, body: Vec<u8>, epoch: HeaderValue) -> Response {
    const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
    const ANYONE: HeaderValue = HeaderValue::from_static("*");
    const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after,x-spillway-epoch,x-spillway-why");
    const EPOCH: HeaderName = HeaderName::from_static(EPOCH_HEADER);
    // Six fit into the smallest table: one more, and it would take twice the memory and twice the time.
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYONE);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(EPOCH, epoch);
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers;
    response
}

/// A body of `media_type`, never stored.
pub(crate) fn body(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")];
    let body: Body = body.into();
    (status, headers, body).into_response()
}

/// JSON, never stored.
pub(crate) fn json(value: &impl Serialize) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

/// A refusal: a stable reason, and words for people.
pub(crate) fn refusal(status: StatusCode, reason: &'static str, detail: &str) -> Response {
    #[derive(Serialize)]
    struct Refusal<'a> {
        error: &'a str,
        detail: &'a str,
    }
    let mut response = json(&Refusal { error: reason, detail });
    *response.status_mut() = status;
    response.headers_mut().insert(REASON_HEADER, HeaderValue::from_static(reason));
    response
}

/// 307 to `location`, never stored; 502 if that can't stand in a header.
pub(crate) fn redirect(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(value) => {
            let mut response = body(StatusCode::TEMPORARY_REDIRECT, "text/plain", "");
            response.headers_mut().insert(header::LOCATION, value);
            response
        }
        Err(_) => refusal(StatusCode::BAD_GATEWAY, "bad_location", "the pathway's URL can't stand in a header"),
    }
}

/// The response with these values of `Set-Cookie`; what can't stand in a header is left out.
pub(crate) fn with_cookies(mut response: Response, cookies: impl Iterator<Item = String>) -> Response {
    for cookie in cookies.filter_map(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The response with the epoch that it comes from.
pub(crate) fn with_epoch(mut response: Response, epoch: u64) -> Response {
    response.headers_mut().insert(EPOCH_HEADER, HeaderValue::from(epoch));
    response
}

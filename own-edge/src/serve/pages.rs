//! Answers that are the edge's own: refusals, and short texts.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use crate::edge::Edge;
use crate::load::account::CacheResult;
use crate::respond::body::EdgeBody;
use crate::respond::cache_status::{CACHE_STATUS, Note};
use crate::serve::methods::Methods;
use crate::serve::receive::{Asked, Refusal};
use crate::serve::reply::Reply;

/// When a session that was not admitted may come again, seconds: after two load reports.
const RETRY_AFTER_S: &str = "4";

/// Makes `response` a short text, which nobody may keep.
pub(crate) fn plain(response: &mut Reply, text: String, head_only: bool) {
    response.headers.add(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers.add(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !head_only {
        response.body = EdgeBody::bytes(Bytes::from(text));
    }
}

/// The answer to a request that is not taken; ends the connection, since what follows may be its body.
pub(crate) fn refused(edge: &Edge, refusal: Refusal, version: Version) -> Reply {
    let mut response = Reply::counted(edge, refusal.status, CacheResult::Invalid);
    plain(&mut response, format!("request refused: {}\n", refusal.word), false);
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers.add_text(ALLOW, edge.terms().methods.listed());
    }
    if version < Version::HTTP_2 {
        response.headers.add(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a new session that is not admitted: elsewhere, or later.
pub(crate) fn not_admitted(edge: &Edge, asked: &Asked, why: &'static str, elsewhere: Option<String>) -> Reply {
    let status = if elsewhere.is_some() { StatusCode::TEMPORARY_REDIRECT } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = Reply::counted(edge, status, CacheResult::Refused);
    plain(&mut response, format!("not admitted: {why}\n"), asked.head_only);
    let note = Note { detail: Some(why), ..Note::new(CacheResult::Refused, Some("bypass")) };
    response.headers.add_text(CACHE_STATUS, note.text(edge));
    match elsewhere.and_then(|url| HeaderValue::from_str(&format!("{url}{}{}", asked.token(), asked.target())).ok()) {
        Some(location) => {
            response.headers.add(LOCATION, location);
        }
        None => {
            response.headers.add(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
    }
    response
}

/// The answer to a client that asks too often.
pub(crate) fn too_many(edge: &Edge) -> Reply {
    let mut reply = Reply::counted(edge, StatusCode::TOO_MANY_REQUESTS, CacheResult::Refused);
    plain(&mut reply, "too many requests of one client\n".into(), false);
    reply.headers.add(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// What a fault answers.
pub(crate) fn broken(edge: &Edge, status: StatusCode) -> Reply {
    let mut reply = Reply::counted(edge, status, CacheResult::Error);
    plain(&mut reply, "broken on purpose\n".into(), false);
    reply
}

/// The answer to a browser that asks whether it may.
pub(crate) fn preflight(methods: &Methods, headers: &HeaderMap) -> Reply {
    let mut response = Reply::new(StatusCode::NO_CONTENT);
    let out = &mut response.headers;
    out.add_text(ALLOW, methods.listed());
    out.add_text(ACCESS_CONTROL_ALLOW_METHODS, methods.listed());
    out.add(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        out.add(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

/// A short text that is no media: health and metrics.
pub(crate) fn page(status: StatusCode, body: String, head_only: bool) -> Reply {
    let mut response = Reply::new(status);
    plain(&mut response, body, head_only);
    response
}

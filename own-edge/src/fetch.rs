//! Fetches: one that fills for all who wait, and one that passes an answer to a single request.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
    VIA,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::cache_control::CacheControl;
use crate::edge::Edge;
use crate::fill::{Outcome, Writer};
use crate::object::{Head, Key, Object, Pieces};
use crate::origin::{Answer, FetchError};
use crate::policy::{Framing, Freshness, Keep, Times, freshness, keep};
use crate::receive::Asked;

/// After a failed revalidation what is kept serves for this long, where it may, before the origin is asked again.
const RETRY_MS: u64 = 2_000;

/// Fills `key` for all who wait, with `kept` as what to revalidate.
pub(crate) async fn fill(edge: Arc<Edge>, key: Key, kept: Option<Arc<Object>>, writer: Writer) {
    let outcome = run_fill(&edge, &key, kept, writer).await;
    edge.metrics.fills.count(outcome);
}

async fn run_fill(edge: &Arc<Edge>, key: &Key, kept: Option<Arc<Object>>, writer: Writer) -> FillResult {
    let asked = edge.now();
    let result = match &kept {
        Some(object) => revalidate(edge, key, object).await,
        None => edge.origin.fetch(Method::GET, key, request_headers(edge)).await,
    };
    let answer = match (result, &kept) {
        (Err(error), kept) => {
            writer.unlist();
            writer.publish(failed(edge, error, kept.as_ref()));
            return FillResult::Failed;
        }
        (Ok(answer), Some(object)) if answer.status == StatusCode::NOT_MODIFIED => {
            let times = Times { asked, received: edge.now(), wall: edge.clock.now() };
            let object = Arc::new(renewed(object, answer.headers, times));
            edge.store.put(key, object.clone());
            writer.unlist();
            writer.publish(Outcome::Object(object, None));
            return FillResult::Revalidated;
        }
        (Ok(answer), Some(object))
            if answer.status.is_server_error() && object.freshness.serves_on_error_status(edge.now()) =>
        {
            object.put_off(edge.now() + spillway_model::Millis(RETRY_MS));
            writer.unlist();
            writer.publish(Outcome::Object(object.clone(), Some("origin-status")));
            return FillResult::Failed;
        }
        (Ok(answer), _) => answer,
    };
    let times = Times { asked, received: edge.now(), wall: edge.clock.now() };
    match keep(answer.status, &answer.headers, answer.framing, times, edge.plan.max_object_bytes) {
        Keep::Pass(reason) => {
            edge.store.mark_uncacheable(key, edge.now());
            writer.publish_pass(reason, answer);
            FillResult::Passed
        }
        Keep::Share => stream(edge, key, answer, None, writer).await,
        Keep::Store(freshness) => stream(edge, key, answer, Some(freshness), writer).await,
    }
}

/// Asks whether `object` still holds; without a usable answer to that, for the whole.
async fn revalidate(edge: &Edge, key: &Key, object: &Object) -> Result<Answer, FetchError> {
    let mut headers = request_headers(edge);
    if let Some(etag) = object.head.etag() {
        headers.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = object.head.last_modified() {
        headers.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    let answer = edge.origin.fetch(Method::GET, key, headers).await?;
    let other_version = answer.status == StatusCode::NOT_MODIFIED
        && answer.headers.get(http::header::ETAG).is_some_and(|etag| object.head.etag() != Some(etag));
    if !other_version {
        return Ok(answer);
    }
    edge.origin.fetch(Method::GET, key, request_headers(edge)).await
}

fn failed(edge: &Edge, error: FetchError, kept: Option<&Arc<Object>>) -> Outcome {
    match kept {
        Some(object) if object.freshness.serves_without_origin(edge.now(), edge.plan.stale_on_error_s) => {
            object.put_off(edge.now() + spillway_model::Millis(RETRY_MS));
            Outcome::Object(object.clone(), Some(error.word()))
        }
        // What must never serve stale ends in 504 (RFC 9111, 5.2.2.2).
        Some(object) if object.freshness.never_stale() => Outcome::Failed(FetchError::Timeout),
        _ => Outcome::Failed(error),
    }
}

/// `object` after a 304.
fn renewed(object: &Object, not_modified: HeaderMap, times: Times) -> Object {
    let age = not_modified.get(http::header::AGE).cloned();
    let head = object.head.updated(not_modified);
    let mut headers = head.headers.clone();
    if let Some(age) = age {
        headers.insert(http::header::AGE, age);
    }
    // It had a time when it was kept, and a field that a 304 leaves out stays; so it has one now.
    let fresh = freshness(&headers, &CacheControl::parse(&headers), times).unwrap_or(object.freshness);
    Object::new(Arc::new(head), fresh, object.body.clone())
}

async fn stream(
    edge: &Arc<Edge>,
    key: &Key,
    answer: Answer,
    mut fresh: Option<Freshness>,
    mut writer: Writer,
) -> FillResult {
    let len = match answer.framing {
        Framing::Length(len) => Some(len),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let affordable = match (fresh, len) {
        (Some(_), Some(len)) => writer.prepay(len).await,
        (fresh, _) => fresh.is_some(),
    };
    if !affordable {
        fresh = None;
        writer.open_window();
    } else if fresh.is_some_and(|fresh| !matches!(fresh.state(edge.now()), crate::policy::State::Fresh(_))) {
        // Good for those who wait; who comes later must have it validated.
        writer.unlist();
    }
    let head = match fresh {
        Some(_) => Head::new(answer.status, answer.headers),
        None => Head::passed(answer.status, answer.headers),
    };
    let head = Arc::new(head);
    writer.publish(Outcome::Stream { head: head.clone(), len, freshness: fresh });
    let mut body = answer.body;
    let mut taken = 0_u64;
    while let Some(part) = body.next().await {
        let Ok(part) = part else { return FillResult::Aborted };
        taken += part.len() as u64;
        if len.is_none() && taken > edge.plan.max_object_bytes && !writer.is_window() {
            writer.open_window();
        }
        if writer.push(part).await.is_err() {
            return FillResult::Aborted;
        }
    }
    if len.is_some_and(|len| len != taken) {
        return FillResult::Aborted;
    }
    match fresh.filter(|_| !writer.is_window()) {
        Some(fresh) => {
            let object = Arc::new(Object::new(head, fresh, Pieces::copy(writer.parts()).await));
            edge.store.put(key, object.clone());
            writer.complete(Some(object));
            FillResult::Kept
        }
        None => {
            writer.complete(None);
            FillResult::Shared
        }
    }
}

/// How a fill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FillResult {
    /// Its object is kept.
    Kept,
    /// It served those who waited.
    Shared,
    /// What was kept still holds.
    Revalidated,
    /// It was not to be shared.
    Passed,
    /// The origin failed before its answer began.
    Failed,
    /// It ended before its end.
    Aborted,
}

/// Headers of every request to the origin. Nothing of a client is among them, so the answer is for everyone.
fn request_headers(edge: &Edge) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(VIA, edge.via.clone());
    headers
}

/// Fetches for `asked` alone, with its conditions, range and credentials.
pub(crate) async fn pass(edge: &Edge, asked: &Asked) -> Result<Answer, FetchError> {
    let mut headers = request_headers(edge);
    for name in [AUTHORIZATION, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE] {
        for value in asked.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    let method = if asked.head_only { Method::HEAD } else { Method::GET };
    edge.origin.fetch(method, &asked.key, headers).await
}

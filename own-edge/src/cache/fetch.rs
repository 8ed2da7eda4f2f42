//! Fetches: one that fills for all who wait, and one that passes an answer to a single request.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AGE, CONTENT_LENGTH, EXPECT,
    FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, ORIGIN, RANGE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use spillway_model::Millis;

use crate::cache::fill::{Outcome, Writer};
use crate::cache::object::{Head, Key, Object, PIECE_BYTES, Pieces, Stored, strip_hop_by_hop};
use crate::edge::Edge;
use crate::origin::{Answer, EDGE_TOKEN, FetchError, OriginRequest, RequestBody, Resumable, strong_etag};
use crate::rules::freshness::{Freshness, State, Times};
use crate::rules::policy::{Exchange, Framing, Keep, freshness, keep};
use crate::rules::vary::Varies;
use crate::serve::informed::Informed;
use crate::serve::receive::Asked;
use crate::video::prefetch;
use crate::video::{Hold, Passing};

/// After a failed revalidation what is kept serves for this long, where it may, before the origin is asked again.
const RETRY_MS: u64 = 2_000;

/// What a fill asks the origin for: what the client asked whose request began it, without its conditions and range.
pub(crate) struct Wanted {
    /// Path and query.
    pub url: Key,
    /// As the origin gets them.
    headers: HeaderMap,
    /// How long the origin may hold it on purpose.
    hold: Option<Hold>,
    /// Who hears of what comes before the answer.
    informed: Option<Informed>,
}

impl Wanted {
    /// For a client.
    pub(crate) fn by(edge: &Edge, asked: &Asked, informed: Option<Informed>) -> Self {
        let mut headers = forwarded(edge, &asked.fields.headers);
        for name in CONDITIONS {
            headers.remove(name);
        }
        Self { hold: Hold::of(&asked.key, &edge.video), url: asked.key.clone(), headers, informed }
    }

    /// For nobody yet.
    pub(crate) fn ahead(edge: &Edge, url: Key) -> Self {
        let hold = Hold::of(&url, &edge.video);
        Self { url, headers: forwarded(edge, &HeaderMap::new()), hold, informed: None }
    }

    fn request(&self, headers: HeaderMap) -> OriginRequest<'_> {
        OriginRequest {
            method: Method::GET,
            path_and_query: &self.url,
            headers,
            body: RequestBody::default(),
            shared: true,
            hold: self.hold,
            informed: self.informed.clone(),
        }
    }
}

const CONDITIONS: [HeaderName; 6] = [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// What belongs to this hop, what we answer ourselves, and what would make an origin answer something else than what
/// its URL says: that would be kept for everybody.
const NOT_FORWARDED: [HeaderName; 22] = [
    HOST,
    EDGE_TOKEN,
    CONTENT_LENGTH,
    EXPECT,
    ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD,
    FORWARDED,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("cmcd-request"),
    HeaderName::from_static("cmcd-object"),
    HeaderName::from_static("cmcd-status"),
    HeaderName::from_static("cmcd-session"),
];

/// Headers of a request to the origin, of those of a client.
fn forwarded(edge: &Edge, client: &HeaderMap) -> HeaderMap {
    let mut headers = client.clone();
    strip_hop_by_hop(&mut headers);
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.append(VIA, edge.via.clone());
    headers
}

/// Fills `key` for all who wait, with `kept` as what to revalidate.
pub(crate) async fn fill(edge: Arc<Edge>, key: Key, wanted: Wanted, kept: Option<Arc<Object>>, writer: Writer) {
    let outcome = run_fill(&edge, &key, &wanted, kept, writer).await;
    edge.metrics.fills.count(outcome);
}

async fn run_fill(
    edge: &Arc<Edge>,
    key: &Key,
    wanted: &Wanted,
    mut kept: Option<Arc<Object>>,
    mut writer: Writer,
) -> FillResult {
    if kept.is_none()
        && let Some(disk) = &edge.disk
        && let Some(object) = disk.load(key).await.map(Arc::new)
    {
        if matches!(object.state(edge.now()), State::Fresh(_)) {
            put(edge, key, &object, &writer);
            writer.unlist();
            writer.publish(Outcome::Loaded(object.clone()));
            if let Some(playlist) = Passing::kept(&wanted.url, &object) {
                prefetch::learn(edge, &wanted.url, playlist);
            }
            return FillResult::Loaded;
        }
        kept = Some(object);
    }
    let asked = edge.now();
    let result = match &kept {
        Some(object) => revalidate(edge, wanted, object).await,
        None => edge.origins.fetch(wanted.request(wanted.headers.clone())).await,
    };
    let answer = match (result, &kept) {
        (Err(error), kept) => {
            writer.unlist();
            writer.publish(failed(edge, error, kept.as_ref()));
            return FillResult::Failed;
        }
        (Ok(answer), Some(object)) if answer.status == StatusCode::NOT_MODIFIED => {
            let times = Times { asked, received: edge.now(), wall: edge.clock.now() };
            let object = Arc::new(renewed(edge, &wanted.url, object, answer.headers, times));
            put(edge, key, &object, &writer);
            writer.unlist();
            writer.publish(Outcome::Object(object, None));
            return FillResult::Revalidated;
        }
        (Ok(answer), Some(object))
            if answer.status.is_server_error() && object.freshness.serves_on_error_status(edge.now()) =>
        {
            object.put_off(edge.now() + Millis(RETRY_MS));
            writer.unlist();
            writer.publish(Outcome::Object(object.clone(), Some("origin-status")));
            return FillResult::Failed;
        }
        (Ok(answer), _) => answer,
    };
    let times = Times { asked, received: edge.now(), wall: edge.clock.now() };
    let exchange = Exchange {
        request: &wanted.headers,
        status: answer.status,
        headers: &answer.headers,
        framing: answer.framing,
        times,
    };
    match keep(exchange, edge.terms().choices, edge.terms().paths.ttl(&wanted.url)) {
        Keep::Pass(reason) => {
            edge.store.mark_uncacheable(key, edge.now());
            writer.publish_pass(reason, answer);
            FillResult::Passed
        }
        Keep::Share => stream(edge, key, wanted, answer, None, None, writer).await,
        Keep::Store(freshness, Varies::By(fields)) => {
            let variant = edge.store.variant(&wanted.url, &fields, &wanted.headers);
            if variant == *key {
                return stream(edge, key, wanted, answer, Some(freshness), None, writer).await;
            }
            writer.rekey(variant.clone());
            stream(edge, &variant, wanted, answer, Some(freshness), Some(variant.clone()), writer).await
        }
        Keep::Store(freshness, _) => stream(edge, key, wanted, answer, Some(freshness), None, writer).await,
    }
}

/// Keeps `object`, unless its URL was changed since it was asked for.
fn put(edge: &Edge, key: &Key, object: &Arc<Object>, writer: &Writer) {
    if writer.is_outdated() {
        return;
    }
    edge.store.put(key, object.clone());
    // Once more: whoever outdated it in between has looked through the store before it was there.
    if writer.is_outdated() {
        edge.store.take_back(key, object);
    }
}

/// Asks whether `object` still holds; without a usable answer to that, for the whole.
async fn revalidate(edge: &Edge, wanted: &Wanted, object: &Object) -> Result<Answer, FetchError> {
    let mut headers = wanted.headers.clone();
    if let Some(etag) = object.head.etag() {
        headers.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = object.head.last_modified() {
        headers.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    let answer = edge.origins.fetch(wanted.request(headers)).await?;
    let other_version = answer.status == StatusCode::NOT_MODIFIED
        && answer.headers.get(http::header::ETAG).is_some_and(|etag| object.head.etag() != Some(etag));
    if !other_version {
        return Ok(answer);
    }
    edge.origins.fetch(wanted.request(wanted.headers.clone())).await
}

fn failed(edge: &Edge, error: FetchError, kept: Option<&Arc<Object>>) -> Outcome {
    match kept {
        Some(object) if object.freshness.serves_without_origin(edge.now(), edge.terms().stale_on_error_s) => {
            object.put_off(edge.now() + Millis(RETRY_MS));
            Outcome::Object(object.clone(), Some(error.word()))
        }
        // What must never serve stale ends in 504 (RFC 9111, 5.2.2.2).
        Some(object) if object.freshness.never_stale() => Outcome::Failed(FetchError::Timeout),
        _ => Outcome::Failed(error),
    }
}

/// `object` after a 304.
fn renewed(edge: &Edge, url: &Key, object: &Object, not_modified: HeaderMap, times: Times) -> Object {
    let age = not_modified.get(AGE).cloned();
    let head = object.head.updated(not_modified);
    let mut headers = head.headers.clone();
    if let Some(age) = age {
        headers.insert(AGE, age);
    }
    // It had a time when it was kept, and a field that a 304 leaves out stays; so it has one now.
    let fresh = freshness(head.status, &headers, times, edge.terms().choices, edge.terms().paths.ttl(url));
    object.renewed(Arc::new(head), fresh.unwrap_or(object.freshness))
}

async fn stream(
    edge: &Arc<Edge>,
    key: &Key,
    wanted: &Wanted,
    answer: Answer,
    mut fresh: Option<Freshness>,
    variant: Option<Key>,
    mut writer: Writer,
) -> FillResult {
    let len = match answer.framing {
        Framing::Length(len) => Some(len),
        Framing::Chunked | Framing::UntilClose => None,
    };
    let room = edge.make_room();
    let affordable = match (fresh, len) {
        (Some(_), _) if !room => false,
        (Some(_), Some(len)) => writer.prepay(len).await,
        (fresh, _) => fresh.is_some(),
    };
    if !affordable {
        fresh = None;
        writer.open_window();
    } else if fresh.is_some_and(|fresh| !matches!(fresh.state(edge.now()), State::Fresh(_))) {
        // Good for those who wait; who comes later must have it validated.
        writer.set_apart();
    }
    let etag = strong_etag(answer.status, &answer.headers);
    let mut playlist = Passing::of(&wanted.url, answer.status, &answer.headers);
    let head = match fresh {
        Some(_) => Head::new(answer.status, answer.headers),
        None => Head::passed(answer.status, answer.headers),
    };
    let head = Arc::new(head);
    writer.publish(Outcome::Stream { head: head.clone(), len, freshness: fresh, variant });
    let again = || wanted.request(wanted.headers.clone());
    let mut body = Resumable::new(&edge.origins, answer.body, etag, len, again);
    let mut taken = 0_u64;
    while let Some(part) = body.next().await {
        let Ok(part) = part else { return FillResult::Aborted };
        taken += part.len() as u64;
        if len.is_some_and(|len| taken > len) {
            return FillResult::Aborted;
        }
        if len.is_none() && taken > edge.terms().choices.max_object_bytes && !writer.is_window() {
            writer.open_window();
        }
        if let Some(playlist) = &mut playlist {
            playlist.push(&part);
        }
        if writer.push(part).await.is_err() {
            return FillResult::Aborted;
        }
    }
    if len.is_some_and(|len| len != taken) {
        return FillResult::Aborted;
    }
    if let Some(playlist) = playlist.filter(|_| !writer.is_outdated()) {
        prefetch::learn(edge, &wanted.url, playlist);
    }
    match fresh.filter(|_| !writer.is_window()) {
        Some(fresh) => {
            // Large ones one after the other: until its end a fill has its bytes, too.
            let _alone = if taken > PIECE_BYTES as u64 { Some(edge.laying_out.lock().await) } else { None };
            let body = match &edge.memory_files {
                Some(files) => files.place(writer.parts()).await,
                None => Stored::Memory(Pieces::copy(writer.parts(), &edge.bodies).await),
            };
            let object = Arc::new(Object::new(head, fresh, body));
            put(edge, key, &object, &writer);
            if writer.was_joined() {
                edge.used_again(key, &object);
            }
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
    /// The disk tier had it.
    Loaded,
    /// What was kept still holds.
    Revalidated,
    /// It was not to be shared.
    Passed,
    /// The origin failed before its answer began.
    Failed,
    /// It ended before its end.
    Aborted,
}

/// Fetches for `asked` alone, with its conditions, range, credentials and body.
pub(crate) async fn pass(
    edge: &Edge,
    asked: &Asked,
    body: RequestBody,
    informed: Option<Informed>,
) -> Result<Answer, FetchError> {
    let headers = forwarded(edge, &asked.fields.headers);
    let (method, path_and_query) = (asked.method.clone(), &*asked.key);
    let hold = Hold::of(path_and_query, &edge.video);
    let request = OriginRequest { method, path_and_query, headers, body, shared: false, hold, informed };
    edge.origins.fetch(request).await
}

//! From where an answer comes from to the answer.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, AGE, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, LOCATION, RETRY_AFTER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use spillway_model::Millis;

use crate::account::CacheResult;
use crate::body::{Cut, Delivery, EdgeBody};
use crate::cmsd::CMSD_DYNAMIC;
use crate::edge::Edge;
use crate::fetch;
use crate::fill::{Outcome, Reader};
use crate::informed::Informed;
use crate::lookup::{Found, kept, lookup};
use crate::methods::Methods;
use crate::object::{Head, Object};
use crate::origin::{Answer, FetchError, RequestBody};
use crate::receive::{Asked, Refusal};
use crate::reply::Reply;
use crate::rules::conditions::{Part, part};
use crate::rules::freshness::{Freshness, State};
use crate::rules::policy::Framing;

/// When a session that was not admitted may come again, seconds: after two load reports.
const RETRY_AFTER_S: &str = "4";

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How a request was served, as `Cache-Status` (RFC 9211) tells it and counters count it.
#[derive(Clone, Copy, Debug)]
struct Note {
    result: CacheResult,
    /// `hit`, or why the origin was asked.
    forward: Option<&'static str>,
    collapsed: bool,
    stored: bool,
    ttl_s: Option<u64>,
    detail: Option<&'static str>,
}

impl Note {
    const fn new(result: CacheResult, forward: Option<&'static str>) -> Self {
        Self { result, forward, collapsed: false, stored: false, ttl_s: None, detail: None }
    }

    fn header(&self, edge: &Edge) -> HeaderValue {
        let mut text = String::with_capacity(128);
        text.push_str(edge.plan.pathway.as_str());
        match self.forward {
            None => text.push_str("; hit"),
            Some(reason) => {
                text.push_str("; fwd=");
                text.push_str(reason);
            }
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(ttl_s) = self.ttl_s {
            text.push_str("; ttl=");
            text.push_str(itoa::Buffer::new().format(ttl_s));
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).expect("ids, words and numbers are a header value")
    }
}

/// How often a request looks again because the answer that it waited for is for other requests (`Vary`).
const LOOKUPS_MAX: usize = 3;

/// Serves an admitted GET or HEAD without waiting for anybody, where that is possible.
pub(crate) fn at_once(edge: &Arc<Edge>, asked: &Asked) -> Option<Reply> {
    Serving { edge, asked, informed: None }.kept(kept(edge, asked, asked.at).ok()?, asked.at)
}

/// Serves an admitted GET or HEAD; `informed` hears of what comes before the origin's answer.
pub(crate) async fn serve(edge: &Arc<Edge>, asked: &Asked, informed: Option<Informed>) -> Reply {
    let serving = Serving { edge, asked, informed };
    for _ in 0..LOOKUPS_MAX {
        match lookup(edge, asked, serving.informed.clone()) {
            Found::Filling { reader, first, stale } => {
                if let Some(response) = serving.filling(reader, first, stale).await {
                    return response;
                }
            }
            Found::Pass(why) => return serving.bypass(why).await,
            found => {
                if let Some(response) = serving.kept(found, edge.now()) {
                    return response;
                }
            }
        }
    }
    serving.bypass("vary").await
}

/// Sends an admitted request of any other method to the origin. What its success changes is forgotten.
pub(crate) async fn forward(edge: &Arc<Edge>, asked: &Asked, body: RequestBody, informed: Option<Informed>) -> Reply {
    let serving = Serving { edge, asked, informed: None };
    let note = Note { detail: Some("method"), ..Note::new(CacheResult::Pass, Some("method")) };
    match fetch::pass(edge, asked, body, informed).await {
        Ok(answer) => {
            let changes = !matches!(asked.method, Method::OPTIONS)
                && (answer.status.is_success() || answer.status.is_redirection());
            if changes {
                edge.forget(&asked.changed(&answer.headers, &edge.terms().paths));
            }
            serving.answer(answer, note)
        }
        Err(error) => serving.failed(error, note),
    }
}

/// A request and what its answer needs.
struct Serving<'a> {
    edge: &'a Arc<Edge>,
    asked: &'a Asked,
    informed: Option<Informed>,
}

impl Serving<'_> {
    /// From memory; `None` for what is found elsewhere.
    fn kept(&self, found: Found, now: Millis) -> Option<Reply> {
        match found {
            Found::Fresh(object, ttl_s) => {
                Some(self.object(object, Note { ttl_s: Some(ttl_s), ..Note::new(CacheResult::Hit, None) }, now))
            }
            Found::Stale(object, why) => {
                Some(self.object(object, Note { detail: Some(why), ..Note::new(CacheResult::Stale, None) }, now))
            }
            Found::Filling { .. } | Found::Pass(_) => None,
        }
    }

    /// From a fill; `None` if what it brings is for other requests.
    async fn filling(&self, mut reader: Reader, first: bool, stale: bool) -> Option<Reply> {
        let forward = Some(if stale { "stale" } else { "miss" });
        let result = if first { CacheResult::Miss } else { CacheResult::Collapsed };
        let note = Note { collapsed: !first, ..Note::new(result, forward) };
        Some(match reader.outcome().await {
            Outcome::Stream { variant: Some(variant), .. }
                if !first && self.edge.store.find(&self.asked.key, &self.asked.headers).0 != variant =>
            {
                return None;
            }
            // What nobody may keep may be about who began it, or about who waits.
            Outcome::Stream { freshness: None, .. } if !first && self.asked.is_personal() => {
                self.pass(Note { result: CacheResult::Pass, collapsed: false, detail: Some("personal"), ..note }).await
            }
            Outcome::Stream { head, len, freshness, .. } => self.stream(reader, &head, len, freshness, note),
            Outcome::Loaded(object) => {
                let ttl_s = match object.state(self.edge.now()) {
                    State::Fresh(ttl_s) => Some(ttl_s),
                    _ => None,
                };
                self.object(
                    object,
                    Note { ttl_s, detail: Some("disk"), ..Note::new(CacheResult::Hit, None) },
                    self.edge.now(),
                )
            }
            Outcome::Object(object, None) => {
                let result = if first { CacheResult::Revalidated } else { CacheResult::Collapsed };
                self.object(object, Note { result, stored: true, ..note }, self.edge.now())
            }
            Outcome::Object(object, Some(why)) => {
                self.object(object, Note { result: CacheResult::Stale, detail: Some(why), ..note }, self.edge.now())
            }
            Outcome::Failed(error) => self.failed(error, note),
            Outcome::Pass(why) => {
                let note = Note { result: CacheResult::Pass, collapsed: false, detail: Some(why), ..note };
                // Who began it may have the answer that is there; a part of it is better asked for.
                let fits = |answer: &Answer| {
                    !asks_for_part(&self.asked.headers) || answer.status == StatusCode::PARTIAL_CONTENT
                };
                match first.then(|| reader.take_direct()).flatten().filter(fits) {
                    Some(answer) => self.answer(answer, note),
                    None => self.pass(note).await,
                }
            }
        })
    }

    async fn bypass(&self, why: &'static str) -> Reply {
        self.pass(Note { detail: Some(why), ..Note::new(CacheResult::Pass, Some("bypass")) }).await
    }

    async fn pass(&self, note: Note) -> Reply {
        match fetch::pass(self.edge, self.asked, RequestBody::default(), self.informed.clone()).await {
            Ok(answer) => self.answer(answer, note),
            Err(error) => self.failed(error, note),
        }
    }

    /// An answer of the origin's as it is.
    fn answer(&self, answer: Answer, note: Note) -> Reply {
        let head = Arc::new(Head::passed(answer.status, answer.headers));
        let len = match answer.framing {
            Framing::Length(len) => Some(len),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let status = head.status;
        let mut response = self.head(status, Some(head), note);
        let bodiless = self.asked.head_only || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
        if bodiless {
            if let Some(len) = len.filter(|_| self.asked.head_only) {
                response.headers.add(CONTENT_LENGTH, len);
            }
            return response;
        }
        let stream = futures::stream::unfold(answer.body, async |mut body| {
            let part = body.next().await?.map_err(|_| Cut);
            Some((part, body))
        })
        .boxed();
        response.body = EdgeBody::arriving(stream, len, self.delivery());
        response
    }

    fn object(&self, object: Arc<Object>, note: Note, now: Millis) -> Reply {
        let len = object.body.len();
        let age_s = object.freshness.age_s(now);
        let head = object.head.clone();
        self.parts(&head, Some(len), Some(age_s), note, |from, to| EdgeBody::object(object, from, to, self.delivery()))
    }

    fn stream(
        &self,
        reader: Reader,
        head: &Arc<Head>,
        len: Option<u64>,
        freshness: Option<Freshness>,
        note: Note,
    ) -> Reply {
        let now = self.edge.now();
        let ttl_s = freshness.map(|freshness| match freshness.state(now) {
            State::Fresh(ttl_s) => ttl_s,
            _ => 0,
        });
        let note = Note { stored: freshness.is_some(), ttl_s, ..note };
        let age_s = freshness.map(|freshness| freshness.age_s(now)).filter(|age_s| *age_s > 0);
        self.parts(head, len, age_s, note, |from, to| {
            let reader = SkippingReader { reader, skip: from, left: to - from };
            let stream = futures::stream::unfold(reader, async |mut reader| {
                let part = reader.next().await?;
                Some((part, reader))
            })
            .boxed();
            EdgeBody::arriving(stream, len.map(|_| to - from), self.delivery())
        })
    }

    /// Whole, part, not modified or outside, of a kept or arriving answer; `body` makes the bytes `from..to`.
    fn parts(
        &self,
        head: &Arc<Head>,
        len: Option<u64>,
        age_s: Option<u64>,
        note: Note,
        body: impl FnOnce(u64, u64) -> EdgeBody,
    ) -> Reply {
        let part = part(&self.asked.headers, head, len);
        let (status, from, to) = match part {
            Part::Whole => (head.status, 0, len.unwrap_or(u64::MAX)),
            Part::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Part::Range(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
            Part::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        let mut response = self.head(status, Some(head.clone()), note);
        let headers = &mut response.headers;
        if let Some(age_s) = age_s {
            headers.add(AGE, age_s);
        }
        match (part, len) {
            (Part::Whole, Some(len)) if status == StatusCode::OK => {
                if !head.headers.contains_key(ACCEPT_RANGES) {
                    headers.add(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                }
                headers.add(CONTENT_LENGTH, len);
            }
            (Part::Range(from, to), Some(len)) => {
                headers.add(CONTENT_RANGE, text(&format!("bytes {from}-{}/{len}", to - 1)));
                headers.add(CONTENT_LENGTH, to - from);
            }
            (Part::Outside, Some(len)) => {
                headers.add(CONTENT_RANGE, text(&format!("bytes */{len}")));
                // It describes what is not sent.
                let mut without = head.headers.clone();
                without.remove(CONTENT_TYPE);
                without.remove(CONTENT_ENCODING);
                response.base = Some(Arc::new(Head::of(status, without)));
            }
            _ => {}
        }
        let bodiless = self.asked.head_only
            || matches!(part, Part::NotModified | Part::Outside)
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !bodiless {
            response.body = body(from, to);
        }
        response
    }

    fn failed(&self, error: FetchError, note: Note) -> Reply {
        let note = Note { result: CacheResult::Error, detail: Some(error.word()), stored: false, ..note };
        let mut response = self.head(error.status(), None, note);
        plain(&mut response, format!("failed to {error}\n"), self.asked.head_only);
        if error == FetchError::Busy {
            response.headers.add(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn head(&self, status: StatusCode, base: Option<Arc<Head>>, note: Note) -> Reply {
        let mut response = begin(self.edge, status, note.result);
        response.base = base;
        response.headers.add(CACHE_STATUS, note.header(self.edge));
        if let Some(advice) = self.edge.advice.current() {
            response.headers.add(CMSD_DYNAMIC, advice);
        }
        response
    }

    fn delivery(&self) -> Delivery {
        Delivery {
            edge: self.edge.clone(),
            key: self.asked.key.clone(),
            session: self.asked.session,
            began: self.asked.at,
            bytes: 0,
        }
    }
}

/// An empty answer that is counted.
fn begin(edge: &Edge, status: StatusCode, result: CacheResult) -> Reply {
    edge.meter.answered(result, status.as_u16());
    let mut reply = Reply::new(status);
    reply.result = Some(result);
    reply
}

fn asks_for_part(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::RANGE)
}

/// A reader that leaves out what lies before a range and after it.
struct SkippingReader {
    reader: Reader,
    skip: u64,
    left: u64,
}

impl SkippingReader {
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        while self.left > 0 {
            let mut bytes = match self.reader.next().await? {
                Ok(bytes) => bytes,
                Err(_) => return Some(Err(Cut)),
            };
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            bytes = bytes.slice(skipped as usize..);
            bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            if !bytes.is_empty() {
                self.left -= bytes.len() as u64;
                return Some(Ok(bytes));
            }
        }
        None
    }
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("words and numbers are a header value")
}

fn plain(response: &mut Reply, text: String, head_only: bool) {
    response.headers.add(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers.add(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !head_only {
        response.body = EdgeBody::bytes(Bytes::from(text));
    }
}

/// The answer to a request that is not taken; ends the connection, since what follows may be its body.
pub(crate) fn refused(edge: &Edge, refusal: Refusal, version: Version) -> Reply {
    let mut response = begin(edge, refusal.status, CacheResult::Invalid);
    plain(&mut response, format!("request refused: {}\n", refusal.word), false);
    if refusal.status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers.add(ALLOW, text(&edge.terms().methods.listed()));
    }
    if version < Version::HTTP_2 {
        response.headers.add(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a new session that is not admitted: elsewhere, or later.
pub(crate) fn not_admitted(edge: &Edge, asked: &Asked, why: &'static str, elsewhere: Option<String>) -> Reply {
    let status = if elsewhere.is_some() { StatusCode::TEMPORARY_REDIRECT } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = begin(edge, status, CacheResult::Refused);
    plain(&mut response, format!("not admitted: {why}\n"), asked.head_only);
    let note = Note { detail: Some(why), ..Note::new(CacheResult::Refused, Some("bypass")) };
    response.headers.add(CACHE_STATUS, note.header(edge));
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
    let mut reply = begin(edge, StatusCode::TOO_MANY_REQUESTS, CacheResult::Refused);
    plain(&mut reply, "too many requests of one client\n".into(), false);
    reply.headers.add(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

/// The answer to a browser that asks whether it may.
pub(crate) fn preflight(methods: &Methods, headers: &HeaderMap) -> Reply {
    let mut response = Reply::new(StatusCode::NO_CONTENT);
    let out = &mut response.headers;
    out.add(ALLOW, text(&methods.listed()));
    out.add(ACCESS_CONTROL_ALLOW_METHODS, text(&methods.listed()));
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

//! From where an answer comes from to the answer.

pub(crate) mod body;
pub(crate) mod cache_status;
pub(crate) mod cmsd;
pub(crate) mod spans;

use std::sync::Arc;

use futures::StreamExt as _;
use http::header::{ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use spillway_model::Millis;

use crate::cache::fetch;
use crate::cache::fill::{Outcome, Reader};
use crate::cache::lookup::{Found, kept, lookup};
use crate::cache::object::{Head, Object};
use crate::edge::Edge;
use crate::load::account::CacheResult;
use crate::origin::{Answer, FetchError, RequestBody};
use crate::respond::body::{Cut, Delivery, EdgeBody};
use crate::respond::cache_status::{CACHE_STATUS, Note};
use crate::respond::cmsd::CMSD_DYNAMIC;
use crate::respond::spans::{Multipart, Spans};
use crate::rules::conditions::{Part, part};
use crate::rules::freshness::{Freshness, State};
use crate::rules::policy::Framing;
use crate::serve::informed::Informed;
use crate::serve::pages::plain;
use crate::serve::receive::Asked;
use crate::serve::reply::Reply;

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
                if !first && self.edge.store.find(&self.asked.key, &self.asked.fields.headers).0 != variant =>
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
                    !asks_for_part(&self.asked.fields.headers) || answer.status == StatusCode::PARTIAL_CONTENT
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
        self.parts(&head, Some(len), Some(age_s), note, |spans, len| match spans {
            Spans::One(range) => EdgeBody::object(object, range.start, range.end, self.delivery()),
            several => EdgeBody::arriving(several.of_object(object), len, self.delivery()),
        })
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
        self.parts(head, len, age_s, note, |spans, len| {
            EdgeBody::arriving(spans.of_reader(reader), len, self.delivery())
        })
    }

    /// Whole, part, not modified or outside, of a kept or arriving answer; `body` makes what goes out, of a length that may be known.
    fn parts(
        &self,
        head: &Arc<Head>,
        len: Option<u64>,
        age_s: Option<u64>,
        note: Note,
        body: impl FnOnce(Spans, Option<u64>) -> EdgeBody,
    ) -> Reply {
        // Parts are for GET alone (RFC 9110, 14.2).
        let part = match &self.asked.fields {
            fields if fields.is_conditional => part(&fields.headers, head, len.filter(|_| !self.asked.head_only)),
            _ => Part::Whole,
        };
        let status = match part {
            Part::Whole => head.status,
            Part::NotModified => StatusCode::NOT_MODIFIED,
            Part::Range(_) | Part::Several(_) => StatusCode::PARTIAL_CONTENT,
            Part::Outside => StatusCode::RANGE_NOT_SATISFIABLE,
        };
        let mut response = self.head(status, Some(head.clone()), note);
        let headers = &mut response.headers;
        if let Some(age_s) = age_s {
            headers.add(AGE, age_s);
        }
        let goes = match (part, len) {
            (Part::Whole, None) => Some((Spans::One(0..u64::MAX), None)),
            (Part::Whole, Some(len)) => {
                if status == StatusCode::OK && !head.headers.contains_key(ACCEPT_RANGES) {
                    headers.add(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
                }
                Some((Spans::One(0..len), Some(len)))
            }
            (Part::Range(range), Some(len)) => {
                headers.add_text(CONTENT_RANGE, format!("bytes {}-{}/{len}", range.start, range.end - 1));
                let len = range.end - range.start;
                Some((Spans::One(range), Some(len)))
            }
            (Part::Several(ranges), Some(len)) => {
                let parts = Multipart::new(ranges, len, head.headers.get(CONTENT_TYPE));
                // The type of what is kept is that of each part.
                response.base = Some(Arc::new(without(head, status, &[CONTENT_TYPE])));
                headers.add_text(CONTENT_TYPE, parts.kind.clone());
                let len = parts.len;
                Some((Spans::Several(parts), Some(len)))
            }
            (Part::Outside, Some(len)) => {
                headers.add_text(CONTENT_RANGE, format!("bytes */{len}"));
                // They describe what is not sent.
                response.base = Some(Arc::new(without(head, status, &[CONTENT_TYPE, CONTENT_ENCODING])));
                None
            }
            (Part::NotModified | Part::Range(_) | Part::Several(_) | Part::Outside, _) => None,
        };
        if let Some((spans, len)) = goes {
            if let Some(len) = len.filter(|_| matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT)) {
                headers.add(CONTENT_LENGTH, len);
            }
            if !self.asked.head_only && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
                response.body = body(spans, len);
            }
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
        let mut response = Reply::counted(self.edge, status, note.result);
        response.base = base;
        response.headers.add_text(CACHE_STATUS, note.text(self.edge));
        if let Some(told) = self.asked.hop.cmsd(self.edge, self.asked.at) {
            response.headers.add(CMSD_DYNAMIC, told);
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

fn asks_for_part(headers: &HeaderMap) -> bool {
    headers.contains_key(http::header::RANGE)
}

/// A head without some fields.
fn without(head: &Head, status: StatusCode, fields: &[HeaderName]) -> Head {
    let mut headers = head.headers.clone();
    fields.iter().for_each(|field| drop(headers.remove(field)));
    Head::of(status, headers)
}

//! What a server answers: a head, and a body that tells how it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::choice::Role;
use super::client::{Failure, Server, TOO_LATE, UNREADABLE};
use super::health::Turn;
use super::{FetchError, Seen};
use crate::rules::policy::Framing;

/// An answer whose body is still to come.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub framing: Framing,
    pub body: AnswerBody,
}

/// The rest of an answer. Holds its place among the requests to its server.
pub(crate) struct AnswerBody {
    body: Incoming,
    server: Arc<Server>,
    /// Where it is counted, unless a peer sent it.
    seen: Option<Arc<Seen>>,
    /// Whether its end speaks for its server.
    good: bool,
    _place: OwnedSemaphorePermit,
}

impl Answer {
    /// The answer to a request of `method`; `place` is held until its body is gone.
    pub(super) fn new(
        method: &Method,
        head: Parts,
        body: Incoming,
        server: Arc<Server>,
        seen: Option<Arc<Seen>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let framing = framing(method, &head, &body);
        let body = AnswerBody { body, server, seen, good: false, _place: place };
        Self { status: head.status, headers: head.headers, framing, body }
    }
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
    /// Its server did well so far, and has if it sends all of it.
    pub(super) fn speaks_well(&mut self) {
        self.good = true;
        if self.body.is_end_stream() {
            self.ended();
        }
    }

    /// The server that it comes from.
    pub(super) fn server(&self) -> Arc<Server> {
        self.server.clone()
    }

    /// The next bytes; `None` at the proper end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        loop {
            match tokio::time::timeout(self.server.read, self.body.frame()).await {
                Err(_) => return Some(Err(self.give_up())),
                Ok(None) => {
                    self.ended();
                    return None;
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, origin = self.server.place.name, "an answer ended early");
                    return Some(Err(self.cut(UNREADABLE)));
                }
                Ok(Some(Ok(frame))) => {
                    // Trailers are dropped.
                    if let Ok(bytes) = frame.into_data() {
                        self.took(bytes.len() as u64);
                        return Some(Ok(bytes));
                    }
                }
            }
        }
    }

    /// Nothing came in time.
    pub(super) fn give_up(&mut self) -> FetchError {
        self.cut(TOO_LATE)
    }

    fn took(&mut self, bytes: u64) {
        self.server.sent(bytes);
        // What a shield fetched for it, the shield tells.
        if let Some(seen) = self.seen.as_ref().filter(|_| self.server.place.role == Role::Origin) {
            seen.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        // Who knows the length doesn't ask for more.
        if self.body.is_end_stream() {
            self.ended();
        }
    }

    fn ended(&mut self) {
        if std::mem::take(&mut self.good) {
            self.server.ended();
        }
    }

    fn cut(&mut self, (error, failure): (FetchError, Failure)) -> FetchError {
        self.good = false;
        if let Some(seen) = &self.seen {
            seen.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.server.failed(failure, Turn::Ask);
        error
    }
}

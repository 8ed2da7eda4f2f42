//! A body that was cut goes on where it stopped, once: by a range, and only where strong validators say that the rest
//! belongs to what came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use metrics::counter;

use super::{Answer, AnswerBody, FetchError, OriginRequest, Origins};

/// A server that fell silent must send something within, or its body goes on elsewhere.
const GRACE: Duration = Duration::from_secs(1);

/// The body of an answer, with another try.
pub(crate) struct Resumable<'a> {
    origins: &'a Origins,
    body: AnswerBody,
    /// Bytes handed on.
    taken: u64,
    /// What the rest is asked for by, where that is possible.
    rest: Option<Rest<'a>>,
}

struct Rest<'a> {
    request: OriginRequest<'a>,
    etag: HeaderValue,
    len: u64,
    /// Another server may have it.
    elsewhere: bool,
}

/// The validator by which the rest of an answer can be asked for: strong, or other bytes may have the same one.
pub(crate) fn strong_etag(status: StatusCode, headers: &HeaderMap) -> Option<HeaderValue> {
    let etag = headers.get(ETAG).filter(|_| status == StatusCode::OK)?;
    etag.as_bytes().starts_with(b"\"").then(|| etag.clone())
}

impl<'a> Resumable<'a> {
    /// The body of an answer to a GET of the whole: `etag` and `len` as the answer says them; `request` would ask for
    /// the whole again.
    pub(crate) fn new(
        origins: &'a Origins,
        body: AnswerBody,
        etag: Option<HeaderValue>,
        len: Option<u64>,
        request: impl FnOnce() -> OriginRequest<'a>,
    ) -> Self {
        let rest = etag.zip(len).map(|(etag, len)| {
            let request = request();
            let elsewhere = origins.ways(&request).len() > 1;
            Rest { request, etag, len, elsewhere }
        });
        Self { origins, body, taken: 0, rest }
    }

    /// The next bytes; `None` at the end of what the server sends.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, FetchError>> {
        loop {
            let error = match self.part().await {
                Some(Ok(part)) => {
                    self.taken += part.len() as u64;
                    return Some(Ok(part));
                }
                Some(Err(error)) => error,
                None => return None,
            };
            let Some(rest) = self.rest.take().filter(|rest| self.taken < rest.len) else { return Some(Err(error)) };
            let resumed = self.origins.rest(rest.request, self.body.server(), &rest.etag, self.taken, rest.len).await;
            let result = if resumed.is_some() { "resumed" } else { "not_resumed" };
            counter!("spillway_edge_origin_resumes_total", "result" => result).increment(1);
            match resumed {
                Some(body) => self.body = body,
                None => return Some(Err(error)),
            }
        }
    }
}

impl Resumable<'_> {
    /// What comes next from the server that is there. Where another may have the rest it is waited for no longer than
    /// for a head, and still less when others found it silent.
    async fn part(&mut self) -> Option<Result<Bytes, FetchError>> {
        let elsewhere = self.rest.as_ref().is_some_and(|rest| rest.elsewhere);
        let server = self.body.server();
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(self.origins.one_try) => {}
                () = server.silence() => tokio::time::sleep(GRACE).await,
            }
        };
        tokio::select! {
            biased;
            part = self.body.next() => part,
            () = patience, if elsewhere => Some(Err(self.body.give_up())),
        }
    }
}

impl Origins {
    /// The bytes from `from` of what has `etag` and is `len` long; from another server than `cut` where one has them.
    async fn rest(
        &self,
        mut request: OriginRequest<'_>,
        cut: Arc<super::client::Server>,
        etag: &HeaderValue,
        from: u64,
        len: u64,
    ) -> Option<AnswerBody> {
        let range = HeaderValue::from_str(&format!("bytes={from}-")).expect("words and numbers are a header value");
        request.headers.insert(RANGE, range);
        request.headers.insert(IF_RANGE, etag.clone());
        let expected = format!("bytes {from}-{}/{len}", len - 1);
        let fits = |answer: &Answer| {
            let says = |name, value: &[u8]| answer.headers.get(name).is_some_and(|said| said.as_bytes() == value);
            answer.status == StatusCode::PARTIAL_CONTENT
                && says(ETAG, etag.as_bytes())
                && says(CONTENT_RANGE, expected.as_bytes())
        };
        let mut ways = self.ways(&request);
        // First the others: this one has just failed.
        ways.sort_by_key(|server| Arc::ptr_eq(server, &cut));
        let answer = self.first(request, &ways, fits).await.ok()?;
        fits(&answer).then_some(answer.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    #[test]
    fn only_a_strong_validator_of_a_whole_answer_tells_what_belongs_to_it() {
        for (status, etag, strong) in [
            (StatusCode::OK, "\"a\"", true),
            (StatusCode::OK, "W/\"a\"", false),
            (StatusCode::OK, "a", false),
            (StatusCode::PARTIAL_CONTENT, "\"a\"", false),
            (StatusCode::NOT_FOUND, "\"a\"", false),
        ] {
            assert_eq!(strong_etag(status, &map(&[("etag", etag)])).is_some(), strong, "{status} {etag}");
        }
        assert_eq!(strong_etag(StatusCode::OK, &HeaderMap::new()), None);
    }
}

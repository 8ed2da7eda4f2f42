//! What came on a connection and was not taken yet, and the heads of requests in it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

use crate::serve::http1::head;
use crate::serve::receive::{Refusal, refuse};
use crate::serve::request::{Fields, RequestHead};

/// Bytes of one request head: cookies and CMCD fit many times.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Bytes of the lines of a request that are kept to be compared with the next one's; browsers' are shorter.
const SAID_MAX_BYTES: usize = 2 * 1024;
/// Memory that is kept while nothing is there: for a player's request.
const KEPT_BYTES: usize = 256;

/// What came, in order.
#[derive(Default)]
pub(super) struct Inbox {
    came: Vec<u8>,
    /// Bytes that hold no head's end.
    looked: usize,
    /// The lines of the last request, if they are few: those of the next one are the same as a rule.
    said: Option<Said>,
}

/// Lines of a request, as they came and as they were read.
struct Said {
    lines: Bytes,
    fields: Arc<Fields>,
}

/// A head that has come.
pub(super) enum Came {
    Request(RequestHead),
    Refused(Refusal),
    /// The bytes of this one are left where they are.
    HandOver(Version),
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.came.is_empty()
    }

    /// Whether nothing more is to be read before something is taken.
    pub(super) fn is_full(&self) -> bool {
        self.came.len() >= HEAD_MAX_BYTES
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.came.extend_from_slice(bytes);
    }

    /// Gives memory back: an idle connection holds none that it doesn't need.
    pub(super) fn rest(&mut self) {
        if self.came.is_empty() && self.came.capacity() > KEPT_BYTES {
            self.came = Vec::new();
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.came
    }

    /// Takes a whole head, if one has come.
    pub(super) fn take_head(&mut self) -> Option<Came> {
        self.skip_empty_lines();
        let Some((len, repeated)) = self.find_head().filter(|(len, _)| *len <= HEAD_MAX_BYTES) else {
            self.looked = self.came.len();
            let too_long = self.came.len() > HEAD_MAX_BYTES;
            return too_long.then(|| Came::Refused(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head")));
        };
        self.looked = 0;
        if head::H2_PREFACE.starts_with(&self.came[..len]) {
            return (self.came.len() >= head::H2_PREFACE.len()).then_some(Came::HandOver(Version::HTTP_2));
        }
        let head = match self.read_head(len, repeated) {
            Ok(head) => head,
            Err(refusal) => return Some(Came::Refused(refusal)),
        };
        // One with a body is hyper's, unless it can't have one, or says twice how long it is: that is refused.
        let bodiless = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let has = |name| head.fields.headers.contains_key(name);
        if !bodiless && has(CONTENT_LENGTH) != has(TRANSFER_ENCODING) {
            return Some(Came::HandOver(head.version));
        }
        self.came.drain(..len);
        Some(Came::Request(head))
    }

    /// Empty lines before a request are none.
    fn skip_empty_lines(&mut self) {
        let empty = self.came.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(self.came.len());
        if empty > 0 && self.came[..empty].chunks(2).all(|line| line == b"\r\n") {
            self.came.drain(..empty);
            self.looked = 0;
        }
    }

    /// Length of the head that has come, and what its lines say where they were said before.
    fn find_head(&self) -> Option<(usize, Option<Arc<Fields>>)> {
        // A head comes at once as a rule; one that comes in pieces isn't looked through again for each.
        if self.looked == 0
            && let Some(said) = &self.said
        {
            let first = head::first_len(&self.came);
            if self.came[first..].starts_with(&said.lines) {
                return Some((first + said.lines.len(), Some(said.fields.clone())));
            }
        }
        head::head_len(&self.came, self.looked).map(|len| (len, None))
    }

    /// Reads a head of so many bytes; its lines only where they are not `repeated`.
    fn read_head(&mut self, len: usize, repeated: Option<Arc<Fields>>) -> Result<RequestHead, Refusal> {
        let head = &self.came[..len];
        let (first, lines) = head.split_at(head::first_len(head));
        let (method, uri, version) = head::read_first(first)?;
        let fields = match repeated {
            Some(fields) => fields,
            None => {
                let lines = Bytes::copy_from_slice(lines);
                let fields = Arc::new(head::read_fields(&lines)?);
                self.said = (lines.len() <= SAID_MAX_BYTES).then(|| Said { lines, fields: fields.clone() });
                fields
            }
        };
        Ok(RequestHead { method, uri, version, fields })
    }
}

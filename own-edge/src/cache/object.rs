//! What is kept: a head and a body in pieces that a hit shares by reference count.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_RANGES, AGE, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use spillway_model::Millis;

use crate::cache::disk::{OpenFile, StoredFile};
use crate::cache::held::{Bodies, Held};
use crate::cache::memory_files::Leaning;
use crate::respond::cmsd::CMSD_DYNAMIC;
use crate::rules::cache_control::split_outside_quotes;
use crate::rules::dates::http_date_s;
use crate::rules::freshness::{Freshness, State};
use crate::serve::reply::{OURS, rendered};

/// What names an object: path and query without the ignored parameters, which the origin is asked with; where the answer
/// depends on more, behind a line feed what the request says of that ([`crate::cache::store::Variants`]).
pub(crate) type Key = Arc<str>;

/// Length of every piece of a kept body but the last.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;
/// Bytes that one read takes out of a file: whole TLS records, and less than what the allocator asks the system for.
const FILE_PART_BYTES: u64 = 48 * 1024;
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
/// What an entry takes beside its bytes: maps, counts and allocations, estimated.
const OVERHEAD_BYTES: u64 = 512;

/// Status and end-to-end headers of an answer, without framing and `Age`.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The headers as HTTP/1 has them, once somebody got them that way.
    rendered: OnceLock<Vec<u8>>,
}

/// A kept answer.
#[derive(Debug)]
pub(crate) struct Object {
    pub head: Arc<Head>,
    pub freshness: Freshness,
    pub body: Body,
    /// Monotonic ms before which a failed revalidation is not tried again.
    retry_at_ms: AtomicU64,
    /// Somebody had it purged softly.
    softened: AtomicBool,
    /// The disk tier has it, or is about to; as one with all renewals, since a write under way is of this body, too.
    on_disk: Arc<AtomicBool>,
}

/// A kept body. Where it is may change, what it is may not.
#[derive(Debug)]
pub(crate) struct Body {
    stored: RwLock<Stored>,
    len: u64,
    pub leaning: Leaning,
}

/// Where a body is.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    /// In memory.
    Memory(Pieces),
    /// In a file of the disk tier, and in the system's page cache as a rule.
    File(Arc<OpenFile>),
}

/// A body in memory.
#[derive(Clone, Debug)]
pub(crate) struct Pieces(Arc<Laid>);

/// Pieces of [`PIECE_BYTES`], the last shorter.
#[derive(Debug)]
struct Laid {
    pieces: Vec<Bytes>,
    len: u64,
    _held: Held,
}

impl Head {
    /// Takes what is meant for the client from an answer's head.
    pub(crate) fn new(status: StatusCode, mut headers: HeaderMap) -> Self {
        strip_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        headers.remove(AGE);
        // What a node before us said of its moment.
        headers.remove(CMSD_DYNAMIC);
        // What a kept object can do is for us to say.
        headers.remove(ACCEPT_RANGES);
        for name in OURS {
            headers.remove(name);
        }
        Self::of(status, headers)
    }

    /// Of these headers as they are.
    pub(crate) fn of(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, rendered: OnceLock::new() }
    }

    /// As [`Head::new`], with what the origin says of the answer that it sends: it is not kept, so all else knows nothing.
    pub(crate) fn passed(status: StatusCode, headers: HeaderMap) -> Self {
        let said = [AGE, ACCEPT_RANGES].map(|name| Some((headers.get(&name)?.clone(), name)));
        let mut head = Self::new(status, headers);
        for (value, name) in said.into_iter().flatten() {
            head.headers.insert(name, value);
        }
        head
    }

    /// The headers as HTTP/1 has them.
    pub(crate) fn rendered(&self) -> &[u8] {
        self.rendered.get_or_init(|| rendered(&self.headers))
    }

    /// The head after a 304: its fields replace the kept ones, except those that describe the body.
    pub(crate) fn updated(&self, mut not_modified: HeaderMap) -> Self {
        strip_hop_by_hop(&mut not_modified);
        for name in
            [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, ACCEPT_RANGES, AGE, CMSD_DYNAMIC].iter().chain(&OURS)
        {
            not_modified.remove(name);
        }
        let mut headers = self.headers.clone();
        for name in not_modified.keys() {
            headers.remove(name);
        }
        for (name, value) in not_modified.iter() {
            headers.append(name.clone(), value.clone());
        }
        Self::of(self.status, headers)
    }

    pub(crate) fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    pub(crate) fn last_modified(&self) -> Option<&HeaderValue> {
        self.headers.get(LAST_MODIFIED)
    }

    pub(crate) fn last_modified_s(&self) -> Option<u64> {
        self.last_modified().and_then(http_date_s)
    }
}

/// Removes what belongs to one connection, and what `Connection` lists.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| split_outside_quotes(line.as_bytes()))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in listed {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "proxy-authentication-info"] {
        headers.remove(name);
    }
}

impl Object {
    pub(crate) fn new(head: Arc<Head>, freshness: Freshness, body: Stored) -> Self {
        Self {
            head,
            freshness,
            body: Body::new(body),
            retry_at_ms: AtomicU64::new(0),
            softened: AtomicBool::new(false),
            on_disk: Arc::default(),
        }
    }

    /// This body under another head.
    pub(crate) fn renewed(&self, head: Arc<Head>, freshness: Freshness) -> Self {
        Self { on_disk: self.on_disk.clone(), ..Self::new(head, freshness, self.body.stored()) }
    }

    /// Notes whether the disk tier has it; whether it was noted so before.
    pub(crate) fn note_on_disk(&self, on_disk: bool) -> bool {
        self.on_disk.swap(on_disk, Ordering::Relaxed)
    }

    /// Whether [`Object::note_on_disk`] said so.
    pub(crate) fn is_on_disk(&self) -> bool {
        self.on_disk.load(Ordering::Relaxed)
    }

    /// Bytes that it takes under `key`.
    pub(crate) fn weight(&self, key: &Key) -> u64 {
        let headers: usize = self.head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        self.body.len() + (headers + key.len()) as u64 + OVERHEAD_BYTES
    }

    /// What it is good for now.
    pub(crate) fn state(&self, now: Millis) -> State {
        match self.freshness.state(now) {
            State::Fresh(_) if self.softened.load(Ordering::Relaxed) => self.freshness.past_its_time(),
            state => state,
        }
    }

    /// From now on it must be validated before it serves, as if its time were over.
    pub(crate) fn soften(&self) {
        self.softened.store(true, Ordering::Relaxed);
    }

    /// Whether [`Object::soften`] said so.
    pub(crate) fn is_softened(&self) -> bool {
        self.softened.load(Ordering::Relaxed)
    }

    /// What the origin calls it, for purges.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        tags(&self.head.headers)
    }

    /// Notes that its revalidation failed; it is not tried again before `at`.
    pub(crate) fn put_off(&self, at: Millis) {
        self.retry_at_ms.store(at.0, Ordering::Relaxed);
    }

    pub(crate) fn is_put_off(&self, now: Millis) -> bool {
        now.0 < self.retry_at_ms.load(Ordering::Relaxed)
    }
}

/// What the origin calls an answer, for purges: `Surrogate-Key` (words) and `Cache-Tag` (a list).
pub(crate) fn tags(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = |name| headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let words = lines(SURROGATE_KEY).flat_map(str::split_ascii_whitespace);
    words.chain(lines(CACHE_TAG).flat_map(|line| line.split(',').map(str::trim)))
}

impl Body {
    fn new(stored: Stored) -> Self {
        Self { len: stored.len(), stored: RwLock::new(stored), leaning: Leaning::default() }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Where it is now.
    pub(crate) fn stored(&self) -> Stored {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is there from now on.
    pub(crate) fn settle(&self, stored: Stored) {
        *self.stored.write().unwrap_or_else(PoisonError::into_inner) = stored;
    }
}

impl Stored {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(pieces) => pieces.len(),
            Self::File(file) => file.0.len(),
        }
    }

    /// Some bytes from `at` on, not beyond `end`; `None` at the end.
    ///
    /// # Errors
    /// What the system says of a file.
    pub(crate) fn part(&self, at: u64, end: u64) -> io::Result<Option<Bytes>> {
        match self {
            Self::Memory(pieces) => Ok(pieces.from(at, end)),
            Self::File(file) => {
                let bytes = end.min(file.0.len()).saturating_sub(at).min(FILE_PART_BYTES);
                if bytes == 0 { Ok(None) } else { file.0.read(at, bytes as usize).map(Some) }
            }
        }
    }
}

impl Pieces {
    /// Reads a whole file.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn of_file(file: &StoredFile, bodies: &Bodies) -> io::Result<Self> {
        let places = (0..file.len()).step_by(PIECE_BYTES);
        let read = |at: u64| file.read(at, (file.len() - at).min(PIECE_BYTES as u64) as usize);
        Ok(Self::laid(places.map(read).collect::<io::Result<_>>()?, file.len(), bodies))
    }

    fn laid(pieces: Vec<Bytes>, len: u64, bodies: &Bodies) -> Self {
        Self(Arc::new(Laid { pieces, len, _held: bodies.hold(len + OVERHEAD_BYTES) }))
    }

    /// All of them, in their order.
    pub(crate) fn all(&self) -> &[Bytes] {
        &self.0.pieces
    }

    /// Copies `parts`, so that what is kept holds no larger buffer alive, and lets other tasks run in between.
    pub(crate) async fn copy(parts: Vec<Bytes>, bodies: &Bodies) -> Self {
        let len: usize = parts.iter().map(Bytes::len).sum();
        let mut left = len;
        let mut pieces = Vec::with_capacity(len.div_ceil(PIECE_BYTES));
        let mut piece = BytesMut::with_capacity(left.min(PIECE_BYTES));
        for part in parts {
            let mut part = &part[..];
            while !part.is_empty() {
                let take = part.len().min(PIECE_BYTES - piece.len());
                piece.extend_from_slice(&part[..take]);
                part = &part[take..];
                if piece.len() == PIECE_BYTES {
                    left -= PIECE_BYTES;
                    let full = std::mem::replace(&mut piece, BytesMut::with_capacity(left.min(PIECE_BYTES)));
                    pieces.push(full.freeze());
                    tokio::task::yield_now().await;
                }
            }
        }
        if !piece.is_empty() {
            pieces.push(piece.freeze());
        }
        Self::laid(pieces, len as u64, bodies)
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len
    }

    /// The bytes from `at` on, at most up to `end`, as far as one piece goes; `None` at the end.
    pub(crate) fn from(&self, at: u64, end: u64) -> Option<Bytes> {
        let end = end.min(self.0.len);
        if at >= end {
            return None;
        }
        let index = usize::try_from(at / PIECE_BYTES as u64).ok()?;
        let start = index as u64 * PIECE_BYTES as u64;
        let piece = self.0.pieces.get(index)?;
        let (from, to) = ((at - start) as usize, (end - start).min(piece.len() as u64) as usize);
        Some(piece.slice(from..to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_give_back_what_went_in_from_any_place() {
        let bytes: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
        let parts = bytes.chunks(70_001).map(Bytes::copy_from_slice).collect();
        let pieces = Pieces::copy(parts, &Bodies::default()).await;
        for (from, to) in [(0, 600_000), (1, 2), (262_143, 262_145), (599_999, 600_000), (262_144, 524_288), (5, 5)] {
            let mut out = Vec::new();
            let mut at = from;
            while let Some(piece) = pieces.from(at, to) {
                at += piece.len() as u64;
                out.extend_from_slice(&piece);
            }
            assert_eq!(out, bytes[from as usize..to as usize], "{from}..{to}");
        }
        assert!(Pieces::copy(vec![], &Bodies::default()).await.from(0, 10).is_none());
    }

    #[tokio::test]
    async fn bytes_count_as_long_as_somebody_has_them() {
        let bodies = Bodies::default();
        let pieces = Pieces::copy(vec![Bytes::from(vec![7; 300_000])], &bodies).await;
        let sent = pieces.clone();
        drop(pieces);
        assert_eq!(bodies.bytes(), 300_000 + OVERHEAD_BYTES);
        drop(sent);
        assert_eq!(bodies.bytes(), 0);
    }

    #[test]
    fn what_belongs_to_the_connection_is_left_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("connection", "a, b"), ("a", "1"), ("b", "2"), ("c", "3"), ("keep-alive", "5")] {
            headers.append(name, value.parse().expect("value"));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_304_replaces_fields_but_not_those_of_the_body() {
        let head = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().expect("value"));
            }
            headers
        };
        let old =
            Head::new(StatusCode::OK, head(&[("etag", "\"a\""), ("x", "1"), ("x", "2"), ("content-encoding", "br")]));
        let new =
            old.updated(head(&[("x", "3"), ("content-length", "10"), ("content-encoding", "gzip"), ("age", "9")]));
        let lines: Vec<_> =
            new.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        assert_eq!(lines, [("etag", "\"a\""), ("content-encoding", "br"), ("x", "3")]);
    }
}

//! What playlists say of the media that is served: which segment comes after which, how long they are, what is about to
//! come. Whatever a playlist says that is not understood is left out: it only ever means that less is fetched ahead.
//!
//! `hls` and `dash` read texts, as pure functions (a small reader of our own: the kept HLS crate knows no parts and no
//! preload hints, and reads into strings what here is looked at in place); `times` are those of MPDs; `catalog` keeps
//! what was read, of each `rendition`; `hold` tells which requests an origin
//! holds on purpose.

pub(crate) mod prefetch;
pub(crate) mod prewarm;

mod catalog;
mod dash;
mod hls;
mod hold;
mod rendition;
mod times;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use url::Url;

pub(crate) use catalog::Catalog;
pub(crate) use hold::Hold;

use crate::cache::object::{Key, Object};
use crate::rules::paths::PathRules;
use crate::serve::receive::path_is_plain;

/// A longer text is not read.
const TEXT_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Segments that are known of one playlist; of more the last.
const SEGMENTS_MAX: usize = 8_192;
/// Parts that are known of one playlist; of more the last.
const PARTS_MAX: usize = 256;
/// Media playlists of a multivariant playlist, and renditions of an MPD, that are known.
const RENDITIONS_MAX: usize = 64;
/// A target duration above is taken for this, ms.
const TARGET_MAX_MS: u64 = 60_000;

/// What a playlist says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Playlist {
    /// Media playlists, in its order.
    Multivariant(Vec<Key>),
    /// What is played: one rendition (HLS), or all of them (DASH).
    Media(Vec<Listing>),
}

/// One rendition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub segments: Segments,
    /// Parts of the newest segments, as far as they are told.
    pub parts: Vec<Segment>,
    /// The part that comes next.
    pub hint: Option<Key>,
    /// What is needed before any segment.
    pub init: Option<Key>,
    /// No segment is longer, ms; 0 if not said.
    pub target_ms: u64,
    /// More will come.
    pub live: bool,
    /// Play begins elsewhere: it is of another period than the first one, or, live, than the last one.
    pub aside: bool,
}

/// Segments in their order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Segments {
    /// One after the other, from a number on.
    Listed {
        first: u64,
        /// Segments before the listed ones that an earlier version of the playlist has.
        skipped: usize,
        list: Vec<Segment>,
    },
    /// By a number in the path.
    Counted(Counted),
}

impl Default for Segments {
    fn default() -> Self {
        Self::Listed { first: 0, skipped: 0, list: Vec::new() }
    }
}

/// A segment or part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub key: Key,
    /// ms.
    pub duration_ms: u64,
    /// It is not there, and won't be.
    pub gap: bool,
}

/// Segments that differ by their number alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Before and behind the number.
    pub prefix: String,
    pub suffix: String,
    /// Digits at least.
    pub width: usize,
    pub first: u64,
    pub end: CountEnd,
}

/// Where counted segments end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountEnd {
    /// With this number.
    Last(u64),
    /// Number `first` is complete at `from_ms` of the wall clock, and each further one `each_us` later; none behind
    /// `last`.
    Clock { from_ms: u64, each_us: u64, last: u64 },
}

impl Counted {
    /// The object of a number.
    pub(crate) fn key(&self, number: u64) -> Key {
        let Self { prefix, suffix, width, .. } = self;
        Key::from(format!("{prefix}{number:0width$}{suffix}", width = *width))
    }

    /// The newest number at a time of the wall clock.
    pub(crate) fn newest(&self, wall_ms: u64) -> Option<u64> {
        match self.end {
            CountEnd::Last(last) => Some(last),
            CountEnd::Clock { from_ms, each_us, last } => {
                let since_us = u128::from(wall_ms.checked_sub(from_ms)?) * 1000;
                let more = u64::try_from(since_us / u128::from(each_us.max(1))).unwrap_or(u64::MAX);
                Some(self.first.saturating_add(more).min(last))
            }
        }
    }
}

/// Resolves what a playlist refers to.
pub(crate) struct Base<'a> {
    url: Url,
    paths: &'a PathRules,
}

/// A host that is none: what has another one is elsewhere.
const HERE: &str = "http://edge.invalid";

impl<'a> Base<'a> {
    /// Of the playlist that is kept under `key`.
    pub(crate) fn new(key: &Key, paths: &'a PathRules) -> Option<Self> {
        Url::parse(&format!("{HERE}{key}")).ok().map(|url| Self { url, paths })
    }

    /// The same, seen from `uri` (DASH's BaseURL).
    fn below(&self, uri: &str) -> Option<Self> {
        let url = self.url.join(uri).ok().filter(is_here)?;
        Some(Self { url, paths: self.paths })
    }

    /// The key of what is meant; `None` if that is elsewhere.
    fn key(&self, uri: &str) -> Option<Key> {
        // A variable of the playlist's (EXT-X-DEFINE) is not resolved.
        let url = self.url.join(uri).ok().filter(|url| is_here(url) && !uri.contains("{$"))?;
        path_is_plain(url.path()).then(|| self.paths.key_beside(url.path(), url.query()))
    }
}

fn is_here(url: &Url) -> bool {
    url.host_str() == Some("edge.invalid") && url.scheme() == "http" && url.port().is_none()
}

/// A playlist on its way to those who asked for it.
pub(crate) struct Passing {
    parts: Vec<Bytes>,
    bytes: usize,
}

impl Passing {
    /// If an answer to a request of `url` is one.
    pub(crate) fn of(url: &str, status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let plain = status == StatusCode::OK && !headers.contains_key(CONTENT_ENCODING);
        (plain && (named_so(url) || typed_so(headers))).then(|| Self { parts: Vec::new(), bytes: 0 })
    }

    /// If a kept answer is one.
    pub(crate) fn kept(url: &str, object: &Object) -> Option<Self> {
        let mut playlist = Self::of(url, object.head.status, &object.head.headers)?;
        let (body, mut at) = (object.body.stored(), 0);
        while let Some(part) = body.part(at, TEXT_MAX_BYTES as u64 + 1).ok()? {
            at += part.len() as u64;
            playlist.push(&part);
        }
        Some(playlist)
    }

    /// Its next bytes; shared, not copied.
    pub(crate) fn push(&mut self, part: &Bytes) {
        self.bytes += part.len();
        if self.bytes <= TEXT_MAX_BYTES {
            self.parts.push(part.clone());
        } else {
            self.parts = Vec::new();
        }
    }

    /// All of it, unless there was too much.
    pub(crate) fn text(self) -> Option<String> {
        if self.bytes > TEXT_MAX_BYTES {
            return None;
        }
        String::from_utf8(self.parts.concat()).ok()
    }
}

/// Whether a URL is one of a playlist by its end.
pub(crate) fn named_so(url: &str) -> bool {
    let path = url.split(['?', '\n']).next().unwrap_or_default();
    let ends = |end: &str| {
        path.len() > end.len() && path.as_bytes()[path.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
    };
    ends(".m3u8") || ends(".mpd")
}

fn typed_so(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    memchr::memmem::find(&kind, b"mpegurl").is_some() || kind.starts_with(b"application/dash+xml")
}

/// Reads a text that `base` was asked for.
pub(crate) fn read(text: &str, base: &Base<'_>) -> Option<Playlist> {
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match () {
        () if text.starts_with("#EXTM3U") => hls::read(text, base),
        () if text.starts_with('<') => dash::read(text, base),
        () => None,
    }
}

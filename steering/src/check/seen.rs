//! Everything that came: what the verdicts go by.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use spillway_model::TimestampMs;

use super::playlist::Kind;
use super::tls::Certificate;

/// A request and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// Method, path and what else matters, without any token.
    pub(super) asked: String,
    /// The answer, or why there is none.
    pub(super) outcome: Result<Answer, String>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The body went on beyond what is read.
    pub(super) cut: bool,
    /// Redirects within the host that were followed.
    pub(super) hops: Vec<String>,
    /// Where they led to, with any token.
    pub(super) landed: Option<String>,
    /// `scheme://host` that it redirects to; not followed.
    pub(super) elsewhere: Option<String>,
    /// Our clock when the request was sent.
    pub(super) sent: TimestampMs,
    /// Our clock when the answer's head was there.
    pub(super) came: TimestampMs,
}

impl Answer {
    /// The only value of a header, as text.
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// The value of a header as a number.
    pub(super) fn number(&self, name: &HeaderName) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// All values of a header as one list.
    pub(super) fn list(&self, name: &HeaderName) -> Option<String> {
        let texts: Vec<&str> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    /// In words, for a line.
    pub(super) fn words(&self) -> String {
        let to = self.elsewhere.as_ref().map_or(String::new(), |host| format!(", a redirect to {host} (not followed)"));
        format!("{}{to}", self.status)
    }
}

impl Exchange {
    /// The answer, if it has this status.
    pub(super) fn with_status(&self, status: u16) -> Option<&Answer> {
        self.outcome.as_ref().ok().filter(|answer| answer.status == status)
    }

    /// What came, in words.
    pub(super) fn words(&self) -> String {
        match &self.outcome {
            Ok(answer) => answer.words(),
            Err(why) => why.clone(),
        }
    }
}

/// An address that was tried.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    pub(super) address: SocketAddr,
    pub(super) outcome: Result<u16, Unreached>,
}

/// No answer from an address.
#[derive(Clone, Debug)]
pub(super) struct Unreached {
    pub(super) why: String,
    /// This machine has no way to such addresses: nothing is said of the pathway.
    pub(super) no_route: bool,
}

/// What a name stands for.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    pub(super) host: String,
    /// The URL has an address in the place of a name.
    pub(super) is_literal: bool,
    /// The name could not be looked up.
    pub(super) unknown: Option<String>,
    pub(super) tried: Vec<Tried>,
}

/// The handshake.
#[derive(Clone, Debug)]
pub(super) enum Tls {
    /// `http://`.
    None,
    Failed(String),
    Done(Certificate),
}

/// Part of a body, first and last byte as asked for.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) exchange: Exchange,
}

/// A playlist or segment.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) whole: Exchange,
    /// Asked again by its validator, if it has one.
    pub(super) again: Option<Exchange>,
    /// The same path at the origin.
    pub(super) origin: Option<Exchange>,
    pub(super) parts: Option<Parts>,
}

/// What is asked of a segment beside the whole.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub(super) head: Exchange,
    pub(super) first: Part,
    pub(super) middle: Part,
    /// From behind the end on.
    pub(super) beyond: Exchange,
    /// `middle` at the origin.
    pub(super) origin: Option<Exchange>,
}

/// What came of URLs whose token is not as it should be.
#[derive(Clone, Debug)]
pub(super) struct Tokens {
    /// Name of the signer.
    pub(super) signer: String,
    /// Whether relative URIs inherit the token.
    pub(super) inherits: bool,
    /// First object and segment, without a token.
    pub(super) unsigned: Vec<(Kind, Exchange)>,
    pub(super) tampered: Exchange,
    /// A token for another title; `None`: one token covers them all, as configured.
    pub(super) other_title: Option<Exchange>,
    pub(super) expired: Exchange,
    /// The segment as a player asks for it: relative to the signed playlist.
    pub(super) inherited: Option<Exchange>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Our clock.
    pub(super) now: TimestampMs,
    /// `Origin` of the page that we ask as.
    pub(super) page: String,
    /// Players must send cookies.
    pub(super) credentials: bool,
    pub(super) addresses: Addresses,
    pub(super) tls: Tls,
    /// Nothing more was asked, and why.
    pub(super) stopped: Option<String>,
    pub(super) objects: Vec<Object>,
    /// Hosts outside the pathway that its playlists point to, or why no segment was found.
    pub(super) astray: Option<String>,
    pub(super) absent: Option<Exchange>,
    /// The origin that it is compared with.
    pub(super) origin: Option<String>,
    pub(super) tokens: Option<Tokens>,
}

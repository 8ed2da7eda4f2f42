//! URLs whose token is not as it should be. What is asked with them must be refused.

use axum::http::{HeaderName, header};
use spillway_model::TimestampMs;
use spillway_wire::signed_url::Signed;

use super::target::{Signing, Target};
use crate::signers::{Grant, split};

/// An expired token ended so long ago, beyond any tolerance of clocks, s.
const ENDED_AGO_S: u64 = 3_600;
/// Another title; it need not exist.
const OTHER_TITLE: &str = "spillway-check-other-title/x.m3u8";

/// A URL, and the headers that belong to it.
#[derive(Clone, Debug)]
pub(super) struct Signable {
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, String)>,
}

/// Ways to sign a path of one pathway.
pub(super) struct Tokens<'a> {
    target: &'a Target,
    signing: &'a Signing,
    /// The title's path.
    title: String,
    now: TimestampMs,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(target: &'a Target, signing: &'a Signing, title: &str, now: TimestampMs) -> Self {
        Self { target, signing, title: title.to_owned(), now }
    }

    fn grant(&self, title: &str, now: TimestampMs) -> Grant {
        self.signing.grant(&self.target.base_url, title, now)
    }

    fn with(&self, path: &str, change: impl FnOnce(&str) -> Signed) -> Signable {
        let (host, base) = split(&self.target.base_url);
        let whole = format!("{base}/{path}");
        let signed = change(&whole);
        Signable { url: signed.url(host, &whole), headers: cookies(&signed) }
    }

    /// As a steering node signs it.
    pub(super) fn good(&self, path: &str) -> Signable {
        let grant = self.grant(&self.title, self.now);
        self.with(path, |whole| grant.token(whole).into_owned())
    }

    /// With one character of the token changed.
    pub(super) fn tampered(&self, path: &str) -> Signable {
        let grant = self.grant(&self.title, self.now);
        self.with(path, |whole| tampered(&grant.token(whole)))
    }

    /// With a token that ended an hour ago.
    pub(super) fn expired(&self, path: &str) -> Signable {
        // The end is rounded up to ten minutes, so ten more.
        let ago_s = self.signing.ttl_s + 600 + ENDED_AGO_S;
        let grant = self.grant(&self.title, TimestampMs(self.now.0.saturating_sub(ago_s * 1_000)));
        self.with(path, |whole| grant.token(whole).into_owned())
    }

    /// With the token of another title; `None` if by configuration that is the same one.
    pub(super) fn other_title(&self, path: &str) -> Option<Signable> {
        let (own, other) = (self.grant(&self.title, self.now), self.grant(OTHER_TITLE, self.now));
        if own.folder() == other.folder() {
            return None;
        }
        let (_, base) = split(&self.target.base_url);
        Some(self.with(path, |_| other.token(&format!("{base}/{OTHER_TITLE}")).into_owned()))
    }

    /// Whether relative URIs inherit the token.
    pub(super) fn inherits(&self) -> bool {
        self.signing.by_cookie || !self.grant(&self.title, self.now).token(&self.title).path.is_empty()
    }
}

fn cookies(signed: &Signed) -> Vec<(HeaderName, String)> {
    let pairs: Vec<String> = signed.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { vec![] } else { vec![(header::COOKIE, pairs.join("; "))] }
}

fn tampered(signed: &Signed) -> Signed {
    let cookies = signed.cookies.iter().map(|(name, value)| (*name, changed(value)));
    Signed { path: changed(&signed.path), query: changed(&signed.query), cookies: cookies.collect(), ..signed.clone() }
}

/// Another character in the midst of the longest word: of a token's fields that is its signature, or what it signs.
fn changed(token: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let bytes = token.as_bytes();
    let words = bytes.chunk_by(|a, b| is_word(*a) == is_word(*b)).filter(|word| is_word(word[0]));
    let Some(longest) = words.max_by_key(|word| word.len()) else { return token.to_owned() };
    let at = longest.as_ptr().addr() - bytes.as_ptr().addr() + longest.len() / 2;
    let other = if bytes[at] == b'a' { "b" } else { "a" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_character_of_the_signature_changes_and_the_form_stays() {
        for (token, expected) in [
            ("~1800021600~2~AbCdEfGhIjKl-nOpQrStUv", "~1800021600~2~AbCdEfGhIjKa-nOpQrStUv"),
            (
                "hdnts=exp=1800021600~acl=/live/*~hmac=0123456789abcdef",
                "hdnts=exp=1800021600~acl=/live/*~hmac=01234567a9abcdef",
            ),
            ("x=aaa", "x=aba"),
            ("", ""),
        ] {
            assert_eq!(changed(token), expected);
        }
    }
}

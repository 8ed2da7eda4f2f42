//! URLs that a delivery network believes: one signer per kind, as each vendor documents it.
//!
//! Every signer gets the absolute expiry, never a clock. A token covers a folder (a title's), wherever the kind can do
//! that, so that one token is good for playlist and segments; which forms segments inherit stands in
//! `docs/signed-urls.md`. Keys never show in `Debug`.

pub mod akamai;
pub mod cloudfront;
pub mod fastly;
pub mod nginx;
pub mod own;

use std::fmt;

/// Where a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the query of each URL.
    Query,
    /// As first part of the path: relative URIs inherit it.
    Path,
    /// In a cookie: only where the playlist comes from a domain that the network's host shares.
    Cookie,
}

impl Place {
    /// Stable name, as configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Path => "path",
            Self::Cookie => "cookie",
        }
    }
}

/// What is signed: paths as the network's host sees them.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// `https://host`, without a trailing slash.
    pub host: &'a str,
    /// Path without query, with leading slash.
    pub path: &'a str,
    /// Folder that the token covers where its kind can: with leading and trailing slash.
    pub folder: &'a str,
    /// End of validity, seconds since epoch.
    pub expires_s: u64,
}

/// A token, ready to be put into URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// First part of the path, without slashes; empty: none.
    pub path: String,
    /// `name=value&…` to append to the query; empty: none.
    pub query: String,
    /// Cookies, name and value.
    pub cookies: Vec<(&'static str, String)>,
    /// Whether it is good for the whole folder, and not for one URL alone.
    pub covers_folder: bool,
}

impl Signed {
    /// The URL of `path_and_query` on `host` with this token.
    #[must_use]
    pub fn url(&self, host: &str, path_and_query: &str) -> String {
        let slash = if self.path.is_empty() { "" } else { "/" };
        let (before, fragment) = path_and_query.split_at(path_and_query.find('#').unwrap_or(path_and_query.len()));
        let joint = match (self.query.is_empty(), before.contains('?')) {
            (true, _) => "",
            (false, true) => "&",
            (false, false) => "?",
        };
        format!("{host}{slash}{}{before}{joint}{}{fragment}", self.path, self.query)
    }
}

/// Why a key can't be used. Never says the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Of the wrong form.
    #[error("the key is not of the form that the kind needs (valid: {0})")]
    Form(&'static str),
    /// Too easy to guess.
    #[error("the key has {given} bytes (valid: {least} or more)")]
    Short {
        /// Bytes that it has.
        given: usize,
        /// Bytes that it needs.
        least: usize,
    },
}

/// Signing failed inside the cryptographic library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library refused to sign")]
pub struct SignError;

/// A key, or any of the signers with theirs.
#[derive(Clone, Debug)]
pub enum Signer {
    /// Akamai Token Auth 2.0.
    Akamai(akamai::Key),
    /// CloudFront, custom policies.
    CloudFront(cloudfront::Key),
    /// Fastly's VCL token.
    Fastly(fastly::Key),
    /// nginx `secure_link`.
    Nginx(nginx::Key),
    /// Our own edge's.
    Own(own::Keys),
}

impl Signer {
    /// Places that the kind can put its token in; the first is the default.
    #[must_use]
    pub const fn places(&self) -> &'static [Place] {
        match self {
            Self::Akamai(_) => &[Place::Query, Place::Path, Place::Cookie],
            Self::CloudFront(_) => &[Place::Query, Place::Cookie],
            Self::Fastly(_) | Self::Nginx(_) => &[Place::Path, Place::Query],
            Self::Own(_) => &[Place::Path],
        }
    }

    /// Signs `resource` for `place`, one of [`Signer::places`]; another counts as the first of them.
    ///
    /// # Errors
    /// [`SignError`], from RSA only.
    pub fn sign(&self, place: Place, resource: &Resource<'_>) -> Result<Signed, SignError> {
        Ok(match self {
            Self::Akamai(key) => key.sign(place, resource),
            Self::CloudFront(key) => key.sign(place, resource)?,
            Self::Fastly(key) => key.sign(place, resource),
            Self::Nginx(key) => key.sign(place, resource),
            Self::Own(keys) => keys.sign(resource),
        })
    }
}

/// Bytes that are not told.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl Hidden {
    /// `bytes`, if there are enough of them.
    pub(crate) fn at_least(least: usize, bytes: Vec<u8>) -> Result<Self, KeyError> {
        if bytes.len() < least { Err(KeyError::Short { given: bytes.len(), least }) } else { Ok(Self(bytes)) }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes that a percent-encoded path means; what is no valid escape stays.
pub(crate) fn percent_decoded(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                from_hex(&format!("{}{}", char::from(*high), char::from(*low))).and_then(|byte| byte.first().copied())
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    out
}

/// A path whose other characters than these can't be taken for a wildcard, the end of a field, or a cookie's.
#[must_use]
pub fn without_meaning(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/%-._".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    path.bytes().map(one).collect()
}

/// Parts between the slashes of a folder (`/a/b/` has two).
pub(crate) fn depth(folder: &str) -> usize {
    folder.split('/').filter(|part| !part.is_empty()).count()
}

/// Bytes of an even number of hex digits.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_joins_path_query_and_fragment_and_keeps_every_byte() {
        let path = Signed { path: "t".into(), ..Signed::default() };
        assert_eq!(path.url("https://h", "/a/b?x=%7E#f"), "https://h/t/a/b?x=%7E#f");
        let query = Signed { query: "t=1".into(), ..Signed::default() };
        assert_eq!(query.url("https://h", "/a?x=a~b+c#f"), "https://h/a?x=a~b+c&t=1#f");
        assert_eq!(query.url("https://h", "/a"), "https://h/a?t=1");
        assert_eq!(Signed::default().url("https://h", "/a?x"), "https://h/a?x");
    }

    #[test]
    fn hex_and_escapes_read_back_and_refuse_what_is_none() {
        assert_eq!(from_hex(&hex(&[0, 0xff, 0x1a])), Some(vec![0, 0xff, 0x1a]));
        assert_eq!((from_hex("0"), from_hex("zz"), from_hex("é")), (None, None, None));
        assert_eq!(percent_decoded("/a%20b%2f%zz%4"), b"/a b/%zz%4");
        assert_eq!((depth("/"), depth("/a/"), depth("/a/b/")), (0, 1, 2));
    }
}

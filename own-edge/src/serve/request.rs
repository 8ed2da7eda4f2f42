//! The head of a request: what it asks for, and the lines that say how.
//!
//! Players repeat their lines with each request of a connection, so what follows from lines alone is found once, and
//! shared by all requests that say the same.

use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE, TRANSFER_ENCODING, VIA,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, Version};

use crate::origin::EDGE_TOKEN;
use crate::rules::cache_control::split_outside_quotes;
use crate::serve::receive::{Refusal, refuse};

pub(crate) const CMCD_REQUEST: HeaderName = HeaderName::from_static("cmcd-request");
pub(crate) const CMCD_SESSION: HeaderName = HeaderName::from_static("cmcd-session");
/// Bytes of all headers, which a proxy in front would limit alike.
const HEADERS_MAX_BYTES: usize = 32 * 1024;

/// A request without its body.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub fields: Arc<Fields>,
}

/// The lines of a request, and what follows from them alone.
#[derive(Debug)]
pub(crate) struct Fields {
    pub headers: HeaderMap,
    /// Why no request may say this.
    pub refused: Option<Refusal>,
    /// A body is said to come.
    pub has_body: bool,
    pub has_host: bool,
    /// It came through another server, or says so.
    pub is_forwarded: bool,
    /// A player tells of itself in lines (CMCD).
    pub has_cmcd: bool,
    /// A part of what is there is asked for, or what is there only if it differs from what the client has.
    pub is_conditional: bool,
    /// The connection ends with this request.
    pub closes: bool,
    /// The connection stays open, also for a client that says nothing of it as a rule.
    pub keeps_alive: bool,
}

impl From<Parts> for RequestHead {
    fn from(parts: Parts) -> Self {
        let Parts { method, uri, version, headers, .. } = parts;
        Self { method, uri, version, fields: Arc::new(Fields::of(headers)) }
    }
}

impl Fields {
    pub(crate) fn of(headers: HeaderMap) -> Self {
        let has = |name: HeaderName| headers.contains_key(name);
        Self {
            refused: refused(&headers),
            has_body: headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
                || has(TRANSFER_ENCODING),
            has_host: has(HOST),
            is_forwarded: has(VIA) || has(EDGE_TOKEN),
            has_cmcd: has(CMCD_REQUEST) || has(CMCD_SESSION),
            is_conditional: has(RANGE) || has(IF_NONE_MATCH) || has(IF_MODIFIED_SINCE) || has(IF_RANGE),
            closes: connection_says(&headers, "close"),
            keeps_alive: connection_says(&headers, "keep-alive"),
            headers,
        }
    }
}

fn refused(headers: &HeaderMap) -> Option<Refusal> {
    let bad = |word| Some(refuse(StatusCode::BAD_REQUEST, word));
    // The next hop may believe the other one.
    if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        return bad("two-body-lengths");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (coding, second) = (codings.next(), codings.next());
    if second.is_some() {
        return bad("transfer-encoding");
    }
    if coding.is_some_and(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Some(refuse(StatusCode::NOT_IMPLEMENTED, "transfer-encoding"));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return bad("two-hosts");
    }
    let is_plain = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]%~".contains(byte))
    };
    if host.is_some_and(|host| !is_plain(host.as_bytes())) {
        return bad("host");
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (bytes > HEADERS_MAX_BYTES).then(|| refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers"))
}

/// Whether `Connection` lists `word`.
fn connection_says(headers: &HeaderMap, word: &str) -> bool {
    let lines = headers.get_all(CONNECTION).iter();
    lines.flat_map(|line| split_outside_quotes(line.as_bytes())).any(|said| said.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    #[test]
    fn lines_that_two_servers_may_read_differently_are_refused() {
        for (lines, word) in [
            (&[("content-length", "1"), ("transfer-encoding", "chunked")][..], "two-body-lengths"),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], "transfer-encoding"),
            (&[("transfer-encoding", "chunked, gzip")], "transfer-encoding"),
            (&[("host", "a"), ("host", "a")], "two-hosts"),
            (&[("host", "a b")], "host"),
            (&[("host", "")], "host"),
            (&[("host", "a@b")], "host"),
        ] {
            let fields = Fields::of(map(lines));
            assert_eq!(fields.refused.map(|refusal| refusal.word), Some(word), "{lines:?}");
        }
        let fields = Fields::of(map(&[("x", &"y".repeat(HEADERS_MAX_BYTES))]));
        assert_eq!(fields.refused, Some(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers")));
        for good in [&[("host", "[::1]:80")][..], &[("host", "a"), ("transfer-encoding", " Chunked ")], &[]] {
            assert_eq!(Fields::of(map(good)).refused, None, "{good:?}");
        }
    }

    #[test]
    fn what_follows_from_lines_is_what_they_say() {
        let says = |lines: &[(&'static str, &str)]| {
            let fields = Fields::of(map(lines));
            let Fields { has_body, has_host, is_forwarded, has_cmcd, is_conditional, closes, keeps_alive, .. } = fields;
            [has_body, has_host, is_forwarded, has_cmcd, is_conditional, closes, keeps_alive]
        };
        assert_eq!(says(&[]), [false; 7]);
        assert_eq!(says(&[("content-length", "0")]), [false; 7]);
        for (at, name, value) in [
            (0, "content-length", "1"),
            (0, "transfer-encoding", "chunked"),
            (1, "host", "a"),
            (2, "via", "1.1 a"),
            (2, "spillway-edge-token", "x"),
            (3, "cmcd-request", "nor=\"a\""),
            (3, "cmcd-session", "sid=\"a\""),
            (4, "range", "bytes=0-1"),
            (4, "if-none-match", "*"),
            (4, "if-modified-since", "x"),
            (4, "if-range", "x"),
            (5, "connection", "x, Close"),
            (6, "connection", "Keep-Alive"),
        ] {
            let expected: [bool; 7] = std::array::from_fn(|place| place == at);
            assert_eq!(says(&[(name, value)]), expected, "{name}: {value}");
        }
    }
}

//! What a request must be before anything is looked up: one host, no body, a path that means what it says.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_LOCATION, COOKIE, HOST, LOCATION, TRANSFER_ENCODING, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use spillway_model::{Clock, Millis};
use url::{Url, form_urlencoded};

use crate::cache::object::Key;
use crate::operate::terms::Terms;
use crate::origin::came_through;
use crate::plan::Plan;
use crate::rules::paths::PathRules;
use crate::serve::admit::{SessionKey, Sessions};
use crate::serve::hop::Hop;
use crate::serve::signing::Opened;

/// Bytes of path and query.
const TARGET_MAX_BYTES: usize = 8 * 1024;
/// Bytes of all headers, which a proxy in front would limit alike.
const HEADERS_MAX_BYTES: usize = 32 * 1024;
/// CMCD allows 64 for `sid`.
const SID_MAX_CHARS: usize = 64;

/// A request that was understood.
#[derive(Debug)]
pub(crate) struct Asked {
    pub method: Method,
    /// Only the head is wanted.
    pub head_only: bool,
    /// What is asked for, also of the origin.
    pub key: Key,
    /// As the client sent it.
    uri: Uri,
    /// Bytes of the first part of the path, where that is a token.
    token_len: usize,
    /// Conditions, ranges, credentials.
    pub headers: HeaderMap,
    /// [`SessionKey::NONE`] where an edge asks.
    pub session: SessionKey,
    /// The session's id, if the client says it.
    pub sid: Option<String>,
    pub client: IpAddr,
    pub version: Version,
    /// What it came over.
    pub hop: Arc<Hop>,
    /// Monotonic time at which it came.
    pub at: Millis,
}

/// A request that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// Word for `Cache-Status`.
    pub word: &'static str,
}

/// A refusal.
pub(crate) const fn refuse(status: StatusCode, word: &'static str) -> Refusal {
    Refusal { status, word }
}

/// Checks what every method must keep to.
pub(crate) fn check_head(parts: &Parts, has_body: bool) -> Result<(), Refusal> {
    let bad = |word| Err(refuse(StatusCode::BAD_REQUEST, word));
    // The next hop may believe the other one.
    if parts.headers.contains_key(CONTENT_LENGTH) && parts.headers.contains_key(TRANSFER_ENCODING) {
        return bad("two-body-lengths");
    }
    let bodiless = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let length = parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if bodiless && (has_body || length || parts.headers.contains_key(TRANSFER_ENCODING)) {
        return bad("body");
    }
    let codings: Vec<_> = parts.headers.get_all(TRANSFER_ENCODING).iter().collect();
    if codings.len() > 1 {
        return bad("transfer-encoding");
    }
    if codings.iter().any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")) {
        return Err(refuse(StatusCode::NOT_IMPLEMENTED, "transfer-encoding"));
    }
    check_host(parts)?;
    if parts.uri.path_and_query().is_none_or(|target| target.as_str().len() > TARGET_MAX_BYTES) {
        return Err(refuse(StatusCode::URI_TOO_LONG, "target"));
    }
    let header_bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if header_bytes > HEADERS_MAX_BYTES {
        return Err(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers"));
    }
    if !path_is_plain(parts.uri.path()) {
        return bad("path");
    }
    Ok(())
}

fn check_host(parts: &Parts) -> Result<(), Refusal> {
    let bad = |word| Err(refuse(StatusCode::BAD_REQUEST, word));
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return bad("two-hosts");
    }
    match (host, parts.uri.authority()) {
        (None, None) if parts.version == Version::HTTP_10 || parts.version == Version::HTTP_09 => Ok(()),
        (None, None) => bad("no-host"),
        (None, Some(_)) if parts.version < Version::HTTP_2 => bad("no-host"),
        (Some(host), authority) => {
            let text = host.as_bytes();
            let plain =
                !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]%~".contains(byte));
            if !plain {
                return bad("host");
            }
            match authority {
                Some(authority) if !authority.as_str().as_bytes().eq_ignore_ascii_case(text) => bad("host-mismatch"),
                _ => Ok(()),
            }
        }
        (None, Some(_)) => Ok(()),
    }
}

/// A path that begins with a slash and has no dot segments, encoded slashes, backslashes or control characters, in
/// any coding: what the origin makes of those is not what the key says.
pub(crate) fn path_is_plain(path: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digits = (bytes.next().and_then(hex), bytes.next().and_then(hex));
                let (Some(high), Some(low)) = digits else { return false };
                let value = high * 16 + low;
                if matches!(value, b'/' | b'%') {
                    return false;
                }
                value
            }
            other => other,
        };
        if byte == b'\\' || byte < 0x20 || byte == 0x7f {
            return false;
        }
        decoded.push(byte);
    }
    decoded.split(|byte| *byte == b'/').all(|segment| {
        // `..;x` is a dot segment to servers that know path parameters.
        !matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b".."))
    })
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Makes an [`Asked`] of a checked request that came at `at`.
pub(crate) fn receive(
    parts: Parts,
    hop: &Arc<Hop>,
    (plan, terms): (&Plan, &Terms),
    sessions: &Sessions,
    (clock, at): (&dyn Clock, Millis),
) -> Result<Asked, Refusal> {
    if came_through(&parts.headers, |name| name == plan.pathway.as_str()) {
        return Err(refuse(StatusCode::LOOP_DETECTED, "loop"));
    }
    let of_edge = plan.edge_token.check(&parts.headers)?;
    let path = parts.uri.path();
    let opened = match &terms.signing {
        Some(signing) if !of_edge => signing.open(path, clock.now().0 / 1000)?,
        _ => Opened { token: "", path },
    };
    let query = parts.uri.query();
    let client: IpAddr =
        spillway_service::client_ip(hop.peer, &parts.headers, terms.trusted_ip_header.as_deref()).to_canonical();
    let cmcd_session = parts.headers.get("cmcd-session").and_then(|value| value.to_str().ok());
    let sid = sid(query, cmcd_session);
    let user_agent = parts.headers.get(USER_AGENT).map(http::HeaderValue::as_bytes);
    let session = match of_edge {
        true => SessionKey::NONE,
        false => sessions.key(client, sid.as_deref(), user_agent),
    };
    Ok(Asked {
        head_only: parts.method == Method::HEAD,
        method: parts.method,
        key: terms.paths.key(opened.path, query),
        token_len: opened.token.len(),
        headers: parts.headers,
        session,
        sid,
        client,
        version: parts.version,
        hop: hop.clone(),
        at,
        uri: parts.uri,
    })
}

impl Asked {
    /// First part of the path as the client sent it, where that is a token; with a leading slash.
    pub(crate) fn token(&self) -> &str {
        &self.whole()[..self.token_len]
    }

    /// The rest of the path, and the query, as the client sent them.
    pub(crate) fn target(&self) -> &str {
        &self.whole()[self.token_len..]
    }

    fn whole(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// Whether its answer may be about who asks.
    pub(crate) fn is_personal(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION) || self.headers.contains_key(COOKIE)
    }

    /// The URLs that a success of an unsafe method changes: its own, and those of this host that the answer names
    /// (RFC 9111, 4.4).
    pub(crate) fn changed(&self, answer: &HeaderMap, paths: &PathRules) -> Vec<Key> {
        let host = self.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let mut out = vec![self.key.clone()];
        let Ok(base) = Url::parse(&format!("http://{host}{}", self.target())) else { return out };
        for name in [LOCATION, CONTENT_LOCATION] {
            let named = answer.get(name).and_then(|url| base.join(url.to_str().ok()?).ok());
            out.extend(
                named
                    .filter(|url| (url.host(), url.port()) == (base.host(), base.port()))
                    .map(|url| paths.key(url.path(), url.query())),
            );
        }
        out
    }
}

/// The session's id: query `sid`, or `sid` in CMCD, as query or as header (`CMCD-Session`).
pub(crate) fn sid(query: Option<&str>, cmcd_session: Option<&str>) -> Option<String> {
    let plain = |text: &str| (!text.is_empty() && text.chars().count() <= SID_MAX_CHARS).then(|| text.to_owned());
    let query = query.filter(|query| query.contains("sid") || query.contains("CMCD")).unwrap_or_default();
    let mut found = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "sid" => return plain(&value),
            "CMCD" => found = found.or_else(|| cmcd_sid(&value).and_then(plain)),
            _ => {}
        }
    }
    found.or_else(|| cmcd_sid(cmcd_session?).and_then(plain))
}

/// `sid="…"` in a CMCD list.
fn cmcd_sid(list: &str) -> Option<&str> {
    let start = match list.find("sid=\"") {
        Some(0) => 0,
        // Not the end of another key (`nosid="…"`).
        Some(at) if matches!(list.as_bytes()[at - 1], b',' | b' ') => at,
        _ => return None,
    };
    list[start + 5..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_means_what_it_says_or_is_refused() {
        for good in ["/", "/a/b.m4s", "/a/..b", "/a..", "/a%20b", "/%C3%A4", "/a;x=1", "//a", "/..."] {
            assert!(path_is_plain(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "*",
            "/..",
            "/a/../b",
            "/./a",
            "/%2e%2e/a",
            "/%2E./a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a/..;x/b",
            "/%252e%252e/a",
        ] {
            assert!(!path_is_plain(bad), "{bad}");
        }
    }

    #[test]
    fn the_session_is_found_wherever_players_put_it() {
        let header = Some("cid=\"x\",sid=\"h-1\"");
        for (query, cmcd_session, expected) in [
            (Some("sid=v-1"), None, Some("v-1")),
            (Some("CMCD=br%3D1%2Csid%3D%22v-2%22%2Csu"), None, Some("v-2")),
            (Some("CMCD=nosid%3D%22v-2%22"), None, None),
            (Some("sid=v-1&CMCD=sid%3D%22v-2%22"), header, Some("v-1")),
            (None, header, Some("h-1")),
            (Some("sid="), None, None),
            (Some("x=1"), None, None),
        ] {
            assert_eq!(sid(query, cmcd_session).as_deref(), expected, "{query:?}");
        }
        assert_eq!(sid(Some(&format!("sid={}", "x".repeat(65))), None), None);
    }
}

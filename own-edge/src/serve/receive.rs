//! What a request must be before anything is looked up: one host, no body, a path that means what it says.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LOCATION, COOKIE, HOST, LOCATION, USER_AGENT};
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
use crate::serve::request::{CMCD_SESSION, Fields, RequestHead};
use crate::serve::signing::Opened;

/// Bytes of path and query.
const TARGET_MAX_BYTES: usize = 8 * 1024;
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
    pub fields: Arc<Fields>,
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
pub(crate) fn check_head(head: &RequestHead, has_body: bool) -> Result<(), Refusal> {
    let bad = |word| Err(refuse(StatusCode::BAD_REQUEST, word));
    let bodiless = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if bodiless && (has_body || head.fields.has_body) {
        return bad("body");
    }
    if let Some(refusal) = head.fields.refused {
        return Err(refusal);
    }
    match head.uri.authority() {
        None if !head.fields.has_host && head.version > Version::HTTP_10 => return bad("no-host"),
        Some(_) if !head.fields.has_host && head.version < Version::HTTP_2 => return bad("no-host"),
        Some(authority) => {
            let host = head.fields.headers.get(HOST);
            if host.is_some_and(|host| !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())) {
                return bad("host-mismatch");
            }
        }
        None => {}
    }
    if head.uri.path_and_query().is_none_or(|target| target.as_str().len() > TARGET_MAX_BYTES) {
        return Err(refuse(StatusCode::URI_TOO_LONG, "target"));
    }
    if !path_is_plain(head.uri.path()) {
        return bad("path");
    }
    Ok(())
}

/// A path that begins with a slash and has no dot segments, encoded slashes, backslashes or control characters, in
/// any coding: what the origin makes of those is not what the key says.
pub(crate) fn path_is_plain(path: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    // Nearly all have nothing that needs a second look.
    let mut before = 0;
    let is_usual = path.bytes().all(|byte| {
        let usual = byte > b'%' && byte < 0x7f && byte != b'\\' && !(byte == b'.' && before == b'/');
        before = byte;
        usual
    });
    if is_usual {
        return true;
    }
    let Some(decoded) = decoded(path) else { return false };
    let plain = decoded.iter().all(|byte| *byte != b'\\' && *byte >= 0x20 && *byte != 0x7f);
    plain
        && decoded.split(|byte| *byte == b'/').all(|segment| {
            // `..;x` is a dot segment to servers that know path parameters.
            !matches!(segment.split(|byte| *byte == b';').next(), Some(b"." | b".."))
        })
}

/// A path without its coding; `None` for one that ends within it, and one that codes a slash or a per cent sign.
fn decoded(path: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => match bytes.next().and_then(hex)? * 16 + bytes.next().and_then(hex)? {
                b'/' | b'%' => return None,
                value => value,
            },
            other => other,
        });
    }
    Some(decoded)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Makes an [`Asked`] of a checked request that came at `at`.
pub(crate) fn receive(
    head: RequestHead,
    hop: &Arc<Hop>,
    (plan, terms): (&Plan, &Terms),
    sessions: &Sessions,
    (clock, at): (&dyn Clock, Millis),
) -> Result<Asked, Refusal> {
    let headers = &head.fields.headers;
    let fields = &head.fields;
    if fields.is_forwarded && came_through(headers, |name| name == plan.pathway.as_str()) {
        return Err(refuse(StatusCode::LOOP_DETECTED, "loop"));
    }
    let of_edge = fields.is_forwarded && plan.edge_token.check(headers)?;
    let path = head.uri.path();
    let opened = match &terms.signing {
        Some(signing) if !of_edge => signing.open(path, clock.now().0 / 1000)?,
        _ => Opened { token: "", path },
    };
    let query = head.uri.query();
    let client: IpAddr =
        spillway_service::client_ip(hop.peer, headers, terms.trusted_ip_header.as_deref()).to_canonical();
    let cmcd_session = if fields.has_cmcd { headers.get(CMCD_SESSION) } else { None };
    let cmcd_session = cmcd_session.and_then(|value| value.to_str().ok());
    let sid = sid(query, cmcd_session);
    let user_agent = headers.get(USER_AGENT).map(http::HeaderValue::as_bytes);
    let session = match of_edge {
        true => SessionKey::NONE,
        false => sessions.key(client, sid.as_deref(), user_agent),
    };
    Ok(Asked {
        head_only: head.method == Method::HEAD,
        method: head.method,
        key: terms.paths.key(opened.path, query),
        token_len: opened.token.len(),
        fields: head.fields,
        session,
        sid,
        client,
        version: head.version,
        hop: hop.clone(),
        at,
        uri: head.uri,
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
        self.fields.headers.contains_key(AUTHORIZATION) || self.fields.headers.contains_key(COOKIE)
    }

    /// The URLs that a success of an unsafe method changes: its own, and those of this host that the answer names
    /// (RFC 9111, 4.4).
    pub(crate) fn changed(&self, answer: &HeaderMap, paths: &PathRules) -> Vec<Key> {
        let host = self.fields.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
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

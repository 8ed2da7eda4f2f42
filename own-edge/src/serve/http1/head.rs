//! Heads of HTTP/1: found in what came, read strictly, written.

use std::io::Write as _;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use spillway_model::Clock;

use crate::serve::receive::{Refusal, refuse};
use crate::serve::reply::{Dress, Reply, write_lines};
use crate::serve::request::Fields;

/// Header lines of a request.
const LINES_MAX: usize = 100;
/// What a connection begins with that speaks HTTP/2 without having said so in TLS.
pub(super) const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of the head that `bytes` begin with, its empty line included; `None` if it has not come whole. Nothing before
/// `looked` can be its end.
pub(super) fn head_len(bytes: &[u8], looked: usize) -> Option<usize> {
    let from = looked.saturating_sub(2);
    // Bare line feeds end lines for the parser, too; that they are none is said when the head is read.
    memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at).find_map(|at| match bytes[..at] {
        [.., b'\n'] | [.., b'\n', b'\r'] => Some(at + 1),
        _ => None,
    })
}

/// Length of the first line of what came, with its end, if that is there.
pub(super) fn first_len(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}

/// Reads the first line.
///
/// # Errors
/// A refusal of what two parsers may read differently, and of what is no request.
pub(super) fn read_first(line: &[u8]) -> Result<(Method, Uri, Version), Refusal> {
    check_ends(line)?;
    let mut parsed = httparse::Request::new(&mut []);
    // It is part of a head, of which the parser tells what it has read.
    if parsed.parse(line) != Ok(httparse::Status::Partial) {
        return Err(bad("head"));
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(bad("head"));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad("method"))?;
    let target = Bytes::copy_from_slice(target.as_bytes());
    let uri = Uri::from_maybe_shared(target).map_err(|_| bad("target"))?;
    Ok((method, uri, if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 }))
}

/// Reads the other lines, with the empty one at their end.
///
/// # Errors
/// As for the first, and too many lines.
pub(super) fn read_fields(lines: &Bytes) -> Result<Fields, Refusal> {
    check_ends(lines)?;
    let mut parsed = [httparse::EMPTY_HEADER; LINES_MAX];
    let parsed = match httparse::parse_headers(lines, &mut parsed) {
        Ok(httparse::Status::Complete((_, parsed))) => parsed,
        Err(httparse::Error::TooManyHeaders) => {
            return Err(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers"));
        }
        Ok(httparse::Status::Partial) | Err(_) => return Err(bad("head")),
    };
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for line in parsed {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| bad("header"))?;
        let value = HeaderValue::from_maybe_shared(lines.slice_ref(line.value)).map_err(|_| bad("header"))?;
        headers.append(name, value);
    }
    Ok(Fields::of(headers))
}

/// Bare line feeds end no lines.
fn check_ends(lines: &[u8]) -> Result<(), Refusal> {
    match memchr::memchr_iter(b'\n', lines).any(|at| at == 0 || lines[at - 1] != b'\r') {
        true => Err(bad("bare-line-feed")),
        false => Ok(()),
    }
}

const fn bad(word: &'static str) -> Refusal {
    refuse(StatusCode::BAD_REQUEST, word)
}

/// How a body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There is no body.
    None,
    /// By its length.
    Length(u64),
    /// By an empty chunk.
    Chunks,
    /// By the connection's end.
    Close,
}

impl Ending {
    /// For an answer to a request of `version`, whose body has `len` bytes if that is known.
    pub(super) fn of(status: StatusCode, head_only: bool, len: Option<u64>, version: Version) -> Self {
        let never = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED || head_only;
        match len {
            _ if never => Self::None,
            Some(len) => Self::Length(len),
            None if version == Version::HTTP_11 => Self::Chunks,
            None => Self::Close,
        }
    }
}

/// Writes the head of an answer.
pub(super) fn write(
    out: &mut Vec<u8>,
    reply: &Reply,
    dress: &Dress,
    ending: Ending,
    connection: &str,
    clock: &dyn Clock,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(reply.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reply.status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    reply.write_lines(out, dress);
    if !reply.has_date() {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(clock.now().0);
        let _ = write!(out, "date: {}\r\n", httpdate::HttpDate::from(time));
    }
    match ending {
        Ending::Length(len) if !reply.has(&CONTENT_LENGTH) => {
            let _ = write!(out, "content-length: {len}\r\n");
        }
        Ending::Chunks => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    if !connection.is_empty() {
        let _ = write!(out, "connection: {connection}\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an informational answer.
pub(crate) fn informational(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let mut out = format!("HTTP/1.1 {status}\r\n").into_bytes();
    write_lines(&mut out, headers);
    out.extend_from_slice(b"\r\n");
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::request::RequestHead;
    use spillway_service::SystemClock;

    fn read_text(text: &str) -> Result<RequestHead, Refusal> {
        let (first, lines) = text.as_bytes().split_at(first_len(text.as_bytes()));
        let (method, uri, version) = read_first(first)?;
        let fields = read_fields(&Bytes::copy_from_slice(lines))?;
        Ok(RequestHead { method, uri, version, fields: fields.into() })
    }

    #[test]
    fn a_head_is_found_however_its_bytes_come() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", Some(27)),
            ("GET / HTTP/1.1\r\n\r\n", Some(18)),
            ("GET / HTTP/1.1\nHost: a\n\n", Some(24)),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(26)),
            ("GET / HTTP/1.1\r\nHost: a\r\n", None),
            ("\r\n", None),
            ("", None),
        ] {
            let bytes = text.as_bytes();
            assert_eq!(head_len(bytes, 0), expected, "{text:?}");
            // Byte by byte, each time from where the last look ended.
            let found = (1..=bytes.len()).find_map(|end| head_len(&bytes[..end], end - 1));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_read_is_what_was_sent() {
        let head = read_text("M-SEARCH /a?b=c HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: ä\r\n\r\n").expect("a request");
        assert_eq!((head.method.as_str(), head.uri.to_string().as_str()), ("M-SEARCH", "/a?b=c"));
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(head.fields.headers.get_all("x").iter().count(), 2);
        assert_eq!(read_text("GET / HTTP/1.0\r\n\r\n").expect("a request").version, Version::HTTP_10);
    }

    #[test]
    fn what_two_parsers_may_read_differently_is_refused() {
        for (text, word) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "bare-line-feed"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", "bare-line-feed"),
            ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare-line-feed"),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "head"),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "head"),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "head"),
            ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", "head"),
            ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "head"),
            ("GET / HTTP/2.0\r\n\r\n", "head"),
            ("GET  / HTTP/1.1\r\n\r\n", "head"),
            ("GET /a b HTTP/1.1\r\n\r\n", "head"),
            ("GET\t/ HTTP/1.1\r\n\r\n", "head"),
            ("GET / HTTP/1.1 \r\n\r\n", "head"),
            ("GET /\r\n\r\n", "head"),
            ("G@T / HTTP/1.1\r\n\r\n", "head"),
            ("\u{16}\u{3}\u{1} \r\n\r\n", "head"),
        ] {
            assert_eq!(read_text(text).map(|_| ()).expect_err(text).word, word, "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(LINES_MAX + 1));
        assert_eq!(read_text(&many).expect_err("too many").status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        let just = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(LINES_MAX));
        assert!(read_text(&just).is_ok());
    }

    #[test]
    fn an_answer_says_how_its_body_ends() {
        let written = |status, head_only, len, version, connection| {
            let mut reply = Reply::new(status);
            reply.headers.add(http::header::DATE, HeaderValue::from_static("x"));
            let star = HeaderValue::from_static("*");
            let (mut out, dress) = (Vec::new(), Dress::new(&star, &star));
            write(
                &mut out,
                &reply,
                &dress,
                Ending::of(status, head_only, len, version),
                connection,
                &SystemClock::new(),
            );
            let dressed = String::from_utf8(out).expect("text");
            let mut lines = dressed.split_inclusive("\r\n");
            let ours = ["access-control", "timing-allow", "x-pathway", "via"];
            lines.by_ref().filter(|line| !ours.iter().any(|name| line.starts_with(name))).collect::<String>()
        };
        let (ok, v1) = (StatusCode::OK, Version::HTTP_11);
        assert_eq!(written(ok, false, Some(3), v1, ""), "HTTP/1.1 200 OK\r\ndate: x\r\ncontent-length: 3\r\n\r\n");
        assert_eq!(
            written(ok, false, None, v1, "close"),
            "HTTP/1.1 200 OK\r\ndate: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(written(ok, false, None, Version::HTTP_10, ""), "HTTP/1.1 200 OK\r\ndate: x\r\n\r\n");
        assert_eq!(written(ok, true, Some(3), v1, ""), "HTTP/1.1 200 OK\r\ndate: x\r\n\r\n");
        let none = StatusCode::NO_CONTENT;
        assert_eq!(written(none, false, Some(0), v1, ""), "HTTP/1.1 204 No Content\r\ndate: x\r\n\r\n");
        // A status without a word of its own.
        let own = StatusCode::from_u16(599).expect("status");
        assert_eq!(written(own, true, None, v1, ""), "HTTP/1.1 599 \r\ndate: x\r\n\r\n");
    }
}

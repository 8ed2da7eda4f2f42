//! A client's socket: counts what is really written, cuts clients that stall, sees what a parser hides, and sends what
//! the server can't (103).

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{HeaderMap, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::account::Meter;
use crate::object::strip_hop_by_hop;

/// Bytes of one request head: cookies and CMCD fit many times.
const HEAD_MAX_BYTES: u64 = 64 * 1024;
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NONE: u64 = u64::MAX;

/// What the socket and the requests on it tell each other.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Requests that reached us.
    requests: AtomicU64,
    /// Index of the first request head with a bare line feed.
    bare_lf: AtomicU64,
    /// Index of the first with both Content-Length and Transfer-Encoding.
    two_lengths: AtomicU64,
    /// Index of the first with either: what follows it is not looked at.
    body: AtomicU64,
    /// The end must not look like one: reset instead of close.
    reset: AtomicBool,
    /// Informational answers that go out before the next one, and who writes them.
    ahead: Mutex<Ahead>,
}

#[derive(Debug, Default)]
struct Ahead {
    bytes: BytesMut,
    writer: Option<Waker>,
}

/// What the socket saw of a request's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadSeen {
    /// A line ended in a bare line feed.
    pub bare_lf: bool,
    /// Both Content-Length and Transfer-Encoding.
    pub two_lengths: bool,
    /// No request after this one was looked at, so it must be the last of its connection.
    pub last: bool,
}

/// The connection that hears of informational answers of the origin (103), for the request that is being answered.
#[derive(Clone)]
pub(crate) struct Informed(Arc<Shared>);

/// Bytes of informational answers that may wait for a client.
const AHEAD_MAX_BYTES: usize = 16 * 1024;

impl Informed {
    /// For the requests of `connection`; HTTP/1.0 has no informational answers, and for HTTP/2 there is no way yet.
    pub(crate) fn on(connection: &Arc<Shared>, version: Version) -> Option<Self> {
        (version == Version::HTTP_11).then(|| Self(connection.clone()))
    }

    /// Sends one on; those of a protocol's own (100, 101) are nobody else's.
    pub(crate) fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        if !status.is_informational() || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut headers = headers.clone();
        strip_hop_by_hop(&mut headers);
        let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in &headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        let mut ahead = self.0.ahead();
        if ahead.bytes.len() + head.len() <= AHEAD_MAX_BYTES {
            ahead.bytes.extend_from_slice(&head);
        }
        if let Some(writer) = ahead.writer.take() {
            writer.wake();
        }
    }
}

impl Shared {
    fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            bare_lf: AtomicU64::new(NONE),
            two_lengths: AtomicU64::new(NONE),
            body: AtomicU64::new(NONE),
            reset: AtomicBool::new(false),
            ahead: Mutex::default(),
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; what was seen of its head.
    pub(crate) fn begin_request(&self) -> HeadSeen {
        let index = self.requests.fetch_add(1, Ordering::Relaxed);
        let by = |first: &AtomicU64| first.load(Ordering::Relaxed) <= index;
        HeadSeen { bare_lf: by(&self.bare_lf), two_lengths: by(&self.two_lengths), last: by(&self.body) }
    }

    /// Makes the socket end by a reset, so that a body that is ended by the connection's end shows its cut.
    pub(crate) fn reset_at_end(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }
}

/// The socket.
pub(crate) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    /// Nothing of an answer waits to be written.
    flushed: bool,
    meter: Arc<Meter>,
    heads: HeadScan,
    /// Until the first request: a client may also stall before there is a parser with a time limit.
    first_request: Pin<Box<Sleep>>,
    write_stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, meter: Arc<Meter>, head_timeout: Duration, write_stall: Duration) -> Self {
        meter.connection_opened();
        Self {
            stream,
            shared: Arc::new(Shared::new()),
            flushed: true,
            meter,
            heads: HeadScan::default(),
            first_request: Box::pin(tokio::time::sleep(head_timeout)),
            write_stall,
            stalled: None,
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Writes what goes ahead of the next answer; ready when nothing of it is left. Only between answers.
    fn write_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = self.shared.clone();
        let mut ahead = shared.ahead();
        while !ahead.bytes.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &ahead.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.meter.wrote(written as u64);
            ahead.bytes.advance(written);
        }
        if !ahead.writer.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            ahead.writer = Some(cx.waker().clone());
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Ok(bytes)) => {
                self.stalled = None;
                self.meter.wrote(bytes as u64);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let write_stall = self.write_stall;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(write_stall)));
                match stalled.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        self.shared.reset_at_end();
                        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client takes nothing")))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.shared.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
        self.meter.connection_closed();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.flushed {
            // An error shows when the answer is written.
            let _ = self.write_ahead(cx);
        }
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let this = &mut *self;
                if this.heads.scan(&buf.filled()[before..]).is_err() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request head too long")));
                }
                let found = &this.heads.found;
                for (known, found) in [
                    (&this.shared.bare_lf, found.bare_lf),
                    (&this.shared.two_lengths, found.two_lengths),
                    (&this.shared.body, found.body),
                ] {
                    known.store(found, Ordering::Relaxed);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if self.shared.requests.load(Ordering::Relaxed) == 0 => {
                match self.first_request.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client sends no request")))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
            other => other,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.flushed {
            std::task::ready!(self.write_ahead(cx))?;
            self.flushed = false;
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.flushed {
            std::task::ready!(self.write_ahead(cx))?;
            self.flushed = false;
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows request heads on an HTTP/1 connection, for what the parser hides: it takes a bare line feed for a line's end,
/// and drops Content-Length beside Transfer-Encoding; a proxy that reads these otherwise sees other requests than we do.
/// Bodies are not followed: after the head of a request that may have one nothing is looked at any more.
#[derive(Debug, Default)]
struct HeadScan {
    found: Found,
    /// Bytes that still fit the HTTP/2 preface.
    preface: usize,
    decided: bool,
    /// HTTP/2, or behind a body.
    over: bool,
    index: u64,
    head_bytes: u64,
    last: u8,
    line_is_empty: bool,
    /// The name at the beginning of this line, as far as it matters; `None` behind its colon.
    name: Option<Name>,
    has_length: bool,
    has_coding: bool,
}

/// Index of the first request with each.
#[derive(Debug)]
struct Found {
    bare_lf: u64,
    two_lengths: u64,
    body: u64,
}

impl Default for Found {
    fn default() -> Self {
        Self { bare_lf: NONE, two_lengths: NONE, body: NONE }
    }
}

/// A header's name in lower case; longer ones are none that matter.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; 17],
    len: usize,
}

impl Name {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte.to_ascii_lowercase();
        }
        self.len += 1;
    }

    fn is(&self, name: &[u8]) -> bool {
        self.bytes.get(..self.len) == Some(name)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl HeadScan {
    fn scan(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for byte in bytes {
            if self.over {
                break;
            }
            if !self.decided {
                self.decided = H2_PREFACE[self.preface] != *byte;
                self.preface += 1;
                self.over = !self.decided && self.preface == H2_PREFACE.len();
            }
            self.head_bytes += 1;
            match *byte {
                b'\n' => {
                    if self.last != b'\r' {
                        self.found.bare_lf = self.found.bare_lf.min(self.index);
                    }
                    if self.line_is_empty {
                        self.end_head();
                    } else {
                        self.line_is_empty = true;
                        self.name = Some(Name::default());
                    }
                }
                b'\r' => {}
                b':' => {
                    self.line_is_empty = false;
                    if let Some(name) = self.name.take() {
                        self.has_length |= name.is(b"content-length");
                        self.has_coding |= name.is(b"transfer-encoding");
                    }
                }
                other => {
                    self.line_is_empty = false;
                    if let Some(name) = &mut self.name {
                        name.push(other);
                    }
                }
            }
            self.last = *byte;
            if self.head_bytes > HEAD_MAX_BYTES {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn end_head(&mut self) {
        // An empty line before a request is none.
        if self.head_bytes > 2 {
            if self.has_length && self.has_coding {
                self.found.two_lengths = self.found.two_lengths.min(self.index);
            }
            if self.has_length || self.has_coding {
                self.found.body = self.found.body.min(self.index);
                self.over = true;
            }
            self.index += 1;
        }
        self.head_bytes = 0;
        self.name = None;
        (self.has_length, self.has_coding) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// What is found, all at once and byte by byte.
    fn found(stream: &[u8]) -> (u64, u64, u64) {
        let look = |step: usize| {
            let mut scan = HeadScan::default();
            stream.chunks(step).for_each(|bytes| scan.scan(bytes).expect("short"));
            (scan.found.bare_lf, scan.found.two_lengths, scan.found.body)
        };
        assert_eq!(look(1), look(stream.len()));
        look(1)
    }

    #[test]
    fn a_bare_line_feed_is_found_in_its_request_however_the_bytes_come() {
        assert_eq!(found(HEAD), (NONE, NONE, NONE));
        assert_eq!(found(&[HEAD, HEAD, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"].concat()), (2, NONE, NONE));
        // The empty line may be one of these, too.
        assert_eq!(found(&[b"GET / HTTP/1.1\r\nHost: a\r\n\n", HEAD].concat()), (0, NONE, NONE));
    }

    #[test]
    fn two_lengths_of_one_body_are_found_and_nothing_behind_a_body_is_looked_at() {
        let with = |lines: &str| [HEAD, format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes()].concat();
        let both = with("Content-Length: 4\r\nTRANSFER-ENCODING: chunked\r\n");
        assert_eq!(found(&both), (NONE, 1, 1));
        let one = with("Content-length: 4\r\n");
        assert_eq!(found(&[&one[..], b"a\nb\n"].concat()), (NONE, NONE, 1));
        assert_eq!(found(&with("X: Transfer-Encoding: chunked\r\nContent-Lengthy: 4\r\n")), (NONE, NONE, NONE));
    }

    #[test]
    fn frames_of_http2_are_not_lines() {
        let mut scan = HeadScan::default();
        scan.scan(H2_PREFACE).expect("short");
        scan.scan(&[b'\n'; 200_000]).expect("not looked at");
        assert_eq!(scan.found.bare_lf, NONE);
    }

    #[test]
    fn a_head_without_end_is_cut() {
        let mut scan = HeadScan::default();
        assert_eq!(scan.scan(&[b'x'; 64 * 1024]), Ok(()));
        assert_eq!(scan.scan(b"x"), Err(TooLong));
    }
}

//! A client's socket: counts what is really written, cuts clients that stall, and sees what a parser hides.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::account::Meter;

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
    /// The end must not look like one: reset instead of close.
    reset: AtomicBool,
}

impl Shared {
    /// Counts a request; whether a line of its head ended in a bare line feed.
    pub(crate) fn begin_request(&self) -> bool {
        let index = self.requests.fetch_add(1, Ordering::Relaxed);
        self.bare_lf.load(Ordering::Relaxed) <= index
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
        let shared =
            Shared { requests: AtomicU64::new(0), bare_lf: AtomicU64::new(NONE), reset: AtomicBool::new(false) };
        Self {
            stream,
            shared: Arc::new(shared),
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
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let this = &mut *self;
                match this.heads.scan(&buf.filled()[before..]) {
                    Scan::Ok => {}
                    Scan::BareLf(index) => {
                        let _ = this.shared.bare_lf.compare_exchange(NONE, index, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    Scan::TooLong => {
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request head too long")));
                    }
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
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows request heads on an HTTP/1 connection. The parser takes a bare line feed for a line's end; a proxy that
/// reads it otherwise sees other requests than we do. Bodies are never read as bodies: a request with one is refused
/// and ends the connection.
#[derive(Debug, Default)]
struct HeadScan {
    /// Bytes that still fit the HTTP/2 preface; `None` once that is decided.
    preface: usize,
    decided: bool,
    http2: bool,
    index: u64,
    head_bytes: u64,
    last: u8,
    line_is_empty: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Scan {
    Ok,
    BareLf(u64),
    TooLong,
}

impl HeadScan {
    fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut found = Scan::Ok;
        for byte in bytes {
            if self.http2 {
                break;
            }
            if !self.decided {
                self.decided = H2_PREFACE[self.preface] != *byte;
                self.preface += 1;
                self.http2 = !self.decided && self.preface == H2_PREFACE.len();
            }
            self.head_bytes += 1;
            match *byte {
                b'\n' if self.last != b'\r' => {
                    if found == Scan::Ok {
                        found = Scan::BareLf(self.index);
                    }
                }
                b'\n' if self.line_is_empty => {
                    if self.head_bytes > 2 {
                        self.index += 1;
                    }
                    self.head_bytes = 0;
                }
                b'\n' => self.line_is_empty = true,
                b'\r' => {}
                _ => self.line_is_empty = false,
            }
            self.last = *byte;
            if self.head_bytes > HEAD_MAX_BYTES {
                return Scan::TooLong;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn a_bare_line_feed_is_found_in_its_request_however_the_bytes_come() {
        let stream = [HEAD, HEAD, b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n"].concat();
        let mut scan = HeadScan::default();
        let found: Vec<Scan> = stream.chunks(1).map(|byte| scan.scan(byte)).filter(|scan| *scan != Scan::Ok).collect();
        assert_eq!(found, [Scan::BareLf(2)]);
        assert_eq!(HeadScan::default().scan(&stream), Scan::BareLf(2));
        assert_eq!(HeadScan::default().scan(HEAD), Scan::Ok);
    }

    #[test]
    fn frames_of_http2_are_not_lines() {
        let mut scan = HeadScan::default();
        assert_eq!(scan.scan(H2_PREFACE), Scan::Ok);
        assert_eq!(scan.scan(&[b'\n'; 200_000]), Scan::Ok);
    }

    #[test]
    fn a_head_without_end_is_cut() {
        let mut scan = HeadScan::default();
        assert_eq!(scan.scan(&[b'x'; 64 * 1024]), Scan::Ok);
        assert_eq!(scan.scan(b"x"), Scan::TooLong);
    }
}

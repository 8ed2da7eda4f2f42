//! A client's socket: counts what is really written, cuts clients that stall, sends files without copying them.

use std::fs::File;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

use crate::load::account::Meter;

/// Bytes of an answer that are sent before others get their turn.
const TURN_BYTES: usize = 256 * 1024;
/// The same where the system paces what it sends. It does so by a timer that it sets for whatever it can't send at once,
/// and what it sends at once is whole segments of no more than this. In a virtual machine a timer costs as much as
/// 200 KiB do; by the next turn the time is over, and none is set.
pub(crate) const PACED_TURN_BYTES: usize = 64 * 1024;
/// Congestion controls that pace: bbr, bbr2, bbr3.
const PACING: &[u8] = b"bbr";
/// Bytes of a file beside a head that the system sends as one: of the 17 pages that fit, the head takes one, and the
/// first and the last one are not whole.
const BESIDE_HEAD_BYTES: usize = 15 * 4096;

/// What HTTP is spoken over: a socket, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether bytes go out as they are, so that the system may take them from a file.
    const PLAIN: bool;

    /// What lies at the bottom.
    fn socket(&mut self) -> &mut Socket;
}

impl Stream for Socket {
    const PLAIN: bool = true;

    fn socket(&mut self) -> &mut Socket {
        self
    }
}

impl Stream for TlsStream<Socket> {
    const PLAIN: bool = false;

    fn socket(&mut self) -> &mut Socket {
        self.get_mut().0
    }
}

/// Makes its socket end by a reset instead of a close, so that a body that is ended by the connection's end shows its cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct CutFlag(Arc<AtomicBool>);

impl CutFlag {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The socket.
pub(crate) struct Socket {
    stream: TcpStream,
    meter: Arc<Meter>,
    write_stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    cut: CutFlag,
    /// Whether the system paces what goes out; known once a large answer does.
    paced: Option<bool>,
}

/// How much of an answer is sent before others get their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Bytes on the wire.
    pub bytes: usize,
    /// Bytes of a segment, where it matters that a turn's last one is whole.
    segment: Option<usize>,
}

impl Turn {
    /// Of a connection with segments of so many bytes that the system paces, or one that it doesn't.
    fn of(paced_segment: Option<usize>) -> Self {
        match paced_segment {
            Some(segment @ 1..=PACED_TURN_BYTES) => {
                Self { bytes: PACED_TURN_BYTES / segment * segment, segment: paced_segment }
            }
            _ => Self { bytes: TURN_BYTES, segment: None },
        }
    }

    /// Bytes of a file that go into the first turn, beside a head.
    pub(crate) fn beside(self, head: usize) -> usize {
        let Some(segment) = self.segment else { return self.bytes };
        let most = self.bytes.saturating_sub(head).min(BESIDE_HEAD_BYTES);
        let last = (head + most) % segment;
        // Longer segments than that go out short.
        if last < most { most - last } else { most }
    }
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, meter: Arc<Meter>, write_stall: Duration) -> Self {
        meter.connection_opened();
        Self { stream, meter, write_stall, stalled: None, cut: CutFlag::default(), paced: None }
    }

    /// How much of a large answer should be sent before others get their turn.
    pub(crate) fn turn(&mut self) -> Turn {
        let socket = SockRef::from(&self.stream);
        let is_paced = || socket.tcp_congestion().is_ok_and(|name| name.starts_with(PACING));
        let paced = *self.paced.get_or_insert_with(is_paced);
        // They grow when a connection does.
        let segment = if paced { socket.tcp_mss().ok() } else { None };
        Turn::of(segment.map(|bytes| bytes as usize))
    }

    /// Makes the end a reset.
    pub(crate) fn cut_flag(&self) -> CutFlag {
        self.cut.clone()
    }

    /// Writes `head`, behind which a file follows at once: the system may hold it back for that.
    pub(crate) async fn send_before_file(&mut self, mut head: &[u8]) -> io::Result<()> {
        while !head.is_empty() {
            let sent = std::future::poll_fn(|cx| {
                self.poll_direct(cx, |stream| {
                    Ok(rustix::net::send(stream, head, SendFlags::MORE | SendFlags::NOSIGNAL)?)
                })
            });
            head = &head[sent.await?..];
        }
        Ok(())
    }

    /// Sends up to `count` bytes of `file` from `at` on; how many.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` for a file that is shorter.
    pub(crate) async fn send_file(&mut self, file: &File, at: u64, count: usize) -> io::Result<u64> {
        let send = |stream: &TcpStream| match rustix::fs::sendfile(stream, file, Some(&mut { at }), count)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => Ok(sent),
        };
        std::future::poll_fn(|cx| self.poll_direct(cx, send)).await.map(|sent| sent as u64)
    }

    /// A system call of ours that writes.
    fn poll_direct(
        &mut self,
        cx: &mut Context<'_>,
        call: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let result = loop {
            match self.stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            match self.stream.try_io(Interest::WRITABLE, || call(&self.stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break Poll::Ready(result),
            }
        };
        self.wrote(cx, result)
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
                ready!(stalled.as_mut().poll(cx));
                self.cut.set();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client takes nothing")))
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.cut.0.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
        self.meter.connection_closed();
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
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

//! The load of the edge benchmark: one thread, one request under way on each connection, one buffer that all bodies are
//! read into and dropped from.
//!
//! Of every answer status, length and the first bytes are looked at; each connection's first and every 1,000th is
//! compared as a whole.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::body::Bytes;
use futures::future::{Either, select, try_join_all};
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::task::{unconstrained, yield_now};
use tokio::time::Instant;

use crate::http_load::{Answers, Connection, Target, connect, head};

/// What is read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Of every answer so many bytes are compared.
const GLANCE_BYTES: usize = 64;
const WHOLE_EVERY: usize = 1_000;
/// A run may take so much longer than it was meant to.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request and the body that it must bring.
pub(crate) struct Ask {
    pub(crate) request: Vec<u8>,
    pub(crate) body: Bytes,
}

impl Ask {
    /// The same for every server, and as short as load generators have it.
    pub(crate) fn new(path: &str, body: Bytes) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
        Self { request: request.into_bytes(), body }
    }
}

/// What the client does while no answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It sleeps; over loopback who answers pays for waking it, microseconds that no network card would ask for.
    Asleep,
    /// It looks again and again.
    Awake,
}

impl Waiting {
    async fn through<T>(self, job: impl Future<Output = T>) -> T {
        let other = async {
            match self {
                Self::Asleep => std::future::pending::<Infallible>().await,
                // Where a task waits for nothing, the runtime looks for events and does not sleep.
                Self::Awake => loop {
                    yield_now().await;
                },
            }
        };
        match select(pin!(job), pin!(other)).await {
            Either::Left((done, _)) => done,
            Either::Right((never, _)) => match never {},
        }
    }
}

/// Connections that are open and wait.
pub(crate) struct Clients(Vec<Connection>);

impl Clients {
    pub(crate) async fn connect(target: &Target, count: usize) -> anyhow::Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..count {
            connections.push(connect(target).await?);
        }
        Ok(Self(connections))
    }

    /// Asks in turn, each connection from another place on, as fast as answers come.
    pub(crate) async fn run(self, asks: &Rc<[Ask]>, seconds: f64, waiting: Waiting) -> anyhow::Result<Answers> {
        let longest = Duration::from_secs_f64(seconds) + PATIENCE;
        let begun = Instant::now();
        let until = begun + Duration::from_secs_f64(seconds);
        let latency_us = each(self.0, async |number, wire: &mut Wire| {
            let mut latency_us = Vec::with_capacity(16 * 1024);
            let mut now = Instant::now();
            for turn in 0.. {
                if now >= until {
                    break;
                }
                // 61 is prime to the numbers of objects, and so spreads the connections over all of them.
                let ask = &asks[(number * 61 + turn) % asks.len()];
                wire.ask(ask, turn % WHOLE_EVERY == 0).await?;
                let done = Instant::now();
                latency_us.push(u32::try_from((done - now).as_micros()).unwrap_or(u32::MAX));
                now = done;
            }
            Ok(latency_us)
        });
        let latency_us = tokio::time::timeout(longest, waiting.through(latency_us)).await;
        let latency_us = latency_us.context("answers stopped coming")??;
        Ok(Answers::new(latency_us.concat(), begun.elapsed().as_secs_f64()))
    }

    /// Each connection asks for everything once, and compares it.
    pub(crate) async fn walk(self, asks: &Rc<[Ask]>) -> anyhow::Result<()> {
        let walked = each(self.0, async |_, wire: &mut Wire| {
            for ask in asks.iter() {
                wire.ask(ask, true).await?;
            }
            Ok(())
        });
        tokio::time::timeout(PATIENCE, walked).await.context("answers did not come")?.map(drop)
    }

    /// Each connection asks once, all at the same time; when the first byte of each body came, and the last.
    pub(crate) async fn once(self, ask: &Rc<Ask>) -> anyhow::Result<Vec<(Instant, Instant)>> {
        let times = each(self.0, async |_, wire: &mut Wire| {
            let first = wire.ask(ask, true).await?;
            Ok((first, Instant::now()))
        });
        tokio::time::timeout(PATIENCE, times).await.context("answers did not come")?
    }
}

/// Does the same on every connection, all at once.
async fn each<T: 'static>(
    connections: Vec<Connection>,
    job: impl AsyncFn(usize, &mut Wire) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER_BYTES]));
    let wires = connections.into_iter().map(|connection| Wire { connection, buffer: Rc::clone(&buffer) });
    let jobs = wires.enumerate().map(async |(number, mut wire)| job(number, &mut wire).await);
    // All are one task: its share of turns would be used up long before each connection had its own.
    unconstrained(try_join_all(jobs)).await
}

/// A connection and the buffer of all.
struct Wire {
    connection: Connection,
    buffer: Rc<RefCell<Vec<u8>>>,
}

impl Wire {
    /// When the first byte of the body came.
    async fn ask(&mut self, ask: &Ask, whole: bool) -> anyhow::Result<Instant> {
        self.connection.stream.write_all(&ask.request).await?;
        let mut answer = Answer::new(&ask.body, whole);
        poll_fn(|context| {
            let mut buffer = self.buffer.borrow_mut();
            loop {
                let mut bytes = ReadBuf::new(&mut buffer);
                ready!(Pin::new(&mut self.connection.stream).poll_read(context, &mut bytes))?;
                if answer.take(bytes.filled())? {
                    return Poll::Ready(anyhow::Ok(answer.first.unwrap_or_else(Instant::now)));
                }
            }
        })
        .await
        .with_context(|| String::from_utf8_lossy(&ask.request).lines().next().unwrap_or_default().to_owned())
    }
}

/// An answer that comes in pieces.
struct Answer<'b> {
    expected: &'b [u8],
    whole: bool,
    /// A head that is not whole yet.
    head: Vec<u8>,
    /// Bytes of the body so far; none before it.
    got: Option<usize>,
    first: Option<Instant>,
}

impl<'b> Answer<'b> {
    fn new(expected: &'b [u8], whole: bool) -> Self {
        Self { expected, whole, head: Vec::new(), got: None, first: None }
    }

    /// Whether that was the last.
    fn take(&mut self, bytes: &[u8]) -> anyhow::Result<bool> {
        ensure!(!bytes.is_empty(), "the server closed the connection");
        let Some(got) = self.got else { return self.take_head(bytes) };
        let now = got + bytes.len();
        ensure!(now <= self.expected.len(), "{} bytes more than the body has", now - self.expected.len());
        let compared = if self.whole { now } else { now.min(GLANCE_BYTES) };
        if got < compared {
            ensure!(bytes[..compared - got] == self.expected[got..compared], "a wrong body, between {got} and {now}");
        }
        if self.whole && self.first.is_none() && now > 0 {
            self.first = Some(Instant::now());
        }
        self.got = Some(now);
        Ok(now == self.expected.len())
    }

    fn take_head(&mut self, bytes: &[u8]) -> anyhow::Result<bool> {
        let before = self.head.len();
        let found = if before == 0 {
            head(bytes)?
        } else {
            self.head.extend_from_slice(bytes);
            head(&self.head)?
        };
        let Some((status, head_bytes, length)) = found else {
            if before == 0 {
                self.head.extend_from_slice(bytes);
            }
            return Ok(false);
        };
        if status != 200 || length != self.expected.len() {
            bail!("status {status} with {length} bytes (wanted: 200 with {})", self.expected.len());
        }
        self.got = Some(0);
        let body = &bytes[head_bytes - before..];
        if body.is_empty() { Ok(length == 0) } else { self.take(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n";

    fn body() -> Vec<u8> {
        (0..200).collect()
    }

    /// What becomes of an answer that comes in pieces of `size`.
    fn taken(wire: &[u8], size: usize, whole: bool) -> anyhow::Result<bool> {
        let body = body();
        let mut answer = Answer::new(&body, whole);
        wire.chunks(size).try_fold(false, |_, piece| answer.take(piece))
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_however_it_is_cut() {
        let wire = [HEAD, &body()].concat();
        for size in [1, 3, 40, HEAD.len(), HEAD.len() + 1, wire.len()] {
            assert!(taken(&wire, size, true).expect("right"), "{size}");
            assert!(!taken(&wire[..wire.len() - 1], size, true).expect("right so far"), "{size}");
        }
    }

    #[test]
    fn a_wrong_byte_at_the_start_is_always_seen_and_one_behind_it_in_a_whole_look() {
        for (at, whole, seen) in [(0, false, true), (63, false, true), (64, false, false), (199, true, true)] {
            let mut wire = [HEAD, &body()].concat();
            wire[HEAD.len() + at] ^= 1;
            assert_eq!(taken(&wire, 7, whole).is_err(), seen, "{at}");
        }
    }

    #[test]
    fn another_status_another_length_and_bytes_behind_the_end_are_errors() {
        let error = |wire: &[u8]| taken(wire, wire.len(), false).expect_err("refused").to_string();
        assert!(error(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").contains("502"));
        assert!(error(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n").contains("7 bytes"));
        assert!(error(&[HEAD, &body(), b"x"].concat()).contains("1 bytes more"));
    }
}

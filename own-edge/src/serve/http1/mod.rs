//! HTTP/1 towards clients: requests without a body, one after the other on a connection that stays open.
//!
//! Ours, and not hyper's, for four things that hyper can't do: send files without copying them, send informational
//! answers, refuse heads that it repairs (bare line feeds, two lengths of one body), and end a connection so that a cut
//! shows. The parser is hyper's own (httparse). Requests with a body, and HTTP/2, are handed over to hyper with what
//! came of them.

mod head;
mod inbox;

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Method, Version};
use hyper::body::Body as _;
use spillway_service::CancellationToken;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Duration, Instant, Sleep};

use crate::respond::body::{Cut, EdgeBody};
use crate::serve::answer::{Begun, Later, Server, begin};
use crate::serve::hop::Hop;
use crate::serve::informed::Hearing;
use crate::serve::pages;
use crate::serve::reply::Reply;
use crate::serve::request::RequestHead;
use crate::serve::socket::{PACED_TURN_BYTES, Stream, Turn};

use head::Ending;
use inbox::{Came, Inbox};

pub(crate) use head::informational;

/// Bytes of the head of an answer, as a rule fewer.
const HEAD_USUAL_BYTES: usize = 1024;
/// Memory for such a head, and what is copied behind it, that is kept for the next one.
const HEAD_KEPT_BYTES: usize = 16 * 1024;
/// Bytes that one look at the socket takes.
const READ_BYTES: usize = 8 * 1024;
/// To copy a part that is no longer behind what goes out before it costs less than to send two pieces.
const COPIED_BYTES: usize = 8 * 1024;
/// Parts of a body that are written together.
const PARTS_MAX: usize = 64;
/// Bytes of a TLS record of the longest kind, and what it takes on the wire.
const RECORD_BYTES: usize = 16 * 1024;
const RECORD_WIRE_BYTES: usize = RECORD_BYTES + 22;
/// A client whose connection we end may still be sending; what it sends is thrown away for so long, since an end with
/// bytes unread would take the answer back.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_MAX_BYTES: u64 = 256 * 1024;

thread_local! {
    /// Where heads of answers are written, one after the other.
    static HEAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connection that hyper goes on with: its stream, and what came of it already.
pub(crate) struct HandOver<S> {
    pub stream: S,
    pub came: Vec<u8>,
    pub version: Version,
}

/// Serves until the client or `end` ends it, or until somebody else must go on.
pub(crate) async fn serve<S: Stream>(
    server: &Arc<Server>,
    stream: S,
    hop: &Arc<Hop>,
    end: &CancellationToken,
) -> Option<HandOver<S>> {
    let mut connection = Connection::new(server, stream);
    let mut stop = std::pin::pin!(end.cancelled());
    loop {
        let response = match connection.next(stop.as_mut()).await {
            Next::Head(Came::Request(head)) => {
                let asked = Asked::of(&head);
                match begin(server, hop, head) {
                    Begun::Now(response) => Some((response, asked)),
                    Begun::Later(later) => connection.wait(later, asked.version).await.map(|answer| (answer, asked)),
                }
            }
            Next::Head(Came::Refused(refusal)) => {
                let asked = Asked { version: Version::HTTP_11, head_only: false, keep: false };
                Some((pages::refused(&server.edge, refusal, asked.version), asked))
            }
            Next::Head(Came::HandOver(version)) => {
                return Some(HandOver { stream: connection.stream, came: connection.inbox.into_bytes(), version });
            }
            Next::Gone => {
                // For TLS, whose end must not look like a cut.
                let _ = tokio::time::timeout(LINGER, connection.stream.shutdown()).await;
                None
            }
        };
        let (response, asked) = response?;
        let asked = Asked { keep: asked.keep && !server.edge.is_stopping(), ..asked };
        // An error is the client's end or ours; both have been seen to.
        if !connection.answer(response, asked).await.ok()? {
            return None;
        }
    }
}

/// What of a request its answer's form depends on.
#[derive(Clone, Copy)]
struct Asked {
    version: Version,
    head_only: bool,
    /// The connection stays open.
    keep: bool,
}

impl Asked {
    fn of(head: &RequestHead) -> Self {
        let keep = if head.version == Version::HTTP_11 { !head.fields.closes } else { head.fields.keeps_alive };
        Self { version: head.version, head_only: head.method == Method::HEAD, keep }
    }
}

enum Next {
    Head(Came),
    Gone,
}

struct Connection<'a, S> {
    server: &'a Arc<Server>,
    stream: S,
    inbox: Inbox,
    /// Counts what is waited for: the beginning of a head, its end.
    waits: u64,
    /// What was waited for when the timer was set.
    timed: u64,
    /// A wait that sees it go off twice is over. To set it for each wait would cost more.
    timer: Pin<Box<Sleep>>,
    /// The timer and the end of the edge know whom to wake.
    registered: bool,
}

impl<'a, S: Stream> Connection<'a, S> {
    fn new(server: &'a Arc<Server>, stream: S) -> Self {
        let timer = Box::pin(tokio::time::sleep(server.edge.plan.header_timeout));
        Self { server, stream, inbox: Inbox::default(), waits: 1, timed: 1, timer, registered: false }
    }

    /// The next request.
    async fn next(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> Next {
        loop {
            if let Some(came) = self.inbox.take_head() {
                self.waits += 1;
                return Next::Head(came);
            }
            let began = !self.inbox.is_empty();
            match self.read(stop.as_mut()).await {
                Ok(read) if read > 0 => {}
                _ => return Next::Gone,
            }
            if !began {
                self.waits += 1;
            }
        }
    }

    /// Reads what comes, within the time for a head, at most twice that; nothing while nothing has begun and `stop` says that nothing shall.
    async fn read(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>) -> io::Result<usize> {
        let mut asleep = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(read) = poll_read(&mut self.stream, &mut self.inbox, cx) {
                return Poll::Ready(read);
            }
            self.inbox.rest();
            // Nearly always this is what happens between two requests; who wakes us without a byte is one of these.
            let edge = &self.server.edge;
            let nothing_happened = !asleep && !self.timer.is_elapsed() && !edge.is_stopping();
            asleep = true;
            if self.registered && nothing_happened {
                return Poll::Pending;
            }
            self.registered = true;
            if self.inbox.is_empty() && stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(0));
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                if self.timed == self.waits {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                self.timed = self.waits;
                self.timer.as_mut().reset(Instant::now() + self.server.edge.plan.header_timeout);
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for an answer, and passes on what comes before it. `None` if the client leaves.
    async fn wait(&mut self, later: Later, version: Version) -> Option<Reply> {
        let Later { mut answer, mut hearing } = later;
        loop {
            match self.event(answer.as_mut(), &mut hearing).await {
                Event::Answer(response) => return Some(response),
                Event::Heard(head) if version == Version::HTTP_11 => {
                    self.write(&mut [IoSlice::new(&head)]).await.ok()?;
                    self.stream.flush().await.ok()?;
                }
                Event::Heard(_) => {}
                Event::Gone => return None,
            }
        }
    }

    async fn event<T>(&mut self, answer: impl Future<Output = T>, hearing: &mut Option<Hearing>) -> Event<T> {
        let mut answer = std::pin::pin!(answer);
        std::future::poll_fn(|cx| {
            // First: what comes before an answer goes before it.
            if let Some(open) = hearing {
                match open.poll_recv(cx) {
                    Poll::Ready(Some(head)) => return Poll::Ready(Event::Heard(head)),
                    Poll::Ready(None) => *hearing = None,
                    Poll::Pending => {}
                }
            }
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(Event::Answer(answer));
            }
            if self.poll_gone(cx).is_ready() { Poll::Ready(Event::Gone) } else { Poll::Pending }
        })
        .await
    }

    /// Ready when the client has left. Requests that it sends ahead are kept, as far as they are few.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.inbox.is_full() {
            match ready!(poll_read(&mut self.stream, &mut self.inbox, cx)) {
                Ok(read) if read > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Sends an answer; whether another request may follow.
    ///
    /// # Errors
    /// The client's end, or that of a body before its end, which the client's connection shows.
    async fn answer(&mut self, mut reply: Reply, asked: Asked) -> io::Result<bool> {
        let ending = Ending::of(reply.status, asked.head_only, reply.body.size_hint().exact(), asked.version);
        let closes = reply.headers.has(&CONNECTION);
        let keep = asked.keep && !closes && ending != Ending::Close;
        let connection = match keep {
            true if asked.version == Version::HTTP_10 => "keep-alive",
            false if !closes => "close",
            _ => "",
        };
        let copied = reply.body.size_hint().exact().filter(|len| *len <= COPIED_BYTES as u64).unwrap_or(0);
        let mut out = HEAD.take();
        out.reserve(HEAD_USUAL_BYTES + copied as usize);
        let edge = &self.server.edge;
        head::write(&mut out, &reply, &edge.dress, ending, connection, &*edge.clock);
        let sent = match ending {
            Ending::None => self.write(&mut [IoSlice::new(&out)]).await,
            _ => self.send(&mut out, &mut reply.body, ending == Ending::Chunks).await,
        };
        if out.capacity() <= HEAD_KEPT_BYTES {
            out.clear();
            HEAD.set(out);
        }
        match sent {
            Ok(()) => self.stream.flush().await?,
            Err(error) => {
                self.stream.socket().cut_flag().set();
                return Err(error);
            }
        }
        if !keep {
            self.end().await?;
        }
        Ok(keep)
    }

    /// Sends a head and the body behind it.
    async fn send(&mut self, head: &mut Vec<u8>, body: &mut EdgeBody, chunks: bool) -> io::Result<()> {
        self.server.edge.sent(body, S::PLAIN);
        if S::PLAIN
            && let Some((file, Range { start: mut at, end })) = body.file()
        {
            self.stream.socket().send_before_file(head).await?;
            // What is little more than a turn isn't worth a second one.
            let (turn, mut count) = if end - at < 2 * PACED_TURN_BYTES as u64 {
                (usize::MAX, usize::MAX)
            } else {
                let turn = self.stream.socket().turn();
                (turn.bytes, turn.beside(head.len()))
            };
            while at < end {
                let (from, place) = file.0.place(at);
                count = count.min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let sent = self.stream.socket().send_file(from, place, count).await;
                let sent = sent.inspect_err(|error| {
                    if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
                        body.file_failed();
                    }
                })?;
                at += sent;
                body.sent(sent);
                count -= sent as usize;
                if count == 0 && at < end {
                    tokio::task::yield_now().await;
                    count = turn;
                }
            }
            return Ok(());
        }
        let turn = match body.len() {
            Some(len) if len < 2 * PACED_TURN_BYTES as u64 => usize::MAX,
            _ => self.turn(),
        };
        let (mut parts, mut ahead) = (Vec::new(), None);
        loop {
            let mut room = turn.saturating_sub(head.len());
            let then = loop {
                let next = match ahead.take() {
                    Some(next) => next,
                    None => match futures::poll!(std::future::poll_fn(|cx| body.poll_next(cx))) {
                        Poll::Ready(next) => next,
                        Poll::Pending => break Then::Wait,
                    },
                };
                let mut part = match next {
                    Some(Ok(part)) => part,
                    Some(Err(cut)) => break Then::Cut(cut),
                    None => break Then::End,
                };
                if part.len() > room {
                    ahead = Some(Some(Ok(part.split_off(room))));
                }
                room -= part.len();
                match chunks {
                    true if part.is_empty() => {}
                    true => parts.extend([chunk_head(part.len()), part, Bytes::from_static(b"\r\n")]),
                    false if parts.is_empty() && part.len() <= COPIED_BYTES => head.extend_from_slice(&part),
                    false => parts.push(part),
                }
                if room == 0 || parts.len() >= PARTS_MAX {
                    break Then::Turn;
                }
            };
            if chunks && matches!(then, Then::End) {
                parts.push(Bytes::from_static(b"0\r\n\r\n"));
            }
            self.write_parts(head, &mut parts).await?;
            match then {
                Then::Turn => tokio::task::yield_now().await,
                Then::Wait => {
                    // Nothing that is there waits for what is not.
                    self.stream.flush().await?;
                    ahead = Some(self.next_part(body).await?);
                }
                Then::Cut(cut) => return Err(io::Error::other(cut)),
                Then::End => return Ok(()),
            }
        }
    }

    /// Writes and empties both.
    async fn write_parts(&mut self, head: &mut Vec<u8>, parts: &mut Vec<Bytes>) -> io::Result<()> {
        if parts.is_empty() {
            self.stream.write_all(head).await?;
        } else {
            let all = std::iter::once(&head[..]).chain(parts.iter().map(|part| &part[..]));
            self.write(&mut all.map(IoSlice::new).collect::<Vec<_>>()).await?;
            parts.clear();
        }
        head.clear();
        Ok(())
    }

    /// Bytes of a body that are written before others get their turn.
    fn turn(&mut self) -> usize {
        let Turn { bytes, .. } = self.stream.socket().turn();
        if S::PLAIN { bytes } else { bytes / RECORD_WIRE_BYTES * RECORD_BYTES }
    }

    /// The next part of a body that is still arriving.
    async fn next_part(&mut self, body: &mut EdgeBody) -> io::Result<Option<Result<Bytes, Cut>>> {
        match self.event(std::future::poll_fn(|cx| body.poll_next(cx)), &mut None).await {
            Event::Answer(next) => Ok(next),
            _ => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    async fn write(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let written = self.stream.write_vectored(slices).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }

    /// Ends the connection so that the client gets all of the answer.
    async fn end(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let rest = async {
            let mut thrown = (&mut self.stream).take(LINGER_MAX_BYTES);
            tokio::io::copy(&mut thrown, &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(LINGER, rest).await;
        Ok(())
    }
}

/// What comes after some parts of a body.
enum Then {
    /// Others' turn.
    Turn,
    /// The next part isn't there yet.
    Wait,
    Cut(Cut),
    End,
}

enum Event<T> {
    Answer(T),
    Heard(Bytes),
    Gone,
}

fn chunk_head(len: usize) -> Bytes {
    format!("{len:x}\r\n").into()
}

/// Appends what has come; 0 at the end.
fn poll_read<S: Stream>(stream: &mut S, inbox: &mut Inbox, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut scratch = [const { MaybeUninit::uninit() }; READ_BYTES];
    let mut read = ReadBuf::uninit(&mut scratch);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    inbox.add(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

//! An origin that fails in every way that it can, and tells the truth only of what its ETags name.
//!
//! It writes its answers byte by byte: a library would not send a wrong length.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::soak::objects::{Manner, Objects};
use crate::soak::random::Random;

/// Longest head of a request.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// What a chunk holds at most.
const CHUNK_BYTES: usize = 100_000;
/// A slow answer comes in so many pieces, with this between them.
const SLOW_PIECES: usize = 10;
const SLOW_PAUSE: Duration = Duration::from_millis(50);
/// Longer than the edge waits for a byte.
const SILENCE: Duration = Duration::from_millis(2_500);
/// After the last answer that may fail has ended, the edge knows so much later.
const HEARD_AFTER: Duration = Duration::from_millis(200);
/// Answers all end within this.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// What goes on behind a length.
const SURPLUS: &[u8] = &[0xa5; 1_000];
/// Of 1,000 answers so many bring a new version without anything being wrong.
const NEWS_PER_1000: usize = 20;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It comes in pieces.
    Slow,
    /// It stops in the middle for longer than is waited for.
    Silent,
    /// The connection is reset in the middle.
    Reset,
    /// It ends before the length that it said, or before its last chunk.
    Short,
    /// It goes on behind the length that it said.
    Surplus,
    /// 500, 502, 503 or 404.
    Status,
    /// The connection ends before it.
    NoAnswer,
    /// The object changes while it is sent, and the connection is reset.
    Changed,
    /// Asked for the rest of a version, it sends that of the next one.
    OtherRest,
    /// Asked for a rest, it sends one that begins elsewhere.
    ShiftedRest,
}

/// How often each is drawn.
const FAULTS: [(u32, Fault); 9] = [
    (860, Fault::None),
    (40, Fault::Slow),
    (2, Fault::Silent),
    (20, Fault::Reset),
    (20, Fault::Short),
    (10, Fault::Surplus),
    (20, Fault::Status),
    (10, Fault::NoAnswer),
    (18, Fault::Changed),
];
const REST_FAULTS: [(u32, Fault); 4] =
    [(40, Fault::None), (20, Fault::Reset), (20, Fault::OtherRest), (20, Fault::ShiftedRest)];

pub(crate) struct Origin {
    objects: Arc<Objects>,
    random: Mutex<Random>,
    calm: AtomicBool,
    /// Answers under way.
    answering: watch::Sender<usize>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

/// A request as far as it matters here.
struct Asked {
    head_only: bool,
    path: String,
    none_match: Option<String>,
    /// First byte and version of a rest.
    rest: Option<(usize, String)>,
}

impl Origin {
    pub(crate) fn new(objects: Arc<Objects>, random: Random) -> Arc<Self> {
        Arc::new(Self {
            objects,
            random: Mutex::new(random),
            calm: AtomicBool::new(false),
            answering: watch::Sender::new(0),
            counts: Mutex::default(),
        })
    }

    /// From now on nothing fails. Waits for what may still do so: whoever joins a fill has what became of it.
    ///
    /// # Errors
    /// If there are answers that don't end.
    pub(crate) async fn calm_down(&self) -> anyhow::Result<()> {
        self.calm.store(true, Ordering::Relaxed);
        let mut answering = self.answering.subscribe();
        timeout(ENDED_WITHIN, answering.wait_for(|answers| *answers == 0))
            .await
            .with_context(|| format!("answers of the origin are still under way after {ENDED_WITHIN:?}"))??;
        sleep(HEARD_AFTER).await;
        Ok(())
    }

    /// Requests by what went wrong with their answers.
    pub(crate) fn counts(&self) -> Value {
        json!(*self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn fault(&self, asked: &Asked) -> Fault {
        let faults = if asked.rest.is_some() { &REST_FAULTS[..] } else { &FAULTS[..] };
        let calm = self.calm.load(Ordering::Relaxed);
        let fault = if calm { Fault::None } else { self.draw(|random| random.one_of(faults)) };
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(fault.name()).or_default() += 1;
        fault
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Slow => "slow",
            Self::Silent => "silent",
            Self::Reset => "reset",
            Self::Short => "short",
            Self::Surplus => "surplus",
            Self::Status => "status",
            Self::NoAnswer => "no_answer",
            Self::Changed => "changed",
            Self::OtherRest => "other_rest",
            Self::ShiftedRest => "shifted_rest",
        }
    }
}

/// Serves as long as the runtime runs.
pub(crate) fn serve(origin: Arc<Origin>, listener: TcpListener) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let origin = Arc::clone(&origin);
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                converse(&origin, stream).await
            });
        }
    });
}

/// Answers until one ends the connection.
async fn converse(origin: &Origin, mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await? {
        origin.answering.send_modify(|answers| *answers += 1);
        let answered = answer(origin, &asked, &mut stream).await;
        origin.answering.send_modify(|answers| *answers -= 1);
        if !answered? {
            return Ok(());
        }
    }
    Ok(())
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Asked>> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > HEAD_MAX_BYTES || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let field = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let mut words = head.split(' ');
    let from = field("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    Ok(Some(Asked {
        head_only: words.next() == Some("HEAD"),
        path: words.next().unwrap_or_default().to_owned(),
        none_match: field("if-none-match"),
        rest: from.zip(field("if-range")),
    }))
}

/// Whether the connection stays.
async fn answer(origin: &Origin, asked: &Asked, stream: &mut TcpStream) -> std::io::Result<bool> {
    let objects = &origin.objects;
    let Some(number) = objects.at(&asked.path) else {
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await?;
        return Ok(true);
    };
    let fault = origin.fault(asked);
    if fault == Fault::OtherRest || origin.draw(|random| random.below(1_000)) < NEWS_PER_1000 {
        objects.change(number);
    }
    let version = objects.version(number);
    let (etag, body) = (objects.etag(number, version), objects.body(number, version));
    let manner = objects.manner(number);
    match fault {
        Fault::NoAnswer => return Ok(false),
        Fault::Status => {
            let status = origin.draw(|random| random.one_of(&[(3, 500), (1, 502), (3, 503), (1, 404)]));
            let said =
                format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n", if asked.head_only { 0 } else { 2 });
            stream.write_all(said.as_bytes()).await?;
            if !asked.head_only {
                stream.write_all(b"no").await?;
            }
            return Ok(true);
        }
        _ => {}
    }
    let common = format!(
        "ETag: {etag}\r\nCache-Control: {}\r\nSurrogate-Key: {}\r\nContent-Type: video/mp4\r\n",
        manner.control,
        objects.tag(number).0
    );
    if asked.none_match.as_ref() == Some(&etag) {
        stream.write_all(format!("HTTP/1.1 304 Not Modified\r\n{common}\r\n").as_bytes()).await?;
        return Ok(true);
    }
    let part = rest(asked, &etag, fault, body.len());
    let (status, said) = match &part {
        Some(part) => {
            ("206 Partial Content", format!("Content-Range: bytes {}-{}/{}\r\n", part.start, part.end - 1, body.len()))
        }
        None => ("200 OK", String::new()),
    };
    let whole = part.is_none();
    let body = body.slice(part.unwrap_or(0..body.len()));
    let framing = match manner.chunked && whole {
        true => "Transfer-Encoding: chunked\r\n".to_owned(),
        false => format!("Content-Length: {}\r\n", body.len()),
    };
    stream.write_all(format!("HTTP/1.1 {status}\r\n{common}{said}{framing}\r\n").as_bytes()).await?;
    if asked.head_only {
        return Ok(true);
    }
    let cut = origin.draw(|random| random.below(body.len() + 1));
    send(stream, body, Manner { chunked: manner.chunked && whole, ..manner }, fault, cut, || objects.change(number))
        .await
}

/// The bytes that are asked for and sent, if they are a rest of what there is.
fn rest(asked: &Asked, etag: &str, fault: Fault, len: usize) -> Option<Range<usize>> {
    let (from, of) = asked.rest.as_ref()?;
    let wanted = fault == Fault::OtherRest || of == etag;
    match fault {
        _ if *from >= len || !wanted => None,
        Fault::ShiftedRest => Some(from / 2..len),
        _ => Some(*from..len),
    }
}

/// Sends a body as `fault` has it, wrong from the byte `cut` on; whether the connection stays.
async fn send(
    stream: &mut TcpStream,
    body: Bytes,
    manner: Manner,
    fault: Fault,
    cut: usize,
    change: impl FnOnce(),
) -> std::io::Result<bool> {
    let (begin, end) = (body.slice(..cut), body.slice(cut..));
    let chunked = manner.chunked;
    match fault {
        Fault::Slow => {
            for piece in body.chunks(body.len().div_ceil(SLOW_PIECES)) {
                write(stream, piece, chunked).await?;
                sleep(SLOW_PAUSE).await;
            }
        }
        Fault::Silent => {
            write(stream, &begin, chunked).await?;
            sleep(SILENCE).await;
            write(stream, &end, chunked).await?;
        }
        Fault::Reset | Fault::Changed => {
            write(stream, &begin, chunked).await?;
            if fault == Fault::Changed {
                change();
            }
            // Else the reset may overtake all of it.
            sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Fault::Short => {
            write(stream, &begin, chunked).await?;
            return Ok(false);
        }
        _ => write(stream, &body, chunked).await?,
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    if fault == Fault::Surplus {
        // Bytes that are no answer. One that is, and comes when the next request is under way, is the answer to that for
        // all that HTTP/1 can tell.
        stream.write_all(SURPLUS).await?;
        return Ok(false);
    }
    Ok(true)
}

async fn write(stream: &mut TcpStream, bytes: &[u8], chunked: bool) -> std::io::Result<()> {
    if !chunked {
        return stream.write_all(bytes).await;
    }
    for chunk in bytes.chunks(CHUNK_BYTES) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        stream.write_all(chunk).await?;
        stream.write_all(b"\r\n").await?;
    }
    Ok(())
}

//! Viewers: what they ask for, and what they make of the answers.
//!
//! An answer may fail, and a body may be cut. A body that ends well must be, byte by byte, the version that its ETag names,
//! and not one that was purged before it was asked for.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::edge::servers::TOKEN;
use crate::http_load::{Target, connect};
use crate::soak::objects::Objects;
use crate::soak::random::Random;

/// All that an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A slow viewer waits so long, and so often.
const SLOW_PAUSE: Duration = Duration::from_millis(100);
const SLOW_PAUSES: usize = 20;

/// A connection.
pub(crate) struct Viewer {
    wire: Wire,
    running: JoinHandle<()>,
}

enum Wire {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole,
    Slow,
    Leaves,
    Range,
    Validates,
    Head,
    PurgeUrl,
    PurgeFolder,
    PurgeTag,
}

const KINDS: [(u32, Kind); 9] = [
    (580, Kind::Whole),
    (10, Kind::Slow),
    (80, Kind::Leaves),
    (200, Kind::Range),
    (60, Kind::Validates),
    (60, Kind::Head),
    (7, Kind::PurgeUrl),
    (2, Kind::PurgeFolder),
    (1, Kind::PurgeTag),
];

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Whole and right.
    Right,
    /// What came before the viewer left was right.
    Left,
    /// Right, and without a body.
    Bodiless,
    /// An error that the origin can be the reason for.
    Error,
    /// It was cut, and looks like it.
    Cut,
    Purged,
    /// Bytes of something else, or of what was purged.
    Wrong,
    /// It ended well, before its end.
    LooksWhole,
    /// An answer that nothing accounts for.
    Odd,
}

impl Outcome {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Left => "left",
            Self::Bodiless => "bodiless",
            Self::Error => "error",
            Self::Cut => "cut",
            Self::Purged => "purged",
            Self::Wrong => "wrong",
            Self::LooksWhole => "looks_whole",
            Self::Odd => "odd",
        }
    }

    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Wrong | Self::LooksWhole | Self::Odd)
    }
}

impl Viewer {
    pub(crate) async fn connect(target: &Target, h2: bool) -> anyhow::Result<Self> {
        if h2 {
            let io = TokioIo::new(connect(&target.speaking_h2()).await?.stream);
            let (wire, running) = http2::handshake(TokioExecutor::new(), io).await?;
            let running = tokio::spawn(async move { drop(running.await) });
            return Ok(Self { wire: Wire::Two(wire), running });
        }
        let (wire, running) = http1::handshake(TokioIo::new(connect(target).await?.stream)).await?;
        Ok(Self { wire: Wire::One(wire), running: tokio::spawn(async move { drop(running.await) }) })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.running.is_finished()
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        fields: &[(HeaderName, String)],
        body: String,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method);
        request = match &self.wire {
            Wire::One(_) => request.uri(path).header("host", "localhost"),
            Wire::Two(_) => request.uri(format!("http://localhost{path}")).version(Version::HTTP_2),
        };
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(body))?;
        Ok(match &mut self.wire {
            Wire::One(wire) => {
                wire.ready().await?;
                wire.send_request(request).await?
            }
            Wire::Two(wire) => {
                wire.ready().await?;
                wire.send_request(request).await?
            }
        })
    }

    /// Asks for something that chance names. What the error says is a failure of the connection.
    ///
    /// # Errors
    /// The connection fails.
    pub(crate) async fn ask(&mut self, objects: &Objects, random: &mut Random) -> anyhow::Result<(Outcome, String)> {
        let (kind, number) = (random.one_of(&KINDS), objects.popular(random));
        let asked = async {
            match kind {
                Kind::PurgeUrl | Kind::PurgeFolder | Kind::PurgeTag => self.purge(objects, kind, number).await,
                _ => self.get(objects, kind, number, random).await,
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok((outcome, note))) => Ok((outcome, format!("{kind:?} of {}: {note}", objects.path(number)))),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok((Outcome::Odd, format!("{kind:?} of {}: no end in {PATIENCE:?}", objects.path(number)))),
        }
    }

    /// Asks for the whole of one.
    pub(crate) async fn read(&mut self, objects: &Objects, number: usize) -> anyhow::Result<(Outcome, String)> {
        let mut random = Random::new(0);
        let read = self.get(objects, Kind::Whole, number, &mut random);
        timeout(PATIENCE, read).await.with_context(|| format!("{} did not come", objects.path(number)))?
    }

    async fn purge(&mut self, objects: &Objects, kind: Kind, number: usize) -> anyhow::Result<(Outcome, String)> {
        let (what, named): (String, Vec<usize>) = match kind {
            Kind::PurgeFolder => {
                let (prefix, numbers) = objects.folder(number);
                (format!(r#"{{"prefixes": ["{prefix}"]}}"#), numbers.collect())
            }
            Kind::PurgeTag => {
                let (tag, numbers) = objects.tag(number);
                (format!(r#"{{"tags": ["{tag}"]}}"#), numbers.collect())
            }
            _ => (format!(r#"{{"urls": ["{}"]}}"#, objects.path(number)), vec![number]),
        };
        let versions: Vec<u32> = named.iter().map(|number| objects.version(*number)).collect();
        let authorised = [(hyper::header::AUTHORIZATION, format!("Bearer {TOKEN}"))];
        let answer = self.send(Method::POST, "/.spillway/purge", &authorised, what).await?;
        let status = answer.status();
        let said = answer.into_body().collect().await?.to_bytes();
        if status != StatusCode::OK {
            return Ok((Outcome::Odd, format!("{status} {}", String::from_utf8_lossy(&said))));
        }
        for (number, version) in named.into_iter().zip(versions) {
            objects.purged(number, version);
        }
        Ok((Outcome::Purged, String::new()))
    }

    async fn get(
        &mut self,
        objects: &Objects,
        kind: Kind,
        number: usize,
        random: &mut Random,
    ) -> anyhow::Result<(Outcome, String)> {
        let oldest = objects.oldest(number);
        let validator = objects.etag(number, objects.version(number));
        let range = (kind == Kind::Range).then(|| some_range(objects.least_bytes(number), random));
        let mut fields = Vec::new();
        if let Some((text, _)) = &range {
            fields.push((RANGE, text.clone()));
        }
        if kind == Kind::Validates {
            fields.push((IF_NONE_MATCH, validator.clone()));
        }
        let method = if kind == Kind::Head { Method::HEAD } else { Method::GET };
        let answer = self.send(method, &objects.path(number), &fields, String::new()).await?;
        let head = format!("{} {:?}", answer.status(), answer.headers());
        let (status, h1) = (answer.status(), answer.version() < Version::HTTP_2);
        if status == StatusCode::NOT_FOUND || status.is_server_error() {
            let cut = answer.into_body().collect().await.is_err();
            return Ok((if cut { Outcome::Cut } else { Outcome::Error }, head));
        }
        let field = |name: HeaderName| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let etag = field(ETAG).unwrap_or_default();
        let Some(version) = objects.version_of(number, &etag) else { return Ok((Outcome::Wrong, head)) };
        let body = objects.body(number, version);
        if version < oldest {
            return Ok((Outcome::Wrong, format!("it was purged up to version {oldest}: {head}")));
        }
        if status == StatusCode::NOT_MODIFIED {
            let right = kind == Kind::Validates && etag.trim_start_matches("W/") == validator.trim_start_matches("W/");
            return Ok((if right { Outcome::Bodiless } else { Outcome::Odd }, head));
        }
        let expected = match (status, range.and_then(|(_, of)| of(body.len()))) {
            (StatusCode::OK, _) => body.clone(),
            (StatusCode::PARTIAL_CONTENT, Some((from, to))) => {
                if field(CONTENT_RANGE) != Some(format!("bytes {from}-{}/{}", to - 1, body.len())) {
                    return Ok((Outcome::Wrong, head));
                }
                body.slice(from..to)
            }
            _ => return Ok((Outcome::Odd, head)),
        };
        let length = field(CONTENT_LENGTH);
        if length.as_ref().is_some_and(|length| *length != expected.len().to_string()) {
            return Ok((Outcome::Wrong, head));
        }
        if kind == Kind::Head {
            return Ok((Outcome::Bodiless, head));
        }
        if h1 && length.is_none() && field(TRANSFER_ENCODING).is_none() {
            return Ok((Outcome::LooksWhole, head));
        }
        let leaves_at = (kind == Kind::Leaves).then(|| random.below(expected.len() + 1));
        let (outcome, at) = follow(answer.into_body(), &expected, leaves_at, kind == Kind::Slow).await;
        if outcome == Outcome::Left && h1 {
            // What comes after a part that nobody reads is nothing for the next request.
            self.running.abort();
        }
        Ok((outcome, format!("at byte {at}: {head}")))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Reads a body beside what it should be; what came of it, and at which byte.
async fn follow(mut body: Incoming, expected: &[u8], leaves_at: Option<usize>, slow: bool) -> (Outcome, usize) {
    let (mut at, mut pauses) = (0, if slow { SLOW_PAUSES } else { 0 });
    loop {
        if leaves_at.is_some_and(|leaves_at| at >= leaves_at) {
            return (Outcome::Left, at);
        }
        let Some(frame) = body.frame().await else {
            return (if at == expected.len() { Outcome::Right } else { Outcome::LooksWhole }, at);
        };
        let Ok(frame) = frame else { return (Outcome::Cut, at) };
        let Some(bytes) = frame.data_ref() else { continue };
        if expected.get(at..at + bytes.len()) != Some(&bytes[..]) {
            return (Outcome::Wrong, at);
        }
        at += bytes.len();
        if pauses > 0 {
            pauses -= 1;
            sleep(SLOW_PAUSE).await;
        }
    }
}

/// A range that every version has, and what it is of a body of so many bytes.
fn some_range(least: usize, random: &mut Random) -> (String, impl Fn(usize) -> Option<(usize, usize)>) {
    let (one, other) = (random.below(least), random.below(least));
    let (from, last) = (one.min(other), one.max(other));
    let form = random.below(3);
    let text = match form {
        0 => format!("bytes={from}-{last}"),
        1 => format!("bytes={from}-"),
        _ => format!("bytes=-{}", last + 1),
    };
    let of = move |len: usize| match form {
        0 => Some((from, last + 1)),
        1 => Some((from, len)),
        _ => Some((len.checked_sub(last + 1)?, len)),
    };
    (text, of)
}

/// Reads everything once; every object must come whole and right.
///
/// # Errors
/// The first that does not.
pub(crate) async fn walk(target: &Target, objects: &Objects, from: usize, step: usize) -> anyhow::Result<()> {
    let mut viewer = Viewer::connect(target, false).await?;
    for number in (from..objects.count()).step_by(step) {
        let (outcome, note) = viewer.read(objects, number).await.with_context(|| objects.path(number))?;
        ensure!(outcome == Outcome::Right, "{} is {}: {note}", objects.path(number), outcome.name());
        if !viewer.is_open() {
            bail!("the connection ended after {}", objects.path(number));
        }
    }
    Ok(())
}

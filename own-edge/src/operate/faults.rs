//! What is broken on purpose, so that a drill can show what happens then. Only where the process was started to allow it.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, StatusCode};
use metrics::gauge;
use serde::{Deserialize, Serialize};
use spillway_service::config::ConfigError;
use tokio::sync::watch;

use crate::respond::body::{Cut, EdgeBody};
use crate::serve::receive::Asked;
use crate::serve::reply::Reply;

/// Faults at once.
const FAULTS_MAX: usize = 16;
/// A longer one is better a hang.
const LATENCY_MAX_MS: u64 = 60_000;
/// A request hangs no longer; then it is answered with 504.
const HANG_MAX: Duration = Duration::from_secs(60);
/// A throttled body goes out in so many parts a second.
const PARTS_PER_S: u64 = 10;
/// A body whose length nobody knows is cut behind so many bytes.
const CUT_BEHIND_BYTES: u64 = 16 * 1024;

/// A fault, as `--fault` and `PUT /v1/faults` have it. Of several that hit a request each does what it does: latencies
/// add up, of throttles the lowest counts, of statuses the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Sessions that are hit, percent, 1 to 100; the same ones for all faults. Default 100.
    #[serde(default = "all")]
    pub share_percent: u8,
    /// Paths that are hit: those that begin so. Default `/`.
    #[serde(default = "everywhere")]
    pub prefix: String,
    /// Answers with it, 400 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Answers begin later by so much, 1 to 60000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Each body is sent at this rate, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_kbps: Option<u64>,
    /// Bodies are cut in their middle, and the connection with them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// Nothing is answered until the fault is gone, for up to 60 s.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hang: bool,
}

const fn all() -> u8 {
    100
}

fn everywhere() -> String {
    "/".into()
}

impl Fault {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the key, its value and what would be valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |key: &str, value: &dyn std::fmt::Display, valid: &str| {
            Err(ConfigError::invalid(format!("fault.{key}"), value, valid))
        };
        let does =
            [self.status.is_some(), self.latency_ms.is_some(), self.throttle_kbps.is_some(), self.reset, self.hang];
        match self {
            _ if !does.contains(&true) => {
                bad("(nothing)", &"", "one of status, latency_ms, throttle_kbps, reset = true, hang = true")
            }
            Self { share_percent: share, .. } if !(1..=100).contains(share) => bad("share_percent", share, "1 to 100"),
            Self { prefix, .. } if !prefix.starts_with('/') => bad("prefix", prefix, "a path that begins with /"),
            Self { status: Some(status), .. } if !(400..600).contains(status) => bad("status", status, "400 to 599"),
            Self { latency_ms: Some(ms), .. } if !(1..=LATENCY_MAX_MS).contains(ms) => {
                bad("latency_ms", ms, "1 to 60000")
            }
            Self { throttle_kbps: Some(0), .. } => bad("throttle_kbps", &0, "1 or more"),
            _ => Ok(()),
        }
    }

    fn hits(&self, asked: &Asked) -> bool {
        asked.session.share_ppm() < u32::from(self.share_percent) * 10_000 && asked.key.starts_with(&self.prefix)
    }
}

/// Those in force.
#[derive(Debug)]
pub(crate) struct Faults(watch::Sender<Vec<Fault>>);

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    latency_ms: u64,
    throttle_kbps: Option<u64>,
    status: Option<u16>,
    reset: bool,
    hang: bool,
}

impl Faults {
    /// # Errors
    /// [`ConfigError::Invalid`] for the first one that is not valid, and where there are too many.
    pub(crate) fn new(list: Vec<Fault>) -> Result<Self, ConfigError> {
        let faults = Self(watch::Sender::new(Vec::new()));
        faults.set(list)?;
        Ok(faults)
    }

    fn set(&self, list: Vec<Fault>) -> Result<(), ConfigError> {
        if list.len() > FAULTS_MAX {
            return Err(ConfigError::invalid("faults", list.len(), format!("at most {FAULTS_MAX}")));
        }
        list.iter().try_for_each(Fault::check)?;
        gauge!("spillway_edge_faults").set(list.len() as f64);
        if list != *self.0.borrow() {
            tracing::warn!(?list, "faults are set: requests fail on purpose");
        }
        self.0.send_replace(list);
        Ok(())
    }

    /// What happens to `asked` now, if anything.
    pub(crate) fn effect(&self, asked: &Asked) -> Option<Effect> {
        let list = self.0.borrow();
        let mut hits = list.iter().filter(|fault| fault.hits(asked)).peekable();
        hits.peek()?;
        Some(hits.fold(Effect::default(), |effect, fault| Effect {
            latency_ms: effect.latency_ms + fault.latency_ms.unwrap_or(0),
            throttle_kbps: effect.throttle_kbps.into_iter().chain(fault.throttle_kbps).min(),
            status: fault.status.or(effect.status),
            reset: effect.reset || fault.reset,
            hang: effect.hang || fault.hang,
        }))
    }

    /// Waits as `asked` must. Then it is answered, unless there is a status for it instead.
    pub(crate) async fn outlast(&self, asked: &Asked, effect: Effect) -> Option<StatusCode> {
        let mut changes = self.0.subscribe();
        let mut now = Some(effect);
        let until = tokio::time::Instant::now() + HANG_MAX;
        while now.is_some_and(|effect| effect.hang) {
            match tokio::time::timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => now = self.effect(asked),
                Ok(Err(_)) | Err(_) => return Some(StatusCode::GATEWAY_TIMEOUT),
            }
        }
        let now = now?;
        tokio::time::sleep(Duration::from_millis(now.latency_ms)).await;
        now.status.and_then(|status| StatusCode::from_u16(status).ok())
    }

    /// `GET`, `PUT` and `DELETE` of the list.
    pub(crate) fn command(&self, method: &Method, body: &[u8]) -> (StatusCode, String) {
        let refused = |why: String| (StatusCode::BAD_REQUEST, serde_json::json!({ "error": why }).to_string() + "\n");
        let list = match *method {
            Method::GET => None,
            Method::DELETE => Some(Vec::new()),
            Method::PUT => match serde_json::from_slice(body) {
                Ok(list) => Some(list),
                Err(error) => return refused(format!("faults (valid: a JSON list of faults): {error}")),
            },
            _ => return (StatusCode::METHOD_NOT_ALLOWED, "GET, PUT or DELETE\n".into()),
        };
        if let Some(Err(error)) = list.map(|list| self.set(list)) {
            return refused(error.to_string());
        }
        (StatusCode::OK, serde_json::json!(*self.0.borrow()).to_string() + "\n")
    }
}

impl Effect {
    /// Breaks the body of an answer.
    pub(crate) fn broken(self, mut reply: Reply) -> Reply {
        if self.throttle_kbps.is_none() && !self.reset {
            return reply;
        }
        let body = std::mem::replace(&mut reply.body, EdgeBody::empty());
        let len = body.len();
        if len == Some(0) {
            return reply;
        }
        let breaking = Breaking {
            body,
            came: Bytes::new(),
            part_bytes: self.throttle_kbps.map(|kbps| (kbps.saturating_mul(125) / PARTS_PER_S).max(1)),
            left: if self.reset { len.map_or(CUT_BEHIND_BYTES, |len| len / 2) } else { u64::MAX },
        };
        let stream = futures::stream::unfold(breaking, async |mut breaking| {
            let next = breaking.next().await?;
            Some((next, breaking))
        });
        reply.body = EdgeBody::instead(stream.boxed(), len);
        reply
    }
}

/// A body that is broken on its way.
struct Breaking {
    body: EdgeBody,
    came: Bytes,
    /// Bytes at once, if it is throttled.
    part_bytes: Option<u64>,
    /// Bytes before it is cut.
    left: u64,
}

impl Breaking {
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        if self.left == 0 {
            return Some(Err(Cut));
        }
        if self.came.is_empty() {
            match std::future::poll_fn(|cx| self.body.poll_next(cx)).await? {
                Ok(came) => self.came = came,
                Err(cut) => return Some(Err(cut)),
            }
        }
        if self.part_bytes.is_some() {
            tokio::time::sleep(Duration::from_millis(1000 / PARTS_PER_S)).await;
        }
        let bytes = self.left.min(self.part_bytes.unwrap_or(u64::MAX)).min(self.came.len() as u64);
        self.left -= bytes;
        Some(Ok(self.came.split_to(bytes as usize)))
    }
}

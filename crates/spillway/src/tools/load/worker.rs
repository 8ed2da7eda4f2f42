//! One connection's work: the next beacon of each of its views in turn, each until it is acknowledged.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use spillway_model::Clock;
use spillway_service::CancellationToken;
use tokio::time::Instant;

use super::client::{Answer, Connection, Target};
use super::ledger::Ledger;
use super::tally::Tally;
use super::template::{Beacon, Template};

/// First wait after no answer; it doubles.
const BACKOFF_MIN_MS: u64 = 25;
/// Longest wait after no answer: a restarted collector should be found soon.
const BACKOFF_MAX_MS: u64 = 400;
/// Spread on top of `Retry-After`, so that not all come back at once.
const SPREAD_MS: u64 = 250;

/// When beacons are due.
pub(super) struct Pace {
    start: Instant,
    /// Distance of two beacons; none: as fast as answers come.
    interval: Option<Duration>,
    count: u64,
    issued: AtomicU64,
}

impl Pace {
    pub(super) fn new(start: Instant, interval: Option<Duration>, count: u64) -> Self {
        Self { start, interval, count, issued: AtomicU64::new(0) }
    }

    /// When the next beacon is due; `None` once all are given out.
    fn next(&self) -> Option<Instant> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        if number >= self.count {
            return None;
        }
        Some(self.interval.map_or(self.start, |interval| self.start + interval.mul_f64(number as f64)))
    }
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) template: Template,
    pub(super) targets: Vec<Target>,
    pub(super) pace: Pace,
    pub(super) gzip: bool,
    pub(super) ledger: Option<Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    /// No new beacon from then on.
    pub(super) stop: CancellationToken,
    /// No attempt from then on.
    pub(super) abandon: CancellationToken,
}

/// A connection with its views.
pub(super) struct Worker {
    shared: Arc<Shared>,
    connection: Connection,
    /// Which of the targets; an unanswered or refused beacon goes to the next one.
    target: usize,
    /// Number and next sequence of each view.
    views: Vec<(u64, u64)>,
    attempts: u64,
    body: Vec<u8>,
    tally: Tally,
}

/// The part of a 202 that counts here.
#[derive(Deserialize)]
struct Accepted {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<IgnoredAny>,
}

/// What becomes of a beacon after an attempt.
enum Verdict {
    Acknowledged { events: u64, rejected: u64 },
    Again(Duration),
    Refused(String),
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, number: usize, views: Vec<u64>) -> Self {
        Self {
            target: number % shared.targets.len().max(1),
            attempts: number as u64 * 1_000_003,
            shared,
            connection: Connection::default(),
            views: views.into_iter().map(|view| (view, 0)).collect(),
            body: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Works until nothing is due any more, or it is stopped.
    pub(super) async fn run(mut self) -> anyhow::Result<Tally> {
        let (stop, abandon) = (self.shared.stop.clone(), self.shared.abandon.clone());
        for at in (0..self.views.len()).cycle() {
            let Some(due) = self.shared.pace.next() else { break };
            if due > Instant::now() && stop.run_until_cancelled(tokio::time::sleep_until(due)).await.is_none()
                || stop.is_cancelled()
            {
                break;
            }
            let (view, first_seq) = self.views[at];
            let beacon = Beacon { view, first_seq, created_ms: self.shared.clock.now().0 };
            self.tally.beacons_sent += 1;
            let sent = abandon.run_until_cancelled(self.send(beacon)).await;
            if !sent.unwrap_or(Ok(false))? {
                break;
            }
            self.views[at].1 += self.shared.template.events();
        }
        Ok(self.tally)
    }

    /// Sends `beacon` until it is acknowledged; false if it is refused for good.
    async fn send(&mut self, beacon: Beacon) -> anyhow::Result<bool> {
        let view_id = self.shared.template.view_id(beacon.view);
        for failures in 0_u32.. {
            if failures > 0 {
                self.tally.retries += 1;
            }
            match self.attempt(&view_id, beacon, failures).await? {
                Verdict::Acknowledged { events, rejected } => {
                    if let Some(ledger) = self.shared.ledger.as_ref().filter(|_| rejected == 0) {
                        ledger.note(&view_id, beacon.first_seq, events)?;
                    }
                    self.tally.beacons_acknowledged += 1;
                    self.tally.events_acknowledged += events;
                    self.tally.events_rejected += rejected;
                    return Ok(true);
                }
                Verdict::Again(wait) => {
                    if self.shared.targets.len() > 1 {
                        self.target = (self.target + 1) % self.shared.targets.len();
                        self.connection.close();
                    }
                    tokio::time::sleep(wait).await;
                }
                Verdict::Refused(why) => {
                    self.tally.refused = Some(why);
                    self.shared.stop.cancel();
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    async fn attempt(&mut self, view_id: &str, beacon: Beacon, failures: u32) -> anyhow::Result<Verdict> {
        let shared = Arc::clone(&self.shared);
        self.attempts += 1;
        self.body.clear();
        shared.template.write(&mut self.body, beacon, shared.clock.now().0);
        let body = if shared.gzip { packed(&self.body)? } else { Bytes::copy_from_slice(&self.body) };
        self.tally.json_bytes += self.body.len() as u64;
        self.tally.bytes += body.len() as u64;
        let begun = Instant::now();
        match self.connection.post(&shared.targets[self.target], view_id, body, shared.gzip).await {
            Ok(answer) => {
                self.tally.status(answer.status);
                if answer.status == 202 {
                    self.tally.latency(begun.elapsed().as_secs_f64() * 1000.0);
                }
                self.judge(&answer)
            }
            Err(error) => {
                self.tally.no_answer(&error);
                let most = (BACKOFF_MIN_MS << failures.min(10)).min(BACKOFF_MAX_MS);
                Ok(Verdict::Again(Duration::from_millis(most / 2 + self.draw(most / 2))))
            }
        }
    }

    fn judge(&self, answer: &Answer) -> anyhow::Result<Verdict> {
        match answer.status {
            202 => {
                let Accepted { accepted, rejected } =
                    serde_json::from_slice(&answer.body).context("read the collector's answer")?;
                Ok(Verdict::Acknowledged { events: accepted, rejected: rejected.len() as u64 })
            }
            408 | 429 | 500..=599 => {
                let wait_ms = answer.retry_after_s.unwrap_or(0).saturating_mul(1000) + self.draw(SPREAD_MS);
                Ok(Verdict::Again(Duration::from_millis(wait_ms)))
            }
            status => {
                let said = String::from_utf8_lossy(&answer.body).chars().take(300).collect::<String>();
                Ok(Verdict::Refused(format!("the collector refuses beacons with {status}: {said}")))
            }
        }
    }

    /// A number below `below`, another one in each attempt (splitmix64).
    fn draw(&self, below: u64) -> u64 {
        let mut z = (self.shared.seed ^ self.attempts).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below.max(1)
    }
}

fn packed(body: &[u8]) -> anyhow::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.into())
}

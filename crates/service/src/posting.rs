//! Rows on their way to a collector: gathered into batches and posted by a task of their own, never by who made them.
//!
//! A row waits in a bounded queue; what does not fit is dropped and counted. A batch keeps its number and its rows until
//! a collector has it, so that the lake has it once however often it is sent. With several collectors a batch that one
//! does not take goes to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::ConfigError;
use crate::random;

/// A batch goes out after so long, though it is small: a fresh row shows in a query within seconds.
const BATCH_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a batch; the collector takes 512 KiB.
const BATCH_MAX_BYTES: usize = 384 * 1024;
/// Rows of a batch; the collector takes 10,000.
const BATCH_MAX_ROWS: usize = 2_000;
/// A collector that takes longer is tried again, or another one.
const POST_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a failure; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Pause between the tries of the last seconds.
const PAUSE_AT_END: Duration = Duration::from_millis(100);

/// Where rows go.
pub struct Posting {
    /// Base URLs of collectors, at least one.
    pub collectors: Vec<String>,
    /// Secret between roles.
    pub service_token: String,
    /// Table, for metrics.
    pub table: &'static str,
    /// Number of the first batch. Above every number that this sender has used before: a time in ms is.
    pub first_seq: u64,
    /// Rows that may wait.
    pub queue_rows: usize,
    /// Path and query for a batch of this number.
    pub target: Box<dyn Fn(u64) -> String + Send + Sync>,
    /// Rows that a collector's 202 says it refused.
    pub rejected: fn(&[u8]) -> usize,
}

/// Takes rows; cheap to clone, never waits.
pub struct Outbox<T> {
    queue: mpsc::Sender<T>,
    counts: Arc<Counts>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), counts: Arc::clone(&self.counts) }
    }
}

/// The task that posts.
pub struct Poster {
    task: JoinHandle<()>,
    stop: CancellationToken,
    counts: Arc<Counts>,
}

struct Counts {
    waiting: AtomicU64,
    waiting_exported: Gauge,
    sent: Counter,
    queue_full: Counter,
    too_large: Counter,
    refused: Counter,
    rejected: Counter,
    shutdown: Counter,
}

impl Counts {
    fn new(table: &'static str) -> Self {
        let dropped =
            |reason: &'static str| counter!("spillway_rows_dropped_total", "table" => table, "reason" => reason);
        Self {
            waiting: AtomicU64::new(0),
            waiting_exported: gauge!("spillway_rows_waiting", "table" => table),
            sent: counter!("spillway_rows_sent_total", "table" => table),
            queue_full: dropped("queue_full"),
            too_large: dropped("too_large"),
            refused: dropped("refused"),
            rejected: dropped("rejected"),
            shutdown: dropped("shutdown"),
        }
    }

    fn done(&self, rows: usize) {
        self.waiting.fetch_sub(rows as u64, Ordering::Relaxed);
    }
}

/// Checks base URLs of collectors.
///
/// # Errors
/// [`ConfigError::Invalid`] names `key`, the value and what is valid.
pub fn check_collectors(key: &str, collectors: &[String]) -> Result<(), ConfigError> {
    let holds = |url: &&String| {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', ' ', '@']))
    };
    match collectors.iter().find(|url| !holds(url)) {
        Some(url) => Err(ConfigError::invalid(key, url, "absolute http:// or https:// URLs without query")),
        None => Ok(()),
    }
}

/// Checks the share of what is reported and gives it in millionths.
///
/// # Errors
/// As [`check_collectors`].
pub fn check_share(key: &str, share: f64) -> Result<u32, ConfigError> {
    if (0.0..=1.0).contains(&share) {
        Ok((share * 1e6).round() as u32)
    } else {
        Err(ConfigError::invalid(key, share, "0 to 1"))
    }
}

/// Starts posting; `line` makes a row's JSON of what the outbox takes, in the poster's own task. Must be called in a
/// tokio runtime.
pub fn start<T: Send + 'static>(
    posting: Posting,
    line: impl FnMut(T) -> Vec<u8> + Send + 'static,
) -> (Outbox<T>, Poster) {
    let counts = Arc::new(Counts::new(posting.table));
    let (queue, rows) = mpsc::channel(posting.queue_rows.max(1));
    let stop = CancellationToken::new();
    let work = Work {
        client: reqwest::Client::builder().timeout(POST_TIMEOUT).build().unwrap_or_default(),
        seq: posting.first_seq,
        at: 0,
        reachable: true,
        posting,
        counts: Arc::clone(&counts),
        stop: stop.clone(),
    };
    let task = tokio::spawn(work.run(rows, line));
    (Outbox { queue, counts: Arc::clone(&counts) }, Poster { task, stop, counts })
}

impl<T> Outbox<T> {
    /// Takes a row, or drops and counts it if too many wait.
    pub fn push(&self, row: T) {
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(row).is_err() {
            self.counts.done(1);
            self.counts.queue_full.increment(1);
        }
    }
}

impl Poster {
    /// Takes no more rows, posts what waits, and ends after `within` at the latest; what is left then is counted as
    /// dropped.
    pub async fn finish(self, within: Duration) {
        self.stop.cancel();
        let mut task = self.task;
        if tokio::time::timeout(within, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
        let left = self.counts.waiting.swap(0, Ordering::Relaxed);
        if left > 0 {
            self.counts.shutdown.increment(left);
            tracing::warn!(rows = left, "rows were not posted before the end");
        }
    }
}

/// Rows that go out together.
#[derive(Default)]
struct Batch {
    body: Vec<u8>,
    rows: usize,
}

struct Work {
    client: reqwest::Client,
    posting: Posting,
    counts: Arc<Counts>,
    stop: CancellationToken,
    seq: u64,
    /// Which collector is asked.
    at: usize,
    reachable: bool,
}

/// What became of a try.
enum Tried {
    Stored { rejected: usize },
    Refused(String),
    Again { error: String, after: Option<Duration> },
}

impl Work {
    async fn run<T>(mut self, mut rows: mpsc::Receiver<T>, mut line: impl FnMut(T) -> Vec<u8>) {
        // A row that did not fit into the batch before.
        let mut over = None;
        loop {
            let batch = self.gather(&mut rows, &mut line, &mut over).await;
            if batch.rows == 0 {
                return;
            }
            self.post(batch).await;
            self.counts.waiting_exported.set(self.counts.waiting.load(Ordering::Relaxed) as f64);
        }
    }

    /// Rows of one batch; none if there will be no more.
    async fn gather<T>(
        &self,
        rows: &mut mpsc::Receiver<T>,
        line: &mut impl FnMut(T) -> Vec<u8>,
        over: &mut Option<Vec<u8>>,
    ) -> Batch {
        let mut batch = Batch::default();
        let mut full = std::pin::pin!(tokio::time::sleep(Duration::MAX));
        while batch.rows < BATCH_MAX_ROWS {
            let json = match over.take() {
                Some(json) => json,
                None => {
                    let row = tokio::select! {
                        row = rows.recv() => row,
                        () = self.stop.cancelled(), if !rows.is_closed() => {
                            rows.close();
                            continue;
                        }
                        () = &mut full => return batch,
                    };
                    let Some(row) = row else { return batch };
                    line(row)
                }
            };
            if json.len() > BATCH_MAX_BYTES {
                self.counts.too_large.increment(1);
                self.counts.done(1);
                continue;
            }
            if batch.body.len() + json.len() >= BATCH_MAX_BYTES {
                *over = Some(json);
                return batch;
            }
            if batch.rows == 0 {
                full.as_mut().reset(tokio::time::Instant::now() + BATCH_EVERY);
            }
            batch.body.extend_from_slice(&json);
            batch.body.push(b'\n');
            batch.rows += 1;
        }
        batch
    }

    /// Posts until a collector has the batch, or says that it never will.
    async fn post(&mut self, batch: Batch) {
        let (seq, body) = (self.seq, bytes::Bytes::from(batch.body));
        self.seq += 1;
        let mut pause = PAUSE_MIN;
        loop {
            match self.try_once(seq, body.clone()).await {
                Tried::Stored { rejected } => {
                    let rejected = rejected.min(batch.rows);
                    self.counts.sent.increment((batch.rows - rejected) as u64);
                    self.counts.rejected.increment(rejected as u64);
                    if rejected > 0 {
                        tracing::warn!(table = self.posting.table, seq, rejected, "a collector refused rows");
                    }
                    break;
                }
                Tried::Refused(error) => {
                    self.counts.refused.increment(batch.rows as u64);
                    tracing::error!(table = self.posting.table, seq, rows = batch.rows, error, "a batch was refused");
                    break;
                }
                Tried::Again { error, after } => {
                    if std::mem::replace(&mut self.reachable, false) {
                        tracing::warn!(table = self.posting.table, error, "no collector takes rows; trying on");
                    }
                    self.at = (self.at + 1) % self.posting.collectors.len();
                    let wait = after.unwrap_or_else(|| spread(pause)).min(PAUSE_MAX);
                    pause = (pause * 2).min(PAUSE_MAX);
                    self.rest(wait).await;
                    continue;
                }
            }
        }
        self.counts.done(batch.rows);
        if !std::mem::replace(&mut self.reachable, true) {
            tracing::info!(table = self.posting.table, "a collector takes rows again");
        }
    }

    /// Waits, but not for long at the end.
    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.stop.cancelled() => tokio::time::sleep(pause.min(PAUSE_AT_END)).await,
        }
    }

    async fn try_once(&self, seq: u64, body: bytes::Bytes) -> Tried {
        let collector = self.posting.collectors[self.at].trim_end_matches('/');
        let url = format!("{collector}{}", (self.posting.target)(seq));
        let request = self.client.post(url).bearer_auth(&self.posting.service_token);
        let answer = match request.header(CONTENT_TYPE, "application/x-ndjson").body(body).send().await {
            Ok(answer) => answer,
            Err(error) => return Tried::Again { error: said(&error), after: None },
        };
        let status = answer.status();
        if status.is_success() {
            return match answer.bytes().await {
                Ok(bytes) => Tried::Stored { rejected: (self.posting.rejected)(&bytes) },
                Err(error) => Tried::Again { error: said(&error), after: None },
            };
        }
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.text().await.unwrap_or_default();
        let error = format!("{collector} answered {status}: {}", text.chars().take(200).collect::<String>());
        let again =
            status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        if again { Tried::Again { error, after: seconds.map(Duration::from_secs) } } else { Tried::Refused(error) }
    }
}

/// The error with its causes.
fn said(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        out = format!("{out}: {error}");
        cause = error.source();
    }
    out
}

/// Half of `pause` to all of it: senders that failed together must not come back together.
fn spread(pause: Duration) -> Duration {
    let [random] = random::bytes::<1>();
    pause.mul_f64(0.5 + f64::from(random) / 512.0)
}

#[cfg(test)]
#[path = "posting_tests.rs"]
mod tests;

//! One HTTP request as a player makes it: paced by the access line, with its times.

use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use url::Url;

use super::behaviour::Trouble;

/// Bytes of a playlist or answer that are kept.
const MAX_KEPT_BYTES: usize = 1024 * 1024;
/// A body that takes longer than this is given up, whoever waits.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);
/// The line is waited for in steps of this at least: finer ones would cost more than they tell.
const MIN_WAIT: Duration = Duration::from_millis(15);

/// The viewer's access line, shared by all of its requests.
#[derive(Debug)]
pub(crate) struct Line {
    bps: u64,
    free_at: Mutex<Instant>,
}

impl Line {
    pub(crate) fn new(bps: u64) -> Self {
        Self { bps: bps.max(1), free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until `bytes` have come through.
    async fn receive(&self, bytes: usize) {
        let nanos = (bytes as u64).saturating_mul(8_000_000_000) / self.bps;
        let until = {
            let mut free_at = self.free_at.lock().expect("nothing panics while reserving");
            let until = (*free_at).max(Instant::now()) + Duration::from_nanos(nanos);
            *free_at = until;
            until
        };
        if until.saturating_duration_since(Instant::now()) >= MIN_WAIT {
            tokio::time::sleep_until(until).await;
        }
    }
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    pub(crate) ttfb_ms: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) total_bytes: Option<u64>,
}

/// A complete answer of any status.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: u16,
    pub(crate) ttfb_ms: u64,
    pub(crate) elapsed_ms: u64,
    pub(crate) bytes: u64,
    /// Empty unless it was to be kept.
    pub(crate) body: Vec<u8>,
    pub(crate) retry_after_s: Option<u32>,
}

/// Why there is no complete answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Broken,
    Timeout,
    /// `on_chunk` wanted no more.
    Abandoned,
}

impl Cut {
    pub(crate) fn trouble(self) -> Trouble {
        if self == Self::Broken { Trouble::Broken } else { Trouble::Timeout }
    }
}

/// Gets `url`; `on_progress` sees every chunk and may end the download by returning false.
pub(crate) async fn get(
    client: &reqwest::Client,
    line: &Line,
    url: &Url,
    first_byte_timeout: Duration,
    keep: bool,
    mut on_progress: impl FnMut(Progress) -> bool,
) -> Result<Fetched, Cut> {
    let begun = Instant::now();
    let elapsed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let deadline = begun + WHOLE_TIMEOUT;
    let sent = tokio::time::timeout(first_byte_timeout, client.get(url.clone()).send()).await;
    let answer = sent.map_err(|_| Cut::Timeout)?.map_err(|_| Cut::Broken)?;
    let ttfb_ms = elapsed_ms();
    let mut progress = Progress { ttfb_ms: Some(ttfb_ms), bytes: 0, total_bytes: answer.content_length() };
    let status = answer.status().as_u16();
    let retry_after_s = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    loop {
        // Every chunk may take as long as the first byte: a trickle is slow, silence is dead.
        let patience = deadline.min(Instant::now() + first_byte_timeout);
        let Some(chunk) = tokio::time::timeout_at(patience, chunks.next()).await.map_err(|_| Cut::Timeout)? else {
            break;
        };
        let chunk = chunk.map_err(|_| Cut::Broken)?;
        line.receive(chunk.len()).await;
        progress.bytes += chunk.len() as u64;
        if keep && body.len() + chunk.len() <= MAX_KEPT_BYTES {
            body.extend_from_slice(&chunk);
        }
        if !on_progress(progress) {
            return Err(Cut::Abandoned);
        }
    }
    if progress.total_bytes.is_some_and(|total| total != progress.bytes) {
        return Err(Cut::Broken);
    }
    Ok(Fetched { status, ttfb_ms, elapsed_ms: elapsed_ms(), bytes: progress.bytes, body, retry_after_s })
}

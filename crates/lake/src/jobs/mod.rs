//! Jobs that look after the lake, or build tables from committed ones: one at a time, under a lease.
//!
//! Invariant: a job changes a table by single commits only; each replaces files that are still part of the table at
//! that very version, so a job that lost its lease, raced another or crashed half-way changes nothing.

pub mod lease;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use spillway_model::Clock;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::LakeError;

/// A piece of work on the lake that is done again and again.
#[async_trait]
pub trait Job: Send + Sync {
    /// Name in logs, metrics and the timetable.
    fn name(&self) -> &'static str;
    /// Time between two runs.
    fn interval(&self) -> Duration;
    /// Does what is due now; running it again at once must find nothing to do.
    ///
    /// # Errors
    /// [`LakeError`]; what was committed stays, nothing else is visible.
    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError>;
}

/// What surrounds a run.
#[derive(Clone)]
pub struct JobContext {
    /// Root of the lake.
    pub root: Url,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether the run may go on.
    pub permit: Permit,
    /// Memory of sorts and joins, bytes; above it they spill to `spill_dir`.
    pub memory_max_bytes: usize,
    /// Folder of temporary files; the system's if `None`.
    pub spill_dir: Option<PathBuf>,
}

/// What a run did; summed over tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct JobReport {
    /// Commits made.
    pub commits: u64,
    /// Files that went out of tables.
    pub files_removed: u64,
    /// Files that came into tables.
    pub files_added: u64,
    /// Size of the files that went, bytes.
    pub bytes_removed: u64,
    /// Size of the files that came, bytes.
    pub bytes_added: u64,
    /// Rows written, or dropped for good where the job drops rows.
    pub rows: u64,
    /// What was done, for people: a line each.
    pub lines: Vec<String>,
}

impl JobReport {
    /// Adds what another part of the run did.
    pub fn add(&mut self, other: Self) {
        self.commits += other.commits;
        self.files_removed += other.files_removed;
        self.files_added += other.files_added;
        self.bytes_removed += other.bytes_removed;
        self.bytes_added += other.bytes_added;
        self.rows += other.rows;
        self.lines.extend(other.lines);
    }
}

/// The right to go on: ends with the lease or at the process's stop.
#[derive(Clone, Debug)]
pub struct Permit {
    /// Monotonic ms until which the lease is held.
    until: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Permit {
    /// A permit until `until` (monotonic, ms) that `stop` ends early.
    #[must_use]
    pub fn new(until: u64, stop: CancellationToken) -> Self {
        Self { until: Arc::new(AtomicU64::new(until)), stop }
    }

    /// A permit without a lease, for one who knows that nobody else is there.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX, CancellationToken::new())
    }

    /// Moves its end.
    pub fn renew(&self, until: u64) {
        self.until.store(until, Ordering::Release);
    }

    /// Ends it.
    pub fn end(&self) {
        self.stop.cancel();
    }

    /// Completes when it has been ended.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
    }
}

impl JobContext {
    /// A context for `root` with 256 MB for sorts.
    #[must_use]
    pub fn new(root: &Url, clock: Arc<dyn Clock>, permit: Permit) -> Self {
        Self { root: root.clone(), clock, permit, memory_max_bytes: 256 << 20, spill_dir: None }
    }

    /// Now, ms since epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now().0
    }

    /// Whether the run may go on; asked before each commit.
    ///
    /// # Errors
    /// [`LakeError::Interrupted`].
    pub fn check(&self) -> Result<(), LakeError> {
        let held = self.clock.monotonic().0 < self.permit.until.load(Ordering::Acquire);
        if held && !self.permit.stop.is_cancelled() { Ok(()) } else { Err(LakeError::Interrupted) }
    }
}

//! Jobs that look after the lake, or build tables from committed ones: one at a time, under a lease.
//!
//! Invariant: a job changes a table by single commits only; each replaces files that are still part of the table at
//! that very version, so a job that lost its lease, raced another or crashed half-way changes nothing.

mod checkpoint;
mod compact;
mod config;
mod forget;
mod layout;
pub mod lease;
mod replace;
mod retain;
mod rewrite;
pub mod rollup;
pub mod runner;
mod source;
mod vacuum;
pub mod views;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::kernel::Add;
use spillway_model::Clock;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use checkpoint::Checkpoint;
pub use compact::Compact;
pub use config::LakeConfig;
pub use forget::{Forgotten, Subject, forget};
pub use retain::{Retain, default_days, first_kept};
pub use rewrite::Rewrite;
pub use vacuum::{VACUUM_RETENTION_HOURS, Vacuum, vacuum_replaced};

pub(crate) use forget::forgotten_mark;
pub(crate) use layout::row_key;
pub(crate) use replace::{DataFile, Upkeep};

use crate::LakeError;
use crate::time::day_of;

/// Rows of a batch; events are wide, and each run that a sort spilled holds one while it is merged.
const BATCH_ROWS: usize = 2_048;

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
    /// The files of one commit.
    pub(crate) fn of(removed: &[DataFile], added: &[Add]) -> Self {
        let rows = |add: &Add| add.get_stats().ok().flatten().map_or(0, |stats| stats.num_records);
        Self {
            commits: 1,
            files_removed: removed.len() as u64,
            files_added: added.len() as u64,
            bytes_removed: removed.iter().map(|file| file.bytes).sum(),
            bytes_added: added.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum(),
            rows: added.iter().map(|add| u64::try_from(rows(add)).unwrap_or(0)).sum(),
            lines: Vec::new(),
        }
    }

    /// With `line` for people.
    pub(crate) fn line(mut self, line: String) -> Self {
        self.lines.push(line);
        self
    }

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

    pub(crate) fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
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
    /// A context for `root` with 128 MB for sorts.
    #[must_use]
    pub fn new(root: &Url, clock: Arc<dyn Clock>, permit: Permit) -> Self {
        Self { root: root.clone(), clock, permit, memory_max_bytes: 128 << 20, spill_dir: None }
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
        let held = self.clock.monotonic().0 < self.permit.until();
        if held && !self.permit.stop.is_cancelled() { Ok(()) } else { Err(LakeError::Interrupted) }
    }

    /// A session whose sorts and joins stay within the context's memory and spill the rest.
    ///
    /// # Errors
    /// [`LakeError::Io`] if the spill folder can't be made.
    pub fn session(&self) -> Result<SessionContext, LakeError> {
        session(self.memory_max_bytes, self.spill_dir.as_deref())
    }
}

pub(crate) fn session(memory_max_bytes: usize, spill_dir: Option<&Path>) -> Result<SessionContext, LakeError> {
    // One partition: a job must not take the collector's cores, and a day's rows stay in order.
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let mut runtime = RuntimeEnvBuilder::new().with_memory_limit(memory_max_bytes, 1.0);
    if let Some(dir) = spill_dir {
        std::fs::create_dir_all(dir).map_err(LakeError::io(dir))?;
        runtime = runtime.with_temp_file_path(dir);
    }
    Ok(SessionContext::new_with_config_rt(config, runtime.build_arc()?))
}

/// Whether `day` ended `lateness_ms` ago or earlier.
pub(crate) fn day_closed(day: &str, now_ms: u64, lateness_ms: u64) -> bool {
    day < day_of(now_ms.saturating_sub(lateness_ms)).as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY_MS;

    #[test]
    fn a_day_is_closed_when_its_end_and_the_lateness_are_over() {
        // 2026-01-01 00:00; the day's end is at + 24 h, with 48 h lateness it closes at + 72 h.
        let (start, late) = (1_767_225_600_000, 2 * DAY_MS);
        assert!(!day_closed("2026-01-01", start, late));
        assert!(!day_closed("2026-01-01", start + 3 * DAY_MS - 1, late));
        assert!(day_closed("2026-01-01", start + 3 * DAY_MS, late));
        assert!(!day_closed("2026-01-02", start + 3 * DAY_MS, late));
    }
}

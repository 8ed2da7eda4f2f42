//! Jobs: each leaves every row where it belongs, once, whoever else writes.

mod compact;
mod forget;
mod lease;
mod rewrite;
mod upkeep;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use spillway_lake::events::EventBatch;
use spillway_lake::jobs::{Compact, Job as _, JobContext, JobReport, LakeConfig, Permit, Rewrite};
use spillway_lake::schema::{TableName, align};
use spillway_lake::verify::{Report, WalOf, verify};
use spillway_lake::{EventLog, LakeSession, TailSource};
use spillway_model::{Clock, Millis, TimestampMs};

use crate::support::{NOW_MS, Place, heartbeat};

pub const HOUR_MS: u64 = 3_600_000;
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// A clock that a test moves.
#[derive(Clone, Default)]
pub struct Hand(Arc<AtomicU64>);

impl Hand {
    pub fn at(now_ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(now_ms)))
    }

    pub fn forward(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

impl Place {
    pub fn context(&self, now_ms: u64) -> JobContext {
        let spill_dir = Some(self.dir.path().join("spill"));
        JobContext { spill_dir, ..JobContext::new(&self.root, Arc::new(Hand::at(now_ms)), Permit::unlimited()) }
    }

    pub async fn count(&self, sql: &str) -> u64 {
        let session = LakeSession::open(&self.root, vec![]).await.expect("open");
        session.count(sql).await.expect("count")
    }

    /// Rows in the table, repeated ones included.
    pub async fn rows(&self) -> u64 {
        self.count("SELECT count(*) FROM events_committed").await
    }

    /// Parquet files of `events` on the disk.
    pub fn on_disk(&self) -> Vec<PathBuf> {
        let mut open = vec![self.dir.path().join("lake/events")];
        let mut files = Vec::new();
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.ends_with("_delta_log") {
                    open.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet") {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// `verify` with the WAL of `collector`.
    pub async fn verified(&self, collector: &str) -> Report {
        let (dir, kept_from) = (self.dir.path().join("wal").join(collector), BTreeMap::new());
        let wal = WalOf { dir: &dir, collector, kept_from: &kept_from };
        verify(&self.root, &[wal]).await.expect("verify")
    }
}

/// A heartbeat that was received, and happened, at `at_ms`.
pub fn beat(view: &str, seq: u64, at_ms: u64) -> EventBatch {
    let mut batch = heartbeat(view, seq, "cdn-a", seq * 10_000, 0);
    batch.received_ms = at_ms;
    batch.events[0].event_ms = at_ms;
    batch
}

/// One event, one commit, one file.
pub async fn store(log: &EventLog, batch: EventBatch) {
    log.append(batch, 100).await.expect("append");
    while log.commit().await.expect("commit").more {}
}

/// Rows of `events` that wait for their commit, as a collector would write them.
pub async fn waiting(place: &Place, log: &EventLog) -> RecordBatch {
    let session = LakeSession::open(&place.root, vec![TailSource::Local(log.tail())]).await.expect("open");
    let rows = session.query("SELECT * FROM events_tail").await.expect("rows");
    let schema = TableName::Events.schema();
    let rows: Vec<RecordBatch> = rows.iter().map(|batch| align(batch, &schema).expect("align")).collect();
    arrow::compute::concat_batches(&schema, &rows).expect("concat")
}

pub async fn compact(context: &JobContext) -> JobReport {
    compact_job().run(context).await.expect("compact")
}

pub fn compact_job() -> Compact {
    LakeConfig::default().compact()
}

pub fn rewrite_job() -> Rewrite {
    LakeConfig::default().rewrite()
}

/// Noon of the day on which `NOW_MS` falls.
pub const NOON_MS: u64 = NOW_MS + 12 * HOUR_MS;

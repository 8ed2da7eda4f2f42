//! Rows that go into the lake beside the work: queued, committed every few seconds, tried again while the lake is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spillway_lake::LakeError;
use spillway_lake::records::Record;
use spillway_lake::table::Table;
use spillway_service::CancellationToken;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Rows that wait to be written: an hour of one a second.
const QUEUE_MAX: usize = 4_096;
/// And what their texts may take, bytes.
const BYTES_MAX: usize = 64 << 20;
/// With so much waiting a commit is made at once, bytes.
const COMMIT_BYTES: usize = 8 << 20;

/// Takes rows; never waits.
#[derive(Clone)]
pub(crate) struct Ledger<R> {
    rows: mpsc::Sender<R>,
    bytes: Arc<AtomicUsize>,
}

/// The task that writes.
pub(crate) struct Writer {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// Starts a ledger whose commits are `app_id`'s.
pub(crate) fn start<R: Record>(root: url::Url, app_id: String, every: Duration) -> (Ledger<R>, Writer) {
    let (rows, queue) = mpsc::channel(QUEUE_MAX);
    let (stop, bytes) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let task = tokio::spawn(write::<R>(root, app_id, every, (queue, Arc::clone(&bytes)), stop.clone()));
    (Ledger { rows, bytes }, Writer { task, stop })
}

impl<R: Record> Ledger<R> {
    /// Queues a row and says whether it did. A full queue (an unreachable lake) loses it, counted.
    pub(crate) fn record(&self, row: R) -> bool {
        let bytes = row.bytes();
        let fits = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= BYTES_MAX;
        if fits && self.rows.try_send(row).is_ok() {
            return true;
        }
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        lost::<R>(1);
        false
    }
}

impl Writer {
    /// Writes what is queued and ends.
    pub(crate) async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the last rows may not be in the lake");
        }
    }
}

/// Counts rows that will never be in the lake.
pub(crate) fn lost<R: Record>(rows: usize) {
    metrics::counter!("spillway_orchestrator_rows_lost_total", "table" => R::TABLE.as_str()).increment(rows as u64);
}

async fn write<R: Record>(
    root: url::Url,
    app_id: String,
    every: Duration,
    (mut queue, bytes): (mpsc::Receiver<R>, Arc<AtomicUsize>),
    stop: CancellationToken,
) {
    let mut waiting: Vec<R> = Vec::new();
    let size = |rows: &[R]| rows.iter().map(Record::bytes).sum::<usize>();
    let done = |rows: &[R]| bytes.fetch_sub(size(rows), Ordering::Relaxed);
    let mut pace = tokio::time::interval(every);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let more = tokio::select! {
            row = queue.recv() => match row {
                Some(row) => { waiting.push(row); waiting.len() < QUEUE_MAX && size(&waiting) < COMMIT_BYTES }
                None => false,
            },
            _ = pace.tick() => false,
            () = stop.cancelled(), if !queue.is_closed() => { queue.close(); true }
        };
        if more {
            continue;
        }
        if !waiting.is_empty() {
            match append(&root, &app_id, &waiting).await {
                Ok(()) => {
                    done(&waiting);
                    waiting.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, table = R::TABLE.as_str(), rows = waiting.len(), "rows not written yet");
                }
            }
            let too_many = waiting.len().saturating_sub(QUEUE_MAX / 2);
            lost::<R>(too_many);
            done(&waiting[..too_many]);
            waiting.drain(..too_many);
        }
        if queue.is_closed() && queue.is_empty() {
            lost::<R>(waiting.len());
            return;
        }
    }
}

async fn append<R: Record>(root: &url::Url, app_id: &str, rows: &[R]) -> Result<(), LakeError> {
    let mut table = Table::open(root, R::TABLE).await?;
    let version = table.committed(app_id).await?.unwrap_or(0) + 1;
    table.append(R::to_arrow(rows)?, app_id, version).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_lake::records::Change;
    use spillway_lake::{LakeSession, lake_root};

    fn change(object: &str) -> Change {
        Change { at_ms: 1_767_225_600_000, action: "override.add".into(), object: object.into(), ..Change::default() }
    }

    #[tokio::test]
    async fn rows_are_in_the_lake_after_the_end_and_only_once() {
        let dir = tempfile::tempdir().expect("dir");
        let root = lake_root(dir.path().to_str().expect("utf-8")).expect("root");
        for run in 0..2 {
            let (ledger, writer) = start::<Change>(root.clone(), "o-audit".into(), Duration::from_millis(20));
            assert!(ledger.record(change(&format!("{run}-first"))));
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(ledger.record(change(&format!("{run}-last"))));
            writer.close().await;
            assert!(!ledger.record(change("after the end")));
        }
        let session = LakeSession::open(&root, vec![]).await.expect("open");
        assert_eq!(session.count("SELECT count(DISTINCT object) FROM audit").await.expect("count"), 4);
        assert_eq!(session.count("SELECT count(*) FROM audit").await.expect("count"), 4);
    }
}

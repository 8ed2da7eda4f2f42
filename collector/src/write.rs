//! Write: from the log into the table, every few seconds and at the end.

use std::sync::Arc;
use std::time::Duration;

use spillway_lake::EventLog;
use spillway_service::CancellationToken;

/// Commits until `shutdown`, each `interval` and as soon as enough rows wait.
pub(crate) async fn commit_loop(log: Arc<EventLog>, interval: Duration, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = log.commit_due() => {}
            () = shutdown.cancelled() => return,
        }
        if !commit_all(&log).await {
            // Also when rows press: a table that fails is not asked again at once.
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// Commits until nothing waits; false after an error, which leaves the rows in WAL and tail.
pub(crate) async fn commit_all(log: &EventLog) -> bool {
    loop {
        match log.commit().await {
            Ok(report) if report.more => {}
            Ok(_) => {
                metrics::gauge!("spillway_lake_commit_failing").set(0.0);
                return true;
            }
            Err(error) => {
                metrics::gauge!("spillway_lake_commit_failing").set(1.0);
                tracing::error!(%error, "a commit failed; the rows stay in the wal");
                return false;
            }
        }
    }
}

//! Looking after: whether table and WAL fit together.

use std::path::Path;

use url::Url;

use crate::wal::{codec, scan};
use crate::{LakeError, LakeSession};

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Rows in the table.
    pub committed_rows: u64,
    /// Rows in the WAL, committed or not.
    pub wal_rows: u64,
    /// WAL records.
    pub wal_records: u64,
    /// Missing sequences inside the WAL.
    pub gaps: u64,
    /// Torn ends of the WAL; one is normal after a crash.
    pub torn_tails: u64,
    /// Rows of the table whose key another row has too.
    pub duplicates: u64,
}

/// Reads the whole table and, where given, the WAL, and changes neither.
///
/// # Errors
/// [`LakeError`]: damage in the WAL, a table that can't be read.
pub async fn verify(root: &Url, wal_dir: Option<&Path>) -> Result<Report, LakeError> {
    let mut report = Report::default();
    if let Some(dir) = wal_dir {
        let dir = dir.to_owned();
        let scanned = tokio::task::spawn_blocking(move || {
            let mut rows = 0;
            let recovery = scan(&dir, false, &mut |_, payload| {
                rows += codec::from_ipc(payload)?.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
                Ok(())
            })?;
            Ok::<_, LakeError>((recovery, rows))
        });
        let (recovery, rows) = scanned.await.map_err(|_| LakeError::Stopped)??;
        report.wal_rows = rows;
        (report.wal_records, report.gaps, report.torn_tails) = (recovery.records, recovery.gaps, recovery.torn_tails);
    }
    let session = LakeSession::open(root, Vec::new()).await?;
    report.committed_rows = session.count("SELECT count(*) FROM events_committed").await?;
    let distinct = "SELECT count(*) FROM (SELECT DISTINCT property, view_id, source, seq FROM events_committed)";
    report.duplicates = report.committed_rows - session.count(distinct).await?;
    Ok(report)
}

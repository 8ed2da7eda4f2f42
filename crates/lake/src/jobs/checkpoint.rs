//! `checkpoint`: a table's state in one file, so that opening it does not read every commit, and the end of log
//! entries that no reader needs.

use std::time::Duration;

use async_trait::async_trait;
use deltalake::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use futures::StreamExt as _;

use super::replace::Upkeep;
use super::{Job, JobContext, JobReport};
use crate::LakeError;
use crate::schema::TableName;

/// The job.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// Time between two runs. Default: 10 min; two collectors make 240 commits in it.
    pub interval: Duration,
    /// A table gets a checkpoint after so many commits. Default: 100, which a reader replays in some 10 ms.
    pub every_commits: u64,
    /// Log entries stay so long: for readers that pinned a version, and for people who look for what happened. Default:
    /// 24 h, as long as files stay.
    pub log_retention: Duration,
}

#[async_trait]
impl Job for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let mut report = JobReport::default();
        for name in TableName::ALL {
            let Some(upkeep) = Upkeep::open(&context.root, name).await? else { continue };
            let version = upkeep.table.version().unwrap_or_default();
            let last = last_checkpoint(&upkeep).await?;
            let mut done = JobReport::default();
            if version >= last.map_or(0, |last| last + 1) + self.every_commits.saturating_sub(1) {
                context.check()?;
                create_checkpoint(&upkeep.table, None).await.map_err(upkeep.failed())?;
                done = done.line(format!("{}: checkpoint of version {version}", name.as_str()));
            }
            let cutoff =
                context.now_ms().saturating_sub(u64::try_from(self.log_retention.as_millis()).unwrap_or(u64::MAX));
            let cutoff = i64::try_from(cutoff).unwrap_or(i64::MAX);
            let store = upkeep.table.log_store();
            context.check()?;
            let removed =
                cleanup_expired_logs_for(version, store.as_ref(), cutoff, None).await.map_err(upkeep.failed())?;
            if removed > 0 {
                done.files_removed += removed as u64;
                done = done.line(format!("{}: removed {removed} log entries", name.as_str()));
            }
            report.add(done);
        }
        Ok(report)
    }
}

/// Version of the newest checkpoint.
async fn last_checkpoint(upkeep: &Upkeep) -> Result<Option<u64>, LakeError> {
    let store = upkeep.table.log_store();
    let objects = store.object_store(None);
    let mut entries = objects.list(Some(store.log_path()));
    let mut last = None;
    while let Some(entry) = entries.next().await {
        let entry = entry.map_err(deltalake::DeltaTableError::from).map_err(upkeep.failed())?;
        let Some(name) = entry.location.filename() else { continue };
        if let Some((version, rest)) = name.split_once('.')
            && rest.starts_with("checkpoint")
            && rest.ends_with("parquet")
            && let Ok(version) = version.parse::<u64>()
        {
            last = last.max(Some(version));
        }
    }
    Ok(last)
}

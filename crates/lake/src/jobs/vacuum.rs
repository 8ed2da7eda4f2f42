//! `vacuum`: removes files that no table names any more.

use std::sync::Arc;
use std::time::Duration;

use arrow::temporal_conversions::try_duration_ms_to_duration;
use async_trait::async_trait;
use deltalake::DeltaTable;
use deltalake::operations::vacuum::{self, VacuumBuilder, VacuumMode};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::replace::Upkeep;
use super::{Job, JobContext, JobReport};
use crate::LakeError;
use crate::schema::TableName;

/// Files stay so long after they left their table (and unfinished ones after they were written): the longest query,
/// and the longest job, with a wide margin, h.
pub const VACUUM_RETENTION_HOURS: u64 = 24;

/// The job.
#[derive(Clone, Copy, Debug)]
pub struct Vacuum {
    /// Time between two runs. Default: 6 h, so that a file lives at most a quarter longer than it must.
    pub interval: Duration,
    /// How long files stay after they left their table.
    pub retention: Duration,
    /// Only tell what would be removed.
    pub dry_run: bool,
}

/// Which files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Files that left their table, and files that never came into one (of crashed writers).
    All,
    /// Only files that left their table. Right for any retention: what a collector has written and is about to commit
    /// is not touched.
    Replaced,
}

/// The time as `deltalake` asks for it.
#[derive(Debug)]
struct At(i64);

impl vacuum::Clock for At {
    fn current_timestamp_millis(&self) -> i64 {
        self.0
    }
}

#[async_trait]
impl Job for Vacuum {
    fn name(&self) -> &'static str {
        "vacuum"
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        // Below a day it would take the files of running queries and of collectors' commits under way.
        let retention = self.retention.max(Duration::from_secs(VACUUM_RETENTION_HOURS * 3600));
        let mut report = JobReport::default();
        for name in TableName::ALL {
            if let Some(upkeep) = Upkeep::open(&context.root, name).await? {
                report.add(vacuum(context, &upkeep, retention, Scope::All, self.dry_run).await?);
            }
        }
        Ok(report)
    }
}

/// Removes at once every file that has left its table, for a privacy request that can't wait. Queries that run now may
/// fail; what collectors are about to commit is not touched.
///
/// # Errors
/// [`LakeError`]; it can be asked again.
pub async fn vacuum_replaced(context: &JobContext) -> Result<JobReport, LakeError> {
    let mut report = JobReport::default();
    for name in TableName::ALL {
        if let Some(upkeep) = Upkeep::open(&context.root, name).await? {
            report.add(vacuum(context, &upkeep, Duration::ZERO, Scope::Replaced, false).await?);
        }
    }
    Ok(report)
}

/// Removes files of one table.
async fn vacuum(
    context: &JobContext,
    upkeep: &Upkeep,
    retention: Duration,
    scope: Scope,
    dry_run: bool,
) -> Result<JobReport, LakeError> {
    let listed = builder(context, &upkeep.table, retention, scope).with_dry_run(true).await.map_err(upkeep.failed())?;
    // A file stays in the log's list for a while after it was removed.
    let store = upkeep.table.log_store().object_store(None);
    let mut report = JobReport::default();
    for path in listed.1.files_deleted {
        if let Ok(found) = store.head(&Path::from(path)).await {
            report.files_removed += 1;
            report.bytes_removed += found.size;
        }
    }
    if report.files_removed == 0 {
        return Ok(report);
    }
    if !dry_run {
        context.check()?;
        builder(context, &upkeep.table, retention, scope).await.map_err(upkeep.failed())?;
    }
    let done = if dry_run { "would remove" } else { "removed" };
    let line =
        format!("{}: {done} {} files, {} bytes", upkeep.name.as_str(), report.files_removed, report.bytes_removed);
    Ok(report.line(line))
}

fn builder(context: &JobContext, table: &DeltaTable, retention: Duration, scope: Scope) -> VacuumBuilder {
    let mode = match scope {
        Scope::All => VacuumMode::Full,
        Scope::Replaced => VacuumMode::Lite,
    };
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    // A file goes when it is older than the retention, so one that left in this millisecond needs the next.
    let now_ms = i64::try_from(context.now_ms()).unwrap_or(i64::MAX).saturating_add(1);
    let builder =
        table.clone().vacuum().with_mode(mode).with_enforce_retention_duration(false).with_clock(Arc::new(At(now_ms)));
    match try_duration_ms_to_duration(retention_ms) {
        Some(retention) => builder.with_retention_period(retention),
        None => builder,
    }
}

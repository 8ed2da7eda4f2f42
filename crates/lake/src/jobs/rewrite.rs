//! `rewrite`: a closed day gets its final files: each row once, sorted, few and large.
//!
//! Files of a rewritten day carry a tag; a day is done when all of its files carry it. A row that comes later brings a
//! file without the tag, and the day is rewritten once more.

use std::time::Duration;

use async_trait::async_trait;

use super::layout::{Layout, layout};
use super::replace::{Change, DataFile, Upkeep};
use super::{Job, JobContext, JobReport, day_closed};
use crate::LakeError;
use crate::schema::TableName;

/// The job.
#[derive(Clone, Copy, Debug)]
pub struct Rewrite {
    /// Time between two looks. Default: 1 h; a day closes once, late rows are rare.
    pub interval: Duration,
    /// A day is closed so long after its end, ms. Default: 48 h, as late as a collector takes events.
    pub lateness_ms: u64,
}

#[async_trait]
impl Job for Rewrite {
    fn name(&self) -> &'static str {
        "rewrite"
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let mut report = JobReport::default();
        for name in TableName::ALL {
            let Some(layout) = layout(name) else { continue };
            let Some(mut upkeep) = Upkeep::open(&context.root, name).await? else { continue };
            for (day, files) in upkeep.days()? {
                let done = files.iter().all(|file| file.is_final);
                if !done && day_closed(&day, context.now_ms(), self.lateness_ms) {
                    report.add(rewrite(context, &mut upkeep, &layout, &files).await?);
                }
            }
        }
        Ok(report)
    }
}

async fn rewrite(
    context: &JobContext,
    upkeep: &mut Upkeep,
    layout: &Layout,
    files: &[DataFile],
) -> Result<JobReport, LakeError> {
    let session = context.session()?;
    let rows = upkeep.rows(&session, Some(files)).await?;
    let sql = layout.sql(upkeep.name.schema().fields().iter().map(|field| field.name().as_str()));
    session.register_table("day", rows.into_view())?;
    let sorted = session.sql(&sql).await?.execute_stream().await?;
    let added = upkeep.write(context, sorted, true).await?;
    let report = JobReport::of(files, &added);
    upkeep.replace(context, files, added, Change::Layout).await?;
    let before: u64 = files.iter().map(|file| file.rows).sum();
    let (table, day) = (upkeep.name.as_str(), &files[0].day);
    let repeated = before.saturating_sub(report.rows);
    Ok(report.line(format!("{table}: rewrote {day}, {before} rows of which {repeated} were repeated")))
}

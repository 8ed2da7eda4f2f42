//! `retain`: drops days that are older than their table's retention, all of a table in one commit.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::replace::{Change, DataFile, Upkeep};
use super::{Job, JobContext, JobReport};
use crate::LakeError;
use crate::schema::TableName;
use crate::time::{DAY_MS, day_of};

/// Days that a table keeps unless the configuration says otherwise.
///
/// What holds a view (`events`, `steers`, `deliveries`) stays 395 days: a year, to compare with, and a month. That is
/// well below the 25 months that audience measurement without consent may keep data. `views` uses the 25 months.
/// `quarantine` holds what was not understood, so nobody knows what is in it: two weeks, to look and to send again.
/// `rounds` is everything that was heard, to try another policy on: a week has every hour of the week once.
/// Sums and the operator's own doings hold no view and stay ten years.
#[must_use]
pub fn default_days(table: TableName) -> u32 {
    match table.as_str() {
        "rounds" => 7,
        "quarantine" => 14,
        "events" | "deliveries" | "steers" => 395,
        "views" => 760,
        _ => 3_650,
    }
}

/// The job.
#[derive(Clone, Debug)]
pub struct Retain {
    /// Time between two runs. Default: 6 h; only whole days go.
    pub interval: Duration,
    /// Days to keep where they differ from [`default_days`].
    pub days: BTreeMap<TableName, u32>,
}

/// The first day that stays: a day goes when its last moment is `days` old.
#[must_use]
pub fn first_kept(now_ms: u64, days: u32) -> String {
    day_of(now_ms.saturating_sub(u64::from(days) * DAY_MS))
}

#[async_trait]
impl Job for Retain {
    fn name(&self) -> &'static str {
        "retain"
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let mut report = JobReport::default();
        for name in TableName::ALL {
            let Some(mut upkeep) = Upkeep::open(&context.root, name).await? else { continue };
            let days = self.days.get(&name).copied().unwrap_or_else(|| default_days(name));
            let first = first_kept(context.now_ms(), days);
            let old = upkeep.days()?.into_iter().filter(|(day, _)| *day < first);
            let (dropped, files): (Vec<String>, Vec<Vec<DataFile>>) = old.unzip();
            let files = files.concat();
            if files.is_empty() {
                continue;
            }
            upkeep.replace(context, &files, Vec::new(), Change::Delete(format!("dt < '{first}'"), Vec::new())).await?;
            let rows = files.iter().map(|file| file.rows).sum();
            let line = format!("{}: dropped {} days before {first}, {rows} rows", name.as_str(), dropped.len());
            report.add(JobReport { rows, ..JobReport::of(&files, &[]) }.line(line));
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_goes_when_its_last_moment_is_as_old_as_the_retention() {
        let noon = 1_767_225_600_000 + DAY_MS / 2;
        assert_eq!(first_kept(noon, 0), "2026-01-01");
        assert_eq!(first_kept(noon, 14), "2025-12-18");
        assert_eq!(first_kept(1_767_225_600_000, 1), "2025-12-31");
        assert_eq!(first_kept(1_767_225_600_000 - 1, 1), "2025-12-30");
        assert_eq!(first_kept(5, 395), "1970-01-01", "a clock that was never set drops nothing");
    }
}

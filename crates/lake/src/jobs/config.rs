//! What an operator may set about the lake: where it is, and its jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::rollup::RollupJob;
use super::views::ViewsJob;
use super::{Checkpoint, Compact, Job, Retain, Rewrite, VACUUM_RETENTION_HOURS, Vacuum};
use crate::schema::TableName;

/// `[lake]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LakeConfig {
    /// Absolute path, `file://` URL or `s3://bucket/prefix`; the store's address, region and credentials come from the
    /// environment (`AWS_*`). All roles of a deployment name the same place. Default: the folder `lake` in `data_dir`.
    pub root: Option<String>,
    /// The collector of this process runs the lake's jobs when it gets their lease. Default true.
    pub jobs: bool,
    /// Small files are merged so often, s. Default 300.
    pub compact_interval_s: u64,
    /// A day gets its final files so long after its end, h. Default 48: as late as a collector takes events.
    pub lateness_hours: u64,
    /// Memory of a job's sort, MB; what is above spills to `data_dir/spill`. Default 128: a sort of a
    /// larger day takes longer, but the collector beside it has its memory.
    pub job_memory_max_mb: usize,
    /// Table to the days it keeps, 1 to 36,500. Default: events, deliveries and steers 395, views 760, quarantine 14,
    /// rounds 7, all others 3,650.
    pub retention_days: BTreeMap<String, u32>,
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            root: None,
            jobs: true,
            compact_interval_s: 300,
            lateness_hours: 48,
            job_memory_max_mb: 128,
            retention_days: BTreeMap::new(),
        }
    }
}

impl LakeConfig {
    /// Checks what the types don't.
    ///
    /// # Errors
    /// Key, value and what is valid.
    pub fn check(&self) -> Result<(), (String, String, String)> {
        let fails = |key: &str, value: String, valid: &str| Err((format!("lake.{key}"), value, valid.to_owned()));
        if !(10..=86_400).contains(&self.compact_interval_s) {
            return fails("compact_interval_s", self.compact_interval_s.to_string(), "10 to 86400");
        }
        if !(1..=720).contains(&self.lateness_hours) {
            return fails("lateness_hours", self.lateness_hours.to_string(), "1 to 720");
        }
        if !(32..=65_536).contains(&self.job_memory_max_mb) {
            return fails("job_memory_max_mb", self.job_memory_max_mb.to_string(), "32 to 65536");
        }
        for (name, days) in &self.retention_days {
            let key = format!("retention_days.{name}");
            if TableName::of(name).is_none() {
                let tables = TableName::ALL.map(TableName::as_str).join(", ");
                return fails(&key, name.clone(), &format!("a table: {tables}"));
            }
            if !(1..=36_500).contains(days) {
                return fails(&key, days.to_string(), "1 to 36500");
            }
        }
        Ok(())
    }

    fn lateness_ms(&self) -> u64 {
        self.lateness_hours * 3_600_000
    }

    /// `compact` as configured.
    #[must_use]
    pub fn compact(&self) -> Compact {
        Compact { interval: Duration::from_secs(self.compact_interval_s), lateness_ms: self.lateness_ms() }
    }

    /// `rewrite` as configured.
    #[must_use]
    pub fn rewrite(&self) -> Rewrite {
        Rewrite { interval: Duration::from_secs(3600), lateness_ms: self.lateness_ms() }
    }

    /// `retain` as configured.
    #[must_use]
    pub fn retain(&self) -> Retain {
        let days = self.retention_days.iter().filter_map(|(name, days)| Some((TableName::of(name)?, *days)));
        Retain { interval: Duration::from_secs(6 * 3600), days: days.collect() }
    }

    /// `checkpoint` as configured.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            interval: Duration::from_secs(600),
            every_commits: 100,
            log_retention: Duration::from_secs(24 * 3600),
        }
    }

    /// `vacuum` as configured.
    #[must_use]
    pub fn vacuum(&self) -> Vacuum {
        let retention = Duration::from_secs(VACUUM_RETENTION_HOURS * 3600);
        Vacuum { interval: Duration::from_secs(6 * 3600), retention, dry_run: false }
    }

    /// All jobs that look after tables, in the order of a first run.
    #[must_use]
    pub fn upkeep(&self) -> Vec<Arc<dyn Job>> {
        vec![
            Arc::new(self.compact()),
            Arc::new(self.rewrite()),
            Arc::new(self.retain()),
            Arc::new(self.checkpoint()),
            Arc::new(self.vacuum()),
            Arc::new(ViewsJob),
            Arc::new(RollupJob),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_bad_value_is_named() {
        assert_eq!(LakeConfig::default().check(), Ok(()));
        let bad = LakeConfig { retention_days: [("event".to_owned(), 3)].into(), ..LakeConfig::default() };
        let (key, value, valid) = bad.check().expect_err("no such table");
        assert_eq!((key.as_str(), value.as_str()), ("lake.retention_days.event", "event"));
        assert!(valid.contains("events"), "{valid}");
        let bad = LakeConfig { retention_days: [("events".to_owned(), 0)].into(), ..LakeConfig::default() };
        assert_eq!(bad.check().expect_err("no days").2, "1 to 36500");
        let good = LakeConfig { retention_days: [("events".to_owned(), 30)].into(), ..LakeConfig::default() };
        assert_eq!(good.retain().days, [(TableName::Events, 30)].into());
    }
}

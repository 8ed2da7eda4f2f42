//! `compact`: merges small files. Collectors commit every few seconds, so an open day gets thousands of them.

use std::time::Duration;

use async_trait::async_trait;

use super::layout::layout;
use super::replace::{Change, DataFile, TARGET_FILE_BYTES, Upkeep};
use super::{Job, JobContext, JobReport, day_closed};
use crate::LakeError;
use crate::schema::TableName;

/// So many files of one size class are merged into one: each byte is then written about four times on its way from
/// 100 KB to 256 MB, and a day has at most seven small files for each of its four classes.
const FAN_IN: usize = 8;
/// Size classes are this far apart.
const CLASS_FACTOR: u64 = 8;
/// The smallest class: all files below this size, bytes.
const CLASS_MIN_BYTES: u64 = 1 << 20;
/// A file of this size is not merged any more, bytes.
const FULL_BYTES: u64 = TARGET_FILE_BYTES / 2;

/// The job.
#[derive(Clone, Copy, Debug)]
pub struct Compact {
    /// Time between two runs. Default: 5 min, in which a collector makes 60 files; a query opens them all.
    pub interval: Duration,
    /// Days that ended this long ago are left to the rewrite, ms.
    pub lateness_ms: u64,
}

/// Size class of a file; `None` if it is large enough.
fn class(bytes: u64) -> Option<u32> {
    if bytes >= FULL_BYTES {
        return None;
    }
    let (mut class, mut bound) = (0, CLASS_MIN_BYTES);
    while bytes >= bound {
        class += 1;
        bound *= CLASS_FACTOR;
    }
    Some(class)
}

/// Which of a day's files to merge: groups of [`FAN_IN`] or more of one class, up to the target size together.
fn plan(files: &[DataFile]) -> Vec<Vec<DataFile>> {
    let mut classes: std::collections::BTreeMap<u32, Vec<&DataFile>> = std::collections::BTreeMap::new();
    for file in files {
        if let Some(class) = class(file.bytes) {
            classes.entry(class).or_default().push(file);
        }
    }
    let mut groups = Vec::new();
    for files in classes.into_values().filter(|files| files.len() >= FAN_IN) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for file in files {
            if bytes + file.bytes > TARGET_FILE_BYTES && group.len() > 1 {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
            }
            bytes += file.bytes;
            group.push(file.clone());
        }
        if group.len() > 1 {
            groups.push(group);
        }
    }
    groups
}

#[async_trait]
impl Job for Compact {
    fn name(&self) -> &'static str {
        "compact"
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let mut report = JobReport::default();
        for name in TableName::ALL {
            report.add(self.table(context, name).await?);
        }
        Ok(report)
    }
}

impl Compact {
    async fn table(&self, context: &JobContext, name: TableName) -> Result<JobReport, LakeError> {
        let mut report = JobReport::default();
        let Some(mut upkeep) = Upkeep::open(&context.root, name).await? else { return Ok(report) };
        for (day, files) in upkeep.days()? {
            if layout(name).is_some() && day_closed(&day, context.now_ms(), self.lateness_ms) {
                continue;
            }
            for group in plan(&files) {
                report.add(merge(context, &mut upkeep, &group).await?);
            }
        }
        Ok(report)
    }
}

async fn merge(context: &JobContext, upkeep: &mut Upkeep, files: &[DataFile]) -> Result<JobReport, LakeError> {
    let rows = upkeep.rows(&context.session()?, Some(files)).await?;
    let added = upkeep.write(context, rows.execute_stream().await?, false).await?;
    let report = JobReport::of(files, &added);
    upkeep.replace(context, files, added, Change::Layout).await?;
    Ok(report.line(format!("{}: merged {} files of {}", upkeep.name.as_str(), files.len(), files[0].day)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<DataFile> {
        let file = |(index, bytes): (usize, &u64)| DataFile {
            path: format!("f{index:04}"),
            day: "2026-01-01".into(),
            bytes: *bytes,
            rows: 1,
            is_final: false,
        };
        sizes.iter().enumerate().map(file).collect()
    }

    #[test]
    fn few_files_and_large_files_are_left_alone() {
        assert!(plan(&files(&[100_000; FAN_IN - 1])).is_empty());
        assert!(plan(&files(&[FULL_BYTES; 20])).is_empty());
        assert!(
            plan(&files(&[100_000, 100_000, 2 << 20, 2 << 20, 20 << 20, 20 << 20, 100 << 20, 100 << 20])).is_empty()
        );
    }

    #[test]
    fn files_of_one_class_are_merged_up_to_the_target() {
        assert_eq!(plan(&files(&[100_000; 60])).iter().map(Vec::len).collect::<Vec<_>>(), [60]);
        let groups = plan(&files(&[100 << 20; 8]));
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 2, 2]);
        let bytes = |group: &Vec<DataFile>| group.iter().map(|file| file.bytes).sum::<u64>();
        assert!(groups.iter().all(|group| bytes(group) <= TARGET_FILE_BYTES));
    }

    #[test]
    fn a_byte_is_written_a_few_times_only_however_long_the_day() {
        // A collector's day: 17,280 files of 100 KB, compacted after each 60.
        let (mut now, mut written, mut came) = (Vec::new(), 0, 0);
        for round in 0..288 {
            now.extend(
                files(&[100_000; 60])
                    .into_iter()
                    .map(|file| DataFile { path: format!("{round}/{}", file.path), ..file }),
            );
            came += 6_000_000;
            for (index, group) in plan(&now).into_iter().enumerate() {
                now.retain(|file| !group.contains(file));
                let bytes = group.iter().map(|file| file.bytes).sum::<u64>();
                written += bytes;
                now.push(DataFile { path: format!("m{round}/{index}"), bytes, ..group[0].clone() });
            }
        }
        assert!(written < 4 * came, "{written} bytes written for {came}");
        assert!(now.len() < 60, "{} files left", now.len());
    }
}

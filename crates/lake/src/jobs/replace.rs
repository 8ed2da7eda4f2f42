//! The one way in which jobs change a table: some of its files out, others in, in one commit.
//!
//! `deltalake`'s own operations take a removal that "changes no data" for no conflict at all: two of them that merge
//! the same files would both be committed, and every row would be there twice. So the commit is done here: on top of
//! one version, in which every file that goes is still part of the table, without `deltalake`'s retries. If another
//! writer takes that version, the next one is looked at in the same way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{DataFrame, SessionContext};
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, Remove, Transaction};
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::protocol::DeltaOperation;
use deltalake::table::config::TablePropertiesExt as _;
use deltalake::{DeltaTable, DeltaTableError};
use futures::StreamExt as _;
use url::Url;

use super::JobContext;
use crate::LakeError;
use crate::schema::TableName;
use crate::table::{self, PARTITION};

/// Files are filled to about this size: large enough that a day has few, small enough to be read in parallel.
pub(crate) const TARGET_FILE_BYTES: u64 = 256 << 20;
/// Rows of a row group: what a reader skips or reads as one; also bounds what a writer holds.
const ROW_GROUP_ROWS: usize = 128 << 10;
/// Others may win the race for a version this often in a row.
const COMMIT_ATTEMPTS: u32 = 50;
/// Tag of a file that holds rows of a closed day in their final order, each once.
const FINAL_TAG: &str = "spillway.final";
/// Name of the column with a row's file in [`Upkeep::rows`].
pub(crate) const FILE_COLUMN: &str = "__file";

/// A file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    pub(crate) path: String,
    /// Its partition, a UTC day.
    pub(crate) day: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    /// Written by the rewrite of its closed day.
    pub(crate) is_final: bool,
}

/// What a change is, in the table's history.
pub(crate) enum Change {
    /// The same rows in other files.
    Layout,
    /// Rows go, for this reason; with marks (application ids) that stay in the table for good.
    Delete(String, Vec<String>),
}

/// A table being looked after, at one version.
pub(crate) struct Upkeep {
    pub(crate) name: TableName,
    pub(crate) table: DeltaTable,
}

impl Upkeep {
    /// The table as it is now; `None` if nobody has made it yet.
    pub(crate) async fn open(root: &Url, name: TableName) -> Result<Option<Self>, LakeError> {
        Ok(table::load(root, name).await?.map(|table| Self { name, table }))
    }

    pub(crate) fn failed(&self) -> impl FnOnce(DeltaTableError) -> LakeError + use<> {
        LakeError::table(self.name.as_str())
    }

    /// Its files by day.
    pub(crate) fn days(&self) -> Result<BTreeMap<String, Vec<DataFile>>, LakeError> {
        let mut days: BTreeMap<String, Vec<DataFile>> = BTreeMap::new();
        for view in self.table.snapshot().map_err(self.failed())?.log_data().iter() {
            let day = view.partition_values_map().remove(PARTITION).flatten().unwrap_or_default();
            #[expect(deprecated, reason = "the only way to a file's tags")]
            let tags = view.add_action().tags;
            let file = DataFile {
                path: view.path().into_owned(),
                day: day.clone(),
                bytes: u64::try_from(view.size()).unwrap_or(0),
                rows: view.num_records().unwrap_or(0) as u64,
                is_final: tags.is_some_and(|tags| tags.contains_key(FINAL_TAG)),
            };
            days.entry(day).or_default().push(file);
        }
        for files in days.values_mut() {
            files.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(days)
    }

    /// The rows of `files`; of all files if `None`, then with a column [`FILE_COLUMN`].
    pub(crate) async fn rows(
        &self,
        session: &SessionContext,
        files: Option<&[DataFile]>,
    ) -> Result<DataFrame, LakeError> {
        self.table.update_datafusion_session(&session.state()).map_err(self.failed())?;
        let provider = self.table.table_provider().with_session(Arc::new(session.state()));
        let provider = match files {
            Some(files) => provider.with_file_paths(files.iter().map(|file| file.path.clone())),
            None => provider.with_file_column(FILE_COLUMN),
        };
        Ok(session.read_table(Arc::new(provider.build().await?))?)
    }

    fn schema(&self) -> Result<SchemaRef, LakeError> {
        let snapshot = self.table.snapshot().map_err(self.failed())?;
        let schema: Schema = snapshot.schema().as_ref().try_into_arrow()?;
        Ok(Arc::new(schema))
    }

    /// Writes the rows as Parquet files that nobody sees yet; what a failure leaves behind is for vacuum. The permit is
    /// asked from batch to batch, so that a stop need not wait for a day's end.
    pub(crate) async fn write(
        &self,
        context: &JobContext,
        mut rows: SendableRecordBatchStream,
        is_final: bool,
    ) -> Result<Vec<Add>, LakeError> {
        let schema = self.schema()?;
        let zstd = ZstdLevel::try_new(if is_final { 6 } else { 3 }).unwrap_or_default();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(zstd))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let snapshot = self.table.snapshot().map_err(self.failed())?;
        let config = WriterConfig::new(
            Arc::clone(&schema),
            vec![PARTITION.to_owned()],
            Some(properties),
            NonZeroU64::new(TARGET_FILE_BYTES),
            None,
            snapshot.table_config().num_indexed_cols(),
            None,
        );
        let mut writer = DeltaWriter::new(self.table.log_store().object_store(None), config);
        let drained = async {
            while let Some(batch) = rows.next().await {
                context.check()?;
                writer.write(&fitted(&batch?, &schema)?).await.map_err(self.failed())?;
            }
            Ok::<_, LakeError>(())
        };
        if let Err(error) = drained.await {
            if let Err(second) = writer.abort().await {
                tracing::warn!(error = %second, "an unfinished file could not be aborted");
            }
            return Err(error);
        }
        let mut adds = writer.close().await.map_err(self.failed())?;
        if is_final {
            for add in &mut adds {
                add.tags = Some(HashMap::from([(FINAL_TAG.to_owned(), Some("1".to_owned()))]));
            }
        }
        Ok(adds)
    }

    /// Takes `removed` out of the table and `added` in, in one commit; false if there was nothing to do.
    ///
    /// # Errors
    /// [`LakeError::Raced`] if a file that goes is not part of the table any more, [`LakeError::Interrupted`]; nothing
    /// was changed then.
    pub(crate) async fn replace(
        &mut self,
        context: &JobContext,
        removed: &[DataFile],
        added: Vec<Add>,
        change: Change,
    ) -> Result<bool, LakeError> {
        if removed.is_empty() && added.is_empty() {
            return Ok(false);
        }
        let (data_change, operation, marks) = match change {
            Change::Layout => {
                let target_size = i64::try_from(TARGET_FILE_BYTES).unwrap_or(i64::MAX);
                (false, DeltaOperation::Optimize { predicate: None, target_size }, Vec::new())
            }
            Change::Delete(why, marks) => (true, DeltaOperation::Delete { predicate: Some(why) }, marks),
        };
        let now_ms = i64::try_from(context.now_ms()).unwrap_or(i64::MAX);
        let added: Vec<Add> = added.into_iter().map(|add| Add { data_change, ..add }).collect();
        let mut actions: Vec<Action> =
            removed.iter().map(|file| Action::Remove(remove(file, now_ms, data_change))).collect();
        actions.extend(added.iter().cloned().map(Action::Add));
        actions.extend(marks.into_iter().map(|mark| Action::Txn(Transaction::new(mark, now_ms))));
        let mut last_error = None;
        for attempt in 0..COMMIT_ATTEMPTS {
            context.check()?;
            self.table.update_state().await.map_err(self.failed())?;
            let now: HashSet<String> = self.days()?.into_values().flatten().map(|file| file.path).collect();
            let gone = removed.iter().any(|file| !now.contains(&file.path));
            if gone {
                // Either an earlier attempt was committed and its answer lost, or others were faster.
                let ours = attempt > 0 && added.iter().all(|add| now.contains(&add.path));
                return if ours { Ok(true) } else { Err(LakeError::Raced { table: self.name.as_str().to_owned() }) };
            }
            let snapshot = self.table.snapshot().map_err(self.failed())?;
            let commit = CommitBuilder::from(CommitProperties::default().with_max_retries(0))
                .with_actions(actions.clone())
                .build(Some(snapshot), self.table.log_store(), operation.clone())
                .await;
            match commit {
                Ok(done) => {
                    self.table.state = Some(done.snapshot());
                    return Ok(true);
                }
                Err(error) => {
                    tracing::debug!(table = self.name.as_str(), %error, attempt, "a job's commit is tried again");
                    last_error = Some(error);
                    tokio::time::sleep(Duration::from_millis(u64::from(10 * attempt.min(20)))).await;
                }
            }
        }
        Err(last_error.map_or(LakeError::Interrupted, self.failed()))
    }
}

/// `batch` with the columns and types of `schema`; the engine may have chosen others for text.
fn fitted(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LakeError> {
    let columns = schema.fields().iter().map(|field| {
        let index = batch.schema_ref().index_of(field.name())?;
        arrow::compute::cast(batch.column(index), field.data_type())
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)?)
}

fn remove(file: &DataFile, now_ms: i64, data_change: bool) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(HashMap::from([(PARTITION.to_owned(), Some(file.day.clone()))])),
        size: i64::try_from(file.bytes).ok(),
        tags: None,
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
    }
}

#[cfg(test)]
mod tests {
    use spillway_model::{Clock, Millis, TimestampMs};

    use super::*;
    use crate::jobs::Permit;
    use crate::records::{self, Decision};
    use crate::table::append;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> TimestampMs {
            TimestampMs(1_767_225_600_000)
        }

        fn monotonic(&self) -> Millis {
            Millis(0)
        }
    }

    async fn store(context: &JobContext, epoch: u64) {
        let decision = Decision { region: "eu".into(), epoch, issued_ms: context.now_ms(), ..Decision::default() };
        let rows = records::decisions(&[decision]).expect("rows");
        append(&context.root, TableName::Decisions, rows, "orchestrator", epoch).await.expect("append");
    }

    async fn open(context: &JobContext) -> (Upkeep, Vec<DataFile>) {
        let upkeep = Upkeep::open(&context.root, TableName::Decisions).await.expect("open").expect("a table");
        let files = upkeep.days().expect("files").into_values().flatten().collect();
        (upkeep, files)
    }

    async fn merged(context: &JobContext, upkeep: &Upkeep, files: &[DataFile]) -> Vec<Add> {
        let session = context.session().expect("session");
        let rows = upkeep.rows(&session, Some(files)).await.expect("rows").execute_stream().await.expect("stream");
        upkeep.write(context, rows, false).await.expect("write")
    }

    async fn rows(context: &JobContext) -> u64 {
        open(context).await.1.iter().map(|file| file.rows).sum()
    }

    fn context(dir: &tempfile::TempDir) -> JobContext {
        let root = Url::from_directory_path(dir.path()).expect("url");
        JobContext::new(&root, Arc::new(Still), Permit::unlimited())
    }

    #[tokio::test]
    async fn of_two_that_replace_the_same_files_one_wins_and_no_row_is_doubled() {
        let dir = tempfile::tempdir().expect("dir");
        let context = context(&dir);
        for epoch in 1..=4 {
            store(&context, epoch).await;
        }
        let ((mut a, files), (mut b, _)) = (open(&context).await, open(&context).await);
        let (of_a, of_b) = (merged(&context, &a, &files).await, merged(&context, &b, &files[1..]).await);
        assert!(a.replace(&context, &files, of_a, Change::Layout).await.expect("first"));
        let lost = b.replace(&context, &files[1..], of_b, Change::Layout).await.expect_err("second");
        assert!(matches!(lost, LakeError::Raced { .. }), "{lost}");
        assert_eq!((rows(&context).await, open(&context).await.1.len()), (4, 1));
    }

    #[tokio::test]
    async fn rows_that_came_meanwhile_stay() {
        let dir = tempfile::tempdir().expect("dir");
        let context = context(&dir);
        store(&context, 1).await;
        store(&context, 2).await;
        let (mut upkeep, files) = open(&context).await;
        let added = merged(&context, &upkeep, &files).await;
        for epoch in 3..=5 {
            store(&context, epoch).await;
        }
        assert!(upkeep.replace(&context, &files, added, Change::Layout).await.expect("on top of them"));
        assert_eq!((rows(&context).await, open(&context).await.1.len()), (5, 4));
    }

    #[tokio::test]
    async fn a_crash_before_the_commit_leaves_all_as_it_was() {
        let dir = tempfile::tempdir().expect("dir");
        let context = context(&dir);
        store(&context, 1).await;
        store(&context, 2).await;
        let (mut upkeep, files) = open(&context).await;
        let added = merged(&context, &upkeep, &files).await;
        assert_eq!(open(&context).await.1, files, "files that are written are not seen");
        context.permit.end();
        let stopped = upkeep.replace(&context, &files, added, Change::Layout).await.expect_err("no permit");
        assert!(matches!(stopped, LakeError::Interrupted), "{stopped}");
        assert_eq!(open(&context).await.1, files);
    }
}

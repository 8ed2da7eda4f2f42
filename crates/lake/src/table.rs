//! Delta tables: created on first use, appended to by many writers, exactly once per application and version.

use arrow::array::{AsArray as _, RecordBatch};
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::scalars::ScalarExt;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add, StructField, StructType, Transaction};
use deltalake::operations::create::CreateBuilder;
use deltalake::parquet::basic::{Compression, ZstdLevel};
use deltalake::parquet::file::properties::WriterProperties;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter as _, RecordBatchWriter, WriteMode};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError, TableProperty};
use url::Url;

use crate::schema::{TableName, align};
use crate::{LakeError, s3};

/// Partition of every table.
pub(crate) const PARTITION: &str = "dt";
/// Other collectors may win the race for a version this often in a row.
const COMMIT_RETRIES: usize = 50;

/// Files and log entries that left a table stay so long for readers that pinned a version. Delta's own defaults (a week
/// and a month) would leave half a million log entries to list, since collectors commit every few seconds.
const HISTORY: &str = "interval 1 days";

/// An open Delta table.
#[derive(Debug)]
pub struct Table {
    name: TableName,
    table: DeltaTable,
}

/// Files that are written and not yet part of the table.
#[derive(Debug, Default)]
pub struct Staged(Vec<Add>);

impl Staged {
    /// With the files of `more`, for one commit of all.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Files.
    pub(crate) const fn files(&self) -> usize {
        self.0.len()
    }

    /// Their size, bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.iter().map(|add| u64::try_from(add.size).unwrap_or(0)).sum()
    }
}

/// Writes rows into files that nobody sees yet.
pub(crate) struct Stager {
    name: TableName,
    writer: RecordBatchWriter,
    rows: u64,
}

impl Stager {
    /// Adds `batch`; it is encoded at once.
    ///
    /// # Errors
    /// [`LakeError::Table`]; files that were begun are left for vacuum.
    pub(crate) async fn write(&mut self, batch: RecordBatch) -> Result<(), LakeError> {
        self.rows += batch.num_rows() as u64;
        // Columns that came later stand at the end of an older table.
        let batch = align(&batch, &self.writer.arrow_schema())?;
        // Splitting rows by partition copies them; nearly always there is nothing to split.
        let written = match only_partition(&batch) {
            Some(day) => {
                let partition = std::iter::once((PARTITION.to_owned(), day)).collect();
                self.writer.write_partition(batch, &partition, WriteMode::Default).await.map(drop)
            }
            None => self.writer.write(batch).await,
        };
        written.map_err(LakeError::table(self.name.as_str()))
    }

    /// Rows so far.
    pub(crate) const fn rows(&self) -> u64 {
        self.rows
    }

    /// Closes the files.
    ///
    /// # Errors
    /// As [`Stager::write`].
    pub(crate) async fn finish(mut self) -> Result<Staged, LakeError> {
        Ok(Staged(self.writer.flush().await.map_err(LakeError::table(self.name.as_str()))?))
    }
}

/// The partition of all rows of `batch`, if they have one and the same.
fn only_partition<V: ScalarExt>(batch: &RecordBatch) -> Option<V> {
    let column = batch.column_by_name(PARTITION)?;
    let days = column.as_string_opt::<i32>()?;
    let first = days.iter().next()?;
    days.iter().all(|day| day == first).then(|| V::from_array(column, 0))?
}

pub(crate) fn location(root: &Url, name: TableName) -> Result<Url, LakeError> {
    s3::register();
    let text = format!("{}/{}", root.as_str().trim_end_matches('/'), name.as_str());
    Url::parse(&text).map_err(|_| LakeError::BadRoot(root.to_string()))
}

/// The table as it is now; `None` if nobody has made it yet.
pub(crate) async fn load(root: &Url, name: TableName) -> Result<Option<DeltaTable>, LakeError> {
    let failed = || LakeError::table(name.as_str());
    let url = location(root, name)?;
    if let Ok(path) = url.to_file_path()
        && !path.join("_delta_log").is_dir()
    {
        return Ok(None);
    }
    let mut table = DeltaTableBuilder::from_url(url).and_then(DeltaTableBuilder::build).map_err(failed())?;
    match table.load().await {
        Ok(()) => Ok(Some(table)),
        Err(DeltaTableError::NotATable(_)) => Ok(None),
        Err(error) => Err(failed()(error)),
    }
}

fn transaction(app_id: &str, version: u64) -> Transaction {
    Transaction::new(app_id, i64::try_from(version).unwrap_or(i64::MAX))
}

fn missing_columns(name: TableName, table: &DeltaTable) -> Result<Vec<StructField>, LakeError> {
    let there = table.snapshot().map_err(LakeError::table(name.as_str()))?.schema();
    let columns: StructType = name.schema().as_ref().try_into_kernel()?;
    Ok(columns.fields().filter(|column| there.field(column.name()).is_none()).cloned().collect())
}

impl Table {
    /// Opens, and creates where needed, table `name` under `root`.
    ///
    /// # Errors
    /// [`LakeError::Table`].
    pub async fn open(root: &Url, name: TableName) -> Result<Self, LakeError> {
        if let Some(table) = load(root, name).await? {
            return Self { name, table }.widened(root).await;
        }
        let failed = || LakeError::table(name.as_str());
        let url = location(root, name)?;
        if let Ok(path) = url.to_file_path() {
            std::fs::create_dir_all(&path).map_err(LakeError::io(&path))?;
        }
        let columns: StructType = name.schema().as_ref().try_into_kernel()?;
        let store = DeltaTableBuilder::from_url(url).and_then(|builder| builder.build_storage()).map_err(failed())?;
        let created = CreateBuilder::new()
            .with_log_store(store)
            .with_table_name(name.as_str())
            .with_columns(columns.fields().cloned())
            .with_partition_columns([PARTITION])
            .with_configuration_property(TableProperty::DeletedFileRetentionDuration, Some(HISTORY))
            .with_configuration_property(TableProperty::LogRetentionDuration, Some(HISTORY))
            .with_save_mode(SaveMode::Ignore)
            .await;
        match created {
            Ok(table) => Ok(Self { name, table }),
            // Another collector made it at the same moment.
            Err(error) => match load(root, name).await? {
                Some(table) => Ok(Self { name, table }),
                None => Err(failed()(error)),
            },
        }
    }

    /// With the columns that have come since the table was made.
    async fn widened(self, root: &Url) -> Result<Self, LakeError> {
        let name = self.name;
        let missing = missing_columns(name, &self.table)?;
        if missing.is_empty() {
            return Ok(self);
        }
        tracing::info!(table = name.as_str(), columns = missing.len(), "an older table gets its new columns");
        let added = self.table.clone().add_columns().with_fields(missing).await;
        match (added, load(root, name).await?) {
            (Ok(table), _) => Ok(Self { name, table }),
            // Another process did it at the same moment.
            (Err(_), Some(table)) if missing_columns(name, &table)?.is_empty() => Ok(Self { name, table }),
            (Err(error), _) => Err(LakeError::table(name.as_str())(error)),
        }
    }

    fn failed(&self) -> impl FnOnce(DeltaTableError) -> LakeError + use<> {
        LakeError::table(self.name.as_str())
    }

    /// The highest version that `app_id` has committed.
    ///
    /// # Errors
    /// [`LakeError::Table`].
    pub async fn committed(&mut self, app_id: &str) -> Result<Option<u64>, LakeError> {
        self.table.update_state().await.map_err(self.failed())?;
        committed(&self.table, app_id).await.map_err(self.failed())
    }

    /// Writes `batch` as Parquet (zstd), one file per partition, which nobody sees yet.
    ///
    /// # Errors
    /// [`LakeError::Table`]; files that were begun are left for vacuum.
    pub async fn stage(&self, batch: RecordBatch) -> Result<Staged, LakeError> {
        let mut stager = self.stager()?;
        stager.write(batch).await?;
        stager.finish().await
    }

    /// Makes staged files part of the table, as `version` of `app_id`. A version that is there already is not added
    /// again: its files stay outside and are left for vacuum.
    ///
    /// # Errors
    /// [`LakeError::Table`]; the files are not part of the table.
    pub async fn finish(&mut self, staged: Staged, app_id: &str, version: u64) -> Result<(), LakeError> {
        if self.committed(app_id).await?.is_some_and(|committed| committed >= version) {
            tracing::warn!(table = self.name.as_str(), app_id, version, "a commit was there already");
            return Ok(());
        }
        self.commit(staged, app_id, version).await
    }

    /// Commits on the state that was read last: a commit of the same application since then is a conflict, and an error.
    async fn commit(&mut self, staged: Staged, app_id: &str, version: u64) -> Result<(), LakeError> {
        match self.transact(staged, vec![transaction(app_id, version)]).await {
            Ok(()) => Ok(()),
            // The answer may have been lost after the commit: the table itself knows.
            Err(error) if self.committed(app_id).await?.is_some_and(|committed| committed >= version) => {
                tracing::warn!(table = self.name.as_str(), %error, "a commit reported an error and is there");
                Ok(())
            }
            Err(error) => Err(self.failed()(error)),
        }
    }

    /// One commit of staged files and transactions, on top of the snapshot that was read last.
    async fn transact(&mut self, staged: Staged, transactions: Vec<Transaction>) -> Result<(), DeltaTableError> {
        let properties =
            CommitProperties::default().with_max_retries(COMMIT_RETRIES).with_application_transactions(transactions);
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(vec![PARTITION.into()]),
            predicate: None,
        };
        let done = CommitBuilder::from(properties)
            .with_actions(staged.0.into_iter().map(Action::Add).collect())
            .build(Some(self.table.snapshot()?), self.table.log_store(), operation)
            .await?;
        self.table.state = Some(done.snapshot());
        Ok(())
    }

    pub(crate) const fn delta(&self) -> &DeltaTable {
        &self.table
    }

    /// A writer of Parquet files (zstd) that nobody sees yet: rows stream through it.
    pub(crate) fn stager(&self) -> Result<Stager, LakeError> {
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(zstd).build();
        let writer =
            RecordBatchWriter::for_table(&self.table).map_err(self.failed())?.with_writer_properties(properties);
        Ok(Stager { name: self.name, writer, rows: 0 })
    }

    /// Makes staged files part of the table together with `marks` (application id and version): on top of the very
    /// snapshot that this table was opened with, so that it fails if anyone has moved one of the marks since.
    ///
    /// # Errors
    /// [`LakeError::Table`]; the files are not part of the table.
    pub(crate) async fn commit_marked(&mut self, staged: Staged, marks: &[(String, u64)]) -> Result<(), LakeError> {
        let marks = marks.iter().map(|(app_id, version)| transaction(app_id, *version)).collect();
        self.transact(staged, marks).await.map_err(self.failed())
    }

    /// Appends `batch` as `version` of `app_id`; nothing happens if that version is there already.
    ///
    /// # Errors
    /// [`LakeError::Table`]; nothing was appended.
    pub async fn append(&mut self, batch: RecordBatch, app_id: &str, version: u64) -> Result<(), LakeError> {
        let staged = self.stage(batch).await?;
        self.finish(staged, app_id, version).await
    }

    /// Makes staged files, which hold everything of `app_id` above `after` up to `version`, part of the table, unless it
    /// has reached more than `after` meanwhile: the answer to an earlier commit may have been lost, or a store may have
    /// executed it late. What the table has now reached; below `version` nothing was appended, and what is above it can
    /// be.
    ///
    /// # Errors
    /// [`LakeError::Table`]; nothing was appended, or it was and the next call says so.
    pub(crate) async fn finish_above(
        &mut self,
        staged: Staged,
        app_id: &str,
        after: u64,
        version: u64,
    ) -> Result<u64, LakeError> {
        let reached = self.committed(app_id).await?.unwrap_or(0);
        if reached > after {
            tracing::warn!(table = self.name.as_str(), app_id, after, reached, "a commit came late and is there");
            return Ok(reached);
        }
        self.commit(staged, app_id, version).await?;
        Ok(version)
    }

    /// Version of the table, rising with each commit of anyone.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.table.version().unwrap_or_default()
    }
}

/// Appends `batch` to table `name` under `root`, as `version` of `app_id` (for writers of a row now and then; a
/// collector keeps its [`Table`] open). Nothing happens if that version is there already.
///
/// # Errors
/// [`LakeError::Table`]; nothing was appended.
pub async fn append(
    root: &Url,
    name: TableName,
    batch: RecordBatch,
    app_id: &str,
    version: u64,
) -> Result<(), LakeError> {
    Table::open(root, name).await?.append(batch, app_id, version).await
}

pub(crate) async fn committed(table: &DeltaTable, app_id: &str) -> Result<Option<u64>, DeltaTableError> {
    let store = table.log_store();
    let version = table.snapshot()?.transaction_version(store.as_ref(), app_id).await?;
    Ok(version.and_then(|version| u64::try_from(version).ok()))
}

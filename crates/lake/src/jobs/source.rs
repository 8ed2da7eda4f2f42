//! What a job that builds a table from committed `events` has looked at, what is new, and how its rows come to be.
//!
//! A job's progress is two marks, committed with its rows as Delta transactions of the table that it builds:
//! `lake/<table>/events`, the version of `events` that was looked at, and `lake/<table>/clock`, the time of the run.
//! A crash before the commit leaves files that no version names, and the next run begins where this one did; a crash
//! after it leaves nothing to do. Two runs at once conflict on the marks, so one of them commits.
//!
//! New is what versions of `events` since then added: each file's statistics tell its earliest arrival, and everything
//! that arrived from there on is looked at. That may be more than is new, never less; compaction in between does no
//! harm, because the commit log tells of files that are gone by now. Where the log doesn't reach back, everything
//! is looked at.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray as _, BinaryArray, RecordBatch};
use arrow::array::{BooleanArray, Float64Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::DeltaTable;
use deltalake::kernel::{Action, Add};
use deltalake::logstore::get_actions;

use crate::schema::{TableName, pathway_struct_fields};
use crate::table::Table;
use crate::{LakeError, functions, session, table};

use super::JobContext;

/// Rows of one batch in a job: wide rows, so that a batch is about 1 MB.
const BATCH_ROWS: usize = 2_048;

/// Where a job's last run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Time of the run, ms since epoch.
    pub(super) clock_ms: u64,
    /// Version of `events` that it looked at.
    pub(super) events_version: u64,
}

/// What a run has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Arrivals from here on are looked at, ms since epoch.
    pub(super) received_from_ms: u64,
    /// Size of the new files, bytes; of all where everything is looked at.
    pub(super) bytes: u64,
    /// Whether anything is new.
    pub(super) any: bool,
}

/// Committed `events` at one version, and the table that a job builds of them.
pub(super) struct Source {
    name: TableName,
    /// Queries over `events_committed` and the built table's `built_committed`.
    pub(super) session: SessionContext,
    /// The table that is built.
    pub(super) built: Table,
    /// Where the last run ended; `None` before the first.
    pub(super) last: Option<Progress>,
    /// What is new since.
    pub(super) news: News,
    events_version: u64,
    now_ms: u64,
}

fn mark(name: TableName, what: &str) -> String {
    format!("lake/{}/{what}", name.as_str())
}

impl Source {
    /// Pins `events` and the table `name`; `None` if nobody has made `events` yet.
    pub(super) async fn open(context: &JobContext, name: TableName) -> Result<Option<Self>, LakeError> {
        let Some(events) = table::load(&context.root, TableName::Events).await? else { return Ok(None) };
        let built = Table::open(&context.root, name).await?;
        // Both of the snapshot that the commit will stand on: see `commit`.
        let failed = || LakeError::table(name.as_str());
        let clock_ms = table::committed(built.delta(), &mark(name, "clock")).await.map_err(failed())?;
        let events_seen = table::committed(built.delta(), &mark(name, "events")).await.map_err(failed())?;
        let last = clock_ms.zip(events_seen).map(|(clock_ms, events_version)| Progress { clock_ms, events_version });
        let news = news(&events, last.map(|last| last.events_version)).await?;
        let session = engine(context)?;
        session::register_table(&session, "events_committed", TableName::Events, Some(&events)).await?;
        session::register_table(&session, "built_committed", name, Some(built.delta())).await?;
        let events_version = events.version().unwrap_or_default();
        // A clock that went back must not move the mark back.
        let now_ms = context.now_ms().max(last.map_or(0, |last| last.clock_ms));
        Ok(Some(Self { name, session, built, last, news, events_version, now_ms }))
    }

    /// Time of this run, ms since epoch; never before the last run's.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Rows of a query, all at once: for what is small.
    pub(super) async fn rows(&self, sql: &str) -> Result<Vec<RecordBatch>, LakeError> {
        let batches = self.session.sql(sql).await?.collect().await?;
        batches.iter().map(session::plain_text).collect()
    }

    /// Commits what was staged, with the marks; nothing at all if another run was faster.
    pub(super) async fn commit(mut self, staged: table::Staged) -> Result<(), LakeError> {
        let marks = [(mark(self.name, "clock"), self.now_ms), (mark(self.name, "events"), self.events_version)];
        self.built.commit_marked(staged, &marks).await
    }
}

/// What `events` got since version `seen`.
async fn news(events: &DeltaTable, seen: Option<u64>) -> Result<News, LakeError> {
    let failed = || LakeError::table(TableName::Events.as_str());
    let current = events.version().unwrap_or_default();
    let Some(seen) = seen else { return everything(events) };
    let store = events.log_store();
    let mut news = News { received_from_ms: u64::MAX, bytes: 0, any: false };
    for version in seen + 1..=current {
        let Some(bytes) = store.read_commit_entry(version).await.map_err(failed())? else {
            tracing::info!(version, "the log of events does not reach back to the last run: everything is read");
            return everything(events);
        };
        for action in get_actions(version, &bytes).map_err(failed())? {
            if let Action::Add(add) = action
                && add.data_change
            {
                news.any = true;
                news.bytes += u64::try_from(add.size).unwrap_or(0);
                news.received_from_ms = news.received_from_ms.min(earliest_arrival(&add));
            }
        }
    }
    Ok(news)
}

fn everything(events: &DeltaTable) -> Result<News, LakeError> {
    let failed = LakeError::table(TableName::Events.as_str());
    let files = events.snapshot().map_err(failed)?.log_data();
    let bytes = files.iter().map(|file| u64::try_from(file.size()).unwrap_or(0)).sum();
    Ok(News { received_from_ms: 0, bytes, any: bytes > 0 })
}

/// From the file's statistics; 0 (everything) where they are missing.
fn earliest_arrival(add: &Add) -> u64 {
    let stats = add.get_stats().ok().flatten();
    let value = stats.as_ref().and_then(|stats| stats.min_values.get("received_ms")?.as_value());
    value.and_then(|value| value.as_u64()).unwrap_or(0)
}

fn engine(context: &JobContext) -> Result<SessionContext, LakeError> {
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(BATCH_ROWS);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    // Sorts share what joins leave, and spill above it.
    let pool = Arc::new(FairSpillPool::new(context.memory_max_bytes));
    let spill = match &context.spill_dir {
        Some(dir) => DiskManagerMode::Directories(vec![dir.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(pool)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
        .build_arc()?;
    let session = SessionContext::new_with_config_rt(config, runtime);
    functions::register(&session);
    Ok(session)
}

/// A batch's columns by name.
pub(super) struct Cells<'a> {
    batch: &'a RecordBatch,
}

impl<'a> Cells<'a> {
    pub(super) fn new(batch: &'a RecordBatch) -> Self {
        Self { batch }
    }

    fn column<T>(
        &self,
        name: &str,
        found: impl FnOnce(&'a dyn arrow::array::Array) -> Option<T>,
    ) -> Result<T, LakeError> {
        let column = self.batch.column_by_name(name).and_then(|column| found(column.as_ref()));
        let missing = || format!("column {name} is missing or of another type than expected");
        column.ok_or_else(|| arrow::error::ArrowError::SchemaError(missing()).into())
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a StringArray, LakeError> {
        self.column(name, |column| column.as_string_opt::<i32>())
    }

    pub(super) fn int(&self, name: &str) -> Result<&'a Int64Array, LakeError> {
        self.column(name, |column| column.as_primitive_opt::<Int64Type>())
    }

    pub(super) fn float(&self, name: &str) -> Result<&'a Float64Array, LakeError> {
        self.column(name, |column| column.as_primitive_opt::<Float64Type>())
    }

    pub(super) fn bool(&self, name: &str) -> Result<&'a BooleanArray, LakeError> {
        self.column(name, |column| column.as_boolean_opt())
    }

    /// Counters by pathway. The engine may prefer other texts inside the list; here they are plain ones.
    pub(super) fn pathways(&self, name: &str) -> Result<ListArray, LakeError> {
        let list: &ListArray = self.column(name, |column| column.as_list_opt::<i32>())?;
        let element = Field::new("element", DataType::Struct(pathway_struct_fields()), true);
        let plain = arrow::compute::cast(list, &DataType::List(Arc::new(element)))?;
        Ok(plain.as_list::<i32>().clone())
    }
}

/// Columns by name, brought to the order of a table's schema, so that none can stand in another's place.
pub(super) fn in_order(
    name: TableName,
    mut columns: HashMap<&'static str, arrow::array::ArrayRef>,
) -> Result<RecordBatch, LakeError> {
    let schema = name.schema();
    let missing = |column: &str| {
        let text = format!("no values for column {column} of {}", name.as_str());
        LakeError::from(arrow::error::ArrowError::SchemaError(text))
    };
    let columns: Result<Vec<_>, LakeError> = schema
        .fields()
        .iter()
        .map(|field| columns.remove(field.name().as_str()).ok_or_else(|| missing(field.name())))
        .collect();
    Ok(RecordBatch::try_new(schema, columns?)?)
}

/// A binary column, for sketches.
pub(super) fn binary(values: impl Iterator<Item = Option<Vec<u8>>>) -> BinaryArray {
    let mut builder = arrow::array::BinaryBuilder::new();
    for value in values {
        builder.append_option(value);
    }
    builder.finish()
}

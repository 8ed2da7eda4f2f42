//! Queries over table and tails as one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, AsArray as _, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int64Type, Schema};
use datafusion::datasource::MemTable;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use deltalake::DeltaTable;
use url::Url;

use crate::schema::{self, TableName};
use crate::tail::Tail;
use crate::{At, LakeError, history, register, s3, table};

/// A tail that has not answered by then is left out and named.
const TAIL_TIMEOUT: Duration = Duration::from_secs(3);
/// Memory of one session's queries.
const MEMORY_MAX_BYTES: usize = 1 << 30;

/// Where rows are that are not yet in the table.
#[derive(Clone)]
pub enum TailSource {
    /// In this process.
    Local(Tail),
    /// At a collector.
    Http {
        /// Base URL of the collector (`http://host:port`).
        url: String,
        /// Service token.
        token: String,
    },
}

/// One view of the lake: a pinned snapshot of each table and the tails of that moment. Open a new one to see more.
///
/// Every table by its name: those that collectors feed without rows that were sent twice, and as `{name}_raw`, as stored,
/// which is cheaper; `views` and `rollup_1m` in their newest revisions; and the views of [`crate::metrics`] over them.
pub struct LakeSession {
    context: SessionContext,
    warnings: Vec<String>,
}

/// A lake's root as URL, from an absolute path, a `file://` URL or `s3://bucket/prefix`.
///
/// # Errors
/// [`LakeError::BadRoot`].
pub fn lake_root(root: &str) -> Result<Url, LakeError> {
    if root.starts_with('/') {
        return Url::from_directory_path(Path::new(root)).map_err(|()| LakeError::BadRoot(root.into()));
    }
    let url = Url::parse(root).map_err(|_| LakeError::BadRoot(root.into()))?;
    let valid = match url.scheme() {
        "file" => url.to_file_path().is_ok(),
        s3::SCHEME => url.host_str().is_some_and(|bucket| !bucket.is_empty()),
        _ => false,
    };
    if valid { Ok(url) } else { Err(LakeError::BadRoot(root.into())) }
}

impl LakeSession {
    /// Opens the lake at `root` with the tails of its collectors. A table that nobody has made yet is empty; a tail that
    /// does not answer is named in [`LakeSession::warnings`].
    ///
    /// # Errors
    /// [`LakeError`] if a table can't be read.
    pub async fn open(root: &Url, tails: Vec<TailSource>) -> Result<Self, LakeError> {
        Self::open_with(root, tails, None).await
    }

    /// Opens the lake for `sql` as it was, without tails.
    ///
    /// # Errors
    /// [`LakeError`] if a table can't be read or has no such version; of which table a bare version is, `sql` must tell.
    pub async fn open_at(root: &Url, at: At, sql: &str) -> Result<Self, LakeError> {
        let at = at.of_statement(&context()?, sql)?;
        Self::open_with(root, Vec::new(), Some(&at)).await
    }

    async fn open_with(root: &Url, tails: Vec<TailSource>, at: Option<&At>) -> Result<Self, LakeError> {
        let mut warnings = Vec::new();
        // Tails first: rows that are committed meanwhile are in both, and dropped here. The other way round they
        // would be in neither.
        let mut rows: BTreeMap<TableName, Vec<RecordBatch>> = BTreeMap::new();
        for source in tails {
            if let Err(warning) = source.read(&mut rows).await {
                tracing::warn!(warning, "a tail is missing from this query");
                warnings.push(warning);
            }
        }
        let context = context()?;
        for name in TableName::ALL {
            if matches!(name, TableName::Views | TableName::Rollup1m) {
                continue;
            }
            let loaded = history::load(root, name, at).await?;
            match name {
                _ if TableName::FED.contains(&name) => {
                    let tail = above_commits(name, rows.remove(&name).unwrap_or_default(), loaded.as_ref()).await?;
                    register_fed(&context, name, loaded.as_ref(), tail).await?;
                }
                _ => register_table(&context, name.as_str(), name, loaded.as_ref()).await?,
            }
        }
        register::register(&context, root, at).await?;
        Ok(Self { context, warnings })
    }

    /// Tails that did not answer, for people.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Runs one reading statement. Texts come as plain `Utf8` columns, whatever the engine prefers.
    ///
    /// # Errors
    /// [`LakeError::Query`]: bad SQL, or SQL that would change something.
    pub async fn query(&self, sql: &str) -> Result<Vec<RecordBatch>, LakeError> {
        let batches = self.plan(sql).await?.collect().await?;
        batches.iter().map(plain_text).collect()
    }

    /// Runs one reading statement; its rows come while it runs (for [`crate::export::write`]).
    ///
    /// # Errors
    /// As [`LakeSession::query`].
    pub async fn stream(&self, sql: &str) -> Result<SendableRecordBatchStream, LakeError> {
        Ok(self.plan(sql).await?.execute_stream().await?)
    }

    async fn plan(&self, sql: &str) -> Result<DataFrame, LakeError> {
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        Ok(self.context.sql_with_options(sql, reading).await?)
    }

    /// The first cell of a query as a number; 0 if there is none.
    ///
    /// # Errors
    /// As [`LakeSession::query`].
    pub async fn count(&self, sql: &str) -> Result<u64, LakeError> {
        let batches = self.query(sql).await?;
        let first = batches.iter().find(|batch| batch.num_rows() > 0 && batch.num_columns() > 0);
        let value = first.and_then(|batch| batch.column(0).as_primitive_opt::<Int64Type>()).map(|cell| cell.value(0));
        Ok(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0))
    }
}

fn context() -> Result<SessionContext, LakeError> {
    let mut config = SessionConfig::new().with_information_schema(true);
    // Tail rows are plain strings: with string views in the files every union would convert.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY_MAX_BYTES, 1.0).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

pub(crate) async fn register_table(
    context: &SessionContext,
    as_name: &str,
    name: TableName,
    loaded: Option<&DeltaTable>,
) -> Result<(), LakeError> {
    let Some(loaded) = loaded else {
        context.register_table(as_name, Arc::new(MemTable::try_new(name.schema(), vec![vec![]])?))?;
        return Ok(());
    };
    loaded.update_datafusion_session(&context.state()).map_err(LakeError::table(name.as_str()))?;
    let provider = loaded.table_provider().build().await?;
    context.register_table(as_name, Arc::new(provider))?;
    Ok(())
}

/// A table with the rows of its tails: `{name}_committed`, `{name}_tail`, `{name}_raw` for both, and `{name}` without
/// rows that were sent twice.
async fn register_fed(
    context: &SessionContext,
    name: TableName,
    loaded: Option<&DeltaTable>,
    tail: Vec<RecordBatch>,
) -> Result<(), LakeError> {
    let table = name.as_str();
    register_table(context, &format!("{table}_committed"), name, loaded).await?;
    // A partition without a batch would have no schema to show.
    let tail = MemTable::try_new(name.schema(), vec![tail])?;
    context.register_table(format!("{table}_tail"), Arc::new(tail))?;
    let names: Vec<String> = name.schema().fields().iter().map(|field| format!("\"{}\"", field.name())).collect();
    let names = names.join(", ");
    let union = format!("SELECT {names} FROM {table}_committed UNION ALL SELECT {names} FROM {table}_tail");
    // The same row resent across midnight is the one duplicate that a key with `dt` leaves, and the collector's memory
    // catches that.
    let distinct = match name.key() {
        [] => String::new(),
        key => format!("DISTINCT ON ({})", key.join(", ")),
    };
    for view in [
        format!("CREATE VIEW {table}_raw AS {union}"),
        format!("CREATE VIEW {table} AS SELECT {distinct} {names} FROM {table}_raw"),
    ] {
        context.sql(&view).await?.collect().await?;
    }
    Ok(())
}

/// `batch` with string views, large strings and dictionaries as plain strings.
pub(crate) fn plain_text(batch: &RecordBatch) -> Result<RecordBatch, LakeError> {
    let is_text = |data_type: &DataType| match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => true,
        DataType::Dictionary(_, value) => matches!(**value, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8),
        _ => false,
    };
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if is_text(field.data_type()) {
            fields.push(Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)));
            columns.push(arrow::compute::cast(column, &DataType::Utf8)?);
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &rows)?)
}

/// Rows above what their collector has committed in this snapshot.
async fn above_commits(
    name: TableName,
    rows: Vec<RecordBatch>,
    loaded: Option<&DeltaTable>,
) -> Result<Vec<RecordBatch>, LakeError> {
    let mut committed: BTreeMap<String, u64> = BTreeMap::new();
    let mut above = Vec::with_capacity(rows.len());
    for batch in rows {
        let Some((collector, seq)) = position(&batch) else { continue };
        let reached = match (committed.get(&collector), loaded) {
            (Some(reached), _) => *reached,
            (None, None) => 0,
            (None, Some(table)) => {
                let found = table::committed(table, &collector).await.map_err(LakeError::table(name.as_str()))?;
                *committed.entry(collector).or_insert(found.unwrap_or(0))
            }
        };
        if seq > reached {
            above.push(batch);
        }
    }
    Ok(above)
}

/// Collector and WAL sequence, which are the same in all rows of a tail's batch.
fn position(batch: &RecordBatch) -> Option<(String, u64)> {
    let collector = batch.column_by_name("collector")?.as_string_opt::<i32>()?;
    let seq = batch.column_by_name("wal_seq")?.as_primitive_opt::<Int64Type>()?;
    (!collector.is_empty()).then(|| (collector.value(0).to_owned(), u64::try_from(seq.value(0)).unwrap_or(0)))
}

impl TailSource {
    /// Adds the tail's rows of each table to `rows`, or says in a sentence which tail does not answer; then what had come
    /// by that time stays in.
    async fn read(&self, rows: &mut BTreeMap<TableName, Vec<RecordBatch>>) -> Result<(), String> {
        match self {
            Self::Local(tail) => {
                for table in TableName::FED {
                    let batches = tail.batches(table).map_err(|error| format!("the tail can't be read: {error}"))?;
                    rows.entry(table).or_default().extend(batches);
                }
            }
            Self::Http { url, token } => {
                let named = |error: &dyn std::fmt::Display| format!("the tail of {url} does not answer: {error}");
                let client = reqwest::Client::builder().timeout(TAIL_TIMEOUT).build().map_err(|e| named(&e))?;
                for table in TableName::FED {
                    let at = format!("{}/internal/tail?table={}", url.trim_end_matches('/'), table.as_str());
                    let request = client.get(at).bearer_auth(token);
                    let answer =
                        request.send().await.and_then(reqwest::Response::error_for_status).map_err(|e| named(&e))?;
                    let bytes = answer.bytes().await.map_err(|e| named(&e))?;
                    let batches = crate::wal::codec::from_ipc(&bytes).map_err(|e| named(&e))?;
                    let aligned: Result<Vec<_>, _> =
                        batches.iter().map(|batch| schema::align(batch, &table.schema())).collect();
                    rows.entry(table).or_default().extend(aligned.map_err(|e| named(&e))?);
                }
            }
        }
        Ok(())
    }
}

/// Distinct events in table and tails.
///
/// # Errors
/// As [`LakeSession::open`].
pub async fn events_stored(root: &Url, tails: Vec<TailSource>) -> Result<u64, LakeError> {
    let session = LakeSession::open(root, tails).await?;
    session.count("SELECT count(*) FROM (SELECT DISTINCT property, view_id, source, seq FROM events_raw)").await
}

/// Keys of the rows that the tables of collectors got at or after `since_ms`, for a collector's memory of duplicates:
/// (property, view_id, source, seq) of events, (source, batch_seq) of deliveries, (node, batch_seq) of steering
/// answers. The rows may come from any collector, since a sender may have moved.
///
/// # Errors
/// As [`LakeSession::open`].
pub async fn recent_keys(root: &Url, since_ms: u64) -> Result<Vec<RecordBatch>, LakeError> {
    let session = LakeSession::open(root, Vec::new()).await?;
    let mut out = Vec::new();
    for select in [
        "SELECT property, view_id, source, seq FROM events_committed",
        "SELECT DISTINCT source, batch_seq FROM deliveries_committed",
        "SELECT DISTINCT node, batch_seq FROM steers_committed",
    ] {
        out.extend(session.query(&format!("{select} WHERE received_ms >= {since_ms}")).await?);
    }
    Ok(out)
}

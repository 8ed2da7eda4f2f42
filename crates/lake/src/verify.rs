//! Looking after: whether tables and WAL fit together. Reads everything, changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use url::Url;

use crate::LakeError;
use crate::jobs::{Upkeep, forgotten_mark, row_key, session};
use crate::schema::TableName;
use crate::table::committed;
use crate::wal::{codec, scan};

/// Memory of the comparison, bytes; what is above spills.
const MEMORY_MAX_BYTES: usize = 512 << 20;

/// A collector's WAL.
#[derive(Clone, Copy, Debug)]
pub struct WalOf<'a> {
    /// Its folder.
    pub dir: &'a Path,
    /// The collector's id.
    pub collector: &'a str,
    /// Table to the first day that its retention keeps: rows of older days may be gone from it.
    pub kept_from: &'a BTreeMap<TableName, String>,
}

/// What a table has of one collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CollectorRows {
    /// Rows.
    pub rows: u64,
    /// Highest WAL sequence among them.
    pub last_wal_seq: u64,
    /// WAL sequence that the table says it has reached.
    pub committed_seq: u64,
}

/// What [`verify`] found. All but `committed_rows`, `duplicates`, `ahead_rows`, `doubled_rows` and `collectors` is about
/// the WAL, and 0 without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Rows in the tables that collectors feed.
    pub committed_rows: u64,
    /// Rows whose key another row has too: sent again to another collector, say. Reads leave them out, and the rewrite
    /// of their closed day removes them, so they are no fault.
    pub duplicates: u64,
    /// Fault: rows that are there twice from one WAL record.
    pub doubled_rows: u64,
    /// Fault: rows above the WAL sequence that their table says it has reached; a replay would double them.
    pub ahead_rows: u64,
    /// Rows in the WAL, committed or not.
    pub wal_rows: u64,
    /// WAL records.
    pub wal_records: u64,
    /// Torn ends of the WAL; one is normal after a crash.
    pub torn_tails: u64,
    /// Fault: missing sequences, inside the WAL or between the tables and its first record.
    pub gaps: u64,
    /// Rows in the WAL that are not committed yet.
    pub pending_rows: u64,
    /// Fault: rows of WAL records that a table says it has, and lacks.
    pub missing_rows: u64,
    /// Rows that it lacks because their view was forgotten.
    pub forgotten_rows: u64,
    /// Rows that it lacks because their day was dropped.
    pub expired_rows: u64,
    /// Table, collector, rows.
    pub collectors: BTreeMap<&'static str, BTreeMap<String, CollectorRows>>,
}

impl Report {
    /// The faults, a sentence each; none if all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let kinds = [
            (self.gaps, "WAL sequences are missing"),
            (self.missing_rows, "rows that a table says it has are missing"),
            (self.doubled_rows, "rows are there twice"),
            (self.ahead_rows, "rows are above what their table says it has reached"),
        ];
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// The WAL's rows of one table: day, view, key columns and WAL sequence.
type WalRows = BTreeMap<TableName, Vec<RecordBatch>>;

/// Reads the tables that collectors feed and the WAL of each collector that is given.
///
/// # Errors
/// [`LakeError`]: damage in a WAL, a table that can't be read.
pub async fn verify(root: &Url, wals: &[WalOf<'_>]) -> Result<Report, LakeError> {
    let mut report = Report::default();
    let mut read = Vec::with_capacity(wals.len());
    for wal in wals {
        let rows = wal_rows(wal.dir).await?;
        report.wal_rows += rows.rows;
        report.wal_records += rows.recovery.records;
        report.gaps += rows.recovery.gaps;
        report.torn_tails += rows.recovery.torn_tails;
        read.push((*wal, rows, 0));
    }
    for name in TableName::FED {
        let upkeep = Upkeep::open(root, name).await?;
        let Some(upkeep) = upkeep else {
            let own = read.iter_mut().flat_map(|(_, rows, _)| rows.by_table.remove(&name).unwrap_or_default());
            report.pending_rows += own.map(|batch| batch.num_rows() as u64).sum::<u64>();
            continue;
        };
        let session = session(MEMORY_MAX_BYTES, None)?;
        session.register_table("t", upkeep.rows(&session, None).await?.into_view())?;
        table(&session, &upkeep, &mut report).await?;
        for (wal, rows, reached) in &mut read {
            let own = rows.by_table.remove(&name).unwrap_or_default();
            let seq = committed(&upkeep.table, wal.collector).await.map_err(upkeep.failed())?.unwrap_or(0);
            *reached = seq.max(*reached);
            compare(&session, &upkeep, *wal, seq, own, &mut report).await?;
            session.deregister_table("w")?;
        }
    }
    for (_, rows, reached) in &read {
        if let Some(first) = rows.first_seq {
            report.gaps += (first - 1).saturating_sub(*reached);
        }
    }
    Ok(report)
}

struct WalRead {
    recovery: crate::wal::Recovery,
    rows: u64,
    first_seq: Option<u64>,
    by_table: WalRows,
}

/// Its collector may be at work: a segment that was trimmed between listing and reading is no damage.
async fn wal_rows(dir: &Path) -> Result<WalRead, LakeError> {
    let trimmed = |error: &LakeError| matches!(error, LakeError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
    let mut attempt = 1;
    loop {
        let dir = dir.to_owned();
        let read = tokio::task::spawn_blocking(move || read_wal(&dir)).await.map_err(|_| LakeError::Stopped)?;
        match read {
            Err(error) if trimmed(&error) && attempt < 5 => attempt += 1,
            done => return done,
        }
    }
}

fn read_wal(dir: &Path) -> Result<WalRead, LakeError> {
    let (mut rows, mut first_seq, mut by_table) = (0, None, WalRows::new());
    let recovery = scan(dir, false, &mut |seq, payload| {
        first_seq.get_or_insert(seq);
        for batch in codec::from_ipc(payload)? {
            rows += batch.num_rows() as u64;
            let name = batch.schema_ref().metadata().get("table").and_then(|name| TableName::of(name));
            let name = name.unwrap_or(TableName::Events);
            by_table.entry(name).or_default().push(keys(name, &batch, seq)?);
        }
        Ok(())
    })?;
    Ok(WalRead { recovery, rows, first_seq, by_table })
}

/// The columns by which rows are compared; a column that a table lacks is left out.
fn compared(name: TableName) -> Vec<&'static str> {
    let mut columns = vec!["dt", "view_id"];
    columns.extend(row_key(name).iter().filter(|column| **column != "view_id"));
    columns.retain(|column| name.schema().column_with_name(column).is_some());
    columns
}

fn compared_schema(name: TableName) -> SchemaRef {
    let schema = name.schema();
    let field = |column: &str| {
        let data_type = schema.column_with_name(column).map_or(DataType::Utf8, |(_, field)| field.data_type().clone());
        Field::new(column, data_type, true)
    };
    let mut fields: Vec<Field> = compared(name).into_iter().map(field).collect();
    fields.push(Field::new("wal_seq", DataType::Int64, true));
    Arc::new(Schema::new(fields))
}

fn keys(name: TableName, batch: &RecordBatch, seq: u64) -> Result<RecordBatch, LakeError> {
    let schema = compared_schema(name);
    let seqs = Int64Array::from_value(i64::try_from(seq).unwrap_or(i64::MAX), batch.num_rows());
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in &schema.fields()[..schema.fields().len() - 1] {
        columns.push(Arc::clone(batch.column(batch.schema_ref().index_of(field.name())?)));
    }
    columns.push(Arc::new(seqs));
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Rows by collector, repeated ones, and those beyond the commit.
async fn table(session: &SessionContext, upkeep: &Upkeep, report: &mut Report) -> Result<(), LakeError> {
    let mut collectors: BTreeMap<String, CollectorRows> = BTreeMap::new();
    let sql = "SELECT collector, count(*), max(wal_seq) FROM t GROUP BY collector";
    for batch in session.sql(sql).await?.collect().await? {
        let ids = arrow::compute::cast(batch.column(0), &DataType::Utf8)?;
        for (row, id) in ids.as_string::<i32>().iter().enumerate() {
            let id = id.unwrap_or_default();
            let committed_seq = committed(&upkeep.table, id).await.map_err(upkeep.failed())?.unwrap_or(0);
            let found =
                CollectorRows { rows: number(&batch, 1, row), last_wal_seq: number(&batch, 2, row), committed_seq };
            report.committed_rows += found.rows;
            if found.last_wal_seq > committed_seq {
                let sql =
                    format!("SELECT count(*) FROM t WHERE wal_seq > {committed_seq} AND collector = '{}'", quoted(id));
                report.ahead_rows += first(session, &sql).await?;
            }
            collectors.insert(id.to_owned(), found);
        }
    }
    report.collectors.insert(upkeep.name.as_str(), collectors);
    let key = row_key(upkeep.name);
    if key.is_empty() {
        return Ok(());
    }
    let key = key.join(", ");
    let repeated = |key: &str| {
        format!("SELECT CAST(coalesce(sum(n - 1), 0) AS BIGINT) FROM (SELECT count(*) AS n FROM t GROUP BY {key})")
    };
    report.duplicates += first(session, &repeated(&key)).await?;
    report.doubled_rows += first(session, &repeated(&format!("{key}, collector, wal_seq"))).await?;
    Ok(())
}

/// The WAL's rows at or below the commit must be in the table, or be gone for a reason.
async fn compare(
    session: &SessionContext,
    upkeep: &Upkeep,
    wal: WalOf<'_>,
    seq: u64,
    rows: Vec<RecordBatch>,
    report: &mut Report,
) -> Result<(), LakeError> {
    let name = upkeep.name;
    session.register_table("w", Arc::new(MemTable::try_new(compared_schema(name), vec![rows])?))?;
    report.pending_rows += first(session, &format!("SELECT count(*) FROM w WHERE wal_seq > {seq}")).await?;
    let columns = compared(name);
    let view = if columns.contains(&"view_id") { "view_id" } else { "NULL" };
    let key = row_key(name);
    let sql = if !key.is_empty() {
        // A repeated row may have stayed as another collector's, but its day and key are the same.
        let same: Vec<String> = ["dt"].iter().chain(key).map(|column| format!("w.{column} = t.{column}")).collect();
        format!(
            "SELECT dt, {view} AS view, count(*) AS lacking, 0 AS doubled FROM w WHERE wal_seq <= {seq} AND NOT EXISTS \
             (SELECT 1 FROM t WHERE {}) GROUP BY 1, 2",
            same.join(" AND ")
        )
    } else {
        let group = format!("wal_seq, dt, coalesce({view}, '')");
        let counted = |from: &str| {
            format!("SELECT wal_seq, dt, coalesce({view}, '') AS view, count(*) AS n FROM {from} GROUP BY {group}")
        };
        format!(
            "SELECT dt, view, greatest(CAST(sum(a.n - coalesce(b.n, 0)) AS BIGINT), 0) AS lacking, \
             greatest(CAST(sum(coalesce(b.n, 0) - a.n) AS BIGINT), 0) AS doubled \
             FROM ({}) a LEFT JOIN ({}) b USING (wal_seq, dt, view) GROUP BY dt, view",
            counted(&format!("w WHERE wal_seq <= {seq}")),
            counted(&format!("t WHERE collector = '{}'", quoted(wal.collector)))
        )
    };
    for batch in session.sql(&sql).await?.collect().await? {
        let text = |column: usize| arrow::compute::cast(batch.column(column), &DataType::Utf8);
        let (days, views) = (text(0)?, text(1)?);
        let (days, views) = (days.as_string::<i32>(), views.as_string::<i32>());
        for row in 0..batch.num_rows() {
            report.doubled_rows += number(&batch, 3, row);
            let lacking = number(&batch, 2, row);
            if lacking == 0 {
                continue;
            }
            let expired = wal.kept_from.get(&name).is_some_and(|first| days.value(row) < first.as_str());
            let mark = views.is_valid(row).then(|| forgotten_mark(views.value(row)));
            if expired {
                report.expired_rows += lacking;
            } else if let Some(mark) = mark
                && committed(&upkeep.table, &mark).await.map_err(upkeep.failed())?.is_some()
            {
                report.forgotten_rows += lacking;
            } else {
                report.missing_rows += lacking;
            }
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

fn number(batch: &RecordBatch, column: usize, row: usize) -> u64 {
    let cells = batch.column(column).as_primitive_opt::<Int64Type>();
    cells.filter(|cells| cells.is_valid(row)).and_then(|cells| u64::try_from(cells.value(row)).ok()).unwrap_or(0)
}

async fn first(session: &SessionContext, sql: &str) -> Result<u64, LakeError> {
    let batches = session.sql(sql).await?.collect().await?;
    Ok(batches.iter().find(|batch| batch.num_rows() > 0).map_or(0, |batch| number(batch, 0, 0)))
}

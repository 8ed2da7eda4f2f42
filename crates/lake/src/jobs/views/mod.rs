//! The job that builds `views`: one row per closed view, from committed `events` only.
//!
//! A run looks at what arrived since the last one (see [`super::source`]) and at what had arrived within
//! [`VIEW_SILENCE_MS`] before that run, since those views may have been open then: no other view can have closed in
//! between, or have got an event. Of these views it takes the ones with an end event or without an arrival for
//! [`VIEW_SILENCE_MS`], reads all their events in order, spilling to disk above the memory limit, and folds them one
//! view at a time.
//!
//! A view that has a row already gets another one, with the next revision, only if it got an event since. Readers see
//! the highest revision. The day stays that of the first revision, so that all revisions of a view are in one partition.
//!
//! Bounds: views are taken in as many passes as keep one pass small; a view is followed back at most [`LOOKBACK_MS`]
//! before its first new event. Of longer views the row tells by cumulative counters, and counts events since then.

mod fold;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::datasource::MemTable;
use futures::StreamExt as _;
use spillway_model::limits::VIEW_SILENCE_MS;

use super::source::{Cells, Source};
use super::{Job, JobContext, JobReport};
use crate::schema::TableName;
use crate::table::Stager;
use crate::time::day_of;
use crate::{LakeError, session};

use fold::{Fold, VIEW_MAX_MS, ViewRow};
use rows::{Built, Events};

pub(super) use fold::{PathwayCounters, weight};
pub(super) use rows::each_pathway;

/// Events older than this before a view's first new event are not read again, ms: late events come within 48 h.
const LOOKBACK_MS: i64 = 72 * 3_600_000;
/// New files of one pass, bytes: some millions of events, of which the views' names are kept.
const PASS_MAX_BYTES: u64 = 128 << 20;
/// Rows written at a time.
const ROWS_MAX: usize = 1_024;
const DAY_MS: i64 = 86_400_000;

/// The job; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct ViewsJob;

/// What the table has of a view.
struct Known {
    dt: String,
    revision: i64,
    events: i64,
    last_received_ms: i64,
}

type Key = (String, String);

#[async_trait]
impl Job for ViewsJob {
    fn name(&self) -> &'static str {
        "views"
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let Some(source) = Source::open(context, TableName::Views).await? else { return Ok(JobReport::default()) };
        let from_ms = looked_at_from_ms(&source);
        let mut stager = source.built.stager()?;
        let passes = source.news.bytes.div_ceil(PASS_MAX_BYTES).max(1);
        for pass in 0..passes {
            context.check()?;
            one_pass(&source, &mut stager, from_ms, (passes, pass)).await?;
        }
        let rows = stager.rows();
        if rows == 0 && !source.news.any {
            return Ok(JobReport::default());
        }
        let staged = stager.finish().await?;
        let (files_added, bytes_added) = (staged.files() as u64, staged.bytes());
        context.check()?;
        source.commit(staged).await?;
        let lines = vec![format!("views: {rows} rows of closed views")];
        Ok(JobReport { commits: 1, files_added, bytes_added, rows, lines, ..JobReport::default() })
    }
}

/// Arrivals from here on decide which views are looked at.
fn looked_at_from_ms(source: &Source) -> u64 {
    let open_from_ms = source.last.map_or(0, |last| last.clock_ms.saturating_sub(VIEW_SILENCE_MS));
    source.news.received_from_ms.min(open_from_ms)
}

async fn one_pass(
    source: &Source,
    stager: &mut Stager,
    from_ms: u64,
    (passes, pass): (u64, u64),
) -> Result<(), LakeError> {
    let silent_ms = source.now_ms().saturating_sub(VIEW_SILENCE_MS);
    let closing = format!(
        "SELECT property, view_id, min(event_ms) AS first_ms,
                min(event_ms - CASE WHEN mono_ms < 0 THEN 0 WHEN mono_ms > {VIEW_MAX_MS} THEN {VIEW_MAX_MS}
                                    ELSE mono_ms END) AS begun_ms
         FROM events_committed
         WHERE received_ms >= {from_ms} AND ({passes} = 1 OR view_bucket(view_id, {passes}) = {pass})
         GROUP BY property, view_id
         HAVING max(received_ms) <= {silent_ms} OR max(CASE WHEN \"type\" = 'view_end' THEN 1 ELSE 0 END) = 1"
    );
    let closing = source.rows(&closing).await?;
    let Some((first_ms, begun_ms)) = earliest(&closing)? else { return Ok(()) };
    register_closing(source, closing)?;
    let known = known(source, begun_ms).await?;
    let events_from_ms = begun_ms.max(first_ms - LOOKBACK_MS);
    let sql = format!(
        "SELECT {} FROM events_committed e
         LEFT SEMI JOIN closing c ON e.property = c.property AND e.view_id = c.view_id
         WHERE e.event_ms >= {events_from_ms}
         ORDER BY e.property, e.view_id, e.source, e.seq, e.received_ms",
        rows::selected()
    );
    let mut batches = source.session.sql(&sql).await?.execute_stream().await?;
    let mut writing = Writing { stager, known, now_ms: source.now_ms(), rows: Vec::with_capacity(ROWS_MAX) };
    let mut open: Option<Fold> = None;
    while let Some(batch) = batches.next().await {
        let batch = session::plain_text(&batch?)?;
        let events = Events::of(&batch)?;
        for row in 0..batch.num_rows() {
            let (property, view_id) = (events.property.value(row), events.view_id.value(row));
            if let Some(done) = open.take_if(|fold| !fold.is_of(property, view_id)) {
                writing.close(done).await?;
            }
            let fold = open.get_or_insert_with(|| Fold::new(property, view_id));
            if fold.add(events.source.value(row), &events.row(row)) {
                events.each_pathway(row, |pathway, counters| fold.count(pathway, counters));
            }
        }
    }
    if let Some(done) = open {
        writing.close(done).await?;
    }
    writing.flush().await
}

/// The earliest new event and the earliest begin of the views; `None` if there are none.
fn earliest(closing: &[RecordBatch]) -> Result<Option<(i64, i64)>, LakeError> {
    let mut found: Option<(i64, i64)> = None;
    for batch in closing {
        let cells = Cells::new(batch);
        let (first, begun) = (cells.int("first_ms")?, cells.int("begun_ms")?);
        for (first_ms, begun_ms) in first.iter().flatten().zip(begun.iter().flatten()) {
            let (first, begun) = found.unwrap_or((first_ms, begun_ms));
            found = Some((first.min(first_ms), begun.min(begun_ms)));
        }
    }
    Ok(found)
}

/// Makes the views known to the engine, for joins.
fn register_closing(source: &Source, closing: Vec<RecordBatch>) -> Result<(), LakeError> {
    let key = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![key("property"), key("view_id")]));
    let keys: Result<Vec<RecordBatch>, LakeError> = closing
        .into_iter()
        .map(|batch| Ok(RecordBatch::try_new(Arc::clone(&schema), batch.columns()[..2].to_vec())?))
        .collect();
    source.session.deregister_table("closing")?;
    source.session.register_table("closing", Arc::new(MemTable::try_new(schema, vec![keys?])?))?;
    Ok(())
}

/// What the table has of the views, newest revision.
async fn known(source: &Source, begun_ms: i64) -> Result<HashMap<Key, Known>, LakeError> {
    // A day of slack: the begin is measured, and may differ a little from the first revision's.
    let from = day_of(u64::try_from(begun_ms - DAY_MS).unwrap_or(0));
    let sql = format!(
        "SELECT v.property, v.view_id, v.dt, v.revision, v.events, v.last_received_ms FROM built_committed v
         LEFT SEMI JOIN closing c ON v.property = c.property AND v.view_id = c.view_id WHERE v.dt >= '{from}'"
    );
    let mut out: HashMap<Key, Known> = HashMap::new();
    for batch in source.rows(&sql).await? {
        let cells = Cells::new(&batch);
        let (property, view_id, dt) = (cells.text("property")?, cells.text("view_id")?, cells.text("dt")?);
        let (revision, events) = (cells.int("revision")?, cells.int("events")?);
        let last_received = cells.int("last_received_ms")?;
        for row in 0..batch.num_rows() {
            let key = (property.value(row).to_owned(), view_id.value(row).to_owned());
            if out.get(&key).is_some_and(|newer| newer.revision > revision.value(row)) {
                continue;
            }
            let known = Known {
                dt: dt.value(row).to_owned(),
                revision: revision.value(row),
                events: events.value(row),
                last_received_ms: last_received.value(row),
            };
            out.insert(key, known);
        }
    }
    Ok(out)
}

/// Rows on their way into the table.
struct Writing<'a> {
    stager: &'a mut Stager,
    known: HashMap<Key, Known>,
    now_ms: u64,
    rows: Vec<Built>,
}

impl Writing<'_> {
    async fn close(&mut self, fold: Fold) -> Result<(), LakeError> {
        if let Some(built) = fold.close(self.now_ms).and_then(|row| self.revised(row)) {
            self.rows.push(built);
        }
        if self.rows.len() >= ROWS_MAX { self.flush().await } else { Ok(()) }
    }

    /// The row as the table's next revision; `None` if nothing came since the last one.
    fn revised(&mut self, row: ViewRow) -> Option<Built> {
        match self.known.remove(&(row.property.clone(), row.view_id.clone())) {
            None => Some(Built { dt: day_of(u64::try_from(row.started_ms).unwrap_or(0)), revision: 1, row }),
            Some(known) if row.events > known.events || row.last_received_ms > known.last_received_ms => {
                Some(Built { dt: known.dt, revision: known.revision + 1, row })
            }
            Some(_) => None,
        }
    }

    async fn flush(&mut self) -> Result<(), LakeError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.stager.write(rows::to_arrow(&rows, i64::try_from(self.now_ms).unwrap_or(i64::MAX))?).await
    }
}

//! The job that builds `rollup_1m` from committed `events` only.
//!
//! A minute is built once it is [`SETTLE_MS`] old, when nearly all of its events are there, and built anew whenever
//! later ones arrive for it (collectors let in none older than 48 h) or for the ten minutes before, on which it
//! depends (see [`fold`]). The newest revision of a minute replaces the older ones as a whole: readers see, per minute,
//! the rows with the highest revision. Appending revisions was chosen over rewriting the day's files, because one late
//! event would rewrite a day; superseded minutes are few, since minutes settle before they are first built.
//!
//! Bounds: minutes are built in chunks of about [`CHUNK_EVENTS`] events; a chunk's cells are all that is kept, and
//! sorting spills to disk.

mod cells;
mod fold;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;

use super::source::{self, Source};
use super::{Job, JobContext, JobReport};
use crate::schema::TableName;
use crate::table::Stager;
use crate::{LakeError, session};

use cells::{Cells, MINUTE_MS};
use fold::{Fold, GAP_MS};
use rows::Events;

/// A minute is built this long after its end, ms: heartbeats, retries and commits have come by then.
const SETTLE_MS: u64 = 90_000;
/// Events of one chunk; a single minute may have more.
const CHUNK_EVENTS: i64 = 1_000_000;
/// Minutes without a wanted one between them after which a new chunk begins: reading on would cost more.
const CHUNK_BREAK_MINUTES: i64 = 30;
/// Rows written at a time.
const ROWS_MAX: usize = 4_096;

/// The job; see the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct RollupJob;

#[async_trait]
impl Job for RollupJob {
    fn name(&self) -> &'static str {
        "rollup_1m"
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, context: &JobContext) -> Result<JobReport, LakeError> {
        let Some(source) = Source::open(context, TableName::Rollup1m).await? else { return Ok(JobReport::default()) };
        let wanted = wanted(&source).await?;
        if wanted.is_empty() && !source.news.any {
            return Ok(JobReport::default());
        }
        let mut stager = source.built.stager()?;
        for chunk in chunks(&wanted) {
            context.check()?;
            build(&source, &mut stager, chunk).await?;
        }
        let rows = stager.rows();
        let staged = stager.finish().await?;
        let (files_added, bytes_added) = (staged.files() as u64, staged.bytes());
        context.check()?;
        source.commit(staged).await?;
        let lines = vec![format!("rollup_1m: {} minutes, {rows} rows", wanted.len())];
        Ok(JobReport { commits: 1, files_added, bytes_added, rows, lines, ..JobReport::default() })
    }
}

/// First minute (number since epoch) that is not settled at `clock_ms`.
fn settled_until(clock_ms: u64) -> i64 {
    i64::try_from(clock_ms.saturating_sub(SETTLE_MS)).unwrap_or(i64::MAX).div_euclid(MINUTE_MS)
}

/// Minutes to build (number since epoch), with their events: those that have settled since the last run, and those
/// that got events since, with the ones that depend on them.
async fn wanted(source: &Source) -> Result<BTreeMap<i64, i64>, LakeError> {
    let until = settled_until(source.now_ms());
    let settled_before = source.last.map_or(i64::MIN, |last| settled_until(last.clock_ms));
    let mut touched = BTreeSet::new();
    if source.news.any {
        let sql = format!(
            "SELECT DISTINCT event_ms / {MINUTE_MS} AS minute FROM events_committed WHERE received_ms >= {}",
            source.news.received_from_ms
        );
        for batch in source.rows(&sql).await? {
            touched.extend(source::Cells::new(&batch).int("minute")?.iter().flatten());
        }
    }
    let Some(from) = touched.first().copied().into_iter().chain(source.last.map(|_| settled_before)).min() else {
        return Ok(BTreeMap::new());
    };
    let sql = format!(
        "SELECT event_ms / {MINUTE_MS} AS minute, count(*) AS events FROM events_committed
         WHERE event_ms >= {} AND event_ms < {} GROUP BY 1",
        from.saturating_mul(MINUTE_MS),
        until.saturating_mul(MINUTE_MS)
    );
    let depends = GAP_MS / MINUTE_MS + 1;
    let mut wanted = BTreeMap::new();
    for batch in source.rows(&sql).await? {
        let cells = source::Cells::new(&batch);
        for (minute, events) in cells.int("minute")?.iter().flatten().zip(cells.int("events")?.iter().flatten()) {
            if minute >= settled_before || touched.range(minute - depends..=minute).next().is_some() {
                wanted.insert(minute, events);
            }
        }
    }
    Ok(wanted)
}

/// Minutes in runs that are built together.
fn chunks(wanted: &BTreeMap<i64, i64>) -> Vec<BTreeSet<i64>> {
    let mut chunks: Vec<BTreeSet<i64>> = Vec::new();
    let (mut size, mut before) = (0, i64::MIN);
    for (minute, events) in wanted {
        let fits = size + events <= CHUNK_EVENTS && minute.saturating_sub(before) <= CHUNK_BREAK_MINUTES;
        match chunks.last_mut().filter(|_| fits) {
            Some(chunk) => {
                chunk.insert(*minute);
                size += events;
            }
            None => {
                chunks.push(BTreeSet::from([*minute]));
                size = *events;
            }
        }
        before = *minute;
    }
    chunks
}

async fn build(source: &Source, stager: &mut Stager, minutes: BTreeSet<i64>) -> Result<(), LakeError> {
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else { return Ok(()) };
    let sql = format!(
        "SELECT {} FROM events_committed WHERE event_ms >= {} AND event_ms < {}
         ORDER BY property, view_id, event_ms, seq, source",
        rows::selected(),
        first * MINUTE_MS - GAP_MS,
        (last + 1) * MINUTE_MS
    );
    let mut cells = Cells::new(minutes.iter().map(|minute| minute * MINUTE_MS).collect());
    let mut batches = source.session.sql(&sql).await?.execute_stream().await?;
    let mut open: Option<Fold> = None;
    while let Some(batch) = batches.next().await {
        let batch = session::plain_text(&batch?)?;
        let events = Events::of(&batch)?;
        for row in 0..batch.num_rows() {
            let (property, view_id) = (events.property.value(row), events.view_id.value(row));
            let fold = match open.take().filter(|fold| fold.is_of(property, view_id)) {
                Some(fold) => open.insert(fold),
                None => open.insert(Fold::new(property, view_id)),
            };
            fold.add(&events.row(row), &mut cells);
        }
    }
    let revision = i64::try_from(source.now_ms()).unwrap_or(i64::MAX);
    for rows in cells.rows(revision, ROWS_MAX) {
        stager.write(rows?).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_settles_ninety_seconds_after_its_end() {
        assert_eq!(settled_until(60_000 * 10 + 89_999), 9);
        assert_eq!(settled_until(60_000 * 10 + 90_000), 10);
    }

    #[test]
    fn chunks_end_at_their_size_and_at_long_gaps() {
        let wanted = BTreeMap::from([(1, 600_000), (2, 400_000), (3, 1), (40, 1), (41, 5_000_000), (42, 1)]);
        let ends: Vec<Vec<i64>> = chunks(&wanted).into_iter().map(|chunk| chunk.into_iter().collect()).collect();
        assert_eq!(ends, [vec![1, 2], vec![3], vec![40], vec![41], vec![42]]);
    }
}

//! Rows that are durable and not yet in their table: what makes an event queryable at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::LakeError;
use crate::schema::{TableName, with_position};
use crate::wal::codec;

struct Entry {
    seq: u64,
    /// As the WAL holds them: their position, and columns without a value, are added when they are read.
    rows: RecordBatch,
    bytes: usize,
}

/// What waits for one table.
#[derive(Default)]
struct Pending {
    entries: VecDeque<Entry>,
    /// Last WAL sequence in the table.
    committed_seq: u64,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<TableName, Pending>,
    bytes: usize,
    rows: usize,
    last_seq: u64,
    committed_rows: u64,
}

struct Inner {
    collector: String,
    state: Mutex<State>,
}

/// Handle of one collector's tail; clones share it.
#[derive(Clone)]
pub struct Tail(Arc<Inner>);

/// Sizes of a tail, over all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TailStats {
    /// Rows that are durable and not yet in their table.
    pub pending_rows: usize,
    /// Their size as WAL payload, bytes.
    pub pending_bytes: usize,
    /// Last durable WAL sequence.
    pub wal_seq: u64,
    /// WAL sequence up to which everything is in its table.
    pub committed_seq: u64,
    /// Rows this process put into tables.
    pub committed_rows: u64,
}

/// The oldest rows of a table, for one commit.
pub(crate) struct Oldest {
    /// Sequence and rows of each record.
    pub(crate) records: Vec<(u64, RecordBatch)>,
    pub(crate) rows: usize,
    /// The table has everything up to here.
    pub(crate) after: u64,
    pub(crate) last_seq: u64,
    /// More rows were there already.
    pub(crate) more: bool,
}

impl State {
    /// Everything at or below is in its table.
    fn committed_seq(&self) -> u64 {
        let first_pending =
            self.pending.values().filter_map(|table| table.entries.front()).map(|entry| entry.seq).min();
        first_pending.map_or(self.last_seq, |seq| seq - 1)
    }
}

impl Tail {
    /// An empty tail; `committed` is what the tables reached before.
    pub(crate) fn new(collector: &str, committed: &BTreeMap<TableName, u64>) -> Self {
        let pending =
            committed.iter().map(|(table, seq)| (*table, Pending { committed_seq: *seq, ..Pending::default() }));
        let last_seq = committed.values().copied().max().unwrap_or(0);
        let state = State { pending: pending.collect(), last_seq, ..State::default() };
        Self(Arc::new(Inner { collector: collector.to_owned(), state: Mutex::new(state) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The collector whose rows these are.
    #[must_use]
    pub fn collector(&self) -> &str {
        &self.0.collector
    }

    /// Adds the rows of a durable record, unless its table has them already; sequences only ever rise.
    pub(crate) fn push(&self, table: TableName, seq: u64, rows: RecordBatch, bytes: usize) {
        let mut state = self.state();
        state.last_seq = state.last_seq.max(seq);
        let count = rows.num_rows();
        let pending = state.pending.entry(table).or_default();
        if seq <= pending.committed_seq {
            return;
        }
        pending.entries.push_back(Entry { seq, rows, bytes });
        state.rows += count;
        state.bytes += bytes;
    }

    /// The tables that rows wait for.
    pub(crate) fn waiting(&self) -> Vec<TableName> {
        let state = self.state();
        state.pending.iter().filter(|(_, pending)| !pending.entries.is_empty()).map(|(table, _)| *table).collect()
    }

    /// Whole records of `table` from the oldest on, until `max_bytes` are reached.
    pub(crate) fn oldest(&self, table: TableName, max_bytes: usize) -> Option<Oldest> {
        let state = self.state();
        let mut bytes = 0;
        let pending = state.pending.get(&table)?;
        let mut out = Oldest { records: Vec::new(), rows: 0, after: pending.committed_seq, last_seq: 0, more: false };
        for entry in &pending.entries {
            if bytes >= max_bytes {
                out.more = true;
                break;
            }
            bytes += entry.bytes;
            out.rows += entry.rows.num_rows();
            out.last_seq = entry.seq;
            out.records.push((entry.seq, entry.rows.clone()));
        }
        (!out.records.is_empty()).then_some(out)
    }

    /// Drops what `table` has now.
    pub(crate) fn committed(&self, table: TableName, seq: u64) {
        let mut state = self.state();
        let pending = state.pending.entry(table).or_default();
        pending.committed_seq = pending.committed_seq.max(seq);
        let (mut rows, mut bytes) = (0, 0);
        while pending.entries.front().is_some_and(|entry| entry.seq <= seq)
            && let Some(entry) = pending.entries.pop_front()
        {
            bytes += entry.bytes;
            rows += entry.rows.num_rows();
        }
        state.bytes -= bytes;
        state.rows -= rows;
        state.committed_rows += rows as u64;
    }

    /// Rows that are not yet in `table`, a batch per WAL record (so collector and WAL sequence are the same in all rows
    /// of a batch), oldest first.
    ///
    /// # Errors
    /// [`LakeError::Arrow`] if rows don't fit their table, which would be a fault of the writer.
    pub fn batches(&self, table: TableName) -> Result<Vec<RecordBatch>, LakeError> {
        let records: Vec<(u64, RecordBatch)> = {
            let state = self.state();
            let entries = state.pending.get(&table).map(|pending| &pending.entries);
            entries.into_iter().flatten().map(|entry| (entry.seq, entry.rows.clone())).collect()
        };
        records.iter().map(|(seq, rows)| with_position(table, rows, self.collector(), *seq)).collect()
    }

    /// [`Tail::batches`] as an Arrow IPC stream.
    ///
    /// # Errors
    /// [`LakeError::Arrow`].
    pub fn to_ipc(&self, table: TableName) -> Result<Vec<u8>, LakeError> {
        let mut out = Vec::new();
        codec::write_ipc(&self.batches(table)?, &table.schema(), &mut out)?;
        Ok(out)
    }

    /// When the row came that has waited longest for its table, ms since epoch; `None` if none waits.
    #[must_use]
    pub fn waiting_since_ms(&self) -> Option<u64> {
        let state = self.state();
        let oldest = state.pending.values().filter_map(|table| table.entries.front());
        let received = |entry: &Entry| {
            let column = entry.rows.column_by_name("received_ms")?.as_primitive_opt::<Int64Type>()?;
            (!column.is_empty()).then(|| u64::try_from(column.value(0)).unwrap_or(0))
        };
        oldest.filter_map(received).min()
    }

    /// Sizes now.
    #[must_use]
    pub fn stats(&self) -> TailStats {
        let state = self.state();
        TailStats {
            pending_rows: state.rows,
            pending_bytes: state.bytes,
            wal_seq: state.last_seq,
            committed_seq: state.committed_seq(),
            committed_rows: state.committed_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatchOptions;
    use arrow::datatypes::Schema;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("rows")
    }

    #[test]
    fn the_wal_is_committed_up_to_the_oldest_row_that_waits_for_any_table() {
        let tail = Tail::new("c", &BTreeMap::from([(TableName::Events, 4)]));
        assert_eq!((tail.stats().committed_seq, tail.stats().wal_seq), (4, 4));
        tail.push(TableName::Events, 4, rows(1), 10);
        tail.push(TableName::Drills, 5, rows(2), 20);
        tail.push(TableName::Events, 6, rows(3), 30);
        assert_eq!(tail.stats().pending_rows, 5, "sequence 4 is in the table already");
        tail.committed(TableName::Events, 6);
        assert_eq!((tail.stats().committed_seq, tail.waiting()), (4, vec![TableName::Drills]));
        tail.committed(TableName::Drills, 5);
        let stats = tail.stats();
        assert_eq!((stats.committed_seq, stats.pending_rows, stats.pending_bytes), (6, 0, 0));
    }
}

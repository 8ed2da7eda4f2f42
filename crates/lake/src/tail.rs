//! Rows that are durable and not yet in the table: what makes an event queryable at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use crate::LakeError;
use crate::schema::TableName;
use crate::wal::codec;

struct Entry {
    seq: u64,
    batch: RecordBatch,
    bytes: usize,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    rows: usize,
    last_seq: u64,
    committed_seq: u64,
    committed_rows: u64,
}

struct Inner {
    collector: String,
    state: Mutex<State>,
}

/// Handle of one collector's tail; clones share it.
#[derive(Clone)]
pub struct Tail(Arc<Inner>);

/// Sizes of a tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TailStats {
    /// Rows that are durable and not yet in the table.
    pub pending_rows: usize,
    /// Their size as WAL payload, bytes.
    pub pending_bytes: usize,
    /// Last durable WAL sequence.
    pub wal_seq: u64,
    /// Last WAL sequence in the table.
    pub committed_seq: u64,
    /// Rows this process put into the table.
    pub committed_rows: u64,
}

/// The oldest rows, for one commit.
pub(crate) struct Oldest {
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: usize,
    pub(crate) last_seq: u64,
}

impl Tail {
    pub(crate) fn new(collector: &str, committed_seq: u64) -> Self {
        let state = State { last_seq: committed_seq, committed_seq, ..State::default() };
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

    pub(crate) fn push(&self, seq: u64, batch: RecordBatch, bytes: usize) {
        let mut state = self.state();
        state.rows += batch.num_rows();
        state.bytes += bytes;
        state.last_seq = seq;
        state.entries.push_back(Entry { seq, batch, bytes });
    }

    /// Whole records from the oldest on, until `max_bytes` are reached.
    pub(crate) fn oldest(&self, max_bytes: usize) -> Option<Oldest> {
        let state = self.state();
        let mut bytes = 0;
        let mut out = Oldest { batches: Vec::new(), rows: 0, last_seq: 0 };
        for entry in &state.entries {
            if bytes >= max_bytes {
                break;
            }
            bytes += entry.bytes;
            out.rows += entry.batch.num_rows();
            out.last_seq = entry.seq;
            out.batches.push(entry.batch.clone());
        }
        (!out.batches.is_empty()).then_some(out)
    }

    /// Drops what the table has now.
    pub(crate) fn committed(&self, seq: u64) {
        let mut state = self.state();
        while state.entries.front().is_some_and(|entry| entry.seq <= seq)
            && let Some(entry) = state.entries.pop_front()
        {
            state.bytes -= entry.bytes;
            state.rows -= entry.batch.num_rows();
            state.committed_rows += entry.batch.num_rows() as u64;
        }
        state.committed_seq = state.committed_seq.max(seq);
    }

    /// Rows of `events` that are not yet in the table, a batch per WAL record (so collector and WAL sequence are the
    /// same in all rows of a batch), oldest first.
    #[must_use]
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.state().entries.iter().map(|entry| entry.batch.clone()).collect()
    }

    /// [`Tail::batches`] as an Arrow IPC stream.
    ///
    /// # Errors
    /// [`LakeError::Arrow`].
    pub fn to_ipc(&self) -> Result<Vec<u8>, LakeError> {
        codec::to_ipc(&self.batches(), &TableName::Events.schema())
    }

    /// Sizes now.
    #[must_use]
    pub fn stats(&self) -> TailStats {
        let state = self.state();
        TailStats {
            pending_rows: state.rows,
            pending_bytes: state.bytes,
            wal_seq: state.last_seq,
            committed_seq: state.committed_seq,
            committed_rows: state.committed_rows,
        }
    }
}

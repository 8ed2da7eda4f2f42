//! The writer thread: one group, one record, one sync; then the acknowledgements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use spillway_model::Clock;
use tokio::sync::{Notify, oneshot};

use super::AppendError;
use crate::LakeError;
use crate::events::{EventBatch, to_wal};
use crate::schema::TableName;
use crate::tail::Tail;
use crate::wal::{Segments, codec};

/// A group is written early at this size: a record must stay well below what a reader takes for damage.
const GROUP_MAX_BYTES: usize = 8 << 20;
/// Memory that is kept for the records of the next group.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// Rows to be written.
pub(super) enum Input {
    Events(Arc<EventBatch>),
    /// In the table's WAL schema.
    Rows(TableName, RecordBatch),
}

/// What the thread is asked.
pub(super) enum Job {
    Append { input: Input, bytes: usize, done: oneshot::Sender<Result<u64, AppendError>> },
    Trim { committed: u64 },
}

/// Bytes that wait.
#[derive(Default)]
pub(super) struct Queue(AtomicUsize);

impl Queue {
    pub(super) fn reserve(&self, bytes: usize, max: usize) -> Result<(), AppendError> {
        let before = self.0.fetch_add(bytes, Ordering::AcqRel);
        if before.saturating_add(bytes) > max {
            self.release(bytes);
            return Err(AppendError::QueueFull(before, max));
        }
        Ok(())
    }

    pub(super) fn release(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::AcqRel);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

pub(super) struct Writer {
    pub(super) segments: Segments,
    pub(super) tail: Tail,
    pub(super) queue: Arc<Queue>,
    pub(super) due: Arc<Notify>,
    pub(super) window: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) commit_max_bytes: usize,
    /// Records on their way to the disk; used again, because fresh memory costs more than what is written into it.
    pub(super) buffer: Vec<u8>,
}

type Group = Vec<(Input, oneshot::Sender<Result<u64, AppendError>>)>;

impl Writer {
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let (group, bytes) = self.collect(job, jobs);
            if !group.is_empty() {
                self.write(group);
                self.queue.release(bytes);
            }
        }
    }

    /// Waits for company until the window of the first job is over. Sleeping through it costs one wake-up a group,
    /// where waiting for each job would cost one a beacon.
    fn collect(&mut self, first: Job, jobs: &Receiver<Job>) -> (Group, usize) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        self.take(first, &mut group, &mut bytes);
        if !group.is_empty() && self.queue.bytes() < GROUP_MAX_BYTES {
            std::thread::sleep(self.window);
        }
        while bytes < GROUP_MAX_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            self.take(job, &mut group, &mut bytes);
        }
        (group, bytes)
    }

    fn take(&mut self, job: Job, group: &mut Group, bytes: &mut usize) {
        match job {
            Job::Trim { committed } => {
                self.segments.trim(committed);
                metrics::gauge!("spillway_wal_bytes").set(self.segments.bytes() as f64);
            }
            Job::Append { input, bytes: size, done } => {
                *bytes += size;
                group.push((input, done));
            }
        }
    }

    fn write(&mut self, group: Group) {
        let outcome = self.persist(&group);
        metrics::gauge!("spillway_wal_failing").set(if outcome.is_ok() { 0.0 } else { 1.0 });
        if let Err(error) = &outcome {
            metrics::counter!("spillway_wal_write_errors_total").increment(1);
            tracing::error!(%error, beacons = group.len(), "the wal could not be written; the beacons were refused");
        }
        for (_, done) in group {
            // A client that went away needs no answer.
            let _ = done.send(outcome.clone());
        }
        if self.tail.stats().pending_bytes >= self.commit_max_bytes {
            self.due.notify_one();
        }
    }

    /// Writes a record per table, with one sync; the last one's sequence.
    fn persist(&mut self, group: &Group) -> Result<u64, AppendError> {
        let failed = |error: &dyn std::fmt::Display| AppendError::Write(error.to_string().into());
        let first = self.segments.last_seq() + 1;
        let mut records = Vec::new();
        self.buffer.clear();
        for (seq, (table, rows)) in (first..).zip(by_table(group).map_err(|error| failed(&error))?) {
            let schema = rows.schema();
            let write = |out: &mut Vec<u8>| codec::write_ipc(std::slice::from_ref(&rows), &schema, out);
            let bytes = codec::encode(seq, &mut self.buffer, write).map_err(|error| failed(&error))?;
            records.push((table, rows, bytes));
        }
        let begun_ms = self.clock.monotonic().0;
        let written = self.segments.write(&self.buffer, records.len() as u64);
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        written.map_err(|error| failed(&error))?;
        let took_ms = self.clock.monotonic().0 - begun_ms;
        metrics::histogram!("spillway_wal_append_seconds").record(took_ms as f64 / 1e3);
        metrics::gauge!("spillway_wal_bytes").set(self.segments.bytes() as f64);
        metrics::histogram!("spillway_wal_group_beacons").record(group.len() as f64);
        for (seq, (table, rows, bytes)) in (first..).zip(records) {
            self.tail.push(table, seq, rows, bytes);
        }
        Ok(self.segments.last_seq())
    }
}

/// The group's rows, a batch per table.
fn by_table(group: &Group) -> Result<Vec<(TableName, RecordBatch)>, LakeError> {
    let events = group.iter().filter_map(|(input, _)| match input {
        Input::Events(batch) => Some(batch.as_ref()),
        Input::Rows(..) => None,
    });
    let mut out = Vec::new();
    if events.clone().next().is_some() {
        out.push((TableName::Events, to_wal(events)?));
    }
    let mut rows: BTreeMap<TableName, Vec<&RecordBatch>> = BTreeMap::new();
    for (input, _) in group {
        if let Input::Rows(table, batch) = input {
            rows.entry(*table).or_default().push(batch);
        }
    }
    for (table, batches) in rows {
        out.push((table, concat_batches(&table.wal_schema(), batches)?));
    }
    Ok(out)
}

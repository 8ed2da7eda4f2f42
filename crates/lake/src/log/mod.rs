//! The event log of one collector: group commit into the WAL, rows in the tail, commits to the table, exactly once.

mod reach;
mod writer;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use spillway_model::Clock;
use tokio::sync::{Notify, oneshot};
use url::Url;

use crate::LakeError;
use crate::events::EventBatch;
use crate::schema::{TableName, align, with_position};
use crate::table::Table;
use crate::tail::Tail;
use crate::wal::{Durability, Recovery, Segments, codec};

use reach::Reach;
use writer::{Input, Job, Queue, Writer};

/// How a collector's log behaves.
#[derive(Clone, Debug)]
pub struct EventLogOptions {
    /// Collector id: the application id of its commits. No two processes may share it.
    pub collector: String,
    /// When an event is durable. Default: after `fdatasync`.
    pub durability: Durability,
    /// Longest wait for company before a group is written, ms.
    pub group_commit_ms: u64,
    /// Events that wait to be written, bytes of their beacons.
    pub queue_max_bytes: usize,
    /// Rows that wait to be committed, bytes; above it nothing is taken.
    pub tail_max_bytes: usize,
    /// One commit at most, bytes; reaching it asks for a commit ([`EventLog::commit_due`]).
    pub commit_max_bytes: usize,
    /// A WAL segment is closed at this size, bytes.
    pub segment_max_bytes: u64,
    /// Set damaged segments aside instead of refusing to start.
    pub skip_corrupt: bool,
}

impl EventLogOptions {
    /// The defaults for `collector`.
    #[must_use]
    pub fn new(collector: &str) -> Self {
        Self {
            collector: collector.to_owned(),
            durability: Durability::Fsync,
            group_commit_ms: 20,
            queue_max_bytes: 64 << 20,
            tail_max_bytes: 512 << 20,
            commit_max_bytes: 64 << 20,
            segment_max_bytes: 64 << 20,
            skip_corrupt: false,
        }
    }
}

/// Why events were not taken. None of them is stored; all can be sent again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The writer is behind.
    #[error("{0} bytes of events wait to be written, at most {1} are valid")]
    QueueFull(usize, usize),
    /// The table is behind.
    #[error("{0} bytes of events wait to be committed, at most {1} are valid")]
    LakeBehind(usize, usize),
    /// The columns don't fit.
    #[error("rows of {0} that don't fit: {1}")]
    BadRows(&'static str, Arc<str>),
    /// The disk failed (full, for example).
    #[error("the wal could not be written: {0}")]
    Write(Arc<str>),
    /// The log is closed.
    #[error("the log is closed")]
    Stopped,
}

impl AppendError {
    /// Stable reason name, for counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull(..) => "queue_full",
            Self::LakeBehind(..) => "lake_behind",
            Self::BadRows(..) => "bad_rows",
            Self::Write(_) => "wal_write",
            Self::Stopped => "stopping",
        }
    }
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Rows put into the table.
    pub rows: usize,
    /// WAL sequence that the table reaches.
    pub committed_seq: u64,
    /// More rows waited when it began than it could take.
    pub more: bool,
}

/// What the start found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// State of the WAL.
    pub wal: Recovery,
    /// Rows of the WAL that were not in the table yet, and are going to be.
    pub replayed_rows: u64,
    /// WAL sequence that the table reached; 0 if it was out of reach.
    pub committed_seq: u64,
    /// Why the tables could not be asked. Events are taken all the same; they wait in the WAL until a commit succeeds.
    pub table_error: Option<LakeError>,
}

/// The log of one collector: one WAL for all the tables that it feeds.
pub struct EventLog {
    root: Url,
    options: EventLogOptions,
    tail: Tail,
    queue: Arc<Queue>,
    sender: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Those that were committed to, open.
    tables: tokio::sync::Mutex<BTreeMap<TableName, Table>>,
    due: Arc<Notify>,
}

/// Jobs that wait for the writer; each is a beacon.
const QUEUE_MAX_JOBS: usize = 16_384;

impl EventLog {
    /// Opens WAL (`wal_dir`) and tables (under `root`): what the WAL has and its table lacks goes into the tail, and every
    /// row found in the WAL is shown to `on_rows` (for the memory of duplicates). Tables out of reach are no reason not
    /// to take events, if there is a WAL to go on with: see [`Recovered::table_error`].
    ///
    /// # Errors
    /// [`LakeError`]: damage, a WAL in use, an empty WAL and tables that can't be opened.
    pub async fn open(
        root: &Url,
        wal_dir: &Path,
        options: EventLogOptions,
        clock: Arc<dyn Clock>,
        mut on_rows: impl FnMut(&RecordBatch) + Send + 'static,
    ) -> Result<(Self, Recovered), LakeError> {
        let (reach, table_error) = match Reach::ask(root, &options.collector).await {
            Ok(reach) => (reach, None),
            Err(error) if error.may_pass() => (Reach::unknown(), Some(error)),
            Err(error) => return Err(error),
        };
        let Reach { mut tables, committed } = reach;
        let tail = Tail::new(&options.collector, &committed);
        let committed_seq = committed.get(&TableName::Events).copied().unwrap_or(0);
        let (opened_tail, dir, opened_options) = (tail.clone(), wal_dir.to_owned(), options.clone());
        let opening =
            tokio::task::spawn_blocking(move || open_segments(&dir, &opened_options, &opened_tail, &mut on_rows));
        let (segments, wal) = opening.await.map_err(|_| LakeError::Stopped)??;
        let table_error = match table_error {
            // Sequences that began at 1 again would be taken for committed ones.
            Some(error) if segments.last_seq() == 0 => return Err(error),
            other => other,
        };
        let replayed_rows = tail.stats().pending_rows as u64;
        // A WAL larger than the tail may be must be in its tables before new events come.
        while table_error.is_none() && tail.stats().pending_bytes > options.tail_max_bytes / 2 {
            commit_waiting(root, &mut tables, &tail, &options).await?;
        }
        let queue = Arc::new(Queue::default());
        let due = Arc::new(Notify::new());
        let (sender, receiver) = std::sync::mpsc::sync_channel(QUEUE_MAX_JOBS);
        let writer = Writer {
            segments,
            tail: tail.clone(),
            queue: Arc::clone(&queue),
            due: Arc::clone(&due),
            window: Duration::from_millis(options.group_commit_ms),
            clock,
            commit_max_bytes: options.commit_max_bytes,
            buffer: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("wal-writer".into())
            .spawn(move || writer.run(&receiver))
            .map_err(LakeError::io(wal_dir))?;
        let log = Self {
            root: root.clone(),
            options,
            tail,
            queue,
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            tables: tokio::sync::Mutex::new(tables),
            due,
        };
        Ok((log, Recovered { wal, replayed_rows, committed_seq, table_error }))
    }

    /// Makes the events of `batch` durable; their WAL sequence. `bytes` is its size for the queue's bound. Dropping the
    /// future does not take the events back.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was stored, the sender may try again.
    pub async fn append(&self, batch: impl Into<Arc<EventBatch>>, bytes: usize) -> Result<u64, AppendError> {
        self.write(Input::Events(batch.into()), bytes).await
    }

    /// Makes `rows` of a fed table durable; their WAL sequence. The columns are the table's without collector and WAL
    /// sequence, in any order; absent ones are null. All else as [`EventLog::append`].
    ///
    /// # Errors
    /// [`AppendError::BadRows`] if the columns don't fit the table, and the others of [`AppendError`].
    pub async fn append_rows(&self, table: TableName, rows: &RecordBatch, bytes: usize) -> Result<u64, AppendError> {
        let bad = |error: &dyn std::fmt::Display| AppendError::BadRows(table.as_str(), error.to_string().into());
        if !TableName::FED.contains(&table) {
            return Err(bad(&"collectors don't feed it"));
        }
        let rows = align(rows, &table.wal_schema()).map_err(|error| bad(&error))?;
        self.write(Input::Rows(table, rows), bytes).await
    }

    async fn write(&self, input: Input, bytes: usize) -> Result<u64, AppendError> {
        let pending = self.tail.stats().pending_bytes;
        if pending > self.options.tail_max_bytes {
            return Err(AppendError::LakeBehind(pending, self.options.tail_max_bytes));
        }
        self.queue.reserve(bytes, self.options.queue_max_bytes)?;
        let (done, durable) = oneshot::channel();
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = sender.ok_or(AppendError::Stopped).and_then(|sender| {
            sender.try_send(Job::Append { input, bytes, done }).map_err(|error| match error {
                TrySendError::Full(_) => AppendError::QueueFull(self.queue.bytes(), self.options.queue_max_bytes),
                TrySendError::Disconnected(_) => AppendError::Stopped,
            })
        });
        if let Err(error) = sent {
            self.queue.release(bytes);
            return Err(error);
        }
        durable.await.unwrap_or(Err(AppendError::Stopped))
    }

    /// Puts the oldest rows of the tail into their tables (a commit for each), then trims the WAL behind what all have.
    ///
    /// # Errors
    /// [`LakeError::Table`]; the rows stay in WAL and tail.
    pub async fn commit(&self) -> Result<CommitReport, LakeError> {
        let mut tables = self.tables.lock().await;
        let report = commit_waiting(&self.root, &mut tables, &self.tail, &self.options).await?;
        if report.committed_seq > 0
            && let Some(sender) = self.sender.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            // A full queue only delays the trim to the next commit.
            let _ = sender.try_send(Job::Trim { committed: report.committed_seq });
        }
        Ok(report)
    }

    /// Completes when so many rows wait that a commit should not wait for its time.
    pub async fn commit_due(&self) {
        self.due.notified().await;
    }

    /// Bytes of beacons that wait for the WAL.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// The tail.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail.clone()
    }

    /// Stops taking events, writes what is queued and closes the WAL. Rows not committed stay in it.
    pub async fn close(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // At most one group: the directory's lock must be free when the log is gone.
            let _ = thread.join();
        }
    }
}

fn open_segments(
    dir: &Path,
    options: &EventLogOptions,
    tail: &Tail,
    on_rows: &mut dyn FnMut(&RecordBatch),
) -> Result<(Segments, Recovery), LakeError> {
    let mut on_record = |seq: u64, payload: &[u8]| {
        for batch in codec::from_ipc(payload)? {
            let table = codec::table_of(&batch)?;
            let rows = with_position(table, &batch, &options.collector, seq)?;
            on_rows(&rows);
            tail.push(table, seq, batch, payload.len());
        }
        Ok(())
    };
    let committed = tail.stats().wal_seq;
    let (durability, max) = (options.durability, options.segment_max_bytes);
    let (mut segments, recovery) =
        Segments::open(dir, durability, max, committed, options.skip_corrupt, &mut on_record)?;
    segments.trim(tail.stats().committed_seq);
    report(dir, &recovery);
    Ok((segments, recovery))
}

fn report(dir: &Path, recovery: &Recovery) {
    metrics::counter!("spillway_wal_torn_tails_total").increment(recovery.torn_tails);
    if recovery.torn_tails > 0 {
        tracing::warn!(dir = %dir.display(), bytes = recovery.torn_bytes, "the wal had a torn end, which was cut");
    }
    for path in &recovery.set_aside {
        let aside: PathBuf = path.with_extension("corrupt");
        tracing::error!(path = %aside.display(), "a corrupt wal segment was set aside, its records are not replayed");
    }
}

/// One commit for each table that rows wait for.
async fn commit_waiting(
    root: &Url,
    tables: &mut BTreeMap<TableName, Table>,
    tail: &Tail,
    options: &EventLogOptions,
) -> Result<CommitReport, LakeError> {
    let mut report = CommitReport::default();
    for name in tail.waiting() {
        let Some(oldest) = tail.oldest(name, options.commit_max_bytes) else { continue };
        let table = match tables.entry(name) {
            Entry::Occupied(table) => table.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(Table::open(root, name).await?),
        };
        let mut stager = table.stager()?;
        for (seq, rows) in &oldest.records {
            stager.write(with_position(name, rows, &options.collector, *seq)?).await?;
            // Encoding takes a while: the beacons of this thread have their turn in between.
            tokio::task::yield_now().await;
        }
        let staged = stager.finish().await?;
        let reached = table.finish_above(staged, &options.collector, oldest.after, oldest.last_seq).await?;
        tail.committed(name, reached);
        let rows = if reached == oldest.last_seq { oldest.rows } else { 0 };
        metrics::counter!("spillway_lake_committed_rows_total", "table" => name.as_str()).increment(rows as u64);
        report.rows += rows;
        // Not what came during the commit: it waits for its turn, else commits would follow each other without a pause.
        report.more |= oldest.more || reached < oldest.last_seq;
    }
    report.committed_seq = tail.stats().committed_seq;
    Ok(report)
}

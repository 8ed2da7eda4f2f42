//! One fetch for all who wait: a fill takes the origin's bytes once, and readers follow it as far as it is.
//!
//! A fill belongs to nobody: it goes on when its readers leave, as long as its bytes will be kept. Its memory comes
//! out of a budget that all fills share. Where the bytes can't be kept (too many, no budget, nothing says for how
//! long), the fill becomes a *window*: it takes no new readers, forgets what all readers have passed, and ends when
//! the last of them leaves.

mod table;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use crate::cache::object::{Head, Key, Object};
use crate::origin::{Answer, FetchError};
use crate::rules::freshness::Freshness;

pub(crate) use table::{FillTable, Joined};
pub(crate) use writer::Writer;

/// A window holds so many bytes before it waits for its slowest reader.
const WINDOW_BYTES: usize = 1024 * 1024;
/// A fill that waits this long for memory becomes a window.
const BUDGET_WAIT: Duration = Duration::from_millis(500);
/// A window that waits this long, for memory or for its readers, ends.
const WINDOW_WAIT: Duration = Duration::from_secs(35);

/// What a fill's first answer came to.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Bytes follow.
    Stream {
        head: Arc<Head>,
        /// Length of the body, if the origin said.
        len: Option<u64>,
        /// How old it is and how long it is good, if it is kept.
        freshness: Option<Freshness>,
        /// The key of the requests that it is for, if not for all that were expected.
        variant: Option<Key>,
    },
    /// The kept object serves: validated, or stale because of an error (the word).
    Object(Arc<Object>, Option<&'static str>),
    /// The disk tier had it.
    Loaded(Arc<Object>),
    /// Not to be shared; the word says why. Who began the fill may take the answer, the others fetch for themselves.
    Pass(&'static str),
    /// Nothing came.
    Failed(FetchError),
}

/// A fetch in progress.
pub(crate) struct Fill {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    consumed: Notify,
    budget: Arc<Semaphore>,
    /// What comes is not to be kept: its URL was changed or purged in the meantime.
    outdated: AtomicBool,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    direct: Option<Answer>,
    /// Bytes taken from the budget for `parts` and for what is known to come.
    charged: usize,
    parts: VecDeque<Bytes>,
    queued: usize,
    /// Index of the first part that is still held.
    first: u64,
    window: bool,
    end: Option<End>,
    readers: BTreeMap<u64, u64>,
    next_reader: u64,
}

enum End {
    Complete(Option<Arc<Object>>),
    Aborted,
}

/// The fetch was not completed: what was read is not the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the rest of an object whose fetch was aborted")]
pub(crate) struct Aborted;

impl Fill {
    fn new(budget: Arc<Semaphore>) -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            consumed: Notify::new(),
            budget,
            outdated: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if state.window {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, 0);
        drop(state);
        Some(Reader { fill: self.clone(), changed: self.changed.subscribe(), id, index: 0, at: 0 })
    }

    /// Gives back what all readers of a window have passed.
    fn forget(&self, state: &mut State) {
        if !state.window {
            return;
        }
        let end = state.first + state.parts.len() as u64;
        let slowest = state.readers.values().copied().min().unwrap_or(end);
        while state.first < slowest {
            let Some(part) = state.parts.pop_front() else { break };
            state.first += 1;
            state.queued -= part.len();
            self.refund(state, part.len());
        }
        self.consumed.notify_one();
    }

    fn refund(&self, state: &mut State, bytes: usize) {
        let bytes = bytes.min(state.charged);
        state.charged -= bytes;
        self.budget.add_permits(bytes);
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let charged = self.lock().charged;
        self.budget.add_permits(charged);
    }
}

/// One that follows a fill.
pub(crate) struct Reader {
    fill: Arc<Fill>,
    changed: watch::Receiver<()>,
    id: u64,
    /// Next part.
    index: u64,
    /// Bytes passed.
    at: u64,
}

enum Step {
    Part(Bytes),
    End,
    Aborted,
    Wait,
}

impl Reader {
    /// Waits for the first answer.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        loop {
            self.changed.borrow_and_update();
            if let Some(outcome) = &self.fill.lock().outcome {
                return outcome.clone();
            }
            if self.changed.changed().await.is_err() {
                return Outcome::Failed(FetchError::Answer);
            }
        }
    }

    /// The answer that is for one only: for who began the fill, since it was asked with their headers.
    pub(crate) fn take_direct(&self) -> Option<Answer> {
        self.fill.lock().direct.take()
    }

    /// The next bytes; `None` at the proper end.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Aborted>> {
        loop {
            self.changed.borrow_and_update();
            match self.step() {
                Step::Part(part) => return Some(Ok(part)),
                Step::End => return None,
                Step::Aborted => return Some(Err(Aborted)),
                Step::Wait => {
                    if self.changed.changed().await.is_err() {
                        return Some(Err(Aborted));
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let mut state = self.fill.lock();
        if let Some(End::Complete(Some(object))) = &state.end {
            let part = object.body.stored().part(self.at, u64::MAX);
            return match part {
                Ok(Some(part)) => {
                    self.at += part.len() as u64;
                    Step::Part(part)
                }
                Ok(None) => Step::End,
                Err(_) => Step::Aborted,
            };
        }
        let held = usize::try_from(self.index - state.first).unwrap_or(usize::MAX);
        if let Some(part) = state.parts.get(held).cloned() {
            self.index += 1;
            self.at += part.len() as u64;
            state.readers.insert(self.id, self.index);
            self.fill.forget(&mut state);
            return Step::Part(part);
        }
        match state.end {
            None => Step::Wait,
            Some(End::Complete(_)) => Step::End,
            Some(End::Aborted) => Step::Aborted,
        }
    }

    /// Waits until the fill has ended.
    pub(crate) async fn ended(&mut self) {
        loop {
            self.changed.borrow_and_update();
            let over = {
                let state = self.fill.lock();
                state.end.is_some()
                    || matches!(state.outcome, Some(ref other) if !matches!(other, Outcome::Stream { .. }))
            };
            if over || self.changed.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        state.readers.remove(&self.id);
        self.fill.forget(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fill::table::tests::{begin, piece};

    #[tokio::test]
    async fn readers_follow_and_learn_of_the_end_or_of_the_lack_of_one() {
        let table = FillTable::new(1_000);
        let (mut first, mut writer) = begin(&table, "/a");
        let Joined::Waiter(mut second) = table.join(&Key::from("/a"), || None) else { panic!("joined") };
        writer.push(piece(10)).await.expect("room");
        assert_eq!(first.next().await, Some(Ok(piece(10))));
        assert_eq!(second.next().await, Some(Ok(piece(10))));
        writer.complete(None);
        assert_eq!(first.next().await, None);

        let (mut reader, mut writer) = begin(&table, "/a");
        writer.push(piece(5)).await.expect("room");
        drop(writer);
        assert_eq!(reader.next().await, Some(Ok(piece(5))));
        assert_eq!(reader.next().await, Some(Err(Aborted)));
        assert!(matches!(table.join(&Key::from("/a"), || None), Joined::First(..)));
        drop((first, second, reader));
        assert_eq!(table.free_bytes(), 1_000);
    }

    #[tokio::test]
    async fn a_fill_without_memory_becomes_a_window_and_others_get_what_it_frees() {
        let table = FillTable::new(100);
        let (mut reader, mut writer) = begin(&table, "/a");
        writer.push(piece(60)).await.expect("room");
        let other = tokio::spawn({
            let table = table.clone();
            async move {
                let (mut reader, mut writer) = begin(&table, "/b");
                let pushed = writer.push(piece(60)).await;
                assert_eq!(pushed, Ok(()));
                reader.next().await
            }
        });
        assert_eq!(reader.next().await, Some(Ok(piece(60))));
        // There are 40 left: this waits, becomes a window, lets go of the 60 that were read, and goes on.
        writer.push(piece(50)).await.expect("freed");
        assert!(writer.is_window());
        assert_eq!(reader.next().await, Some(Ok(piece(50))));
        assert_eq!(other.await.expect("joined"), Some(Ok(piece(60))));
    }

    #[tokio::test]
    async fn a_window_waits_for_its_slowest_reader_and_ends_with_the_last() {
        let table = FillTable::new(10 * WINDOW_BYTES);
        let (reader, mut writer) = begin(&table, "/a");
        writer.open_window();
        assert!(matches!(table.join(&Key::from("/a"), || None), Joined::First(..)));
        writer.push(piece(WINDOW_BYTES)).await.expect("room");
        let stuck = tokio::time::timeout(Duration::from_millis(50), writer.push(piece(1))).await;
        assert!(stuck.is_err(), "the window is full");
        drop(reader);
        assert_eq!(writer.push(piece(1)).await, Err(writer::Stop::NoReaders));
        drop(writer);
        assert_eq!(table.free_bytes(), 10 * WINDOW_BYTES);
    }

    #[tokio::test]
    async fn who_reads_goes_on_when_slow_ones_have_all_of_the_budget() {
        let table = FillTable::new(100);
        let (_slow, mut hoarder) = begin(&table, "/a");
        hoarder.push(piece(100)).await.expect("room");
        let (mut reader, mut writer) = begin(&table, "/b");
        writer.push(piece(60)).await.expect("one part");
        assert!(writer.is_window());
        // The next one waits until that has been read, and no longer.
        let (pushed, read) = tokio::join!(writer.push(piece(70)), async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            reader.next().await
        });
        assert_eq!((pushed, read), (Ok(()), Some(Ok(piece(60)))));
        assert_eq!(reader.next().await, Some(Ok(piece(70))));
        drop((hoarder, _slow, reader, writer));
        assert_eq!(table.free_bytes(), 100);
    }

    #[tokio::test]
    async fn a_known_length_is_paid_in_one_piece_or_not_at_all() {
        let table = FillTable::new(100);
        let (_reader, mut first) = begin(&table, "/a");
        let (_other, mut second) = begin(&table, "/b");
        assert!(first.prepay(80).await);
        assert!(!second.prepay(80).await);
        second.open_window();
        second.push(piece(20)).await.expect("room");
        first.push(piece(80)).await.expect("prepaid");
        drop((first, second));
    }
}

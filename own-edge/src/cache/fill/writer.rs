//! The side of a fill that takes the origin's bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{AcquireError, SemaphorePermit};

use super::{BUDGET_WAIT, End, Fill, FillTable, Outcome, WINDOW_BYTES, WINDOW_WAIT};
use crate::cache::object::{Key, Object};
use crate::origin::{Answer, FetchError};

/// The one that fills. Dropped before [`Writer::complete`], the fill is aborted.
pub(crate) struct Writer {
    table: Arc<FillTable>,
    key: Key,
    fill: Arc<Fill>,
    prepaid: usize,
}

/// Why a fill can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody reads and it won't be kept.
    NoReaders,
    /// Its readers or the budget stood still for too long.
    Stuck,
}

impl Writer {
    pub(super) fn new(table: Arc<FillTable>, key: Key, fill: Arc<Fill>) -> Self {
        Self { table, key, fill, prepaid: 0 }
    }

    /// Takes the fill out of the table: who comes from now on doesn't find it.
    pub(crate) fn unlist(&self) {
        self.table.lock().leave(&self.key, &self.fill);
    }

    /// The same, and its object will be kept: it can still become outdated.
    pub(crate) fn set_apart(&self) {
        let mut fills = self.table.lock();
        if !self.is_outdated() {
            fills.set_apart(&self.key, &self.fill);
        }
    }

    /// Whether more than one asked for it.
    pub(crate) fn was_joined(&self) -> bool {
        self.fill.lock().next_reader > 1
    }

    /// Whether what came is not to be kept.
    pub(crate) fn is_outdated(&self) -> bool {
        self.fill.outdated.load(Ordering::Relaxed)
    }

    /// The answer turned out to be for requests of `key`: these find the fill now, unless another one is theirs already.
    pub(crate) fn rekey(&mut self, key: Key) {
        let mut fills = self.table.lock();
        fills.leave(&self.key, &self.fill);
        // One that was outdated must not be found again; it is only while the table is locked that none becomes so.
        if !self.is_outdated() {
            match fills.joinable.contains_key(&key) {
                true => fills.set_apart(&key, &self.fill),
                false => drop(fills.joinable.insert(key.clone(), self.fill.clone())),
            }
        }
        drop(fills);
        self.key = key;
    }

    /// Tells everyone the first answer.
    pub(crate) fn publish(&self, outcome: Outcome) {
        self.fill.lock().outcome = Some(outcome);
        self.fill.changed.send_replace(());
    }

    /// Tells everyone that `answer` is for one of them only.
    pub(crate) fn publish_pass(&self, reason: &'static str, answer: Answer) {
        self.unlist();
        let mut state = self.fill.lock();
        state.direct = Some(answer);
        state.outcome = Some(Outcome::Pass(reason));
        drop(state);
        self.fill.changed.send_replace(());
    }

    /// Takes the whole of a known length out of the budget, so that two fills never wait for each other's rest.
    pub(crate) async fn prepay(&mut self, bytes: u64) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let Ok(Ok(permits)) = tokio::time::timeout(BUDGET_WAIT, self.fill.budget.acquire_many(bytes)).await else {
            return false;
        };
        permits.forget();
        self.fill.lock().charged += bytes as usize;
        self.prepaid = bytes as usize;
        true
    }

    /// Makes the fill a window.
    pub(crate) fn open_window(&mut self) {
        self.unlist();
        let mut state = self.fill.lock();
        state.window = true;
        self.fill.refund(&mut state, self.prepaid);
        self.prepaid = 0;
        self.fill.forget(&mut state);
    }

    /// Whether the fill is a window, and its bytes can't be kept any more.
    pub(crate) fn is_window(&self) -> bool {
        self.fill.lock().window
    }

    /// Hands bytes to the readers; waits for memory and, in a window, for the slowest.
    ///
    /// # Errors
    /// [`Stop`] when there is no use in going on.
    pub(crate) async fn push(&mut self, part: Bytes) -> Result<(), Stop> {
        if part.is_empty() {
            return Ok(());
        }
        self.wait_for_readers().await?;
        if self.prepaid >= part.len() {
            self.prepaid -= part.len();
        } else {
            self.charge(part.len()).await?;
        }
        let mut state = self.fill.lock();
        state.queued += part.len();
        state.parts.push_back(part);
        // Without readers a window forgets it at once.
        self.fill.forget(&mut state);
        drop(state);
        self.fill.changed.send_replace(());
        Ok(())
    }

    async fn wait_for_readers(&self) -> Result<(), Stop> {
        let waiting = async {
            loop {
                {
                    let state = self.fill.lock();
                    if !state.window || (state.queued < WINDOW_BYTES && !state.readers.is_empty()) {
                        return Ok(());
                    }
                    if state.readers.is_empty() {
                        return Err(Stop::NoReaders);
                    }
                }
                self.fill.consumed.notified().await;
            }
        };
        tokio::time::timeout(WINDOW_WAIT, waiting).await.unwrap_or(Err(Stop::Stuck))
    }

    async fn charge(&mut self, bytes: usize) -> Result<(), Stop> {
        let permits = u32::try_from(bytes).map_err(|_| Stop::Stuck)?;
        let budget = self.fill.budget.clone();
        if !self.is_window() {
            if let Ok(granted) = tokio::time::timeout(BUDGET_WAIT, budget.acquire_many(permits)).await {
                return self.charged(granted, bytes);
            }
            // Others hold the memory. Letting go of what was passed frees some for all.
            self.open_window();
        }
        tokio::select! {
            biased;
            granted = budget.acquire_many(permits) => self.charged(granted, bytes),
            // One part at a time is for everybody who reads: slow ones may have all of the budget.
            () = self.all_passed() => Ok(()),
            () = tokio::time::sleep(WINDOW_WAIT) => Err(Stop::Stuck),
        }
    }

    fn charged(&self, granted: Result<SemaphorePermit<'_>, AcquireError>, bytes: usize) -> Result<(), Stop> {
        granted.map_err(|_| Stop::Stuck)?.forget();
        self.fill.lock().charged += bytes;
        Ok(())
    }

    /// Waits until all readers of a window have passed all that came.
    async fn all_passed(&self) {
        loop {
            // The state is looked at first: whoever passes something then leaves word.
            if self.fill.lock().queued == 0 {
                return;
            }
            self.fill.consumed.notified().await;
        }
    }

    /// Everything taken so far.
    pub(crate) fn parts(&self) -> Vec<Bytes> {
        self.fill.lock().parts.iter().cloned().collect()
    }

    /// The proper end. With the kept object, readers go on from that, and the fill's own memory is free.
    pub(crate) fn complete(self, object: Option<Arc<Object>>) {
        self.unlist();
        let mut state = self.fill.lock();
        if object.is_some() {
            let charged = state.charged;
            state.parts.clear();
            state.queued = 0;
            self.fill.refund(&mut state, charged);
        }
        state.end = Some(End::Complete(object));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // First out of the table, then aborted: the next request must fetch anew.
        self.unlist();
        let mut state = self.fill.lock();
        if state.outcome.is_none() {
            state.outcome = Some(Outcome::Failed(FetchError::Answer));
        }
        if state.end.is_none() {
            state.end = Some(End::Aborted);
        }
        drop(state);
        self.fill.changed.send_replace(());
    }
}

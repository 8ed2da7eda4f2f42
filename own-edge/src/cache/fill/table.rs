//! Which fills are in progress, who may join them, and the memory that they share.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::cache::fill::{Fill, Reader, Writer};
use crate::cache::object::{Key, Object};

/// Fills in progress.
pub(crate) struct FillTable {
    fills: Mutex<Listed>,
    budget: Arc<Semaphore>,
    /// Bytes of the budget that bodies may take for some time.
    lendable: usize,
    /// Bytes that they have taken.
    lent: Mutex<usize>,
}

#[derive(Default)]
pub(super) struct Listed {
    /// Those that who comes may join.
    pub joinable: BTreeMap<Key, Arc<Fill>>,
    /// Those that nobody may join any more, and whose object will be kept all the same; by their address.
    apart: BTreeMap<usize, (Key, Arc<Fill>)>,
}

impl Listed {
    pub(super) fn leave(&mut self, key: &Key, fill: &Arc<Fill>) {
        if self.joinable.get(key).is_some_and(|listed| Arc::ptr_eq(listed, fill)) {
            self.joinable.remove(key);
        }
        self.apart.remove(&(Arc::as_ptr(fill) as usize));
    }

    pub(super) fn set_apart(&mut self, key: &Key, fill: &Arc<Fill>) {
        self.leave(key, fill);
        self.apart.insert(Arc::as_ptr(fill) as usize, (key.clone(), fill.clone()));
    }
}

/// What joining a key's fill came to.
pub(crate) enum Joined {
    /// Nobody fetches it: the caller must run the [`Writer`].
    First(Reader, Writer),
    /// It is being fetched.
    Waiter(Reader),
    /// It has just been kept.
    Kept(Arc<Object>),
}

impl FillTable {
    /// A table whose fills share `budget_bytes`.
    pub(crate) fn new(budget_bytes: usize) -> Arc<Self> {
        let budget_bytes = budget_bytes.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            fills: Mutex::default(),
            budget: Arc::new(Semaphore::new(budget_bytes)),
            lendable: budget_bytes / 4 * 3,
            lent: Mutex::new(0),
        })
    }

    /// Bodies take so many `bytes` more than they should: fills have as many fewer, as far as they can do without.
    /// Whether they can.
    pub(crate) fn lend(&self, bytes: u64) -> bool {
        let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.lendable);
        let mut lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        match wanted.checked_sub(*lent) {
            // What is not there comes when fills end.
            Some(more) => *lent += self.budget.forget_permits(more),
            None => {
                self.budget.add_permits(*lent - wanted);
                *lent = wanted;
            }
        }
        wanted < self.lendable
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Listed> {
        self.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fill of `key` or begins one. `kept` looks once more whether one has just ended: its object is kept
    /// before it leaves the table.
    pub(crate) fn join(self: &Arc<Self>, key: &Key, kept: impl FnOnce() -> Option<Arc<Object>>) -> Joined {
        let mut fills = self.lock();
        if let Some(reader) = fills.joinable.get(key).and_then(Fill::join) {
            return Joined::Waiter(reader);
        }
        if let Some(object) = kept() {
            return Joined::Kept(object);
        }
        let fill = Arc::new(Fill::new(self.budget.clone()));
        let reader = fill.join().expect("a new fill is no window");
        fills.joinable.insert(key.clone(), fill.clone());
        Joined::First(reader, Writer::new(self.clone(), key.clone(), fill))
    }

    /// What is being fetched for keys that `goes` names is not kept, and who comes from now on fetches anew.
    pub(crate) fn outdate_where(&self, goes: impl Fn(&Key) -> bool) {
        let stays = |key: &Key, fill: &Fill| {
            let goes = goes(key);
            if goes {
                fill.outdated.store(true, Ordering::Relaxed);
            }
            !goes
        };
        let mut fills = self.lock();
        fills.joinable.retain(|key, fill| stays(key, fill));
        fills.apart.retain(|_, (key, fill)| stays(key, fill));
    }

    /// Bytes of the budget that are free.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.budget.available_permits()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;

    use super::*;

    pub(in crate::cache::fill) fn begin(table: &Arc<FillTable>, key: &str) -> (Reader, Writer) {
        match table.join(&Key::from(key), || None) {
            Joined::First(reader, writer) => (reader, writer),
            _ => panic!("{key} is being filled"),
        }
    }

    pub(in crate::cache::fill) fn piece(bytes: usize) -> Bytes {
        Bytes::from(vec![1; bytes])
    }

    #[tokio::test]
    async fn whatever_will_be_kept_can_be_outdated() {
        let table = FillTable::new(100);
        let outdate = |name: &str| table.outdate_where(|key| **key == *name);
        let (_reader, joinable) = begin(&table, "/a");
        let (_other, apart) = begin(&table, "/b");
        apart.set_apart();
        // Somebody fills the variant already that this one turns out to be.
        let (_third, mut variant) = begin(&table, "/c");
        variant.rekey(Key::from("/a"));
        outdate("/c");
        assert!(![&joinable, &apart, &variant].iter().any(|writer| writer.is_outdated()));
        outdate("/a");
        assert!(joinable.is_outdated() && variant.is_outdated() && !apart.is_outdated());
        outdate("/b");
        assert!(apart.is_outdated());
        // What is outdated is not listed again.
        variant.rekey(Key::from("/d"));
        apart.set_apart();
        assert!(matches!(table.join(&Key::from("/d"), || None), Joined::First(..)));
        drop((joinable, apart, variant));
        let listed = table.lock();
        assert!(listed.joinable.is_empty() && listed.apart.is_empty());
    }

    #[tokio::test]
    async fn what_is_lent_comes_back_and_no_more_is_lent_than_fills_can_do_without() {
        let table = FillTable::new(100);
        assert!(table.lend(0) && table.lend(30));
        assert_eq!(table.free_bytes(), 70);
        let (_reader, mut writer) = begin(&table, "/a");
        writer.push(piece(50)).await.expect("room");
        // Only 20 are there now; the rest comes when the fill has ended.
        assert!(!table.lend(1_000));
        assert_eq!(table.free_bytes(), 0);
        drop((_reader, writer));
        assert_eq!(table.free_bytes(), 50);
        assert!(!table.lend(75));
        assert_eq!(table.free_bytes(), 25);
        assert!(table.lend(74) && table.lend(0));
        assert_eq!(table.free_bytes(), 100);
    }
}

//! The memory of duplicates: which sequences of a view are stored, and which are being stored.
//!
//! Sequences are kept as ranges: a view that loses nothing is one range. What is forgotten (an old view, the lowest of
//! too many ranges) counts as new: then the row is stored twice and the lake's reading view removes it, whereas an
//! event taken for a duplicate by mistake would be lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Ranges of one view: gaps come from lost beacons, and more of them than this come from no SDK. CMCD's numbers are times,
/// so each is a range of its own: of such a view the last ones are remembered, for about a minute.
const RANGES_MAX: usize = 64;
/// A view is remembered this long after its last event: longer than a retry waits.
const MEMORY_MS: u64 = 15 * 60 * 1000;

/// How an attempt to store ended; `None` as long as it lasts.
type Outcome = watch::Receiver<Option<bool>>;

#[derive(Default)]
struct Seen {
    /// First and last sequence, in order, neither touching nor overlapping.
    ranges: Vec<(u64, u64)>,
    in_flight: Vec<(u64, Vec<u64>, Outcome)>,
    last_ms: u64,
}

#[derive(Default)]
struct State {
    views: HashMap<String, Seen>,
    next_ticket: u64,
}

/// The memory of one collector.
pub(crate) struct Dedupe {
    state: Mutex<State>,
    views_max: usize,
}

/// What to do with the events of a beacon.
pub(crate) struct Admission {
    /// For each sequence: whether it is new.
    pub(crate) fresh: Vec<bool>,
    /// To be finished when the new ones are stored, or not.
    pub(crate) ticket: Ticket,
    /// The duplicates among them that are not durable yet.
    pub(crate) originals: Vec<Outcome>,
}

/// An open attempt; dropped without an end it counts as failed.
pub(crate) struct Ticket {
    dedupe: Arc<Dedupe>,
    key: String,
    id: u64,
    outcome: watch::Sender<Option<bool>>,
    done: bool,
}

/// Key of a view: none of the parts can hold the separator.
pub(crate) fn view_key(property: &str, view_id: &str, source: &str) -> String {
    format!("{property}/{view_id}/{source}")
}

impl Seen {
    fn contains(&self, seq: u64) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= seq);
        after > 0 && self.ranges[after - 1].1 >= seq
    }

    fn insert(&mut self, seq: u64) {
        let after = self.ranges.partition_point(|(first, _)| *first <= seq);
        let joins_left = after > 0 && self.ranges[after - 1].1.saturating_add(1) >= seq;
        let joins_right = self.ranges.get(after).is_some_and(|(first, _)| *first == seq.saturating_add(1));
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = self.ranges[after - 1].1.max(seq),
            (false, true) => self.ranges[after].0 = seq,
            (false, false) => self.ranges.insert(after, (seq, seq)),
        }
        if self.ranges.len() > RANGES_MAX {
            self.ranges.remove(0);
        }
    }

    fn remove(&mut self, seq: u64) {
        let after = self.ranges.partition_point(|(first, _)| *first <= seq);
        if after == 0 || self.ranges[after - 1].1 < seq {
            return;
        }
        let (first, last) = self.ranges.remove(after - 1);
        if seq < last {
            self.ranges.insert(after - 1, (seq + 1, last));
        }
        if first < seq {
            self.ranges.insert(after - 1, (first, seq - 1));
        }
    }
}

impl Dedupe {
    pub(crate) fn new(views_max: usize) -> Self {
        Self { state: Mutex::default(), views_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a stored event, at the start.
    pub(crate) fn remember(&self, key: String, seq: u64, now_ms: u64) {
        let mut state = self.state();
        if state.views.len() < self.views_max || state.views.contains_key(&key) {
            let seen = state.views.entry(key).or_default();
            seen.insert(seq);
            seen.last_ms = now_ms;
        }
    }

    /// Tells new from known, and takes the new ones as being stored from now on.
    pub(crate) fn admit(self: &Arc<Self>, key: String, seqs: &[u64], now_ms: u64) -> Admission {
        let mut state = self.state();
        if state.views.len() >= self.views_max && !state.views.contains_key(&key) {
            state.forget_oldest();
        }
        let id = state.next_ticket;
        state.next_ticket += 1;
        let seen = state.views.entry(key.clone()).or_default();
        seen.last_ms = now_ms;
        let (mut fresh, mut mine, mut originals) = (Vec::with_capacity(seqs.len()), Vec::new(), Vec::new());
        for seq in seqs {
            let new = !seen.contains(*seq);
            fresh.push(new);
            if new {
                seen.insert(*seq);
                mine.push(*seq);
            } else if let Some((.., outcome)) = seen.in_flight.iter().find(|(_, seqs, _)| seqs.contains(seq)) {
                originals.push(outcome.clone());
            }
        }
        let (sender, outcome) = watch::channel(None);
        if !mine.is_empty() {
            seen.in_flight.push((id, mine, outcome));
        }
        Admission {
            fresh,
            originals,
            ticket: Ticket { dedupe: Arc::clone(self), key, id, outcome: sender, done: false },
        }
    }

    fn finish(&self, key: &str, id: u64, stored: bool) {
        let mut state = self.state();
        let Some(seen) = state.views.get_mut(key) else { return };
        let Some(at) = seen.in_flight.iter().position(|(ticket, ..)| *ticket == id) else { return };
        let (_, seqs, _) = seen.in_flight.swap_remove(at);
        if !stored {
            for seq in seqs {
                seen.remove(seq);
            }
        }
    }

    /// Forgets views that are long silent.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let oldest = now_ms.saturating_sub(MEMORY_MS);
        self.state().views.retain(|_, seen| seen.last_ms >= oldest || !seen.in_flight.is_empty());
    }
}

impl State {
    /// Makes room for a tenth.
    fn forget_oldest(&mut self) {
        let mut times: Vec<u64> = self.views.values().map(|seen| seen.last_ms).collect();
        if times.is_empty() {
            return;
        }
        let tenth = times.len() / 10;
        let (_, limit, _) = times.select_nth_unstable(tenth);
        let limit = *limit;
        self.views.retain(|_, seen| seen.last_ms > limit || !seen.in_flight.is_empty());
    }
}

impl Ticket {
    pub(crate) fn finish(mut self, stored: bool) {
        self.end(stored);
    }

    fn end(&mut self, stored: bool) {
        self.done = true;
        // The memory first: whoever hears of the failure may try again at once.
        self.dedupe.finish(&self.key, self.id, stored);
        self.outcome.send_replace(Some(stored));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.done {
            self.end(false);
        }
    }
}

/// Waits for the originals of duplicates; whether all of them were stored.
pub(crate) async fn all_stored(originals: Vec<Outcome>) -> bool {
    for mut outcome in originals {
        if !outcome.wait_for(Option::is_some).await.is_ok_and(|stored| *stored == Some(true)) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(dedupe: &Arc<Dedupe>, seqs: &[u64]) -> Admission {
        dedupe.admit("p/v/sdk".into(), seqs, 0)
    }

    #[test]
    fn ranges_join_split_and_stay_exact() {
        let mut seen = Seen::default();
        for seq in [5, 7, 6, 0, 1, 3] {
            seen.insert(seq);
        }
        assert_eq!(seen.ranges, [(0, 1), (3, 3), (5, 7)]);
        seen.insert(6);
        seen.remove(6);
        seen.remove(9);
        seen.insert(2);
        assert_eq!(seen.ranges, [(0, 3), (5, 5), (7, 7)]);
        assert!(seen.contains(2) && !seen.contains(4) && !seen.contains(6) && seen.contains(7));
        seen.insert(u64::MAX);
        assert!(seen.contains(u64::MAX));
    }

    #[tokio::test]
    async fn a_duplicate_of_an_event_that_is_being_written_waits_for_it() {
        let dedupe = Arc::new(Dedupe::new(10));
        let first = admit(&dedupe, &[0, 1]);
        let second = admit(&dedupe, &[1, 2]);
        assert_eq!((first.fresh, second.fresh), (vec![true, true], vec![false, true]));
        let waits = tokio::spawn(all_stored(second.originals));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        first.ticket.finish(true);
        assert!(waits.await.expect("task"));
        second.ticket.finish(true);
        assert!(admit(&dedupe, &[0, 1, 2]).originals.is_empty());
    }

    #[tokio::test]
    async fn what_failed_may_be_sent_again() {
        let dedupe = Arc::new(Dedupe::new(10));
        let first = admit(&dedupe, &[0, 1]);
        let second = admit(&dedupe, &[1]);
        drop(first);
        assert!(!all_stored(second.originals).await);
        drop(second.ticket);
        assert_eq!(admit(&dedupe, &[0, 1]).fresh, [true, true]);
    }

    #[test]
    fn the_same_sequence_twice_in_one_beacon_is_one_event() {
        assert_eq!(admit(&Arc::new(Dedupe::new(10)), &[4, 4]).fresh, [true, false]);
    }

    #[test]
    fn the_memory_is_bounded_and_old_views_leave_it() {
        let dedupe = Arc::new(Dedupe::new(100));
        for view in 0..1_000_u64 {
            dedupe.admit(format!("p/{view}/sdk"), &[0], view).ticket.finish(true);
        }
        assert!(dedupe.state().views.len() <= 100);
        assert_eq!(dedupe.admit("p/999/sdk".into(), &[0], 999).fresh, [false]);
        dedupe.sweep(MEMORY_MS + 5_000);
        assert!(dedupe.state().views.is_empty());
    }
}

//! One rendition: what its playlist says, whether somebody watches it, what comes after what.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use spillway_model::Millis;

use super::{Counted, Listing, Segment, Segments};
use crate::cache::object::Key;

/// A rendition is watched for so many of its segments after one was asked for, and for so long at least.
const WATCHED_SEGMENTS: u64 = 3;
const WATCHED_MIN_MS: u64 = 10_000;
/// Of what left a window so many stay at least, and are remembered at most. A server has a segment for as long again as
/// its playlist is (RFC 8216, 6.2.2); so does this one.
const LEFT_MIN: usize = 6;
const LEFT_MAX: usize = 1_024;
/// A player begins with these of what is whole, and live some three target durations before the end.
const FIRST_SEGMENTS: usize = 2;
const LAST_SEGMENTS: usize = 3;
/// No more often it is noted that a rendition is watched.
const NOTED_EVERY_MS: u64 = 500;

/// One rendition, as the newest version of its playlist has it.
pub(super) struct Rendition {
    /// Its playlist.
    pub(super) playlist: Key,
    held: RwLock<Held>,
    /// When a segment was asked for last, monotonic ms; 0 never.
    segment_asked_ms: AtomicU64,
    /// When a part was.
    part_asked_ms: AtomicU64,
    /// Requests for its segments and parts since they were counted last.
    asked: AtomicU64,
}

#[derive(Default)]
struct Held {
    listing: Arc<Listing>,
    segments: Leaving,
    parts: Leaving,
}

/// What was in the window, and is asked for only by who has an earlier version.
#[derive(Default)]
struct Leaving(VecDeque<Key>);

impl Leaving {
    /// A new version begins later than the one before: what left it as many segments ago as it has itself.
    fn take(&mut self, before: &[Segment], now: &[Segment]) -> Vec<Key> {
        let first = now.first().and_then(|first| before.iter().position(|segment| segment.key == first.key));
        if first.is_none() {
            // It began anew, perhaps with the same segments.
            self.0.clear();
        }
        for segment in &before[..first.unwrap_or(0)] {
            // Segments may be ranges of one object.
            if self.0.back() != Some(&segment.key) {
                self.0.push_back(segment.key.clone());
            }
        }
        let stay = (now.len() + 1).clamp(LEFT_MIN, LEFT_MAX);
        self.0.drain(..self.0.len().saturating_sub(stay)).collect()
    }
}

impl Rendition {
    pub(super) fn new(playlist: Key) -> Self {
        Self {
            playlist,
            held: RwLock::default(),
            segment_asked_ms: AtomicU64::new(0),
            part_asked_ms: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    /// The newest version.
    pub(super) fn listing(&self) -> Arc<Listing> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).listing.clone()
    }

    /// Takes a newer version; what that leaves out is as it was. Gives that version, and what nobody asks for any more
    /// who goes by this playlist.
    pub(super) fn take(&self, mut listing: Listing) -> (Arc<Listing>, Vec<Key>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut held.listing);
        listing.complete(&before);
        held.listing = Arc::new(listing);
        let now = held.listing.clone();
        let (Segments::Listed { list: old, .. }, Segments::Listed { list, .. }) = (&before.segments, &now.segments)
        else {
            return (now, Vec::new());
        };
        let mut left = held.segments.take(old, list);
        left.extend(held.parts.take(&before.parts, &now.parts));
        // Some streams begin anew with the same segments, and parts may be ranges of segments.
        left.retain(|key| !list.iter().chain(&now.parts).any(|segment| segment.key == *key));
        drop(held);
        (now, left)
    }

    /// A segment or a part was asked for. Whether it was the first since they were counted.
    pub(super) fn note_asked(&self, part: bool, now: Millis) -> bool {
        let noted = if part { &self.part_asked_ms } else { &self.segment_asked_ms };
        // Viewers of one stream would write to one place all the time.
        if now.0.saturating_sub(noted.load(Ordering::Relaxed)) >= NOTED_EVERY_MS {
            noted.store(now.0, Ordering::Relaxed);
        }
        self.asked.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Requests for its segments since the last call.
    pub(super) fn take_asked(&self) -> u64 {
        self.asked.swap(0, Ordering::Relaxed)
    }

    /// What viewers ask for at once: the newest part and the one after it, or the newest segment.
    pub(super) fn newest(&self, now: Millis) -> Vec<Key> {
        let listing = self.listing();
        if !listing.live {
            return Vec::new();
        }
        let watched_ms = (listing.target_ms * WATCHED_SEGMENTS).max(WATCHED_MIN_MS);
        let watched = |asked: &AtomicU64| {
            let asked_ms = asked.load(Ordering::Relaxed);
            asked_ms > 0 && now.0.saturating_sub(asked_ms) < watched_ms
        };
        let mut out = Vec::new();
        if watched(&self.part_asked_ms) {
            out.extend(listing.parts.last().filter(|part| !part.gap).map(|part| part.key.clone()));
            out.extend(listing.hint.clone());
        }
        if let Segments::Listed { list, .. } = &listing.segments
            && watched(&self.segment_asked_ms)
        {
            out.extend(list.last().filter(|segment| !segment.gap).map(|segment| segment.key.clone()));
        }
        out
    }
}

impl Listing {
    /// What a player that begins now asks for, in its order.
    pub(crate) fn opening(&self, wall_ms: u64) -> Vec<Key> {
        if self.aside {
            return Vec::new();
        }
        let keys: Vec<Key> = match &self.segments {
            Segments::Listed { list, .. } => {
                let there: Vec<&Segment> = list.iter().filter(|segment| !segment.gap).collect();
                let from = if self.live { there.len().saturating_sub(LAST_SEGMENTS) } else { 0 };
                let count = if self.live { LAST_SEGMENTS } else { FIRST_SEGMENTS };
                there[from..].iter().take(count).map(|segment| segment.key.clone()).collect()
            }
            Segments::Counted(counted) => {
                let newest = counted.newest(wall_ms);
                let newest = newest.map(|newest| match self.live {
                    true => newest,
                    false => newest.min(counted.first.saturating_add(FIRST_SEGMENTS as u64 - 1)),
                });
                let from = |newest: u64| newest.saturating_sub(LAST_SEGMENTS as u64 - 1).max(counted.first);
                newest.map_or_else(Vec::new, |newest| (from(newest)..=newest).map(|n| counted.key(n)).collect())
            }
        };
        let mut out: Vec<Key> = self.init.iter().cloned().chain(keys).collect();
        // Segments may be ranges of one object.
        out.dedup();
        out
    }

    /// Segments and parts.
    pub(super) fn len(&self) -> u64 {
        let segments = match &self.segments {
            Segments::Listed { list, .. } => list.len(),
            Segments::Counted(_) => 1,
        };
        (segments + self.parts.len()) as u64
    }

    /// Puts in what `before` has and this version leaves out.
    fn complete(&mut self, before: &Self) {
        let Segments::Listed { first, skipped, list } = &mut self.segments else { return };
        let Segments::Listed { first: from, list: known, .. } = &before.segments else { return };
        let Some(wanted) = first.checked_sub(*skipped as u64).filter(|_| *skipped > 0) else { return };
        *skipped = 0;
        let at = |number: u64| usize::try_from(number.checked_sub(*from)?).ok();
        let (Some(begin), Some(end)) = (at(wanted.max(*from)), at(*first)) else { return };
        if begin < end && end <= known.len() {
            list.splice(0..0, known[begin..end].iter().cloned());
            *first = wanted.max(*from);
            // A version that leaves segments out may leave out their header, too.
            self.init = self.init.take().or_else(|| before.init.clone());
        }
    }

    /// What comes after the segment of a number.
    pub(super) fn after_segment(&self, key: &Key, number: u64) -> Option<Key> {
        let Segments::Listed { first, list, .. } = &self.segments else { return None };
        let rest = list.get(usize::try_from(number.checked_sub(*first)?).ok()?..)?;
        if rest.first()?.key != *key {
            return None;
        }
        next_of(rest, key)
    }

    /// What comes after a part.
    pub(super) fn after_part(&self, key: &Key) -> Option<Key> {
        let at = self.parts.iter().rposition(|part| part.key == *key)?;
        next_of(&self.parts[at..], key).or_else(|| self.hint.clone().filter(|hint| hint != key))
    }
}

/// The next object; segments may be ranges of one.
fn next_of(segments: &[Segment], key: &Key) -> Option<Key> {
    segments.iter().find(|segment| segment.key != *key && !segment.gap).map(|segment| segment.key.clone())
}

/// The number after `number`, if `key` is one of these and that is there.
pub(super) fn counted_after(counted: &Counted, before: &str, key: &str, number: u64, wall_ms: u64) -> Option<Key> {
    let next = number.checked_add(1)?;
    let is_there = counted.newest(wall_ms).is_some_and(|newest| (counted.first..=newest).contains(&next));
    (is_there && counted.prefix == before && &*counted.key(number) == key).then(|| counted.key(next))
}

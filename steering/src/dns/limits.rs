//! What a sender may cost: answers per second and prefix over UDP, where it may be forged, and connections over TCP.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use super::subnet::Subnet;

/// Prefixes that are told apart; those that fall together share a rate. A power of two, half a megabyte: forged senders
/// can't make it grow.
const BUCKETS: usize = 65_536;
/// Of the answers above the rate, each so-many-th tells to ask over TCP: a resolver behind a forged flood gets through.
const SLIP: u64 = 2;
/// Connections of one prefix: this part of all, so that one sender can't hold every one.
const PREFIX_PART: u32 = 8;

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Answer it.
    Answer,
    /// Tell its sender to ask over TCP.
    Slip,
    /// Don't.
    Drop,
}

/// A rate for each bucket of prefixes. The hash is keyed: nobody can choose a prefix that falls together with a victim's.
struct Buckets {
    key: RandomState,
    states: Vec<InMemoryState>,
}

impl StateStore for Buckets {
    type Key = Subnet;

    fn measure_and_replace<T, F, E>(&self, key: &Subnet, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let bucket = self.key.hash_one(key) as usize % BUCKETS;
        self.states[bucket].measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// Limits of the zone's server.
pub(crate) struct Limits {
    rate: RateLimiter<Subnet, Buckets, DefaultClock, NoOpMiddleware>,
    refused: AtomicU64,
    connections: Arc<Connections>,
}

impl Limits {
    pub(crate) fn new(answers_per_prefix_per_s: u32, connections_max: u32) -> Self {
        let per_s = NonZeroU32::new(answers_per_prefix_per_s).unwrap_or(NonZeroU32::MIN);
        let states = (0..BUCKETS).map(|_| InMemoryState::default()).collect();
        let buckets = Buckets { key: RandomState::new(), states };
        Self {
            rate: RateLimiter::new(Quota::per_second(per_s), buckets, DefaultClock::default()),
            refused: AtomicU64::new(0),
            connections: Arc::new(Connections { max: connections_max, open: Mutex::default() }),
        }
    }

    /// Counts a datagram from `sender`.
    pub(crate) fn datagram(&self, sender: IpAddr) -> Admission {
        if self.rate.check_key(&Subnet::of(sender)).is_ok() {
            return Admission::Answer;
        }
        let refused = self.refused.fetch_add(1, Ordering::Relaxed);
        if refused.is_multiple_of(SLIP) { Admission::Slip } else { Admission::Drop }
    }

    /// A place for a connection from `sender`, kept until the value is dropped; `None` if all are taken.
    pub(crate) fn connection(&self, sender: IpAddr) -> Option<Place> {
        let prefix = Subnet::of(sender);
        let max = self.connections.max;
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&prefix).copied().unwrap_or(0);
        if open.values().sum::<u32>() >= max || own >= (max / PREFIX_PART).max(1) {
            return None;
        }
        open.insert(prefix, own + 1);
        Some(Place { prefix, connections: Arc::clone(&self.connections) })
    }
}

struct Connections {
    max: u32,
    open: Mutex<BTreeMap<Subnet, u32>>,
}

/// A connection's place.
pub(crate) struct Place {
    prefix: Subnet,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.prefix) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn above_its_rate_a_prefix_is_answered_by_half_hints_and_others_do_not_suffer() {
        let limits = Limits::new(10, 8);
        let flood: Vec<Admission> = (0..200).map(|n| limits.datagram(address(&format!("203.0.113.{n}")))).collect();
        let of = |admission| flood.iter().filter(|it| **it == admission).count();
        assert!((10..=15).contains(&of(Admission::Answer)), "{}", of(Admission::Answer));
        assert!(of(Admission::Slip).abs_diff(of(Admission::Drop)) <= 1);
        assert_eq!(limits.datagram(address("198.51.100.1")), Admission::Answer);
        assert_eq!(limits.datagram(address("2001:db8::1")), Admission::Answer);
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_prefix_and_places_come_back() {
        let limits = Limits::new(10, 16);
        let first: Vec<_> = (0..2).map(|_| limits.connection(address("203.0.113.1")).expect("place")).collect();
        assert!(limits.connection(address("203.0.113.2")).is_none(), "an eighth for one prefix");
        let others: Vec<_> = (0..14).filter_map(|n| limits.connection(address(&format!("198.51.{n}.1")))).collect();
        assert_eq!(others.len(), 14);
        assert!(limits.connection(address("192.0.2.1")).is_none(), "all are taken");
        drop(first);
        assert!(limits.connection(address("203.0.113.2")).is_some());
        drop(others);
        assert_eq!(limits.connections.open.lock().expect("lock").len(), 0);
    }
}

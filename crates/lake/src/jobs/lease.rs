//! Who may run the lake's jobs: a record in a store with compare-and-set, and the rule over it.
//!
//! The lease keeps two processes from doing the same work; it is not what keeps the tables right. A holder that sleeps
//! through its lease may still commit, and that is harmless, because each job's commit demands that every file it
//! replaces is still part of the table (`jobs::replace`).

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::LakeError;

/// Key of the record in the store.
pub const LEASE_KEY: &str = "lake/jobs-lease";
/// Clocks may differ by this much, ms; a lease is taken from another holder only so long after its end.
pub const SKEW_MS: u64 = 5_000;

/// The record: who runs jobs until when, and when each job last succeeded, so that all processes share one timetable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// Until when, ms since epoch.
    pub until_ms: u64,
    /// Job to the last start of a run that succeeded, ms since epoch.
    #[serde(default)]
    pub last_ms: BTreeMap<String, u64>,
}

/// What the rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Write this; if the record is still the one that was read, the lease is held.
    Write(Lease),
    /// Another has it.
    Held {
        /// Who.
        holder: String,
        /// Until when, ms since epoch.
        until_ms: u64,
    },
}

impl Lease {
    /// May `who` have the lease for `ttl_ms` from `now_ms`? Its own lease is renewed; another's only [`SKEW_MS`] after
    /// its end.
    #[must_use]
    pub fn claim(&self, who: &str, now_ms: u64, ttl_ms: u64) -> Claim {
        let free = self.holder.is_empty() || self.holder == who || now_ms > self.until_ms.saturating_add(SKEW_MS);
        if !free {
            return Claim::Held { holder: self.holder.clone(), until_ms: self.until_ms };
        }
        Claim::Write(Self { holder: who.to_owned(), until_ms: now_ms + ttl_ms, last_ms: self.last_ms.clone() })
    }

    /// The record without a holder, with `done` noted.
    #[must_use]
    pub fn released(&self, done: Option<(&str, u64)>) -> Self {
        let mut last_ms = self.last_ms.clone();
        if let Some((job, at_ms)) = done {
            last_ms.insert(job.to_owned(), at_ms);
        }
        Self { holder: String::new(), until_ms: 0, last_ms }
    }
}

/// Where the record is kept: get and compare-and-set of one value. The version is the fence: it only grows.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// The record and its version; version 0 and an empty record if nobody has written one.
    async fn read(&self) -> Result<(u64, Lease), LakeError>;
    /// Writes `lease` if the version is still `expected`; the new version, or `None` if another was faster.
    async fn write(&self, expected: u64, lease: &Lease) -> Result<Option<u64>, LakeError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lease_is_taken_an_own_one_renewed_and_anothers_waited_for() {
        let free = Lease { last_ms: [("compact".to_owned(), 7)].into(), ..Lease::default() };
        let Claim::Write(mine) = free.claim("a", 1_000, 60_000) else { panic!("free") };
        assert_eq!((mine.holder.as_str(), mine.until_ms, mine.last_ms["compact"]), ("a", 61_000, 7));
        let Claim::Write(renewed) = mine.claim("a", 21_000, 60_000) else { panic!("own") };
        assert_eq!(renewed.until_ms, 81_000);
        for now in [21_000, 81_000, 81_000 + SKEW_MS] {
            let held = Claim::Held { holder: "a".into(), until_ms: 81_000 };
            assert_eq!(renewed.claim("b", now, 60_000), held);
        }
        assert!(matches!(renewed.claim("b", 81_001 + SKEW_MS, 60_000), Claim::Write(lease) if lease.holder == "b"));
    }

    #[test]
    fn a_released_lease_is_free_and_remembers_the_timetable() {
        let held = Lease { holder: "a".into(), until_ms: 9, last_ms: [("vacuum".to_owned(), 1)].into() };
        let free = held.released(Some(("compact", 5)));
        assert_eq!(free.last_ms, [("compact".to_owned(), 5), ("vacuum".to_owned(), 1)].into());
        assert!(matches!(free.claim("b", 0, 1), Claim::Write(_)));
        assert_eq!(held.released(None).last_ms, held.last_ms);
    }
}

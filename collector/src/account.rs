//! Every event ends as accepted or as discarded with a stable reason, and every beacon as taken or refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::Counter;
use serde::Serialize;
use spillway_lake::Tail;

/// Counts since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Events read from beacons.
    pub received: u64,
    /// Events that became durable.
    pub accepted: u64,
    /// Events that did not, by reason.
    pub discarded: BTreeMap<&'static str, u64>,
    /// CMCD records among the received.
    pub cmcd_records: u64,
    /// Those of them without `sid`: they belong to no view.
    pub cmcd_unlinked: u64,
    /// Beacons that were answered 2xx.
    pub beacons_accepted: u64,
    /// Beacons that were refused whole, by reason.
    pub beacons_refused: BTreeMap<&'static str, u64>,
    /// Rows found in the WAL at the start and not yet in the table.
    pub recovered_rows: u64,
}

impl Counts {
    /// Events whose end is still open.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.received - self.accepted - self.discarded.values().sum::<u64>()
    }
}

/// The body of `GET /internal/counters`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CountersBody {
    #[serde(flatten)]
    counts: Counts,
    in_flight: u64,
    committed_rows: u64,
    pending_rows: usize,
    wal_seq: u64,
    committed_seq: u64,
}

/// Keeps [`Counts`] and tells the process's metrics.
pub(crate) struct Account {
    counts: Mutex<Counts>,
    /// What every beacon counts: looked up once.
    events_received: Counter,
    events_accepted: Counter,
    beacons_accepted: Counter,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            events_received: metrics::counter!("spillway_collector_events_received_total"),
            events_accepted: metrics::counter!("spillway_collector_events_accepted_total"),
            beacons_accepted: metrics::counter!("spillway_collector_beacons_total", "outcome" => "accepted"),
        }
    }
}

impl Account {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn recovered(&self, rows: u64) {
        self.counts().recovered_rows += rows;
    }

    pub(crate) fn received(&self, events: usize) {
        self.counts().received += events as u64;
        self.events_received.increment(events as u64);
    }

    pub(crate) fn accepted(&self, events: usize) {
        self.counts().accepted += events as u64;
        self.events_accepted.increment(events as u64);
    }

    pub(crate) fn discarded(&self, reason: &'static str, events: usize) {
        if events == 0 {
            return;
        }
        *self.counts().discarded.entry(reason).or_default() += events as u64;
        metrics::counter!("spillway_collector_events_discarded_total", "reason" => reason).increment(events as u64);
    }

    /// CMCD records that could be read, with and without `sid`.
    pub(crate) fn cmcd(&self, linked: usize, unlinked: usize) {
        let mut counts = self.counts();
        counts.cmcd_records += (linked + unlinked) as u64;
        counts.cmcd_unlinked += unlinked as u64;
        for (name, records) in [("true", linked), ("false", unlinked)] {
            metrics::counter!("spillway_collector_cmcd_records_total", "linked" => name).increment(records as u64);
        }
    }

    pub(crate) fn beacon_accepted(&self) {
        self.counts().beacons_accepted += 1;
        self.beacons_accepted.increment(1);
    }

    pub(crate) fn beacon_refused(&self, reason: &'static str) {
        *self.counts().beacons_refused.entry(reason).or_default() += 1;
        metrics::counter!("spillway_collector_beacons_total", "outcome" => reason).increment(1);
    }

    pub(crate) fn body(&self, tail: &Tail) -> CountersBody {
        let (counts, tail) = (self.counts().clone(), tail.stats());
        CountersBody {
            in_flight: counts.in_flight(),
            counts,
            committed_rows: tail.committed_rows,
            pending_rows: tail.pending_rows,
            wal_seq: tail.wal_seq,
            committed_seq: tail.committed_seq,
        }
    }
}

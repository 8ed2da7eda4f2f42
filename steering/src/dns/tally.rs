//! What became of each query.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A datagram: its sender may be forged, its answer is small.
    Udp,
    /// A connection.
    Tcp,
}

const TRANSPORTS: [(Transport, &str); 2] = [(Transport::Udp, "udp"), (Transport::Tcp, "tcp")];

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A pathway, by the plan.
    Steered,
    /// Something else of the zone.
    Answered,
    /// The name has nothing of the type.
    NoData,
    /// There is no such name.
    NoName,
    /// Not ours: another zone, another class, a transfer.
    Refused,
    /// It can't be read.
    Malformed,
    /// Another operation than a query.
    NotImplemented,
    /// A version of EDNS that does not exist yet.
    BadVersion,
    /// The answer is too large for the way that it came.
    Truncated,
    /// Above the rate of its prefix: told to ask over TCP.
    Slipped,
    /// Above the rate of its prefix: not answered.
    Limited,
    /// No query at all: too short, or an answer. Not answered.
    Ignored,
    /// A connection beyond those that are allowed.
    Unconnected,
    /// Our own fault: not answered.
    Broken,
}

const OUTCOMES: [(Outcome, &str); 14] = [
    (Outcome::Steered, "steered"),
    (Outcome::Answered, "answered"),
    (Outcome::NoData, "no_data"),
    (Outcome::NoName, "no_name"),
    (Outcome::Refused, "refused"),
    (Outcome::Malformed, "malformed"),
    (Outcome::NotImplemented, "not_implemented"),
    (Outcome::BadVersion, "bad_version"),
    (Outcome::Truncated, "truncated"),
    (Outcome::Slipped, "slipped"),
    (Outcome::Limited, "limited"),
    (Outcome::Ignored, "ignored"),
    (Outcome::Unconnected, "unconnected"),
    (Outcome::Broken, "broken"),
];

/// Queries by transport and outcome, since the start.
#[derive(Default)]
pub(crate) struct Tally([[AtomicU64; OUTCOMES.len()]; TRANSPORTS.len()]);

impl Tally {
    pub(crate) fn count(&self, transport: Transport, outcome: Outcome) {
        self.0[transport as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// To the metrics. Not at each query: a counter of this process costs a tenth of what a labelled one does.
    pub(crate) fn export(&self) {
        for ((_, transport), counts) in TRANSPORTS.iter().zip(&self.0) {
            for ((_, outcome), count) in OUTCOMES.iter().zip(counts) {
                metrics::counter!("spillway_dns_queries_total", "transport" => *transport, "outcome" => *outcome)
                    .absolute(count.load(Ordering::Relaxed));
            }
        }
    }

    /// Queries with `outcome`, over both transports.
    #[cfg(test)]
    pub(crate) fn of(&self, outcome: Outcome) -> u64 {
        self.0.iter().map(|counts| counts[outcome as usize].load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_place_and_name() {
        for (place, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
        for (place, (transport, _)) in TRANSPORTS.iter().enumerate() {
            assert_eq!(*transport as usize, place);
        }
        let names: std::collections::BTreeSet<&str> = OUTCOMES.iter().map(|(_, name)| *name).collect();
        assert_eq!(names.len(), OUTCOMES.len());
        let tally = Tally::default();
        tally.count(Transport::Tcp, Outcome::Unconnected);
        tally.count(Transport::Udp, Outcome::Unconnected);
        assert_eq!((tally.of(Outcome::Unconnected), tally.of(Outcome::Steered)), (2, 0));
    }
}

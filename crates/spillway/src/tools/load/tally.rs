//! What a run counts, and its summary.

use std::collections::BTreeMap;

use serde::Serialize;
use sketches_ddsketch::{Config, DDSketch};

/// Relative error of the latencies' quantiles.
const LATENCY_ERROR: f64 = 0.01;
/// Buckets of the sketch: from below 1 µs to above an hour.
const LATENCY_BUCKETS: u32 = 2_048;

/// Counts of one connection, or of all.
pub(super) struct Tally {
    pub(super) beacons_sent: u64,
    pub(super) beacons_acknowledged: u64,
    pub(super) events_acknowledged: u64,
    pub(super) events_rejected: u64,
    pub(super) retries: u64,
    pub(super) by_status: BTreeMap<String, u64>,
    pub(super) bytes: u64,
    /// Bytes of bodies before compression.
    pub(super) json_bytes: u64,
    latency_ms: DDSketch,
    /// First refusal that a repetition can't change.
    pub(super) refused: Option<String>,
    /// Why an attempt had no answer.
    pub(super) unanswered: Option<String>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            beacons_sent: 0,
            beacons_acknowledged: 0,
            events_acknowledged: 0,
            events_rejected: 0,
            retries: 0,
            by_status: BTreeMap::new(),
            bytes: 0,
            json_bytes: 0,
            latency_ms: DDSketch::new(Config::new(LATENCY_ERROR, LATENCY_BUCKETS, 1e-3)),
            refused: None,
            unanswered: None,
        }
    }
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Different beacons that were sent at least once.
    beacons_sent: u64,
    /// Those of them that were answered 202.
    beacons_acknowledged: u64,
    /// Events of these.
    events_acknowledged: u64,
    /// Events that a 202 named as rejected.
    events_rejected: u64,
    /// Attempts after the first.
    retries: u64,
    /// Attempts by status; `no_answer` for those without.
    by_status: BTreeMap<String, u64>,
    /// From sending to the whole answer, of acknowledged attempts, ms.
    latency_ms: Latency,
    /// Duration of the run.
    seconds: f64,
    /// Acknowledged beacons a second.
    beacons_per_s: f64,
    /// Acknowledged events a second.
    events_per_s: f64,
    /// Bytes of bodies as sent.
    bytes: u64,
    /// Mean size of an event, its share of the beacon's context included, bytes of JSON.
    event_bytes_mean: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Tally {
    pub(super) fn status(&mut self, status: u16) {
        *self.by_status.entry(status.to_string()).or_default() += 1;
    }

    pub(super) fn no_answer(&mut self, why: &anyhow::Error) {
        self.unanswered = Some(format!("{why:#}"));
        *self.by_status.entry("no_answer".into()).or_default() += 1;
    }

    pub(super) fn latency(&mut self, ms: f64) {
        self.latency_ms.add(ms);
    }

    pub(super) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.beacons_sent += other.beacons_sent;
        self.beacons_acknowledged += other.beacons_acknowledged;
        self.events_acknowledged += other.events_acknowledged;
        self.events_rejected += other.events_rejected;
        self.retries += other.retries;
        self.bytes += other.bytes;
        self.json_bytes += other.json_bytes;
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.latency_ms.merge(&other.latency_ms)?;
        self.refused = self.refused.take().or(other.refused);
        self.unanswered = self.unanswered.take().or(other.unanswered);
        Ok(())
    }

    pub(super) fn summary(&self, seconds: f64, events_per_beacon: u64) -> anyhow::Result<Summary> {
        let round = |value: f64, places: i32| (value * 10_f64.powi(places)).round() / 10_f64.powi(places);
        let quantile = |q: f64| anyhow::Ok(round(self.latency_ms.quantile(q)?.unwrap_or(0.0), 3));
        let attempts: u64 = self.by_status.values().sum();
        Ok(Summary {
            beacons_sent: self.beacons_sent,
            beacons_acknowledged: self.beacons_acknowledged,
            events_acknowledged: self.events_acknowledged,
            events_rejected: self.events_rejected,
            retries: self.retries,
            by_status: self.by_status.clone(),
            latency_ms: Latency {
                p50: quantile(0.5)?,
                p99: quantile(0.99)?,
                max: round(self.latency_ms.max().unwrap_or(0.0), 3),
            },
            seconds: round(seconds, 3),
            beacons_per_s: round(self.beacons_acknowledged as f64 / seconds.max(1e-3), 1),
            events_per_s: round(self.events_acknowledged as f64 / seconds.max(1e-3), 1),
            bytes: self.bytes,
            event_bytes_mean: round(self.json_bytes as f64 / ((attempts * events_per_beacon).max(1) as f64), 1),
        })
    }
}

impl Summary {
    /// The summary for people.
    pub(super) fn text(&self) -> String {
        let statuses: Vec<String> = self.by_status.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        format!(
            "{} beacons in {:.1} s: {:.0} beacons/s, {:.0} events/s acknowledged (event {:.0} bytes)\n\
             latency ms  p50 {}  p99 {}  max {}\n\
             attempts    {}\n\
             retries     {}, events rejected {}, bytes sent {}",
            self.beacons_acknowledged,
            self.seconds,
            self.beacons_per_s,
            self.events_per_s,
            self.event_bytes_mean,
            self.latency_ms.p50,
            self.latency_ms.p99,
            self.latency_ms.max,
            statuses.join(", "),
            self.retries,
            self.events_rejected,
            self.bytes,
        )
    }
}

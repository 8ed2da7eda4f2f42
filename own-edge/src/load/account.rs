//! What was served: bits by second, results by kind, content by prefix; read by load reports and by Prometheus.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, counter, gauge};
use spillway_model::Clock;
use spillway_wire::load::{ContentLoad, Misses};

use crate::load::outlook::{HISTORY_S, Outlook, outlook};

/// Seconds that are remembered: those of the history, and the running one.
const SECONDS: usize = HISTORY_S as usize + 2;
/// The window that utilisation is measured over.
const WINDOW_S: u64 = 10;
/// Prefixes told apart in one interval; more count together.
const CONTENT_MAX: usize = 1_000;
/// Prefixes in a report.
const CONTENT_REPORTED: usize = 20;

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheResult {
    /// From memory, fresh.
    Hit,
    /// From memory, past its freshness, as allowed.
    Stale,
    /// From memory, after the origin said that it still holds.
    Revalidated,
    /// Together with another request's fetch.
    Collapsed,
    /// By a fetch of its own that others may share.
    Miss,
    /// By a fetch for it alone.
    Pass,
    /// Not admitted.
    Refused,
    /// Not a request that we take.
    Invalid,
    /// The origin failed.
    Error,
}

impl CacheResult {
    /// Word for counters and logs.
    pub(crate) fn as_str(self) -> &'static str {
        RESULTS.iter().find(|(known, _)| *known == self).map_or("unknown", |(_, word)| word)
    }
}

const RESULTS: [(CacheResult, &str); 9] = [
    (CacheResult::Hit, "hit"),
    (CacheResult::Stale, "stale"),
    (CacheResult::Revalidated, "revalidated"),
    (CacheResult::Collapsed, "collapsed"),
    (CacheResult::Miss, "miss"),
    (CacheResult::Pass, "pass"),
    (CacheResult::Refused, "refused"),
    (CacheResult::Invalid, "invalid"),
    (CacheResult::Error, "error"),
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counts; shared by every connection.
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    /// When it began to count.
    since_s: u64,
    /// The last seconds in which something was written, the newest last: each with the bytes that were out at its begin.
    seconds: Mutex<VecDeque<(u64, u64)>>,
    /// The newest of them, so that no more than one writer in a second needs the lock.
    newest_second: AtomicU64,
    bytes_out: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    failed: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    origin_failed: AtomicU64,
    content: Mutex<BTreeMap<String, u64>>,
    exported: Exported,
}

struct Exported {
    requests: [[Counter; 5]; 9],
    bytes_out: Counter,
    connections: Gauge,
    p95: Gauge,
    in_60s: Gauge,
}

/// What happened since the last reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    /// Requests answered.
    pub requests: u64,
    /// Of these with 5xx.
    pub failed: u64,
    /// Of these without a fetch of their own.
    pub hits: u64,
    /// The others.
    pub misses: Misses,
    /// Most wanted prefixes, the most wanted first.
    pub top_content: Vec<ContentLoad>,
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Meter {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let exported = Exported {
            requests: RESULTS.map(|(_, result)| {
                CLASSES
                    .map(|class| counter!("spillway_edge_requests_total", "cache" => result, "status_class" => class))
            }),
            bytes_out: counter!("spillway_edge_bytes_out_total"),
            connections: gauge!("spillway_edge_connections"),
            p95: gauge!("spillway_edge_bits_out_p95_bps"),
            in_60s: gauge!("spillway_edge_bits_out_in_60s_bps"),
        };
        Self {
            since_s: clock.monotonic().0 / 1000,
            clock,
            seconds: Mutex::default(),
            newest_second: AtomicU64::new(u64::MAX),
            bytes_out: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            origin_failed: AtomicU64::new(0),
            content: Mutex::new(BTreeMap::new()),
            exported,
        }
    }

    /// Bytes went into a socket.
    pub(crate) fn wrote(&self, bytes: u64) {
        let second = self.clock.monotonic().0 / 1000;
        if self.newest_second.swap(second, Ordering::Relaxed) != second {
            let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
            if seconds.back().is_none_or(|(newest, _)| *newest < second) {
                seconds.push_back((second, self.bytes_out.load(Ordering::Relaxed)));
            }
            if seconds.len() > SECONDS {
                seconds.pop_front();
            }
        }
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        self.exported.bytes_out.increment(bytes);
    }

    /// Monotonic second in which something was written last.
    pub(crate) fn newest_second(&self) -> u64 {
        self.newest_second.load(Ordering::Relaxed)
    }

    /// A request was answered with `status`.
    pub(crate) fn answered(&self, result: CacheResult, status: u16) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status >= 500 {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let kind = match result {
            CacheResult::Hit | CacheResult::Stale | CacheResult::Revalidated | CacheResult::Collapsed => {
                Some(&self.hits)
            }
            CacheResult::Miss => Some(&self.misses),
            CacheResult::Error => Some(&self.origin_failed),
            CacheResult::Pass | CacheResult::Refused | CacheResult::Invalid => None,
        };
        if let Some(kind) = kind {
            kind.fetch_add(1, Ordering::Relaxed);
        }
        let row = RESULTS.iter().position(|(known, _)| *known == result).unwrap_or(0);
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.exported.requests[row][class].increment(1);
    }

    /// `bytes` of a body under `path` were handed to a client.
    pub(crate) fn delivered(&self, path: &str, bytes: u64) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = content_prefix(path);
        if let Some(bits) = content.get_mut(prefix) {
            *bits += bytes * 8;
            return;
        }
        let prefix = if content.len() < CONTENT_MAX { prefix } else { "other" };
        *content.entry(prefix.to_owned()).or_default() += bytes * 8;
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.exported.connections.increment(1.0);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.exported.connections.decrement(1.0);
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Bytes since the start.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Mean of the last 10 s, bit/s. Of the second that the window cuts, the part inside is taken as even.
    pub(crate) fn bits_out_10s_bps(&self) -> u64 {
        let now = self.clock.monotonic();
        let (second, outside_ms) = (now.0 / 1000, now.0 % 1000);
        let begin = (second + 1).saturating_sub(WINDOW_S);
        let [cut, first, all] = self.out_before([begin.saturating_sub(1), begin, u64::MAX]);
        ((all - first) + (first - cut) * (1000 - outside_ms) / 1000) * 8 / WINDOW_S
    }

    /// Bytes that were out when each of some seconds began; if it has not begun, now.
    fn out_before<const N: usize>(&self, seconds: [u64; N]) -> [u64; N] {
        let known = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.bytes_out.load(Ordering::Relaxed);
        seconds
            .map(|second| known.get(known.partition_point(|(at, _)| *at < second)).map_or(all, |(_, before)| *before))
    }

    /// What the last minute's whole seconds say, as far as there were some.
    pub(crate) fn outlook(&self) -> Option<Outlook> {
        let now_s = self.clock.monotonic().0 / 1000;
        let from_s = now_s.saturating_sub(HISTORY_S).max(self.since_s + 1);
        let seconds: Vec<u64> = (from_s..now_s)
            .map(|second| {
                let [begin, end] = self.out_before([second, second + 1]);
                (end - begin) * 8
            })
            .collect();
        let outlook = outlook(&seconds)?;
        self.exported.p95.set(outlook.p95_bps as f64);
        self.exported.in_60s.set(outlook.in_60s_bps as f64);
        Some(outlook)
    }

    /// Counts since the last call.
    pub(crate) fn take_interval(&self) -> Interval {
        let content = std::mem::take(&mut *self.content.lock().unwrap_or_else(PoisonError::into_inner));
        let mut top_content: Vec<ContentLoad> =
            content.into_iter().map(|(content, bits)| ContentLoad { content, bits }).collect();
        top_content.sort_by(|a, b| b.bits.cmp(&a.bits).then_with(|| a.content.cmp(&b.content)));
        top_content.truncate(CONTENT_REPORTED);
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        // Kinds before all: what comes in between is missing in a kind, never in the whole.
        let (hits, content, origin) = (take(&self.hits), take(&self.misses), take(&self.origin_failed));
        let requests = take(&self.requests);
        Interval {
            requests,
            failed: take(&self.failed),
            hits,
            misses: Misses { content, origin, other: requests.saturating_sub(hits + content + origin) },
            top_content,
        }
    }
}

/// At most two directories of a path, without slashes around: `/live/river/720p/1.m4s` is `live/river`.
fn content_prefix(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    let names = path.bytes().enumerate().take_while(|(_, byte)| *byte != b'?');
    let end = names.filter(|(_, byte)| *byte == b'/').take(2).last();
    end.map_or("", |(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_model::{Millis, TimestampMs};

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> TimestampMs {
            TimestampMs(self.0.load(Ordering::Relaxed))
        }
        fn monotonic(&self) -> Millis {
            Millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_mean_covers_exactly_the_last_ten_seconds() {
        let clock = Arc::new(Hand(AtomicU64::new(100_000)));
        let meter = Meter::new(clock.clone());
        meter.wrote(1_000);
        assert_eq!(meter.bits_out_10s_bps(), 800);
        for (at_ms, expected) in [(109_999, 800), (110_000, 800), (110_500, 400), (111_000, 0), (500_000, 0)] {
            clock.0.store(at_ms, Ordering::Relaxed);
            assert_eq!(meter.bits_out_10s_bps(), expected, "at {at_ms}");
        }
        meter.wrote(500);
        assert_eq!(meter.bits_out_10s_bps(), 400);
        assert_eq!(meter.bytes_out(), 1_500);
    }

    #[test]
    fn the_last_minute_is_known_by_second_and_no_second_before_the_start() {
        let clock = Arc::new(Hand(AtomicU64::new(100_500)));
        let meter = Meter::new(clock.clone());
        meter.wrote(99_999);
        for second in 101..=110 {
            clock.0.store(second * 1000, Ordering::Relaxed);
            assert_eq!(meter.outlook(), None, "after {second} s");
            meter.wrote(100);
        }
        clock.0.store(111_000, Ordering::Relaxed);
        assert_eq!(meter.outlook(), Some(Outlook { p95_bps: 800, in_60s_bps: 800 }));
        // Seconds in which nothing is written are seconds, too.
        clock.0.store(170_000, Ordering::Relaxed);
        assert_eq!(meter.outlook().map(|outlook| outlook.in_60s_bps), Some(0));
        clock.0.store(400_000, Ordering::Relaxed);
        assert_eq!(meter.outlook(), Some(Outlook { p95_bps: 0, in_60s_bps: 0 }));
        meter.wrote(1);
        clock.0.store(401_000, Ordering::Relaxed);
        assert_eq!(meter.outlook().map(|outlook| outlook.p95_bps), Some(0));
    }

    #[test]
    fn an_interval_is_read_once() {
        let meter = Meter::new(Arc::new(Hand(AtomicU64::new(0))));
        meter.answered(CacheResult::Hit, 200);
        meter.answered(CacheResult::Collapsed, 206);
        meter.answered(CacheResult::Miss, 200);
        meter.answered(CacheResult::Error, 502);
        meter.delivered("/live/river/720p/1.m4s?x=1", 10);
        meter.delivered("/live/river/1080p/1.m4s", 10);
        meter.delivered("/vod/1.m4s", 30);
        meter.delivered("/1.m4s", 1);
        meter.answered(CacheResult::Refused, 503);
        let read = meter.take_interval();
        assert_eq!((read.requests, read.failed, read.hits), (5, 2, 2));
        assert_eq!(read.misses, Misses { content: 1, origin: 1, other: 1 });
        let content: Vec<_> = read.top_content.iter().map(|load| (load.content.as_str(), load.bits)).collect();
        assert_eq!(content, [("vod", 240), ("live/river", 160), ("", 8)]);
        assert_eq!(meter.take_interval(), Interval::default());
    }

    #[test]
    fn prefixes_are_bounded() {
        let meter = Meter::new(Arc::new(Hand(AtomicU64::new(0))));
        for n in 0..5_000 {
            meter.delivered(&format!("/{n}/a"), 1);
        }
        assert!(meter.content.lock().expect("lock").len() <= CONTENT_MAX + 1);
        let read = meter.take_interval();
        assert_eq!((read.top_content.len(), read.top_content[0].content.as_str()), (20, "other"));
    }
}

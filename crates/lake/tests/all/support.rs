//! Helpers: a lake in a temporary directory and events for it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use spillway_lake::events::{EventBatch, StampedEvent};
use spillway_lake::schema::TableName;
use spillway_lake::{EventLog, EventLogOptions, LakeError, Recovered, TailSource, events_stored, lake_root};
use spillway_model::{Clock, Millis, TimestampMs};
use spillway_wire::beacon::{Context, Counters, Event};
use tempfile::TempDir;
use url::Url;

/// 2026-01-01, ms since epoch.
pub const NOW_MS: u64 = 1_767_225_600_000;

/// A clock that stands.
pub struct Still;

impl Clock for Still {
    fn now(&self) -> TimestampMs {
        TimestampMs(NOW_MS)
    }

    fn monotonic(&self) -> Millis {
        Millis(0)
    }
}

/// A lake and where it is.
pub struct Place {
    pub dir: TempDir,
    pub root: Url,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let root = lake_root(dir.path().join("lake").to_str().expect("path")).expect("root");
        Self { dir, root }
    }

    pub async fn try_open(&self, collector: &str) -> Result<(EventLog, Recovered), LakeError> {
        let wal = self.dir.path().join("wal").join(collector);
        let options = EventLogOptions { group_commit_ms: 1, ..EventLogOptions::new(collector) };
        EventLog::open(&self.root, &wal, options, Arc::new(Still), |_| ()).await
    }

    pub async fn open(&self, collector: &str) -> (EventLog, Recovered) {
        self.try_open(collector).await.expect("open")
    }

    pub async fn stored(&self, tails: &[&EventLog]) -> u64 {
        let tails = tails.iter().map(|log| TailSource::Local(log.tail())).collect();
        events_stored(&self.root, tails).await.expect("stored")
    }
}

/// A heartbeat of `view`.
pub fn heartbeat(view: &str, seq: u64, pathway: &str, watched_ms: u64, stall_ms: u64) -> EventBatch {
    let counters = Counters { watched_ms: Some(watched_ms), stall_ms: Some(stall_ms), ..Counters::default() };
    let event = Event {
        kind: "heartbeat".into(),
        seq,
        pathway: Some(pathway.into()),
        counters: Some(counters),
        ..Event::default()
    };
    EventBatch {
        property: "demo".into(),
        source: "sdk".into(),
        received_ms: NOW_MS,
        region: "eu-a".into(),
        ctx: Context { view_id: view.into(), content_id: "live/river".into(), ..Context::default() },
        events: vec![StampedEvent { event_ms: NOW_MS - 50, event, ..StampedEvent::default() }],
        ..EventBatch::default()
    }
}

pub async fn append(log: &EventLog, view: &str, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        log.append(heartbeat(view, seq, "cdn-a", seq * 10_000, 0), 100).await.expect("append");
    }
}

/// Rows of `table` from JSON lines.
pub fn from_json(table: TableName, lines: &str) -> RecordBatch {
    let reader = arrow::json::ReaderBuilder::new(table.schema()).build(std::io::Cursor::new(lines));
    reader.expect("reader").next().expect("a batch").expect("rows that fit")
}

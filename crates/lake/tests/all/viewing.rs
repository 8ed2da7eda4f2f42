//! Players that tell of their views, and jobs that are run on what they told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spillway_lake::events::{EventBatch, StampedEvent};
use spillway_lake::jobs::{Job, JobContext, JobReport, Permit};
use spillway_lake::{EventLog, LakeError, LakeSession, format};
use spillway_model::{Clock, Millis, TimestampMs};
use spillway_wire::beacon::{Context, Counters, Event, PathwayCounters};

use crate::support::Place;

/// A player's view.
pub struct Player {
    pub view: String,
    pub source: &'static str,
    pub begun_ms: u64,
    pub seq: u64,
    pub sample_rate: Option<f64>,
}

impl Player {
    pub fn new(view: &str, begun_ms: u64) -> Self {
        Self { view: view.to_owned(), source: "sdk", begun_ms, seq: 0, sample_rate: None }
    }

    /// The next event, `offset_ms` after the begin, on its way for 50 ms.
    pub fn tell(&mut self, offset_ms: u64, kind: &str, edit: impl FnOnce(&mut Event)) -> EventBatch {
        let mut event = Event {
            kind: kind.into(),
            seq: self.seq,
            mono_ms: offset_ms,
            created_ms: self.begun_ms + offset_ms,
            pathway: Some("cdn-a".into()),
            ..Event::default()
        };
        edit(&mut event);
        self.seq += 1;
        let event_ms = self.begun_ms + offset_ms;
        EventBatch {
            property: "demo".into(),
            source: self.source.into(),
            received_ms: event_ms + 50,
            region: "eu-a".into(),
            asn: Some(64_500),
            ctx: Context {
                view_id: self.view.clone(),
                content_id: "live/river".into(),
                device_class: Some("tv".into()),
                stream_type: Some("live".into()),
                sample_rate: self.sample_rate,
                ..Context::default()
            },
            events: vec![StampedEvent { event_ms, event, ..StampedEvent::default() }],
            ..EventBatch::default()
        }
    }
}

/// Counters: watched, stalls (one a second of stall), and what follows from them.
pub fn counted(watched_ms: u64, startup_ms: Option<u64>, stall_ms: u64) -> Counters {
    Counters {
        watched_ms: Some(watched_ms),
        playing_ms: Some(watched_ms.saturating_sub(stall_ms + startup_ms.unwrap_or(0))),
        startup_ms,
        stall_count: Some(stall_ms.div_ceil(1_000)),
        stall_ms: Some(stall_ms),
        bits_played: Some(watched_ms * 3_000),
        ..Counters::default()
    }
}

/// Counters on one pathway.
pub fn on(pathway: &str, requests_ok: u64, stall_ms: u64) -> (String, PathwayCounters) {
    let counters = PathwayCounters {
        requests_ok: Some(requests_ok),
        requests_failed: Some(0),
        requests_late: None,
        bytes: Some(requests_ok * 1_000_000),
        ttfb_sum_ms: Some(requests_ok * 40),
        playing_ms: Some(requests_ok * 4_000),
        stall_ms: Some(stall_ms),
    };
    (pathway.to_owned(), counters)
}

/// Writes events and commits them.
pub async fn store(log: &EventLog, batches: impl IntoIterator<Item = EventBatch>) {
    for batch in batches {
        log.append(batch, 1).await.expect("append");
    }
    while log.commit().await.expect("commit").more {}
}

/// A clock that stands, and whose monotonic side counts how often it was asked.
struct At(u64, AtomicU64);

impl Clock for At {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0)
    }

    fn monotonic(&self) -> Millis {
        Millis(self.1.fetch_add(1, Ordering::Relaxed))
    }
}

/// Runs `job` at `now_ms`; it may ask `checks` times whether it may go on.
pub async fn run_until(place: &Place, job: &dyn Job, now_ms: u64, checks: u64) -> Result<JobReport, LakeError> {
    let permit = Permit::new(checks, tokio_util::sync::CancellationToken::new());
    job.run(&JobContext::new(&place.root, Arc::new(At(now_ms, AtomicU64::new(0))), permit)).await
}

/// Runs `job` at `now_ms`; rows that it wrote.
pub async fn run(place: &Place, job: &dyn Job, now_ms: u64) -> u64 {
    run_until(place, job, now_ms, u64::MAX).await.expect("run").rows
}

/// Rows of a query over committed rows, as CSV without the header.
pub async fn rows(place: &Place, sql: &str) -> Vec<String> {
    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let rows = session.query(sql).await.expect("query");
    format::csv(&rows).expect("csv").lines().skip(1).map(str::to_owned).collect()
}

/// A small world: views of several shapes whose events arrive in an order that is not theirs, some of them twice.
/// Each event with the time at which it is committed.
pub fn world(begun_ms: u64, views: u64) -> Vec<(u64, EventBatch)> {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut out = Vec::new();
    for view in 0..views {
        let mut player = Player::new(&format!("v{view}"), begun_ms + next(300_000));
        player.sample_rate = (view % 5 == 0).then_some(0.5);
        let beats = next(25);
        let (mut stall_ms, mut told) = (0, vec![player.tell(0, "view_start", |_| ())]);
        for beat in 1..=beats {
            stall_ms += if next(4) == 0 { next(3_000) } else { 0 };
            let pathway = if beat > beats / 2 && view % 3 == 0 { "cdn-b" } else { "cdn-a" };
            told.push(player.tell(beat * 10_000, "heartbeat", |event| {
                event.counters = Some(counted(beat * 10_000, Some(500 + view * 100), stall_ms));
                event.pathway = Some(pathway.into());
                event.throughput_kbps = Some(3_000 + view * 10);
                if view % 2 == 0 {
                    event.pathways = [on("cdn-a", beat * 2, stall_ms), on("cdn-b", beat, 0)].into();
                }
            }));
        }
        if view % 4 != 1 {
            told.push(player.tell(beats * 10_000 + 1_000, "view_end", |event| event.reason = Some("ended".into())));
        }
        for mut batch in told {
            let delay_ms = if next(12) == 0 { 200_000 + next(400_000) } else { next(3_000) };
            batch.received_ms += delay_ms;
            if next(10) == 0 {
                let mut again = batch.clone();
                again.received_ms += next(500_000);
                out.push((again.received_ms, again));
            }
            out.push((batch.received_ms, batch));
        }
    }
    out.sort_by_key(|(at_ms, _)| *at_ms);
    out
}

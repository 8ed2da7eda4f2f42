//! Beacons of one view, in the SDK's wire format: which events, with which counters, in which order.

use std::collections::{BTreeMap, VecDeque};

use spillway_wire::beacon::{Accepted, Beacon, Context, Counters, Event, PathwayCounters};

use super::playback::{Phase, Playback};

/// Events kept while the collector does not answer; the oldest heartbeats go first.
const MAX_QUEUED: usize = 400;
/// Events of one beacon.
const MAX_BATCH: usize = 60;
const DEFAULT_HEARTBEAT_S: u32 = 10;
const STALLED_HEARTBEAT_MS: u64 = 5_000;

/// How the view stands when an event is made.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Viewers' clock.
    pub now_ms: u64,
    /// Wall clock, ms since epoch.
    pub wall_ms: u64,
    /// Buffer and playhead, advanced to now.
    pub playback: &'a Playback,
    /// Pathway that serves now.
    pub pathway: Option<&'a str>,
    /// Measured throughput.
    pub throughput_bps: Option<u64>,
    /// Rendition that is loaded.
    pub bitrate_bps: Option<u64>,
}

/// Makes events and holds them until they are acknowledged.
#[derive(Debug)]
pub struct Reporter {
    ctx: Context,
    next_seq: u64,
    queue: VecDeque<Event>,
    dropped: u64,
    rtt_ms: Option<u64>,
    heartbeat_ms: u64,
    last_heartbeat_ms: u64,
    urgent: bool,
    ended: bool,
    /// Cumulative, by pathway.
    pub pathways: BTreeMap<String, PathwayCounters>,
    /// Switches to a higher rendition.
    pub switch_up: u64,
    /// Switches to a lower one.
    pub switch_down: u64,
    /// Bits of media that were shown.
    pub bits_played: u64,
}

impl Reporter {
    /// For a view that begins at `now_ms`.
    #[must_use]
    pub fn new(ctx: Context, now_ms: u64) -> Self {
        Self {
            ctx,
            next_seq: 0,
            queue: VecDeque::new(),
            dropped: 0,
            rtt_ms: None,
            heartbeat_ms: u64::from(DEFAULT_HEARTBEAT_S) * 1_000,
            last_heartbeat_ms: now_ms,
            urgent: false,
            ended: false,
            pathways: BTreeMap::new(),
            switch_up: 0,
            switch_down: 0,
            bits_played: 0,
        }
    }

    /// The counters of a pathway.
    pub fn pathway(&mut self, pathway: &str) -> &mut PathwayCounters {
        if !self.pathways.contains_key(pathway) {
            self.pathways.insert(pathway.to_owned(), PathwayCounters::default());
        }
        self.pathways.get_mut(pathway).expect("it was just put there")
    }

    /// Queues an event; `urgent` ones are to be sent at once. The caller fills in what belongs to its type.
    pub fn event(&mut self, kind: &str, urgent: bool, standing: Standing<'_>) -> &mut Event {
        self.urgent |= urgent;
        self.ended |= kind == "view_end";
        if kind == "heartbeat" {
            self.last_heartbeat_ms = standing.now_ms;
        }
        if self.queue.len() >= MAX_QUEUED {
            let oldest = self.queue.iter().position(|event| event.kind == "heartbeat").unwrap_or(0);
            self.queue.remove(oldest);
            self.dropped += 1;
        }
        let event = self.build(kind, standing);
        self.next_seq += 1;
        self.queue.push_back(event);
        self.queue.back_mut().expect("it was just put there")
    }

    fn build(&self, kind: &str, standing: Standing<'_>) -> Event {
        let playback = standing.playback;
        let joined_ms = playback.joined_ms();
        let state = match playback.phase() {
            _ if self.ended => "ended",
            Phase::Starting => "starting",
            Phase::Playing => "playing",
            Phase::Stalled => "stalled",
        };
        Event {
            kind: kind.to_owned(),
            seq: self.next_seq,
            created_ms: standing.wall_ms,
            mono_ms: standing.now_ms.saturating_sub(joined_ms),
            state: Some(state.to_owned()),
            playhead_ms: i64::try_from(playback.playhead_ms()).ok(),
            buffer_ms: Some(playback.ahead_ms()),
            throughput_kbps: standing.throughput_bps.map(|bps| bps / 1_000),
            bitrate_kbps: standing.bitrate_bps.map(|bps| bps / 1_000),
            pathway: standing.pathway.map(str::to_owned),
            counters: Some(Counters {
                watched_ms: Some(standing.now_ms.saturating_sub(joined_ms)),
                playing_ms: Some(playback.playing_ms()),
                startup_ms: playback.first_frame_ms().map(|at_ms| at_ms - joined_ms),
                stall_count: Some(playback.stall_count()),
                stall_ms: Some(playback.stall_ms()),
                seek_count: Some(0),
                seek_ms: Some(0),
                pause_ms: Some(0),
                bits_played: Some(self.bits_played),
                switch_up: Some(self.switch_up),
                switch_down: Some(self.switch_down),
                dropped_frames: None,
                decoded_frames: None,
            }),
            pathways: self.pathways.clone(),
            ..Event::default()
        }
    }

    /// Whether a heartbeat is due.
    #[must_use]
    pub fn heartbeat_due(&self, now_ms: u64, phase: Phase) -> bool {
        let every_ms = if phase == Phase::Stalled { STALLED_HEARTBEAT_MS } else { self.heartbeat_ms };
        now_ms >= self.last_heartbeat_ms + every_ms
    }

    /// The next beacon, if something is to be sent: its JSON and how many events it holds. Nothing leaves the queue.
    #[must_use]
    pub fn batch(&self, wall_ms: u64) -> Option<(Vec<u8>, usize)> {
        let count = self.queue.len().min(MAX_BATCH);
        if count == 0 {
            return None;
        }
        let beacon = Beacon {
            v: 1,
            sdk: concat!("spillway-demo/", env!("CARGO_PKG_VERSION")).to_owned(),
            sent_ms: wall_ms,
            rtt_ms: self.rtt_ms,
            dropped: self.dropped,
            ctx: self.ctx.clone(),
            events: self.queue.iter().take(count).cloned().collect(),
        };
        Some((serde_json::to_vec(&beacon).expect("plain fields"), count))
    }

    /// The first `count` events are durable, but for those that were rejected. Returns how many are.
    pub fn acknowledged(&mut self, count: usize, answer: Option<&Accepted>, rtt_ms: u64) -> u64 {
        self.rtt_ms = Some(rtt_ms);
        self.forget(count);
        let rejected = answer.map_or(0, |answer| answer.rejected.len());
        if let Some(answer) = answer.filter(|answer| answer.heartbeat_s > 0) {
            self.heartbeat_ms = u64::from(answer.heartbeat_s) * 1_000;
        }
        count.saturating_sub(rejected) as u64
    }

    /// The first `count` events are refused for good.
    pub fn refused(&mut self, count: usize) {
        self.forget(count);
        self.dropped += count as u64;
    }

    fn forget(&mut self, count: usize) {
        self.queue.drain(..count.min(self.queue.len()));
    }

    /// Whether something is to be sent now; asking takes the urgency away.
    pub fn take_urgency(&mut self) -> bool {
        let urgent = self.is_urgent();
        self.urgent = false;
        urgent
    }

    /// Whether something is to be sent now.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent || self.queue.len() >= MAX_BATCH
    }

    /// Events not yet acknowledged.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reporter() -> Reporter {
        let ctx = Context { view_id: "v-1".into(), content_id: "live/river".into(), ..Context::default() };
        Reporter::new(ctx, 0)
    }

    fn standing(playback: &Playback, now_ms: u64) -> Standing<'_> {
        Standing {
            now_ms,
            wall_ms: 1_767_225_600_000 + now_ms,
            playback,
            pathway: Some("cdn-a"),
            throughput_bps: Some(3_000_000),
            bitrate_bps: Some(400_000),
        }
    }

    #[test]
    fn beacons_read_as_version_one_with_every_event_good() {
        let playback = Playback::new(0, 2_000, true);
        let mut reporter = reporter();
        reporter.pathway("cdn-a").requests_failed = Some(1);
        for kind in ["view_start", "heartbeat", "view_end"] {
            reporter.event(kind, false, standing(&playback, 500));
        }
        let (json, count) = reporter.batch(1_767_225_601_000).expect("something to send");
        let received = spillway_wire::beacon::parse(&json).expect("a beacon");
        assert_eq!((count, received.beacon.events.len(), received.rejected), (3, 3, vec![]));
        assert_eq!(received.beacon.events[2].state.as_deref(), Some("ended"));
        assert_eq!(received.beacon.events[1].pathways["cdn-a"].requests_failed, Some(1));
        assert_eq!(received.beacon.events[1].pathways["cdn-a"].bytes, None, "unknown is never 0");
    }

    #[test]
    fn a_retry_carries_the_same_numbers_and_only_an_answer_takes_events_away() {
        let playback = Playback::new(0, 2_000, true);
        let mut reporter = reporter();
        reporter.event("view_start", true, standing(&playback, 0));
        let first = reporter.batch(1).expect("batch").1;
        reporter.event("heartbeat", false, standing(&playback, 10));
        let seqs: Vec<u64> = {
            let (json, _) = reporter.batch(2).expect("batch");
            spillway_wire::beacon::parse(&json).expect("beacon").beacon.events.iter().map(|e| e.seq).collect()
        };
        assert_eq!(seqs, [0, 1]);
        assert_eq!(reporter.acknowledged(first, None, 3), 1);
        assert_eq!(reporter.queued(), 1);
    }

    #[test]
    fn heartbeats_follow_the_answer_and_come_sooner_while_stalled() {
        let mut reporter = reporter();
        assert!(!reporter.heartbeat_due(9_999, Phase::Playing));
        assert!(reporter.heartbeat_due(10_000, Phase::Playing));
        assert!(reporter.heartbeat_due(5_000, Phase::Stalled));
        let answer = Accepted { accepted: 0, rejected: vec![], heartbeat_s: 30, sample_rate: 1.0 };
        reporter.acknowledged(0, Some(&answer), 1);
        assert!(!reporter.heartbeat_due(20_000, Phase::Playing));
    }

    #[test]
    fn a_collector_that_never_answers_costs_heartbeats_not_memory() {
        let playback = Playback::new(0, 2_000, true);
        let mut reporter = reporter();
        reporter.event("view_start", true, standing(&playback, 0));
        for at_ms in 0..1_000 {
            reporter.event("heartbeat", false, standing(&playback, at_ms));
        }
        assert_eq!(reporter.queued(), MAX_QUEUED);
        assert_eq!(reporter.queue[0].kind, "view_start");
        assert_eq!(reporter.dropped, 1_001 - MAX_QUEUED as u64);
    }
}

//! Everything that changes in a view, without any I/O: counters, requests in flight, the pathway in use.

use std::collections::BTreeMap;

use spillway_wire::beacon::{Context, Failure, Request};

use super::abr::Throughput;
use super::behaviour::{Penalty, Trouble};
use super::fetch::{Fetched, Progress};
use super::playback::{Phase, Playback, Track};
use super::record::{Cause, ViewRecord};
use super::report::{Reporter, Standing};
use super::steering::Steering;

/// In flight longer than this is late.
pub(crate) const LATE_MS: u64 = spillway_model::limits::REQUEST_LATE_MS;
/// A stall this long is told at once.
const LONG_STALL_MS: u64 = 2_000;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now_ms: u64,
    pub(crate) wall_ms: u64,
}

#[derive(Debug)]
struct InFlight {
    pathway: String,
    host: String,
    begun_ms: u64,
    progress: Progress,
    late: bool,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) playback: Playback,
    pub(crate) steering: Steering,
    pub(crate) throughput: Throughput,
    pub(crate) reporter: Reporter,
    pub(crate) record: ViewRecord,
    pub(crate) pathway: String,
    /// Grows with every change of pathway.
    pub(crate) generation: u64,
    /// `STABLE-VARIANT-ID` and bandwidth of what is loaded.
    pub(crate) rendition: Option<(String, u64)>,
    /// Sequence number that media time 0 begins with.
    pub(crate) first_sequence: Option<u64>,
    in_flight: BTreeMap<u64, InFlight>,
    next_request: u64,
    /// By track: where the segment that playback waits for was first asked for.
    wanted: [Option<String>; 2],
    served_by: Option<String>,
    blamed: Option<String>,
    accounted_ms: (u64, u64),
    stall_told: StallTold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StallTold {
    Nothing,
    Start,
    Long,
}

impl State {
    pub(crate) fn new(ctx: Context, record: ViewRecord, playback: Playback, steering: Steering) -> Self {
        Self {
            reporter: Reporter::new(ctx, playback.joined_ms()),
            playback,
            steering,
            throughput: Throughput::default(),
            record,
            pathway: String::new(),
            generation: 0,
            rendition: None,
            first_sequence: None,
            in_flight: BTreeMap::new(),
            next_request: 0,
            wanted: [None, None],
            served_by: None,
            blamed: None,
            accounted_ms: (0, 0),
            stall_told: StallTold::Nothing,
        }
    }

    /// Queues an event with the view's standing.
    pub(crate) fn tell(&mut self, at: Moment, kind: &str, urgent: bool) -> &mut spillway_wire::beacon::Event {
        let standing = Standing {
            now_ms: at.now_ms,
            wall_ms: at.wall_ms,
            playback: &self.playback,
            pathway: Some(self.pathway.as_str()).filter(|pathway| !pathway.is_empty()),
            throughput_bps: self.throughput.estimate_bps(),
            bitrate_bps: self.rendition.as_ref().map(|(_, bps)| *bps),
        };
        self.reporter.event(kind, urgent, standing)
    }

    /// Lets the clock run and puts played and stalled time down to pathways.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        let was_stalled = self.playback.phase() == Phase::Stalled;
        self.playback.advance(now_ms);
        if !was_stalled && self.playback.phase() == Phase::Stalled {
            let [video, audio] = &self.wanted;
            self.blamed = video.clone().or_else(|| audio.clone()).or_else(|| self.served_by.clone());
        }
        let (playing_ms, stall_ms) = (self.playback.playing_ms(), self.playback.stall_ms());
        let (played_ms, stalled_ms) = (playing_ms - self.accounted_ms.0, stall_ms - self.accounted_ms.1);
        self.accounted_ms = (playing_ms, stall_ms);
        if let Some(pathway) = self.served_by.as_deref().filter(|_| played_ms > 0) {
            add(&mut self.reporter.pathway(pathway).playing_ms, played_ms);
        }
        if let Some((_, bps)) = &self.rendition {
            self.reporter.bits_played += played_ms * bps / 1_000;
        }
        if let Some(pathway) = self.blamed.as_deref().filter(|_| stalled_ms > 0) {
            add(&mut self.reporter.pathway(pathway).stall_ms, stalled_ms);
        }
    }

    /// What is due by now: stalls, late requests, heartbeats.
    pub(crate) fn tick(&mut self, at: Moment) {
        self.advance(at.now_ms);
        self.tell_stalls(at);
        let late: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, request)| !request.late && at.now_ms.saturating_sub(request.begun_ms) > LATE_MS)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let Some(request) = self.in_flight.get_mut(&id) else { continue };
            request.late = true;
            let told = Request {
                host: Some(request.host.clone()),
                pathway: Some(request.pathway.clone()),
                status: None,
                ttfb_ms: request.progress.ttfb_ms,
                ttlb_ms: Some(at.now_ms - request.begun_ms),
                bytes: Some(request.progress.bytes),
                late: Some(true),
            };
            self.tell_trouble(at, told);
        }
        if self.reporter.heartbeat_due(at.now_ms, self.playback.phase()) {
            self.tell(at, "heartbeat", true);
        }
    }

    fn tell_stalls(&mut self, at: Moment) {
        let open = self.playback.phase() == Phase::Stalled;
        let last = self.playback.stalls().last().copied();
        let lasted_ms = last.map_or(0, |stall| stall.end_ms.unwrap_or(at.now_ms).saturating_sub(stall.start_ms));
        if open && self.stall_told == StallTold::Nothing {
            self.stall_told = StallTold::Start;
            self.tell(at, "stall_start", false);
        }
        if open && self.stall_told == StallTold::Start && lasted_ms > LONG_STALL_MS {
            self.stall_told = StallTold::Long;
            self.tell(at, "heartbeat", true);
        }
        if !open && self.stall_told != StallTold::Nothing {
            self.stall_told = StallTold::Nothing;
            self.tell(at, "stall_end", lasted_ms > LONG_STALL_MS).stall_ms = Some(lasted_ms);
        }
    }

    /// A media request begins.
    pub(crate) fn begin(&mut self, now_ms: u64, track: Track, pathway: &str, host: &str) -> u64 {
        self.record.requested(now_ms, pathway);
        let wanted = &mut self.wanted[track as usize];
        if wanted.is_none() {
            *wanted = Some(pathway.to_owned());
        }
        self.next_request += 1;
        let (pathway, host) = (pathway.to_owned(), host.to_owned());
        let request = InFlight { pathway, host, begun_ms: now_ms, progress: Progress::default(), late: false };
        self.in_flight.insert(self.next_request, request);
        self.next_request
    }

    /// A request in flight has come this far.
    pub(crate) fn progress(&mut self, id: u64, progress: Progress) {
        if let Some(request) = self.in_flight.get_mut(&id) {
            let fresh = progress.bytes.saturating_sub(request.progress.bytes);
            request.progress = progress;
            self.record.received(&request.pathway, fresh);
        }
    }

    /// The player no longer wants it.
    pub(crate) fn forget(&mut self, id: u64) {
        self.in_flight.remove(&id);
    }

    /// A request was answered with 2xx. `segment`: it is what its track waited for.
    pub(crate) fn succeed(&mut self, at: Moment, id: u64, track: Track, fetched: &Fetched, segment: bool) {
        let Some(request) = self.in_flight.remove(&id) else { return };
        if segment {
            self.wanted[track as usize] = None;
            if track == Track::Video {
                self.served_by = Some(request.pathway.clone());
            }
        }
        let counters = self.reporter.pathway(&request.pathway);
        add(&mut counters.requests_ok, 1);
        add(&mut counters.bytes, fetched.bytes);
        add(&mut counters.ttfb_sum_ms, fetched.ttfb_ms);
        if !request.late && fetched.elapsed_ms > LATE_MS {
            let told = told(&request, Some(fetched.status), at.now_ms, true);
            self.tell_trouble(at, told);
        }
    }

    /// A request went wrong.
    pub(crate) fn fail(&mut self, at: Moment, id: u64, trouble: Trouble) {
        let Some(request) = self.in_flight.remove(&id) else { return };
        let (status, late) = match trouble {
            Trouble::Status(status) => (status, false),
            Trouble::Broken => (0, false),
            Trouble::Timeout => (0, true),
        };
        // One request is bad once, also if it was late before.
        if !request.late {
            let told = told(&request, Some(status), at.now_ms, late);
            self.tell_trouble(at, told);
        }
    }

    fn tell_trouble(&mut self, at: Moment, request: Request) {
        if let Some(pathway) = &request.pathway {
            let counters = self.reporter.pathway(pathway);
            let late = request.late == Some(true);
            add(if late { &mut counters.requests_late } else { &mut counters.requests_failed }, 1);
        }
        self.tell(at, "segment", true).request = Some(request);
    }

    /// A segment is in the buffer.
    pub(crate) fn append(&mut self, at: Moment, track: Track, sequence: u64, duration_ms: u64) {
        self.advance(at.now_ms);
        let first = *self.first_sequence.get_or_insert(sequence);
        let start_ms = sequence.saturating_sub(first) * duration_ms;
        let was_starting = self.playback.phase() == Phase::Starting;
        self.playback.append(at.now_ms, track, start_ms, start_ms + duration_ms);
        self.tell_stalls(at);
        if was_starting && self.playback.phase() == Phase::Playing {
            self.record.first_frame_ms = Some(at.now_ms);
            self.tell(at, "first_frame", true);
        }
    }

    /// Another rendition is loaded from now on.
    pub(crate) fn set_rendition(&mut self, at: Moment, stable_id: &str, bandwidth_bps: u64) {
        match &self.rendition {
            Some((known, _)) if known == stable_id => return,
            Some((_, bps)) if *bps < bandwidth_bps => self.reporter.switch_up += 1,
            Some(_) => self.reporter.switch_down += 1,
            None => {}
        }
        self.rendition = Some((stable_id.to_owned(), bandwidth_bps));
        self.tell(at, "rendition", false).reason = Some("abr".to_owned());
    }

    /// The pathway that the playlist begins with.
    pub(crate) fn start_on(&mut self, at: Moment, pathway: &str) {
        self.pathway = pathway.to_owned();
        let event = self.tell(at, "pathway_switch", false);
        event.to = Some(pathway.to_owned());
        event.reason = Some("start".to_owned());
    }

    /// Moves to where steering wants the view. True if that is another pathway.
    pub(crate) fn follow(&mut self, at: Moment) -> bool {
        let wanted = self.steering.wanted(at.now_ms).map(str::to_owned);
        wanted.is_some_and(|to| self.switch(at, to, Cause::Steering))
    }

    /// Leaves a pathway that failed. False if there is nowhere to go.
    pub(crate) fn leave(&mut self, at: Moment, pathway: &str, penalty: Penalty) -> bool {
        if self.pathway != pathway {
            return true; // the other track was faster
        }
        self.steering.penalise(pathway, penalty, at.now_ms);
        let wanted = self.steering.wanted(at.now_ms).map(str::to_owned);
        wanted.is_some_and(|to| self.switch(at, to, Cause::Player))
    }

    fn switch(&mut self, at: Moment, to: String, cause: Cause) -> bool {
        if to == self.pathway {
            return false;
        }
        self.advance(at.now_ms);
        let from = std::mem::replace(&mut self.pathway, to.clone());
        self.generation += 1;
        self.record.switched(at.now_ms, &from, &to, cause);
        let event = self.tell(at, "pathway_switch", true);
        event.from = Some(from);
        event.to = Some(to);
        event.reason = Some(if cause == Cause::Steering { "steering" } else { "player" }.to_owned());
        true
    }

    /// The view never came to play, or broke off.
    pub(crate) fn fatal(&mut self, at: Moment, code: &str, status: Option<u16>) {
        self.record.failure = Some(code.to_owned());
        self.tell(at, "error", true).error = Some(Failure {
            severity: "fatal".to_owned(),
            class: "path".to_owned(),
            code: Some(code.to_owned()),
            status,
            ..Failure::default()
        });
    }

    /// The view is over.
    pub(crate) fn end(&mut self, at: Moment, reason: &str) {
        self.advance(at.now_ms);
        self.tell_stalls(at);
        self.tell(at, "view_end", true).reason = Some(reason.to_owned());
        self.record.ended_ms = Some(at.now_ms);
    }

    /// The record as it stands.
    pub(crate) fn snapshot(&self) -> ViewRecord {
        let mut record = self.record.clone();
        record.stalls = self.playback.stalls().to_vec();
        record
    }
}

fn told(request: &InFlight, status: Option<u16>, now_ms: u64, late: bool) -> Request {
    Request {
        host: Some(request.host.clone()),
        pathway: Some(request.pathway.clone()),
        status,
        ttfb_ms: request.progress.ttfb_ms,
        ttlb_ms: Some(now_ms.saturating_sub(request.begun_ms)),
        bytes: Some(request.progress.bytes),
        late: Some(late),
    }
}

fn add(counter: &mut Option<u64>, amount: u64) {
    *counter = Some(counter.unwrap_or(0) + amount);
}

#[cfg(test)]
mod tests {
    use super::super::behaviour::Behaviour;
    use super::*;

    fn at(now_ms: u64) -> Moment {
        Moment { now_ms, wall_ms: 1_767_225_600_000 + now_ms }
    }

    fn state() -> State {
        let record = ViewRecord::new("v", "eu-south", Behaviour::Hls, 0);
        let steering = Steering::new(Behaviour::Hls, vec!["a".into(), "b".into()], None);
        let mut state = State::new(Context::default(), record, Playback::new(0, 2_000, true), steering);
        state.start_on(at(0), "a");
        state
    }

    fn good(elapsed_ms: u64) -> Fetched {
        Fetched { status: 200, ttfb_ms: 5, elapsed_ms, bytes: 1_000, body: vec![], retry_after_s: None }
    }

    fn load(state: &mut State, now_ms: u64, pathway: &str, sequence: u64) {
        for track in [Track::Video, Track::Audio] {
            let id = state.begin(now_ms, track, pathway, "h");
            state.succeed(at(now_ms), id, track, &good(10), true);
            state.append(at(now_ms), track, sequence, 2_000);
        }
    }

    #[test]
    fn a_stall_belongs_to_the_pathway_that_failed_not_to_the_one_switched_to() {
        let mut state = state();
        load(&mut state, 100, "a", 7);
        let id = state.begin(1_000, Track::Video, "a", "h");
        state.fail(at(1_100), id, Trouble::Status(503));
        state.tick(at(2_600)); // dry since 2,100
        assert!(state.leave(at(2_600), "a", Penalty::UntilPoll));
        state.tick(at(3_100));
        load(&mut state, 3_100, "b", 8);
        state.tick(at(4_100));
        assert_eq!(state.reporter.pathways["a"].stall_ms, Some(1_000));
        assert_eq!(state.reporter.pathways["a"].playing_ms, Some(2_000));
        assert_eq!(state.reporter.pathways["b"].stall_ms, None);
        assert_eq!(state.reporter.pathways["b"].playing_ms, Some(1_000));
    }

    #[test]
    fn a_request_is_bad_once_late_or_failed() {
        let mut state = state();
        let id = state.begin(0, Track::Video, "a", "h");
        state.tick(at(4_000));
        assert_eq!(state.reporter.pathways.get("a").and_then(|c| c.requests_late), None);
        state.tick(at(4_001));
        state.tick(at(9_000));
        state.fail(at(10_000), id, Trouble::Timeout);
        let counters = &state.reporter.pathways["a"];
        assert_eq!((counters.requests_late, counters.requests_failed), (Some(1), None));
    }

    #[test]
    fn a_whole_download_that_took_too_long_is_late() {
        let mut state = state();
        let id = state.begin(0, Track::Video, "a", "h");
        state.succeed(at(4_400), id, Track::Video, &good(4_400), true);
        assert_eq!(state.reporter.pathways["a"].requests_late, Some(1));
        assert_eq!(state.reporter.pathways["a"].requests_ok, Some(1));
    }

    #[test]
    fn the_events_of_a_view_come_in_the_order_in_which_things_happen() {
        let mut state = state();
        load(&mut state, 100, "a", 7);
        state.tick(at(2_500));
        state.tick(at(4_500));
        load(&mut state, 4_600, "a", 8);
        state.end(at(5_000), "abort");
        let (json, _) = state.reporter.batch(1).expect("events");
        let beacon = spillway_wire::beacon::parse(&json);
        assert!(beacon.is_err(), "the empty context of this test is refused");
        let value: serde_json::Value = serde_json::from_slice(&json).expect("json");
        let kinds: Vec<_> =
            value["events"].as_array().expect("events").iter().map(|e| e["type"].as_str().expect("type")).collect();
        let expected = ["pathway_switch", "first_frame", "stall_start", "heartbeat", "stall_end", "view_end"];
        assert_eq!(kinds, expected);
        assert_eq!(value["events"][4]["stall_ms"], 2_500);
    }
}

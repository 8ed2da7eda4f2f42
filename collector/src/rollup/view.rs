//! One view: from cumulative counters to what happened since, and from heartbeats to windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_lake::events::EventBatch;
use spillway_service::device::class_of;
use spillway_wire::beacon::{Counters, Event, Failure, Request};
use spillway_wire::cmcd;

use crate::receive::SDK;

use super::cell::{Place, Sink};
use super::clock::StateClock;
use super::path::PathTotals;

/// A view is silent after this many heartbeats, in halves.
const SILENT_HALF_HEARTBEATS: u64 = 5;
/// Heartbeat interval of a stalled view, ms.
const STALLED_HEARTBEAT_MS: u64 = 5_000;
/// Heartbeat interval of a paused or hidden view, ms.
const IDLE_HEARTBEAT_MS: u64 = 30_000;
/// CTA-5004's interval of `t`, where the application sets no other, ms.
const CMCD_HEARTBEAT_MS: u64 = 30_000;
/// Longer spans between heartbeats are no window.
const WINDOW_MAX_MS: u64 = 60_000;
/// A slower start is bad.
const SLOW_START_MS: u64 = 8_000;
/// A window is bad above this share of stall: one part in …
const STALL_SHARE_PARTS: u64 = 50;
/// A view counts as bad so long after a bad window.
const BAD_LATELY_MS: u64 = 60_000;
/// Pathways followed in one view; a playlist holds six.
const PATHWAYS_MAX: usize = 16;

/// Known: whether a name is a pathway of this deployment. Others could be made up.
pub(super) type Known<'a> = &'a dyn Fn(&str) -> bool;

/// Newest cumulative counters of the view.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    watched_ms: u64,
    stall_ms: u64,
    playing_ms: u64,
    startup_ms: Option<u64>,
}

/// Soft state of one view.
pub(super) struct View {
    pub(super) place: Place,
    pub(super) content: String,
    /// Device class.
    pub(super) device: &'static str,
    pub(super) pathway: Option<Arc<str>>,
    pub(super) last_seen_ms: u64,
    /// Who reports it.
    pub(super) source: String,
    /// It counted as a new view.
    pub(super) counted_new: bool,
    /// CMCD: nobody else counts its time.
    clock: Option<StateClock>,
    /// Its heartbeats can be waited for: an SDK's always, those of CMCD once there was one.
    beats: bool,
    heartbeat_ms: u64,
    /// Sequence of the newest event: older ones that come late change counters only.
    newest_seq: u64,
    interval_ms: u64,
    next_due_ms: u64,
    totals: Option<Totals>,
    paths: BTreeMap<String, PathTotals>,
    window: Option<Totals>,
    /// Its beginning was seen: counters count from zero.
    whole: bool,
    new_uncounted: bool,
    started: bool,
    /// It ended by an error, which is still to be told (hls.js: `ps` with the state first, then `e`).
    failed: bool,
    start_judged: bool,
    slow_counted: bool,
    leave_out: bool,
    idle: bool,
    over: bool,
    silent: bool,
    /// Its last bad window: when it closed, on the collector's monotonic clock, and whose it was.
    last_bad: Option<(u64, Arc<str>)>,
}

impl View {
    pub(super) fn new(place: Place, batch: &EventBatch, now_ms: u64, heartbeat_ms: u64) -> Self {
        let by_sdk = batch.source == SDK;
        let heartbeat_ms = if by_sdk { heartbeat_ms } else { CMCD_HEARTBEAT_MS };
        Self {
            place,
            content: batch.ctx.content_id.clone(),
            device: class_of(batch.ctx.device_class.as_deref()),
            pathway: None,
            last_seen_ms: now_ms,
            source: batch.source.clone(),
            counted_new: false,
            clock: (!by_sdk).then(StateClock::default),
            beats: by_sdk,
            heartbeat_ms,
            newest_seq: 0,
            interval_ms: heartbeat_ms,
            next_due_ms: now_ms + heartbeat_ms * 3 / 2,
            totals: None,
            paths: BTreeMap::new(),
            window: None,
            whole: false,
            new_uncounted: false,
            started: false,
            failed: false,
            start_judged: false,
            slow_counted: false,
            leave_out: false,
            idle: false,
            over: false,
            silent: false,
            last_bad: None,
        }
    }

    /// Counts one event. `now_ms` is the collector's monotonic time.
    pub(super) fn observe(&mut self, event: &Event, now_ms: u64, known: Known<'_>, sink: &mut Sink<'_>) {
        self.last_seen_ms = now_ms;
        if std::mem::take(&mut self.silent) {
            // Its silence was counted already.
            self.window = None;
        }
        let first = match self.clock {
            Some(_) => self.totals.is_none() && cmcd::is_first(event.seq),
            None => event.seq == 0,
        };
        if event.kind == "view_start" || first {
            self.begin(event);
        }
        let overtaken = event.seq < self.newest_seq;
        self.newest_seq = self.newest_seq.max(event.seq);
        let before = self.pathway.clone();
        let named = match event.kind.as_str() {
            "pathway_switch" => event.to.as_deref().or(event.pathway.as_deref()),
            _ => event.pathway.as_deref(),
        };
        let named = named.filter(|name| known(name) && !overtaken && before.as_deref() != Some(*name));
        let now = named.map(Arc::from).or_else(|| before.clone());
        if let Some(request) = &event.request {
            self.request(request, now.as_deref(), known, sink);
        }
        self.count_growth(event, now.as_deref(), known, sink);
        if before.is_some() && now != before {
            // What was before the switch is the old pathway's; what follows first is no one's.
            self.close_window(before.as_deref(), sink);
            self.leave_out = true;
        }
        self.pathway = now;
        if self.new_uncounted
            && let Some(pathway) = &self.pathway
        {
            sink.cell(pathway).views_new += 1;
            self.new_uncounted = false;
            self.counted_new = true;
        }
        if overtaken {
            return;
        }
        if let Some(error) = event.error.as_ref().filter(|_| matches!(event.kind.as_str(), "error" | "view_end")) {
            self.error(error, known, sink);
        }
        self.state(event, now_ms, sink);
    }

    fn begin(&mut self, event: &Event) {
        if self.totals.is_none() {
            self.whole = true;
            self.totals = Some(Totals::default());
            self.window = Some(Totals::default());
        }
        if (event.kind == "view_start" || self.clock.is_some()) && !self.counted_new {
            self.new_uncounted = true;
        }
    }

    /// Brings the counters up to the event's and counts what they grew by.
    fn count_growth(&mut self, event: &Event, pathway: Option<&str>, known: Known<'_>, sink: &mut Sink<'_>) {
        let first_sight = self.totals.is_none();
        let timed = self.clock.as_mut().map(|clock| clock.counters(event));
        if let Some(counters) = timed.as_ref().or(event.counters.as_ref()) {
            self.view_growth(counters, event.pathways.is_empty(), pathway, sink);
        }
        let startup_ms = self.totals.and_then(|totals| totals.startup_ms);
        // A start that was not seen is not judged.
        self.started |= !self.whole || startup_ms.is_some() || event.kind == "first_frame";
        self.started |= self.clock.is_some() && event.state.as_deref() == Some("playing");
        self.start_judged |= !self.whole;
        for (name, counters) in event.pathways.iter().filter(|(name, _)| known(name)) {
            match self.path(name) {
                Some(path) if first_sight => path.base(counters),
                Some(path) => path.grow(name, counters, sink),
                None => {}
            }
        }
        if self.window.is_none() {
            self.open_window();
        }
    }

    fn path(&mut self, name: &str) -> Option<&mut PathTotals> {
        if self.paths.len() >= PATHWAYS_MAX && !self.paths.contains_key(name) {
            return None;
        }
        if !self.paths.contains_key(name) {
            self.paths.insert(name.to_owned(), PathTotals::default());
        }
        self.paths.get_mut(name)
    }

    fn view_growth(&mut self, counters: &Counters, alone: bool, pathway: Option<&str>, sink: &mut Sink<'_>) {
        let before = self.totals;
        let mut now = before.unwrap_or_default();
        now.watched_ms = now.watched_ms.max(counters.watched_ms.unwrap_or(0));
        now.stall_ms = now.stall_ms.max(counters.stall_ms.unwrap_or(0));
        now.playing_ms = now.playing_ms.max(counters.playing_ms.unwrap_or(0));
        now.startup_ms = now.startup_ms.or(counters.startup_ms);
        self.totals = Some(now);
        // Senders that don't split by pathway: all of it is of the one that serves.
        let alone = alone && (self.paths.is_empty() || self.clock.is_some());
        if let (Some(before), true, Some(pathway)) = (before, alone, pathway) {
            let cell = sink.cell(pathway);
            cell.playing_ms += now.playing_ms - before.playing_ms;
            cell.stall_ms += now.stall_ms - before.stall_ms;
        }
    }

    /// A failed or late request counts at once, and always for the pathway that it names.
    fn request(&mut self, request: &Request, serving: Option<&str>, known: Known<'_>, sink: &mut Sink<'_>) {
        let named = request.pathway.as_deref().filter(|name| known(name));
        // A host that is no pathway's (of playlists, keys, ads) says nothing of the one that serves.
        let serving = serving.filter(|_| self.clock.is_none() || request.host.is_none());
        let singly = self.clock.is_some();
        if let Some(name) = named.or(serving).map(str::to_owned)
            && let Some(path) = self.path(&name)
        {
            path.request(&name, request, sink);
            if singly {
                path.good_request(&name, request, sink);
            }
        }
    }

    /// Only a fatal error of the path says something of the path.
    fn error(&mut self, error: &Failure, known: Known<'_>, sink: &mut Sink<'_>) {
        let told = self.over && !std::mem::take(&mut self.failed);
        if error.severity != "fatal" || told {
            return;
        }
        if error.class == "path" {
            let named = error.pathway.as_deref().filter(|name| known(name));
            let left_out = self.leave_out && named.is_none();
            let pathway = named.or(self.pathway.as_deref()).unwrap_or_default();
            if left_out {
                sink.cell(pathway).windows_left_out += 1;
            } else {
                let bad = if self.started { "fatal_error" } else { "start_failure" };
                let pathway = pathway.to_owned();
                self.count_window(&pathway, Some(bad), self.last_seen_ms, sink);
            }
        }
        self.leave_out = false;
        self.open_window();
        self.over = true;
    }

    /// Heartbeats, the end, and how long to wait for the next sign of life.
    fn state(&mut self, event: &Event, now_ms: u64, sink: &mut Sink<'_>) {
        let state = event.state.as_deref().unwrap_or_default();
        if event.visible == Some(false) || matches!(state, "paused" | "hidden" | "ended") {
            self.idle = true;
        } else if event.visible == Some(true) || !state.is_empty() {
            self.idle = false;
        }
        let interval_before_ms = self.interval_ms;
        self.interval_ms = match state {
            _ if self.clock.is_some() => self.heartbeat_ms,
            _ if self.idle => IDLE_HEARTBEAT_MS.max(self.heartbeat_ms),
            "stalled" => STALLED_HEARTBEAT_MS.min(self.heartbeat_ms),
            _ => self.heartbeat_ms,
        };
        let pathway = self.pathway.clone();
        if event.kind == "heartbeat" {
            self.beats = true;
            // A player may recover from what it had called fatal.
            self.over &= state != "playing";
            let cell = sink.cell(pathway.as_deref().unwrap_or_default());
            cell.heartbeats_received += 1;
            cell.heartbeats_due += 1;
        }
        if !self.over && matches!(event.kind.as_str(), "heartbeat" | "view_end") {
            self.close_window(pathway.as_deref(), sink);
        }
        if event.kind == "heartbeat" || self.interval_ms != interval_before_ms {
            self.next_due_ms = now_ms + self.interval_ms * 3 / 2;
        }
        self.failed |= !self.over && event.kind == "view_end" && event.reason.as_deref() == Some("error");
        self.over |= event.kind == "view_end";
    }

    fn open_window(&mut self) {
        self.window = self.totals;
        self.paths.values_mut().for_each(PathTotals::open_window);
    }

    /// Closes the window, if one is open, and begins the next. `serving` is the pathway that served in it.
    fn close_window(&mut self, serving: Option<&str>, sink: &mut Sink<'_>) {
        let (Some(begin), Some(end)) = (self.window, self.totals) else { return self.open_window() };
        let watched_ms = end.watched_ms - begin.watched_ms;
        let bad = self.verdict(watched_ms, end.stall_ms - begin.stall_ms, end);
        if (watched_ms > 0 && watched_ms <= WINDOW_MAX_MS) || bad == Some("slow_start") {
            let blamed = if bad == Some("stall") { self.stalled_on() } else { None };
            if std::mem::take(&mut self.leave_out) {
                sink.cell(serving.unwrap_or_default()).windows_left_out += 1;
            } else {
                let pathway = blamed.as_deref().or(serving).unwrap_or_default();
                self.count_window(pathway, bad, self.last_seen_ms, sink);
            }
        }
        self.open_window();
    }

    fn count_window(&mut self, pathway: &str, bad: Option<&'static str>, now_ms: u64, sink: &mut Sink<'_>) {
        if bad.is_some() && !sink.is_muted() {
            self.last_bad = Some((now_ms, Arc::from(pathway)));
        }
        sink.window(pathway, bad);
    }

    /// The pathway of its last bad window, if that closed in the last minute.
    pub(super) fn bad_lately(&self, now_ms: u64) -> Option<&str> {
        let (at_ms, pathway) = self.last_bad.as_ref()?;
        (now_ms.saturating_sub(*at_ms) <= BAD_LATELY_MS).then_some(pathway)
    }

    fn verdict(&mut self, watched_ms: u64, stall_ms: u64, totals: Totals) -> Option<&'static str> {
        let slow = match totals.startup_ms {
            // Judged once, when it is known; and before that for as long as it is too long already.
            Some(startup_ms) => {
                !std::mem::replace(&mut self.start_judged, true) && startup_ms > SLOW_START_MS && !self.slow_counted
            }
            None => !self.started && totals.watched_ms > SLOW_START_MS && watched_ms > 0,
        };
        if slow {
            self.slow_counted = true;
            return Some("slow_start");
        }
        (watched_ms > 0 && stall_ms * STALL_SHARE_PARTS > watched_ms).then_some("stall")
    }

    /// The pathway with the most stall in this window.
    fn stalled_on(&self) -> Option<String> {
        let (name, path) = self.paths.iter().max_by_key(|(_, path)| path.stall_in_window_ms())?;
        (path.stall_in_window_ms() > 0).then(|| name.clone())
    }

    fn silent_after_ms(&self) -> u64 {
        self.interval_ms * SILENT_HALF_HEARTBEATS / 2
    }

    /// Whether the view was heard of lately and is not over.
    pub(super) fn is_active(&self, now_ms: u64) -> bool {
        !self.over && now_ms.saturating_sub(self.last_seen_ms) <= self.silent_after_ms()
    }

    /// Time went on: heartbeats that are missing, and silence.
    pub(super) fn tick(&mut self, now_ms: u64, sink: &mut Sink<'_>) {
        if self.over || self.silent || !self.beats {
            return;
        }
        let pathway = self.pathway.clone().unwrap_or_default();
        if now_ms >= self.next_due_ms {
            sink.cell(&pathway).heartbeats_due += 1;
            self.next_due_ms += self.interval_ms;
        }
        if now_ms.saturating_sub(self.last_seen_ms) > self.silent_after_ms() {
            self.silent = true;
            // Hidden and paused views are frozen and killed by their systems: that is no sign of a bad path.
            if !self.idle && self.pathway.is_some() {
                self.count_window(&pathway, Some("silence"), now_ms, sink);
            }
        }
    }

    /// The view is given up.
    pub(super) fn close(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.new_uncounted) {
            sink.cell("").views_new += 1;
        }
    }
}

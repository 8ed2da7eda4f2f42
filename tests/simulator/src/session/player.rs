//! One player: fetches, retries, leaves, stalls, polls, reports.

use spillway_model::{ContentId, TimestampMs};

use crate::fluid::players::leaves_s;
use crate::format::{PlayerKind, Status};
use crate::random::unit;

/// Round trip of a request, s.
pub(crate) const TRIP_S: f64 = 0.05;
/// Longest wait between retries, s.
const RETRY_MAX_S: f64 = 8.0;
/// A view that hasn't started after so long is bad, s.
const START_MAX_S: f64 = 8.0;
/// Share of a window that may stall.
const STALL_MAX: f64 = 0.02;

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub path: usize,
    pub began: f64,
    /// When it is answered, fails, or is given up.
    pub ends: f64,
    pub fails: Option<Status>,
    pub bits: f64,
    pub late_told: bool,
}

/// What moved a view last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MovedBy {
    Nothing,
    Steering,
    Itself,
}

/// One view.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub id: String,
    /// Of all views of the run, from 1.
    pub number: u64,
    pub luck: u64,
    pub cohort: usize,
    /// Index among the kinds; none: it ignores steering.
    pub kind: Option<usize>,
    pub content: ContentId,
    pub started: TimestampMs,
    pub started_s: f64,
    pub ends: f64,
    pub path: usize,
    /// Order of the last answer, and the epoch that it is of.
    pub order: Vec<usize>,
    pub epoch: u64,
    pub ttl_s: f64,
    pub next_poll: f64,
    pub next_beat: f64,
    pub beats: u64,
    pub request: Option<Request>,
    pub next_request: f64,
    pub requests: u64,
    retries: u32,
    pub failing_since: Option<f64>,
    /// Pathways that it avoids, until when.
    penalties: Vec<(usize, f64)>,
    /// Seconds of media ahead, as of `at`.
    buffer_s: f64,
    at: f64,
    playing: bool,
    stalled_s: f64,
    pub switched: bool,
    pub moved_by: MovedBy,
    /// Throughput as it sees it, bit/s.
    throughput: f64,
    /// Last frame in which it was counted as failing.
    pub failing_frame: u64,
}

impl Player {
    pub(crate) fn new(id: String, luck: u64, cohort: usize, content: ContentId, at: f64, ends: f64) -> Self {
        Self {
            id,
            number: 0,
            luck,
            cohort,
            kind: None,
            content,
            started: crate::evidence::timestamp(at as u64),
            started_s: at,
            ends,
            path: 0,
            order: Vec::new(),
            epoch: 0,
            ttl_s: 0.0,
            next_poll: f64::INFINITY,
            next_beat: f64::INFINITY,
            beats: 0,
            request: None,
            next_request: at,
            requests: 0,
            retries: 0,
            failing_since: None,
            penalties: Vec::new(),
            buffer_s: 0.0,
            at,
            playing: false,
            stalled_s: 0.0,
            switched: false,
            moved_by: MovedBy::Nothing,
            throughput: 0.0,
            failing_frame: u64::MAX,
        }
    }

    /// It played already before the beginning, with a full buffer.
    pub(crate) fn settle(&mut self, buffer_s: f64) {
        self.buffer_s = buffer_s;
        self.playing = true;
        self.started_s = -1e6;
        self.started = TimestampMs(crate::evidence::timestamp(0).0.saturating_sub(600_000));
    }

    /// When something happens next.
    pub(crate) fn wakes(&self) -> f64 {
        let request = self.request.map_or(self.next_request, |request| {
            let late = if request.late_told { f64::INFINITY } else { request.began + 4.0 };
            request.ends.min(late)
        });
        request.min(self.next_poll).min(self.next_beat).min(self.ends)
    }

    /// Plays on until `now`.
    pub(crate) fn advance(&mut self, now: f64) {
        let span = (now - self.at).max(0.0);
        self.at = now;
        if !self.playing {
            return;
        }
        let played = span.min(self.buffer_s);
        self.buffer_s -= played;
        self.stalled_s += span - played;
    }

    /// Nothing has been played yet.
    pub(crate) fn is_new(&self) -> bool {
        !self.playing
    }

    /// A segment has come.
    pub(crate) fn receive(&mut self, request: &Request, segment_s: f64, buffer_max_s: f64) {
        let seen = request.bits / (request.ends - request.began).max(0.01);
        self.throughput = if self.throughput > 0.0 { 0.7 * self.throughput + 0.3 * seen } else { seen };
        self.buffer_s += segment_s;
        self.playing = true;
        (self.retries, self.failing_since) = (0, None);
        // It waits until there is room for another segment.
        self.next_request = self.at + (self.buffer_s + segment_s - buffer_max_s - 1.0).max(0.0);
    }

    /// A request has failed that was sent at `began`. Retries come after 1, 2, 4, 8, 8 … s, and when it is time to
    /// leave.
    pub(crate) fn fail(&mut self, began: f64, now: f64, leaves_s: Option<f64>) {
        let since = *self.failing_since.get_or_insert(began);
        let retry = now + f64::from(1 << self.retries.min(6)).min(RETRY_MAX_S);
        self.next_request = leaves_s.map_or(retry, |after| retry.min((since + after).max(now)));
        self.retries += 1;
    }

    /// Goes elsewhere by itself if its kind does so by now.
    pub(crate) fn leaves(&mut self, now: f64, kind: &PlayerKind, status: Status) -> bool {
        let Some(after) = leaves_s(kind, status) else { return false };
        if self.failing_since.is_none_or(|since| now - since < after - 1e-6) {
            return false;
        }
        let until = if kind.returns_s > 0.0 { now + kind.returns_s } else { self.next_poll };
        self.penalties.retain(|(_, until)| *until > now);
        self.penalties.push((self.path, until));
        let Some(next) = self.first_allowed(now).filter(|next| *next != self.path) else {
            self.penalties.pop();
            return false;
        };
        self.move_to(now, next, MovedBy::Itself);
        true
    }

    /// The first pathway of its order that it doesn't avoid.
    pub(crate) fn first_allowed(&self, now: f64) -> Option<usize> {
        let avoided = |path: &usize| self.penalties.iter().any(|(p, until)| p == path && *until > now);
        self.order.iter().copied().find(|path| !avoided(path))
    }

    /// Requests go elsewhere from now on.
    pub(crate) fn move_to(&mut self, now: f64, path: usize, by: MovedBy) {
        self.path = path;
        self.moved_by = by;
        self.switched = true;
        let waited = self.failing_since.is_some();
        (self.retries, self.failing_since) = (0, None);
        // Who waits for a retry, or has run dry, asks there at once; others when their buffer has room.
        if self.request.is_none() && (waited || self.buffer_s < 1.0) {
            self.next_request = self.next_request.min(now.max(self.at));
        }
    }

    /// Bitrate of the next segment by BOLA (Spiteri et al. 2016): utility is the logarithm of the size, weighed against
    /// the buffer; bounded by the throughput seen, as players do at start. `rungs` in bit/s, rising.
    pub(crate) fn choose(&self, rungs: &[f64], segment_s: f64, buffer_max_s: f64, most: f64) -> f64 {
        let most = rungs.iter().copied().filter(|rung| *rung <= most).fold(rungs[0], f64::max);
        if rungs.len() == 1 {
            return rungs[0].min(most.max(rungs[0]));
        }
        let top = (rungs[rungs.len() - 1] / rungs[0]).ln();
        let gp = 5.0;
        let v = (buffer_max_s / segment_s - 1.0).max(1.0) / (top + gp);
        let held = self.buffer_s / segment_s;
        let score = |rung: &f64| (v * ((rung / rungs[0]).ln() + gp) - held) / rung;
        let bola = rungs.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or(rungs[0]);
        let safe = rungs.iter().copied().filter(|rung| *rung <= self.throughput * 0.9).fold(rungs[0], f64::max);
        // With a full buffer BOLA's choice would wait; throughput decides there.
        let wanted = if held >= v * (top + gp) - 1.0 { safe } else { bola.min(safe).max(rungs[0]) };
        wanted.max(if self.throughput > 0.0 { safe } else { rungs[0] }).min(most)
    }

    /// Closes a window: bad by stalling or by not starting?
    pub(crate) fn close_window(&mut self, now: f64, window_s: f64) -> bool {
        self.advance(now);
        let unstarted = !self.playing && now - self.started_s > START_MAX_S;
        let bad = self.stalled_s > STALL_MAX * window_s || unstarted;
        self.stalled_s = 0.0;
        self.beats += 1;
        self.next_beat = now + window_s;
        bad
    }

    /// A number of this view's own.
    pub(crate) fn luck(&self, what: u64, which: u64) -> f64 {
        unit(&[self.luck, what, which])
    }
}

/// A player of whom nothing else is known gives a hanging request up after this long, s.
pub(crate) const HANG_MAX_S: f64 = 60.0;

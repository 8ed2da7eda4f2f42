//! A view's counters on one pathway: what is new in them.

use spillway_wire::beacon::{PathwayCounters, Request};

use super::cell::Sink;

/// Newest cumulative counters on one pathway, and what events said of it beside.
#[derive(Clone, Debug, Default)]
pub(super) struct PathTotals {
    newest: PathwayCounters,
    failed: Requests,
    late: Requests,
    /// Failures that are not counted here: 401 says nothing of the path, and of 403 the neighbours must be asked.
    denied: u64,
    /// Stall at the window's begin.
    window_stall_ms: u64,
}

/// Requests of one sort, told by a counter and by single events: whichever knows of more is right.
#[derive(Clone, Copy, Debug, Default)]
struct Requests {
    /// The counter at first sight.
    base: u64,
    by_event: u64,
    counted: u64,
}

impl Requests {
    /// How many are new, now that the counter says `total` (less what is excluded).
    fn news(&mut self, total: u64) -> u64 {
        let known = total.saturating_sub(self.base).max(self.by_event);
        let news = known.saturating_sub(self.counted);
        self.counted += news;
        news
    }
}

/// Growth of a counter that may be unknown on either side.
fn growth(newest: &mut Option<u64>, value: Option<u64>) -> u64 {
    let Some(value) = value else { return 0 };
    let before = newest.unwrap_or(0);
    *newest = Some(before.max(value));
    value.saturating_sub(before)
}

impl PathTotals {
    /// Takes the counters as they are: what they count was before our time.
    pub(super) fn base(&mut self, counters: &PathwayCounters) {
        self.failed.base = counters.requests_failed.unwrap_or(0);
        self.late.base = counters.requests_late.unwrap_or(0);
        self.window_stall_ms = counters.stall_ms.unwrap_or(0);
        self.newest = counters.clone();
    }

    /// Brings the counters up to the event's and counts what they grew by.
    pub(super) fn grow(&mut self, name: &str, counters: &PathwayCounters, sink: &mut Sink<'_>) {
        let newest = &mut self.newest;
        let ok = growth(&mut newest.requests_ok, counters.requests_ok);
        let ttfb_ms = growth(&mut newest.ttfb_sum_ms, counters.ttfb_sum_ms);
        let bytes = growth(&mut newest.bytes, counters.bytes);
        let playing_ms = growth(&mut newest.playing_ms, counters.playing_ms);
        let stall_ms = growth(&mut newest.stall_ms, counters.stall_ms);
        growth(&mut newest.requests_failed, counters.requests_failed);
        growth(&mut newest.requests_late, counters.requests_late);
        let cell = sink.cell(name);
        cell.requests_ok += ok;
        cell.bits += bytes.saturating_mul(8);
        cell.playing_ms += playing_ms;
        cell.stall_ms += stall_ms;
        if ok > 0 && ttfb_ms > 0 {
            sink.ttfb(name, ttfb_ms / ok, ok);
        }
        self.count_failed(name, sink);
        self.count_late(name, sink);
    }

    /// A single request that failed or was late.
    pub(super) fn request(&mut self, name: &str, request: &Request, sink: &mut Sink<'_>) {
        match request.status {
            Some(401) => self.denied += 1,
            Some(403) => {
                self.denied += 1;
                sink.denied(name);
            }
            Some(status) if status == 0 || status >= 400 => {
                self.failed.by_event += 1;
                self.count_failed(name, sink);
            }
            _ => {}
        }
        if request.late == Some(true) {
            self.late.by_event += 1;
            self.count_late(name, sink);
        }
    }

    /// A single good request of a sender that has no counters.
    pub(super) fn good_request(&mut self, name: &str, request: &Request, sink: &mut Sink<'_>) {
        if request.status.is_some_and(|status| (200..400).contains(&status)) {
            sink.cell(name).requests_ok += 1;
            if let Some(ttfb_ms) = request.ttfb_ms {
                sink.ttfb(name, ttfb_ms, 1);
            }
        }
    }

    fn count_failed(&mut self, name: &str, sink: &mut Sink<'_>) {
        let total = self.newest.requests_failed.unwrap_or(0).saturating_sub(self.denied);
        let news = self.failed.news(total);
        if news > 0 {
            sink.failed(name, news);
        }
    }

    fn count_late(&mut self, name: &str, sink: &mut Sink<'_>) {
        let news = self.late.news(self.newest.requests_late.unwrap_or(0));
        if news > 0 {
            sink.late(name, news);
        }
    }

    /// A window begins.
    pub(super) fn open_window(&mut self) {
        self.window_stall_ms = self.newest.stall_ms.unwrap_or(0);
    }

    /// Stall since the window began, ms.
    pub(super) fn stall_in_window_ms(&self) -> u64 {
        self.newest.stall_ms.unwrap_or(0).saturating_sub(self.window_stall_ms)
    }
}

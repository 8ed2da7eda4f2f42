//! One view's events into cells. Pure.
//!
//! Events come in the order of their time. An event's growth over what the view told within [`GAP_MS`] before belongs to
//! the event's minute; within [`GAP_MS`] of the view's begin the base is zero; otherwise the base is unknown and the
//! event only sets it. So a minute depends on the [`GAP_MS`] before it and on nothing else: it comes out the same however
//! often, and with whatever other minutes, it is computed. Summed over a view without longer gaps, the growth is the
//! view's last counter.
//!
//! Where the SDK tells of a view, other senders' events are counted as events only.

use std::collections::{BTreeMap, HashSet};

use super::cells::{BYTES, Cell, Cells, Dimensions, FAILED, LATE, OK, PLAYING, STALL, TIMED, TIMED_BYTES, TTFB};
use crate::jobs::views::{PathwayCounters, weight};

/// Longest time over which growth is attributed, ms.
pub(super) const GAP_MS: i64 = 600_000;
/// Counters of a view that grow, as `events` and `rollup_1m` name them: the first seven of the sums.
pub(super) const GROWING: [&str; 7] =
    ["watched_ms", "playing_ms", "stall_ms", "stall_count", "bits_played", "switch_up", "switch_down"];
const WATCHED: usize = 0;

/// Longer spans between heartbeats are no window, ms.
const WINDOW_MAX_MS: i64 = 60_000;
/// A slower start is bad, ms.
const SLOW_START_MS: i64 = 8_000;
/// A window is bad above this share of stall: one part in …
const STALL_SHARE_PARTS: i64 = 50;
/// Pathways followed of one view.
const PATHWAYS_MAX: usize = 64;
const SDK: &str = "sdk";

/// One event, borrowed from its batch.
#[derive(Clone, Debug, Default)]
pub(super) struct EventRow<'a> {
    pub(super) of: Dimensions<'a>,
    pub(super) source: &'a str,
    pub(super) seq: i64,
    pub(super) event_ms: i64,
    pub(super) mono_ms: i64,
    pub(super) kind: &'a str,
    pub(super) pathway: Option<&'a str>,
    pub(super) to_pathway: Option<&'a str>,
    pub(super) counters: [Option<i64>; GROWING.len()],
    pub(super) startup_ms: Option<i64>,
    pub(super) throughput_kbps: Option<i64>,
    pub(super) sample_rate: Option<f64>,
    pub(super) fatal: Option<FatalRow<'a>>,
    pub(super) request: Option<RequestRow<'a>>,
    pub(super) pathways: Vec<(String, PathwayCounters)>,
}

/// A fatal error.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FatalRow<'a> {
    pub(super) class: Option<&'a str>,
    pub(super) pathway: Option<&'a str>,
}

/// A media request that was told by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestRow<'a> {
    pub(super) pathway: Option<&'a str>,
    pub(super) status: Option<i64>,
    pub(super) ttfb_ms: Option<i64>,
    pub(super) ttlb_ms: Option<i64>,
    pub(super) bytes: Option<i64>,
    pub(super) late: Option<bool>,
}

/// What was told, and when.
#[derive(Clone, Copy, Debug)]
struct Told<T> {
    value: T,
    at_ms: i64,
}

/// The value, if it was told within the gap before `now_ms`.
fn fresh<T>(told: Option<&Told<T>>, now_ms: i64) -> Option<&T> {
    told.filter(|told| now_ms - told.at_ms <= GAP_MS).map(|told| &told.value)
}

/// What a counter grew by, where its base is known, and the counter as the next base.
fn grow(slot: &mut Option<Told<i64>>, value: Option<i64>, now_ms: i64, from_zero: bool) -> Option<i64> {
    let value = value?;
    let base = fresh(slot.as_ref(), now_ms).copied().or(from_zero.then_some(0));
    *slot = Some(Told { value: base.map_or(value, |base| base.max(value)), at_ms: now_ms });
    base.map(|base| (value - base).max(0))
}

/// Begin of a window.
#[derive(Clone, Debug)]
struct Mark {
    pathway: String,
    watched_ms: i64,
    stall_ms: i64,
    started: bool,
}

/// What one sender told.
#[derive(Clone, Debug, Default)]
struct Sender {
    name: String,
    begun_ms: Option<i64>,
    counters: [Option<Told<i64>>; GROWING.len()],
    pathways: BTreeMap<String, [Option<Told<i64>>; 7]>,
    lists_ms: Option<i64>,
    serving: Option<Told<String>>,
    mark: Option<Told<Mark>>,
}

/// One view on its way through time.
#[derive(Clone, Debug, Default)]
pub(super) struct Fold {
    property: String,
    view_id: String,
    seen: HashSet<(usize, i64)>,
    senders: Vec<Sender>,
    sdk_ms: Option<i64>,
    attempted_ms: Option<i64>,
    started_ms: Option<i64>,
    first_frame_ms: Option<i64>,
    fatal_ms: Option<i64>,
}

impl Fold {
    pub(super) fn new(property: &str, view_id: &str) -> Self {
        Self { property: property.to_owned(), view_id: view_id.to_owned(), ..Self::default() }
    }

    pub(super) fn is_of(&self, property: &str, view_id: &str) -> bool {
        self.view_id == view_id && self.property == property
    }

    /// Counts an event.
    pub(super) fn add(&mut self, event: &EventRow<'_>, cells: &mut Cells) {
        let at = self.senders.iter().position(|sender| sender.name == event.source).unwrap_or_else(|| {
            self.senders.push(Sender { name: event.source.to_owned(), ..Sender::default() });
            self.senders.len() - 1
        });
        if !self.seen.insert((at, event.seq)) {
            return;
        }
        let now_ms = event.event_ms;
        if event.source == SDK {
            self.sdk_ms = Some(now_ms);
        }
        let counts = event.source == SDK || self.sdk_ms.is_none_or(|sdk_ms| now_ms - sdk_ms > GAP_MS);
        let switched = self.senders[at].serve(event);
        let serving = self.senders[at].serving(now_ms);
        if let Some(cell) = cells.cell(now_ms, &event.of, serving.as_deref()) {
            cell.events += 1;
            cell.pathway_switches += i64::from(switched && counts);
        }
        let mut out = Out { cells: Some(cells).filter(|_| counts), event, serving: serving.as_deref() };
        let from_zero = self.senders[at].begun(event);
        self.milestones(event, from_zero, counts, &mut out);
        let started = self.has_started(event);
        let sender = &mut self.senders[at];
        sender.view_growth(event, from_zero, &mut out);
        sender.requests(event, &mut out);
        sender.windows(event, started, &mut out);
    }

    /// Whether the view has shown a frame, as far as it is told within the gap.
    fn has_started(&self, event: &EventRow<'_>) -> bool {
        event.startup_ms.is_some()
            || event.counters[PLAYING].is_some_and(|playing_ms| playing_ms > 0)
            || self.first_frame_ms.is_some_and(|at_ms| event.event_ms - at_ms <= GAP_MS)
    }

    /// The view's begin, start, failure and exit. `young`: within the gap of its begin.
    fn milestones(&mut self, event: &EventRow<'_>, young: bool, counts: bool, out: &mut Out<'_, '_>) {
        let now_ms = event.event_ms;
        if young && counts && self.attempted_ms.is_none() {
            self.attempted_ms = Some(now_ms);
            out.serving(|cell| {
                cell.views_attempted += 1;
                cell.views_attempted_weight += weight(event.sample_rate);
            });
        }
        if event.kind == "first_frame" {
            self.first_frame_ms = Some(now_ms);
        }
        if young && counts && self.started_ms.is_none() && (event.startup_ms.is_some() || event.kind == "first_frame") {
            self.started_ms = Some(now_ms);
            out.serving(|cell| {
                cell.views_started += 1;
                if let Some(startup_ms) = event.startup_ms {
                    cell.startup_ms.add(startup_ms as f64, 1);
                }
            });
        }
        let failed_before = self.fatal_ms.is_some_and(|at_ms| now_ms - at_ms <= GAP_MS);
        if let Some(fatal) = event.fatal {
            if !failed_before && fatal.class != Some("entitlement") {
                let started = self.has_started(event);
                out.on(fatal.pathway, |cell| match started {
                    true => cell.playback_failures += 1,
                    false => cell.start_failures += 1,
                });
            }
            self.fatal_ms = Some(now_ms);
        }
        if event.kind == "view_end" && !failed_before && !self.has_started(event) {
            out.serving(|cell| cell.exits_before_start += 1);
        }
    }
}

impl Sender {
    /// Takes note of the pathway that serves; whether it is another one than before.
    fn serve(&mut self, event: &EventRow<'_>) -> bool {
        let named = match event.kind {
            "pathway_switch" => event.to_pathway.or(event.pathway),
            _ => event.pathway,
        };
        let Some(named) = named else { return false };
        let switched = fresh(self.serving.as_ref(), event.event_ms).is_some_and(|before| before != named);
        self.serving = Some(Told { value: named.to_owned(), at_ms: event.event_ms });
        switched
    }

    fn serving(&self, now_ms: i64) -> Option<String> {
        fresh(self.serving.as_ref(), now_ms).cloned()
    }

    /// Whether the view began within the gap, so that its counters count from zero.
    fn begun(&mut self, event: &EventRow<'_>) -> bool {
        if event.mono_ms > 0 {
            return event.mono_ms <= GAP_MS;
        }
        if event.kind == "view_start" || event.seq == 0 {
            self.begun_ms = Some(event.event_ms);
        }
        self.begun_ms.is_some_and(|begun_ms| event.event_ms - begun_ms <= GAP_MS)
    }

    fn view_growth(&mut self, event: &EventRow<'_>, from_zero: bool, out: &mut Out<'_, '_>) {
        let now_ms = event.event_ms;
        let listed_before = self.lists_ms.is_some_and(|at_ms| now_ms - at_ms <= GAP_MS);
        // Senders that split by pathway tell these two there.
        let split = listed_before || !event.pathways.is_empty();
        for at in 0..GROWING.len() {
            let growth = grow(&mut self.counters[at], event.counters[at], now_ms, from_zero);
            if let Some(growth) = growth.filter(|_| !split || (at != PLAYING && at != STALL)) {
                out.serving(|cell| cell.add(at, growth));
            }
        }
        if !event.pathways.is_empty() {
            self.lists_ms = Some(now_ms);
        }
        for (name, counters) in &event.pathways {
            self.pathway_growth(name, counters, now_ms, from_zero || listed_before, out);
        }
        if event.kind == "heartbeat"
            && let Some(throughput_kbps) = event.throughput_kbps
        {
            out.serving(|cell| cell.throughput_kbps.add(throughput_kbps as f64, 1));
        }
    }

    /// A pathway that was not in the last list counts from zero, as all do where the view is young.
    fn pathway_growth(
        &mut self,
        name: &str,
        counters: &PathwayCounters,
        now_ms: i64,
        from_zero: bool,
        out: &mut Out<'_, '_>,
    ) {
        if self.pathways.len() >= PATHWAYS_MAX && !self.pathways.contains_key(name) {
            return;
        }
        let slots = self.pathways.entry(name.to_owned()).or_default();
        let mut growth = [None; 7];
        for (at, slot) in slots.iter_mut().enumerate() {
            growth[at] = grow(slot, counters[at], now_ms, from_zero);
        }
        let [ok, failed, late, bytes, ttfb_sum_ms, playing_ms, stall_ms] = growth;
        out.on(Some(name), |cell| {
            let sums = [(OK, ok), (FAILED, failed), (LATE, late), (BYTES, bytes), (TTFB, ttfb_sum_ms)];
            for (sum, growth) in sums.into_iter().chain([(PLAYING, playing_ms), (STALL, stall_ms)]) {
                if let Some(growth) = growth {
                    cell.add(sum, growth);
                }
            }
            if let (Some(ok @ 1..), Some(sum_ms)) = (ok, ttfb_sum_ms) {
                cell.ttfb_ms.add(sum_ms as f64 / ok as f64, ok.unsigned_abs());
            }
        });
    }

    /// Requests that were told one by one: counted where the sender has no counters, timed always.
    fn requests(&self, event: &EventRow<'_>, out: &mut Out<'_, '_>) {
        let Some(request) = event.request else { return };
        let counted = self.lists_ms.is_some_and(|at_ms| event.event_ms - at_ms <= GAP_MS);
        let good = request.status.is_some_and(|status| (200..400).contains(&status));
        out.on(request.pathway, |cell| {
            if let (true, Some(bytes), Some(ttlb_ms @ 1..)) = (good, request.bytes, request.ttlb_ms) {
                cell.add(TIMED_BYTES, bytes);
                cell.add(TIMED, ttlb_ms);
            }
            if counted {
                return;
            }
            match request.status {
                // A matter of rights, not of the path.
                Some(401 | 403) | None => {}
                Some(_) if good => {
                    cell.add(OK, 1);
                    cell.add(BYTES, request.bytes.unwrap_or(0));
                    if let Some(ttfb_ms) = request.ttfb_ms {
                        cell.add(TTFB, ttfb_ms);
                        cell.ttfb_ms.add(ttfb_ms as f64, 1);
                    }
                }
                Some(_) => cell.add(FAILED, 1),
            }
            if request.late == Some(true) {
                cell.add(LATE, 1);
            }
        });
    }

    /// Windows between heartbeats; the one across a switch of pathway is no one's.
    fn windows(&mut self, event: &EventRow<'_>, started: bool, out: &mut Out<'_, '_>) {
        let now_ms = event.event_ms;
        let path_failed = event.fatal.is_some_and(|fatal| fatal.class == Some("path"));
        if !path_failed && !matches!(event.kind, "heartbeat" | "view_start" | "view_end") {
            return;
        }
        let weight = weight(event.sample_rate);
        let mut window = |pathway: Option<&str>, bad: bool| {
            out.on(pathway, |cell| {
                cell.windows += 1;
                cell.windows_bad += i64::from(bad);
                cell.windows_weight += weight;
            });
        };
        let Some(pathway) = self.serving(now_ms) else { return };
        let total = |at: usize| fresh(self.counters[at].as_ref(), now_ms).copied();
        let Some(watched_ms) = total(WATCHED) else { return };
        let stall_ms = total(STALL).unwrap_or(0);
        if path_failed {
            window(event.fatal.and_then(|fatal| fatal.pathway), true);
        } else if let Some(mark) = fresh(self.mark.as_ref(), now_ms).filter(|mark| mark.pathway == pathway) {
            let grown_ms = watched_ms - mark.watched_ms;
            if (1..=WINDOW_MAX_MS).contains(&grown_ms) {
                let slow = !mark.started && event.startup_ms.is_some_and(|startup_ms| startup_ms > SLOW_START_MS);
                let stalled = (stall_ms - mark.stall_ms).saturating_mul(STALL_SHARE_PARTS) > grown_ms;
                window(None, slow || stalled);
            }
        }
        self.mark = Some(Told { value: Mark { pathway, watched_ms, stall_ms, started }, at_ms: now_ms });
    }
}

/// Where an event's counts go.
struct Out<'a, 'b> {
    /// `None`: nowhere.
    cells: Option<&'a mut Cells>,
    event: &'a EventRow<'b>,
    serving: Option<&'a str>,
}

impl Out<'_, '_> {
    /// Into the cell of the pathway that serves.
    fn serving(&mut self, count: impl FnOnce(&mut Cell)) {
        self.on(None, count);
    }

    /// Into the cell of `pathway`, or of the one that serves where none is named.
    fn on(&mut self, pathway: Option<&str>, count: impl FnOnce(&mut Cell)) {
        let Some(cells) = self.cells.as_deref_mut() else { return };
        if let Some(cell) = cells.cell(self.event.event_ms, &self.event.of, pathway.or(self.serving)) {
            count(cell);
        }
    }
}

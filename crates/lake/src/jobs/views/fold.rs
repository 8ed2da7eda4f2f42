//! One view from its events. Pure: rows in, a row out.
//!
//! Events come ordered by sender, sequence and arrival; the same sequence twice is one event. Counters are cumulative,
//! so the highest value is the last one, and what no event told stays null. Where several senders told of a view, the
//! SDK's word holds, and the others fill in what it left open.

use std::collections::BTreeMap;

use spillway_model::limits::VIEW_SILENCE_MS;

/// Cumulative counters, as `events` and `views` name them.
pub(super) const COUNTERS: [&str; 13] = [
    "watched_ms",
    "playing_ms",
    "startup_ms",
    "stall_count",
    "stall_ms",
    "seek_count",
    "seek_ms",
    "pause_ms",
    "bits_played",
    "switch_up",
    "switch_down",
    "dropped_frames",
    "decoded_frames",
];
const WATCHED: usize = 0;
const PLAYING: usize = 1;
const STARTUP: usize = 2;
const STALL: usize = 4;

/// Texts of the context, as `events` and `views` name them.
pub(super) const TEXTS: [&str; 14] = [
    "content_id",
    "stream_type",
    "format",
    "player",
    "player_version",
    "device_class",
    "region",
    "country",
    "sdk",
    "session_id",
    "title",
    "os",
    "browser",
    "page_type",
];

/// Counters of one pathway, in the order of the schema.
pub(in crate::jobs) type PathwayCounters = [Option<i64>; 7];

/// A slower start is not good.
const SLOW_START_MS: i64 = 8_000;
/// A larger part of stall is not good: one part in …
const STALL_SHARE_PARTS: i64 = 50;
/// Pathways kept of one view; a playlist holds six.
const PATHWAYS_MAX: usize = 64;
/// A sender's monotonic clock above this is not believed.
pub(super) const VIEW_MAX_MS: i64 = 7 * 86_400_000;
/// The sender that is believed first.
const SDK: &str = "sdk";

/// One event, borrowed from its batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EventRow<'a> {
    pub(super) seq: i64,
    pub(super) event_ms: i64,
    pub(super) received_ms: i64,
    pub(super) mono_ms: i64,
    pub(super) kind: &'a str,
    pub(super) reason: Option<&'a str>,
    pub(super) pathway: Option<&'a str>,
    pub(super) to_pathway: Option<&'a str>,
    pub(super) texts: [Option<&'a str>; TEXTS.len()],
    pub(super) counters: [Option<i64>; COUNTERS.len()],
    pub(super) asn: Option<i64>,
    pub(super) epoch: Option<i64>,
    pub(super) dropped_events: Option<i64>,
    pub(super) sample_rate: Option<f64>,
    pub(super) error: Option<ErrorRow<'a>>,
}

/// The error of an event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ErrorRow<'a> {
    pub(super) severity: &'a str,
    pub(super) class: Option<&'a str>,
    pub(super) code: Option<&'a str>,
    pub(super) status: Option<i64>,
    pub(super) pathway: Option<&'a str>,
}

/// A fatal error.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fatal {
    pub(super) class: Option<String>,
    pub(super) code: Option<String>,
    pub(super) status: Option<i64>,
    pub(super) pathway: Option<String>,
    before_start: bool,
}

/// What one sender told of a view.
#[derive(Clone, Debug, Default)]
struct Told {
    source: String,
    events: i64,
    started_ms: i64,
    ended_ms: i64,
    last_received_ms: i64,
    seq_min: i64,
    seq_max: i64,
    end: Option<Option<String>>,
    started: bool,
    fatal: Option<Fatal>,
    counters: [Option<i64>; COUNTERS.len()],
    texts: [Option<String>; TEXTS.len()],
    asn: Option<i64>,
    epoch: Option<i64>,
    dropped_events: Option<i64>,
    sample_rate: Option<f64>,
    first_pathway: Option<String>,
    last_pathway: Option<String>,
    pathway_switches: i64,
    pathways: BTreeMap<String, PathwayCounters>,
}

/// A row of `views` without what only the table knows (day, revision).
#[derive(Clone, Debug, Default)]
pub(super) struct ViewRow {
    pub(super) property: String,
    pub(super) view_id: String,
    pub(super) started_ms: i64,
    pub(super) ended_ms: i64,
    pub(super) last_received_ms: i64,
    pub(super) ended_cleanly: bool,
    pub(super) end_reason: Option<String>,
    pub(super) good_view: Option<bool>,
    pub(super) started: bool,
    pub(super) start_failure: bool,
    pub(super) exit_before_start: bool,
    pub(super) fatal: Option<Fatal>,
    pub(super) counters: [Option<i64>; COUNTERS.len()],
    pub(super) texts: [Option<String>; TEXTS.len()],
    pub(super) asn: Option<i64>,
    pub(super) epoch: Option<i64>,
    pub(super) dropped_events: Option<i64>,
    pub(super) sample_rate: Option<f64>,
    pub(super) weight: f64,
    pub(super) first_pathway: Option<String>,
    pub(super) last_pathway: Option<String>,
    pub(super) pathway_switches: i64,
    pub(super) pathways: BTreeMap<String, PathwayCounters>,
    pub(super) source: String,
    pub(super) sources: i64,
    pub(super) events: i64,
    pub(super) seq_min: i64,
    pub(super) seq_max: i64,
    pub(super) seq_missing: i64,
}

fn highest(slot: &mut Option<i64>, value: Option<i64>) {
    *slot = (*slot).max(value);
}

fn latest(slot: &mut Option<String>, value: Option<&str>) {
    if let Some(value) = value
        && slot.as_deref() != Some(value)
    {
        *slot = Some(value.to_owned());
    }
}

impl Told {
    fn new(source: &str, event: &EventRow<'_>) -> Self {
        Self {
            source: source.to_owned(),
            started_ms: event.event_ms - event.mono_ms.clamp(0, VIEW_MAX_MS),
            ended_ms: event.event_ms,
            last_received_ms: event.received_ms,
            seq_min: event.seq,
            seq_max: event.seq,
            ..Self::default()
        }
    }

    fn add(&mut self, event: &EventRow<'_>) {
        self.events += 1;
        self.seq_max = event.seq;
        self.ended_ms = self.ended_ms.max(event.event_ms);
        self.last_received_ms = self.last_received_ms.max(event.received_ms);
        for (slot, value) in self.counters.iter_mut().zip(event.counters) {
            highest(slot, value);
        }
        for (slot, value) in self.texts.iter_mut().zip(event.texts) {
            latest(slot, value);
        }
        self.asn = event.asn.or(self.asn);
        self.epoch = event.epoch.or(self.epoch);
        highest(&mut self.dropped_events, event.dropped_events);
        self.sample_rate = event.sample_rate.or(self.sample_rate);
        self.serve(if event.kind == "pathway_switch" { event.to_pathway.or(event.pathway) } else { event.pathway });
        self.started |= event.kind == "first_frame"
            || self.counters[STARTUP].is_some()
            || self.counters[PLAYING].is_some_and(|playing_ms| playing_ms > 0);
        if event.kind == "view_end" {
            self.end = Some(event.reason.map(str::to_owned));
        }
        if let Some(error) = event.error.filter(|error| event.kind == "error" && error.severity == "fatal")
            && self.fatal.is_none()
        {
            self.fatal = Some(Fatal {
                class: error.class.map(str::to_owned),
                code: error.code.map(str::to_owned),
                status: error.status,
                pathway: error.pathway.map(str::to_owned),
                before_start: !self.started,
            });
        }
    }

    fn serve(&mut self, pathway: Option<&str>) {
        let Some(pathway) = pathway else { return };
        if self.last_pathway.as_deref() == Some(pathway) {
            return;
        }
        self.pathway_switches += i64::from(self.last_pathway.is_some());
        self.last_pathway = Some(pathway.to_owned());
        self.first_pathway.get_or_insert_with(|| pathway.to_owned());
    }

    fn count(&mut self, pathway: &str, counters: PathwayCounters) {
        if !self.pathways.contains_key(pathway) {
            if self.pathways.len() >= PATHWAYS_MAX {
                return;
            }
            self.pathways.insert(pathway.to_owned(), PathwayCounters::default());
        }
        if let Some(slots) = self.pathways.get_mut(pathway) {
            slots.iter_mut().zip(counters).for_each(|(slot, value)| highest(slot, value));
        }
    }
}

/// A view whose events are coming in.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    property: String,
    view_id: String,
    told: Vec<Told>,
}

impl Fold {
    pub(super) fn new(property: &str, view_id: &str) -> Self {
        Self { property: property.to_owned(), view_id: view_id.to_owned(), told: Vec::new() }
    }

    pub(super) fn is_of(&self, property: &str, view_id: &str) -> bool {
        self.view_id == view_id && self.property == property
    }

    /// Adds an event of `source`; whether it was new.
    pub(super) fn add(&mut self, source: &str, event: &EventRow<'_>) -> bool {
        match self.told.last_mut().filter(|told| told.source == source) {
            Some(told) if told.seq_max == event.seq => return false,
            Some(told) => told.add(event),
            None => {
                let mut told = Told::new(source, event);
                told.add(event);
                self.told.push(told);
            }
        }
        true
    }

    /// Adds counters on one pathway of the event that was added last.
    pub(super) fn count(&mut self, pathway: &str, counters: PathwayCounters) {
        if let Some(told) = self.told.last_mut() {
            told.count(pathway, counters);
        }
    }

    /// The row, if the view is closed at `now_ms`: by an end event, or by silence.
    pub(super) fn close(mut self, now_ms: u64) -> Option<ViewRow> {
        // The SDK first; the others by name, as they came.
        self.told.sort_by_key(|told| told.source != SDK);
        let events = self.told.iter().map(|told| told.events).sum();
        let sources = i64::try_from(self.told.len()).unwrap_or(i64::MAX);
        let mut told = self.told.into_iter();
        let mut all = told.next()?;
        let seq_missing = all.seq_max - all.seq_min + 1 - all.events;
        told.for_each(|other| all.fill(other));
        let silent = u64::try_from(all.last_received_ms).unwrap_or(0).saturating_add(VIEW_SILENCE_MS) <= now_ms;
        if all.end.is_none() && !silent {
            return None;
        }
        let start_failure = all.fatal.as_ref().is_some_and(|fatal| fatal.before_start);
        Some(ViewRow {
            property: self.property,
            view_id: self.view_id,
            started_ms: all.started_ms,
            ended_ms: all.ended_ms,
            last_received_ms: all.last_received_ms,
            ended_cleanly: all.end.is_some(),
            end_reason: all.end.unwrap_or_else(|| Some("silence".to_owned())),
            good_view: good(all.fatal.is_some(), all.started, &all.counters),
            started: all.started,
            start_failure,
            exit_before_start: !all.started && all.fatal.is_none(),
            fatal: all.fatal,
            counters: all.counters,
            texts: all.texts,
            asn: all.asn,
            epoch: all.epoch,
            dropped_events: all.dropped_events,
            sample_rate: all.sample_rate,
            weight: weight(all.sample_rate),
            first_pathway: all.first_pathway,
            last_pathway: all.last_pathway,
            pathway_switches: all.pathway_switches,
            pathways: all.pathways,
            source: all.source,
            sources,
            events,
            seq_min: all.seq_min,
            seq_max: all.seq_max,
            seq_missing,
        })
    }
}

impl Told {
    /// Takes from `other` what is open here.
    fn fill(&mut self, other: Self) {
        self.started_ms = self.started_ms.min(other.started_ms);
        self.ended_ms = self.ended_ms.max(other.ended_ms);
        self.last_received_ms = self.last_received_ms.max(other.last_received_ms);
        self.end = self.end.take().or(other.end);
        self.started |= other.started;
        self.fatal = self.fatal.take().or(other.fatal);
        self.counters.iter_mut().zip(other.counters).for_each(|(slot, value)| *slot = slot.or(value));
        self.texts.iter_mut().zip(other.texts).for_each(|(slot, value)| *slot = slot.take().or(value));
        self.asn = self.asn.or(other.asn);
        self.epoch = self.epoch.or(other.epoch);
        self.dropped_events = self.dropped_events.or(other.dropped_events);
        self.sample_rate = self.sample_rate.or(other.sample_rate);
        if self.last_pathway.is_none() {
            self.first_pathway = other.first_pathway;
            self.last_pathway = other.last_pathway;
            self.pathway_switches = other.pathway_switches;
        }
        if self.pathways.is_empty() {
            self.pathways = other.pathways;
        }
    }
}

/// Views that one with this sample rate stands for.
pub(in crate::jobs) fn weight(sample_rate: Option<f64>) -> f64 {
    sample_rate.filter(|rate| *rate > 0.0 && *rate <= 1.0).map_or(1.0, |rate| 1.0 / rate)
}

/// No fatal error, at most 2 % of the watched time stalled, start within 8 s. One broken rule is enough to say no; yes
/// needs all of them known. Who left within 8 s of waiting says neither.
fn good(fatal: bool, started: bool, counters: &[Option<i64>; COUNTERS.len()]) -> Option<bool> {
    let watched_ms = counters[WATCHED];
    let slow = match counters[STARTUP] {
        Some(startup_ms) => Some(startup_ms > SLOW_START_MS),
        None if started => None,
        None => watched_ms.filter(|watched_ms| *watched_ms > SLOW_START_MS).map(|_| true),
    };
    let stalled = counters[STALL]
        .zip(watched_ms.filter(|watched_ms| *watched_ms > 0))
        .map(|(stall_ms, watched_ms)| stall_ms.saturating_mul(STALL_SHARE_PARTS) > watched_ms);
    match (slow, stalled) {
        _ if fatal => Some(false),
        (Some(true), _) | (_, Some(true)) => Some(false),
        (Some(false), Some(false)) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: i64, kind: &'static str) -> EventRow<'static> {
        let time = 1_000_000 + seq * 10_000;
        EventRow { seq, kind, event_ms: time, received_ms: time + 50, mono_ms: seq * 10_000, ..EventRow::default() }
    }

    fn with(mut event: EventRow<'static>, counters: &[(usize, i64)]) -> EventRow<'static> {
        counters.iter().for_each(|(at, value)| event.counters[*at] = Some(*value));
        event
    }

    fn closed(events: &[EventRow<'_>]) -> ViewRow {
        let mut fold = Fold::new("p", "v");
        events.iter().for_each(|event| {
            fold.add(SDK, event);
        });
        fold.close(u64::MAX).expect("closed")
    }

    #[test]
    fn the_highest_counter_is_the_last_and_the_unknown_stays_null() {
        let row = closed(&[
            with(event(0, "view_start"), &[(WATCHED, 0)]),
            with(event(1, "heartbeat"), &[(WATCHED, 9_000), (STARTUP, 700)]),
            with(event(1, "heartbeat"), &[(WATCHED, 99_000)]),
            with(event(3, "heartbeat"), &[(WATCHED, 8_000)]),
        ]);
        assert_eq!((row.counters[WATCHED], row.counters[STARTUP], row.counters[STALL]), (Some(9_000), Some(700), None));
        assert_eq!((row.events, row.seq_min, row.seq_max, row.seq_missing), (3, 0, 3, 1));
        assert_eq!((row.started_ms, row.ended_ms), (1_000_000, 1_030_000));
        assert_eq!((row.ended_cleanly, row.end_reason.as_deref(), row.good_view), (false, Some("silence"), None));
    }

    #[test]
    fn a_view_is_good_bad_or_unknown() {
        let judged = |fatal, started, pairs: &[(usize, i64)]| {
            let mut counters = [None; COUNTERS.len()];
            pairs.iter().for_each(|(at, value)| counters[*at] = Some(*value));
            good(fatal, started, &counters)
        };
        assert_eq!(judged(false, true, &[(WATCHED, 100_000), (STALL, 2_000), (STARTUP, 8_000)]), Some(true));
        assert_eq!(judged(false, true, &[(WATCHED, 100_000), (STALL, 2_001), (STARTUP, 700)]), Some(false));
        assert_eq!(judged(false, true, &[(WATCHED, 100_000), (STALL, 0), (STARTUP, 8_001)]), Some(false));
        assert_eq!(judged(false, true, &[(WATCHED, 100_000), (STALL, 0)]), None);
        assert_eq!(judged(true, true, &[]), Some(false));
        assert_eq!(judged(false, false, &[(WATCHED, 3_000), (STALL, 0)]), None);
        assert_eq!(judged(false, false, &[(WATCHED, 9_000)]), Some(false));
    }

    #[test]
    fn a_fatal_error_is_a_start_failure_only_before_the_first_frame() {
        let mut error = event(1, "error");
        error.error = Some(ErrorRow { severity: "fatal", class: Some("path"), ..ErrorRow::default() });
        let failed = closed(&[event(0, "view_start"), error]);
        assert!(failed.start_failure && !failed.started && !failed.exit_before_start);
        let later = closed(&[event(0, "first_frame"), error]);
        assert!(!later.start_failure && later.fatal.is_some() && later.good_view == Some(false));
        let left = closed(&[event(0, "view_start"), event(1, "view_end")]);
        assert!(left.exit_before_start && left.ended_cleanly);
    }

    #[test]
    fn the_sdk_is_believed_and_others_fill_in() {
        let mut fold = Fold::new("p", "v");
        fold.add("cmcd", &with(event(5, "heartbeat"), &[(WATCHED, 77_000), (STALL, 5)]));
        fold.add(SDK, &with(event(0, "heartbeat"), &[(WATCHED, 70_000)]));
        let row = fold.close(u64::MAX).expect("closed");
        assert_eq!((row.counters[WATCHED], row.counters[STALL]), (Some(70_000), Some(5)));
        assert_eq!((row.source.as_str(), row.sources, row.events, row.seq_max), (SDK, 2, 2, 0));
    }

    #[test]
    fn moves_between_pathways_are_counted() {
        let on = |seq, pathway| EventRow { pathway: Some(pathway), ..event(seq, "heartbeat") };
        let to = EventRow { to_pathway: Some("b"), pathway: Some("a"), ..event(2, "pathway_switch") };
        let row = closed(&[on(0, "a"), on(1, "a"), to, on(3, "b"), on(4, "a")]);
        assert_eq!((row.first_pathway.as_deref(), row.last_pathway.as_deref()), (Some("a"), Some("a")));
        assert_eq!(row.pathway_switches, 2);
    }

    #[test]
    fn a_view_that_goes_on_is_not_closed() {
        let mut fold = Fold::new("p", "v");
        fold.add(SDK, &event(0, "heartbeat"));
        assert!(fold.clone().close(1_000_050 + VIEW_SILENCE_MS - 1).is_none());
        assert!(fold.close(1_000_050 + VIEW_SILENCE_MS).is_some());
    }
}

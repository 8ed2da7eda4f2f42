//! The definitions of what is measured, over the viewers' own records.
//!
//! - *affected*: steerable views whose last media request before the injection went to the pathway;
//! - *leave*: first media request elsewhere with none to the dead pathway after it, until the restore;
//! - *harmed*: in a bad window of 10 s: stalled for more than 2 % of it, never started, or started after 8 s.

use std::collections::BTreeMap;

use crate::story::timeline::WINDOW_S;
use crate::viewer::record::{Cause, ViewRecord};

/// A window is bad above this share of stall.
const STALL_SHARE_MAX: f64 = 0.02;
/// A start is bad above this.
const START_MAX_MS: u64 = 8_000;
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a constant of whole seconds")]
const WINDOW_MS: u64 = (WINDOW_S * 1_000.0) as u64;

/// The outage as it really was; moments in ms on the viewers' clock.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// First fault.
    pub injected_ms: u64,
    /// Last fault lifted.
    pub restored_ms: u64,
}

/// How an affected view came off the dead pathway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It left.
    Left {
        /// Time since the injection.
        after_ms: u64,
        /// By whom.
        cause: Cause,
    },
    /// It was still there at the restore.
    Stayed,
    /// It ended before either.
    Ended,
}

/// What the outage did to views.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Departures {
    /// Affected views.
    pub affected: u64,
    /// Times to leave in rising order, s.
    pub leave_s: Vec<f64>,
    /// Left because a steering answer said so.
    pub by_steering: u64,
    /// Left by themselves.
    pub by_player: u64,
    /// Still there at the restore.
    pub stayed: Vec<String>,
    /// Ended before they left.
    pub ended: u64,
    /// Largest TTL that an affected view had been handed by the detection, s.
    pub ttl_s: Option<u32>,
}

impl Outage {
    /// Affected views.
    pub fn affected<'a>(&'a self, records: &'a [ViewRecord]) -> impl Iterator<Item = &'a ViewRecord> {
        records.iter().filter(|record| {
            record.region == self.region
                && record.behaviour.is_steerable()
                && record.pathway_at(self.injected_ms) == Some(self.pathway.as_str())
        })
    }

    /// How one affected view left.
    #[must_use]
    pub fn leaving(&self, record: &ViewRecord) -> Leaving {
        let mut before_restore = record.runs.iter().filter(|run| run.first_ms < self.restored_ms);
        let Some(last_dead) = before_restore.rfind(|run| run.pathway == self.pathway) else {
            return Leaving::Ended; // an affected view has at least the run before the injection
        };
        let next = record.runs.iter().find(|run| {
            run.first_ms >= last_dead.last_ms && run.first_ms < self.restored_ms && run.pathway != self.pathway
        });
        match next {
            Some(next) if last_dead.last_ms < self.restored_ms => {
                let mut moves = record.switches.iter().filter(|switch| switch.at_ms <= next.first_ms);
                let cause = moves.next_back().map_or(Cause::Player, |switch| switch.cause);
                Leaving::Left { after_ms: next.first_ms.saturating_sub(self.injected_ms), cause }
            }
            _ if record.ended_ms.is_some_and(|ended_ms| ended_ms < self.restored_ms) => Leaving::Ended,
            _ => Leaving::Stayed,
        }
    }

    /// All affected views; `detected_ms` bounds the TTLs that count.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "times of a story are far below 2^52 ms")]
    pub fn departures(&self, records: &[ViewRecord], detected_ms: Option<u64>) -> Departures {
        let mut out = Departures::default();
        let until_ms = detected_ms.unwrap_or(self.restored_ms);
        for record in self.affected(records) {
            out.affected += 1;
            let ttls = record.answers.iter().filter(|answer| answer.at_ms <= until_ms).map(|answer| answer.ttl_s);
            out.ttl_s = out.ttl_s.max(ttls.max());
            match self.leaving(record) {
                Leaving::Left { after_ms, cause } => {
                    out.leave_s.push(after_ms as f64 / 1_000.0);
                    match cause {
                        Cause::Steering => out.by_steering += 1,
                        Cause::Player => out.by_player += 1,
                    }
                }
                Leaving::Stayed => out.stayed.push(record.view_id.clone()),
                Leaving::Ended => out.ended += 1,
            }
        }
        out.leave_s.sort_by(f64::total_cmp);
        out
    }
}

/// Nearest-rank percentile of values in rising order, `share` in (0, 1]; none of an empty list.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small counts"
)]
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Time of views in good and in bad windows, ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quality {
    /// All of it.
    pub watched_ms: u64,
    /// In bad windows.
    pub harmed_ms: u64,
}

impl Quality {
    /// Minutes of views in bad windows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "times of a story are far below 2^52 ms")]
    pub fn harmed_minutes(self) -> f64 {
        self.harmed_ms as f64 / 60_000.0
    }

    /// Share of time in good windows; none without any view.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "times of a story are far below 2^52 ms")]
    pub fn good_share(self) -> Option<f64> {
        (self.watched_ms > 0).then(|| 1.0 - self.harmed_ms as f64 / self.watched_ms as f64)
    }
}

/// Quality of all views in the whole windows of 10 s between two moments, counted from `anchor_ms` either way, so that
/// two runs of one story have the same windows.
#[must_use]
pub fn quality(records: &[ViewRecord], anchor_ms: u64, from_ms: u64, until_ms: u64) -> Quality {
    let mut out = Quality::default();
    let behind = anchor_ms.saturating_sub(from_ms) / WINDOW_MS * WINDOW_MS;
    let mut start_ms = if from_ms <= anchor_ms {
        anchor_ms - behind
    } else {
        anchor_ms + (from_ms - anchor_ms).div_ceil(WINDOW_MS) * WINDOW_MS
    };
    while start_ms + WINDOW_MS <= until_ms {
        for record in records {
            let (watched_ms, bad) = window(record, start_ms, start_ms + WINDOW_MS);
            out.watched_ms += watched_ms;
            out.harmed_ms += if bad { watched_ms } else { 0 };
        }
        start_ms += WINDOW_MS;
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "a window has 10,000 ms")]
fn window(record: &ViewRecord, from_ms: u64, until_ms: u64) -> (u64, bool) {
    let overlap = |start_ms: u64, end_ms: Option<u64>| {
        end_ms.unwrap_or(u64::MAX).min(until_ms).saturating_sub(start_ms.max(from_ms))
    };
    let watched_ms = overlap(record.joined_ms, record.ended_ms);
    if watched_ms == 0 {
        return (0, false);
    }
    let stalled_ms: u64 = record
        .stalls
        .iter()
        .map(|stall| overlap(stall.start_ms, Some(stall.end_ms.or(record.ended_ms).unwrap_or(u64::MAX))))
        .sum();
    let waited_until = record.first_frame_ms.or(record.ended_ms);
    let waited_ms = waited_until.unwrap_or(u64::MAX).saturating_sub(record.joined_ms);
    let never = record.first_frame_ms.is_none() && record.failure.is_some();
    let bad_start = (waited_ms > START_MAX_MS || never) && overlap(record.joined_ms, waited_until) > 0;
    (watched_ms, bad_start || stalled_ms as f64 > STALL_SHARE_MAX * watched_ms as f64)
}

/// Media bytes of all views by pathway.
#[must_use]
pub fn bytes(records: &[ViewRecord]) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for (pathway, bytes) in records.iter().flat_map(|record| &record.bytes) {
        *out.entry(pathway.clone()).or_default() += bytes;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::behaviour::Behaviour;
    use crate::viewer::playback::Stall;

    fn outage() -> Outage {
        Outage { pathway: "a".into(), region: "south".into(), injected_ms: 30_000, restored_ms: 60_000 }
    }

    /// A view with media requests at these moments.
    fn view(requests: &[(u64, &str)]) -> ViewRecord {
        let mut record = ViewRecord::new("v", "south", Behaviour::Hls, 1_000);
        record.first_frame_ms = Some(2_000);
        for (at_ms, pathway) in requests {
            if let Some(last) = record.runs.last().map(|run| run.pathway.clone())
                && last != *pathway
            {
                record.switched(*at_ms, &last, pathway, Cause::Steering);
            }
            record.requested(*at_ms, pathway);
        }
        record
    }

    #[test]
    fn a_view_leaves_with_the_first_request_elsewhere_that_none_to_the_dead_pathway_follows() {
        let steered = view(&[(29_000, "a"), (31_000, "a"), (36_000, "b"), (58_000, "b"), (70_000, "a")]);
        assert_eq!(outage().leaving(&steered), Leaving::Left { after_ms: 6_000, cause: Cause::Steering });
        let flapping = view(&[(29_000, "a"), (33_000, "b"), (36_000, "a"), (41_000, "b")]);
        assert_eq!(outage().leaving(&flapping), Leaving::Left { after_ms: 11_000, cause: Cause::Steering });
        let at_once = view(&[(29_000, "a"), (30_100, "b")]);
        assert_eq!(outage().leaving(&at_once), Leaving::Left { after_ms: 100, cause: Cause::Steering });
    }

    #[test]
    fn who_never_asks_elsewhere_stayed_unless_the_view_ended() {
        let mut stuck = view(&[(29_000, "a"), (52_000, "a"), (61_000, "b")]);
        assert_eq!(outage().leaving(&stuck), Leaving::Stayed);
        let silent = view(&[(29_000, "a")]);
        assert_eq!(outage().leaving(&silent), Leaving::Stayed);
        let back_too_early = view(&[(29_000, "a"), (40_000, "b"), (59_000, "a"), (62_000, "a")]);
        assert_eq!(outage().leaving(&back_too_early), Leaving::Stayed);
        stuck.ended_ms = Some(55_000);
        stuck.runs.pop();
        assert_eq!(outage().leaving(&stuck), Leaving::Ended);
    }

    #[test]
    fn only_steerable_views_on_the_pathway_in_the_region_are_affected() {
        let mut elsewhere = view(&[(29_000, "b")]);
        elsewhere.view_id = "elsewhere".into();
        let unsteered = ViewRecord { behaviour: Behaviour::Ignores, ..view(&[(29_000, "a")]) };
        let north = ViewRecord { region: "north".into(), ..view(&[(29_000, "a")]) };
        let gone = ViewRecord { ended_ms: Some(29_500), ..view(&[(29_000, "a")]) };
        let mut left = view(&[(29_000, "a"), (34_000, "b")]);
        left.answered(28_000, 5);
        left.answered(33_900, 9);
        let records = [elsewhere, unsteered, north, gone, left, view(&[(29_000, "a")])];
        let departures = outage().departures(&records, Some(32_000));
        assert_eq!((departures.affected, departures.by_steering, departures.stayed.len()), (2, 1, 1));
        assert_eq!(departures.ttl_s, Some(5), "what came after the detection does not count");
        assert_eq!(departures.leave_s, [4.0]);
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(10.0));
        assert_eq!(percentile(&values, 0.95), Some(19.0));
        assert_eq!(percentile(&values, 1.0), Some(20.0));
        assert_eq!(percentile(&[3.0], 0.05), Some(3.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn more_than_two_percent_of_stall_makes_a_window_bad() {
        let mut record = view(&[(29_000, "a")]);
        record.stalls = vec![Stall { start_ms: 31_000, end_ms: Some(31_200) }];
        assert_eq!(quality(&[record.clone()], 30_000, 30_000, 40_000), Quality { watched_ms: 10_000, harmed_ms: 0 });
        record.stalls = vec![Stall { start_ms: 31_000, end_ms: Some(31_201) }];
        let bad = quality(&[record.clone()], 30_000, 30_000, 50_000);
        assert_eq!(bad, Quality { watched_ms: 20_000, harmed_ms: 10_000 });
        assert_eq!(bad.good_share(), Some(0.5));
        record.stalls = vec![Stall { start_ms: 31_000, end_ms: None }];
        let open = quality(&[record], 30_000, 20_000, 60_000);
        assert_eq!(open, Quality { watched_ms: 40_000, harmed_ms: 30_000 });
    }

    #[test]
    fn slow_and_failed_starts_harm_as_long_as_they_last() {
        let mut slow = view(&[(29_000, "a")]);
        (slow.joined_ms, slow.first_frame_ms) = (30_000, Some(38_001));
        assert_eq!(quality(&[slow.clone()], 30_000, 30_000, 50_000).harmed_ms, 10_000);
        slow.first_frame_ms = Some(38_000);
        assert_eq!(quality(&[slow.clone()], 30_000, 30_000, 50_000).harmed_ms, 0);
        let failed =
            ViewRecord { first_frame_ms: None, ended_ms: Some(36_000), failure: Some("playlist".into()), ..slow };
        assert_eq!(quality(&[failed], 30_000, 30_000, 50_000), Quality { watched_ms: 6_000, harmed_ms: 6_000 });
    }

    #[test]
    fn windows_are_counted_from_the_anchor_and_never_cut() {
        let record = view(&[(29_000, "a")]);
        let watched = |from_ms, until_ms| quality(std::slice::from_ref(&record), 30_000, from_ms, until_ms).watched_ms;
        assert_eq!(watched(12_000, 30_000), 10_000, "20,000 to 30,000");
        assert_eq!(watched(31_000, 59_999), 10_000, "40,000 to 50,000");
        assert_eq!(watched(10_000, 30_000), 20_000);
        assert_eq!(watched(0, 5_000), 0);
    }
}

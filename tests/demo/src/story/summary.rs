//! From what runs left behind to the report.

use std::collections::BTreeMap;

use super::config::Pathway;
use super::measure::{self, Departures, Outage, Quality};
use super::play::Outcome;
use super::report::{GoodShare, OutageReport, Report, rounded};
use super::timeline::Timeline;

/// The steered run with its measurements, as the invariants look at it.
pub struct Measured {
    /// What goes out.
    pub report: Report,
    /// How the affected views left; none if there was no outage.
    pub departures: Option<Departures>,
    /// Views of the region when the outage began, and those of them on the pathway.
    pub cell: Option<(u64, u64)>,
}

/// The outage of a run as it really was; none if it did not begin.
#[must_use]
pub fn outage(run: &Outcome, pathway: &str, region: &str) -> Option<Outage> {
    Some(Outage {
        pathway: pathway.to_owned(),
        region: region.to_owned(),
        injected_ms: run.seen.injected_ms?,
        restored_ms: run.seen.restored_ms.unwrap_or(run.ended_ms),
    })
}

/// Quality in the windows that the outage can harm.
#[must_use]
pub fn during(run: &Outcome, timeline: &Timeline) -> Option<Quality> {
    let injected_ms = run.seen.injected_ms?;
    let until_ms = injected_ms + ms(timeline.harm_s());
    // A run that ended before its windows did has not measured them.
    (run.ended_ms >= until_ms).then(|| measure::quality(&run.records, injected_ms, injected_ms, until_ms))
}

/// Measures one run.
#[must_use]
pub fn measure_run(
    run: &Outcome,
    timeline: &Timeline,
    pathways: &[Pathway],
    (pathway, region): (&str, &str),
) -> Measured {
    let outage = outage(run, pathway, region);
    let departures = outage.as_ref().map(|outage| outage.departures(&run.records, run.seen.demoted_ms));
    let cell = outage.as_ref().map(|outage| {
        let here = run.records.iter().filter(|record| record.region == region);
        let on = here.filter_map(|record| record.pathway_at(outage.injected_ms));
        on.fold((0, 0), |(all, dead), id| (all + 1, dead + u64::from(id == pathway)))
    });
    let bytes = measure::bytes(&run.records);
    let failed = run.records.iter().filter(|record| record.failure.is_some()).count() as u64;
    let started = run.records.iter().filter(|record| record.first_frame_ms.is_some()).count() as u64;
    let counters = run.counters.clone();
    let report = Report {
        beacons_sent: run.beacons_sent,
        events_accepted: counters.as_ref().map(|counters| counters.accepted),
        events_discarded: counters.map(|counters| counters.discarded).unwrap_or_default(),
        events_stored: run.stored,
        lost: lost(run),
        epochs: run.seen.epochs.values().map(|epochs| epochs.last().copied().unwrap_or(0)).sum(),
        views_started: started,
        views_failed: failed,
        ttl_s: departures.as_ref().and_then(|departures| departures.ttl_s),
        outage: OutageReport {
            detect_s: seconds(run.seen.injected_ms, run.seen.demoted_ms),
            leave_s_p50: departures.as_ref().and_then(|departures| measure::percentile(&departures.leave_s, 0.5)),
            leave_s_p95: departures.as_ref().and_then(|departures| measure::percentile(&departures.leave_s, 0.95)),
            views_affected: departures.as_ref().map_or(0, |departures| departures.affected),
            left_by_steering: departures.as_ref().map_or(0, |departures| departures.by_steering),
            left_by_player: departures.as_ref().map_or(0, |departures| departures.by_player),
            harmed_view_minutes: during(run, timeline).map(|quality| rounded(quality.harmed_minutes())),
            harmed_view_minutes_static: None,
        },
        peak_utilisation: peaks(run),
        bytes_share: shares(&bytes),
        cost_usd: cost_usd(&bytes, pathways),
        good_share: good_share(run, timeline),
        invariants_broken: Vec::new(),
    };
    Measured { report, departures, cell }
}

fn good_share(run: &Outcome, timeline: &Timeline) -> GoodShare {
    let Some(injected_ms) = run.seen.injected_ms else { return GoodShare::default() };
    let share =
        |from_ms, until_ms| measure::quality(&run.records, injected_ms, from_ms, until_ms).good_share().map(rounded);
    let aftermath_ms = injected_ms + ms(timeline.harm_s());
    GoodShare {
        before: share(run.started_ms + ms(timeline.ramp_until_s), injected_ms),
        during: during(run, timeline).and_then(Quality::good_share).map(rounded),
        after: share(aftermath_ms, run.ended_ms),
        during_static: None,
    }
}

/// Acknowledged events that are not in the table; none if that can't be told.
fn lost(run: &Outcome) -> Option<u64> {
    let stored = run.stored_by_view.as_ref()?;
    let missing = run
        .records
        .iter()
        .map(|record| record.events_acknowledged.saturating_sub(stored.get(&record.view_id).copied().unwrap_or(0)));
    Some(missing.sum())
}

fn peaks(run: &Outcome) -> BTreeMap<String, f64> {
    let all = run.seen.own_peaks.iter().chain(&run.cdn_peaks);
    all.map(|(id, peak)| (id.clone(), rounded(*peak))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a story are far below 2^52")]
fn shares(bytes: &BTreeMap<String, u64>) -> BTreeMap<String, f64> {
    let all: u64 = bytes.values().sum();
    bytes.iter().map(|(id, bytes)| (id.clone(), rounded(*bytes as f64 / all.max(1) as f64))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "bytes of a story are far below 2^52")]
fn cost_usd(bytes: &BTreeMap<String, u64>, pathways: &[Pathway]) -> f64 {
    let price = |id: &str| pathways.iter().find(|pathway| pathway.id == id).map_or(0.0, |p| p.price_usd_per_gb);
    let cost: f64 = bytes.iter().map(|(id, bytes)| *bytes as f64 / 1e9 * price(id)).sum();
    (cost * 1e6).round() / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "times of a story are far below 2^52 ms")]
fn seconds(from_ms: Option<u64>, until_ms: Option<u64>) -> Option<f64> {
    Some(until_ms?.saturating_sub(from_ms?) as f64 / 1_000.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a story")]
fn ms(seconds: f64) -> u64 {
    (seconds * 1_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::behaviour::Behaviour;
    use crate::viewer::record::ViewRecord;

    #[test]
    fn lost_is_what_was_acknowledged_and_is_not_stored_view_by_view() {
        let record = |id: &str, acknowledged| {
            let mut record = ViewRecord::new(id, "eu", Behaviour::Hls, 0);
            record.events_acknowledged = acknowledged;
            record
        };
        let mut run = Outcome { records: vec![record("a", 5), record("b", 4)], ..Outcome::default() };
        assert_eq!(lost(&run), None, "without an answer nothing is claimed");
        run.stored_by_view = Some(BTreeMap::from([("a".into(), 3), ("b".into(), 9), ("browser".into(), 50)]));
        assert_eq!(lost(&run), Some(2), "more rows of one view don't make up for another's");
    }

    #[test]
    fn cost_is_bytes_times_price_and_shares_sum_to_one() {
        let bytes = BTreeMap::from([("cdn-a".to_owned(), 3_000_000_000), ("own-1".to_owned(), 1_000_000_000)]);
        let pathway = |id: &str, price| Pathway {
            id: id.into(),
            base_url: String::new(),
            regions: vec![],
            group: None,
            capacity_mbps: 1.0,
            price_usd_per_gb: price,
        };
        assert!((cost_usd(&bytes, &[pathway("cdn-a", 0.01), pathway("own-1", 0.0)]) - 0.03).abs() < 1e-9);
        assert_eq!(shares(&bytes), BTreeMap::from([("cdn-a".to_owned(), 0.75), ("own-1".to_owned(), 0.25)]));
    }
}

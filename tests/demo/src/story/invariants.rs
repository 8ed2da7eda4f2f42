//! What must hold at the end. What could not be measured is broken too: silence proves nothing.

use super::config::{Parts, Pathway};
use super::play::Outcome;
use super::summary::Measured;

/// Views and share on the pathway of the outage that make it worth showing.
const CELL_VIEWS_MIN: u64 = 150;
const CELL_SHARE_MIN: f64 = 0.60;
/// Below this many viewers the region can't have that many views; then only the share counts.
const FULL_HOUSE: u32 = 400;
const STEERED_SHARE_MIN: f64 = 0.80;
/// On top of detection and TTL.
const LEAVE_MARGIN_S: f64 = 2.0;
/// "Far fewer" harmed view-minutes than without steering.
const HARM_RATIO_MAX: f64 = 0.5;

/// Everything that is broken, in words with numbers. `static_run` is the same story without steering; `viewers` their
/// number at the peak.
#[must_use]
pub fn broken(measured: &Measured, run: &Outcome, parts: &Parts, static_run: bool, viewers: u32) -> Vec<String> {
    let mut out = Broken(run.broken.clone());
    out.telemetry(measured, run);
    out.own_edges(run, &parts.pathways);
    out.manifests(run, &parts.regions);
    out.cell(measured, parts, viewers);
    if !static_run {
        out.departures(measured);
        out.harm(measured);
    }
    out.0
}

/// The same for a run without steering, whose numbers only serve to compare.
#[must_use]
pub fn broken_static(run: &Outcome) -> Vec<String> {
    let mut out = Broken(run.broken.clone());
    if run.seen.injected_ms.is_none() {
        out.say("the outage did not begin".to_owned());
    }
    out.0.into_iter().map(|text| format!("static policy: {text}")).collect()
}

struct Broken(Vec<String>);

impl Broken {
    fn say(&mut self, text: String) {
        self.0.push(text);
    }

    fn telemetry(&mut self, measured: &Measured, run: &Outcome) {
        let report = &measured.report;
        match (report.events_accepted, report.events_stored) {
            (Some(0), _) => self.say("no event was accepted".to_owned()),
            (Some(accepted), Some(stored)) if accepted == stored => {}
            (Some(accepted), Some(stored)) => self.say(format!("{accepted} events accepted, {stored} stored")),
            (accepted, stored) => {
                self.say(format!("accepted and stored events can't be compared: {accepted:?}, {stored:?}"));
            }
        }
        if let Some(counters) = &run.counters {
            let discarded: u64 = counters.discarded.values().sum();
            if counters.received != counters.accepted + discarded {
                let (received, accepted) = (counters.received, counters.accepted);
                self.say(format!("{received} events received, but {accepted} accepted and {discarded} discarded"));
            }
        }
        match report.lost {
            Some(0) => {}
            Some(lost) => self.say(format!("{lost} events were acknowledged and are not stored")),
            None => self.say("lost events can't be counted".to_owned()),
        }
        if run.events_given_up > 0 {
            self.say(format!("{} events were given up by their viewers", run.events_given_up));
        }
        let refused: u64 = run.refused.values().sum();
        if refused > 0 {
            self.say(format!("{refused} events of well-behaved viewers were refused: {:?}", run.refused));
        }
        if report.views_started == 0 {
            self.say("no view started".to_owned());
        }
    }

    fn own_edges(&mut self, run: &Outcome, pathways: &[Pathway]) {
        for id in pathways.iter().filter(|pathway| pathway.is_own()).map(|pathway| &pathway.id) {
            match run.seen.own_peaks.get(id) {
                Some(peak) if *peak <= 1.0 => {}
                Some(peak) => self.say(format!("own edge {id} was at {:.1} % of its ceiling", peak * 100.0)),
                None => self.say(format!("own edge {id} never reported its load")),
            }
        }
    }

    fn manifests(&mut self, run: &Outcome, regions: &[String]) {
        match run.manifests_refused {
            Some(0) => {}
            Some(refused) => self.say(format!("{refused} manifests were refused by the steering node")),
            None => self.say("refused manifests can't be counted".to_owned()),
        }
        for text in &run.seen.bad_manifests {
            self.say(format!("manifest: {text}"));
        }
        for region in regions.iter().filter(|region| !run.seen.manifests.contains_key(*region)) {
            self.say(format!("region {region} has no manifest"));
        }
    }

    fn cell(&mut self, measured: &Measured, parts: &Parts, viewers: u32) {
        let (region, pathway) = (&parts.demo.outage.region, &parts.demo.outage.pathway);
        let Some((views, on)) = measured.cell else {
            return self.say("the outage did not begin".to_owned());
        };
        if viewers >= FULL_HOUSE && views < CELL_VIEWS_MIN {
            self.say(format!("{region} had {views} views when the outage began, fewer than {CELL_VIEWS_MIN}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "a few hundred views")]
        let share = on as f64 / views.max(1) as f64;
        if share < CELL_SHARE_MIN {
            self.say(format!(
                "{pathway} had {:.0} % of the {views} views of {region} when the outage began, fewer than {:.0} %",
                share * 100.0,
                CELL_SHARE_MIN * 100.0
            ));
        }
    }

    fn departures(&mut self, measured: &Measured) {
        let Some(departures) = &measured.departures else { return };
        let outage = &measured.report.outage;
        if departures.affected == 0 {
            return self.say("no steerable view was on the dead pathway".to_owned());
        }
        if !departures.stayed.is_empty() {
            let some: Vec<&str> = departures.stayed.iter().take(5).map(String::as_str).collect();
            self.say(format!(
                "{} of {} steerable views were still on the dead pathway at the end of its phase: {}",
                departures.stayed.len(),
                departures.affected,
                some.join(", ")
            ));
        }
        let left = departures.by_steering + departures.by_player;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred views")]
        let share = departures.by_steering as f64 / left.max(1) as f64;
        if share < STEERED_SHARE_MIN {
            self.say(format!(
                "{} of {left} views left by steering ({:.0} %), fewer than {:.0} %",
                departures.by_steering,
                share * 100.0,
                STEERED_SHARE_MIN * 100.0
            ));
        }
        match (outage.detect_s, measured.report.ttl_s, outage.leave_s_p95) {
            (None, ..) => self.say("the outage was not detected".to_owned()),
            (Some(detect_s), Some(ttl_s), Some(leave_s)) => {
                let most_s = detect_s + f64::from(ttl_s) + LEAVE_MARGIN_S;
                if leave_s > most_s {
                    self.say(format!("95 % of the views left within {leave_s:.1} s, later than {most_s:.1} s"));
                }
            }
            (_, ttl_s, leave_s) => {
                self.say(format!("times to leave can't be judged: TTL {ttl_s:?} s, leave {leave_s:?} s"));
            }
        }
    }

    fn harm(&mut self, measured: &Measured) {
        let outage = &measured.report.outage;
        match (outage.harmed_view_minutes, outage.harmed_view_minutes_static) {
            (Some(steered), Some(fixed)) if fixed > 0.0 && steered <= HARM_RATIO_MAX * fixed => {}
            (Some(steered), Some(fixed)) => {
                self.say(format!(
                    "{steered:.2} harmed view-minutes are not far fewer than {fixed:.2} without steering"
                ));
            }
            (steered, fixed) => {
                self.say(format!("harmed view-minutes can't be compared: {steered:?}, {fixed:?} without steering"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::api::CollectorCounters;
    use super::super::measure::Departures;
    use super::super::observe::Seen;
    use super::super::report::{OutageReport, Report};
    use super::*;

    fn all_well() -> (Measured, Outcome) {
        let outage = OutageReport {
            detect_s: Some(4.0),
            leave_s_p50: Some(6.0),
            leave_s_p95: Some(9.0),
            views_affected: 100,
            left_by_steering: 90,
            left_by_player: 10,
            harmed_view_minutes: Some(1.0),
            harmed_view_minutes_static: Some(30.0),
        };
        let report = Report {
            events_accepted: Some(5),
            events_stored: Some(5),
            lost: Some(0),
            views_started: 1,
            ttl_s: Some(5),
            outage,
            ..Report::default()
        };
        let departures = Departures { affected: 100, by_steering: 90, by_player: 10, ..Departures::default() };
        let counters = CollectorCounters { received: 5, accepted: 5, ..CollectorCounters::default() };
        let seen = Seen { own_peaks: BTreeMap::from([("own-1".to_owned(), 1.0)]), ..Seen::default() };
        let run = Outcome { counters: Some(counters), manifests_refused: Some(0), seen, ..Outcome::default() };
        (Measured { report, departures: Some(departures), cell: Some((180, 120)) }, run)
    }

    fn judge(measured: &Measured, run: &Outcome) -> Vec<String> {
        let mut out = Broken(run.broken.clone());
        let own = Pathway {
            id: "own-1".into(),
            base_url: String::new(),
            regions: vec![],
            group: None,
            capacity_mbps: 1.0,
            price_usd_per_gb: 0.0,
        };
        out.telemetry(measured, run);
        out.own_edges(run, &[own]);
        out.manifests(run, &[]);
        out.departures(measured);
        out.harm(measured);
        out.0
    }

    #[test]
    fn nothing_is_broken_when_all_is_well() {
        let (measured, run) = all_well();
        assert_eq!(judge(&measured, &run), Vec::<String>::new());
    }

    /// One change for the worse must break exactly one invariant, whose message holds `words`.
    #[track_caller]
    fn breaks(words: &str, change: impl Fn(&mut Measured, &mut Outcome)) {
        let (mut measured, mut run) = all_well();
        change(&mut measured, &mut run);
        let broken = judge(&measured, &run);
        assert!(broken.len() == 1 && broken[0].contains(words), "{words}: {broken:?}");
    }

    #[test]
    fn every_invariant_can_break() {
        breaks("5 events accepted, 4 stored", |m, _| m.report.events_stored = Some(4));
        breaks("3 events were acknowledged", |m, _| m.report.lost = Some(3));
        breaks("7 events received", |_, run| {
            run.counters = Some(CollectorCounters { received: 7, accepted: 5, ..CollectorCounters::default() });
        });
        breaks("given up", |_, run| run.events_given_up = 1);
        breaks("refused: {\"bad_value\": 2}", |_, run| {
            run.refused.insert("bad_value".into(), 2);
        });
        breaks("own-1 was at 100.1 %", |_, run| {
            run.seen.own_peaks.insert("own-1".into(), 1.001);
        });
        breaks("2 manifests were refused", |_, run| run.manifests_refused = Some(2));
        breaks("manifest: x", |_, run| run.seen.bad_manifests.push("x".into()));
        breaks("2 of 100 steerable views were still", |m, _| {
            m.departures.as_mut().expect("there").stayed = vec!["v".into(), "w".into()];
        });
        breaks("79 of 100 views left by steering", |m, _| {
            let departures = m.departures.as_mut().expect("there");
            (departures.by_steering, departures.by_player) = (79, 21);
        });
        breaks("within 11.1 s, later than 11.0 s", |m, _| m.report.outage.leave_s_p95 = Some(11.1));
        breaks("not far fewer", |m, _| m.report.outage.harmed_view_minutes = Some(15.1));
        breaks("no view started", |m, _| m.report.views_started = 0);
    }

    #[test]
    fn what_could_not_be_measured_is_broken() {
        breaks("can't be compared", |m, _| m.report.events_stored = None);
        breaks("no event was accepted", |m, _| (m.report.events_accepted, m.report.events_stored) = (Some(0), Some(0)));
        breaks("lost events can't be counted", |m, _| m.report.lost = None);
        breaks("never reported its load", |_, run| run.seen.own_peaks.clear());
        breaks("refused manifests can't be counted", |_, run| run.manifests_refused = None);
        breaks("not detected", |m, _| m.report.outage.detect_s = None);
        breaks("times to leave can't be judged", |m, _| m.report.ttl_s = None);
        breaks("no steerable view", |m, _| m.departures = Some(Departures::default()));
        breaks("harmed view-minutes can't be compared", |m, _| m.report.outage.harmed_view_minutes_static = None);
        breaks("not far fewer", |m, _| m.report.outage.harmed_view_minutes_static = Some(0.0));
    }
}

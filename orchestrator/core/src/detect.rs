//! Third stage: which pathway is ill in a region, which only seems so, and why.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{OriginGroupId, PathwayId, RegionId, TimestampMs, Verdict};

use crate::Parameters;
use crate::fast::{is_hard, lone_network, reference};
use crate::memory::CellMemory;
use crate::observe::{CellSeen, Failing, Observed};

/// What a pathway's state machine is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// Nothing.
    #[default]
    None,
    /// Measurably worse than the others.
    Degraded,
    /// Dead.
    Down,
}

/// A pathway's finding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finding {
    pub alarm: Alarm,
    /// Why, with numbers.
    pub text: String,
    /// No sign of a fault at all.
    pub quiet: bool,
}

/// What detection looks at.
pub(crate) struct Scene<'a> {
    pub now: TimestampMs,
    pub parameters: &'a Parameters,
    pub region: &'a RegionId,
    pub observed: &'a Observed,
    pub cells: &'a BTreeMap<PathwayId, CellMemory>,
    /// By pathway: those that don't die together with it.
    pub apart: &'a BTreeMap<PathwayId, BTreeSet<PathwayId>>,
    pub origin_of: &'a BTreeMap<PathwayId, OriginGroupId>,
    /// Bad-window rate by pathway over all regions.
    pub parents: &'a BTreeMap<PathwayId, f64>,
    /// Failing views by region and pathway.
    pub failing: &'a BTreeMap<RegionId, BTreeMap<PathwayId, Failing>>,
    /// Beacons can't be trusted here now.
    pub telemetry_lost: bool,
    /// Highest utilisation of the last minute.
    pub fullest: &'a BTreeMap<PathwayId, f64>,
    /// Own edges whose load reports stopped.
    pub reports_gone: &'a BTreeSet<PathwayId>,
    /// Origin groups that other evidence says are failing.
    pub origins_failing: &'a BTreeSet<OriginGroupId>,
}

/// Findings by pathway, and the region's verdicts in words.
pub(crate) fn detect(scene: &Scene<'_>) -> (BTreeMap<PathwayId, Finding>, Vec<String>) {
    let mut verdicts = Vec::new();
    if scene.telemetry_lost {
        verdicts.push(format!("{}: beacons are missing here, weights stay as they are", Verdict::Telemetry));
    }
    let mut findings = BTreeMap::new();
    for (id, memory) in scene.cells {
        let Some(seen) = scene.observed.cell(scene.region, id) else { continue };
        findings.insert(id.clone(), scene.finding(id, memory, seen, &mut verdicts));
    }
    verdicts.extend(scene.common_fault(&findings));
    (findings, verdicts)
}

impl Scene<'_> {
    fn finding(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen, verdicts: &mut Vec<String>) -> Finding {
        let candidates = [
            self.gone(id, memory),
            self.fast_lane(id, memory, verdicts),
            self.slow_lane(id, memory, seen, verdicts),
            self.silence(id, memory, seen),
            self.probes_alone(id, memory, seen),
        ];
        let mut finding = Finding { quiet: self.quiet(id, memory), ..Finding::default() };
        for (alarm, text) in candidates.into_iter().flatten() {
            if alarm > finding.alarm {
                finding = Finding { alarm, text, quiet: false };
            }
        }
        if finding.alarm != Alarm::None {
            verdicts.push(format!("{id}: {}", finding.text));
        }
        finding
    }

    /// An own edge that neither reports nor answers is dead.
    fn gone(&self, id: &PathwayId, memory: &CellMemory) -> Option<(Alarm, String)> {
        let dead = self.reports_gone.contains(id) && memory.probes.bad_rounds(self.now, self.parameters) > 0;
        dead.then(|| (Alarm::Down, format!("{}: no load reports and probes fail", Verdict::Path)))
    }

    fn fast_lane(&self, id: &PathwayId, memory: &CellMemory, verdicts: &mut Vec<String>) -> Option<(Alarm, String)> {
        let parameters = self.parameters;
        let here = self.failing.get(self.region)?;
        let own = here.get(id)?;
        if !is_hard(own, parameters) {
            return None;
        }
        let others = self.others(id, here);
        let reference = reference(own, &others, &self.world(id), parameters);
        let count = format!("{:.0} of {:.0} views failing in {} s", own.failing, own.views, parameters.fast_window_s);
        if let Some(asn) = lone_network(own, &others, parameters) {
            let name = asn.map_or("an unknown network".to_owned(), |asn| format!("AS{asn}"));
            verdicts.push(format!("{} {id}: {count}, nearly all in {name}, nobody to compare with", Verdict::Access));
            return None;
        }
        let others_text = match reference {
            Some(reference) if own.share() <= parameters.fast_times_reference * reference => return None,
            Some(reference) => format!("others {:.0} %", reference * 100.0),
            None if !self.alone_is_ill(id, memory, own) => {
                verdicts.push(format!("{id}: {count}, nobody to compare with, probes don't confirm"));
                return None;
            }
            None => "nobody to compare with".to_owned(),
        };
        if self.shielded_by_origin(id, memory) {
            verdicts.push(format!("{} {id}: {count}, but its origin is failing", Verdict::Origin));
            return None;
        }
        let fullest = self.fullest.get(id).copied().unwrap_or(0.0);
        if fullest > parameters.capacity_utilisation && own.share() < parameters.capacity_fail_max {
            verdicts.push(format!("{} {id}: {count} at {:.0} % utilisation", Verdict::Capacity, fullest * 100.0));
            return None;
        }
        Some((Alarm::Down, format!("{}: {count}, {others_text}", Verdict::Path)))
    }

    /// Without any reference the probes decide; without probes half of the views failing is enough.
    fn alone_is_ill(&self, id: &PathwayId, memory: &CellMemory, own: &Failing) -> bool {
        match memory.probes.verdict(self.now, self.parameters) {
            Some(good) => !good && self.someone_answers(memory),
            // The last one standing is kept: there is nowhere to go.
            None => own.share() >= self.parameters.fast_small_share && self.comparable(id).next().is_some(),
        }
    }

    fn someone_answers(&self, except: &CellMemory) -> bool {
        self.cells
            .values()
            .any(|cell| !std::ptr::eq(cell, except) && cell.probes.verdict(self.now, self.parameters) == Some(true))
    }

    fn slow_lane(
        &self,
        id: &PathwayId,
        memory: &CellMemory,
        seen: &CellSeen,
        verdicts: &mut Vec<String>,
    ) -> Option<(Alarm, String)> {
        if self.telemetry_lost {
            return None;
        }
        let parameters = self.parameters;
        let parent = self.parents.get(id).copied().unwrap_or(memory.baseline);
        let rate = memory.health.estimate(parent, parameters);
        let sum = memory.cusum.sum;
        let ill = sum > parameters.cusum_degraded
            && rate > parameters.degraded_rate.max(parameters.degraded_times_baseline * memory.baseline)
            && memory.cusum.others_are_well();
        let dead = (ill && sum > parameters.cusum_down && rate > parameters.down_rate)
            || (sum > parameters.cusum_degraded / 2.0 && memory.cusum.others_are_well() && self.bad_ticks(id, seen));
        if !ill && !dead {
            return None;
        }
        let text = format!("{:.1} % of windows bad (S {sum:.0}, usual {:.1} %)", rate * 100.0, memory.baseline * 100.0);
        if self.shielded_by_origin(id, memory) {
            verdicts.push(format!("{} {id}: {text}, but its origin is failing", Verdict::Origin));
            return None;
        }
        let fullest = self.fullest.get(id).copied().unwrap_or(0.0);
        if fullest > parameters.capacity_utilisation {
            verdicts.push(format!("{} {id}: {text} at {:.0} % utilisation", Verdict::Capacity, fullest * 100.0));
            return None;
        }
        let alarm = if dead { Alarm::Down } else { Alarm::Degraded };
        Some((alarm, format!("{}: {text}", Verdict::Path)))
    }

    /// Two ticks of 10 s (one, if it has many windows) with a bad share that is high and far above the others'.
    fn bad_ticks(&self, id: &PathwayId, seen: &CellSeen) -> bool {
        let latest = self.observed.latest_s(self.region) + 1;
        let parameters = self.parameters;
        let bad_tick = |from: u64, to: u64, least: f64| {
            let (windows, bad) = seen.windows_between(from, to);
            let (others_windows, others_bad) = self
                .comparable(id)
                .map(|(_, seen)| seen.windows_between(from, to))
                .fold((0.0, 0.0), |sum, tick| (sum.0 + tick.0, sum.1 + tick.1));
            let reference = (others_bad + 10.0 * parameters.baseline_default) / (others_windows + 10.0);
            windows >= least
                && bad > parameters.tick_bad_share * windows
                && bad / windows > parameters.fast_times_reference * reference
        };
        let last = |least| bad_tick(latest.saturating_sub(10), latest, least);
        let before = |least| bad_tick(latest.saturating_sub(20), latest.saturating_sub(10), least);
        last(parameters.tick_windows_sure) || (last(parameters.tick_windows_min) && before(parameters.tick_windows_min))
    }

    /// Heartbeats that are due and don't come, while the neighbours' do.
    fn silence(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen) -> Option<(Alarm, String)> {
        let parameters = self.parameters;
        let from = (self.observed.latest_s(self.region) + 1).saturating_sub(parameters.silence_window_s);
        let (due, received) = seen.heartbeats_since(from);
        let missing = due.saturating_sub(received);
        if self.telemetry_lost
            || due < parameters.silence_due_min
            || (missing as f64) < parameters.silence_share * due as f64
        {
            return None;
        }
        let (others_due, others_received) = self
            .comparable(id)
            .map(|(_, seen)| seen.heartbeats_since(from))
            .fold((0, 0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
        let reference = (others_due.saturating_sub(others_received) as f64 + 0.2) / (others_due as f64 + 4.0);
        let share = missing as f64 / due as f64;
        if others_due < parameters.silence_due_min / 2 || share <= parameters.fast_times_reference * reference {
            return None;
        }
        let confirmed = memory.probes.bad_rounds(self.now, parameters) > 0;
        let text = format!(
            "{}: {missing} of {due} heartbeats missing in {} s, others {:.0} %{}",
            Verdict::Path,
            parameters.silence_window_s,
            reference * 100.0,
            if confirmed { ", probes fail too" } else { "" }
        );
        Some((if confirmed { Alarm::Down } else { Alarm::Degraded }, text))
    }

    /// Probes decide alone only where viewers can't tell.
    fn probes_alone(&self, id: &PathwayId, memory: &CellMemory, seen: &CellSeen) -> Option<(Alarm, String)> {
        let parameters = self.parameters;
        let thin = seen.views_active() < parameters.probe_views_max;
        let rounds = memory.probes.bad_rounds(self.now, parameters);
        let wanted = (thin || self.telemetry_lost) && rounds >= parameters.probe_rounds;
        if !wanted || !self.someone_answers(memory) || self.shielded_by_origin(id, memory) {
            return None;
        }
        let detail = memory.probes.detail.as_str();
        let detail = if detail.is_empty() { "failed" } else { detail };
        Some((Alarm::Down, format!("{}: {rounds} probes in a row bad ({detail}), others good", Verdict::Path)))
    }

    fn shielded_by_origin(&self, id: &PathwayId, memory: &CellMemory) -> bool {
        self.origin_of.get(id).is_some_and(|origin| self.origins_failing.contains(origin))
            && !memory.probes.small_fails(self.now, self.parameters)
    }

    fn quiet(&self, id: &PathwayId, memory: &CellMemory) -> bool {
        let parent = self.parents.get(id).copied().unwrap_or(memory.baseline);
        let failing = self.failing.get(self.region).and_then(|here| here.get(id)).map_or(0.0, Failing::share);
        memory.cusum.sum < 1.0
            && memory.health.estimate(parent, self.parameters) < 2.0 * memory.baseline.max(parent)
            && failing < self.parameters.fast_share / 2.0
            && memory.probes.bad_rounds(self.now, self.parameters) == 0
    }

    /// Other pathways of the region that are a fair comparison: they don't die together with this one, and aren't
    /// known to be ill themselves.
    pub(crate) fn comparable(&self, id: &PathwayId) -> impl Iterator<Item = (&PathwayId, &CellSeen)> {
        let apart = self.apart.get(id);
        self.observed.region(self.region).filter(move |(other, _)| {
            apart.is_some_and(|apart| apart.contains(*other))
                && self.cells.get(*other).is_some_and(|cell| cell.machine.is_reference())
        })
    }

    fn others<'f>(&self, id: &PathwayId, here: &'f BTreeMap<PathwayId, Failing>) -> Vec<&'f Failing> {
        self.comparable(id).filter_map(|(other, _)| here.get(other)).filter(|other| other.views > 0.0).collect()
    }

    /// What shares the origin in other regions and doesn't die together with this pathway.
    fn world(&self, id: &PathwayId) -> Failing {
        let mut out = Failing::default();
        let origin = self.origin_of.get(id);
        let apart = self.apart.get(id);
        for cells in self.failing.iter().filter(|(region, _)| *region != self.region).map(|(_, cells)| cells) {
            for (other, failing) in cells {
                if apart.is_some_and(|apart| apart.contains(other)) && self.origin_of.get(other) == origin {
                    out.add(&Failing { networks: BTreeMap::new(), ..failing.clone() });
                }
            }
        }
        out
    }

    /// A fault that the pathways share: behind them, or in front of them.
    fn common_fault(&self, findings: &BTreeMap<PathwayId, Finding>) -> Option<String> {
        let here = self.failing.get(self.region)?;
        let unmoved = |id: &PathwayId| findings.get(id).is_some_and(|finding| finding.alarm == Alarm::None);
        let hard: Vec<&PathwayId> = here
            .iter()
            .filter(|(id, failing)| is_hard(failing, self.parameters) && unmoved(id))
            .map(|(id, _)| id)
            .collect();
        if hard.is_empty() {
            return None;
        }
        let mut all = Failing::default();
        here.values().for_each(|failing| all.add(failing));
        let count = format!("{:.0} of {:.0} views failing on all pathways alike", all.failing, all.views);
        let worst = all.networks.iter().max_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
        if let Some((asn, (views, failing))) = worst
            && *failing >= self.parameters.asn_concentration * all.failing
            && *views < 0.9 * all.views
        {
            let name = asn.map_or("an unknown network".to_owned(), |asn| format!("AS{asn}"));
            return Some(format!("{}: {count}, nearly all in {name}", Verdict::Access));
        }
        Some(format!("{}: {count}", Verdict::Origin))
    }
}

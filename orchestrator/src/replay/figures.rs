//! Adds up what two policies would have meant.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{PathwayId, RegionId, TimestampMs};
use spillway_orchestrator_core::{RoundInput, Setup};

use super::arm::{Arm, Course};
use super::rates::{Rates, Windows, fresh};
use super::report::{Both, LeftOut, PathwayFigures, PathwayReport, PolicyFigures, RegionReport, Report, Sample};

/// Points of the report's timeline at most.
const SAMPLES_MAX: usize = 240;

/// Bits of a GB.
const GB_BITS: f64 = 8e9;

/// Sums of one policy in one region.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    bad: f64,
    hardly: f64,
    usd: f64,
}

#[derive(Clone, Debug, Default)]
struct RegionSums {
    windows: Windows,
    both: Both<Sums>,
    gb: f64,
}

/// Everything that is added up.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    rates: Rates,
    regions: BTreeMap<RegionId, RegionSums>,
    peaks: BTreeMap<PathwayId, Both<Option<f64>>>,
    heard: BTreeMap<(RegionId, PathwayId), f64>,
    samples: Vec<Sample>,
    /// Rounds that a sample stands for; doubles when there are too many.
    each: u64,
    seconds: f64,
}

impl Figures {
    /// Adds a round that both have decided.
    pub fn round(&mut self, now: TimestampMs, seconds: Option<f64>, input: &RoundInput, base: &Arm, new: &Arm) {
        let fresh = fresh(input);
        self.rates.take(seconds.unwrap_or(0.0), &fresh);
        for (region, pathways) in &fresh {
            for (pathway, windows) in pathways {
                *self.heard.entry((region.clone(), pathway.clone())).or_default() += windows.all;
            }
        }
        let Some(seconds) = seconds else { return };
        self.seconds += seconds;
        let mut sample = Sample { at_ms: now.0, ..Sample::default() };
        let mut loads: BTreeMap<PathwayId, Both<f64>> = BTreeMap::new();
        let p = &base.setup().parameters;
        for region in base.regions().filter(|region| new.setup().regions.contains_key(*region)) {
            let windows =
                fresh.get(region).into_iter().flat_map(BTreeMap::values).fold(Windows::default(), |sum, windows| {
                    Windows { all: sum.all + windows.all, bad: sum.bad + windows.bad }
                });
            // The same demand for both: what differs is where it goes.
            let demand = base.plan(region).map_or(0.0, |plan| plan.demand.0 as f64);
            let gb = demand * seconds / GB_BITS;
            let of = |arm: &Arm| -> Sums {
                let mut sums = Sums::default();
                for (pathway, share) in arm.followed(region).into_iter().flatten() {
                    let rate = self.rates.of(region, pathway, (base, new), p);
                    sums.bad += windows.all * share * rate.bad;
                    sums.hardly += if rate.hardly_observed { windows.all * share } else { 0.0 };
                }
                for (pathway, share) in arm.held(region).into_iter().flatten() {
                    let trace = arm.plan(region).and_then(|plan| plan.trace.get(pathway));
                    sums.usd += gb * share * trace.map_or(0.0, |trace| trace.price_usd_per_gb);
                }
                sums
            };
            let (of_base, of_new) = (of(base), of(new));
            sample.windows += windows.all;
            sample.observed_bad += windows.bad;
            sample.base_bad += of_base.bad;
            sample.new_bad += of_new.bad;
            for (pathway, share) in base.held(region).into_iter().flatten() {
                loads.entry(pathway.clone()).or_default().base += share * demand;
            }
            for (pathway, share) in new.held(region).into_iter().flatten() {
                loads.entry(pathway.clone()).or_default().new += share * demand;
            }
            let sums = self.regions.entry(region.clone()).or_default();
            sums.windows.all += windows.all;
            sums.windows.bad += windows.bad;
            sums.gb += gb;
            sums.both.base.add(of_base);
            sums.both.new.add(of_new);
        }
        for (pathway, load) in loads {
            let peak = self.peaks.entry(pathway.clone()).or_default();
            rise(&mut peak.base, base.capacity(&pathway).map(|ceiling| load.base / ceiling.max(1.0)));
            rise(&mut peak.new, new.capacity(&pathway).map(|ceiling| load.new / ceiling.max(1.0)));
        }
        self.sample(sample);
    }

    fn sample(&mut self, sample: Sample) {
        self.each = self.each.max(1);
        match self.samples.last_mut().filter(|last| last.rounds < self.each) {
            Some(last) => last.add(&sample),
            None => self.samples.push(Sample { rounds: 1, ..sample }),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.each *= 2;
            let pairs = std::mem::take(&mut self.samples);
            self.samples = pairs.chunks(2).map(Sample::sum).collect();
        }
    }

    /// Evidence that a deployment doesn't have a place for.
    pub fn left_out(&self, base: &Setup, new: &Setup) -> Vec<LeftOut> {
        let all: f64 = self.heard.values().sum();
        let mut out = Vec::new();
        for ((region, pathway), windows) in &self.heard {
            for (setup, of) in [(base, "base"), (new, "new")] {
                let known = setup.regions.contains_key(region)
                    && setup
                        .pathways
                        .get(pathway)
                        .is_some_and(|declared| declared.regions.is_empty() || declared.regions.contains(region));
                if !known {
                    out.push(LeftOut::new(pathway, region, of, windows / all.max(1e-9)));
                }
            }
        }
        out
    }

    /// The figures of a report; the rest of it is empty.
    pub fn finish(self, base: &Arm, new: &Arm) -> Report {
        let (seconds, hours) = (self.seconds, self.seconds / 3600.0);
        let mut regions: BTreeMap<String, RegionReport> = BTreeMap::new();
        let mut total = RegionReport::default();
        for (id, sums) in &self.regions {
            let of = |arm: &Arm, sums: &Sums, windows: f64| PolicyFigures {
                epochs: arm.moves(id).epochs,
                shares_moved: arm.moves(id).moved,
                bad_windows: sums.bad,
                bad_share: sums.bad / windows.max(1e-9),
                hardly_observed_share: sums.hardly / windows.max(1e-9),
                cost_usd: sums.usd,
                cost_usd_per_hour: if hours > 0.0 { sums.usd / hours } else { 0.0 },
            };
            let region = RegionReport {
                windows: sums.windows.all,
                bad_windows_observed: sums.windows.bad,
                planned_gb: sums.gb,
                base: of(base, &sums.both.base, sums.windows.all),
                new: of(new, &sums.both.new, sums.windows.all),
                pathways: pathways(id, base, new, seconds),
            };
            total.add(&region);
            regions.insert(id.to_string(), region);
        }
        total.close();
        let peak = |(id, peak): (PathwayId, Both<Option<f64>>)| (id.to_string(), peak);
        let planned_peak_utilisation = self.peaks.into_iter().map(peak).collect();
        Report { regions, total, planned_peak_utilisation, timeline: self.samples, ..Report::default() }
    }
}

impl Sums {
    fn add(&mut self, more: Self) {
        self.bad += more.bad;
        self.hardly += more.hardly;
        self.usd += more.usd;
    }
}

fn rise(peak: &mut Option<f64>, now: Option<f64>) {
    if let Some(now) = now {
        *peak = Some(peak.map_or(now, |peak| peak.max(now)));
    }
}

fn pathways(region: &RegionId, base: &Arm, new: &Arm, seconds: f64) -> BTreeMap<String, PathwayReport> {
    let of = |arm: &Arm| -> BTreeMap<PathwayId, Course> {
        let here = arm.courses().filter(|(of, ..)| *of == region);
        here.map(|(_, pathway, course)| (pathway.clone(), course.clone())).collect()
    };
    let (base, new) = (of(base), of(new));
    let all: BTreeSet<&PathwayId> = base.keys().chain(new.keys()).collect();
    let figures = |course: &Course| PathwayFigures {
        mean_share: course.share_s / seconds.max(1e-9),
        first_degraded_ms: course.first_degraded_ms,
        first_down_ms: course.first_down_ms,
        degraded_s: course.degraded_s,
        down_s: course.down_s,
        changes: course.changes.clone(),
    };
    let later = |base: Option<u64>, new: Option<u64>| Some((new? as f64 - base? as f64) / 1e3);
    all.into_iter()
        .map(|id| {
            let (base, new) = (base.get(id).map(figures), new.get(id).map(figures));
            let of = |figures: &Option<PathwayFigures>, time: fn(&PathwayFigures) -> Option<u64>| {
                figures.as_ref().and_then(time)
            };
            let report = PathwayReport {
                degraded_later_s: later(of(&base, |f| f.first_degraded_ms), of(&new, |f| f.first_degraded_ms)),
                down_later_s: later(of(&base, |f| f.first_down_ms), of(&new, |f| f.first_down_ms)),
                base,
                new,
            };
            (id.to_string(), report)
        })
        .collect()
}

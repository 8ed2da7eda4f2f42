//! Measures a run, whatever its mode.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, PathwayState};
use spillway_routing::{Manifest, Target};

use crate::bill::Bill;
use crate::faults::{Broken, in_cohort, of_path};
use crate::format::{Events, Fault, Mode, Scenario};
use crate::outcome::{Sample, Timeline};
use crate::policies::Policy;
use crate::routing::Shares;
use crate::world::{World, by_path};
use crate::{Outcome, StateChange, WeightChange};

/// At the beginning nothing has been measured by the policies: nothing counts before.
pub(crate) const SETTLED_S: u64 = 120;
/// Samples of a timeline.
const SAMPLES: u64 = 240;
/// Bits out are looked at as a mean of so many seconds.
const SMOOTH_S: f64 = 10.0;

/// What a step delivered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    /// Views, by cell.
    pub views: Vec<f64>,
    /// Bad share, by cell.
    pub bad: Vec<f64>,
    /// Of it, what is beyond any day's, by cell.
    pub excess: Vec<f64>,
    /// Bad share that no pathway is to blame for, by cohort.
    pub blameless: Vec<f64>,
    /// Bit/s wanted of each pathway.
    pub load: Vec<f64>,
    /// Bit/s that each can carry.
    pub capacity: Vec<f64>,
    /// Bit/s out of the origin.
    pub origin: f64,
    /// Delivered ÷ wanted.
    pub bitrate_share: f64,
}

pub(crate) struct Meter<'a> {
    world: &'a World,
    events: &'a Events,
    engine: bool,
    session: bool,
    out: Outcome,
    bill: Bill,
    settled_s: u64,
    windows: f64,
    bad: f64,
    excess: f64,
    bits: f64,
    above: f64,
    bitrate: (f64, f64),
    smooth: Vec<f64>,
    origin: f64,
    origin_before: (f64, f64),
    origin_highest: f64,
    fault: Option<&'a Fault>,
    cells: Vec<usize>,
    /// Share that the faulty pathway had when the fault began.
    share_before: f64,
    views_before: f64,
    shares: Vec<Vec<f64>>,
    lines: Vec<usize>,
    next_sample: u64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(world: &'a World, scenario: &'a Scenario, policy: Policy, mode: Mode, seed: u64) -> Self {
        let events = &scenario.events;
        let fault = events.fault.iter().find(|fault| fault.kind.is_of_pathway());
        let hit = |fault: &Fault, i: usize| {
            let (c, p) = (i / world.paths.len(), i % world.paths.len());
            world.serves[i] && in_cohort(world, fault, c) && of_path(world, fault, p)
        };
        let cells = fault.map_or(Vec::new(), |fault| (0..world.cells()).filter(|i| hit(fault, *i)).collect());
        let mut names: Vec<String> = Vec::new();
        let mut lines = Vec::new();
        for path in &world.paths {
            let name = path.group.as_ref().map_or(path.id.as_str(), |group| group.as_str());
            let line = names.iter().position(|known| known == name).unwrap_or(names.len());
            if line == names.len() {
                names.push(name.to_owned());
            }
            lines.push(line);
        }
        let begun = events.fault.iter().map(|f| f.start_s).chain(events.surge.iter().map(|s| s.start_s)).min();
        Self {
            engine: policy.is_engine(),
            session: mode == Mode::Session,
            out: Outcome {
                scenario: events.name.clone(),
                policy: policy.as_str().into(),
                mode: mode.as_str().into(),
                seed,
                timeline: Timeline { lines: names, samples: Vec::new() },
                ..Outcome::default()
            },
            bill: Bill::new(world),
            settled_s: SETTLED_S.min(begun.unwrap_or(SETTLED_S)).min(events.seconds / 4),
            windows: 0.0,
            bad: 0.0,
            excess: 0.0,
            bits: 0.0,
            above: 0.0,
            bitrate: (0.0, 0.0),
            smooth: vec![0.0; world.paths.len()],
            origin: 0.0,
            origin_before: (0.0, 0.0),
            origin_highest: 0.0,
            fault,
            cells,
            share_before: 0.0,
            views_before: 0.0,
            shares: vec![Vec::new(); world.regions.len()],
            lines,
            next_sample: 0,
            world,
            events,
        }
    }

    /// When the first fault of a pathway begins.
    pub(crate) fn fault_start(&self) -> u64 {
        self.fault.map_or(u64::MAX, |fault| fault.start_s)
    }

    pub(crate) fn out(&mut self) -> &mut Outcome {
        &mut self.out
    }

    /// Weight of the broken pathways among new views of those that it breaks for.
    fn faulty(&self, shares: &[Shares]) -> f64 {
        let n = self.world.paths.len();
        let of = |i: &usize| {
            let cohort = &self.world.cohorts[i / n];
            let region = &self.world.regions[cohort.region];
            let row = i / n - region.cohorts.start;
            shares.get(cohort.region).map_or(0.0, |s| s.new[row * n + i % n]) * cohort.part * region.views
        };
        self.cells.iter().map(of).sum()
    }

    /// Remembers the shares before the fault.
    pub(crate) fn fault_begins(&mut self, shares: &[Shares]) {
        self.share_before = self.faulty(shares);
    }

    /// A manifest takes effect.
    pub(crate) fn publish(&mut self, second: u64, r: usize, last: Option<&Manifest>, next: &Manifest, shares: &Shares) {
        self.out.epochs += 1;
        if self.engine {
            self.note_states(second, r, last, next);
        }
        self.note_weight(second, r, next);
        let n = self.world.paths.len();
        let region = &self.world.regions[r];
        let mean: Vec<f64> = (0..n)
            .map(|p| {
                region
                    .cohorts
                    .clone()
                    .enumerate()
                    .map(|(k, c)| shares.new[k * n + p] * self.world.cohorts[c].part)
                    .sum()
            })
            .collect();
        let before = std::mem::replace(&mut self.shares[r], mean);
        let all: f64 = self.world.regions.iter().map(|region| region.views).sum();
        if second >= self.settled_s && !before.is_empty() {
            let moved: f64 = before.iter().zip(&self.shares[r]).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
            self.out.moved += moved * region.views / all;
        }
    }

    /// After all manifests of a round: has the broken pathway been left?
    pub(crate) fn published(&mut self, second: u64, shares: &[Shares]) {
        let Some(fault) = self.fault else { return };
        let during = (fault.start_s + 1..=fault.end_s).contains(&second);
        if self.out.detect_s.is_none()
            && during
            && self.share_before > 0.0
            && self.faulty(shares) <= 0.5 * self.share_before
        {
            self.out.detect_s = Some((second - fault.start_s) as f64);
        }
    }

    /// One step of `dt` s from `second` on. `following`: views by first place that steering could move.
    pub(crate) fn step(
        &mut self,
        second: u64,
        dt: u64,
        flow: &Flow,
        following: impl Fn(usize) -> f64,
        _broken: &Broken,
    ) {
        let span = dt as f64;
        let n = self.world.paths.len();
        let (mut windows, mut bad, mut excess) = (0.0, 0.0, 0.0);
        for (i, views) in flow.views.iter().enumerate().filter(|(_, views)| **views > 0.0) {
            let blameless = flow.blameless[i / n];
            let part = 1.0 - (1.0 - flow.bad[i]) * (1.0 - blameless);
            windows += views;
            bad += views * part;
            excess += views * (1.0 - (1.0 - flow.excess[i]) * (1.0 - blameless));
        }
        let load: f64 = flow.load.iter().sum();
        let above: f64 = flow.load.iter().zip(&flow.capacity).map(|(load, capacity)| (load - capacity).max(0.0)).sum();
        // The load of players is a mean already.
        let part = if self.session { 1.0 } else { (span / SMOOTH_S).min(1.0) };
        for (p, smooth) in self.smooth.iter_mut().enumerate() {
            *smooth += if second == 0 { 1.0 } else { part } * (flow.load[p] / flow.capacity[p] - *smooth);
        }
        self.origin += if second == 0 { 1.0 } else { part } * (flow.origin - self.origin);
        let delivered: Vec<f64> =
            flow.load.iter().zip(&flow.capacity).map(|(load, capacity)| load.min(*capacity)).collect();
        let cost = self.bill.add(&delivered, second, dt);
        if second >= self.settled_s {
            self.windows += windows * span;
            self.bad += bad * span;
            self.excess += excess * span;
            self.bits += load * span;
            self.above += above * span;
            self.bitrate.0 += flow.bitrate_share * span;
            self.bitrate.1 += span;
            self.origin_highest = self.origin_highest.max(self.origin);
            for (path, smooth) in self.world.paths.iter().zip(&self.smooth) {
                let peak = self.out.peak_utilisation.entry(path.id.as_str().to_owned()).or_default();
                *peak = peak.max(*smooth);
            }
        }
        let first =
            self.events.fault.iter().map(|f| f.start_s).chain(self.events.surge.iter().map(|s| s.start_s)).min();
        if second < first.unwrap_or(self.events.seconds / 4) && second >= self.settled_s.min(60) / 2 {
            self.origin_before.0 += flow.origin * span;
            self.origin_before.1 += span;
        }
        self.watch_leaving(second, dt, &following);
        if second >= self.next_sample {
            self.next_sample += (self.events.seconds / SAMPLES).max(dt);
            self.sample(second, flow, bad / windows.max(1e-9), cost);
        }
    }

    /// What the lake would tell of contracts; see [`Bill::so_far`].
    pub(crate) fn bills(&self, profile: f64) -> BTreeMap<PathwayId, spillway_orchestrator_core::Bill> {
        self.bill.so_far(profile, self.events.seconds)
    }

    fn watch_leaving(&mut self, second: u64, dt: u64, following: &impl Fn(usize) -> f64) {
        let Some(fault) = self.fault.filter(|_| !self.session) else { return };
        let there = |cells: &[usize]| cells.iter().map(|i| following(*i)).sum::<f64>();
        if second + dt == fault.start_s || (fault.start_s == 0 && second == 0) {
            self.views_before = there(&self.cells);
        } else if (fault.start_s..fault.end_s).contains(&second) && self.views_before > 0.0 {
            let left = 1.0 - there(&self.cells) / self.views_before;
            let now = Some((second + dt - fault.start_s) as f64);
            if left >= 0.5 && self.out.leave_s_p50.is_none() {
                self.out.leave_s_p50 = now;
            }
            if left >= 0.95 && self.out.leave_s_p95.is_none() {
                self.out.leave_s_p95 = now;
            }
        }
    }

    fn sample(&mut self, second: u64, flow: &Flow, bad: f64, cost: f64) {
        let views = by_path(self.world, &flow.views);
        let all: f64 = views.iter().sum::<f64>().max(1e-9);
        let count = self.out.timeline.lines.len();
        let (mut shares, mut utilisation) = (vec![0.0; count], vec![0.0_f64; count]);
        for (p, line) in self.lines.iter().enumerate() {
            shares[*line] += views[p] / all;
            utilisation[*line] = utilisation[*line].max(flow.load[p] / flow.capacity[p]);
        }
        let usual = self.origin_before.0 / self.origin_before.1.max(1e-9);
        let origin = if usual > 0.0 { flow.origin / usual } else { 1.0 };
        self.out.timeline.samples.push(Sample { at_s: second, shares, utilisation, bad, origin, cost });
    }

    fn note_states(&mut self, second: u64, r: usize, last: Option<&Manifest>, next: &Manifest) {
        for (id, pathway) in &next.pathways {
            let before = last.and_then(|last| last.pathways.get(id)).map_or(PathwayState::Healthy, |p| p.state);
            if before != pathway.state {
                self.out.state_changes.push(StateChange {
                    at_s: second,
                    region: self.world.regions[r].id.to_string(),
                    pathway: id.to_string(),
                    state: pathway.state.to_string(),
                    reason: pathway.reason.clone(),
                });
            }
        }
    }

    fn note_weight(&mut self, second: u64, r: usize, next: &Manifest) {
        let Some((fault, pathway)) = self.fault.and_then(|fault| Some((fault, fault.pathway.as_deref()?))) else {
            return;
        };
        let wanted = fault.region.as_deref().unwrap_or(self.world.regions[0].id.as_str());
        if wanted != self.world.regions[r].id.as_str() {
            return;
        }
        let is_it = |target: &Target| target.as_str() == pathway;
        let rule = next.cohorts.iter().find(|rule| rule.asn.is_none());
        let weight = rule.and_then(|rule| rule.weights_new.iter().find(|(target, _)| is_it(target)));
        let weight_ppm = weight.map_or(0, |(_, weight)| *weight);
        if self.out.faulty_weight.last().is_none_or(|last| last.weight_ppm != weight_ppm) {
            self.out.faulty_weight.push(WeightChange { at_s: second, weight_ppm });
        }
    }

    pub(crate) fn finish(mut self) -> Outcome {
        self.out.bad_share = self.bad / self.windows.max(1e-9);
        self.out.harmed_view_minutes = self.bad / 60.0;
        self.out.excess_view_minutes = self.excess / 60.0;
        self.out.overload_share = self.above / self.bits.max(1e-9);
        self.out.bitrate_share = self.bitrate.0 / self.bitrate.1.max(1e-9);
        self.out.bills = self.bill.billed();
        self.out.cost_usd = self.out.bills.values().map(|billed| billed.usd).sum();
        let before = self.origin_before.0 / self.origin_before.1.max(1e-9);
        self.out.origin_peak = if before > 0.0 { self.origin_highest / before } else { 1.0 };
        self.out
    }
}

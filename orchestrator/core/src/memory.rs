//! What is remembered between rounds of each cell and each pathway.

use std::collections::VecDeque;

use spillway_model::{BitsPerSecond, TimestampMs};

use crate::estimate::{Cusum, Health};
use crate::probes::ProbeMemory;
use crate::state::Machine;
use crate::{LoadEvidence, Parameters, PathwaySetup};

/// One pathway in one region.
#[derive(Clone, Debug)]
pub(crate) struct CellMemory {
    pub health: Health,
    pub cusum: Cusum,
    pub probes: ProbeMemory,
    pub machine: Machine,
    /// Evidence of the present step of recovery.
    pub step: StepEvidence,
    /// Usual bad-window rate.
    pub baseline: f64,
    /// Views here ÷ views planned here.
    pub placed: f64,
    /// Published weight, as followed by views that poll once per TTL.
    pub followed: f64,
    /// Share that it had when its drain began.
    pub drain_from: f64,
}

/// Windows since a step of recovery began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepEvidence {
    since: TimestampMs,
    /// On this pathway.
    pub own: f64,
    /// On all pathways of the region.
    pub all: f64,
}

impl StepEvidence {
    pub(crate) fn take(&mut self, since: TimestampMs, own: f64, all: f64) {
        if since != self.since {
            *self = Self { since, own: 0.0, all: 0.0 };
        }
        self.own += own;
        self.all += all;
    }
}

impl CellMemory {
    pub(crate) fn new(now: TimestampMs, parameters: &Parameters) -> Self {
        Self {
            health: Health::default(),
            cusum: Cusum::default(),
            probes: ProbeMemory::default(),
            machine: Machine::new(now),
            step: StepEvidence::default(),
            baseline: parameters.baseline_default,
            placed: 1.0,
            followed: 0.0,
            drain_from: 0.0,
        }
    }

    /// Follows a published weight, and learns how uneven few sessions fall.
    pub(crate) fn follow(&mut self, weight: f64, views: u64, all_views: u64, dt_s: f64, parameters: &Parameters) {
        let expected = self.followed * all_views as f64;
        if expected >= 5.0 {
            let ratio = views as f64 / expected;
            self.placed = learned(self.placed, ratio, dt_s, parameters);
        }
        let half_ttl_s = f64::from(parameters.ttl_live_s) / 2.0;
        self.followed += (1.0 - (-dt_s / half_ttl_s).exp()) * (weight - self.followed);
    }
}

/// One pathway over all regions.
#[derive(Clone, Debug)]
pub(crate) struct PathwayMemory {
    /// Last load report.
    pub load: Option<LoadEvidence>,
    /// Since when it reports that it is being drained.
    pub draining_since: Option<TimestampMs>,
    /// Learned ÷ declared capacity.
    pub learned: f64,
    /// Bits per view here ÷ bits per view of its regions.
    pub heavier: f64,
    recent: VecDeque<(TimestampMs, f64)>,
}

/// Reports that may be missed, in seconds.
const GONE_S: f64 = (spillway_model::limits::LOAD_REPORTS_MISSED_MAX as u64
    * spillway_model::limits::LOAD_REPORT_INTERVAL_MS) as f64
    / 1000.0;

impl PathwayMemory {
    pub(crate) fn new() -> Self {
        Self { load: None, draining_since: None, learned: 1.0, heavier: 1.0, recent: VecDeque::new() }
    }

    pub(crate) fn take(&mut self, load: &LoadEvidence) {
        if self.load.as_ref().is_some_and(|last| last.at >= load.at) {
            return;
        }
        self.draining_since = if load.draining { self.draining_since.or(Some(load.at)) } else { None };
        self.load = Some(load.clone());
    }

    /// The last report, unless three have been missed.
    pub(crate) fn fresh_load(&self, now: TimestampMs) -> Option<&LoadEvidence> {
        self.load.as_ref().filter(|load| now.since(load.at).as_secs_f64() <= GONE_S + 1.0)
    }

    /// It reported once and doesn't any more.
    pub(crate) fn is_gone(&self, now: TimestampMs) -> bool {
        self.load.is_some() && self.fresh_load(now).is_none()
    }

    /// The lowest of declared and reported ceiling.
    pub(crate) fn capacity(&self, setup: &PathwaySetup) -> BitsPerSecond {
        match &self.load {
            Some(load) if load.ceiling > BitsPerSecond::ZERO => load.ceiling.min(setup.capacity),
            _ => setup.capacity,
        }
    }

    /// Load ÷ ceiling: reported, else by `estimated` bits per second.
    pub(crate) fn utilisation(&self, now: TimestampMs, setup: &PathwaySetup, estimated: f64) -> f64 {
        let bits = self.fresh_load(now).map_or(estimated, |load| load.bits_out_10s.0 as f64);
        bits / (self.capacity(setup).0.max(1) as f64)
    }

    /// Remembers the utilisation of this round and learns from it.
    pub(crate) fn learn(&mut self, now: TimestampMs, utilisation: f64, estimated: f64, dt_s: f64, p: &Parameters) {
        self.recent.push_back((now, utilisation));
        while self.recent.front().is_some_and(|(at, _)| now.since(*at).as_secs_f64() > 60.0) {
            self.recent.pop_front();
        }
        if let Some(bits) = self.fresh_load(now).map(|load| load.bits_out_10s.0 as f64)
            && estimated > 0.0
        {
            self.heavier = learned(self.heavier, bits / estimated, dt_s, p);
        }
    }

    /// Highest utilisation of the last 60 s: beacons lag, so the current one would look too low.
    pub(crate) fn fullest(&self) -> f64 {
        self.recent.iter().map(|(_, utilisation)| *utilisation).fold(0.0, f64::max)
    }

    /// Learned capacity falls while a full pathway has bad windows and rises slowly otherwise.
    pub(crate) fn learn_capacity(&mut self, too_full: bool, dt_s: f64, p: &Parameters) {
        let step = if too_full { p.capacity_drop } else { p.capacity_rise };
        self.learned = (self.learned * step.powf(dt_s / 10.0)).clamp(p.capacity_floor, 1.0);
    }
}

fn learned(old: f64, ratio: f64, dt_s: f64, parameters: &Parameters) -> f64 {
    let bounded = ratio.clamp(parameters.load_factor_min, parameters.load_factor_max);
    old + (1.0 - (-dt_s / parameters.load_factor_tau_s).exp()) * (bounded - old)
}

//! What is remembered between rounds of each cell and each pathway.

use spillway_model::{BitsPerSecond, TimestampMs};

use crate::carried::Carried;
use crate::estimate::{Cusum, Health};
use crate::floor::Floor;
use crate::observe::Fresh;
use crate::probes::ProbeMemory;
use crate::sent::Sent;
use crate::state::Machine;
use crate::{LoadEvidence, Parameters, PathwaySetup};

/// One pathway in one region.
#[derive(Clone, Debug)]
pub(crate) struct CellMemory {
    pub health: Health,
    pub cusum: Cusum,
    /// What its views get.
    pub goodput: Goodput,
    pub probes: ProbeMemory,
    /// Whom steering sent here.
    pub sent: Sent,
    pub machine: Machine,
    /// Evidence of the present step of recovery.
    pub step: StepEvidence,
    /// Whether its quality is good enough to go by cost.
    pub floor: Floor,
    /// Share that its caches are used to.
    pub warm: f64,
    /// Usual bad-window rate.
    pub baseline: f64,
    /// Views here ÷ views planned here.
    pub placed: f64,
    /// Published weight, as followed by views that poll once per TTL.
    pub followed: f64,
    /// Share that it had when its drain began.
    pub drain_from: f64,
}

/// Bits that views got lately, and their time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goodput {
    bits: f64,
    view_s: f64,
}

/// Memory of it, s.
const GOODPUT_S: f64 = 10.0;

impl Goodput {
    pub(crate) fn take(&mut self, fresh: &Fresh, dt_s: f64) {
        let keep = (-dt_s / GOODPUT_S).exp();
        self.bits = self.bits * keep + fresh.bits;
        self.view_s = self.view_s * keep + fresh.view_s;
    }

    /// Bit/s of one view; 0 if nothing is measured.
    pub(crate) fn per_view(&self) -> f64 {
        if self.view_s > 0.0 { self.bits / self.view_s } else { 0.0 }
    }
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
            goodput: Goodput::default(),
            probes: ProbeMemory::default(),
            sent: Sent::default(),
            machine: Machine::new(now),
            step: StepEvidence::default(),
            floor: Floor::default(),
            warm: 0.0,
            baseline: parameters.baseline_default,
            placed: 1.0,
            followed: 0.0,
            drain_from: 0.0,
        }
    }

    /// Forgets what looked ill: it is judged by what it does from now on.
    pub(crate) fn forget_illness(&mut self) {
        self.health.forget();
        self.cusum.reset();
    }

    /// Follows a published weight, and learns how uneven few sessions fall.
    pub(crate) fn follow(&mut self, weight: f64, views: u64, all_views: f64, dt_s: f64, parameters: &Parameters) {
        let expected = self.followed * all_views;
        if expected >= 5.0 {
            let ratio = views as f64 / expected;
            self.placed = learned(self.placed, ratio, dt_s, parameters);
        }
        let half_ttl_s = f64::from(parameters.ttl_live_s) / 2.0;
        self.followed += (1.0 - (-dt_s / half_ttl_s).exp()) * (weight - self.followed);
        let tau_s = if self.followed > self.warm { parameters.warming_s } else { parameters.cooling_s };
        self.warm += (1.0 - (-dt_s / tau_s).exp()) * (self.followed - self.warm);
    }

    /// Whether many of its views were moved here so lately that its caches are cold.
    pub(crate) fn is_cold(&self, parameters: &Parameters) -> bool {
        self.followed > parameters.cold_times * self.warm + 0.005
    }
}

/// One pathway over all regions.
#[derive(Clone, Debug)]
pub(crate) struct PathwayMemory {
    /// Last load report.
    pub load: Option<LoadEvidence>,
    /// Since when it reports that it is being drained.
    pub draining_since: Option<TimestampMs>,
    /// Loads, and the capacity that they taught.
    pub carried: Carried,
    /// Bits per view here ÷ bits per view of its regions.
    pub heavier: f64,
}

/// Reports that may be missed, in seconds.
const GONE_S: f64 = (spillway_model::limits::LOAD_REPORTS_MISSED_MAX as u64
    * spillway_model::limits::LOAD_REPORT_INTERVAL_MS) as f64
    / 1000.0;

impl PathwayMemory {
    pub(crate) fn new() -> Self {
        Self { load: None, draining_since: None, carried: Carried::default(), heavier: 1.0 }
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

    /// Learns how heavy its views are, reported ÷ `estimated` bit/s.
    pub(crate) fn weigh(&mut self, now: TimestampMs, estimated: f64, dt_s: f64, p: &Parameters) {
        if let Some(bits) = self.fresh_load(now).map(|load| load.bits_out_10s.0 as f64)
            && estimated > 0.0
        {
            self.heavier = learned(self.heavier, bits / estimated, dt_s, p);
        }
    }
}

fn learned(old: f64, ratio: f64, dt_s: f64, parameters: &Parameters) -> f64 {
    let bounded = ratio.clamp(parameters.load_factor_min, parameters.load_factor_max);
    old + (1.0 - (-dt_s / parameters.load_factor_tau_s).exp()) * (bounded - old)
}

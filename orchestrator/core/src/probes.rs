//! Probes of one pathway in one region, remembered as runs of good and bad ones.

use std::collections::BTreeMap;

use spillway_model::TimestampMs;

use crate::{Parameters, ProbeEvidence, ProbeObject};

#[derive(Clone, Copy, Debug, Default)]
struct Run {
    at: TimestampMs,
    good: u32,
    bad: u32,
}

/// What the last probes said.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProbeMemory {
    runs: BTreeMap<ProbeObject, Run>,
    /// Why the last bad one was bad.
    pub detail: String,
}

impl ProbeMemory {
    pub(crate) fn take(&mut self, probe: &ProbeEvidence) {
        let run = self.runs.entry(probe.object).or_default();
        if probe.at <= run.at {
            return;
        }
        *run = if probe.ok {
            Run { at: probe.at, good: run.good.saturating_add(1), bad: 0 }
        } else {
            Run { at: probe.at, good: 0, bad: run.bad.saturating_add(1) }
        };
        if !probe.ok && probe.object != ProbeObject::Miss {
            self.detail.clone_from(&probe.detail);
        }
    }

    fn fresh(&self, now: TimestampMs, parameters: &Parameters, object: ProbeObject) -> Option<Run> {
        let run = self.runs.get(&object)?;
        (now.since(run.at).as_secs_f64() <= parameters.probe_fresh_s).then_some(*run)
    }

    fn pair(&self, now: TimestampMs, parameters: &Parameters) -> [Option<Run>; 2] {
        [ProbeObject::Small, ProbeObject::Segment].map(|object| self.fresh(now, parameters, object))
    }

    /// Rounds in a row in which small object and segment were good; 0 without fresh ones.
    pub(crate) fn good_rounds(&self, now: TimestampMs, parameters: &Parameters) -> u32 {
        self.pair(now, parameters).into_iter().flatten().map(|run| run.good).min().unwrap_or(0)
    }

    /// Rounds in a row in which either was bad; 0 without fresh ones.
    pub(crate) fn bad_rounds(&self, now: TimestampMs, parameters: &Parameters) -> u32 {
        self.pair(now, parameters).into_iter().flatten().map(|run| run.bad).max().unwrap_or(0)
    }

    /// Good or bad; `None` without fresh ones.
    pub(crate) fn verdict(&self, now: TimestampMs, parameters: &Parameters) -> Option<bool> {
        let heard = self.pair(now, parameters).into_iter().flatten().next().is_some();
        heard.then(|| self.bad_rounds(now, parameters) == 0)
    }

    /// Whether the cached object is not to be had either: then it isn't the origin.
    pub(crate) fn small_fails(&self, now: TimestampMs, parameters: &Parameters) -> bool {
        self.fresh(now, parameters, ProbeObject::Small).is_some_and(|run| run.bad > 0)
    }

    /// Whether the way to the origin fails; `None` without fresh ones.
    pub(crate) fn miss_fails(&self, now: TimestampMs, parameters: &Parameters) -> Option<bool> {
        self.fresh(now, parameters, ProbeObject::Miss).map(|run| run.bad > 0)
    }
}

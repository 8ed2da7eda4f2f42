//! A policy on trial: in force in one region, compared with the others before and after, taken back at the first harm.

use spillway_model::{RegionId, TimestampMs};

use crate::engine::{Engine, Tick};
use crate::{Canary, CanaryNote, CanaryState, LogEntry, Parameters};

/// How a trial goes.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    since: TimestampMs,
    state: CanaryState,
    text: String,
    /// Rate there and elsewhere before it began.
    before: (f64, f64),
}

impl Engine {
    /// Puts a policy on trial from the next round on, in place of one that is. What was measured until then is what
    /// the trial is compared with, so declare it once there is something.
    pub fn declare(&mut self, canary: Canary) {
        self.setup.canary = Some(canary);
        self.trial = None;
    }

    /// The numbers on trial, and where.
    pub(crate) fn on_trial(&self) -> Option<(RegionId, Parameters)> {
        self.trial.as_ref().filter(|trial| trial.state == CanaryState::OnTrial)?;
        self.setup.canary.as_ref().map(|canary| (canary.region.clone(), canary.parameters.clone()))
    }

    /// The policy in force in `region`.
    pub(crate) fn policy_of(&self, region: &RegionId) -> &str {
        let on_trial = self.trial.as_ref().is_some_and(|trial| trial.state == CanaryState::OnTrial);
        let canary = self.setup.canary.as_ref().filter(|canary| on_trial && canary.region == *region);
        canary.map_or(&self.setup.policy, |canary| &canary.policy)
    }

    /// Steps the trial. A difference in differences above `canary_harm` with z above `canary_z`, or a pathway there
    /// above its ceiling, takes it back; `canary_s` seconds without harm accept it, once there is enough to see it by.
    pub(crate) fn try_policy(&mut self, tick: Tick, log: &mut Vec<LogEntry>) -> Option<CanaryNote> {
        let canary = self.setup.canary.clone()?;
        let p = self.setup.parameters.clone();
        let (here, elsewhere) = (self.rate_of(&canary.region, true), self.rate_of(&canary.region, false));
        let trial = self.trial.get_or_insert_with(|| Trial {
            since: tick.now,
            state: CanaryState::OnTrial,
            text: String::new(),
            before: (here.0, elsewhere.0),
        });
        if trial.state == CanaryState::OnTrial {
            let effect = (here.0 - trial.before.0) - (elsewhere.0 - trial.before.1);
            let error = (here.1 + elsewhere.1).sqrt().max(1e-9);
            let points = format!("{:+.2} points of bad windows against the other regions", effect * 100.0);
            let full = self.regions.get(&canary.region).is_some_and(|memory| {
                let too_full = |id| self.pathways.get(id).is_some_and(|pathway| pathway.carried.fullest() > 1.0);
                memory.cells.keys().any(too_full)
            });
            let passed_s = tick.now.since(trial.since).as_secs_f64();
            trial.text.clone_from(&points);
            if effect > p.canary_harm && effect > p.canary_z * error {
                trial.state = CanaryState::RolledBack;
            } else if full && passed_s > p.refill_s {
                trial.state = CanaryState::RolledBack;
                trial.text = "a pathway there is above its ceiling".to_owned();
            } else if here.2.min(elsewhere.2) < p.canary_windows {
                // No harm seen where nobody looks proves nothing.
                trial.text = format!("waits for {:.0} windows of two minutes there and elsewhere", p.canary_windows);
            } else if passed_s >= p.canary_s {
                trial.state = CanaryState::Accepted;
            }
            let word = match trial.state {
                CanaryState::OnTrial => None,
                CanaryState::Accepted => Some("accepted everywhere"),
                CanaryState::RolledBack => Some("rolled back"),
            };
            if let Some(word) = word {
                let text = format!("policy {} {word}: {}", canary.policy, trial.text);
                log.push(LogEntry { region: Some(canary.region.clone()), text });
            }
        }
        let note = CanaryNote { policy: canary.policy.clone(), state: trial.state, text: trial.text.clone() };
        if note.state == CanaryState::Accepted && self.setup.policy != canary.policy {
            (self.setup.policy, self.setup.parameters) = (canary.policy, canary.parameters);
        }
        Some(note)
    }

    /// Bad-window rate in the region, or in all others, with its variance and the windows behind it.
    fn rate_of(&self, region: &RegionId, inside: bool) -> (f64, f64, f64) {
        let cells = self.regions.iter().filter(|(id, _)| (*id == region) == inside).flat_map(|(_, r)| r.cells.values());
        let (mut windows, mut bad, mut effective) = (0.0, 0.0, 0.0);
        for cell in cells {
            let (all, ill) = cell.health.sums();
            windows += all;
            bad += ill;
            effective += cell.health.effective_windows();
        }
        let rate = bad / f64::max(windows, 1.0);
        (rate, rate.max(0.001) * (1.0 - rate) / f64::max(effective, 1.0), windows)
    }
}

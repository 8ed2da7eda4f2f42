//! Fourth stage: the state of a pathway in a region.

use spillway_model::{Millis, PathwayState, TimestampMs};

use crate::Parameters;
use crate::detect::{Alarm, Finding};

/// State machine of one pathway in one region.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub state: PathwayState,
    pub since: TimestampMs,
    pub reason: String,
    hold_until: TimestampMs,
    flaps: f64,
    flaps_at: TimestampMs,
    step: u8,
    step_since: TimestampMs,
    quiet_since: Option<TimestampMs>,
}

/// What the state machine is told besides the finding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals<'a> {
    pub now: TimestampMs,
    /// Good probe rounds in a row.
    pub good_probes: u32,
    /// Probes are heard at all.
    pub probed: bool,
    /// What the running views met whose turn it was to try a DOWN pathway.
    pub tried: Option<bool>,
    /// The next step of recovery has its evidence, and its origin has room for the misses.
    pub may_climb: bool,
    /// Why it is being drained, if it is.
    pub draining: Option<&'a str>,
}

fn span(seconds: f64) -> Millis {
    Millis((seconds * 1000.0) as u64)
}

impl Machine {
    pub(crate) fn new(now: TimestampMs) -> Self {
        Self {
            state: PathwayState::Healthy,
            since: now,
            reason: "no fault seen".into(),
            hold_until: now,
            flaps: 0.0,
            flaps_at: now,
            step: 0,
            step_since: now,
            quiet_since: None,
        }
    }

    /// Continues from a published state.
    pub(crate) fn adopt(
        state: PathwayState,
        since: TimestampMs,
        reason: &str,
        issued: TimestampMs,
        p: &Parameters,
    ) -> Self {
        let mut machine = Self::new(since);
        machine.state = if state == PathwayState::Unknown { PathwayState::Healthy } else { state };
        machine.reason = reason.to_owned();
        match machine.state {
            PathwayState::Down | PathwayState::Degraded => {
                machine.flaps = 1.0;
                machine.hold_until = since.after(span(p.hold_s));
            }
            PathwayState::Recovering => {
                machine.flaps = 1.0;
                let steps = issued.since(since).as_secs_f64() / p.recovery_step_s.max(0.001);
                machine.step = steps.clamp(0.0, 2.0) as u8;
                machine.step_since = since.after(span(f64::from(machine.step) * p.recovery_step_s));
            }
            _ => {}
        }
        machine
    }

    /// Advances; true if the state or the recovery step changed.
    pub(crate) fn advance(&mut self, signals: Signals<'_>, finding: &Finding, p: &Parameters) -> bool {
        let now = signals.now;
        self.quiet_since = if finding.quiet { self.quiet_since.or(Some(now)) } else { None };
        let held = now >= self.hold_until;
        match self.state {
            PathwayState::Healthy | PathwayState::Unknown => {
                let healthy_s = now.since(self.flaps_at).as_secs_f64();
                self.flaps = (self.flaps - healthy_s / p.flap_decay_s).max(0.0);
                self.flaps_at = now;
                match (finding.alarm, signals.draining) {
                    (Alarm::Down, _) => self.fail(now, PathwayState::Down, &finding.text, p),
                    (_, Some(why)) => self.enter(now, PathwayState::Draining, why),
                    (Alarm::Degraded, None) => self.fail(now, PathwayState::Degraded, &finding.text, p),
                    (Alarm::None, None) => false,
                }
            }
            PathwayState::Degraded => {
                let quiet_s = p.quiet_s.min(p.hold_s);
                let quiet = self.quiet_since.is_some_and(|since| now.since(since).as_secs_f64() >= quiet_s);
                match (finding.alarm, signals.draining) {
                    (Alarm::Down, _) => self.fail(now, PathwayState::Down, &finding.text, p),
                    (_, Some(why)) => self.enter(now, PathwayState::Draining, why),
                    _ if held && quiet => self.recover(now, "no sign of the fault any more"),
                    _ => false,
                }
            }
            PathwayState::Down => self.leave_down(signals, held, p),
            PathwayState::Recovering => match (finding.alarm, signals.draining) {
                (Alarm::None, None) => self.climb(now, signals.may_climb, p),
                (Alarm::None | Alarm::Degraded, Some(why)) => self.enter(now, PathwayState::Draining, why),
                _ => self.fail(now, PathwayState::Down, &finding.text, p),
            },
            PathwayState::Draining => match (finding.alarm, signals.draining) {
                (Alarm::Down, _) => self.fail(now, PathwayState::Down, &finding.text, p),
                (_, None) => self.recover(now, "drain ended, caches are cold"),
                _ => false,
            },
        }
    }

    fn leave_down(&mut self, signals: Signals<'_>, held: bool, p: &Parameters) -> bool {
        let unprobed_s = signals.now.since(self.since).as_secs_f64();
        let good = signals.good_probes >= p.probe_rounds;
        if held && (good || (!signals.probed && signals.tried == Some(true))) {
            match signals.draining {
                Some(why) => self.enter(signals.now, PathwayState::Draining, why),
                None => self.recover(signals.now, "probes are good again"),
            }
        } else if held && !signals.probed && signals.tried.is_none() && unprobed_s >= p.hold_without_probes_s {
            self.recover(signals.now, "nobody probes it, tried after the longest hold")
        } else {
            false
        }
    }

    fn climb(&mut self, now: TimestampMs, may_climb: bool, p: &Parameters) -> bool {
        if now.since(self.step_since).as_secs_f64() < p.recovery_step_s || !may_climb {
            return false;
        }
        if self.step >= 2 {
            return self.enter(now, PathwayState::Healthy, "recovered, no fault seen");
        }
        self.step += 1;
        self.step_since = now;
        true
    }

    fn enter(&mut self, now: TimestampMs, state: PathwayState, reason: &str) -> bool {
        self.state = state;
        self.since = now;
        self.reason = reason.to_owned();
        self.flaps_at = now;
        self.quiet_since = None;
        true
    }

    fn recover(&mut self, now: TimestampMs, reason: &str) -> bool {
        self.step = 0;
        self.step_since = now;
        self.enter(now, PathwayState::Recovering, reason)
    }

    /// Begins where a pathway does that comes back.
    pub(crate) fn ramp(&mut self, now: TimestampMs, reason: &str) {
        self.recover(now, reason);
    }

    fn fail(&mut self, now: TimestampMs, state: PathwayState, reason: &str, p: &Parameters) -> bool {
        self.flaps += 1.0;
        let hold_s = (p.hold_s * 2.0_f64.powf((self.flaps - 1.0).max(0.0))).min(p.hold_max_s.max(p.hold_s));
        self.hold_until = now.after(span(hold_s));
        self.enter(now, state, &format!("{reason}; held for {hold_s:.0} s"))
    }

    /// What the state does to the weight for new views.
    pub(crate) fn factor(&self, p: &Parameters) -> f64 {
        match (self.state, self.step) {
            (PathwayState::Healthy | PathwayState::Unknown, _) => 1.0,
            (PathwayState::Degraded, _) => p.degraded_factor,
            (PathwayState::Down | PathwayState::Draining, _) => 0.0,
            (PathwayState::Recovering, 0) => p.recovery_first,
            (PathwayState::Recovering, 1) => p.recovery_second,
            (PathwayState::Recovering, _) => p.recovery_third,
        }
    }

    /// What the next step of recovery would do to the weight.
    pub(crate) fn next_factor(&self, p: &Parameters) -> f64 {
        match (self.state, self.step) {
            (PathwayState::Recovering, 0) => p.recovery_second,
            (PathwayState::Recovering, 1) => p.recovery_third,
            _ => 1.0,
        }
    }

    /// Since when the present step of recovery lasts.
    pub(crate) fn step_since(&self) -> TimestampMs {
        self.step_since
    }

    /// Since when it must stay as it is.
    pub(crate) fn hold_until(&self) -> TimestampMs {
        self.hold_until
    }

    /// Whether its last fault is forgotten.
    pub(crate) fn is_calm(&self, now: TimestampMs, p: &Parameters) -> bool {
        self.flaps - now.since(self.flaps_at).as_secs_f64() / p.flap_decay_s <= 0.0
    }

    /// Whether others may be compared with it.
    pub(crate) fn is_reference(&self) -> bool {
        !matches!(self.state, PathwayState::Down | PathwayState::Degraded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals(now: u64, good_probes: u32) -> Signals<'static> {
        Signals {
            now: TimestampMs(now * 1000),
            good_probes,
            probed: true,
            tried: None,
            may_climb: true,
            draining: None,
        }
    }

    #[test]
    fn recovery_goes_in_steps_and_a_flap_doubles_the_hold() {
        let p = Parameters::default();
        let mut machine = Machine::new(TimestampMs(0));
        let dead = Finding { alarm: Alarm::Down, text: "PATH".into(), quiet: false };
        let well = Finding { quiet: true, ..Finding::default() };
        assert!(machine.advance(signals(10, 0), &dead, &p));
        assert!(!machine.advance(signals(129, 9), &well, &p), "hold is 120 s");
        assert!(!machine.advance(signals(131, 1), &well, &p), "one good probe round is not enough");
        assert!(machine.advance(signals(132, 2), &well, &p));
        let mut factors = vec![machine.factor(&p)];
        assert!(machine.advance(signals(252, 9), &well, &p));
        factors.push(machine.factor(&p));
        assert_eq!(factors, [0.10, 0.22]);
        assert!(machine.advance(signals(260, 9), &dead, &p));
        assert!(!machine.advance(signals(499, 9), &well, &p), "hold is 240 s now");
        assert!(machine.advance(signals(500, 9), &well, &p));
        for (at, factor) in [(620, 0.22), (740, 0.48), (860, 1.0)] {
            assert!(machine.advance(signals(at, 9), &well, &p));
            assert!((machine.factor(&p) - factor).abs() < 1e-9, "{at}");
        }
        assert_eq!(machine.state, PathwayState::Healthy);
    }

    #[test]
    fn down_waits_for_probes() {
        let p = Parameters::default();
        let mut machine = Machine::new(TimestampMs(0));
        machine.advance(signals(10, 0), &Finding { alarm: Alarm::Down, ..Finding::default() }, &p);
        assert!(!machine.advance(signals(1000, 0), &Finding::default(), &p));
        assert_eq!(machine.state, PathwayState::Down);
    }
}

//! Eighth stage, first half: how far to move now. Evacuations at once, optimisation in small steps with rests.

use spillway_model::{PathwayId, TimestampMs};

use crate::Parameters;
use crate::weights::{LEAST_SHARE, Shares, distance, normalised, towards};

/// How fast a region may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// No limit: somebody must leave, or nobody is there yet.
    AtOnce,
    /// Small steps.
    Steps,
    /// Small steps, begun without a rest: something recovered.
    StepsNow,
    /// Only out of dead pathways.
    Frozen,
}

/// Weights in force of one region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Course {
    pub current: Shares,
    moved_at: Option<TimestampMs>,
    rested_from: Option<TimestampMs>,
    moving: bool,
    /// What the last small step changed.
    last_step: Shares,
}

impl Course {
    /// Continues from published weights.
    pub(crate) fn adopt(current: Shares) -> Self {
        Self { current: normalised(&current), ..Self::default() }
    }

    /// Moves towards `target`; `dead` gets nothing. Returns whether the weights changed.
    pub(crate) fn advance(
        &mut self,
        now: TimestampMs,
        target: &Shares,
        dead: &dyn Fn(&PathwayId) -> bool,
        pace: Pace,
        p: &Parameters,
    ) -> bool {
        if target.is_empty() {
            return false;
        }
        let off = distance(&self.current, target);
        let on_dead = self.current.iter().any(|(id, share)| *share > 0.0 && dead(id) && !target.contains_key(id));
        match pace {
            _ if self.current.is_empty() => self.settle(now, target.clone()),
            Pace::Frozen if on_dead => {
                let alive: Shares =
                    self.current.iter().filter(|(id, _)| !dead(id)).map(|(id, share)| (id.clone(), *share)).collect();
                let lost = 1.0 - alive.values().sum::<f64>();
                let moved = towards(&normalised(&alive), target, if alive.is_empty() { 1.0 } else { lost });
                self.settle(now, moved)
            }
            Pace::Frozen => false,
            Pace::AtOnce => off > LEAST_SHARE && self.settle(now, target.clone()),
            Pace::Steps | Pace::StepsNow if on_dead => self.settle(now, target.clone()),
            Pace::Steps | Pace::StepsNow => self.step(now, target, off, pace, p),
        }
    }

    /// Goes on with those that are `known`; they take the others' share as they have theirs.
    pub(crate) fn keep(&mut self, known: impl Fn(&PathwayId) -> bool) {
        self.current.retain(|id, _| known(id));
        self.last_step.retain(|id, _| known(id));
        self.current = normalised(&self.current);
    }

    /// Goes to these weights at once. Always true.
    pub(crate) fn jump(&mut self, now: TimestampMs, to: &Shares) -> bool {
        self.settle(now, to.clone())
    }

    fn settle(&mut self, now: TimestampMs, to: Shares) -> bool {
        self.current = normalised(&to);
        self.moved_at = Some(now);
        self.rested_from = Some(now);
        self.moving = false;
        self.last_step.clear();
        true
    }

    /// Whether going to `target` takes the last small step back.
    fn turns_back(&self, target: &Shares) -> bool {
        let share = |shares: &Shares, id: &PathwayId| shares.get(id).copied().unwrap_or(0.0);
        let along = |(id, step): (&PathwayId, &f64)| step * (share(target, id) - share(&self.current, id));
        self.last_step.iter().map(along).sum::<f64>() < 0.0
    }

    fn step(&mut self, now: TimestampMs, target: &Shares, off: f64, pace: Pace, p: &Parameters) -> bool {
        let ttl_s = f64::from(p.ttl_live_s);
        let passed = |since: Option<TimestampMs>, seconds: f64| {
            since.is_none_or(|since| now.since(since).as_secs_f64() >= seconds)
        };
        let worth = if self.turns_back(target) { p.move_back_min } else { p.move_min };
        if off < worth {
            if self.moving {
                self.moving = false;
                self.rested_from = Some(now);
            }
            return false;
        }
        self.moving |= pace == Pace::StepsNow || passed(self.rested_from, p.dwell_ttls * ttl_s);
        if !self.moving || !passed(self.moved_at, ttl_s) {
            return false;
        }
        let before = std::mem::take(&mut self.current);
        self.current = normalised(&towards(&before, target, (p.move_max / off).min(1.0)));
        let changed = |id: &PathwayId| {
            let share = |shares: &Shares| shares.get(id).copied().unwrap_or(0.0);
            (id.clone(), share(&self.current) - share(&before))
        };
        self.last_step = self.current.keys().chain(before.keys()).map(changed).collect();
        self.moved_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(a: f64) -> Shares {
        let id = |name| PathwayId::new(name).expect("id");
        [(id("cdn-a"), a), (id("cdn-b"), 1.0 - a)].into()
    }

    #[test]
    fn optimisation_moves_ten_points_per_ttl_and_rests_afterwards() {
        let p = Parameters::default();
        let mut course = Course::default();
        let nobody = |_: &PathwayId| false;
        let at = |course: &mut Course, seconds: u64, a: f64| {
            course.advance(TimestampMs(seconds * 1000), &shares(a), &nobody, Pace::Steps, &p);
            (course.current["cdn-a"] * 100.0).round() as u32
        };
        assert_eq!(at(&mut course, 0, 0.5), 50);
        assert_eq!(at(&mut course, 20, 0.75), 50, "rests for three TTLs");
        assert_eq!(at(&mut course, 30, 0.75), 60);
        assert_eq!(at(&mut course, 36, 0.75), 60, "once per TTL");
        assert_eq!(at(&mut course, 40, 0.75), 70);
        assert_eq!(at(&mut course, 50, 0.75), 75);
        assert_eq!(at(&mut course, 60, 0.76), 75, "not worth a move");
        assert_eq!(at(&mut course, 70, 0.5), 75, "rests");
    }

    #[test]
    fn a_small_step_is_not_taken_back_for_a_small_difference() {
        let p = Parameters::default();
        let mut course = Course::default();
        let mut at = |seconds: u64, a: f64| {
            course.advance(TimestampMs(seconds * 1000), &shares(a), &|_| false, Pace::Steps, &p);
            (course.current["cdn-a"] * 100.0).round() as u32
        };
        assert_eq!((at(0, 0.50), at(100, 0.53)), (50, 53));
        assert_eq!(at(200, 0.50), 53, "demand is measured with noise");
        assert_eq!(at(300, 0.56), 56, "on in the same direction");
        assert_eq!((at(400, 0.51), at(500, 0.48)), (51, 48), "enough to turn, and then that is the direction");
    }
}

//! What a pathway has been seen to carry: the load under which it was well, and how its capacity is learned from the
//! loads under which it wasn't. A pathway that becomes ill under more than it ever carried is too full first, and ill
//! only if it stays so with less: a flash crowd, or what flees from another CDN, is no fault of the one that takes it.

use std::collections::VecDeque;

use spillway_model::TimestampMs;

use crate::Parameters;

/// Loads of one pathway over all regions, and what they taught.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    /// Load of the last minute: time, bit/s, declared capacity.
    recent: VecDeque<(TimestampMs, f64, f64)>,
    /// Highest load under which it was well for a minute, bit/s.
    proven: f64,
    quiet_since: Option<TimestampMs>,
    /// Declared capacity that is not believed, as a share of it.
    lost: f64,
    last: Option<Cut>,
}

/// Cuts further apart than so many waits are no row.
const ROW_WAITS: f64 = 20.0;

/// The last time that it was too full.
#[derive(Clone, Copy, Debug)]
struct Cut {
    at: TimestampMs,
    /// Learned ÷ declared capacity at which it was.
    level: f64,
    /// Load when the present row of cuts began, bit/s.
    load_before: f64,
    /// Cuts in this row, without a quiet time between them.
    in_row: u32,
    /// Cuts at about this level, rows apart.
    again: u32,
}

impl Carried {
    /// Learned ÷ declared capacity.
    pub(crate) fn learned(&self) -> f64 {
        1.0 - self.lost
    }

    /// Highest load ÷ capacity of the last minute: beacons lag, so the current one would look too low.
    pub(crate) fn fullest(&self) -> f64 {
        self.recent.iter().map(|(_, load, capacity)| load / capacity).fold(0.0, f64::max)
    }

    /// Whether it was fuller in the last minute than any capacity bears.
    pub(crate) fn is_full(&self, p: &Parameters) -> bool {
        self.fullest() > p.capacity_utilisation
    }

    /// Takes the load of a round. `quiet`: nothing looks ill on it anywhere.
    pub(crate) fn take(&mut self, now: TimestampMs, load: f64, capacity: f64, quiet: bool, dt_s: f64, p: &Parameters) {
        self.quiet_since = if quiet { self.quiet_since.or(Some(now)) } else { None };
        let quiet_s = self.quiet_since.map_or(0.0, |since| now.since(since).as_secs_f64());
        self.proven *= 0.5_f64.powf(dt_s / p.proven_half_life_s);
        self.recent.push_back((now, load, capacity.max(1.0)));
        while let Some((at, load, _)) = self.recent.front().copied()
            && now.since(at).as_secs_f64() > p.strain_memory_s
        {
            self.recent.pop_front();
            if quiet_s >= p.strain_memory_s {
                self.proven = self.proven.max(load);
            }
        }
        self.regain(now, quiet_s, dt_s, p);
    }

    /// Why illness now is taken for too much load: fuller than any capacity bears, or more than it ever carried well.
    /// Not any more once it stays ill with much less.
    pub(crate) fn strain(&self, p: &Parameters) -> Option<String> {
        let (_, load, capacity) = self.recent.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let now = self.recent.back().map_or(0.0, |(_, load, _)| *load);
        let helps =
            self.last.is_none_or(|cut| cut.in_row < p.capacity_cuts || now > p.capacity_relief * cut.load_before);
        let share = load / capacity;
        let known = self.near_level(p);
        let unproven = share > p.strain_utilisation && load > p.strain_times * self.proven;
        match () {
            () if !helps => None,
            () if self.is_full(p) => Some(format!("at {:.0} % utilisation", share * 100.0)),
            () if known => Some(format!("at {:.0} % utilisation, which was too much before", share * 100.0)),
            () if unproven && self.proven > 0.0 => {
                Some(format!("at {:.1} times the load that it was ever seen to carry well", load / self.proven))
            }
            () if unproven => Some(format!("at {:.0} % utilisation, never yet seen well", share * 100.0)),
            () => None,
        }
    }

    /// Whether it carried, in the last minute, about as much as was too much for it before.
    pub(crate) fn near_level(&self, p: &Parameters) -> bool {
        self.last.is_some_and(|cut| self.fullest() > p.capacity_near * cut.level)
    }

    /// Its load was cut, and what is heard now still tells of the time before.
    pub(crate) fn settles(&self, now: TimestampMs, p: &Parameters) -> bool {
        self.last.is_some_and(|cut| now.since(cut.at).as_secs_f64() < p.capacity_again_s)
    }

    /// It is too full: what it delivers is what it can carry, if more is wanted of it; else a little less than now.
    /// Returns whether the learned capacity fell; not again before the last cut can have shown.
    pub(crate) fn cut(&mut self, now: TimestampMs, delivered: f64, p: &Parameters) -> bool {
        let Some((_, load, capacity)) = self.recent.back().copied() else { return false };
        let last = self.last.filter(|cut| now.since(cut.at).as_secs_f64() < p.capacity_again_s * ROW_WAITS);
        if self.settles(now, p) {
            return false;
        }
        let learned = self.learned();
        let reached = if delivered > 0.0 { delivered.min(load) } else { load } / capacity;
        let in_row = last.filter(|_| self.quiet_since.is_none()).map_or(0, |cut| cut.in_row);
        let relieved = in_row > 0 && load < learned * capacity * p.capacity_margin;
        let next = if relieved { learned * p.capacity_drop } else { (reached * p.capacity_margin).min(learned) };
        self.lost = 1.0 - next.max(p.capacity_floor);
        let level = next / p.capacity_margin;
        let load_before = last.filter(|_| in_row > 0).map_or(load, |cut| cut.load_before);
        let same = |cut: &Cut| (cut.level - level).abs() <= p.capacity_same * level && in_row == 0;
        let again = self.last.map_or(0, |cut| if same(&cut) { cut.again + 1 } else { cut.again });
        self.last = Some(Cut { at: now, level, load_before, in_row: in_row + 1, again: again.min(3) });
        learned - self.learned() > 1e-6
    }

    /// Gets learned capacity back: slowly about the level that was too much, then faster, and slower each time that
    /// this level proved too much again.
    fn regain(&mut self, now: TimestampMs, quiet_s: f64, dt_s: f64, p: &Parameters) {
        let Some(cut) = &mut self.last else {
            self.lost = 0.0;
            return;
        };
        if quiet_s >= p.strain_memory_s {
            cut.in_row = 0;
        }
        let wait_s = p.capacity_wait_s * 4.0_f64.powi(i32::try_from(cut.again).unwrap_or(0));
        let eager = (now.since(cut.at).as_secs_f64() / wait_s).powi(2).min(4.0);
        self.lost = (self.lost - p.capacity_rise * dt_s / 10.0 * eager).max(0.0);
        if self.lost <= 0.0 && now.since(cut.at).as_secs_f64() > 4.0 * wait_s {
            self.last = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pathway that claims 100 and carries 69.
    struct Liar {
        carried: Carried,
        now_s: u64,
    }

    impl Liar {
        fn take(&mut self, load: f64, ill: bool, p: &Parameters) {
            self.now_s += 2;
            self.carried.take(TimestampMs(self.now_s * 1000), load, 100.0, !ill, 2.0, p);
        }

        fn cut(&mut self, delivered: f64, p: &Parameters) -> bool {
            self.carried.cut(TimestampMs(self.now_s * 1000), delivered, p)
        }
    }

    #[test]
    fn what_was_carried_well_for_a_minute_is_proven_and_more_is_strain() {
        let p = Parameters::default();
        let mut liar = Liar { carried: Carried::default(), now_s: 0 };
        liar.take(60.0, false, &p);
        assert!(liar.carried.strain(&p).is_some(), "never yet seen well");
        (0..70).for_each(|_| liar.take(60.0, false, &p));
        assert_eq!(liar.carried.strain(&p), None);
        liar.take(80.0, true, &p);
        let text = liar.carried.strain(&p).expect("strain");
        assert!(text.contains("1.3 times"), "{text}");
    }

    #[test]
    fn capacity_is_what_is_delivered_when_more_is_wanted_and_comes_back_slowly() {
        let p = Parameters::default();
        let mut liar = Liar { carried: Carried::default(), now_s: 0 };
        liar.take(80.0, true, &p);
        assert!(liar.cut(69.0, &p));
        let first = liar.carried.learned();
        assert!((first - 0.69 * p.capacity_margin).abs() < 1e-9, "{first}");
        assert!(!liar.cut(69.0, &p), "the first must show before the next");
        (0..60).for_each(|_| liar.take(50.0, false, &p));
        assert!(liar.carried.learned() < first + 0.01, "two minutes later");
        (0..1500).for_each(|_| liar.take(50.0, false, &p));
        assert!(liar.carried.learned() > 0.99, "fifty minutes later");
    }

    #[test]
    fn what_stays_ill_with_much_less_load_is_not_too_full() {
        let p = Parameters::default();
        let mut liar = Liar { carried: Carried::default(), now_s: 0 };
        liar.take(80.0, true, &p);
        for load in [80.0, 70.0, 62.0] {
            (0..30).for_each(|_| liar.take(load, true, &p));
            assert!(liar.carried.strain(&p).is_some());
            liar.cut(load, &p);
        }
        (0..40).for_each(|_| liar.take(55.0, true, &p));
        assert_eq!(liar.carried.strain(&p), None, "three cuts and a third less load didn't help");
    }
}

//! Who suffered: bad windows of the drilled cell and of a control group, before and during.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use spillway_wire::frame::Frame;

/// How long frames are kept, ms: the "before" of a drill.
const KEEP_MS: u64 = 120_000;

/// Frames of the last two minutes, as sums by second and cell.
#[derive(Debug, Default)]
pub(crate) struct History {
    seconds: VecDeque<(u64, Cells)>,
}

type Cells = BTreeMap<(String, String), Sums>;

/// Windows of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Windows.
    pub windows: u64,
    /// Bad ones.
    pub bad: u64,
    /// Failed requests.
    pub requests_failed: u64,
    /// Late requests.
    pub requests_late: u64,
    /// Most views at one moment.
    pub views_max: u64,
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.windows += other.windows;
        self.bad += other.bad;
        self.requests_failed += other.requests_failed;
        self.requests_late += other.requests_late;
        self.views_max = self.views_max.max(other.views_max);
    }

    /// Bad ÷ all windows; `None` without a window.
    #[must_use]
    pub fn bad_share(&self) -> Option<f64> {
        (self.windows > 0).then(|| self.bad as f64 / self.windows as f64)
    }
}

impl History {
    pub(crate) fn add(&mut self, frame: &Frame) {
        if frame.kind != "collector" {
            return;
        }
        let mut cells = Cells::new();
        for cell in &frame.cells {
            cells.entry((cell.key.pathway.clone(), cell.key.region.clone())).or_default().add(Sums {
                windows: cell.windows,
                bad: cell.bad_windows(),
                requests_failed: cell.requests_failed,
                requests_late: cell.requests_late,
                views_max: cell.views_active,
            });
        }
        self.seconds.push_back((frame.end_ms, cells));
        while self.seconds.front().is_some_and(|(at, _)| at + KEEP_MS < frame.end_ms) {
            self.seconds.pop_front();
        }
    }

    /// Sums over `from..=to` (ms since epoch) of the cells that `wanted` takes (pathway, region).
    pub(crate) fn sum(&self, from_ms: u64, to_ms: u64, wanted: impl Fn(&str, &str) -> bool) -> Sums {
        let mut out = Sums::default();
        for (_, cells) in self.seconds.iter().filter(|(at, _)| (from_ms..=to_ms).contains(at)) {
            for ((pathway, region), sums) in cells {
                if wanted(pathway, region) {
                    out.add(*sums);
                }
            }
        }
        out
    }
}

/// Difference in differences of bad shares, in points, with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// (treated during − treated before) − (control during − control before), points.
    pub points: f64,
    /// Half width of the 95 % interval (normal approximation over the four shares), points.
    pub half_width_points: f64,
}

/// `None` where one of the four has no window.
pub(crate) fn effect(treated: (Sums, Sums), control: (Sums, Sums)) -> Option<Effect> {
    let shares =
        [treated.0, treated.1, control.0, control.1].map(|sums| Some((sums.bad_share()?, sums.windows as f64)));
    let [Some(treated_before), Some(treated_during), Some(control_before), Some(control_during)] = shares else {
        return None;
    };
    let variance = |(share, windows): (f64, f64)| share * (1.0 - share) / windows;
    let points = (treated_during.0 - treated_before.0) - (control_during.0 - control_before.0);
    let sum = [treated_before, treated_during, control_before, control_during].map(variance).iter().sum::<f64>();
    Some(Effect { points: points * 100.0, half_width_points: 1.96 * sum.sqrt() * 100.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(windows: u64, bad: u64) -> Sums {
        Sums { windows, bad, ..Sums::default() }
    }

    #[test]
    fn what_hits_the_control_group_too_is_no_effect_of_the_drill() {
        let effect = effect((sums(100, 10), sums(100, 60)), (sums(200, 20), sums(200, 120))).expect("windows");
        assert!(effect.points.abs() < 1e-9);
        assert!(effect.half_width_points > 0.0);
    }

    #[test]
    fn without_a_control_window_nothing_is_claimed() {
        assert_eq!(super::effect((sums(9, 0), sums(9, 9)), (sums(0, 0), sums(9, 0))), None);
    }

    #[test]
    fn frames_older_than_two_minutes_are_forgotten() {
        let mut history = History::default();
        for second in 0..300_u64 {
            let cell = spillway_wire::frame::Cell { windows: 1, ..Default::default() };
            let end_ms = second * 1000;
            history.add(&Frame { kind: "collector".into(), end_ms, cells: vec![cell], ..Default::default() });
        }
        assert_eq!(history.sum(0, u64::MAX, |_, _| true).windows, 121);
    }
}

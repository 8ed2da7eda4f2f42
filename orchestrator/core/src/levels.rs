//! How often so much is wanted: what a level that is billed for a whole period would be used for, and which volume a
//! contract would reach.

use std::collections::BTreeMap;

use crate::Parameters;

/// Levels are told apart in steps of 2 %.
const STEP: f64 = 1.02;

/// Time spent at each level, the last days weighing most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usual {
    /// Seconds by step.
    steps: BTreeMap<i32, f64>,
    all_s: f64,
    last: f64,
    /// Most that can be carried, bit/s.
    most: f64,
}

fn step_of(bits: f64) -> i32 {
    (bits.max(1.0).ln() / STEP.ln()).floor() as i32
}

impl Usual {
    /// `bits` bit/s wanted for `dt_s` seconds, of which at most `most` bit/s can be carried.
    pub(crate) fn take(&mut self, bits: f64, most: f64, dt_s: f64, p: &Parameters) {
        let keep = (-dt_s / p.level_memory_s).exp();
        self.steps.values_mut().for_each(|seconds| *seconds *= keep);
        self.steps.retain(|_, seconds| *seconds > 1e-3);
        *self.steps.entry(step_of(bits)).or_default() += dt_s;
        self.all_s = self.all_s * keep + dt_s;
        (self.last, self.most) = (bits, most);
    }

    /// Whether the memory is long enough to tell a peak from a rise.
    pub(crate) fn is_known(&self, p: &Parameters) -> bool {
        self.all_s >= p.level_known_s
    }

    /// The last level, bit/s.
    pub(crate) fn last(&self) -> f64 {
        self.last
    }

    /// Most that can be carried, bit/s.
    pub(crate) fn most(&self) -> f64 {
        self.most
    }

    /// Mean of what could be carried, bit/s.
    pub(crate) fn carried(&self) -> f64 {
        let bits = |(step, seconds): (&i32, &f64)| STEP.powf(f64::from(*step) + 0.5).min(self.most) * seconds;
        self.steps.iter().map(bits).sum::<f64>() / self.all_s.max(1e-9)
    }

    /// Share of the time at `bits` bit/s or more.
    pub(crate) fn above(&self, bits: f64) -> f64 {
        self.steps.range(step_of(bits)..).map(|(_, seconds)| seconds).sum::<f64>() / self.all_s.max(1e-9)
    }

    /// The highest level that is reached for at least this share of the time, bit/s; 0 if none is.
    pub(crate) fn used(&self, share: f64) -> f64 {
        let mut above = 0.0;
        for (step, seconds) in self.steps.iter().rev() {
            above += seconds;
            if above >= share * self.all_s {
                return STEP.powf(f64::from(*step) + 0.5);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_by_level_and_forgotten() {
        let p = Parameters::default();
        let mut usual = Usual::default();
        for _ in 0..22 {
            usual.take(1e9, 1e10, 3600.0, &p);
        }
        assert!(!usual.is_known(&p), "not a day yet");
        usual.take(4e9, 2e9, 4.0 * 3600.0, &p);
        assert!(usual.is_known(&p));
        assert!((usual.above(3e9) - 0.16).abs() < 0.01, "{}", usual.above(3e9));
        assert!((usual.above(0.0) - 1.0).abs() < 1e-6 && usual.above(5e9) == 0.0);
        assert!((usual.used(0.1) / 4e9 - 1.0).abs() < 0.02 && (usual.used(0.5) / 1e9 - 1.0).abs() < 0.02);
        assert_eq!(usual.used(1.1), 0.0, "more than always");
        assert!((usual.carried() / 1.16e9 - 1.0).abs() < 0.02, "{}", usual.carried());
        for _ in 0..24 * 60 {
            usual.take(1e9, 1e10, 3600.0, &p);
        }
        assert!(usual.above(3e9) < 0.001, "two months later");
    }
}

//! Medians and percentiles over seeds, with bootstrap intervals.

use serde::Serialize;

use crate::random::Random;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 500;

/// A value with its 95 % bootstrap interval over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Estimate {
    /// The median.
    #[must_use]
    pub fn median(values: &[f64]) -> Self {
        Self::of(values, |sorted| quantile(sorted, 0.5))
    }

    /// The 95th percentile of times, of which the absent ones are infinite; none if it is one of these.
    #[must_use]
    pub fn p95(values: &[Option<f64>]) -> Option<Self> {
        let values: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::INFINITY)).collect();
        let out = Self::of(&values, |sorted| sorted[((sorted.len() * 95).div_ceil(100)).max(1) - 1]);
        out.value.is_finite().then_some(Self { high: if out.high.is_finite() { out.high } else { f64::MAX }, ..out })
    }

    fn of(values: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let value = statistic(&sorted);
        let mut luck = Random::new(&[values.len() as u64, 4711]);
        let mut all: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let draw = |_| values[(luck.unit() * values.len() as f64) as usize];
                let mut sample: Vec<f64> = (0..values.len()).map(draw).collect();
                sample.sort_unstable_by(f64::total_cmp);
                statistic(&sample)
            })
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        Self { value, low: all[RESAMPLES / 40], high: all[RESAMPLES - 1 - RESAMPLES / 40] }
    }
}

/// Median of two middle values where there are two.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_median_and_narrows_with_more_seeds() {
        let few = Estimate::median(&[1.0, 2.0, 3.0]);
        assert_eq!((few.value, few.low, few.high), (2.0, 1.0, 3.0));
        let many: Vec<f64> = (0..300).map(|k| 1.0 + 2.0 * f64::from(k) / 299.0).collect();
        let many = Estimate::median(&many);
        assert!((many.value - 2.0).abs() < 1e-9 && many.high - many.low < 0.4, "{many:?}");
    }

    #[test]
    fn a_percentile_of_times_is_absent_when_too_many_never_came() {
        assert!(Estimate::p95(&[Some(3.0), None]).is_none());
        assert_eq!(Estimate::p95(&[Some(3.0), Some(5.0)]).map(|e| e.value), Some(5.0));
    }
}

//! Second stage: how ill is a cell? Decaying sums, Beta shrinkage towards the pathway over all regions, and a CUSUM
//! against the other pathways of the same region.

mod leaf;

use crate::Parameters;
use crate::observe::Fresh;
pub(crate) use leaf::{Level, learn_networks};

/// z of a one-sided 95 % bound.
const Z: f64 = 1.64;

/// Decaying sums of one pathway in one region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    bad: f64,
    windows: f64,
    weight_sq: f64,
    usual_bad: f64,
    usual_windows: f64,
    /// Windows per second, lately.
    rate: f64,
}

impl Health {
    /// Takes a round's windows; `usual` if they are no sign of a fault, so that a fault doesn't become the usual rate.
    pub(crate) fn take(&mut self, fresh: &Fresh, usual: bool, dt_s: f64, parameters: &Parameters) {
        let keep = (-dt_s / parameters.health_tau_s).exp();
        self.bad = self.bad * keep + fresh.bad;
        self.windows = self.windows * keep + fresh.windows;
        self.weight_sq = self.weight_sq * keep + fresh.weight_sq;
        let keep = (-dt_s / parameters.preference_tau_s).exp();
        self.usual_bad = self.usual_bad * keep + if usual { fresh.bad } else { 0.0 };
        self.usual_windows = self.usual_windows * keep + if usual { fresh.windows } else { 0.0 };
        let keep = (-dt_s / 20.0).exp();
        self.rate = self.rate * keep + (1.0 - keep) * fresh.windows / dt_s.max(0.001);
    }

    /// Forgets the illness, since a recovering pathway is judged by what it does now.
    pub(crate) fn forget(&mut self) {
        (self.bad, self.windows, self.weight_sq) = (0.0, 0.0, 0.0);
    }

    pub(crate) fn sums(&self) -> (f64, f64) {
        (self.windows, self.bad)
    }

    pub(crate) fn usual_sums(&self) -> (f64, f64) {
        (self.usual_windows, self.usual_bad)
    }

    /// Independent windows behind the sums: weight² ÷ sum of squares.
    pub(crate) fn effective_windows(&self) -> f64 {
        if self.weight_sq > 0.0 { self.windows * self.windows / self.weight_sq } else { 0.0 }
    }

    /// 1 + (n - 1) rho, n = windows per 10 s.
    pub(crate) fn design_effect(&self, parameters: &Parameters) -> f64 {
        1.0 + (self.rate * 10.0 - 1.0).max(0.0) * parameters.window_correlation
    }

    /// Bad-window rate as it is, however few the windows.
    pub(crate) fn raw(&self) -> f64 {
        self.bad / self.windows.max(1.0)
    }

    /// Bad-window rate, pulled towards `parent`.
    pub(crate) fn estimate(&self, parent: f64, parameters: &Parameters) -> f64 {
        shrunk(self.bad, self.windows, parent, parameters.prior_windows)
    }

    /// What the rate is at least, with 95 % confidence.
    pub(crate) fn at_least(&self, parent: f64, parameters: &Parameters) -> f64 {
        self.interval(parent, parameters).0
    }

    /// 90 % interval of the rate: effective sample size, design effect and prior count.
    pub(crate) fn interval(&self, parent: f64, parameters: &Parameters) -> (f64, f64) {
        let rate = self.estimate(parent, parameters);
        let samples = (self.effective_windows() + parameters.prior_windows).max(1.0);
        let variance = rate * (1.0 - rate) * self.design_effect(parameters) / samples;
        let half = Z * variance.max(0.0).sqrt();
        ((rate - half).max(0.0), (rate + half).min(1.0))
    }
}

/// (bad + prior × parent) ÷ (windows + prior).
pub(crate) fn shrunk(bad: f64, windows: f64, parent: f64, prior: f64) -> f64 {
    (bad + prior * parent) / (windows + prior)
}

/// The other pathways of the region, as far as they are a fair comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Others {
    /// Windows since the last round.
    pub windows: f64,
    /// Bad ones.
    pub bad: f64,
    /// Windows of the last 20 s.
    pub recent_windows: f64,
    /// Bad ones.
    pub recent_bad: f64,
}

/// Clipped CUSUM of one pathway in one region, with what was seen since it last stood at zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cusum {
    /// The sum, nats.
    pub sum: f64,
    run: Run,
    reference: f64,
}

#[derive(Clone, Debug, Default)]
struct Run {
    windows: f64,
    bad: f64,
    others_windows: f64,
    others_bad: f64,
}

impl Cusum {
    /// Adds a round's evidence: log likelihood of "ill" (`p1`) against "as the others" (`p0`), per design effect,
    /// clipped per second.
    pub(crate) fn take(
        &mut self,
        fresh: &Fresh,
        others: Others,
        baseline: f64,
        design_effect: f64,
        dt_s: f64,
        parameters: &Parameters,
    ) {
        let reference = shrunk(others.recent_bad, others.recent_windows, baseline, parameters.reference_prior_windows);
        self.reference = reference;
        let p0 = baseline.max(reference).min(0.9);
        let p1 = ill_if(p0, parameters);
        let good = (fresh.windows - fresh.bad).max(0.0);
        // Few chatty sessions carry less than their weight.
        let independent = if fresh.weight_sq > 0.0 { (fresh.windows / fresh.weight_sq).clamp(0.0, 1.0) } else { 1.0 };
        let step = (fresh.bad * (p1 / p0).ln() + good * ((1.0 - p1) / (1.0 - p0)).ln()) * independent / design_effect;
        let clip = parameters.cusum_clip_per_s * dt_s;
        self.sum = (self.sum + step.min(clip)).clamp(0.0, 2.0 * parameters.cusum_degraded);
        self.run.windows += fresh.windows;
        self.run.bad += fresh.bad;
        self.run.others_windows += others.windows;
        self.run.others_bad += others.bad;
        if self.sum <= 0.0 {
            self.run = Run::default();
        }
    }

    /// Starts again at zero.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Rate of the others that the last step compared with.
    pub(crate) fn reference(&self) -> f64 {
        self.reference
    }

    /// Whether the others' windows rule out that they are half as ill: a reference of five windows proves nothing,
    /// and an origin fault must move nobody. Without any other window there is nothing to wait for.
    pub(crate) fn others_are_well(&self, parameters: &Parameters) -> bool {
        let run = &self.run;
        if run.others_windows < 0.5 {
            return true;
        }
        let rate = run.bad / run.windows.max(1.0) / 2.0;
        at_most(run.others_bad, run.others_windows, rate) < parameters.others_ill_chance
    }
}

/// Rate of an ill pathway whose neighbours have `p0`: what the CUSUM tests for.
pub(crate) fn ill_if(p0: f64, parameters: &Parameters) -> f64 {
    (parameters.cusum_times * p0).max(p0 + parameters.cusum_plus).min(0.97)
}

/// Probability of at most `bad` bad windows of `windows` at `rate`: exact in the small, normal in the large.
pub(crate) fn at_most(bad: f64, windows: f64, rate: f64) -> f64 {
    let expected = windows * rate;
    if expected > 30.0 {
        let z = (bad + 0.5 - expected) / (expected * (1.0 - rate)).max(1e-9).sqrt();
        // Logistic approximation of the normal distribution; its error of 1 % doesn't matter against 10 %.
        return 1.0 / (1.0 + (-1.702 * z).exp());
    }
    let (mut term, mut sum) = ((-expected).exp(), 0.0);
    for k in 0..=(bad.max(0.0) as u32).min(200) {
        sum += term;
        term *= expected / f64::from(k + 1);
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thin_cell_stays_near_its_parent() {
        let parameters = Parameters::default();
        let mut health = Health::default();
        health.take(&Fresh { windows: 5.0, bad: 2.0, weight_sq: 5.0, ..Fresh::default() }, true, 2.0, &parameters);
        let estimate = health.estimate(0.01, &parameters);
        assert!((0.01..0.03).contains(&estimate), "{estimate}");
    }

    #[test]
    fn five_good_windows_of_others_prove_nothing_and_fifty_do() {
        let parameters = Parameters::default();
        let verdict_with = |others: f64| {
            let mut cusum = Cusum::default();
            let fresh = Fresh { windows: 50.0, bad: 10.0, weight_sq: 50.0, ..Fresh::default() };
            let others = Others { windows: others, recent_windows: others, ..Others::default() };
            cusum.take(&fresh, others, 0.01, 1.0, 2.0, &parameters);
            cusum.others_are_well(&parameters)
        };
        assert!(!verdict_with(5.0));
        assert!(verdict_with(50.0));
    }
}

//! Fifth stage: how many bits a region will want when the plan takes effect.

use std::collections::VecDeque;

use crate::Parameters;

/// Views and bitrate of one region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    /// Views, falling slowly.
    views: f64,
    /// Views per second by which they grow.
    slope: f64,
    /// Views of the last minute, by seconds of memory: who fell silent and is heard again is no growth.
    recent: VecDeque<(f64, f64)>,
    clock_s: f64,
    heard: bool,
    bits_per_view: f64,
    measured_view_s: f64,
    /// Bit/s of a view as the lake knows it.
    usual_bits_per_view: Option<f64>,
}

/// A round's measures of one region.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Views now.
    pub views: f64,
    /// Bits delivered by pathways without a fault since the last round.
    pub bits: f64,
    /// View-seconds behind them.
    pub view_s: f64,
}

impl Demand {
    /// Takes what a round measured. What comes back after measurements were missing has not grown: `steady` is false.
    pub(crate) fn take(&mut self, measured: Measured, steady: bool, dt_s: f64, p: &Parameters) {
        self.heard &= steady;
        let held = (self.views * (-dt_s / p.demand_fall_tau_s).exp()).max(measured.views);
        if self.heard {
            let grown = if held > self.views { (held - self.highest()).max(0.0) } else { held - self.views };
            let growth = grown / dt_s.max(0.001);
            self.slope += (1.0 - (-dt_s / p.growth_tau_s).exp()) * (growth - self.slope);
        } else {
            self.slope = 0.0;
        }
        self.heard |= measured.views > 0.0;
        self.views = held;
        self.remember(dt_s, p);
        if measured.view_s > 0.0 {
            let now = measured.bits / measured.view_s;
            let tau_s = if now > self.bits_per_view { p.bits_per_view_rise_s } else { p.bits_per_view_tau_s };
            // Few view-seconds: their plain mean is the best there is.
            let part = (1.0 - (-dt_s / tau_s).exp()).max(measured.view_s / (self.measured_view_s + measured.view_s));
            self.bits_per_view += part.min(1.0) * (now - self.bits_per_view);
            self.measured_view_s = (self.measured_view_s + measured.view_s).min(1e6);
        }
    }

    /// Most views of the last minute, those of the last round among them.
    fn highest(&self) -> f64 {
        self.recent.iter().map(|(_, views)| *views).fold(0.0, f64::max)
    }

    fn remember(&mut self, dt_s: f64, p: &Parameters) {
        self.clock_s += dt_s;
        self.recent.push_back((self.clock_s, self.views));
        while self.recent.front().is_some_and(|(at_s, _)| self.clock_s - at_s > p.growth_memory_s) {
            self.recent.pop_front();
        }
    }

    /// Takes what the lake knows of the region, bit/s of a view; it counts until enough is measured.
    pub(crate) fn expect(&mut self, bits_per_view: f64) {
        self.usual_bits_per_view = Some(bits_per_view).filter(|bits| *bits > 0.0);
    }

    /// Whether the bitrate is measured rather than assumed.
    pub(crate) fn is_known(&self, p: &Parameters) -> bool {
        self.measured_view_s >= p.bits_per_view_known
    }

    /// Bit/s of one view.
    pub(crate) fn bits_per_view(&self, p: &Parameters) -> f64 {
        if self.is_known(p) && self.bits_per_view > 0.0 {
            return self.bits_per_view;
        }
        let measured = (self.measured_view_s > 0.0).then_some(self.bits_per_view);
        let assumed = self.usual_bits_per_view.or(measured).unwrap_or(p.bits_per_view_default);
        assumed.clamp(p.bits_per_view_min, p.bits_per_view_max)
    }

    /// Bit/s of the views now.
    pub(crate) fn now(&self, p: &Parameters) -> f64 {
        self.views * self.bits_per_view(p)
    }

    /// Views, held against a sudden fall.
    pub(crate) fn views(&self) -> f64 {
        self.views
    }

    /// Bit/s in `horizon_s`. Growth within the noise of coming and going views
    /// (one root of their number) is none.
    ///
    /// `usual_growth` is what the profile of the week expects in 10 minutes ÷ now; the larger of the two counts.
    pub(crate) fn forecast(&self, pending: f64, usual_growth: Option<f64>, horizon_s: f64, p: &Parameters) -> f64 {
        // Who comes in also fills a buffer: for that long it wants twice its bitrate.
        let grown = self.slope * (horizon_s + p.refill_s) - self.views.sqrt();
        let grown = if grown < p.growth_min_views { 0.0 } else { grown };
        let usual = usual_growth.filter(|growth| growth.is_finite()).map_or(0.0, |growth| growth - 1.0);
        let grown = grown.max(self.views * usual * horizon_s / 600.0);
        let more = (grown + pending).min(p.growth_max * self.views.max(20.0)).max(0.0);
        (self.views + more) * self.bits_per_view(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_is_seen_in_its_first_seconds_and_a_lost_collector_is_not_an_empty_house() {
        let p = Parameters::default();
        let mut demand = Demand::default();
        let take = |demand: &mut Demand, views: f64| {
            demand.take(Measured { views, bits: views * 2.0 * 4e5, view_s: views * 2.0 }, true, 2.0, &p);
            demand.forecast(0.0, None, 35.0, &p) / 4e5
        };
        for _ in 0..30 {
            take(&mut demand, 300.0);
        }
        assert!((take(&mut demand, 300.0) - 300.0).abs() < 1.0);
        take(&mut demand, 332.0);
        assert!(take(&mut demand, 364.0) > 420.0, "16 views/s for 11 s more");
        for _ in 0..3 {
            take(&mut demand, 0.0);
        }
        assert!(demand.views() > 250.0);
    }

    #[test]
    fn who_fell_silent_and_is_heard_again_is_no_growth() {
        let p = Parameters::default();
        let mut demand = Demand::default();
        let mut take = |views: f64| {
            demand.take(Measured { views, bits: views * 2.0 * 4e5, view_s: views * 2.0 }, true, 2.0, &p);
            demand.forecast(0.0, None, 35.0, &p) / 4e5
        };
        for _ in 0..30 {
            take(44_000.0);
        }
        for views in [43_000.0, 42_000.0, 41_400.0, 42_500.0, 43_500.0, 44_000.0] {
            let forecast = take(views);
            assert!(forecast < 44_500.0, "{forecast} of {views}");
        }
        assert!(take(46_000.0) > 60_000.0, "more than ever is growth");
    }
}

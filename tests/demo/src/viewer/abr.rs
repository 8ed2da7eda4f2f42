//! Which rendition to load: throughput by two moving averages, as the web players do it.

/// Half-life of the quick average, seconds of download.
const FAST_HALF_LIFE_S: f64 = 3.0;
/// Half-life of the slow one.
const SLOW_HALF_LIFE_S: f64 = 9.0;
/// Share of the estimate that a rendition may need.
const SAFETY: f64 = 0.8;
/// A download counts for at least this long, or small ones would look too quick.
const MIN_SAMPLE_S: f64 = 0.05;
/// A download is given up for a smaller one no sooner than this.
const ABANDON_AFTER_MS: u64 = 1_000;

/// Throughput seen by one view.
#[derive(Debug, Clone, Default)]
pub struct Throughput {
    fast: Average,
    slow: Average,
}

#[derive(Debug, Clone, Default)]
struct Average {
    value: f64,
    weight: f64,
}

impl Average {
    fn add(&mut self, value: f64, seconds: f64, half_life_s: f64) {
        let keep = 0.5_f64.powf(seconds / half_life_s);
        self.value = self.value * keep + value * (1.0 - keep);
        self.weight = self.weight * keep + (1.0 - keep);
    }

    fn get(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.value / self.weight)
    }
}

impl Throughput {
    /// Takes in a download of `bytes` that lasted `elapsed_ms`.
    #[expect(clippy::cast_precision_loss, reason = "sizes and times of segments are far below 2^52")]
    pub fn add(&mut self, bytes: u64, elapsed_ms: u64) {
        if bytes == 0 {
            return;
        }
        let seconds = (elapsed_ms as f64 / 1_000.0).max(MIN_SAMPLE_S);
        let bps = bytes as f64 * 8.0 / seconds;
        self.fast.add(bps, seconds, FAST_HALF_LIFE_S);
        self.slow.add(bps, seconds, SLOW_HALF_LIFE_S);
    }

    /// Bits per second: the more careful of the two averages; none before the first download.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and small")]
    pub fn estimate_bps(&self) -> Option<u64> {
        Some(self.fast.get()?.min(self.slow.get()?) as u64)
    }

    /// Index of the rendition to load out of bandwidths in rising order; the lowest as long as nothing is known.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "bandwidths are far below 2^52")]
    pub fn choose(&self, ladder_bps: &[u64]) -> usize {
        let Some(estimate_bps) = self.estimate_bps() else { return 0 };
        let affordable = |bps: &u64| *bps as f64 <= estimate_bps as f64 * SAFETY;
        ladder_bps.iter().rposition(affordable).unwrap_or(0)
    }
}

/// Whether a download in progress should be given up for a smaller rendition: at its rate so far it would end after
/// the buffer does.
#[must_use]
pub fn should_abandon(got_bytes: u64, total_bytes: u64, elapsed_ms: u64, buffer_ms: u64) -> bool {
    if elapsed_ms < ABANDON_AFTER_MS || got_bytes >= total_bytes {
        return false;
    }
    let rest_ms = (total_bytes - got_bytes).saturating_mul(elapsed_ms) / got_bytes.max(1);
    rest_ms > buffer_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const LADDER: [u64; 3] = [150_000, 250_000, 400_000];

    #[test]
    fn a_view_starts_low_and_climbs_with_what_it_measures() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.choose(&LADDER), 0);
        throughput.add(50_000, 100);
        assert_eq!(throughput.estimate_bps(), Some(4_000_000));
        assert_eq!(throughput.choose(&LADDER), 2);
    }

    #[test]
    fn a_throttled_path_brings_the_estimate_down_within_one_segment() {
        let mut throughput = Throughput::default();
        for _ in 0..10 {
            throughput.add(100_000, 200);
        }
        assert_eq!(throughput.choose(&LADDER), 2);
        throughput.add(75_000, 10_000);
        assert!(throughput.choose(&LADDER) <= 1, "{:?}", throughput.estimate_bps());
        throughput.add(30_000, 6_000);
        assert_eq!(throughput.choose(&LADDER), 0);
    }

    #[test]
    fn a_download_that_would_outlast_the_buffer_is_given_up() {
        assert!(should_abandon(10_000, 100_000, 2_000, 8_000));
        assert!(!should_abandon(50_000, 100_000, 2_000, 8_000), "it ends in time");
        assert!(!should_abandon(0, 100_000, 900, 0), "too soon to tell");
    }
}

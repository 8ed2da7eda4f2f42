//! Seeded random numbers: the same seed gives the same viewers.

/// `SplitMix64`: small, fast, and good enough to draw viewers from.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one thing among many: `seed` and two indexes, well mixed.
    #[must_use]
    pub fn for_item(seed: u64, first: u64, second: u64) -> Self {
        let mut mixer = Self(seed);
        for part in [first, second] {
            let mixed = mixer.next_u64() ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93);
            mixer = Self(mixed);
        }
        mixer
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// A number in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in [`low`, `high`).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    /// An index below `count`, which is above 0.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next_u64() % count.max(1) as u64).expect("below a usize")
    }

    /// A number with an exponential distribution of this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }

    /// Brings `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_items_differ() {
        let draw = |mut rng: SplitMix64| (0..4).map(|_| rng.next_u64()).collect::<Vec<_>>();
        assert_eq!(draw(SplitMix64::for_item(7, 1, 2)), draw(SplitMix64::for_item(7, 1, 2)));
        assert_ne!(draw(SplitMix64::for_item(7, 1, 2)), draw(SplitMix64::for_item(7, 2, 1)));
        assert_ne!(draw(SplitMix64::for_item(7, 1, 2)), draw(SplitMix64::for_item(8, 1, 2)));
        // First output of the reference implementation for seed 0.
        assert_eq!(SplitMix64::new(0).next_u64(), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn draws_keep_their_range_and_mean() {
        let mut rng = SplitMix64::new(1);
        let sum: f64 = (0..10_000).map(|_| rng.exponential(5.0)).sum();
        assert!((4.7..5.3).contains(&(sum / 10_000.0)), "{sum}");
        assert!((0..1_000).all(|_| (2.0..4.0).contains(&rng.between(2.0, 4.0))));
    }
}

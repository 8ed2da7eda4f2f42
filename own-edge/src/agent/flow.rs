//! Bits per second out of a counter that is read now and then.

use std::collections::VecDeque;

use spillway_model::Millis;

const WINDOW_MS: u64 = 10_000;

/// A counter's readings of the last ten seconds.
#[derive(Debug, Default)]
pub(super) struct Flow {
    counter: Option<u64>,
    total: u64,
    /// The total at each reading; the first may be older than the window.
    readings: VecDeque<(Millis, u64)>,
}

impl Flow {
    /// The counter stood at `counter`. One that is lower than before was set back, who knows to what.
    pub(super) fn read(&mut self, counter: u64, at: Millis) {
        let grown = self.counter.map_or(0, |before| counter.saturating_sub(before));
        self.counter = Some(counter);
        self.total += grown;
        self.readings.push_back((at, self.total));
        while self.readings.get(1).is_some_and(|(next, _)| at.saturating_sub(*next).0 >= WINDOW_MS) {
            self.readings.pop_front();
        }
    }

    /// Forgets how it grew up to now, which nobody saw; what it counted stays.
    pub(super) fn begin_anew(&mut self, counter: u64, at: Millis) {
        self.readings.clear();
        self.read(counter, at);
    }

    /// Counted since the first reading.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Mean of the last 10 s, or since the first reading, bit/s; what flowed between two readings is taken as even.
    /// `None` after less than two.
    pub(super) fn bits_10s_bps(&self) -> Option<u64> {
        let ((first, before), (last, _)) = (self.readings.front()?, self.readings.back()?);
        let begin = last.0.saturating_sub(WINDOW_MS);
        let mut counted = self.total - before;
        if let Some((second, after)) = self.readings.get(1)
            && first.0 < begin
        {
            let (outside_ms, between_ms) = (begin - first.0, (second.0 - first.0).max(1));
            counted -= (after - before) * outside_ms / between_ms;
        }
        // An agent that was started beside a busy server mustn't call it idle.
        counted.saturating_mul(8 * 1000).checked_div((last.0 - first.0).min(WINDOW_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_covers_ten_seconds_whenever_it_was_read() {
        let mut flow = Flow::default();
        assert_eq!(flow.bits_10s_bps(), None);
        flow.read(1_000_000, Millis(0));
        assert_eq!((flow.bits_10s_bps(), flow.total()), (None, 0), "what was before is not ours");
        flow.read(1_010_000, Millis(2_000));
        assert_eq!(flow.bits_10s_bps(), Some(40_000), "no more is known");
        for at_ms in [5_000, 9_300, 12_000, 14_000, 17_500] {
            flow.read(1_000_000 + at_ms * 5, Millis(at_ms));
        }
        assert_eq!(flow.bits_10s_bps(), Some(40_000), "5,000 bytes a second");
        assert!(flow.readings.len() < 6, "{flow:?}");
        flow.read(20_000, Millis(18_500));
        assert_eq!(flow.total(), 17_500 * 5, "the counter was set back");
        flow.begin_anew(25_000, Millis(20_000));
        assert_eq!((flow.bits_10s_bps(), flow.total()), (None, 17_500 * 5 + 5_000));
        flow.read(26_000, Millis(21_000));
        assert_eq!(flow.bits_10s_bps(), Some(8_000), "a second's");
    }
}

//! What a node carried each second of the last minute, and what that makes likely for the next. Pure.

/// Seconds that are looked at.
pub(crate) const HISTORY_S: u64 = 60;
/// Fewer say nothing.
const LEAST_S: usize = 10;
/// How far ahead.
const AHEAD_S: f64 = 60.0;

/// Figures of a minute, bit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// 95 % of its seconds had no more (nearest rank).
    pub p95_bps: u64,
    /// A minute from its end, if it goes on so: the line of least squares through its seconds.
    pub in_60s_bps: u64,
}

/// Of bits out by second, the oldest first; `None` of too few.
pub(crate) fn outlook(seconds: &[u64]) -> Option<Outlook> {
    if seconds.len() < LEAST_S {
        return None;
    }
    let mut sorted = seconds.to_vec();
    sorted.sort_unstable();
    let p95_bps = sorted[(sorted.len() * 95).div_ceil(100) - 1];
    let count = seconds.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = seconds.iter().map(|bits| *bits as f64).sum::<f64>() / count;
    let (mut rise, mut run) = (0.0, 0.0);
    for (at, bits) in seconds.iter().enumerate() {
        let from_middle = at as f64 - middle;
        rise += from_middle * (*bits as f64 - mean);
        run += from_middle * from_middle;
    }
    let in_60s = mean + rise / run * (middle + AHEAD_S);
    Some(Outlook { p95_bps, in_60s_bps: in_60s.max(0.0).round() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_even_stays_what_rises_goes_on_and_what_falls_ends_at_nothing() {
        let of = |seconds: Vec<u64>| outlook(&seconds).map(|out| (out.p95_bps, out.in_60s_bps));
        assert_eq!(of(vec![700; 60]), Some((700, 700)));
        // 10 more each second: 590 in the last one, 1190 a minute after it.
        assert_eq!(of((0..60).map(|s| 10 * s).collect()), Some((560, 1190)));
        assert_eq!(of((0..60).map(|s| 590 - 10 * s).collect()), Some((560, 0)));
        assert_eq!(of((0..10).map(|s| 100 + s).collect()), Some((109, 169)));
        assert_eq!(of(vec![0; 60]), Some((0, 0)));
        assert_eq!(of(vec![700; 9]), None);
    }

    #[test]
    fn a_peak_of_three_seconds_in_a_minute_is_above_the_ninety_fifth_percentile() {
        let mut seconds = vec![100; 60];
        seconds[10..13].fill(9_000);
        assert_eq!(outlook(&seconds).map(|out| out.p95_bps), Some(100));
        seconds[13] = 9_000;
        assert_eq!(outlook(&seconds).map(|out| out.p95_bps), Some(9_000));
    }
}

//! When what happens, in seconds of the story.

use serde::Deserialize;

/// Windows of the ground truth, s.
pub const WINDOW_S: f64 = 10.0;
/// Harm lasts a little longer than its cause: players retry at their own pace.
const AFTERMATH_S: f64 = 5.0;

/// Moments as shares of the story's length.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoryShares {
    /// The first viewers join from 0 until here.
    pub ramp_until: f64,
    /// The others join from the first until the second.
    pub spike: [f64; 2],
    /// The CDN answers with errors.
    pub outage_from: f64,
    /// The CDN only throttles.
    pub throttle_from: f64,
    /// The CDN is well again.
    pub restore_at: f64,
    /// An own edge is drained.
    pub drain_at: f64,
}

/// Moments in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// End of the first viewers' joining.
    pub ramp_until_s: f64,
    /// Spike.
    pub spike_s: (f64, f64),
    /// Outage begins. Whole seconds, as all that a drill does.
    pub outage_s: f64,
    /// Outage turns into throttling.
    pub throttle_s: f64,
    /// Outage ends.
    pub restore_s: f64,
    /// Drain begins.
    pub drain_s: f64,
    /// End.
    pub end_s: f64,
}

impl Timeline {
    /// Scales the story to `seconds`.
    ///
    /// # Errors
    /// If the moments are not in order; the message names them.
    pub fn new(shares: &StoryShares, seconds: u32) -> Result<Self, String> {
        let [spike_from, spike_to] = shares.spike;
        let all = [
            0.0,
            shares.ramp_until,
            spike_from,
            spike_to,
            shares.outage_from,
            shares.throttle_from,
            shares.restore_at,
            shares.drain_at,
            1.0,
        ];
        if !all.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(format!(
                "use the moments {all:?} of demo.story (valid: rising from ramp_until, spike, outage_from, \
                 throttle_from, restore_at to drain_at, all between 0 and 1)"
            ));
        }
        let end_s = f64::from(seconds);
        let at = |share: f64| share * end_s;
        Ok(Self {
            ramp_until_s: at(shares.ramp_until),
            spike_s: (at(spike_from), at(spike_to)),
            outage_s: at(shares.outage_from).round(),
            throttle_s: at(shares.throttle_from).round(),
            restore_s: at(shares.restore_at).round(),
            drain_s: at(shares.drain_at),
            end_s,
        })
    }

    /// From the start of the outage to the end of the last window that it can harm.
    #[must_use]
    pub fn harm_s(&self) -> f64 {
        ((self.restore_s - self.outage_s + AFTERMATH_S) / WINDOW_S).ceil() * WINDOW_S
    }

    /// Name of what goes on at `at_s`.
    #[must_use]
    pub fn phase(&self, at_s: f64) -> &'static str {
        let starts = [
            (self.drain_s, "drain"),
            (self.restore_s, "recovery"),
            (self.throttle_s, "outage: throttled"),
            (self.outage_s, "outage: errors"),
            (self.spike_s.0, "spike"),
            (self.ramp_until_s, "quiet"),
        ];
        starts.iter().find(|(start_s, _)| at_s >= *start_s).map_or("viewers join", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> StoryShares {
        StoryShares {
            ramp_until: 0.13,
            spike: [0.2, 0.36],
            outage_from: 0.42,
            throttle_from: 0.58,
            restore_at: 0.7,
            drain_at: 0.82,
        }
    }

    #[test]
    fn the_story_scales_with_its_length_and_drills_fall_on_whole_seconds() {
        let short = Timeline::new(&shares(), 90).expect("in order");
        let long = Timeline::new(&shares(), 180).expect("in order");
        assert_eq!((short.outage_s, short.throttle_s, short.restore_s), (38.0, 52.0, 63.0));
        assert_eq!((long.outage_s, long.throttle_s, long.restore_s), (76.0, 104.0, 126.0));
        assert_eq!((short.harm_s(), long.harm_s()), (30.0, 60.0));
        assert!(short.outage_s + short.harm_s() <= short.drain_s);
        let shortest = Timeline::new(&shares(), 70).expect("in order");
        assert!(shortest.outage_s + shortest.harm_s() + WINDOW_S <= shortest.end_s, "a window is left for `after`");
    }

    #[test]
    fn every_moment_has_its_phase() {
        let story = Timeline::new(&shares(), 100).expect("in order");
        let phases: Vec<_> = [1.0, 15.0, 25.0, 45.0, 60.0, 75.0, 90.0].map(|at_s| story.phase(at_s)).to_vec();
        let expected = ["viewers join", "quiet", "spike", "outage: errors", "outage: throttled", "recovery", "drain"];
        assert_eq!(phases, expected);
    }

    #[test]
    fn moments_out_of_order_are_refused() {
        let shares = StoryShares { restore_at: 0.5, ..shares() };
        assert!(Timeline::new(&shares, 90).expect_err("refused").contains("restore_at"));
    }
}

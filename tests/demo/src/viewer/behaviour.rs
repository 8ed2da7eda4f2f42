//! What the real players were measured to do when a pathway fails.

use serde::{Deserialize, Serialize};

/// Kind of player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behaviour {
    /// Like hls.js 1.7: leaves a 404 or a reset at once, stays with a 503, drops a hanging request when it is steered.
    Hls,
    /// Like dash.js 5.2: leaves after four tries in 3 s, comes back with the next poll if that still names the dead
    /// pathway first, and does not drop a hanging request.
    Dash,
    /// Like [`Behaviour::Hls`], but without content steering: plays the playlist's first pathway.
    Ignores,
}

/// How a request went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// An HTTP status other than 2xx.
    Status(u16),
    /// No connection, or it broke.
    Broken,
    /// Nothing came for so long that the player gave up.
    Timeout,
}

/// How long a pathway that was left is avoided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Penalty {
    /// So many ms.
    For(u64),
    /// Until the next steering answer.
    UntilPoll,
}

/// What the player does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The same request again after so many ms.
    Retry(u64),
    /// Another pathway.
    Leave(Penalty),
}

const HLS_PENALTY_MS: u64 = 300_000;
/// Measured: requests at 0, 1.1, 3.2 and 7.3 s; the last step repeats.
const HLS_RETRY_MS: [u64; 4] = [1_100, 2_100, 4_100, 8_000];
const DASH_TRIES: u32 = 4;
const DASH_RETRY_MS: u64 = 1_000;

impl Behaviour {
    /// Whether the player follows steering answers.
    #[must_use]
    pub fn is_steerable(self) -> bool {
        self != Self::Ignores
    }

    /// Whether a request in flight is dropped when steering moves the view.
    #[must_use]
    pub fn drops_requests_when_moved(self) -> bool {
        self != Self::Dash
    }

    /// How long the player waits for the first byte, ms.
    #[must_use]
    pub fn first_byte_timeout_ms(self) -> u64 {
        if self == Self::Dash { 20_000 } else { 10_000 }
    }

    /// What it does after the `failures`-th failure in a row (from 1) of one segment.
    #[must_use]
    pub fn react(self, trouble: Trouble, failures: u32) -> Reaction {
        match (self, trouble) {
            (Self::Dash, _) if failures < DASH_TRIES => Reaction::Retry(DASH_RETRY_MS),
            (Self::Dash, _) => Reaction::Leave(Penalty::UntilPoll),
            (_, Trouble::Status(status)) if status >= 500 => {
                let step = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
                Reaction::Retry(HLS_RETRY_MS[step.min(HLS_RETRY_MS.len() - 1)])
            }
            (_, Trouble::Timeout) => Reaction::Retry(0),
            (_, Trouble::Status(_) | Trouble::Broken) => Reaction::Leave(Penalty::For(HLS_PENALTY_MS)),
        }
    }

    /// Name and version in beacons.
    #[must_use]
    pub fn player(self) -> (&'static str, &'static str) {
        match self {
            Self::Hls => ("headless, as hls.js", "1.7.4"),
            Self::Dash => ("headless, as dash.js", "5.2.1"),
            Self::Ignores => ("headless, unsteered", "1.0.0"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hls_player_stays_with_a_503_and_asks_at_the_measured_moments() {
        let mut at_ms = 0;
        let moments: Vec<u64> = (1..=4)
            .map(|failures| match Behaviour::Hls.react(Trouble::Status(503), failures) {
                Reaction::Retry(after_ms) => {
                    at_ms += after_ms;
                    at_ms
                }
                Reaction::Leave(_) => panic!("it has no exit of its own"),
            })
            .collect();
        assert_eq!(moments, [1_100, 3_200, 7_300, 15_300]);
        assert_eq!(Behaviour::Ignores.react(Trouble::Status(503), 99), Reaction::Retry(8_000));
    }

    #[test]
    fn an_hls_player_leaves_a_404_and_a_reset_at_once() {
        for trouble in [Trouble::Status(404), Trouble::Broken] {
            assert_eq!(Behaviour::Hls.react(trouble, 1), Reaction::Leave(Penalty::For(300_000)));
        }
    }

    #[test]
    fn a_dash_player_leaves_after_three_seconds_until_the_next_poll() {
        let reactions: Vec<_> = (1..=4).map(|n| Behaviour::Dash.react(Trouble::Status(503), n)).collect();
        let retry = Reaction::Retry(1_000);
        assert_eq!(reactions, [retry, retry, retry, Reaction::Leave(Penalty::UntilPoll)]);
    }
}

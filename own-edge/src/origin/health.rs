//! Whether a server is asked: a state machine over what its fetches and probes came to. Time is an argument.
//!
//! *Up*, until so many failures stand without a whole answer between them; then *out* for a hold-down. When that is
//! over one request may try it: it comes back by an answer, and stays out twice as long without one. A server that
//! fails again soon after it came back is held out twice as long, too.

use spillway_model::Millis;

/// Failures in a row that put a server out.
pub(crate) const FAILURES_MAX: u32 = 3;
/// The first hold-down.
const HOLD_FIRST_MS: u64 = 1_000;
/// A server that was up so long begins with the first hold-down again.
const STEADY_MS: u64 = 60_000;

/// What a server's requests came to lately.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: State,
    /// Longest hold-down.
    hold_max_ms: u64,
    /// Only probes try a server that is out, no request of a client.
    probed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// `hold_ms` is its last hold-down, 0 before the first.
    Up { failures: u32, since: Millis, hold_ms: u64 },
    /// Since, and to be tried from.
    Out { since: Millis, until: Millis, hold_ms: u64 },
}

/// Whether a request may go to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is up.
    Ask,
    /// It is out, and this request tries whether it still is.
    Try,
    /// It is out.
    Leave,
}

/// What became of a server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Out for so many milliseconds.
    Out(u64),
    /// Up again.
    Back,
}

impl Health {
    /// A server that nothing is known of: up.
    pub(crate) const fn new(hold_max_ms: u64, probed: bool) -> Self {
        Self { state: State::Up { failures: 0, since: Millis(0), hold_ms: 0 }, hold_max_ms, probed }
    }

    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether a client's request may go there.
    pub(crate) fn turn(&mut self, now: Millis) -> Turn {
        if self.probed && !self.is_up() { Turn::Leave } else { self.probe_turn(now) }
    }

    /// Whether a probe may. A try that says nothing (its client left) is over with another hold-down.
    pub(crate) fn probe_turn(&mut self, now: Millis) -> Turn {
        match &mut self.state {
            State::Up { .. } => Turn::Ask,
            State::Out { until, hold_ms, .. } if now >= *until => {
                *until = now + Millis(*hold_ms);
                Turn::Try
            }
            State::Out { .. } => Turn::Leave,
        }
    }

    /// The head of an answer came to a request of time `asked`; one from before it went out says nothing of now.
    pub(crate) fn answered(&mut self, asked: Millis, now: Millis) -> Option<Change> {
        match self.state {
            State::Out { since, hold_ms, .. } if asked >= since => {
                self.state = State::Up { failures: 0, since: now, hold_ms };
                Some(Change::Back)
            }
            _ => None,
        }
    }

    /// An answer came to its end: what failed before is forgiven. A head alone forgives nothing, or who cuts every
    /// body would stay.
    pub(crate) fn ended(&mut self) {
        if let State::Up { failures, .. } = &mut self.state {
            *failures = 0;
        }
    }

    /// A request that had `turn` failed, which counts `weight` times. While the server is out only a try counts.
    pub(crate) fn failed(&mut self, turn: Turn, weight: u32, now: Millis) -> Option<Change> {
        let hold_ms = match self.state {
            State::Up { failures, since, hold_ms } => {
                let failures = failures.saturating_add(weight);
                if failures < FAILURES_MAX {
                    self.state = State::Up { failures, since, hold_ms };
                    return None;
                }
                if now.saturating_sub(since).0 < STEADY_MS { self.longer(hold_ms) } else { HOLD_FIRST_MS }
            }
            State::Out { hold_ms, .. } if turn == Turn::Try => self.longer(hold_ms),
            State::Out { .. } => return None,
        };
        self.state = State::Out { since: now, until: now + Millis(hold_ms), hold_ms };
        Some(Change::Out(hold_ms))
    }

    fn longer(&self, hold_ms: u64) -> u64 {
        (hold_ms * 2).clamp(HOLD_FIRST_MS, self.hold_max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_MS: u64 = 8_000;

    fn out_at(now: u64) -> Health {
        let mut health = Health::new(MAX_MS, false);
        assert_eq!(health.failed(Turn::Ask, FAILURES_MAX, Millis(now)), Some(Change::Out(HOLD_FIRST_MS)));
        health
    }

    #[test]
    fn failures_in_a_row_put_a_server_out_and_whole_answers_between_them_do_not() {
        let mut health = Health::new(MAX_MS, false);
        for _ in 0..10 {
            assert_eq!(health.failed(Turn::Ask, 1, Millis(5)), None);
            assert_eq!(health.failed(Turn::Ask, 1, Millis(5)), None);
            health.ended();
        }
        health.failed(Turn::Ask, 1, Millis(5));
        health.failed(Turn::Ask, 1, Millis(5));
        assert_eq!(health.answered(Millis(5), Millis(6)), None, "a head alone forgives nothing");
        assert!(health.is_up());
        assert_eq!(health.failed(Turn::Ask, 1, Millis(7)), Some(Change::Out(1_000)));
        assert!(!health.is_up());
    }

    #[test]
    fn a_failure_that_weighs_as_much_as_all_puts_it_out_at_once() {
        assert_eq!(Health::new(MAX_MS, false).failed(Turn::Ask, FAILURES_MAX, Millis(0)), Some(Change::Out(1_000)));
        assert_eq!(Health::new(MAX_MS, false).failed(Turn::Ask, u32::MAX, Millis(0)), Some(Change::Out(1_000)));
    }

    #[test]
    fn one_request_tries_a_server_when_its_hold_down_is_over() {
        let mut health = out_at(100);
        for (now, turn) in [
            (100, Turn::Leave),
            (1_099, Turn::Leave),
            (1_100, Turn::Try),
            (1_100, Turn::Leave),
            (2_099, Turn::Leave),
            // The first one never said what it came to.
            (2_100, Turn::Try),
        ] {
            assert_eq!(health.turn(Millis(now)), turn, "at {now}");
        }
        assert_eq!(health.answered(Millis(2_100), Millis(2_150)), Some(Change::Back));
        assert_eq!(health.turn(Millis(2_150)), Turn::Ask);
    }

    #[test]
    fn the_hold_down_doubles_up_to_its_bound() {
        let mut health = out_at(0);
        let mut now = 0;
        for (wait, hold) in [(1_000, 2_000), (2_000, 4_000), (4_000, 8_000), (8_000, 8_000)] {
            now += wait;
            assert_eq!(health.turn(Millis(now)), Turn::Try);
            assert_eq!(health.failed(Turn::Try, 1, Millis(now)), Some(Change::Out(hold)), "after {wait}");
        }
    }

    #[test]
    fn requests_that_were_under_way_when_it_went_out_change_nothing() {
        let mut health = out_at(1_000);
        assert_eq!(health.failed(Turn::Ask, 3, Millis(1_500)), None);
        assert_eq!(health.answered(Millis(999), Millis(1_500)), None);
        health.ended();
        assert_eq!((health.is_up(), health.turn(Millis(1_999))), (false, Turn::Leave));
        // One that was sent there since, because nobody else was left, does.
        assert_eq!(health.answered(Millis(1_600), Millis(1_700)), Some(Change::Back));
    }

    #[test]
    fn a_server_that_fails_soon_again_is_held_out_longer_and_a_steady_one_is_not() {
        for (up_ms, hold) in [(10, 2_000), (STEADY_MS - 1, 2_000), (STEADY_MS, 1_000)] {
            let mut health = out_at(0);
            health.answered(Millis(2_000), Millis(2_000));
            assert_eq!(health.failed(Turn::Ask, 3, Millis(2_000 + up_ms)), Some(Change::Out(hold)), "up {up_ms} ms");
        }
        // The first failure of all is no second one.
        let mut health = Health::new(MAX_MS, false);
        assert_eq!(health.failed(Turn::Ask, 3, Millis(1)), Some(Change::Out(1_000)));
    }

    #[test]
    fn where_there_are_probes_no_client_tries() {
        let mut health = Health::new(MAX_MS, true);
        assert_eq!(health.turn(Millis(0)), Turn::Ask);
        health.failed(Turn::Ask, 3, Millis(0));
        assert_eq!(health.turn(Millis(5_000)), Turn::Leave);
        assert_eq!(health.probe_turn(Millis(5_000)), Turn::Try);
    }
}

//! Whether the log tells of what the server answers: a full disk, or a log that the server has left for another one,
//! looks like an idle server.

use spillway_model::Millis;

/// A log that says nothing for so long (ATS may write every five seconds) …
const QUIET_MS: u64 = 6_000;
/// … while the server answers so much isn't its log. Less within a span may be health checks that nobody logs.
const ANSWERED: u64 = 100;
const SPAN_MS: u64 = 10_000;

/// The server's own count of its requests, beside the log.
#[derive(Debug, Default)]
pub(super) struct Unlogged {
    counter: Option<u64>,
    /// The span that is looked at: when it began, and what was answered in it.
    since: Millis,
    answered: u64,
    /// What was found in the one before.
    found: Option<String>,
}

impl Unlogged {
    /// The server has answered `counter` requests since some beginning; `logged` says whether the log had a line since
    /// the last call.
    ///
    /// # Errors
    /// The log has told nothing, and there was something to tell.
    pub(super) fn check(&mut self, counter: u64, logged: bool, at: Millis) -> Result<(), String> {
        // One that is lower than before was set back, who knows to what.
        let grown = self.counter.map_or(0, |before| counter.saturating_sub(before));
        if logged || self.counter.is_none() {
            *self = Self { counter: Some(counter), since: at, ..Self::default() };
            return Ok(());
        }
        self.counter = Some(counter);
        self.answered += grown;
        let quiet_ms = at.saturating_sub(self.since).0;
        if quiet_ms >= QUIET_MS && self.answered >= ANSWERED {
            let answered = self.answered;
            self.found =
                Some(format!("the log has told nothing for {quiet_ms} ms, in which the server answered {answered}"));
        } else if quiet_ms >= SPAN_MS {
            self.found = None;
        }
        if quiet_ms >= SPAN_MS {
            (self.since, self.answered) = (at, 0);
        }
        self.found.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_says_nothing_of_much_is_not_believed_until_it_speaks() {
        let mut unlogged = Unlogged::default();
        assert_eq!(unlogged.check(50_000, false, Millis(0)), Ok(()), "what was before is not ours");
        assert_eq!(unlogged.check(50_500, false, Millis(2_000)), Ok(()), "it may be written soon");
        assert_eq!(unlogged.check(50_500, false, Millis(4_000)), Ok(()));
        let error = unlogged.check(50_500, false, Millis(6_000)).expect_err("quiet");
        assert!(error.contains("6000 ms") && error.contains("answered 500"), "{error}");
        for second in [8, 10, 12, 14] {
            assert!(unlogged.check(50_600, false, Millis(second * 1_000)).is_err(), "nothing has changed");
        }
        assert_eq!(unlogged.check(50_600, true, Millis(16_000)), Ok(()));
        assert_eq!(unlogged.check(50_600, false, Millis(18_000)), Ok(()));
    }

    #[test]
    fn health_checks_that_nobody_logs_and_a_restart_are_nothing() {
        let mut unlogged = Unlogged::default();
        for second in 0..600 {
            assert_eq!(unlogged.check(1_000_000 + second * 5, false, Millis(second * 1_000)), Ok(()));
        }
        for second in 600..700 {
            assert_eq!(unlogged.check(second - 600, false, Millis(second * 1_000)), Ok(()));
        }
    }

    #[test]
    fn a_quiet_server_is_believed_again() {
        let mut unlogged = Unlogged::default();
        let mut at = |second: u64, counter| unlogged.check(counter, false, Millis(second * 1_000)).is_ok();
        assert!(at(0, 0) && !at(10, 1_000) && !at(19, 1_000) && at(20, 1_000));
    }
}

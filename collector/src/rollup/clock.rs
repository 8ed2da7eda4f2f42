//! Watched and stalled time of a view whose sender counts neither: CMCD tells states and when they began.

use spillway_wire::beacon::{Counters, Event};

/// A longer silence is none of the view's time: the player may have slept.
const SPAN_MAX_MS: u64 = 60_000;

/// Adds up the time between records by the state that held in it, on the sender's own clock.
///
/// Watched time is that of CTA-2066: from the request to play, with start, stalls and seeks, without pauses. Before the
/// first picture there is no stall, whatever the player calls it (dash.js: `sta=r` while it starts).
#[derive(Debug, Default)]
pub(super) struct StateClock {
    state: Option<String>,
    last_ms: Option<u64>,
    started: bool,
    watched_ms: u64,
    stalled_ms: u64,
}

impl StateClock {
    /// The event's counters, with those that it does not have from the states.
    pub(super) fn counters(&mut self, event: &Event) -> Counters {
        let span_ms = self.last_ms.map_or(0, |last_ms| event.created_ms.saturating_sub(last_ms)).min(SPAN_MAX_MS);
        match self.state.as_deref() {
            Some("stalled") if self.started => {
                self.watched_ms += span_ms;
                self.stalled_ms += span_ms;
            }
            Some("starting" | "playing" | "seeking" | "stalled") => self.watched_ms += span_ms,
            _ => {}
        }
        // Requests are told after their end with the time of their begin: time does not go back.
        self.last_ms = self.last_ms.max(Some(event.created_ms));
        if event.state.is_some() {
            self.state.clone_from(&event.state);
        }
        self.started |= event.state.as_deref() == Some("playing");
        let mut counters = event.counters.clone().unwrap_or_default();
        if self.state.is_some() {
            counters.watched_ms = counters.watched_ms.or(Some(self.watched_ms));
            counters.stall_ms = counters.stall_ms.or(Some(self.stalled_ms));
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: &mut StateClock, s: u64, state: &str) -> (Option<u64>, Option<u64>) {
        let state = Some(state.to_owned()).filter(|state| !state.is_empty());
        let counters = clock.counters(&Event { created_ms: s * 1_000, state, ..Event::default() });
        (counters.watched_ms, counters.stall_ms)
    }

    #[test]
    fn pauses_do_not_count_and_stalls_do_from_the_first_picture_on() {
        let mut clock = StateClock::default();
        assert_eq!(at(&mut clock, 100, ""), (None, None), "no state, no time");
        assert_eq!(at(&mut clock, 110, "starting"), (Some(0), Some(0)));
        assert_eq!(at(&mut clock, 111, "stalled"), (Some(1_000), Some(0)));
        assert_eq!(at(&mut clock, 113, "playing"), (Some(3_000), Some(0)));
        assert_eq!(at(&mut clock, 120, "stalled"), (Some(10_000), Some(0)));
        assert_eq!(at(&mut clock, 119, ""), (Some(10_000), Some(0)), "a request that began before");
        assert_eq!(at(&mut clock, 124, "playing"), (Some(14_000), Some(4_000)));
        assert_eq!(at(&mut clock, 130, "paused"), (Some(20_000), Some(4_000)));
        assert_eq!(at(&mut clock, 160, "playing"), (Some(20_000), Some(4_000)));
        assert_eq!(at(&mut clock, 9_999, "playing"), (Some(80_000), Some(4_000)), "one span at most");
    }

    #[test]
    fn what_the_player_counts_itself_is_taken() {
        let mut clock = StateClock::default();
        let own = Counters { stall_ms: Some(700), ..Counters::default() };
        let event = Event { state: Some("playing".into()), counters: Some(own), ..Event::default() };
        let counters = clock.counters(&event);
        assert_eq!((counters.stall_ms, counters.watched_ms), (Some(700), Some(0)));
    }
}

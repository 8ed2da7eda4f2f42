//! How long a kept answer is good, and for what afterwards (RFC 9111, 4.2; RFC 5861).

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use spillway_model::{Millis, TimestampMs};

use super::cache_control::{CacheControl, digits};
use super::dates::{http_date_s, single};

/// When an answer was asked for and came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Monotonic time of the request.
    pub asked: Millis,
    /// Monotonic time of the answer's head.
    pub received: Millis,
    /// Wall clock at `received`; compared with the origin's `Date` only.
    pub wall: TimestampMs,
}

/// How long a kept answer is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Freshness {
    lifetime_s: u64,
    initial_age_s: u64,
    stale_while_revalidate_s: u64,
    stale_if_error_s: Option<u64>,
    no_cache: bool,
    never_stale: bool,
    received: Millis,
}

/// How long an answer is good, for another process: by the wall clock.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Saved {
    lifetime_s: u64,
    age_s: u64,
    stale_while_revalidate_s: u64,
    stale_if_error_s: Option<u64>,
    no_cache: bool,
    never_stale: bool,
    /// When it had this age.
    wall_ms: u64,
}

/// What a kept answer is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Serves; so many seconds remain.
    Fresh(u64),
    /// Serves while it is being revalidated.
    StaleWhileRevalidate,
    /// Must be revalidated first.
    Stale,
}

/// A guess is a tenth of the time since the last change (RFC 9111, 4.2.2), and no longer than this.
const GUESS_MAX_S: u64 = 24 * 3_600;

impl Freshness {
    /// What the headers say; `None` if they say nothing.
    pub(crate) fn said(headers: &HeaderMap, control: &CacheControl, times: Times) -> Option<Self> {
        let expires = !control.targeted && headers.contains_key(EXPIRES);
        let lifetime_s = match (control.s_maxage_s, control.max_age_s) {
            (Some(s_maxage_s), _) => s_maxage_s,
            (None, Some(max_age_s)) => max_age_s,
            (None, None) if expires => {
                let from_s = date_s(headers).unwrap_or(times.wall.0 / 1000);
                single(headers, &EXPIRES).and_then(http_date_s).map_or(0, |expires_s| expires_s.saturating_sub(from_s))
            }
            (None, None) if control.no_cache => 0,
            (None, None) => return None,
        };
        Some(Self::new(lifetime_s, headers, control, times))
    }

    /// What may be guessed from the time of the last change, where nothing is said; `None` without such a time.
    pub(crate) fn guessed(headers: &HeaderMap, control: &CacheControl, times: Times) -> Option<Self> {
        let modified_s = single(headers, &LAST_MODIFIED).and_then(http_date_s)?;
        let unchanged_s = date_s(headers).unwrap_or(times.wall.0 / 1000).saturating_sub(modified_s);
        Some(Self::new((unchanged_s / 10).min(GUESS_MAX_S), headers, control, times))
    }

    /// What an operator says.
    pub(crate) fn fixed(lifetime_s: u64, headers: &HeaderMap, control: &CacheControl, times: Times) -> Self {
        Self { no_cache: false, ..Self::new(lifetime_s, headers, control, times) }
    }

    /// No longer than `max_s`.
    pub(crate) fn at_most(self, max_s: u64) -> Self {
        Self { lifetime_s: self.lifetime_s.min(max_s), ..self }
    }

    fn new(lifetime_s: u64, headers: &HeaderMap, control: &CacheControl, times: Times) -> Self {
        let apparent_age_s = date_s(headers).map_or(0, |date_s| (times.wall.0 / 1000).saturating_sub(date_s));
        let delay_s = times.received.saturating_sub(times.asked).0 / 1000;
        Self {
            lifetime_s,
            initial_age_s: apparent_age_s.max(age_s(headers) + delay_s),
            stale_while_revalidate_s: control.stale_while_revalidate_s.unwrap_or(0),
            stale_if_error_s: control.stale_if_error_s,
            no_cache: control.no_cache,
            never_stale: control.forbids_stale(),
            received: times.received,
        }
    }

    /// For another process.
    pub(crate) fn saved(&self, now: Millis, wall: TimestampMs) -> Saved {
        Saved {
            lifetime_s: self.lifetime_s,
            age_s: self.age_s(now),
            stale_while_revalidate_s: self.stale_while_revalidate_s,
            stale_if_error_s: self.stale_if_error_s,
            no_cache: self.no_cache,
            never_stale: self.never_stale,
            wall_ms: wall.0,
        }
    }

    /// From another process. A wall clock that was put back makes it as old as can be: nobody knows how old it is.
    pub(crate) fn restored(saved: Saved, now: Millis, wall: TimestampMs) -> Self {
        let since_s = wall.0.checked_sub(saved.wall_ms).map(|ms| ms / 1000);
        Self {
            lifetime_s: saved.lifetime_s,
            initial_age_s: since_s.map_or(u64::MAX / 2, |since_s| saved.age_s.saturating_add(since_s)),
            stale_while_revalidate_s: saved.stale_while_revalidate_s,
            stale_if_error_s: saved.stale_if_error_s,
            no_cache: saved.no_cache,
            never_stale: saved.never_stale,
            received: now,
        }
    }

    /// Age in whole seconds.
    pub(crate) fn age_s(&self, now: Millis) -> u64 {
        self.initial_age_s + now.saturating_sub(self.received).0 / 1000
    }

    /// What it is good for now.
    pub(crate) fn state(&self, now: Millis) -> State {
        let age_s = self.age_s(now);
        if age_s < self.lifetime_s && !self.no_cache {
            State::Fresh(self.lifetime_s - age_s)
        } else if !self.never_stale && age_s < self.lifetime_s.saturating_add(self.stale_while_revalidate_s) {
            State::StaleWhileRevalidate
        } else {
            State::Stale
        }
    }

    /// What it would be good for, were its time just over.
    pub(crate) fn past_its_time(&self) -> State {
        let serves = !self.never_stale && self.stale_while_revalidate_s > 0;
        if serves { State::StaleWhileRevalidate } else { State::Stale }
    }

    /// Whether it may serve because the origin can't be reached.
    pub(crate) fn serves_without_origin(&self, now: Millis, default_s: u64) -> bool {
        let window_s = self.stale_if_error_s.unwrap_or(default_s);
        !self.never_stale && self.age_s(now) < self.lifetime_s.saturating_add(window_s)
    }

    /// Whether it may serve because the origin answers 5xx; only if the origin allowed it.
    pub(crate) fn serves_on_error_status(&self, now: Millis) -> bool {
        self.stale_if_error_s.is_some() && self.serves_without_origin(now, 0)
    }

    /// Whether only a 504 may follow a failed revalidation.
    pub(crate) fn never_stale(&self) -> bool {
        self.never_stale
    }

    /// Whether keeping it is of any use: it serves at least once, or can be validated.
    pub(crate) fn is_of_use(&self, has_validator: bool) -> bool {
        let fresh_on_arrival = self.initial_age_s < self.lifetime_s && !self.no_cache;
        fresh_on_arrival || has_validator || (self.stale_while_revalidate_s > 0 && !self.never_stale)
    }
}

fn date_s(headers: &HeaderMap) -> Option<u64> {
    single(headers, &DATE).and_then(http_date_s)
}

/// First member of the first line; anything but digits is no age.
fn age_s(headers: &HeaderMap) -> u64 {
    let first = headers.get(AGE).map(HeaderValue::as_bytes).unwrap_or_default();
    digits(first.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::rules::map;

    const NOW_S: u64 = 1_767_225_600;

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn times() -> Times {
        Times { asked: Millis(5_000), received: Millis(5_000), wall: TimestampMs(NOW_S * 1000) }
    }

    fn date(offset_s: i64) -> String {
        let seconds = NOW_S.checked_add_signed(offset_s).expect("in range");
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn said(lines: Lines) -> Option<Freshness> {
        let headers = map(lines);
        Freshness::said(&headers, &CacheControl::of(&headers), times())
    }

    /// Seconds that it is fresh for on arrival.
    fn fresh_s(lines: Lines) -> u64 {
        match said(lines).map(|freshness| freshness.state(times().received)) {
            Some(State::Fresh(ttl_s)) => ttl_s,
            _ => 0,
        }
    }

    #[test]
    fn an_answer_is_as_old_in_another_process_and_older_than_anything_if_the_clock_went_back() {
        let fresh = said(&[("cache-control", "max-age=100, stale-if-error=7"), ("age", "10")]).expect("said");
        let saved = fresh.saved(Millis(25_000), TimestampMs(1_000_000));
        let after = |wall_ms| Freshness::restored(saved, Millis(1), TimestampMs(wall_ms));
        assert_eq!(after(1_000_000).state(Millis(1)), State::Fresh(70));
        assert_eq!(after(1_005_999).state(Millis(2_001)), State::Fresh(63));
        assert_eq!(after(1_070_000).state(Millis(1)), State::Stale);
        assert!(after(1_070_000).serves_on_error_status(Millis(1)));
        assert_eq!(after(999_999).state(Millis(1)), State::Stale);
        assert!(!after(999_999).serves_without_origin(Millis(1), 1_000));
    }

    #[test]
    fn lifetime_follows_the_most_particular_header() {
        let (past, soon, later) = (date(-10), date(20), date(300));
        let table: &[(Lines, u64)] = &[
            (&[("cache-control", "max-age=60")], 60),
            (&[("cache-control", "max-age=60, s-maxage=10")], 10),
            (&[("cache-control", "s-maxage=x, max-age=60")], 0),
            (&[("cache-control", "max-age=60"), ("expires", &past)], 60),
            (&[("expires", &later)], 300),
            (&[("expires", &later), ("date", &date(200))], 100),
            (&[("expires", &later), ("date", &date(400))], 0),
            (&[("expires", &soon), ("date", &date(10)), ("age", "15")], 0),
            (&[("expires", "0")], 0),
            (&[("expires", &later), ("expires", &later)], 0),
            (&[("expires", &later.replace("GMT", "UTC"))], 0),
            (&[], 0),
            (&[("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")], 0),
            (&[("cdn-cache-control", "max-age=10"), ("cache-control", "max-age=60"), ("expires", &later)], 10),
            (&[("cdn-cache-control", "foo"), ("expires", &later)], 0),
        ];
        for (headers, expected) in table {
            assert_eq!(fresh_s(headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn age_is_the_larger_of_what_is_said_and_what_is_seen() {
        let old = date(-40);
        let table: &[(Lines, u64)] = &[
            (&[("age", "20")], 40),
            (&[("age", "20, 50")], 40),
            (&[("age", "7200.0")], 60),
            (&[("age", "-5")], 60),
            (&[("age", "99999999999999999999")], 0),
            (&[("date", &old)], 20),
            (&[("date", &old), ("age", "50")], 10),
            (&[("date", &date(90))], 60),
        ];
        for (extra, expected) in table {
            let mut headers = vec![("cache-control", "max-age=60")];
            headers.extend_from_slice(extra);
            assert_eq!(fresh_s(&headers), *expected, "{extra:?}");
        }
    }

    #[test]
    fn the_time_that_the_answer_took_counts_as_age() {
        let times = Times { asked: Millis(1_000), ..times() };
        let headers = map(&[("cache-control", "max-age=60"), ("age", "10")]);
        let freshness = Freshness::said(&headers, &CacheControl::of(&headers), times).expect("said");
        assert_eq!(freshness.age_s(times.received), 14);
        assert_eq!(freshness.age_s(Millis(7_999)), 16);
    }

    #[test]
    fn stale_serves_only_inside_its_windows() {
        let stored = |control: &str| said(&[("cache-control", control), ("etag", "\"a\"")]).expect(control);
        let after = |seconds: u64| Millis(times().received.0 + seconds * 1000);
        // directive, seconds after arrival, state, without origin (default 30 s), on 5xx
        let table = [
            ("max-age=1, stale-while-revalidate=4", 0, State::Fresh(1), true, false),
            ("max-age=1, stale-while-revalidate=4", 3, State::StaleWhileRevalidate, true, false),
            ("max-age=1, stale-while-revalidate=4", 6, State::Stale, true, false),
            ("max-age=1, stale-while-revalidate=4, must-revalidate", 3, State::Stale, false, false),
            ("max-age=1, stale-if-error=10", 9, State::Stale, true, true),
            ("max-age=1, stale-if-error=10", 11, State::Stale, false, false),
            ("max-age=1", 30, State::Stale, true, false),
            ("max-age=1", 31, State::Stale, false, false),
            ("max-age=1, proxy-revalidate", 2, State::Stale, false, false),
            ("s-maxage=1", 2, State::Stale, false, false),
            ("max-age=9, no-cache", 0, State::Stale, false, false),
        ];
        for (control, seconds, state, without_origin, on_error) in table {
            let freshness = stored(control);
            let now = after(seconds);
            assert_eq!(freshness.state(now), state, "{control} after {seconds} s");
            assert_eq!(freshness.serves_without_origin(now, 30), without_origin, "{control} after {seconds} s");
            assert_eq!(freshness.serves_on_error_status(now), on_error, "{control} after {seconds} s");
        }
    }

    #[test]
    fn a_guess_is_a_tenth_of_the_time_since_the_last_change_and_at_most_a_day() {
        let guessed = |modified: &str| {
            let headers = map(&[("last-modified", modified), ("date", &date(0))]);
            Freshness::guessed(&headers, &CacheControl::of(&headers), times()).map(|it| it.state(times().received))
        };
        assert_eq!(guessed(&date(-1_000)), Some(State::Fresh(100)));
        assert_eq!(guessed(&date(-100 * 24 * 3_600)), Some(State::Fresh(GUESS_MAX_S)));
        assert_eq!(guessed(&date(-9)), Some(State::Stale));
        assert_eq!(guessed(&date(50)), Some(State::Stale));
        assert_eq!(guessed("yesterday"), None);
    }
}

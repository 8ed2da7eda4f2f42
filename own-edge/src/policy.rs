//! What may be kept and for how long: RFC 9111 for a shared cache, as a pure function of one answer and three times.
//!
//! There is no default freshness: what the origin doesn't give a time to is served to those who wait for it and then
//! forgotten, errors included.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use spillway_model::{Millis, TimestampMs};

use crate::cache_control::{CacheControl, digits, split_outside_quotes};

/// How the end of an answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection: a cut can't be told from an end, so nothing of it is kept.
    UntilClose,
}

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

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Keep {
    /// Kept, and shared while it comes.
    Store(Freshness),
    /// Shared with those who wait for it now, not kept: nothing says how long it is good.
    Share,
    /// For one request only; the word says why.
    Pass(&'static str),
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

/// Decides over an answer to a GET without conditions, range or credentials.
pub(crate) fn keep(
    status: StatusCode,
    headers: &HeaderMap,
    framing: Framing,
    times: Times,
    max_object_bytes: u64,
) -> Keep {
    let control = CacheControl::parse(headers);
    if control.no_store {
        return Keep::Pass("no-store");
    }
    if control.private {
        return Keep::Pass("private");
    }
    if matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
        return Keep::Pass("unasked-partial");
    }
    if headers.contains_key(SET_COOKIE) {
        return Keep::Pass("set-cookie");
    }
    if !varies_by_nothing_sent(headers) {
        return Keep::Pass("vary");
    }
    match framing {
        Framing::Length(bytes) if bytes > max_object_bytes => return Keep::Pass("too-large"),
        Framing::UntilClose => return Keep::Share,
        _ => {}
    }
    match freshness(headers, &control, times) {
        Some(freshness) if freshness.is_of_use(has_validator(headers)) => Keep::Store(freshness),
        _ => Keep::Share,
    }
}

/// Freshness that the headers give; `None` if they say nothing.
pub(crate) fn freshness(headers: &HeaderMap, control: &CacheControl, times: Times) -> Option<Freshness> {
    let date_s = single(headers, &DATE).and_then(http_date_s);
    let wall_s = times.wall.0 / 1000;
    let lifetime_s = match (control.s_maxage_s, control.max_age_s, headers.contains_key(EXPIRES)) {
        (Some(s_maxage_s), ..) => s_maxage_s,
        (None, Some(max_age_s), _) => max_age_s,
        (None, None, true) => single(headers, &EXPIRES)
            .and_then(http_date_s)
            .map_or(0, |expires_s| expires_s.saturating_sub(date_s.unwrap_or(wall_s))),
        (None, None, false) if control.no_cache => 0,
        (None, None, false) => return None,
    };
    let apparent_age_s = date_s.map_or(0, |date_s| wall_s.saturating_sub(date_s));
    let delay_s = times.received.saturating_sub(times.asked).0 / 1000;
    Some(Freshness {
        lifetime_s,
        initial_age_s: apparent_age_s.max(age_s(headers) + delay_s),
        stale_while_revalidate_s: control.stale_while_revalidate_s.unwrap_or(0),
        stale_if_error_s: control.stale_if_error_s,
        no_cache: control.no_cache,
        never_stale: control.must_revalidate || control.no_cache || control.s_maxage_s.is_some(),
        received: times.received,
    })
}

impl Freshness {
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

    fn is_of_use(&self, has_validator: bool) -> bool {
        let fresh_on_arrival = self.initial_age_s < self.lifetime_s && !self.no_cache;
        fresh_on_arrival || has_validator || (self.stale_while_revalidate_s > 0 && !self.never_stale)
    }
}

/// Requests for an object all reach the origin alike: without `Origin` and with identity coding. So these two may be
/// listed; anything else needs variants, which are not there yet.
fn varies_by_nothing_sent(headers: &HeaderMap) -> bool {
    headers.get_all(VARY).iter().flat_map(|line| split_outside_quotes(line.as_bytes())).all(|field| {
        [&b"origin"[..], b"accept-encoding", b"access-control-request-headers", b"access-control-request-method"]
            .contains(&field.to_ascii_lowercase().as_slice())
    })
}

fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// First member of the first line; anything but digits is no age.
fn age_s(headers: &HeaderMap) -> u64 {
    let first = headers.get(AGE).map(HeaderValue::as_bytes).unwrap_or_default();
    digits(first.split(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()).unwrap_or(0)
}

/// The only line of a field; several lines are none.
fn single<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// Seconds since epoch of an HTTP date.
pub(crate) fn http_date_s(value: &HeaderValue) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_767_225_600;

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn times() -> Times {
        Times { asked: Millis(5_000), received: Millis(5_000), wall: TimestampMs(NOW_S * 1000) }
    }

    fn date(offset_s: i64) -> String {
        let seconds = NOW_S.checked_add_signed(offset_s).expect("in range");
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: http::HeaderName = name.parse().expect("name");
            headers.append(name, value.parse().expect("value"));
        }
        headers
    }

    fn decide(status: u16, lines: &[(&str, &str)]) -> Keep {
        let status = StatusCode::from_u16(status).expect("status");
        keep(status, &map(lines), Framing::Length(10), times(), 1 << 20)
    }

    /// Seconds that it is fresh for on arrival; 0 = kept or shared, not fresh.
    fn fresh_s(lines: &[(&str, &str)]) -> u64 {
        match decide(200, lines) {
            Keep::Store(freshness) => match freshness.state(times().received) {
                State::Fresh(ttl_s) => ttl_s,
                _ => 0,
            },
            _ => 0,
        }
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
        let Keep::Store(freshness) = keep(StatusCode::OK, &headers, Framing::Chunked, times, 1) else {
            panic!("stored")
        };
        assert_eq!(freshness.age_s(times.received), 14);
        assert_eq!(freshness.age_s(Millis(7_999)), 16);
    }

    #[test]
    fn only_what_is_safe_for_all_is_shared_and_only_what_has_a_time_is_kept() {
        let fresh = ("cache-control", "max-age=60");
        let table: &[(u16, Lines, Option<&str>)] = &[
            (200, &[("cache-control", "no-store, max-age=60")], Some("no-store")),
            (200, &[("cache-control", "private, max-age=60")], Some("private")),
            (200, &[fresh, ("set-cookie", "a=b")], Some("set-cookie")),
            (200, &[fresh, ("vary", "*")], Some("vary")),
            (200, &[fresh, ("vary", "Origin, Accept-Encoding"), ("vary", "cookie")], Some("vary")),
            (206, &[fresh], Some("unasked-partial")),
            (200, &[], None),
            (404, &[], None),
            (503, &[], None),
            (200, &[("cache-control", "no-cache")], None),
            (200, &[("cache-control", "max-age=0")], None),
        ];
        for (status, headers, pass) in table {
            let expected = pass.map_or(Keep::Share, Keep::Pass);
            assert_eq!(decide(*status, headers), expected, "{status} {headers:?}");
        }
        for status in [200, 203, 204, 299, 301, 302, 404, 410, 499, 500, 503, 599] {
            assert!(matches!(decide(status, &[fresh]), Keep::Store(_)), "{status}");
        }
        for headers in [&[fresh, ("vary", "Origin")][..], &[("cache-control", "no-cache"), ("etag", "\"a\"")]] {
            assert!(matches!(decide(200, headers), Keep::Store(_)), "{headers:?}");
        }
        let status = StatusCode::OK;
        assert_eq!(keep(status, &map(&[fresh]), Framing::Length(11), times(), 10), Keep::Pass("too-large"));
        assert_eq!(keep(status, &map(&[fresh]), Framing::UntilClose, times(), 10), Keep::Share);
    }

    #[test]
    fn stale_serves_only_inside_its_windows() {
        let stored = |control: &str| match decide(200, &[("cache-control", control), ("etag", "\"a\"")]) {
            Keep::Store(freshness) => freshness,
            other => panic!("{control}: {other:?}"),
        };
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
}

//! What may be kept and for whom: RFC 9111 for a shared cache, as a pure function of a request, its answer and three times.

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::cache_control::CacheControl;
use super::freshness::{Freshness, Times};
use super::vary::Varies;

/// How the end of an answer's body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the end of the connection: a cut can't be told from an end.
    UntilClose,
}

/// What the operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choices {
    /// Largest body that is kept.
    pub max_object_bytes: u64,
    /// Answers with `Set-Cookie` are kept, and everybody gets the same cookie. RFC 9111 has it so; whoever logs people
    /// in would not.
    pub keep_set_cookie: bool,
    /// Bodies that end with the connection are kept. A cut by the origin's death can't be told from an end.
    pub keep_until_close: bool,
    /// Where nothing says how long an answer is good, it is guessed from the time of its last change.
    pub guess_freshness: bool,
}

/// What the operator decides of times, for some paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl {
    /// Whatever the origin says, s.
    pub fixed_s: Option<u64>,
    /// Where the origin doesn't say, s.
    pub default_s: Option<u64>,
    /// At most, s.
    pub max_s: Option<u64>,
    /// Of errors whose time may be guessed, where the origin doesn't say, s.
    pub error_s: u64,
}

impl Ttl {
    /// Where nothing is configured.
    pub(crate) const USUAL: Self = Self { fixed_s: None, default_s: None, max_s: None, error_s: 0 };
}

/// An answer's head, with what it was asked by.
#[derive(Clone, Copy)]
pub(crate) struct Exchange<'a> {
    /// As the origin got them.
    pub request: &'a HeaderMap,
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub framing: Framing,
    pub times: Times,
}

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Keep {
    /// Kept, and shared while it comes, with those whose requests it is for.
    Store(Freshness, Varies),
    /// Shared with those who wait for it now, not kept: nothing says how long it is good.
    Share,
    /// For one request only; the word says why.
    Pass(&'static str),
}

/// Statuses whose freshness may be guessed (RFC 9110, 15.1; without 206).
const GUESSED: [u16; 10] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414];
/// What must be understood, and is (RFC 9111, 5.2.2.3): those whose caching has no rules of its own.
const UNDERSTOOD: [u16; 22] =
    [200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 410, 414, 451, 500, 501, 502, 503, 504];

/// Decides over an answer to a GET without conditions and range.
pub(crate) fn keep(exchange: Exchange<'_>, choices: Choices, ttl: Ttl) -> Keep {
    let Exchange { request, status, headers, framing, times } = exchange;
    let control = CacheControl::of(headers);
    let understood = UNDERSTOOD.contains(&status.as_u16());
    if control.must_understand && !understood {
        return Keep::Pass("not-understood");
    }
    if control.no_store && !control.must_understand {
        return Keep::Pass("no-store");
    }
    if control.private {
        return Keep::Pass("private");
    }
    if matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED) {
        return Keep::Pass("unasked-partial");
    }
    let varies = Varies::of(headers);
    if varies == Varies::ByAnything {
        return Keep::Pass("vary");
    }
    if request.contains_key(AUTHORIZATION) && !control.allows_authorized() {
        return Keep::Pass("authorization");
    }
    let says = || Freshness::said(headers, &control, times).is_some();
    if headers.contains_key(SET_COOKIE) && !(choices.keep_set_cookie && says()) {
        return Keep::Pass("set-cookie");
    }
    match framing {
        Framing::Length(bytes) if bytes > choices.max_object_bytes => return Keep::Pass("too-large"),
        Framing::UntilClose if !choices.keep_until_close => return share(request, &varies),
        _ => {}
    }
    match freshness(status, headers, times, choices, ttl) {
        Some(freshness) if freshness.is_of_use(has_validator(headers)) => Keep::Store(freshness, varies),
        _ => share(request, &varies),
    }
}

/// How long an answer is good: what the operator fixed, what the origin says, what the operator says where it doesn't,
/// what may be guessed.
pub(crate) fn freshness(
    status: StatusCode,
    headers: &HeaderMap,
    times: Times,
    choices: Choices,
    ttl: Ttl,
) -> Option<Freshness> {
    let control = CacheControl::of(headers);
    let guessable = GUESSED.contains(&status.as_u16()) || status == StatusCode::NOT_IMPLEMENTED;
    let fixed = |lifetime_s| Freshness::fixed(lifetime_s, headers, &control, times);
    if let Some(lifetime_s) = ttl.fixed_s.filter(|_| guessable && !status.is_client_error()) {
        return Some(fixed(lifetime_s));
    }
    let may_guess = choices.guess_freshness && (guessable || control.public) && !is_playlist(headers);
    let is_error = guessable && (status.is_client_error() || status.is_server_error());
    let found = Freshness::said(headers, &control, times)
        .or_else(|| ttl.default_s.filter(|_| guessable && !is_error).map(fixed))
        .or_else(|| Freshness::guessed(headers, &control, times).filter(|_| may_guess))
        .or_else(|| (is_error && ttl.error_s > 0).then(|| fixed(ttl.error_s)))?;
    Some(ttl.max_s.map_or(found, |max_s| found.at_most(max_s)))
}

/// Those who wait may have it, unless it may be about one of them.
fn share(request: &HeaderMap, varies: &Varies) -> Keep {
    match () {
        () if request.contains_key(COOKIE) || request.contains_key(AUTHORIZATION) => Keep::Pass("personal"),
        () if *varies != Varies::Nothing => Keep::Pass("vary"),
        () => Keep::Share,
    }
}

/// Playlists change as they please: a live one that stood still for a day, because nothing was on, must not be taken
/// for good for hours.
fn is_playlist(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase()).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    [
        &b"application/vnd.apple.mpegurl"[..],
        b"application/x-mpegurl",
        b"audio/mpegurl",
        b"audio/x-mpegurl",
        b"application/dash+xml",
    ]
    .contains(&kind)
}

fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

#[cfg(test)]
mod tests {
    use spillway_model::{Millis, TimestampMs};

    use super::*;
    use crate::rules::map;

    const NOW_S: u64 = 1_767_225_600;
    const CHOICES: Choices =
        Choices { max_object_bytes: 10, keep_set_cookie: false, keep_until_close: false, guess_freshness: true };

    type Lines<'a> = &'a [(&'a str, &'a str)];

    fn kept(request: Lines, status: u16, lines: Lines, framing: Framing, choices: Choices) -> Keep {
        let times = Times { asked: Millis(5_000), received: Millis(5_000), wall: TimestampMs(NOW_S * 1000) };
        let status = StatusCode::from_u16(status).expect("status");
        let (request, headers) = (&map(request), &map(lines));
        keep(Exchange { request, status, headers, framing, times }, choices, Ttl::USUAL)
    }

    fn decide(status: u16, lines: Lines) -> Keep {
        kept(&[], status, lines, Framing::Length(10), CHOICES)
    }

    fn is_stored(keep: &Keep) -> bool {
        matches!(keep, Keep::Store(..))
    }

    #[test]
    fn only_what_is_safe_for_all_is_shared_and_only_what_has_a_time_is_kept() {
        let fresh = ("cache-control", "max-age=60");
        let table: &[(u16, Lines, Option<&str>)] = &[
            (200, &[("cache-control", "no-store, max-age=60")], Some("no-store")),
            (200, &[("cache-control", "private, max-age=60")], Some("private")),
            (200, &[fresh, ("set-cookie", "a=b")], Some("set-cookie")),
            (200, &[fresh, ("vary", "*")], Some("vary")),
            (200, &[("vary", "cookie")], Some("vary")),
            (200, &[("cache-control", "no-store, must-understand, max-age=60, private")], Some("private")),
            (299, &[("cache-control", "no-store, must-understand, max-age=60")], Some("not-understood")),
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
            assert!(is_stored(&decide(status, &[fresh])), "{status}");
        }
        for headers in [
            &[fresh, ("vary", "Origin")][..],
            &[fresh, ("vary", "cookie")],
            &[("cache-control", "no-store, must-understand, max-age=60")],
            &[("cache-control", "no-cache"), ("etag", "\"a\"")],
        ] {
            assert!(is_stored(&decide(200, headers)), "{headers:?}");
        }
        let of = |framing| kept(&[], 200, &[fresh], framing, CHOICES);
        assert_eq!(of(Framing::Length(11)), Keep::Pass("too-large"));
        assert_eq!(of(Framing::UntilClose), Keep::Share);
        assert!(is_stored(&kept(
            &[],
            200,
            &[fresh],
            Framing::UntilClose,
            Choices { keep_until_close: true, ..CHOICES }
        )));
        let cookie = [fresh, ("set-cookie", "a=b")];
        let choices = Choices { keep_set_cookie: true, ..CHOICES };
        assert!(is_stored(&kept(&[], 200, &cookie, Framing::Chunked, choices)));
        assert_eq!(kept(&[], 200, &cookie[1..], Framing::Chunked, choices), Keep::Pass("set-cookie"));
    }

    #[test]
    fn what_was_asked_with_credentials_is_for_who_asked_unless_the_origin_says_otherwise() {
        let with = |request: Lines, control: &str| {
            kept(request, 200, &[("cache-control", control)], Framing::Chunked, CHOICES)
        };
        let authorized: Lines = &[("authorization", "a")];
        assert_eq!(with(authorized, "max-age=60"), Keep::Pass("authorization"));
        for control in ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"] {
            assert!(is_stored(&with(authorized, control)), "{control}");
        }
        // A cookie alone keeps nothing from being kept, but what says nothing may be about its owner.
        assert!(is_stored(&with(&[("cookie", "a=b")], "max-age=60")));
        assert_eq!(with(&[("cookie", "a=b")], "foo"), Keep::Pass("personal"));
        assert_eq!(with(authorized, "public"), Keep::Pass("personal"));
    }

    #[test]
    fn freshness_is_guessed_for_what_stays_and_never_for_playlists() {
        let old = ("last-modified", "Mon, 01 Dec 2025 00:00:00 GMT");
        for status in [200, 203, 204, 404, 405, 410, 414, 501] {
            assert!(is_stored(&decide(status, &[old])), "{status}");
        }
        for status in [201, 202, 403, 502, 503, 504, 599] {
            assert_eq!(decide(status, &[old]), Keep::Share, "{status}");
        }
        assert!(is_stored(&decide(599, &[old, ("cache-control", "public")])));
        for kind in ["application/vnd.apple.mpegurl", "Application/X-MpegURL; charset=utf-8", "application/dash+xml"] {
            assert_eq!(decide(200, &[old, ("content-type", kind)]), Keep::Share, "{kind}");
        }
        let choices = Choices { guess_freshness: false, ..CHOICES };
        assert_eq!(kept(&[], 200, &[old], Framing::Chunked, choices), Keep::Share);
    }

    #[test]
    fn the_operators_times_hold_for_what_may_be_kept_at_all() {
        let decide = |status, lines: Lines, ttl: Ttl| {
            let (request, headers) = (map(&[]), map(lines));
            let times = Times { asked: Millis(0), received: Millis(0), wall: TimestampMs(0) };
            let status = StatusCode::from_u16(status).expect("status");
            let exchange =
                Exchange { request: &request, status, headers: &headers, framing: Framing::Length(1), times };
            match keep(exchange, CHOICES, ttl) {
                Keep::Store(freshness, _) => match freshness.state(Millis(0)) {
                    super::super::freshness::State::Fresh(ttl_s) => Some(ttl_s),
                    _ => Some(0),
                },
                _ => None,
            }
        };
        let fixed = Ttl { fixed_s: Some(7), ..Ttl::USUAL };
        let bounds = Ttl { default_s: Some(5), max_s: Some(9), ..Ttl::USUAL };
        let max_age: Lines = &[("cache-control", "max-age=60")];
        for (status, lines, ttl, expected) in [
            (200, max_age, fixed, Some(7)),
            (200, &[("cache-control", "no-cache")], fixed, Some(7)),
            (200, &[("cache-control", "no-store")], fixed, None),
            (200, &[("cache-control", "private")], fixed, None),
            (200, &[("set-cookie", "a=1")], fixed, None),
            (503, &[], fixed, None),
            (404, &[], fixed, None),
            (404, &[], Ttl { error_s: 2, ..fixed }, Some(2)),
            (200, max_age, bounds, Some(9)),
            (200, &[], bounds, Some(5)),
            (200, &[("cache-control", "max-age=3")], bounds, Some(3)),
            (404, &[], bounds, None),
            (404, max_age, Ttl { error_s: 1, ..Ttl::USUAL }, Some(60)),
            (404, &[], Ttl::USUAL, None),
            (403, &[], Ttl { error_s: 1, ..Ttl::USUAL }, None),
            (502, &[], Ttl { error_s: 1, ..Ttl::USUAL }, None),
        ] {
            assert_eq!(decide(status, lines, ttl), expected, "{status} {lines:?} {ttl:?}");
        }
    }
}

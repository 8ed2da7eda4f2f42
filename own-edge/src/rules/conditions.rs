//! What a client asks beside the path: conditions and ranges, decided against a kept or arriving answer. Pure.

use std::ops::Range;

use http::header::{DATE, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::cache_control::split_outside_quotes;
use super::dates::{http_date_s, single};
use super::ranges::ranges;
use crate::cache::object::Head;

/// Which part of an object answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// Nothing: the client has it.
    NotModified,
    /// Some bytes of it.
    Range(Range<u64>),
    /// Several such, in their order, none touching another.
    Several(Vec<Range<u64>>),
    /// What is asked for lies outside: 416.
    Outside,
}

/// Decides; `len` is `None` while the length is unknown, and then no range can be answered.
pub(crate) fn part(request: &HeaderMap, head: &Head, len: Option<u64>) -> Part {
    if head.status != StatusCode::OK {
        return Part::Whole;
    }
    if client_has_it(request, head) {
        return Part::NotModified;
    }
    match (request.get(RANGE), len) {
        (Some(range), Some(len)) if if_range_holds(request, head) => match ranges(range.as_bytes(), len) {
            None => Part::Whole,
            Some(mut ranges) => match ranges.len() {
                0 => Part::Outside,
                1 => Part::Range(ranges.swap_remove(0)),
                _ => Part::Several(ranges),
            },
        },
        _ => Part::Whole,
    }
}

/// `If-None-Match` by weak comparison; `If-Modified-Since` only without it.
fn client_has_it(request: &HeaderMap, head: &Head) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return request
            .get_all(IF_NONE_MATCH)
            .iter()
            .flat_map(|line| split_outside_quotes(line.as_bytes()))
            .any(|tag| tag == b"*" || head.etag().is_some_and(|etag| opaque(tag) == opaque(etag.as_bytes())));
    }
    let Some(since_s) = request.get(IF_MODIFIED_SINCE).and_then(http_date_s) else { return false };
    // What has no time of its last change was as it is when it was made (RFC 9111, 4.3.2).
    let modified_s = head.last_modified_s().or_else(|| single(&head.headers, &DATE).and_then(http_date_s));
    modified_s.is_some_and(|modified_s| modified_s <= since_s)
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Strong comparison only: a range of another version would damage what the client has.
fn if_range_holds(request: &HeaderMap, head: &Head) -> bool {
    let Some(wanted) = request.get(IF_RANGE) else { return true };
    let same = |have: Option<&HeaderValue>| have.is_some_and(|have| have == wanted);
    match wanted.as_bytes() {
        [b'W', b'/', ..] => false,
        [b'"', ..] => same(head.etag()),
        _ => same(head.last_modified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    fn head() -> Head {
        let lines = [("etag", "\"a\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")];
        Head::new(StatusCode::OK, map(&lines))
    }

    #[test]
    fn a_range_is_a_part_several_or_outside() {
        for (range, len, expected) in [
            ("bytes=0-0", Some(10), Part::Range(0..1)),
            ("bytes=0-0,-1", Some(1_000), Part::Several(vec![0..1, 999..1_000])),
            ("bytes=10-", Some(10), Part::Outside),
            ("bytes=x", Some(10), Part::Whole),
            ("bytes=0-0", None, Part::Whole),
        ] {
            assert_eq!(part(&map(&[("range", range)]), &head(), len), expected, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_version_becomes_the_whole() {
        for (if_range, expected) in [
            ("\"a\"", Part::Range(0..1)),
            ("\"b\"", Part::Whole),
            ("W/\"a\"", Part::Whole),
            ("Thu, 01 Jan 2026 00:00:00 GMT", Part::Range(0..1)),
            ("Fri, 02 Jan 2026 00:00:00 GMT", Part::Whole),
        ] {
            let request = map(&[("range", "bytes=0-0"), ("if-range", if_range)]);
            assert_eq!(part(&request, &head(), Some(10)), expected, "{if_range}");
        }
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let before = ("if-modified-since", "Wed, 31 Dec 2025 00:00:00 GMT");
        let after = ("if-modified-since", "Fri, 02 Jan 2026 00:00:00 GMT");
        for (lines, expected) in [
            (vec![("if-none-match", "\"a\"")], Part::NotModified),
            (vec![("if-none-match", "\"x\", W/\"a\"")], Part::NotModified),
            (vec![("if-none-match", "*")], Part::NotModified),
            (vec![("if-none-match", "\"x\"")], Part::Whole),
            (vec![("if-none-match", "\"x\""), after], Part::Whole),
            (vec![after], Part::NotModified),
            (vec![before], Part::Whole),
            (vec![("if-modified-since", "yesterday")], Part::Whole),
        ] {
            assert_eq!(part(&map(&lines), &head(), Some(10)), expected, "{lines:?}");
        }
        let undated = Head::new(StatusCode::OK, map(&[("date", "Thu, 01 Jan 2026 00:00:00 GMT")]));
        assert_eq!(part(&map(&[after]), &undated, Some(10)), Part::NotModified);
        assert_eq!(part(&map(&[before]), &undated, Some(10)), Part::Whole);
        let missing = Head::of(StatusCode::NOT_FOUND, head().headers);
        assert_eq!(part(&map(&[("if-none-match", "*")]), &missing, Some(10)), Part::Whole);
    }
}

//! Byte ranges (RFC 9110, 14): which bytes of a body are asked for. Pure.

use std::ops::Range;

/// Ranges that are sent apart; who asks for more gets all of it.
const RANGES_MAX: usize = 16;
/// Ranges that are read before that is known.
const RANGES_READ_MAX: usize = 4 * RANGES_MAX;
/// What stands before a part costs about so much: ranges that lie nearer are sent as one.
const GAP_BYTES: u64 = 128;

/// Which of `len` bytes the value of a `Range` asks for: in their order, none touching another; none at all if all lie
/// outside. `None` for another unit, bad syntax or too many, which the RFC lets us answer with the whole.
pub(super) fn ranges(value: &[u8], len: u64) -> Option<Vec<Range<u64>>> {
    let (unit, set) = std::str::from_utf8(value).ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (mut read, mut inside) = (0, Vec::new());
    for text in set.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        read += 1;
        match range(text, len)? {
            _ if read > RANGES_READ_MAX => return None,
            range if range.is_empty() => {}
            range => inside.push(range),
        }
    }
    let apart = apart(inside);
    (read > 0 && apart.len() <= RANGES_MAX).then_some(apart)
}

/// One range; empty if it lies outside.
fn range(text: &str, len: u64) -> Option<Range<u64>> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match text.split_once('-')? {
        ("", last) => Some(len.saturating_sub(number(last)?)..len),
        (first, "") => Some(number(first)?..len),
        (first, last) => {
            let (first, end) = (number(first)?, number(last)?.saturating_add(1));
            (first < end).then(|| first..end.min(len))
        }
    }
}

fn apart(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, before| {
        let near = next.start <= before.end.saturating_add(GAP_BYTES);
        if near {
            before.end = before.end.max(next.end);
        }
        near
    });
    ranges
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of one range are what is meant")]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_nonsense_refused() {
        for (range, expected) in [
            ("bytes=0-0", Some(vec![0..1])),
            ("Bytes =2-", Some(vec![2..10])),
            ("bytes=2-", Some(vec![2..10])),
            ("bytes=-3", Some(vec![7..10])),
            ("bytes=-30", Some(vec![0..10])),
            ("bytes=4-99", Some(vec![4..10])),
            ("bytes=4-18446744073709551615", Some(vec![4..10])),
            ("bytes=4-18446744073709551616", None),
            ("bytes=10-", Some(vec![])),
            ("bytes=10-11", Some(vec![])),
            ("bytes=-0", Some(vec![])),
            ("bytes=5-4", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes=,", None),
            ("lines=0-1", None),
            ("bytes", None),
        ] {
            assert_eq!(ranges(range.as_bytes(), 10), expected, "{range}");
        }
        assert_eq!(ranges(b"bytes=-1", 0), Some(vec![]));
    }

    #[test]
    fn several_come_in_order_and_near_ones_as_one() {
        for (range, expected) in [
            ("bytes=0-1,5000-5001", Some(vec![0..2, 5000..5002])),
            ("bytes=5000-5001 , 0-1", Some(vec![0..2, 5000..5002])),
            ("bytes=0-1,,3-4", Some(vec![0..5])),
            ("bytes=0-99,50-149,100-120", Some(vec![0..150])),
            ("bytes=0-1,-1,99999-", Some(vec![0..2, 9999..10_000])),
            ("bytes=10000-,20000-20001", Some(vec![])),
            ("bytes=0-1,x", None),
            ("bytes=0-1,5-4", None),
        ] {
            assert_eq!(ranges(range.as_bytes(), 10_000), expected, "{range}");
        }
    }

    #[test]
    fn whoever_asks_for_very_many_gets_all() {
        let asked = |count: u64, each: u64| {
            let all: Vec<_> = (0..count).map(|n| format!("{}-{}", n * each, n * each)).collect();
            ranges(format!("bytes={}", all.join(",")).as_bytes(), 1_000_000)
        };
        assert_eq!(asked(16, 1000).map(|ranges| ranges.len()), Some(16));
        assert_eq!(asked(17, 1000), None);
        assert_eq!(asked(64, 2).map(|ranges| ranges.len()), Some(1), "they lie near each other");
        assert_eq!(asked(65, 2), None);
    }
}

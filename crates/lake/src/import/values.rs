//! Values as logs write them.

use std::borrow::Cow;

use crate::time::ms_of_day;

/// A time: epoch seconds with or without a fraction, epoch milli- or microseconds, or ISO 8601 (`2026-01-01T00:00:00Z`,
/// `+0000`, a space instead of `T`, no zone = UTC); ms since epoch.
pub(crate) fn time_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        // 1e11 s is the year 5138, 1e11 ms 1973: what lies between is told apart by size.
        let ms = match number {
            seconds if (0.0..1e11).contains(&seconds) => seconds * 1e3,
            ms if (1e11..1e14).contains(&ms) => ms,
            us if (1e14..1e17).contains(&us) => us / 1e3,
            _ => return None,
        };
        return Some(ms.round() as u64);
    }
    let (day, time) = text.split_once(['T', ' '])?;
    let midnight = ms_of_day(day)?;
    let (clock, zone) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let of_clock = clock_ms(clock.trim())?;
    let offset = zone_ms(zone.trim())?;
    let ms = i64::try_from(midnight + of_clock).ok()? - offset;
    u64::try_from(ms).ok()
}

/// `HH:MM:SS` with or without a fraction.
fn clock_ms(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, ':');
    let mut next = |limit: u64| parts.next()?.parse::<u64>().ok().filter(|part| *part < limit);
    let (hours, minutes) = (next(24)?, next(60)?);
    let seconds: f64 = text.splitn(3, ':').nth(2)?.parse().ok()?;
    // A leap second is 60.
    (0.0..61.0).contains(&seconds).then(|| (hours * 3600 + minutes * 60) * 1000 + (seconds * 1e3).round() as u64)
}

/// `Z`, `+0200` or `+02:00`, ms east of UTC.
fn zone_ms(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("Z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = (digits[..2].parse::<i64>().ok()?, digits[2..].parse::<i64>().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

/// A count, perhaps with a fraction, times `scale`.
pub(super) fn number(text: &str, scale: f64) -> Option<u64> {
    if let (Ok(whole), true) = (text.trim().parse::<u64>(), (scale - 1.0).abs() < f64::EPSILON) {
        return Some(whole);
    }
    let value = text.trim().parse::<f64>().ok()? * scale;
    (0.0..9e15).contains(&value).then(|| value.round() as u64)
}

/// `%XX` as bytes; what is no UTF-8 then, or no escape, stays as it is.
pub(super) fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| Some(digit(*bytes.get(at + 1)?)? << 4 | digit(*bytes.get(at + 2)?)?));
        match escape.flatten() {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// How a cache answered, in our words where we have one, else in the log's own, lower case.
pub(super) fn cache_status(text: &str) -> String {
    let word = text.trim().to_ascii_lowercase();
    let ours = match word.as_str() {
        // Akamai DataStream 2 and CloudFront; Fastly adds what else there was (`HIT-CLUSTER`, `MISS-WAIT`).
        "1" | "hit" | "originshieldhit" | "tcp_hit" => "hit",
        "0" | "miss" | "tcp_miss" => "miss",
        "hit-stale" | "stale" => "stale",
        "pass" | "hitpass" => "pass",
        "error" => "error",
        other if other.starts_with("hit-") => "hit",
        other if other.starts_with("miss-") => "miss",
        other if other.starts_with("pass-") || other.starts_with("hitpass-") => "pass",
        other if other.starts_with("error-") => "error",
        _ => return word,
    };
    ours.to_owned()
}

/// `HTTP/1.1`, `HTTP/2`, `HTTP/3`, however the log writes it; other words stay.
pub(super) fn protocol(text: &str) -> String {
    match text.trim().to_ascii_lowercase().as_str() {
        "http/2" | "http/2.0" | "h2" => "HTTP/2".into(),
        "http/3" | "http/3.0" | "h3" | "quic" => "HTTP/3".into(),
        "http/1.1" => "HTTP/1.1".into(),
        "http/1.0" => "HTTP/1.0".into(),
        _ => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_logs_have() {
        let new_year = 1_767_225_600_000;
        for text in [
            "1767225600",
            "1767225600.000",
            "1767225600000",
            "1767225600000000",
            "2026-01-01T00:00:00Z",
            "2026-01-01 00:00:00",
            "2026-01-01T01:00:00+0100",
            "2025-12-31T19:00:00-05:00",
            "2026-01-01T00:00:00.000Z",
        ] {
            assert_eq!(time_ms(text), Some(new_year), "{text}");
        }
        assert_eq!(time_ms("1767225600.123"), Some(new_year + 123));
        assert_eq!(time_ms("2026-01-01T00:00:00.5Z"), Some(new_year + 500));
        for bad in [
            "",
            "-",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-01-01T25:00:00Z",
            "-5",
            "NaN",
            "1e30",
            "2026-01-01",
            "2026-01-01T00:00:00+1",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(time_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_have_their_unit() {
        assert_eq!((number("12", 1.0), number("0.125", 1e3), number(" 7 ", 1.0)), (Some(12), Some(125), Some(7)));
        assert_eq!(number("9007199254740993", 1.0), Some(9_007_199_254_740_993));
        for bad in ["", "-1", "x", "NaN", "inf", "1e300"] {
            assert_eq!(number(bad, 1.0), None, "{bad}");
        }
    }

    #[test]
    fn words_of_caches_and_protocols_are_ours_where_we_have_one() {
        let words =
            ["HIT-CLUSTER", "Miss", "HIT-STALE", "PASS", "RefreshHit", "1", "0", "HITPASS-SHIELD"].map(cache_status);
        assert_eq!(words, ["hit", "miss", "stale", "pass", "refreshhit", "hit", "miss", "pass"]);
        assert_eq!(["HTTP/2.0", "h3", "HTTP/1.1", "HTTPS"].map(protocol), ["HTTP/2", "HTTP/3", "HTTP/1.1", "HTTPS"]);
    }

    #[test]
    fn escapes_are_undone_and_what_is_none_stays() {
        assert_eq!(percent_decoded("br%3D2400%2Csid%3D%22a%22"), r#"br=2400,sid="a""#);
        assert_eq!(percent_decoded("100%"), "100%");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
        assert_eq!(percent_decoded("%ff"), "%ff");
    }

    proptest! {
        #[test]
        fn no_text_brings_the_readers_down(text in ".{0,60}") {
            let _ = (time_ms(&text), number(&text, 1e3), percent_decoded(&text).len(), cache_status(&text), protocol(&text));
        }
    }
}

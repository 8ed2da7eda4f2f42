//! Dates as HTTP writes them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Seconds since epoch of an HTTP date in one of its three forms; names of days, months and the zone in any case.
pub(crate) fn http_date_s(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let time: SystemTime = match httpdate::parse_http_date(text) {
        Ok(time) => time,
        Err(_) => httpdate::parse_http_date(&usual_case(text)).ok()?,
    };
    Some(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

/// `SUN, 06 nov 1994 08:49:37 gmt` as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn usual_case(text: &str) -> String {
    let mut within = false;
    let words: String = text
        .chars()
        .map(|letter| {
            let out = if within { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() };
            within = letter.is_ascii_alphabetic();
            out
        })
        .collect();
    match words.strip_suffix(" Gmt") {
        Some(rest) => format!("{rest} GMT"),
        None => words,
    }
}

/// The only line of a field; several lines are none.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_one_of_three_forms_in_any_case_and_nothing_else() {
        let date = |text: &'static str| http_date_s(&HeaderValue::from_static(text));
        for good in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "SUN, 06 NOV 1994 08:49:37 GMT",
            "sun, 06 nov 1994 08:49:37 gmt",
        ] {
            assert_eq!(date(good), Some(784_111_777), "{good}");
        }
        for bad in [
            "0",
            "",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08-49-37 GMT",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
    }
}

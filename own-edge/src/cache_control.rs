//! `Cache-Control`, read as RFC 9111 wants it: all lines, commas outside quotes, names in any case, strict numbers.

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// What the origin allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    pub no_store: bool,
    pub private: bool,
    /// Qualified (`no-cache="a"`) counts as unqualified.
    pub no_cache: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub must_revalidate: bool,
    /// Seconds; present and invalid is 0, of several the smallest.
    pub max_age_s: Option<u64>,
    /// As `max_age_s`.
    pub s_maxage_s: Option<u64>,
    /// Seconds; present and invalid is absent.
    pub stale_while_revalidate_s: Option<u64>,
    /// As `stale_while_revalidate_s`.
    pub stale_if_error_s: Option<u64>,
}

/// Larger numbers are all the same (RFC 9111, 1.2.2).
const FOREVER_S: u64 = 1 << 31;

impl CacheControl {
    /// Reads every `Cache-Control` line.
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut out = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for directive in split_outside_quotes(line.as_bytes()) {
                out.take(directive);
            }
        }
        out
    }

    fn take(&mut self, directive: &[u8]) {
        let at = directive.iter().position(|byte| *byte == b'=');
        let (name, value) = match at {
            Some(at) => (&directive[..at], Some(&directive[at + 1..])),
            None => (directive, None),
        };
        let least = |old: Option<u64>| {
            let new = value.and_then(delta_seconds).unwrap_or(0);
            Some(old.map_or(new, |old| old.min(new)))
        };
        match name.to_ascii_lowercase().as_slice() {
            b"no-store" => self.no_store = true,
            b"private" => self.private = true,
            b"no-cache" => self.no_cache = true,
            b"must-revalidate" | b"proxy-revalidate" => self.must_revalidate = true,
            b"max-age" => self.max_age_s = least(self.max_age_s),
            b"s-maxage" => self.s_maxage_s = least(self.s_maxage_s),
            b"stale-while-revalidate" => self.stale_while_revalidate_s = value.and_then(delta_seconds),
            b"stale-if-error" => self.stale_if_error_s = value.and_then(delta_seconds),
            _ => {}
        }
    }
}

/// Digits only, bare or in double quotes.
fn delta_seconds(value: &[u8]) -> Option<u64> {
    let bare = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value);
    digits(bare)
}

/// One or more digits; more than 2^31 is 2^31.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some(value.min(FOREVER_S))
}

/// Members of a list, trimmed, empty ones left out.
pub(crate) fn split_outside_quotes(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    line.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(<[u8]>::trim_ascii)
    .filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().expect("header"));
        }
        CacheControl::parse(&headers)
    }

    #[test]
    fn numbers_are_digits_or_worth_nothing() {
        for (line, max_age_s) in [
            ("max-age=60", Some(60)),
            ("MAX-AGE=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age='60'", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age = 60", None),
            ("max-age=99999999999999999999999", Some(FOREVER_S)),
            ("max-age=60, max-age=5", Some(5)),
            ("foo=\"max-age=60\"", None),
            ("foo=\"a, max-age=60, b\", s-maxage=1", None),
            ("public", None),
            ("", None),
        ] {
            assert_eq!(parse(&[line]).max_age_s, max_age_s, "{line}");
        }
    }

    #[test]
    fn directives_are_found_on_every_line() {
        let found =
            parse(&["public, No-Store", "PRIVATE=\"x\",,no-cache", "stale-while-revalidate=4, proxy-revalidate"]);
        assert!(found.no_store && found.private && found.no_cache && found.must_revalidate);
        assert_eq!((found.stale_while_revalidate_s, found.stale_if_error_s), (Some(4), None));
    }
}

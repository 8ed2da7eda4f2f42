//! `Cache-Control`, read as RFC 9111 wants it: all lines, commas outside quotes, names in any case, strict numbers; and
//! `CDN-Cache-Control` (RFC 9213), a structured field that takes its place for caches like this one.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// What the origin allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheControl {
    pub no_store: bool,
    pub private: bool,
    pub public: bool,
    /// Qualified (`no-cache="a"`) counts as unqualified.
    pub no_cache: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    /// Seconds; present and invalid is 0, of several the smallest.
    pub max_age_s: Option<u64>,
    /// As `max_age_s`.
    pub s_maxage_s: Option<u64>,
    /// Seconds; present and invalid is absent.
    pub stale_while_revalidate_s: Option<u64>,
    /// As `stale_while_revalidate_s`.
    pub stale_if_error_s: Option<u64>,
    /// It came in a field for caches like this one, so `Expires` doesn't count beside it.
    pub targeted: bool,
}

/// Larger numbers are all the same (RFC 9111, 1.2.2).
const FOREVER_S: u64 = 1 << 31;
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

impl CacheControl {
    /// What counts for us: `CDN-Cache-Control` alone where it is there and valid (RFC 9213, 2.1), else `Cache-Control`.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self::targeted(headers).unwrap_or_else(|| Self::untargeted(headers))
    }

    fn untargeted(headers: &HeaderMap) -> Self {
        let mut out = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            for directive in split_outside_quotes(line.as_bytes()) {
                let (name, value) = match directive.iter().position(|byte| *byte == b'=') {
                    Some(at) => (&directive[..at], Some(&directive[at + 1..])),
                    None => (directive, None),
                };
                out.take(&name.to_ascii_lowercase(), value.and_then(delta_seconds));
            }
        }
        out
    }

    /// `None` if it is absent, empty, no dictionary, or has a time that is no whole number.
    fn targeted(headers: &HeaderMap) -> Option<Self> {
        let mut text = Vec::new();
        for line in headers.get_all(CDN_CACHE_CONTROL) {
            if !text.is_empty() {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(line.as_bytes());
        }
        let dictionary: Dictionary = Parser::new(&text).parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut out = Self { targeted: true, ..Self::default() };
        for (name, value) in &dictionary {
            let name = name.as_str().as_bytes();
            let ListEntry::Item(item) = value else { continue };
            match &item.bare_item {
                // Said not to hold.
                BareItem::Boolean(false) => {}
                BareItem::Integer(seconds) => out.take(name, u64::try_from(i64::from(*seconds)).ok()),
                _ if is_time(name) => return None,
                _ => out.take(name, None),
            }
        }
        Some(out)
    }

    /// `name` in lower case.
    fn take(&mut self, name: &[u8], seconds: Option<u64>) {
        let seconds = seconds.map(|seconds| seconds.min(FOREVER_S));
        let least = |old: Option<u64>| {
            let new = seconds.unwrap_or(0);
            Some(old.map_or(new, |old| old.min(new)))
        };
        match name {
            b"no-store" => self.no_store = true,
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"no-cache" => self.no_cache = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"max-age" => self.max_age_s = least(self.max_age_s),
            b"s-maxage" => self.s_maxage_s = least(self.s_maxage_s),
            b"stale-while-revalidate" => self.stale_while_revalidate_s = seconds,
            b"stale-if-error" => self.stale_if_error_s = seconds,
            _ => {}
        }
    }

    /// Whether nothing may serve past its freshness (RFC 9111, 4.2.4 and 5.2.2).
    pub(crate) fn forbids_stale(&self) -> bool {
        self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage_s.is_some()
    }

    /// Whether an answer to a request with credentials may be kept (RFC 9111, 3.5).
    pub(crate) fn allows_authorized(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage_s.is_some()
    }
}

fn is_time(name: &[u8]) -> bool {
    [&b"max-age"[..], b"s-maxage", b"stale-while-revalidate", b"stale-if-error"].contains(&name)
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
        CacheControl::of(&headers)
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
        assert!(found.no_store && found.private && found.no_cache && found.proxy_revalidate && found.public);
        assert_eq!((found.stale_while_revalidate_s, found.stale_if_error_s), (Some(4), None));
    }

    #[test]
    fn a_field_for_caches_like_this_one_takes_the_place_of_the_other() {
        let of = |cdn: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, "no-store, max-age=1".parse().expect("header"));
            for line in cdn {
                headers.append(CDN_CACHE_CONTROL, line.parse().expect("header"));
            }
            CacheControl::of(&headers)
        };
        let fresh = CacheControl { max_age_s: Some(60), targeted: true, ..CacheControl::default() };
        assert_eq!(of(&["max-age=60"]), fresh);
        assert_eq!(of(&["max-age=99999999999"]), CacheControl { max_age_s: Some(FOREVER_S), ..fresh });
        assert_eq!(of(&["max-age=60", "private"]), CacheControl { private: true, ..fresh });
        assert_eq!(of(&["max-age=60, no-store=?0, foo;bar=1"]), fresh);
        assert_eq!(of(&["max-age=-1"]), CacheControl { max_age_s: Some(0), ..fresh });
        for invalid in ["", "MaX-aGe=60", "max-age=60, &&&&&", "max-age=\"60\"", "max-age=6.5", "max-age = 60"] {
            assert!(of(&[invalid]).no_store, "{invalid}");
        }
    }
}

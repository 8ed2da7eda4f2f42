//! For how long a playlist may be used, as its origin says (RFC 9111, and RFC 5861 for `stale-if-error`).

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, header};
use spillway_model::Millis;

/// Longest time a playlist counts as fresh, whatever its origin says: a takedown must show.
pub(super) const FRESH_MAX: Millis = Millis::from_secs(10);
/// What says nothing of its age counts as fresh for one second: a live MPD changes every few.
const FRESH_UNSAID: Millis = Millis::from_secs(1);
/// How long a copy serves while its origin fails, if the origin says nothing of that.
const USABLE_UNSAID: Millis = Millis::from_secs(60);
/// Longest time that a copy serves while its origin fails, if the origin says so.
const USABLE_MAX: Millis = Millis::from_secs(600);

/// What an answer's headers allow. Times count from its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether it may be kept at all.
    pub(super) keep: bool,
    /// Served without asking.
    pub(super) fresh_for: Millis,
    /// Served while the origin fails.
    pub(super) usable_for: Millis,
}

impl Rules {
    /// Reads the headers of an answer. We ask for every viewer alike, so of `Vary` only `*` matters.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let (mut keep, mut revalidate, mut no_cache) = (true, false, text_of(headers, &header::VARY).contains('*'));
        let (mut shared_s, mut max_age_s, mut on_error_s) = (None, None, None);
        for directive in text_of(headers, &header::CACHE_CONTROL).split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let seconds = || value.trim().trim_matches('"').parse::<u64>().ok();
            match name.trim().to_ascii_lowercase().as_str() {
                // We are a shared cache.
                "no-store" | "private" => keep = false,
                "no-cache" => no_cache = true,
                "must-revalidate" | "proxy-revalidate" => revalidate = true,
                "s-maxage" => shared_s = seconds().or(Some(0)),
                "max-age" => max_age_s = seconds().or(Some(0)),
                "stale-if-error" => on_error_s = seconds(),
                _ => {}
            }
        }
        let age_s = text_of(headers, &header::AGE).trim().parse().unwrap_or(0);
        let lifetime = shared_s.or(max_age_s).map(Millis::from_secs).or_else(|| expires_in(headers));
        let left = lifetime.map_or(FRESH_UNSAID, |lifetime| lifetime.saturating_sub(Millis::from_secs(age_s)));
        let fresh_for = if no_cache || !keep { Millis::ZERO } else { left.min(FRESH_MAX) };
        let usable_for = match on_error_s {
            Some(seconds) => Millis(fresh_for.0.saturating_add(seconds.saturating_mul(1_000))).min(USABLE_MAX),
            None if no_cache || revalidate => fresh_for,
            None => USABLE_UNSAID,
        };
        Self { keep, fresh_for, usable_for: if keep { usable_for } else { Millis::ZERO } }
    }
}

/// Whether an answer says anything of its age: a 304 that does not leaves the old rules in force.
pub(super) fn says_so(headers: &HeaderMap) -> bool {
    headers.contains_key(header::CACHE_CONTROL) || headers.contains_key(header::EXPIRES)
}

/// `Expires` minus `Date`; what is no date has expired.
fn expires_in(headers: &HeaderMap) -> Option<Millis> {
    let date = |name| headers.get(name)?.to_str().ok().and_then(|text| httpdate::parse_http_date(text).ok());
    headers.get(header::EXPIRES)?;
    let span = |from: SystemTime, until: SystemTime| until.duration_since(from).ok();
    let left = date(header::DATE).zip(date(header::EXPIRES)).and_then(|(from, until)| span(from, until));
    Some(left.map_or(Millis::ZERO, |left| Millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))))
}

/// All values of a header as one list.
fn text_of(headers: &HeaderMap, name: &HeaderName) -> String {
    let texts: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lines: &[(&str, &str)]) -> Rules {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().expect("name");
            headers.append(name, value.parse().expect("value"));
        }
        Rules::of(&headers)
    }

    fn fresh_ms(cache_control: &str) -> u64 {
        rules(&[("cache-control", cache_control)]).fresh_for.0
    }

    #[test]
    fn freshness_is_what_the_origin_says_up_to_ten_seconds() {
        assert_eq!(fresh_ms("public, max-age=4"), 4_000);
        assert_eq!(fresh_ms("max-age=4, S-MaxAge=\"2\""), 2_000);
        assert_eq!(fresh_ms("max-age=86400"), FRESH_MAX.0);
        assert_eq!(fresh_ms("max-age=soon"), 0);
        assert_eq!(fresh_ms("no-cache, max-age=60"), 0);
        assert_eq!(fresh_ms("public"), FRESH_UNSAID.0);
        assert_eq!(rules(&[]).fresh_for, FRESH_UNSAID);
        assert_eq!(rules(&[("cache-control", "max-age=8"), ("age", "5")]).fresh_for, Millis::from_secs(3));
        assert_eq!(rules(&[("cache-control", "max-age=8"), ("cache-control", "no-cache")]).fresh_for, Millis::ZERO);
        assert_eq!(rules(&[("cache-control", "max-age=8"), ("vary", "accept, *")]).fresh_for, Millis::ZERO);
        assert_eq!(rules(&[("cache-control", "max-age=8"), ("vary", "accept-encoding")]).fresh_for.0, 8_000);
    }

    #[test]
    fn expires_counts_from_the_origin_s_own_date() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rules(&[date, ("expires", "Sun, 06 Nov 1994 08:49:42 GMT")]).fresh_for.0, 5_000);
        for past in ["0", "Sun, 06 Nov 1994 08:49:30 GMT"] {
            assert_eq!(rules(&[date, ("expires", past)]).fresh_for, Millis::ZERO);
        }
        assert_eq!(rules(&[("expires", "Sun, 06 Nov 1994 08:49:42 GMT")]).fresh_for, Millis::ZERO);
    }

    #[test]
    fn an_old_copy_serves_a_failing_origin_as_long_as_that_allows() {
        let usable = |text| rules(&[("cache-control", text)]).usable_for.0;
        assert_eq!(usable("max-age=4"), 60_000);
        assert_eq!(usable("max-age=4, must-revalidate"), 4_000);
        assert_eq!(usable("no-cache"), 0);
        assert_eq!(usable("max-age=4, stale-if-error=8"), 12_000);
        assert_eq!(usable("no-cache, stale-if-error=8"), 8_000);
        assert_eq!(usable("stale-if-error=999999999999999999"), USABLE_MAX.0);
        for never in ["no-store", "private, max-age=4, stale-if-error=8"] {
            let rules = rules(&[("cache-control", never)]);
            assert_eq!(rules, Rules { keep: false, fresh_for: Millis::ZERO, usable_for: Millis::ZERO });
        }
    }
}

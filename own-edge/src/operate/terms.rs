//! What may be changed while an edge runs: who may ask, for what, and how long it is good.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use http::header::ORIGIN;
use spillway_service::config::ConfigError;

use crate::rules::paths::PathRules;
use crate::rules::policy::Choices;
use crate::serve::methods::Methods;
use crate::serve::reply::Readers;
use crate::serve::signing::Signing;
use crate::video::prefetch::Prefetch;

/// What holds now.
#[derive(Debug)]
pub(crate) struct Terms {
    pub ceiling_bps: u64,
    pub choices: Choices,
    pub methods: Methods,
    pub signing: Option<Signing>,
    pub paths: PathRules,
    pub trusted_ip_header: Option<String>,
    pub stale_on_error_s: u64,
    pub sites: Sites,
    pub rate: Option<Rate>,
    pub prefetch: Prefetch,
}

/// Sites whose pages may read what the edge answers (CORS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sites {
    Any,
    /// Scheme, host and port as a browser sends them; a host may begin with `*.`.
    Listed(Vec<String>),
}

impl Sites {
    /// # Errors
    /// [`ConfigError::Invalid`] for what no browser would send.
    pub(crate) fn new(words: &[String]) -> Result<Self, ConfigError> {
        if words == ["*"] {
            return Ok(Self::Any);
        }
        let bad = |word: &str| {
            let valid = "origins like https://tv.example or https://*.tv.example, or [\"*\"]";
            ConfigError::invalid("edge.allowed_origins", word, valid)
        };
        let plain = |word: &String| {
            let host =
                word.strip_prefix("https://").or_else(|| word.strip_prefix("http://")).ok_or_else(|| bad(word))?;
            let host = host.strip_prefix("*.").unwrap_or(host);
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
            let good = !host.is_empty() && host.bytes().all(letters);
            if good { Ok(word.to_ascii_lowercase()) } else { Err(bad(word)) }
        };
        words.iter().map(plain).collect::<Result<_, _>>().map(Self::Listed)
    }

    /// Who may read the answer to a request; `None` if the page that it comes from may not even ask.
    pub(crate) fn readers(&self, headers: &HeaderMap) -> Option<Readers> {
        let Self::Listed(listed) = self else { return Some(Readers::All) };
        let Some(origin) = headers.get(ORIGIN) else { return Some(Readers::NoPage) };
        let said = origin.to_str().ok()?.to_ascii_lowercase();
        let fits = |pattern: &String| match pattern.split_once("://*.") {
            Some((scheme, domain)) => {
                let host = said.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
                host.and_then(|host| host.strip_suffix(domain)).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
            }
            None => said == *pattern,
        };
        listed.iter().any(fits).then(|| Readers::Page(origin.clone()))
    }
}

/// Requests of each client, bounded: an address, or for IPv6 its /64.
#[derive(Debug)]
pub(crate) struct Rate {
    clients: DefaultKeyedRateLimiter<u128>,
}

impl Rate {
    /// So many in a second, twice as many at once.
    pub(crate) fn new(per_s: NonZeroU32) -> Self {
        let burst = per_s.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        Self { clients: RateLimiter::keyed(Quota::per_second(per_s).allow_burst(burst)) }
    }

    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        self.clients.check_key(&client_key(client)).is_ok()
    }

    /// Forgets clients that are long within their rate.
    pub(crate) fn sweep(&self) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
    }
}

/// One household, as far as can be told.
pub(crate) fn client_key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        // The marker keeps the two apart.
        IpAddr::V6(v6) => v6.to_bits() >> 64 | 1 << 127,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_may_read_if_its_site_is_listed_and_others_may_not_ask() {
        let sites =
            Sites::new(&["https://tv.example".to_owned(), "https://*.Media.example".to_owned()]).expect("valid");
        let readers = |origin: &'static str| {
            let headers = HeaderMap::from_iter([(ORIGIN, http::HeaderValue::from_static(origin))]);
            sites.readers(&headers)
        };
        for good in ["https://tv.example", "https://a.media.example", "https://a.b.media.example", "HTTPS://TV.example"]
        {
            assert!(matches!(readers(good), Some(Readers::Page(page)) if page == good), "{good}");
        }
        for bad in [
            "http://tv.example",
            "https://tv.example:8443",
            "https://media.example",
            "https://.media.example",
            "https://evilmedia.example",
            "https://tv.example.evil.example",
            "null",
            "",
        ] {
            assert!(readers(bad).is_none(), "{bad}");
        }
        assert!(matches!(sites.readers(&HeaderMap::new()), Some(Readers::NoPage)));
        assert_eq!(Sites::new(&["*".to_owned()]).expect("valid"), Sites::Any);
        for bad in ["tv.example", "https://", "https://a/b", "*", "https://a b"] {
            let both = [bad.to_owned(), "https://tv.example".to_owned()];
            assert!(Sites::new(&both).expect_err(bad).to_string().contains("edge.allowed_origins"), "{bad}");
        }
    }

    #[test]
    fn a_client_has_its_rate_and_no_other_clients() {
        let rate = Rate::new(NonZeroU32::new(2).expect("not 0"));
        let address = |text: &str| text.parse::<IpAddr>().expect("address");
        let allowed = |text: &str| (0..10).filter(|_| rate.allows(address(text))).count();
        assert_eq!((allowed("192.0.2.1"), allowed("192.0.2.2")), (4, 4));
        assert_eq!(allowed("::ffff:192.0.2.1"), 0, "the same client");
        assert_eq!((allowed("2001:db8::1"), allowed("2001:db8::2"), allowed("2001:db8:0:1::1")), (4, 0, 4));
        rate.sweep();
    }
}

//! A client as a request shows it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};

use super::{Country, Proxies};

/// Where a request comes from. In memory only: the address never leaves it but as a [`super::Place`].
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// What a trusted proxy says of it.
    pub stated: Stated,
}

/// What a trusted proxy says of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// Routing region, not checked yet.
    pub region: Option<String>,
    /// Network.
    pub asn: Option<u32>,
    /// Country.
    pub country: Option<Country>,
}

impl Client {
    /// A client of whom only the address is known.
    #[must_use]
    pub fn at(address: IpAddr) -> Self {
        Self { address, stated: Stated::default() }
    }

    pub(crate) fn new(peer: SocketAddr, headers: &HeaderMap, trusted_header: Option<&str>, proxies: &Proxies) -> Self {
        let address = crate::client_ip(peer, headers, trusted_header);
        let stated = if proxies.trusts(peer.ip()) { Stated::read(headers, proxies) } else { Stated::default() };
        Self { address, stated }
    }
}

impl Stated {
    fn read(headers: &HeaderMap, proxies: &Proxies) -> Self {
        let text = |name: &Option<HeaderName>| {
            let value = headers.get(name.as_ref()?)?.to_str().ok()?.trim();
            (!value.is_empty()).then_some(value)
        };
        Self {
            region: text(&proxies.region).map(str::to_owned),
            asn: text(&proxies.asn).and_then(asn),
            country: text(&proxies.country).and_then(Country::new),
        }
    }
}

/// A network's number, with or without `AS` before it; 0 is nobody's (RFC 7607).
pub(crate) fn asn(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
    digits.parse().ok().filter(|asn| *asn != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geo::GeoConfig;

    #[test]
    fn headers_count_from_a_trusted_proxy_only() {
        let proxies = Proxies::new(&GeoConfig {
            trusted_proxies: vec!["10.0.0.0/8".into()],
            trusted_region_header: Some("x-region".into()),
            trusted_asn_header: Some("X-ASN".into()),
            trusted_country_header: Some("cf-ipcountry".into()),
            ..GeoConfig::default()
        })
        .expect("valid");
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-region", " eu-a "), ("x-asn", "AS64500"), ("cf-ipcountry", "de")] {
            headers.insert(name, value.parse().expect("value"));
        }
        let of = |peer: &str, headers: &HeaderMap| {
            Client::new(peer.parse().expect("peer"), headers, Some("x-forwarded-for"), &proxies)
        };
        let told = Stated { region: Some("eu-a".into()), asn: Some(64_500), country: Country::new("DE") };
        assert_eq!(of("10.1.1.1:9", &headers).stated, told);
        assert_eq!(of("192.0.2.1:9", &headers).stated, Stated::default());
        headers.insert("x-asn", "AS-64500".parse().expect("value"));
        headers.insert("cf-ipcountry", "XX".parse().expect("value"));
        assert_eq!((of("10.1.1.1:9", &headers).stated.asn, of("10.1.1.1:9", &headers).stated.country), (None, None));
    }

    #[test]
    fn a_header_without_a_proxy_to_trust_is_refused() {
        let config = GeoConfig { trusted_asn_header: Some("x-asn".into()), ..GeoConfig::default() };
        let error = Proxies::new(&config).expect_err("nobody is trusted").to_string();
        assert!(error.contains("geo.trusted_asn_header") && error.contains("geo.trusted_proxies"), "{error}");
        let config = GeoConfig { trusted_proxies: vec!["10.0.0.0".into()], ..GeoConfig::default() };
        assert!(Proxies::new(&config).expect_err("no prefix").to_string().contains("10.0.0.0/8"));
    }

    #[test]
    fn a_number_of_a_network_comes_with_and_without_its_letters() {
        assert_eq!(
            [asn("64500"), asn("AS64500"), asn("as1"), asn("0"), asn("AS"), asn("-1"), asn("4294967296")],
            [Some(64_500), Some(64_500), Some(1), None, None, None, None]
        );
    }
}

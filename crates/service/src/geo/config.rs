//! `[geo]`: the databases, the proxies whose word counts, and where everyone else belongs.

use std::net::IpAddr;
use std::path::PathBuf;

use http::HeaderName;
use serde::Deserialize;

use super::PrefixTable;
use crate::config::ConfigError;

/// `[geo]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeoConfig {
    /// Database in MaxMind's format (`.mmdb`) that knows networks. Default: none.
    pub asn_db: Option<PathBuf>,
    /// Database in MaxMind's format that knows countries; one that knows both may be named twice. Default: none.
    pub country_db: Option<PathBuf>,
    /// The files are looked at this often, s; a changed one is loaded. Default 60.
    pub reload_s: u64,
    /// Region of clients of whom nothing is known. Default: the first by name.
    pub default_region: Option<String>,
    /// Prefixes of the proxies in front whose geo headers count. Default: none, and no header counts.
    pub trusted_proxies: Vec<String>,
    /// Header in which a trusted proxy names the routing region. Default: none.
    pub trusted_region_header: Option<String>,
    /// Header in which it gives the network's number (`64500` or `AS64500`). Default: none.
    pub trusted_asn_header: Option<String>,
    /// Header in which it gives the country (`DE`; `CloudFront-Viewer-Country`, `CF-IPCountry`). Default: none.
    pub trusted_country_header: Option<String>,
}

impl Default for GeoConfig {
    fn default() -> Self {
        Self {
            asn_db: None,
            country_db: None,
            reload_s: 60,
            default_region: None,
            trusted_proxies: Vec::new(),
            trusted_region_header: None,
            trusted_asn_header: None,
            trusted_country_header: None,
        }
    }
}

/// Who may say where a client is, and in which headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    prefixes: PrefixTable<()>,
    pub(crate) region: Option<HeaderName>,
    pub(crate) asn: Option<HeaderName>,
    pub(crate) country: Option<HeaderName>,
}

impl Proxies {
    pub(crate) fn new(config: &GeoConfig) -> Result<Self, ConfigError> {
        let header = |key: &str, name: &Option<String>| -> Result<Option<HeaderName>, ConfigError> {
            let Some(name) = name else { return Ok(None) };
            if config.trusted_proxies.is_empty() {
                let valid = "only with geo.trusted_proxies, the prefixes whose word counts";
                return Err(ConfigError::invalid(format!("geo.{key}"), name, valid));
            }
            let parsed = name.parse().map_err(|_| ConfigError::invalid(format!("geo.{key}"), name, "a header's name"));
            parsed.map(Some)
        };
        let mut out = Self {
            prefixes: PrefixTable::default(),
            region: header("trusted_region_header", &config.trusted_region_header)?,
            asn: header("trusted_asn_header", &config.trusted_asn_header)?,
            country: header("trusted_country_header", &config.trusted_country_header)?,
        };
        for prefix in &config.trusted_proxies {
            if !out.prefixes.add(prefix, ()) {
                return Err(ConfigError::invalid("geo.trusted_proxies", prefix, "address/length, as 10.0.0.0/8"));
            }
        }
        Ok(out)
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.prefixes.lookup(peer).is_some()
    }
}

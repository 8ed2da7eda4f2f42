//! Where a CDN publishes what it can take, as an operator writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::config::ConfigError;
use crate::deployment::host_of;

/// Kinds of footprints (RFC 8006, 4.3.8, and RFC 9388).
pub const FOOTPRINT_TYPES: [&str; 5] = ["ipv4cidr", "ipv6cidr", "asn", "countrycode", "subdivisioncode"];

/// `[pathway.capacity_feed]`: a document with `FCI.CapacityLimits` (RFC 8008 and RFC 9808).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityFeedConfig {
    /// Absolute URL; redirects are not followed.
    pub url: String,
    /// Time between two fetches, s. Default 60. What was read last holds for three of them.
    #[serde(default = "default_every_s")]
    pub every_s: u64,
    /// A fetch that takes longer has failed, s. Default 10.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// Region by footprint, as `"countrycode:de" = "eu"`. Limits of other footprints are left out and counted; a limit
    /// without footprints holds everywhere.
    #[serde(default)]
    pub footprints: BTreeMap<String, String>,
}

const fn default_every_s() -> u64 {
    60
}

const fn default_timeout_s() -> u64 {
    10
}

impl CapacityFeedConfig {
    /// Checks URL, times and footprints; `key` is its place in the file.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid.
    pub fn check(&self, key: &str, is_region: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        let bad = |name: &str, value: &dyn ToString, valid: &str| {
            Err(ConfigError::invalid(format!("{key}.{name}"), value.to_string(), valid))
        };
        if host_of(&self.url).is_none() {
            return bad("url", &self.url, "an absolute http:// or https:// URL");
        }
        if !(1..=3_600).contains(&self.every_s) {
            return bad("every_s", &self.every_s, "1 to 3600");
        }
        if !(1..=60).contains(&self.timeout_s) {
            return bad("timeout_s", &self.timeout_s, "1 to 60");
        }
        for (footprint, region) in &self.footprints {
            let kind = footprint.split_once(':').filter(|(_, value)| !value.is_empty()).map(|(kind, _)| kind);
            if !kind.is_some_and(|kind| FOOTPRINT_TYPES.contains(&kind)) {
                let valid = format!("type:value with a type of {}", FOOTPRINT_TYPES.join(", "));
                return bad("footprints", footprint, &valid);
            }
            if !is_region(region) {
                return bad(&format!("footprints.{footprint}"), region, "a region");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), String> {
        let feed: CapacityFeedConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        feed.check("pathway[cdn-a].capacity_feed", |region| region == "eu").map_err(|error| error.to_string())
    }

    #[test]
    fn a_feed_is_checked_and_what_is_wrong_is_named() {
        let good = "url = \"https://fci.cdn.example/limits\"\nfootprints = { \"countrycode:de\" = \"eu\" }";
        assert_eq!(read(good), Ok(()));
        for (bad, words) in [
            ("url = \"file:///limits\"", ["capacity_feed.url", "absolute"]),
            ("url = \"http://x\"\nevery_s = 0", ["capacity_feed.every_s", "1 to 3600"]),
            ("url = \"http://x\"\ntimeout_s = 61", ["capacity_feed.timeout_s", "1 to 60"]),
            ("url = \"http://x\"\nfootprints = { de = \"eu\" }", ["capacity_feed.footprints", "type:value"]),
            ("url = \"http://x\"\nfootprints = { \"asn:as1\" = \"us\" }", ["footprints.asn:as1", "a region"]),
            ("url = \"http://x\"\nkey = 1", ["key", "unknown field"]),
        ] {
            let error = read(bad).expect_err(bad);
            assert!(words.iter().all(|word| error.contains(word)), "{bad}: {error}");
        }
    }
}

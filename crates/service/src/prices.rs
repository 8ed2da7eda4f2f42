//! What delivery costs, as an operator writes it.

use serde::Deserialize;

use crate::config::ConfigError;

/// `[pathway.price]`: how the price of a pathway depends on what was used in the month: by volume (`tiers`, `commit_gb`
/// or both) or by level (`usd_per_mbps`); without any, `price_usd_per_gb` holds for each GB.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PriceConfig {
    /// Cheaper by volume; below the first tier `price_usd_per_gb`. Ascending by `from_gb`.
    pub tiers: Vec<TierConfig>,
    /// A volume that is paid whether it is used or not, GB a month; beyond it the price of the tier, or
    /// `price_usd_per_gb`.
    pub commit_gb: Option<f64>,
    /// 95/5: price of the month's 95th percentile of 5-minute levels, USD per Mbit/s.
    pub usd_per_mbps: Option<f64>,
    /// 95/5: level that is paid in any case, Mbit/s. Default 0.
    pub committed_mbps: Option<f64>,
}

/// A step of a price by volume.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// From this volume of the month on, GB.
    pub from_gb: f64,
    /// USD per GB.
    pub usd_per_gb: f64,
}

impl PriceConfig {
    /// Checks numbers and that one form is chosen; `key` is its place in the file.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid.
    pub fn check(&self, key: &str) -> Result<(), ConfigError> {
        let by_volume = !self.tiers.is_empty() || self.commit_gb.is_some();
        if by_volume && self.usd_per_mbps.is_some() {
            return Err(ConfigError::invalid(key, "both", "either tiers and commit_gb, or usd_per_mbps"));
        }
        if self.committed_mbps.is_some() && self.usd_per_mbps.is_none() {
            return Err(ConfigError::invalid(format!("{key}.committed_mbps"), "alone", "only with usd_per_mbps"));
        }
        for (name, value) in [
            ("commit_gb", self.commit_gb),
            ("usd_per_mbps", self.usd_per_mbps),
            ("committed_mbps", self.committed_mbps),
        ] {
            if let Some(value) = value.filter(|value| !(*value >= 0.0 && value.is_finite())) {
                return Err(ConfigError::invalid(format!("{key}.{name}"), value, "a number of 0 or more"));
            }
        }
        for tier in &self.tiers {
            if !(tier.from_gb >= 0.0
                && tier.from_gb.is_finite()
                && tier.usd_per_gb >= 0.0
                && tier.usd_per_gb.is_finite())
            {
                return Err(ConfigError::invalid(format!("{key}.tiers"), format!("{tier:?}"), "numbers of 0 or more"));
            }
        }
        if let Some(pair) = self.tiers.windows(2).find(|pair| pair[0].from_gb >= pair[1].from_gb) {
            return Err(ConfigError::invalid(format!("{key}.tiers"), pair[1].from_gb, "ascending by from_gb"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), String> {
        let price: PriceConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        price.check("pathway[cdn-a].price").map_err(|error| error.to_string())
    }

    #[test]
    fn one_form_of_price_is_taken_and_what_is_wrong_is_named() {
        for good in [
            "",
            "commit_gb = 5000",
            "usd_per_mbps = 1.5\ncommitted_mbps = 100",
            "tiers = [{from_gb = 1, usd_per_gb = 0}]",
            "commit_gb = 5000\ntiers = [{from_gb = 1, usd_per_gb = 0}]",
        ] {
            assert_eq!(read(good), Ok(()), "{good}");
        }
        for (bad, word) in [
            ("commit_gb = -1", "price.commit_gb"),
            ("commit_gb = 1\nusd_per_mbps = 2", "either tiers"),
            ("committed_mbps = 3", "only with usd_per_mbps"),
            ("tiers = [{from_gb = 2, usd_per_gb = 1}, {from_gb = 2, usd_per_gb = 0.5}]", "ascending"),
            ("tiers = [{from_gb = 2, usd_per_gb = nan}]", "price.tiers"),
            ("per_gb = 1", "unknown field"),
        ] {
            let error = read(bad).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}

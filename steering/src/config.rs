//! `[steer]`: configuration of a steering node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use spillway_model::NodeId;
use spillway_service::config::{ConfigError, Secret};
use spillway_service::posting::{check_collectors, check_share};
use spillway_service::tls::TlsConfig;
use spillway_wire::envelope::read_key;
use spillway_wire::token::TokenKeys;

use crate::dns::{DnsConfig, DnsSettings};
use crate::playlists::origin::Origin;
use crate::signers::{SignerConfig, Signers};
use spillway_service::classes::ClassTable;
use spillway_service::deployment::Deployment;

/// Characters below which a token key could be guessed.
const TOKEN_KEY_MIN_CHARS: usize = 32;

/// Configuration of a steering node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteerConfig {
    /// Address to listen on. Default `127.0.0.1:4301`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// A port for players that speaks TLS, beside the plain one. Default none.
    pub tls: Option<TlsConfig>,
    /// Name of this node in frames and logs. Default `steer-1`.
    #[serde(default = "default_id")]
    pub id: String,
    /// Absolute URL that players reach this node by; stands in every playlist and answer.
    pub public_url: String,
    /// Base URLs that playlists are fetched from, by name. A path goes to the origin named as its first segment (which
    /// stays in the path), else to `default`. No other host is ever fetched.
    pub origins: BTreeMap<String, String>,
    /// Secret that session tokens are signed with, 32 characters or more; the same on every steering node.
    pub token_key: Secret,
    /// Key before the last change: its tokens are still believed. Default none.
    pub previous_token_key: Option<Secret>,
    /// Whether `?region=` chooses the region of a new session (demonstrations and tests). Default false.
    #[serde(default)]
    pub allow_region_parameter: bool,
    /// Header in which a trusted proxy in front names the client (`x-forwarded-for`). Default none.
    pub trusted_header: Option<String>,
    /// Content class by path prefix; the longest that fits counts. Default none.
    #[serde(default)]
    pub class_of: BTreeMap<String, String>,
    /// Whether MPDs tell players to ask for a steering answer before they start (`queryBeforeStart`). The MPD already
    /// says the same as that answer, so it only makes starts slower. Default false.
    #[serde(default)]
    pub query_before_start: bool,
    /// Polls per second that this node should answer; above it TTLs get longer. Default 20,000.
    #[serde(default = "default_budget")]
    pub poll_budget_per_s: u32,
    /// Base URLs of collectors that sampled answers go to (`POST {url}/v1/steers`); a batch that one does not take goes
    /// to the next. Default: in `spillway all` the collector beside it, else none.
    pub collectors: Option<Vec<String>>,
    /// Share of sessions whose answers are sampled, 0 to 1; one whose playlist is asked for with `debug=1` always is.
    /// Default 0.01.
    #[serde(default = "default_sample_share")]
    pub sample_share: f64,
    /// `[steer.dns]`: a DNS zone beside. Default none.
    pub dns: Option<DnsConfig>,
    /// What signs the URLs of pathways, by the name that a `[[pathway]]` has as its `signer`. Default none.
    #[serde(default)]
    pub signers: BTreeMap<String, SignerConfig>,
    /// Where manifests come from, the preferred one first: base URLs of orchestrators, `https://host/path/{region}.json`
    /// with `keys.json` beside, or folders of such files. Default: the store below `data_dir`.
    #[serde(default)]
    pub manifests_from: Vec<String>,
    /// Folder of this node's own copies of the last good manifests, for a start while nothing else runs. Default:
    /// `manifests` below `data_dir`.
    pub manifest_copy_dir: Option<PathBuf>,
    /// Public keys (base64) of manifests; others are not believed. Default: those that the source of manifests announces.
    #[serde(default)]
    pub manifest_keys: Vec<String>,
}

/// Every hundredth session: enough to explain any shift of more than some views.
const fn default_sample_share() -> f64 {
    0.01
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4301))
}

fn default_id() -> String {
    "steer-1".into()
}

const fn default_budget() -> u32 {
    20_000
}

/// Checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) id: String,
    /// Without a trailing slash.
    pub(crate) public_url: String,
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) keys: TokenKeys,
    pub(crate) allow_region_parameter: bool,
    pub(crate) trusted_header: Option<String>,
    pub(crate) class_of: ClassTable,
    pub(crate) query_before_start: bool,
    pub(crate) poll_budget_per_s: u32,
    pub(crate) collectors: Vec<String>,
    pub(crate) sample_share_ppm: u32,
    pub(crate) dns: Option<DnsSettings>,
    pub(crate) signers: Arc<Signers>,
    pub(crate) manifests_from: Vec<String>,
    pub(crate) manifest_copy_dir: Option<PathBuf>,
    pub(crate) manifest_keys: Vec<String>,
}

impl SteerConfig {
    /// Everything by default but what has none; no origin yet.
    #[must_use]
    pub fn of(public_url: &str, token_key: Secret) -> Self {
        Self {
            listen: default_listen(),
            tls: None,
            id: default_id(),
            public_url: public_url.into(),
            origins: BTreeMap::new(),
            token_key,
            previous_token_key: None,
            allow_region_parameter: false,
            trusted_header: None,
            class_of: BTreeMap::new(),
            query_before_start: false,
            poll_budget_per_s: default_budget(),
            collectors: None,
            sample_share: default_sample_share(),
            dns: None,
            signers: BTreeMap::new(),
            manifests_from: Vec::new(),
            manifest_copy_dir: None,
            manifest_keys: Vec::new(),
        }
    }

    /// Checks every value; opens nothing but the signers' key files.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check().map(drop)
    }

    /// Checks that the signer of every pathway is among `signers`, and that the DNS zone knows where every pathway is.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the pathway, its signer and the signers that there are, or its target.
    pub fn validate_with(&self, deployment: &Deployment) -> Result<(), ConfigError> {
        let settings = self.check()?;
        settings.signers.check(deployment, &self.public_url)?;
        settings.dns.as_ref().map_or(Ok(()), |dns| crate::dns::check(dns, deployment))
    }

    pub(crate) fn check(&self) -> Result<Settings, ConfigError> {
        let id = NodeId::new(&self.id).map_err(|error| ConfigError::invalid("steer.id", error, "an id"))?;
        let mut origins = BTreeMap::new();
        for (name, base_url) in &self.origins {
            let key = format!("steer.origins.{name}");
            let origin = Origin::new(base_url)
                .ok_or_else(|| ConfigError::invalid(key, base_url, "an absolute http:// or https:// URL"))?;
            origins.insert(name.clone(), origin);
        }
        if origins.is_empty() {
            return Err(ConfigError::invalid("steer.origins", "none", "at least one, as default = \"http://…\""));
        }
        if self.poll_budget_per_s == 0 {
            return Err(ConfigError::invalid("steer.poll_budget_per_s", 0, "1 or more"));
        }
        let collectors = self.collectors.clone().unwrap_or_default();
        check_collectors("steer.collectors", &collectors)?;
        crate::sources::check("steer.manifests_from", &self.manifests_from)?;
        if let Some(bad) = self.manifest_keys.iter().find(|text| read_key(text).is_none()) {
            let valid = "base64 of the 32 bytes of a public key (spillway keygen prints it)";
            return Err(ConfigError::invalid("steer.manifest_keys", bad, valid));
        }
        Ok(Settings {
            manifests_from: self.manifests_from.clone(),
            manifest_copy_dir: self.manifest_copy_dir.clone(),
            manifest_keys: self.manifest_keys.clone(),
            id: id.to_string(),
            public_url: public_url(&self.public_url)?,
            origins,
            keys: self.keys()?,
            allow_region_parameter: self.allow_region_parameter,
            trusted_header: self.trusted_header.clone(),
            class_of: ClassTable::new(&self.class_of)?,
            query_before_start: self.query_before_start,
            poll_budget_per_s: self.poll_budget_per_s,
            collectors,
            sample_share_ppm: check_share("steer.sample_share", self.sample_share)?,
            dns: self.dns.as_ref().map(DnsConfig::check).transpose()?,
            signers: Arc::new(Signers::new(&self.signers)?),
        })
    }

    fn keys(&self) -> Result<TokenKeys, ConfigError> {
        let check = |name: &str, key: &Secret| {
            let chars = key.0.chars().count();
            if chars >= TOKEN_KEY_MIN_CHARS {
                return Ok((key_id(&key.0), key.0.clone().into_bytes()));
            }
            let valid = format!("{TOKEN_KEY_MIN_CHARS} characters or more");
            Err(ConfigError::invalid(name, format!("{chars} characters"), valid))
        };
        let current = check("steer.token_key", &self.token_key)?;
        let previous =
            self.previous_token_key.as_ref().map(|key| check("steer.previous_token_key", key)).transpose()?;
        Ok(TokenKeys::new(current, previous.into_iter().collect()))
    }
}

/// Names a key by a hash of it, so that nodes with the same key agree without being told a name.
fn key_id(key: &str) -> String {
    let digest = Sha256::digest(format!("spillway token key {key}"));
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn public_url(text: &str) -> Result<String, ConfigError> {
    let valid = url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() && url.fragment().is_none()
    });
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'<>\\".contains(c));
    if valid && plain {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(ConfigError::invalid("steer.public_url", text, "an absolute http:// or https:// URL without query"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Settings, String> {
        let config: SteerConfig =
            spillway_service::config::parse(std::path::Path::new("x.toml"), text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    const GOOD: &str = r#"
        public_url = "https://steer.example/"
        token_key = "0123456789abcdef0123456789abcdef"
        origins = { default = "http://origin.example" }
    "#;

    #[test]
    fn defaults_are_filled_in() {
        let settings = config(GOOD).expect("valid");
        assert_eq!((settings.id.as_str(), settings.public_url.as_str()), ("steer-1", "https://steer.example"));
        assert!(!settings.allow_region_parameter);
    }

    #[test]
    fn a_wrong_value_names_its_key_and_a_secret_is_never_told() {
        let fails = |from: &str, to: &str| config(&GOOD.replace(from, to)).expect_err("invalid");
        let short = fails("0123456789abcdef0123456789abcdef", "hunter2");
        assert!(short.contains("steer.token_key") && short.contains("7 characters") && !short.contains("hunter2"));
        assert!(fails("https://steer.example/", "/steer").contains("steer.public_url"));
        assert!(fails("http://origin.example", "origin").contains("steer.origins.default"));
        assert!(fails("token_key", "collectors = [\"c:1\"]\ntoken_key").contains("steer.collectors"));
        assert!(fails("token_key", "sample_share = 2.0\ntoken_key").contains("steer.sample_share"));
        assert!(fails("public_url", "pubic_url").contains("pubic_url"));
        assert!(!format!("{:?}", Secret("hunter2".into())).contains("hunter2"));
    }
}

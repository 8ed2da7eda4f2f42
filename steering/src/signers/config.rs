//! `[steer.signers.NAME]`: how the URLs of pathways are signed.

use std::path::PathBuf;

use serde::Deserialize;
use spillway_service::config::{ConfigError, Secret, secret};
use spillway_wire::signed_url::{KeyError, Place, Signer, akamai, cloudfront, fastly, nginx, own};

use super::Entry;

const KINDS: &str = "akamai, cloudfront, fastly, nginx, own";
const TTL_RANGE_S: std::ops::RangeInclusive<u64> = 600..=2_592_000;
const FOLDERS_MAX: usize = 8;

/// `[steer.signers.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerConfig {
    /// `akamai`, `cloudfront`, `fastly`, `nginx` or `own`.
    pub kind: String,
    /// Key: hex (akamai), PEM (cloudfront), base64 (fastly), text of 16 (nginx) or 32 (own) characters or more.
    pub key: Option<Secret>,
    /// File that holds the key instead.
    pub key_file: Option<PathBuf>,
    /// Key before the last change (own only): edges still take what it signed.
    pub previous_key: Option<Secret>,
    /// Id of the public key in CloudFront (cloudfront only).
    pub key_pair_id: Option<String>,
    /// Salt that the property's rule has too (akamai only).
    pub salt: Option<Secret>,
    /// `sha256` or `sha1` (fastly only). Default `sha256`.
    pub hash: Option<String>,
    /// How long a URL holds at least, s, 600 to 30 days; longer than any view. Default 6 h.
    #[serde(default = "default_ttl_s")]
    pub ttl_s: u64,
    /// Where the token stands: `query`, `path` or `cookie`. Default: the kind's first in `docs/signed-urls.md`.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// How many leading folders of the URL's path the token covers, where the CDN's rule has a fixed number. Default: the
    /// title's folder.
    pub folders: Option<usize>,
    /// Domain of cookies: one that this node's public URL and the pathway's host belong to (`where = "cookie"` only).
    pub cookie_domain: Option<String>,
}

const fn default_ttl_s() -> u64 {
    21_600
}

impl SignerConfig {
    /// Checks the section and reads its key.
    pub(super) fn entry(&self, name: &str) -> Result<Entry, ConfigError> {
        let key = |field: &str| format!("steer.signers.{name}.{field}");
        let signer = self.signer(name)?;
        let places = signer.places();
        let names = || places.iter().map(|place| place.as_str()).collect::<Vec<_>>().join(", ");
        let place = match &self.place {
            None => places.first().copied().unwrap_or(Place::Query),
            Some(text) => places
                .iter()
                .copied()
                .find(|place| place.as_str() == text)
                .ok_or_else(|| ConfigError::invalid(key("where"), text, names()))?,
        };
        if !TTL_RANGE_S.contains(&self.ttl_s) {
            let valid = format!("{} to {}", TTL_RANGE_S.start(), TTL_RANGE_S.end());
            return Err(ConfigError::invalid(key("ttl_s"), self.ttl_s, valid));
        }
        if let Some(folders) = self.folders.filter(|folders| !(1..=FOLDERS_MAX).contains(folders)) {
            return Err(ConfigError::invalid(key("folders"), folders, format!("1 to {FOLDERS_MAX}")));
        }
        let domain = self.cookie_domain.clone();
        if (place == Place::Cookie) != domain.is_some() {
            let given = domain.unwrap_or_else(|| "missing".into());
            let valid = "a domain, with where = \"cookie\" and only there";
            return Err(ConfigError::invalid(key("cookie_domain"), given, valid));
        }
        if let Some(odd) = domain.as_ref().filter(|domain| !is_domain(domain)) {
            return Err(ConfigError::invalid(key("cookie_domain"), odd, "a domain, as example.net"));
        }
        Ok(Entry { name: name.to_owned(), signer, place, ttl_s: self.ttl_s, folders: self.folders, domain })
    }

    fn signer(&self, name: &str) -> Result<Signer, ConfigError> {
        let field = |field: &str| format!("steer.signers.{name}.{field}");
        let kind = self.kind.as_str();
        if !KINDS.split(", ").any(|known| known == kind) {
            return Err(ConfigError::invalid(field("kind"), kind, KINDS));
        }
        for (given, what, of) in [
            (self.previous_key.is_some(), "previous_key", "own"),
            (self.key_pair_id.is_some(), "key_pair_id", "cloudfront"),
            (self.salt.is_some(), "salt", "akamai"),
            (self.hash.is_some(), "hash", "fastly"),
        ] {
            if given && kind != of {
                return Err(ConfigError::invalid(
                    field(what),
                    format!("set, with kind {kind}"),
                    format!("only of kind {of}"),
                ));
            }
        }
        let secret = self.secret(name)?;
        let bad = |error: KeyError| ConfigError::invalid(field("key"), "not shown", error.to_string());
        let text = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.0.clone());
        match kind {
            "akamai" => akamai::Key::from_hex(&secret, text(&self.salt).as_deref()).map(Signer::Akamai).map_err(bad),
            "cloudfront" => {
                let valid = "the public key's id, letters and digits, as K2JCJMDEHXQW5F";
                let id = self.key_pair_id.as_deref().unwrap_or_default();
                if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(ConfigError::invalid(field("key_pair_id"), id, valid));
                }
                cloudfront::Key::from_pem(id, &secret).map(Signer::CloudFront).map_err(bad)
            }
            "fastly" => {
                let hash = match self.hash.as_deref() {
                    None | Some("sha256") => fastly::Hash::Sha256,
                    Some("sha1") => fastly::Hash::Sha1,
                    Some(other) => return Err(ConfigError::invalid(field("hash"), other, "sha256, sha1")),
                };
                fastly::Key::from_base64(&secret, hash).map(Signer::Fastly).map_err(bad)
            }
            "nginx" => nginx::Key::new(&secret).map(Signer::Nginx).map_err(bad),
            _ => own::Keys::new(&secret, text(&self.previous_key).as_deref()).map(Signer::Own).map_err(bad),
        }
    }

    fn secret(&self, name: &str) -> Result<String, ConfigError> {
        let key = format!("steer.signers.{name}.key");
        let secret = secret(&key, self.key.as_ref(), self.key_file.as_ref())?;
        secret.ok_or_else(|| ConfigError::invalid(key, "neither", "one of key and key_file"))
    }
}

fn is_domain(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    text.contains('.') && text.split('.').all(plain)
}

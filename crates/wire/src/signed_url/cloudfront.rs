//! CloudFront: signed URLs and signed cookies, with canned and custom policies.
//!
//! The signature is RSA (PKCS#1 v1.5) with SHA-256, which CloudFront takes everywhere since April 2026 where the URL says
//! `Hash-Algorithm=SHA256` (developer guide, "Creating a signed URL using a canned policy"); without that parameter it
//! expects SHA-1, which the library of this workspace signs no more. CloudFront also takes ECDSA keys: their signatures
//! differ each time, so one title would have as many URLs as answers, and they are refused here.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{KeyError, Place, Resource, SignError, Signed};

const PEM_VALID: &str =
    "an RSA private key of 2048 bits or more as PEM, PKCS#8 (BEGIN PRIVATE KEY) or PKCS#1 (BEGIN RSA PRIVATE KEY)";

/// A private key and the id of its public key in CloudFront.
#[derive(Clone)]
pub struct Key {
    pair_id: String,
    rsa: Arc<RsaKeyPair>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("pair_id", &self.pair_id).finish_non_exhaustive()
    }
}

/// What a custom policy says beside its resource and end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// Valid from, seconds since epoch.
    pub starts_s: Option<u64>,
    /// Addresses that may use it (`192.0.2.0/24`).
    pub addresses: Option<&'a str>,
}

impl Key {
    /// Reads a private key. `pair_id` is the public key's id in CloudFront (`K2JCJMDEHXQW5F`).
    ///
    /// # Errors
    /// [`KeyError::Form`] for what is no RSA key, or one of fewer than 2048 bits.
    pub fn from_pem(pair_id: &str, pem: &str) -> Result<Self, KeyError> {
        let bad = KeyError::Form(PEM_VALID);
        let body: String = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
        let der = BASE64.decode(body).map_err(|_| bad.clone())?;
        let rsa = if pem.contains("BEGIN RSA PRIVATE KEY") {
            RsaKeyPair::from_der(&der)
        } else {
            RsaKeyPair::from_pkcs8(&der)
        };
        Ok(Self { pair_id: pair_id.to_owned(), rsa: Arc::new(rsa.map_err(|_| bad)?) })
    }

    /// The signature of a policy, in CloudFront's alphabet.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn signature(&self, policy: &str) -> Result<String, SignError> {
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        // RSA by PKCS#1 v1.5 draws nothing; the argument is there for other paddings.
        let unused = SystemRandom::new();
        self.rsa.sign(&RSA_PKCS1_SHA256, &unused, policy.as_bytes(), &mut signature).map_err(|_| SignError)?;
        Ok(encode(&signature))
    }

    /// Query of a URL under a canned policy: good for exactly that URL, its own query included.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn canned_query(&self, url: &str, expires_s: u64) -> Result<String, SignError> {
        let signature = self.signature(&policy(url, expires_s, &Conditions::default()))?;
        Ok(format!("Expires={expires_s}&Signature={signature}&Key-Pair-Id={}&Hash-Algorithm=SHA256", self.pair_id))
    }

    /// Query of a URL under a custom policy.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn custom_query(&self, policy: &str) -> Result<String, SignError> {
        let signature = self.signature(policy)?;
        let encoded = encode(policy.as_bytes());
        Ok(format!("Policy={encoded}&Signature={signature}&Key-Pair-Id={}&Hash-Algorithm=SHA256", self.pair_id))
    }

    /// Cookies under a canned policy: good for exactly that URL.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn canned_cookies(&self, url: &str, expires_s: u64) -> Result<Vec<(&'static str, String)>, SignError> {
        let signature = self.signature(&policy(url, expires_s, &Conditions::default()))?;
        Ok(self.cookies(("CloudFront-Expires", expires_s.to_string()), signature))
    }

    /// Cookies under a custom policy.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn custom_cookies(&self, policy: &str) -> Result<Vec<(&'static str, String)>, SignError> {
        Ok(self.cookies(("CloudFront-Policy", encode(policy.as_bytes())), self.signature(policy)?))
    }

    fn cookies(&self, first: (&'static str, String), signature: String) -> Vec<(&'static str, String)> {
        vec![
            first,
            ("CloudFront-Signature", signature),
            ("CloudFront-Key-Pair-Id", self.pair_id.clone()),
            ("CloudFront-Hash-Algorithm", "SHA256".into()),
        ]
    }

    pub(super) fn sign(&self, place: Place, resource: &Resource<'_>) -> Result<Signed, SignError> {
        // A folder with a wildcard in its name must not open others.
        let wildcard = format!("{}{}*", resource.host, resource.folder.replace('*', "%2a"));
        let policy = policy(&wildcard, resource.expires_s, &Conditions::default());
        let mut signed = Signed { covers_folder: true, ..Signed::default() };
        match place {
            Place::Cookie => signed.cookies = self.custom_cookies(&policy)?,
            Place::Query | Place::Path => signed.query = self.custom_query(&policy)?,
        }
        Ok(signed)
    }
}

/// A policy without white space. With no conditions it is what CloudFront builds of a canned one, byte by byte.
#[must_use]
pub fn policy(resource: &str, expires_s: u64, conditions: &Conditions<'_>) -> String {
    let resource = serde_json::Value::from(resource);
    let mut more = String::new();
    if let Some(starts) = conditions.starts_s {
        more.push_str(&format!(r#","DateGreaterThan":{{"AWS:EpochTime":{starts}}}"#));
    }
    if let Some(addresses) = conditions.addresses {
        let addresses = serde_json::Value::from(addresses);
        more.push_str(&format!(r#","IpAddress":{{"AWS:SourceIp":{addresses}}}"#));
    }
    format!(
        r#"{{"Statement":[{{"Resource":{resource},"Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires_s}}}{more}}}}}]}}"#
    )
}

/// Base64 with CloudFront's letters: `+` → `-`, `=` → `_`, `/` → `~`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let letter = |letter| match letter {
        '+' => '-',
        '=' => '_',
        '/' => '~',
        other => other,
    };
    BASE64.encode(bytes).chars().map(letter).collect()
}

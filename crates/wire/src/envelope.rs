//! The signed envelope of a manifest: `{kid, sig, payload}`, Ed25519 over the payload's exact bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use spillway_model::RegionId;
use spillway_model::limits::MANIFEST_MAX_BYTES;

/// Store key of the public keys: JSON, key id → base64 of 32 bytes.
pub const KEYS_KEY: &str = "keys/manifest";

/// Store key of a region's envelope.
#[must_use]
pub fn manifest_key(region: &RegionId) -> String {
    format!("manifests/{region}")
}

/// File of the public keys, beside envelopes in files. No region is called `keys`.
pub const KEYS_FILE: &str = "keys.json";

/// File of a region's envelope: in a directory or bucket that manifests are published to, and in the copies that a
/// steering node keeps.
#[must_use]
pub fn manifest_file(region: &RegionId) -> String {
    format!("{region}.json")
}

/// Public keys by id, as they travel; what does not read is left out.
#[must_use]
pub fn read_keys(json: &[u8]) -> BTreeMap<String, VerifyingKey> {
    let texts: BTreeMap<String, String> = serde_json::from_slice(json).unwrap_or_default();
    texts.into_iter().filter_map(|(kid, text)| Some((kid, read_key(&text)?))).collect()
}

/// A public key out of base64 of its 32 bytes.
#[must_use]
pub fn read_key(text: &str) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&BASE64.decode(text.trim()).ok()?.try_into().ok()?).ok()
}

/// Id of a public key (base64): the beginning of its SHA-256, so that everybody finds the same.
#[must_use]
pub fn key_id(public: &str) -> String {
    Sha256::digest(public.as_bytes())[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signed payload. There is no canonical form: what was signed is what `payload` decodes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Which key.
    pub kid: String,
    /// Signature, base64.
    pub sig: String,
    /// JSON, base64.
    pub payload: String,
}

/// Why an envelope is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Too large, not JSON or not base64.
    #[error("the envelope is not readable: {0}")]
    Unreadable(String),
    /// A key that is not known here.
    #[error("key {0:?} is unknown (valid: {1})")]
    UnknownKey(String, String),
    /// The signature does not fit.
    #[error("the signature by key {0:?} does not fit the payload")]
    BadSignature(String),
}

impl EnvelopeError {
    /// Stable name, for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::UnknownKey(..) => "unknown_key",
            Self::BadSignature(_) => "bad_signature",
        }
    }
}

/// Signs `payload`.
#[must_use]
pub fn seal(kid: &str, key: &SigningKey, payload: &[u8]) -> Envelope {
    Envelope { kid: kid.into(), sig: BASE64.encode(key.sign(payload).to_bytes()), payload: BASE64.encode(payload) }
}

/// The payload without a look at the signature: for what is only shown, out of a store of one's own.
///
/// # Errors
/// [`EnvelopeError::Unreadable`].
pub fn peek(bytes: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Unreadable(error.to_string()))?;
    BASE64.decode(envelope.payload).map_err(|error| EnvelopeError::Unreadable(error.to_string()))
}

/// Checks an envelope's bytes and returns its payload.
///
/// # Errors
/// [`EnvelopeError`] if it is unreadable, by an unknown key, or not what was signed.
pub fn open(bytes: &[u8], keys: &BTreeMap<String, VerifyingKey>) -> Result<Vec<u8>, EnvelopeError> {
    if bytes.len() > MANIFEST_MAX_BYTES {
        return Err(EnvelopeError::Unreadable(format!(
            "{} bytes, at most {MANIFEST_MAX_BYTES} are valid",
            bytes.len()
        )));
    }
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| EnvelopeError::Unreadable(error.to_string()))?;
    let Some(key) = keys.get(&envelope.kid) else {
        let known: Vec<&str> = keys.keys().map(String::as_str).collect();
        return Err(EnvelopeError::UnknownKey(envelope.kid, known.join(", ")));
    };
    let decode = |text: &str| BASE64.decode(text).map_err(|error| EnvelopeError::Unreadable(error.to_string()));
    let payload = decode(&envelope.payload)?;
    let signature = Signature::from_slice(&decode(&envelope.sig)?)
        .map_err(|_| EnvelopeError::BadSignature(envelope.kid.clone()))?;
    key.verify_strict(&payload, &signature).map_err(|_| EnvelopeError::BadSignature(envelope.kid))?;
    Ok(payload)
}

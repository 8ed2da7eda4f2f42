//! Fastly: the token that Fastly's guide "Enabling URL token validation" checks in VCL, `<expiry>_<HMAC in hex>` over the
//! path followed by the expiry. The guide uses HMAC-SHA-1; `digest.hmac_sha256` is the same with SHA-256, and ours by
//! default.
//!
//! In a query (`token=`) it is good for one path. As first part of a path it is signed over the title's folder instead,
//! and segments inherit it; the VCL for that stands in `docs/signed-urls.md`.

use aws_lc_rs::hmac as legacy;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{Hidden, KeyError, Place, Resource, Signed, hex};

/// Bytes below which a key could be guessed.
pub const KEY_MIN_BYTES: usize = 16;

/// Hash of the HMAC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hash {
    /// `digest.hmac_sha256`.
    #[default]
    Sha256,
    /// `digest.hmac_sha1`, as the guide has it.
    Sha1,
}

/// A key that VCL knows too.
#[derive(Clone, Debug)]
pub struct Key {
    key: Hidden,
    hash: Hash,
}

impl Key {
    /// Reads a key in base64, as `openssl rand -base64 32` makes it and `digest.base64_decode` reads it.
    ///
    /// # Errors
    /// [`KeyError`] for what is no base64, or too short.
    pub fn from_base64(key: &str, hash: Hash) -> Result<Self, KeyError> {
        let bytes =
            BASE64.decode(key.trim()).map_err(|_| KeyError::Form("base64, as openssl rand -base64 32 makes it"))?;
        Ok(Self { key: Hidden::at_least(KEY_MIN_BYTES, bytes)?, hash })
    }

    pub(super) fn sign(&self, place: Place, resource: &Resource<'_>) -> Signed {
        match place {
            Place::Path => Signed {
                path: token(&self.key.0, self.hash, resource.folder, resource.expires_s),
                covers_folder: true,
                ..Signed::default()
            },
            Place::Query | Place::Cookie => Signed {
                query: format!("token={}", token(&self.key.0, self.hash, resource.path, resource.expires_s)),
                ..Signed::default()
            },
        }
    }
}

/// `<expiry>_<hex>`; `key` in bytes, `path` as it stands in the URL.
#[must_use]
pub fn token(key: &[u8], hash: Hash, path: &str, expires_s: u64) -> String {
    format!("{expires_s}_{}", hmac_hex(key, hash, &format!("{path}{expires_s}")))
}

/// VCL's `digest.hmac_*` without its `0x`.
#[must_use]
pub fn hmac_hex(key: &[u8], hash: Hash, text: &str) -> String {
    match hash {
        Hash::Sha256 => {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
            mac.update(text.as_bytes());
            hex(&mac.finalize().into_bytes())
        }
        Hash::Sha1 => {
            let key = legacy::Key::new(legacy::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
            hex(legacy::sign(&key, text.as_bytes()).as_ref())
        }
    }
}

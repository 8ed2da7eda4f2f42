//! nginx: what `ngx_http_secure_link_module` checks with `secure_link` and `secure_link_md5`.
//!
//! MD5 over `<expiry><uri> <secret>`, base64 in the URL alphabet without padding. That is the documentation's example
//! without the client's address, since players have two of them and change them. `$uri` is the decoded path. In a query
//! (`md5=…&expires=…`) it is good for one path. As first part of a path (`<md5>,<expiry>`) it is made over the title's
//! folder, and segments inherit it; the configuration for that stands in `docs/signed-urls.md`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest as _, Md5};

use super::{Hidden, KeyError, Place, Resource, Signed, percent_decoded};

/// Bytes below which a secret could be guessed.
pub const KEY_MIN_BYTES: usize = 16;

/// A secret that nginx knows too.
#[derive(Clone, Debug)]
pub struct Key(Hidden);

impl Key {
    /// Takes a secret as it stands in `secure_link_md5`.
    ///
    /// # Errors
    /// [`KeyError`] for one that is too short, or that nginx would read as something else.
    pub fn new(secret: &str) -> Result<Self, KeyError> {
        if secret.contains(|c: char| c == '$' || c == '"' || c == '\\' || c.is_control()) {
            return Err(KeyError::Form("no $, \", \\ or control characters, which nginx would interpret"));
        }
        Ok(Self(Hidden::at_least(KEY_MIN_BYTES, secret.as_bytes().to_vec())?))
    }

    pub(super) fn sign(&self, place: Place, resource: &Resource<'_>) -> Signed {
        let expires = resource.expires_s;
        match place {
            Place::Path => Signed {
                path: format!("{},{expires}", hash(expires, resource.folder, &self.0.0)),
                covers_folder: true,
                ..Signed::default()
            },
            Place::Query | Place::Cookie => Signed {
                query: format!("md5={}&expires={expires}", hash(expires, resource.path, &self.0.0)),
                ..Signed::default()
            },
        }
    }
}

fn hash(expires_s: u64, uri: &str, secret: &[u8]) -> String {
    link_hash(&[expires_s.to_string().as_bytes(), &percent_decoded(uri), b" ", secret].concat())
}

/// The hash of an expression, as nginx compares it.
#[must_use]
pub fn link_hash(expression: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Md5::digest(expression))
}

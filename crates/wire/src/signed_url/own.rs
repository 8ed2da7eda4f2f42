//! The own edge's token: the first part of the path, so that every relative URI below it inherits it.
//!
//! `/~<expiry>~<parts>~<mac>/live/river/720/seg1.m4s`: `expiry` in seconds since epoch, `parts` how many parts of the
//! path behind it the token covers (2 here: `/live/river/`), `mac` HMAC-SHA-256 over both and the covered folder, cut to
//! 16 bytes, base64 in the URL alphabet. The folder is compared decoded: players may escape a path anew. There is no name of
//! a viewer in it: all who watch a title share its URLs, and caches do too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{Hidden, KeyError, Resource, Signed, depth, percent_decoded};

/// Bytes below which a key could be guessed.
pub const KEY_MIN_BYTES: usize = 32;
/// A token is believed so long after its end: clocks differ.
pub const CLOCK_SKEW_S: u64 = 5;

const MAC_BYTES: usize = 16;
/// A token's part of the path is never longer.
const TOKEN_MAX_BYTES: usize = 64;
/// Longer folders are nobody's.
const PARTS_MAX: usize = 32;

/// Why a path is refused; each has a stable name for the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// The path does not begin with a token.
    #[error("the path has no token (valid: /~expiry~parts~mac/…)")]
    Missing,
    /// Not of the form.
    #[error("the token is not of the form ~expiry~parts~mac")]
    Malformed,
    /// The path has `.` or `..` in it, which could lead out of what the token covers.
    #[error("the path has a part `.` or `..`")]
    DotParts,
    /// Signed by neither key, or not for this folder.
    #[error("the token's signature does not fit this path")]
    BadSignature,
    /// Its time is over.
    #[error("the token ended at {ended_s} s")]
    Expired {
        /// End, seconds since epoch.
        ended_s: u64,
    },
}

impl Reject {
    /// Stable name, for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::DotParts => "dot_parts",
            Self::BadSignature => "bad_signature",
            Self::Expired { .. } => "expired",
        }
    }
}

/// A path that a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The path without its token, with leading slash.
    pub path: &'a str,
    /// End of the token, seconds since epoch.
    pub expires_s: u64,
}

/// The key that signs, and the one before it, which still verifies.
#[derive(Clone, Debug)]
pub struct Keys {
    current: Hidden,
    previous: Option<Hidden>,
}

impl Keys {
    /// Takes keys of 32 bytes or more.
    ///
    /// # Errors
    /// [`KeyError::Short`].
    pub fn new(current: &str, previous: Option<&str>) -> Result<Self, KeyError> {
        let key = |text: &str| Hidden::at_least(KEY_MIN_BYTES, text.as_bytes().to_vec());
        Ok(Self { current: key(current)?, previous: previous.map(key).transpose()? })
    }

    pub(super) fn sign(&self, resource: &Resource<'_>) -> Signed {
        let parts = depth(resource.folder).min(PARTS_MAX);
        let folder = covered(resource.folder, parts).unwrap_or("/");
        let mac = mac(&self.current, resource.expires_s, parts, folder).finalize().into_bytes();
        let mac = URL_SAFE_NO_PAD.encode(&mac[..MAC_BYTES]);
        Signed { path: format!("~{}~{parts}~{mac}", resource.expires_s), covers_folder: true, ..Signed::default() }
    }

    /// Checks a path (without query) at `now_s`, in constant time as far as the signature goes.
    ///
    /// # Errors
    /// [`Reject`] says in one word why.
    pub fn verify<'a>(&self, path: &'a str, now_s: u64) -> Result<Opened<'a>, Reject> {
        let rest = path.strip_prefix('/').ok_or(Reject::Missing)?;
        let (token, _) = rest.split_once('/').ok_or(Reject::Missing)?;
        let opened = rest.get(token.len()..).unwrap_or_default();
        let (expires_s, parts, given) = fields(token)?;
        let decoded = |part: &str| percent_decoded(part);
        if opened.split('/').any(|part| matches!(decoded(part).as_slice(), b"." | b"..")) {
            return Err(Reject::DotParts);
        }
        let folder = covered(opened, parts).ok_or(Reject::BadSignature)?;
        let fits = |key: &Hidden| mac(key, expires_s, parts, folder).verify_truncated_left(&given).is_ok();
        if !fits(&self.current) && !self.previous.as_ref().is_some_and(fits) {
            return Err(Reject::BadSignature);
        }
        if now_s > expires_s.saturating_add(CLOCK_SKEW_S) {
            return Err(Reject::Expired { ended_s: expires_s });
        }
        Ok(Opened { path: opened, expires_s })
    }
}

fn fields(token: &str) -> Result<(u64, usize, Vec<u8>), Reject> {
    // Some players write `%7E`.
    let token = token.replace("%7E", "~").replace("%7e", "~");
    let body = token.strip_prefix('~').ok_or(Reject::Missing)?;
    if body.len() > TOKEN_MAX_BYTES {
        return Err(Reject::Malformed);
    }
    let fields: Vec<&str> = body.split('~').collect();
    let [expires, parts, mac] = fields.as_slice() else { return Err(Reject::Malformed) };
    let number = |text: &str| -> Result<u64, Reject> {
        // One spelling for each number.
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if plain { text.parse().map_err(|_| Reject::Malformed) } else { Err(Reject::Malformed) }
    };
    let parts = usize::try_from(number(parts)?).ok().filter(|parts| *parts <= PARTS_MAX).ok_or(Reject::Malformed)?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok().filter(|mac| mac.len() == MAC_BYTES).ok_or(Reject::Malformed)?;
    Ok((number(expires)?, parts, mac))
}

/// The first `parts` parts of a path as a folder with both slashes; `None` if it has fewer.
fn covered(path: &str, parts: usize) -> Option<&str> {
    let end = match parts {
        0 => 0,
        _ => path.match_indices('/').nth(parts)?.0,
    };
    path.get(..=end)
}

fn mac(key: &Hidden, expires_s: u64, parts: usize, folder: &str) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key.0).expect("HMAC takes a key of any length");
    mac.update(format!("spillway path token 1\n{expires_s}\n{parts}\n").as_bytes());
    mac.update(&percent_decoded(folder));
    mac
}

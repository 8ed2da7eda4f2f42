//! Session token: who a steering request belongs to, without state on the server.
//!
//! `<sid>~<region>~<asn>~<class>~<started>~<content>~<pathways>~<first>~<kid>~<mac>`: fields separated by `~`, empty =
//! none, ids in their own characters, pathways separated by `:`, time in seconds since epoch (base 36), HMAC-SHA-256
//! cut to 16 bytes, hex. `~` and `/` survive every player's query handling. In the playlist the token names the first
//! pathway, in RELOAD-URI not: then it carries identity only.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use spillway_model::limits::PLAYLIST_MAX_PATHWAYS;
use spillway_model::{ContentClass, ContentId, PathwayId, RegionId, TimestampMs, ViewId};

const MAC_BYTES: usize = 16;
/// A token longer than this is not ours.
const TOKEN_MAX_BYTES: usize = 1_024;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The view.
    pub view: ViewId,
    /// Its region.
    pub region: RegionId,
    /// Its network, if known.
    pub asn: Option<u32>,
    /// Content class, if any.
    pub class: Option<ContentClass>,
    /// When the view started, to the second.
    pub started: TimestampMs,
    /// Title.
    pub content: ContentId,
    /// Every pathway of the playlist: each answer lists them all.
    pub pathways: Vec<PathwayId>,
    /// The pathway that the playlist put first; only in the playlist's own token.
    pub first: Option<PathwayId>,
}

/// Keys by id; every one verifies, `current` signs.
#[derive(Clone)]
pub struct TokenKeys {
    current: String,
    keys: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKeys").field("current", &self.current).finish_non_exhaustive()
    }
}

/// Why a token is not believed; each has a stable name for the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token.
    #[error("no token")]
    Missing,
    /// Not of the form.
    #[error("the token is not of the form sid~region~asn~class~started~content~pathways~first~kid~mac")]
    Malformed,
    /// Signed by a key that is gone or was never ours.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// Forged or damaged.
    #[error("the token's signature does not fit")]
    BadSignature,
}

impl TokenError {
    /// Stable name, for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown_key",
            Self::BadSignature => "bad_signature",
        }
    }
}

impl TokenKeys {
    /// `current` signs; `others` (a previous key) still verify.
    #[must_use]
    pub fn new(current: (String, Vec<u8>), others: Vec<(String, Vec<u8>)>) -> Self {
        let name = current.0.clone();
        Self { current: name, keys: others.into_iter().chain([current]).collect() }
    }

    /// Signs `token`.
    #[must_use]
    pub fn sign(&self, token: &Token) -> String {
        let pathways: Vec<&str> = token.pathways.iter().map(PathwayId::as_str).collect();
        let body = format!(
            "{}~{}~{}~{}~{}~{}~{}~{}~{}",
            token.view,
            token.region,
            token.asn.map(|asn| asn.to_string()).unwrap_or_default(),
            token.class.as_ref().map(ContentClass::as_str).unwrap_or_default(),
            to_base36(token.started.0 / 1000),
            token.content,
            pathways.join(":"),
            token.first.as_ref().map(PathwayId::as_str).unwrap_or_default(),
            self.current,
        );
        let mac = self.keys.get(&self.current).map(|key| mac(key, &body).finalize().into_bytes()).unwrap_or_default();
        let mut out = body;
        out.push('~');
        for byte in &mac[..MAC_BYTES] {
            out.push_str(&format!("{byte:02x}"));
        }
        out
    }

    /// Reads and checks a token.
    ///
    /// # Errors
    /// [`TokenError`] says in one word why it is not believed.
    pub fn verify(&self, text: &str) -> Result<Token, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Missing);
        }
        if text.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let (body, hex) = text.rsplit_once('~').ok_or(TokenError::Malformed)?;
        let (_, kid) = body.rsplit_once('~').ok_or(TokenError::Malformed)?;
        let given = from_hex(hex).ok_or(TokenError::Malformed)?;
        let key = self.keys.get(kid).ok_or(TokenError::UnknownKey)?;
        if given.len() != MAC_BYTES {
            return Err(TokenError::BadSignature);
        }
        mac(key, body).verify_truncated_left(&given).map_err(|_| TokenError::BadSignature)?;
        parse(body).ok_or(TokenError::Malformed)
    }
}

fn mac(key: &[u8], body: &str) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(body.as_bytes());
    mac
}

fn parse(body: &str) -> Option<Token> {
    let fields: Vec<&str> = body.split('~').collect();
    let [view, region, asn, class, started, content, pathways, first, _kid] = fields.as_slice() else { return None };
    let optional = |text: &&str| (!text.is_empty()).then(|| (*text).to_owned());
    let pathways: Vec<PathwayId> =
        pathways.split(':').filter(|name| !name.is_empty()).map(PathwayId::new).collect::<Result<_, _>>().ok()?;
    if pathways.len() > PLAYLIST_MAX_PATHWAYS {
        return None;
    }
    Some(Token {
        view: ViewId::new(view).ok()?,
        region: RegionId::new(region).ok()?,
        asn: optional(asn).map(|asn| asn.parse()).transpose().ok()?,
        class: optional(class).map(|class| ContentClass::new(&class)).transpose().ok()?,
        started: TimestampMs(u64::from_str_radix(started, 36).ok()?.checked_mul(1000)?),
        content: ContentId::new(content).ok()?,
        pathways,
        first: optional(first).map(|first| PathwayId::new(&first)).transpose().ok()?,
    })
}

fn to_base36(mut value: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut out = Vec::new();
    loop {
        out.push(char::from(DIGITS[(value % 36) as usize]));
        value /= 36;
        if value == 0 {
            return out.into_iter().rev().collect();
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> TokenKeys {
        TokenKeys::new(("k2".into(), b"new".to_vec()), vec![("k1".into(), b"old".to_vec())])
    }

    fn token() -> Token {
        Token {
            view: ViewId::new("v-1").expect("id"),
            region: RegionId::new("eu-south").expect("id"),
            asn: Some(64_501),
            class: None,
            started: TimestampMs(1_767_225_600_000),
            content: ContentId::new("live/river").expect("id"),
            pathways: vec![PathwayId::new("cdn-a").expect("id"), PathwayId::new("own-x-1").expect("id")],
            first: Some(PathwayId::new("cdn-a").expect("id")),
        }
    }

    #[test]
    fn a_token_reads_back_and_begins_with_the_view() {
        let text = keys().sign(&token());
        assert!(text.starts_with("v-1~eu-south~64501~~"), "{text}");
        assert_eq!(keys().verify(&text), Ok(token()));
    }

    #[test]
    fn a_token_of_the_previous_key_is_still_believed() {
        let old = TokenKeys::new(("k1".into(), b"old".to_vec()), vec![]);
        assert_eq!(keys().verify(&old.sign(&token())), Ok(token()));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let text = keys().sign(&token());
        for at in 0..text.len() {
            let mut forged = text.clone().into_bytes();
            forged[at] = if forged[at] == b'a' { b'b' } else { b'a' };
            let forged = String::from_utf8(forged).expect("ascii");
            assert!(forged == text || keys().verify(&forged).is_err(), "{forged}");
        }
        assert_eq!(keys().verify(""), Err(TokenError::Missing));
        assert_eq!(keys().verify("~~~"), Err(TokenError::UnknownKey));
        assert_eq!(keys().verify("no-separator"), Err(TokenError::Malformed));
        assert_eq!(keys().verify("v~k2~é"), Err(TokenError::Malformed));
    }
}

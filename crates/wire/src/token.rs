//! Session token: who a steering request belongs to, without state on the server.
//!
//! `<sid>~<region>~<asn>~<class>~<started>~<content>~<pathways>~<first>~[<needs>~]<kid>~<mac>`: fields separated by `~`,
//! empty = none, ids in their own characters, pathways separated by `:`, time in seconds since epoch (base 36),
//! HMAC-SHA-256 cut to 16 bytes, hex. `<needs>` (device class, codec, DRM, territory, separated by `:`) stands only in
//! tokens of sessions that have any, so that nodes that don't know it yet read all others. `~` and `/` survive every player's query handling. In the playlist the token names the first
//! pathway, in RELOAD-URI not: then it carries identity only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use spillway_model::limits::PLAYLIST_MAX_PATHWAYS;
use spillway_model::{ContentClass, ContentId, PathwayId, RegionId, TimestampMs, ViewId};

const MAC_BYTES: usize = 16;
/// First field of a leave to see reasons.
const DEBUG: &str = "debug";
const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Most tokens are shorter.
const TOKEN_USUAL_BYTES: usize = 256;
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
    /// What a pathway must be able to carry for it.
    pub needs: Needs,
}

/// What bounds the pathways that can serve a session. Kept in the token, because each answer must go by it and the
/// node remembers nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Device class.
    pub device_class: Option<Word>,
    /// Codec, as in `CODECS` (`avc1`, `hev1` …).
    pub codec: Option<Word>,
    /// DRM system.
    pub drm: Option<Word>,
    /// ISO 3166 territory.
    pub territory: Option<Word>,
}

/// A short plain word: 1 to 32 of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(String);

/// Longest [`Word`].
const WORD_MAX_BYTES: usize = 32;

impl Word {
    /// The text, if it is one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=WORD_MAX_BYTES).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Needs {
    fn fields(&self) -> [&Option<Word>; 4] {
        [&self.device_class, &self.codec, &self.drm, &self.territory]
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields =
            text.split(':').map(|field| if field.is_empty() { Some(None) } else { Word::new(field).map(Some) });
        let mut field = || fields.next()?;
        let needs = Self { device_class: field()?, codec: field()?, drm: field()?, territory: field()? };
        fields.next().is_none().then_some(needs)
    }
}

/// Keys by id; every one verifies, `current` signs.
#[derive(Clone)]
pub struct TokenKeys {
    current: String,
    /// The HMAC with its key taken in, so that no answer does that again.
    keys: BTreeMap<String, Hmac<Sha256>>,
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
    /// It tells of a session that began too long ago.
    #[error("the token is too old")]
    Expired,
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
            Self::Expired => "expired",
            Self::BadSignature => "bad_signature",
        }
    }
}

impl TokenKeys {
    /// `current` signs; `others` (a previous key) still verify.
    #[must_use]
    pub fn new(current: (String, Vec<u8>), others: Vec<(String, Vec<u8>)>) -> Self {
        let name = current.0.clone();
        let keyed = |(id, key): (String, Vec<u8>)| {
            (id, <Hmac<Sha256> as Mac>::new_from_slice(&key).expect("HMAC takes a key of any length"))
        };
        Self { current: name, keys: others.into_iter().chain([current]).map(keyed).collect() }
    }

    /// Signs `token`.
    #[must_use]
    pub fn sign(&self, token: &Token) -> String {
        let mut out = String::with_capacity(TOKEN_USUAL_BYTES);
        out.push_str(token.view.as_str());
        out.push('~');
        out.push_str(token.region.as_str());
        out.push('~');
        if let Some(asn) = token.asn {
            let _ = write!(out, "{asn}");
        }
        out.push('~');
        out.push_str(token.class.as_ref().map(ContentClass::as_str).unwrap_or_default());
        out.push('~');
        push_base36(&mut out, token.started.0 / 1000);
        out.push('~');
        out.push_str(token.content.as_str());
        out.push('~');
        for (at, pathway) in token.pathways.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { ":" });
            out.push_str(pathway.as_str());
        }
        out.push('~');
        out.push_str(token.first.as_ref().map(PathwayId::as_str).unwrap_or_default());
        out.push('~');
        let needs = token.needs.fields();
        if needs.iter().any(|need| need.is_some()) {
            for (at, need) in needs.into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { ":" });
                out.push_str(need.as_ref().map(Word::as_str).unwrap_or_default());
            }
            out.push('~');
        }
        out.push_str(&self.current);
        self.push_mac(&mut out);
        out
    }

    fn push_mac(&self, out: &mut String) {
        let mac = self.keys.get(&self.current).map(|key| mac(key, out).finalize().into_bytes()).unwrap_or_default();
        out.push('~');
        for byte in &mac[..MAC_BYTES] {
            out.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
        }
    }

    /// Whether `text`, a token that verified, is what [`TokenKeys::sign`] would make of `token` today: then nobody need
    /// sign again.
    #[must_use]
    pub fn is_current(&self, text: &str) -> bool {
        let body = text.len().checked_sub(1 + 2 * MAC_BYTES).and_then(|end| text.get(..end));
        body.and_then(|body| body.strip_suffix(&self.current)).is_some_and(|rest| rest.ends_with('~'))
    }

    /// A leave to see why answers are as they are, good until `until`: `debug~<until, s>~<kid>~<mac>`. It has fewer fields
    /// than a session's token, so that neither passes for the other.
    #[must_use]
    pub fn sign_debug(&self, until: TimestampMs) -> String {
        let mut out = format!("{DEBUG}~{}~{}", until.0 / 1_000, self.current);
        self.push_mac(&mut out);
        out
    }

    /// Whether `text` is such a leave, and still good.
    #[must_use]
    pub fn verifies_debug(&self, text: &str, now: TimestampMs) -> bool {
        let until = |body: &str| {
            let mut fields = body.split('~');
            let (word, until, _kid) = (fields.next()?, fields.next()?, fields.next()?);
            (word == DEBUG && fields.next().is_none()).then_some(until.parse::<u64>().ok()?)
        };
        text.len() <= TOKEN_MAX_BYTES
            && self.body(text).is_ok_and(|body| until(body).is_some_and(|until_s| now.0 / 1_000 <= until_s))
    }

    /// Reads and checks a token.
    ///
    /// # Errors
    /// [`TokenError`] says in one word why it is not believed.
    pub fn verify(&self, text: &str) -> Result<Token, TokenError> {
        self.verify_sharing(text, |_| None, |_| None)
    }

    /// As [`TokenKeys::verify`], with the ids that `region` and `pathway` hold already: they are shared, not made anew for
    /// each request.
    ///
    /// # Errors
    /// [`TokenError`] says in one word why it is not believed.
    pub fn verify_sharing(
        &self,
        text: &str,
        region: impl Fn(&str) -> Option<RegionId>,
        pathway: impl Fn(&str) -> Option<PathwayId>,
    ) -> Result<Token, TokenError> {
        if text.is_empty() {
            return Err(TokenError::Missing);
        }
        if text.len() > TOKEN_MAX_BYTES {
            return Err(TokenError::Malformed);
        }
        let region = |name: &str| region(name).or_else(|| RegionId::new(name).ok());
        let pathway = |name: &str| pathway(name).or_else(|| PathwayId::new(name).ok());
        parse(self.body(text)?, region, pathway).ok_or(TokenError::Malformed)
    }

    /// What the signature is about, if it fits.
    fn body<'t>(&self, text: &'t str) -> Result<&'t str, TokenError> {
        let (body, hex) = text.rsplit_once('~').ok_or(TokenError::Malformed)?;
        let (_, kid) = body.rsplit_once('~').ok_or(TokenError::Malformed)?;
        let key = self.keys.get(kid).ok_or(TokenError::UnknownKey)?;
        let is_hex = || hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let given =
            from_hex(hex).ok_or_else(|| if is_hex() { TokenError::BadSignature } else { TokenError::Malformed })?;
        mac(key, body).verify_truncated_left(&given).map_err(|_| TokenError::BadSignature)?;
        Ok(body)
    }
}

fn mac(key: &Hmac<Sha256>, body: &str) -> Hmac<Sha256> {
    let mut mac = key.clone();
    mac.update(body.as_bytes());
    mac
}

fn optional(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn parse(
    body: &str,
    region_id: impl Fn(&str) -> Option<RegionId>,
    pathway_id: impl Fn(&str) -> Option<PathwayId>,
) -> Option<Token> {
    let mut fields = body.split('~');
    let mut field = || fields.next();
    let (view, region, asn, class) = (field()?, field()?, field()?, field()?);
    let (started, content, pathways, first) = (field()?, field()?, field()?, field()?);
    // The last field is the key's; what stands before it are needs, if the session has any.
    let needs = match (field()?, field()) {
        (_, None) => Needs::default(),
        (needs, Some(_)) => Needs::parse(needs)?,
    };
    if field().is_some() {
        return None;
    }
    let mut declared = Vec::with_capacity(PLAYLIST_MAX_PATHWAYS);
    for name in pathways.split(':').filter(|name| !name.is_empty()) {
        if declared.len() == PLAYLIST_MAX_PATHWAYS {
            return None;
        }
        declared.push(pathway_id(name)?);
    }
    Some(Token {
        view: ViewId::new(view).ok()?,
        region: region_id(region)?,
        asn: optional(asn).map(str::parse).transpose().ok()?,
        class: optional(class).map(ContentClass::new).transpose().ok()?,
        started: TimestampMs(u64::from_str_radix(started, 36).ok()?.checked_mul(1000)?),
        content: ContentId::new(content).ok()?,
        pathways: declared,
        first: match optional(first) {
            Some(name) => Some(pathway_id(name)?),
            None => None,
        },
        needs,
    })
}

fn push_base36(out: &mut String, value: u64) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    if value >= 36 {
        push_base36(out, value / 36);
    }
    out.push(char::from(DIGITS[(value % 36) as usize]));
}

/// The MAC's bytes, in small letters as they were written.
fn from_hex(text: &str) -> Option<[u8; MAC_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 2 * MAC_BYTES {
        return None;
    }
    let mut out = [0; MAC_BYTES];
    for (byte, pair) in out.iter_mut().zip(pairs) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
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
            needs: Needs::default(),
        }
    }

    #[test]
    fn what_a_session_needs_comes_back_and_stands_nowhere_else() {
        let needs = Needs { codec: Word::new("hev1"), territory: Word::new("DE"), ..Needs::default() };
        let needy = Token { needs, ..token() };
        let text = keys().sign(&needy);
        assert!(text.contains("~:hev1::DE~k2~"), "{text}");
        assert_eq!(keys().verify(&text), Ok(needy));
        assert_eq!(keys().sign(&token()).matches('~').count() + 1, text.matches('~').count());
        for bad in ["", "a b", "x~y", "a:b", &"x".repeat(33)] {
            assert_eq!(Word::new(bad), None, "{bad:?}");
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
    fn a_leave_to_see_reasons_ends_and_is_no_session_nor_a_session_one() {
        let until = TimestampMs(1_800_000_000_000);
        let leave = keys().sign_debug(until);
        let later = TimestampMs(until.0 + 1_000);
        assert!(keys().verifies_debug(&leave, until) && !keys().verifies_debug(&leave, later), "{leave}");
        assert_eq!(keys().verify(&leave), Err(TokenError::Malformed));
        let session = Token { view: ViewId::new("debug").expect("id"), ..token() };
        for other in [keys().sign(&session), leave.replace("800", "900"), String::new(), "debug~9~k2".into()] {
            assert!(!keys().verifies_debug(&other, until), "{other}");
        }
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

//! Akamai Token Authentication 2.0 (`hdnts=exp=…~acl=…~hmac=…`).
//!
//! Fields and their order are those of Akamai's reference implementations (EdgeAuth-Token-Python, -Node, -Java):
//! `ip`, `st`, `exp`, `acl`, `id`, `data`, and at the end `hmac`, HMAC-SHA-256 over the fields before it joined by `~`;
//! `url` and `salt` are signed, but not sent. The key is hex, as the Property Manager shows it.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{Hidden, KeyError, Place, Resource, Signed, from_hex, hex, without_meaning};

/// Parameter and cookie that the Property Manager proposes for segmented media.
pub const DEFAULT_NAME: &str = "hdnts";
/// Bytes below which a key could be guessed.
pub const KEY_MIN_BYTES: usize = 16;

/// What a token is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// Paths with `*` and `?`, several joined by `!`; sent with the token, as it is.
    Acl(&'a str),
    /// One path; signed but not sent. Needs `escape_early` where the property has "Escape token input" on.
    Url(&'a str),
}

/// The fields of a token.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    /// Valid from, seconds since epoch.
    pub start_s: Option<u64>,
    /// Valid until, seconds since epoch.
    pub expires_s: u64,
    /// The only address that may use it.
    pub ip: Option<&'a str>,
    /// What it is about.
    pub about: About<'a>,
    /// `id`: session.
    pub session_id: Option<&'a str>,
    /// `data`: read back by the edge.
    pub payload: Option<&'a str>,
    /// Signed, not sent; stands in the property too.
    pub salt: Option<&'a str>,
    /// Percent-encode addresses, ids, payload and url (not the acl) before signing.
    pub escape_early: bool,
}

impl<'a> Fields<'a> {
    /// A token of which only the least is said.
    #[must_use]
    pub const fn new(about: About<'a>, expires_s: u64) -> Self {
        Self {
            start_s: None,
            expires_s,
            ip: None,
            about,
            session_id: None,
            payload: None,
            salt: None,
            escape_early: false,
        }
    }
}

/// A key of a property, with what the property's rule expects.
#[derive(Clone, Debug)]
pub struct Key {
    key: Hidden,
    name: &'static str,
    salt: Option<Hidden>,
}

impl Key {
    /// Reads a key of hex digits.
    ///
    /// # Errors
    /// [`KeyError`] for what is no hex, or too short.
    pub fn from_hex(key: &str, salt: Option<&str>) -> Result<Self, KeyError> {
        let bytes = from_hex(key).ok_or(KeyError::Form("an even number of hex digits"))?;
        let salt = salt.map(|salt| Hidden(salt.as_bytes().to_vec()));
        Ok(Self { key: Hidden::at_least(KEY_MIN_BYTES, bytes)?, name: DEFAULT_NAME, salt })
    }

    pub(super) fn sign(&self, place: Place, resource: &Resource<'_>) -> Signed {
        let acl = format!("{}*", without_meaning(resource.folder));
        let salt = self.salt.as_ref().map(|salt| String::from_utf8_lossy(&salt.0));
        let fields = Fields { salt: salt.as_deref(), ..Fields::new(About::Acl(&acl), resource.expires_s) };
        let token = token(&self.key.0, &fields);
        let mut signed = Signed { covers_folder: true, ..Signed::default() };
        match place {
            // A path part can't hold slashes: they are escaped, and the rule unescapes what it takes out.
            Place::Path => signed.path = format!("{}={}", self.name, token.replace('/', "%2f")),
            Place::Query => signed.query = format!("{}={token}", self.name),
            Place::Cookie => signed.cookies = vec![(self.name, token)],
        }
        signed
    }
}

/// The token without its name. `key` in bytes, not hex.
#[must_use]
pub fn token(key: &[u8], fields: &Fields<'_>) -> String {
    let escaped = |text: &str| if fields.escape_early { escape(text) } else { text.to_owned() };
    let mut sent: Vec<String> = Vec::new();
    sent.extend(fields.ip.map(|ip| format!("ip={}", escaped(ip))));
    sent.extend(fields.start_s.map(|start| format!("st={start}")));
    sent.push(format!("exp={}", fields.expires_s));
    if let About::Acl(acl) = fields.about {
        sent.push(format!("acl={acl}"));
    }
    sent.extend(fields.session_id.map(|id| format!("id={}", escaped(id))));
    sent.extend(fields.payload.map(|data| format!("data={}", escaped(data))));
    let mut signed = sent.join("~");
    if let About::Url(url) = fields.about {
        signed.push_str(&format!("~url={}", escaped(url)));
    }
    if let Some(salt) = fields.salt {
        signed.push_str(&format!("~salt={salt}"));
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(signed.as_bytes());
    format!("{}~hmac={}", sent.join("~"), hex(&mac.finalize().into_bytes()))
}

/// As the reference does: everything but letters, digits and `-._~` as `%xx` in small letters, a space as `+`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

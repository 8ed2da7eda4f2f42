//! Identifiers: short, printable, safe in URLs, playlists and file names.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;

use crate::limits::ID_MAX_CHARS;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError {
    what: &'static str,
    value: String,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.value.chars().take(ID_MAX_CHARS).collect();
        write!(f, "{} {shown:?} is not 1 to {ID_MAX_CHARS} characters of {}", self.what, charset(self.what))
    }
}

impl core::error::Error for IdError {}

fn charset(what: &str) -> &'static str {
    if what == "content id" { "[A-Za-z0-9._/-]" } else { "[A-Za-z0-9._-], not only dots" }
}

fn check(what: &'static str, value: &str, slash: bool) -> Result<(), IdError> {
    let max = if slash { crate::limits::CONTENT_ID_MAX_CHARS } else { ID_MAX_CHARS };
    let ok = !value.is_empty()
        && value.len() <= max
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-') || (slash && b == b'/'))
        // hls.js gives `.`, `..`, `...` to redundant streams by itself.
        && value.bytes().any(|b| b != b'.');
    if ok { Ok(()) } else { Err(IdError { what, value: value.to_string() }) }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $slash:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes a text.
            ///
            /// # Errors
            /// [`IdError`] names the text and the characters that are valid.
            pub fn new(value: &str) -> Result<Self, IdError> {
                check($what, value, $slash)?;
                Ok(Self(Arc::from(value)))
            }

            /// Whether a text is one; nothing is kept of it.
            #[must_use]
            pub fn holds(value: &str) -> bool {
                check($what, value, $slash).is_ok()
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl core::str::FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::new(value)
            }
        }

        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(/** One way to deliver: a commercial CDN, or one own-edge node (`own-…`). HLS's `PATHWAY-ID`, DASH's `serviceLocation`. */ PathwayId, "pathway id", false);
id!(/** The nodes of one own cluster, which share weight. */ GroupId, "group id", false);
id!(/** A routing region. */ RegionId, "region id", false);
id!(/** A tenant's app. */ PropertyId, "property id", false);
id!(/** One playback attempt; CMCD's `sid` and the session token's session are the same. */ ViewId, "view id", false);
id!(/** What dies or fills together on the origin's side. */ OriginGroupId, "origin group id", false);
id!(/** A class of content that may be decided for on its own (live-sport, UHD-DRM, kids …). */ ContentClass, "content class", false);
id!(/** One process of ours: a collector, a steering node, an orchestrator. */ NodeId, "node id", false);
id!(/** A title or asset; may contain slashes. */ ContentId, "content id", true);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_the_playlist_charset_only() {
        assert!(PathwayId::new("own-fra.1_a").is_ok() && PathwayId::holds("own-fra.1_a"));
        for bad in ["", "a b", "a/b", "ä", "..", "\"x\""] {
            assert!(!PathwayId::holds(bad), "{bad}");
            let error = PathwayId::new(bad).expect_err(bad);
            assert!(error.to_string().contains("[A-Za-z0-9._-]"), "{error}");
        }
        assert!(ContentId::new("live/river").is_ok());
    }

    #[test]
    fn an_id_of_a_megabyte_is_refused_with_a_short_message() {
        let long: String = core::iter::repeat_n('a', 1 << 20).collect();
        assert!(ViewId::new(&long).expect_err("too long").to_string().len() < 200);
    }
}

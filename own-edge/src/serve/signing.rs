//! Signed URLs: who may have what, by a token in front of the path (`docs/signed-urls.md`, kind `own`).

use std::path::PathBuf;

use http::StatusCode;
use metrics::counter;
use serde::Deserialize;
use spillway_service::config::{ConfigError, Secret, secret};
use spillway_wire::signed_url::own::{Keys, Reject};

use crate::serve::receive::Refusal;

/// `[edge.signed_urls]`: with it every URL needs a token but those below `open`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SigningConfig {
    /// The key that steering nodes sign by, 32 bytes or more; this or `key_file`.
    key: Option<Secret>,
    /// A file with the key in it.
    key_file: Option<PathBuf>,
    /// Another key that is believed: the one before a change, or the one to come.
    previous_key: Option<Secret>,
    /// A file with that key in it.
    previous_key_file: Option<PathBuf>,
    /// Beginnings of paths that need no token. Default none.
    #[serde(default)]
    open: Vec<String>,
}

/// Keys, and what is free.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    keys: Keys,
    open: Vec<String>,
}

/// A path that may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened<'a> {
    /// The token's part of the path, with a leading slash; empty without a token.
    pub token: &'a str,
    /// What is behind it.
    pub path: &'a str,
}

impl SigningConfig {
    /// # Errors
    /// [`ConfigError`] names the key's place, never the key.
    pub(crate) fn signing(&self) -> Result<Signing, ConfigError> {
        const KEY: &str = "edge.signed_urls.key";
        const PREVIOUS: &str = "edge.signed_urls.previous_key";
        let current = secret(KEY, self.key.as_ref(), self.key_file.as_ref())?
            .ok_or_else(|| ConfigError::invalid(KEY, "neither", "one of key and key_file"))?;
        let previous = secret(PREVIOUS, self.previous_key.as_ref(), self.previous_key_file.as_ref())?;
        let keys = Keys::new(&current, previous.as_deref())
            .map_err(|error| ConfigError::invalid(KEY, "not shown", error.to_string()))?;
        if let Some(bad) = self.open.iter().find(|prefix| !prefix.starts_with('/')) {
            return Err(ConfigError::invalid("edge.signed_urls.open", bad, "beginnings of paths, with their slash"));
        }
        Ok(Signing { keys, open: self.open.clone() })
    }
}

impl Signing {
    /// What `path` opens at `now_s`, seconds since epoch.
    ///
    /// # Errors
    /// 403 with the reason's word.
    pub(crate) fn open<'a>(&self, path: &'a str, now_s: u64) -> Result<Opened<'a>, Refusal> {
        match self.keys.verify(path, now_s) {
            Ok(opened) => Ok(Opened { token: &path[..path.len() - opened.path.len()], path: opened.path }),
            Err(Reject::Missing) if self.open.iter().any(|prefix| path.starts_with(&**prefix)) => {
                Ok(Opened { token: "", path })
            }
            Err(reject) => {
                counter!("spillway_edge_tokens_refused_total", "reason" => reject.name()).increment(1);
                Err(Refusal { status: StatusCode::FORBIDDEN, word: reject.name() })
            }
        }
    }
}

//! Reading configuration: one TOML file, read before any port opens; unknown keys refused.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Exit status of a process with a bad configuration (`EX_CONFIG` is 78; 64, as linkerd2-proxy has it, is ours).
pub const EXIT_BAD_CONFIGURATION: i32 = 64;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("read configuration {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a wrong type: the message names line, key and what is valid.
    #[error("configuration {path}: {detail}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// The parser's words.
        detail: String,
    },
    /// A value that is readable and wrong.
    #[error("configuration key `{key}`: value {value:?} is not valid (valid: {valid})")]
    Invalid {
        /// Which key.
        key: String,
        /// Its value.
        value: String,
        /// What would be valid.
        valid: String,
    },
}

impl ConfigError {
    /// A value that is readable and wrong.
    pub fn invalid(key: impl Into<String>, value: impl ToString, valid: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), value: value.to_string(), valid: valid.into() }
    }
}

/// A secret text: `Debug` does not tell it.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} characters>", self.0.chars().count())
    }
}

/// The secret that stands in the configuration as `key`, or in the file that `{key}_file` names, without the white space
/// at its end; `None` if neither is given.
///
/// # Errors
/// [`ConfigError`] if both are, or the file can't be read. Never tells the secret.
pub fn secret(key: &str, text: Option<&Secret>, file: Option<&PathBuf>) -> Result<Option<String>, ConfigError> {
    match (text, file) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.0.clone())),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(source) => Err(ConfigError::Read { path: path.clone(), source }),
        },
        (Some(_), Some(_)) => Err(ConfigError::invalid(key, "both", format!("one of {key} and {key}_file"))),
    }
}

/// Reads `path` as a `T`.
///
/// # Errors
/// [`ConfigError`] if the file can't be read or doesn't fit `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(path, &read(path)?)
}

/// The text of `path`.
///
/// # Errors
/// [`ConfigError::Read`].
pub fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// Reads `text`, which came from `path`, as a `T`.
///
/// # Errors
/// [`ConfigError::Parse`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), detail: error.to_string().trim().to_owned() })
}

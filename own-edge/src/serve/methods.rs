//! Which methods are answered.

use http::Method;
use spillway_service::config::ConfigError;

/// Which methods are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Methods {
    /// Every one but CONNECT and TRACE.
    All,
    /// These.
    Only(Vec<Method>),
}

impl Methods {
    pub(crate) fn allow(&self, method: &Method) -> bool {
        match self {
            // Neither belongs through a cache: one makes it a tunnel, the other shows what others may not see.
            _ if matches!(*method, Method::CONNECT | Method::TRACE) => false,
            Self::All => true,
            Self::Only(methods) => methods.contains(method),
        }
    }

    /// For `Allow`.
    pub(crate) fn listed(&self) -> String {
        match self {
            Self::All => "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE".into(),
            Self::Only(methods) => methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", "),
        }
    }
}

/// Reads `methods`.
///
/// # Errors
/// [`ConfigError::Invalid`] names the word that is no method, or must not be one of them.
pub(crate) fn methods(words: &[String]) -> Result<Methods, ConfigError> {
    if words == ["*"] {
        return Ok(Methods::All);
    }
    let bad = |word: &str| ConfigError::invalid("edge.methods", word, "methods but CONNECT and TRACE, or [\"*\"]");
    let one = |word: &String| {
        let method = Method::from_bytes(word.as_bytes()).map_err(|_| bad(word))?;
        if Methods::All.allow(&method) && word != "*" { Ok(method) } else { Err(bad(word)) }
    };
    if !words.iter().any(|word| word == "GET") {
        return Err(ConfigError::invalid("edge.methods", format!("{words:?}"), "a list with GET"));
    }
    words.iter().map(one).collect::<Result<_, _>>().map(Methods::Only)
}

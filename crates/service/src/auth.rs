//! Who may: bearer tokens with roles; only their SHA-256 is kept.

use http::HeaderMap;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// What a token allows; each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Read.
    Viewer,
    /// Overrides, drills, freeze.
    Operator,
    /// Everything.
    Admin,
}

/// One token in the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Who it is, as the audit names them.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the token, hex (`spillway token` makes a pair).
    pub sha256: String,
}

/// A caller that was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name for the audit.
    pub name: String,
    /// What they may.
    pub role: Role,
}

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No or an unknown token: 401.
    #[error("a bearer token of role {0} is needed")]
    Unknown(&'static str),
    /// A token that allows less: 403.
    #[error("the token of {name:?} allows less than role {needed}")]
    Forbidden {
        /// Whose token.
        name: String,
        /// What is needed.
        needed: &'static str,
    },
}

impl Role {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// SHA-256 of `token`, hex.
#[must_use]
pub fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bearer token of a request.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ").map(str::trim)
}

/// Whether the request carries the secret that roles share. Hashes are compared, so time tells nothing of it.
#[must_use]
pub fn is_service(headers: &HeaderMap, service_token: &str) -> bool {
    bearer(headers).is_some_and(|given| token_hash(given) == token_hash(service_token))
}

/// Checks that the caller may do what `needed` may. Hashes are compared, so timing tells nothing of a token.
///
/// # Errors
/// [`AuthError`] for an unknown token or too small a role.
pub fn authorize(headers: &HeaderMap, tokens: &[TokenConfig], needed: Role) -> Result<Caller, AuthError> {
    let hash = token_hash(bearer(headers).ok_or(AuthError::Unknown(needed.as_str()))?);
    let token = tokens
        .iter()
        .find(|token| token.sha256.eq_ignore_ascii_case(&hash))
        .ok_or(AuthError::Unknown(needed.as_str()))?;
    if token.role < needed {
        return Err(AuthError::Forbidden { name: token.name.clone(), needed: needed.as_str() });
    }
    Ok(Caller { name: token.name.clone(), role: token.role })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(token: &str) -> HeaderMap {
        let value = format!("Bearer {token}").parse().expect("a header value");
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
    }

    #[test]
    fn a_role_includes_the_ones_before_and_no_more() {
        let tokens = [TokenConfig { name: "kiosk".into(), role: Role::Operator, sha256: token_hash("right") }];
        assert_eq!(authorize(&with("right"), &tokens, Role::Viewer).map(|caller| caller.name), Ok("kiosk".into()));
        assert!(authorize(&with("right"), &tokens, Role::Operator).is_ok());
        let forbidden = AuthError::Forbidden { name: "kiosk".into(), needed: "admin" };
        assert_eq!(authorize(&with("right"), &tokens, Role::Admin), Err(forbidden));
        assert_eq!(authorize(&with("wrong"), &tokens, Role::Viewer), Err(AuthError::Unknown("viewer")));
        assert_eq!(authorize(&HeaderMap::new(), &tokens, Role::Viewer), Err(AuthError::Unknown("viewer")));
    }

    #[test]
    fn the_service_token_is_compared_whole() {
        assert!(is_service(&with("secret"), "secret"));
        for wrong in ["secre", "secrets", "SECRET", ""] {
            assert!(!is_service(&with(wrong), "secret"), "{wrong:?}");
        }
    }
}

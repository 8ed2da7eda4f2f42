//! What edges of one operator tell each other: that a request comes from an edge (the service token in a header of its
//! own), and which edges it came through (`Via`).
//!
//! A request of an edge needs no signed URL, since the edge that took it from its client has checked that; it is no
//! session, no viewer and no delivery, and is not refused when the node is full: the edge that asks has admitted it.

use http::header::VIA;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use spillway_service::auth::token_hash;

use crate::serve::receive::Refusal;

/// Bears the service token. Not `Authorization`, which would make the answer personal.
pub(crate) const EDGE_TOKEN: HeaderName = HeaderName::from_static("spillway-edge-token");

/// What edges of one operator know each other by.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeToken {
    value: Option<HeaderValue>,
    /// Hashes are compared, so that time tells nothing of it.
    hash: String,
}

impl EdgeToken {
    /// The service token; an empty one opens nothing.
    pub(crate) fn new(service_token: &str) -> Self {
        let mut value = HeaderValue::from_str(service_token).ok().filter(|value| !value.is_empty());
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        Self { value, hash: token_hash(service_token) }
    }

    /// Says that a request comes from an edge.
    pub(super) fn sign(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.value {
            headers.insert(EDGE_TOKEN, value.clone());
        }
    }

    /// Whether a request comes from an edge.
    ///
    /// # Errors
    /// 421 where it says so with another token: the edge that asked goes elsewhere then, and its log says why.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<bool, Refusal> {
        let mut given = headers.get_all(EDGE_TOKEN).iter();
        let Some(token) = given.next() else { return Ok(false) };
        let same = self.value.is_some() && token.to_str().is_ok_and(|token| token_hash(token) == self.hash);
        if same && given.next().is_none() {
            return Ok(true);
        }
        Err(Refusal { status: StatusCode::MISDIRECTED_REQUEST, word: "edge-token" })
    }
}

/// Whether a request came through an edge whose name `is` one.
pub(crate) fn came_through(headers: &HeaderMap, is: impl Fn(&str) -> bool) -> bool {
    let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|hop| hop.split_whitespace().nth(1).is_some_and(&is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    #[test]
    fn an_edge_is_known_by_the_whole_token_and_by_nothing_else() {
        let token = EdgeToken::new("secret");
        let mut signed = HeaderMap::new();
        token.sign(&mut signed);
        assert_eq!(token.check(&signed), Ok(true));
        assert!(!format!("{token:?} {signed:?}").contains("secret"));
        assert_eq!(token.check(&HeaderMap::new()), Ok(false));
        for wrong in [&[""][..], &["secre"], &["secrets"], &["secret", "secret"]] {
            let lines: Vec<_> = wrong.iter().map(|value| ("spillway-edge-token", *value)).collect();
            let refusal = token.check(&map(&lines)).expect_err("wrong");
            assert_eq!(refusal.status, StatusCode::MISDIRECTED_REQUEST, "{wrong:?}");
        }
        let none = EdgeToken::new("");
        assert!(none.check(&map(&[("spillway-edge-token", "")])).is_err(), "no token is nobody's");
    }

    #[test]
    fn via_names_whom_a_request_came_through() {
        let headers = map(&[("via", "1.1 a, 2 own-b (x)"), ("via", "HTTP/1.1 own-c")]);
        for (name, through) in [("a", true), ("own-b", true), ("own-c", true), ("own", false), ("(x)", false)] {
            assert_eq!(came_through(&headers, |hop| hop == name), through, "{name}");
        }
    }
}

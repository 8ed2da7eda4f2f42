//! Steering answer (HLS and DASH): the only shape that players see of us.
//!
//! Rules that every answer keeps, each a measured way to break a player: `VERSION` 1, an integer `TTL` of 2 to 300,
//! `RELOAD-URI` absolute, `PATHWAY-PRIORITY` non-empty and without duplicates, no empty arrays.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use spillway_model::PathwayId;
use spillway_model::limits::{TTL_MAX_S, TTL_MIN_S};

/// Media type of an answer.
pub const STEERING_MEDIA_TYPE: &str = "application/vnd.apple.steering-list";

/// An answer's JSON without its texts is shorter.
const FRAME_BYTES: usize = 80;

/// A steering answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteeringAnswer<'a> {
    /// 1.
    #[serde(rename = "VERSION")]
    pub version: u32,
    /// Seconds until the next poll.
    #[serde(rename = "TTL")]
    pub ttl_s: u32,
    /// Absolute URL of the next poll.
    #[serde(rename = "RELOAD-URI", default, skip_serializing_if = "Option::is_none")]
    pub reload_uri: Option<Cow<'a, str>>,
    /// Pathways, best first, worst last.
    #[serde(rename = "PATHWAY-PRIORITY")]
    pub priority: Vec<Cow<'a, str>>,
}

/// Why an answer may not leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// Nothing to name.
    #[error("an answer needs at least one pathway")]
    NoPathway,
    /// Relative reload URI.
    #[error("reload URI {0:?} is not absolute (http:// or https://)")]
    RelativeReloadUri(String),
}

impl<'a> SteeringAnswer<'a> {
    /// Builds an answer within the rules: the TTL is brought into 2 to 300 s, duplicates are dropped.
    ///
    /// # Errors
    /// [`BadAnswer`] for an empty list or a relative `reload_uri`.
    pub fn new(ttl_s: u32, reload_uri: Option<Cow<'a, str>>, order: &'a [PathwayId]) -> Result<Self, BadAnswer> {
        let mut priority: Vec<Cow<'a, str>> = Vec::with_capacity(order.len());
        for id in order {
            if !priority.iter().any(|known| *known == id.as_str()) {
                priority.push(id.as_str().into());
            }
        }
        if priority.is_empty() {
            return Err(BadAnswer::NoPathway);
        }
        if let Some(uri) = &reload_uri
            && !(uri.starts_with("http://") || uri.starts_with("https://"))
        {
            return Err(BadAnswer::RelativeReloadUri(uri.to_string()));
        }
        Ok(Self { version: 1, ttl_s: ttl_s.clamp(TTL_MIN_S, TTL_MAX_S), reload_uri, priority })
    }

    /// The answer as JSON: byte for byte what serde makes of it, for a third of the work.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let names = self.priority.iter().map(|id| id.len() + 3).sum::<usize>();
        let uri = self.reload_uri.as_ref().map_or(0, |uri| uri.len());
        let mut out = String::with_capacity(names + uri + FRAME_BYTES);
        let _ = write!(out, r#"{{"VERSION":{},"TTL":{}"#, self.version, self.ttl_s);
        if let Some(uri) = &self.reload_uri {
            out.push_str(r#","RELOAD-URI":"#);
            push_json(&mut out, uri);
        }
        out.push_str(r#","PATHWAY-PRIORITY":["#);
        for (index, id) in self.priority.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            push_json(&mut out, id);
        }
        out.push_str("]}");
        out.into_bytes()
    }
}

/// Appends `text` as a JSON string. One without anything to escape, as URLs and ids are, is copied.
pub fn push_json(out: &mut String, text: &str) {
    let escaped = |byte: u8| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    // Without an early end, so that a processor looks at many bytes at once.
    if text.bytes().fold(0, |any, byte| any | escaped(byte)) == 0 {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_what_serde_makes_of_it() {
        let texts = ["", "cdn-a", "https://x.example/?t=a~b&at=c", "\"", "a\\b", "\u{1f}\n", "ä\u{7f}\u{2028}", "x\0y"];
        for uri in texts.map(|text| Some(text.into())).into_iter().chain([None]) {
            for count in 0..=texts.len() {
                let priority = texts[..count].iter().map(|text| Cow::Borrowed(*text)).collect();
                let answer = SteeringAnswer { version: 1, ttl_s: 300, reload_uri: uri.clone(), priority };
                assert_eq!(answer.to_json(), serde_json::to_vec(&answer).expect("texts and numbers"));
            }
        }
    }
}

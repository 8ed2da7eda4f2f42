//! What players put into the query of a steering request, in all the forms that they were seen to use.

use std::borrow::Cow;

use spillway_model::{PathwayId, Protocol};

/// More than any player sends; the rest is dropped.
const PAIRS_MAX: usize = 32;
/// Polls of known players have no more.
const PAIRS_USUAL: usize = 8;
/// Pathways of one report: more than a playlist has; the rest is dropped.
const REPORTED_MAX: usize = 16;

/// Asks for every answer of the session to be reported; handed on from the playlist's URL to those of its polls.
pub(crate) const DEBUG: &str = "debug";
/// As it is handed on.
pub(crate) const DEBUG_ARGUMENT: &str = "&debug=1";

/// A decoded query; names may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'q>(Vec<(Cow<'q, str>, Cow<'q, str>)>);

impl<'q> Query<'q> {
    pub(crate) fn parse(raw: Option<&'q str>) -> Self {
        let pair = |pair: &'q str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        };
        let mut pairs = Vec::with_capacity(PAIRS_USUAL);
        pairs.extend(raw.unwrap_or_default().split('&').filter(|text| !text.is_empty()).take(PAIRS_MAX).map(pair));
        Self(pairs)
    }

    /// The first non-empty value: what we wrote stands before what a player appends.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| &**value)
    }

    /// The last non-empty value: players that append without replacing say the newest last.
    fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| &**value)
    }
}

/// What a player says of itself in a poll: pathways used since the last one (HLS: the current one), with throughput in
/// bit/s where it is known. Never trusted for the order.
///
/// Reads `_HLS_pathway`, `_HLS_throughput` or `_DASH_pathway`, `_DASH_throughput`: quoted or not, single or list,
/// integer or float, doubled or missing.
pub(crate) fn reported<'q>(query: &'q Query<'_>, protocol: Protocol) -> impl Iterator<Item = (&'q str, Option<u64>)> {
    let (pathway, throughput) = match protocol {
        Protocol::Dash => ("_DASH_pathway", "_DASH_throughput"),
        _ => ("_HLS_pathway", "_HLS_throughput"),
    };
    let list = |name| query.last(name).unwrap_or_default().trim().trim_matches('"').split(',');
    let mut speeds = list(throughput).map(|text| bits_per_second(text.trim().trim_matches('"')));
    let plain = |name: &'q str| name.trim().trim_matches('"');
    let named = list(pathway).take(REPORTED_MAX).map(plain).map(|name| PathwayId::holds(name).then_some(name));
    named.filter_map(move |name| {
        let speed = speeds.next().flatten();
        name.map(|name| (name, speed))
    })
}

fn bits_per_second(text: &str) -> Option<u64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() && value > 0.0).then_some(value as u64)
}

/// Decodes `%xx` and `+`; a broken escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> Cow<'_, str> {
    // Hardly any text has one. Without an early end a processor looks at many bytes at once.
    if text.bytes().fold(0, |any, byte| any | u8::from(byte == b'%') | u8::from(byte == b'+')) == 0 {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let escape = escape.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(query: &str, protocol: Protocol) -> Vec<(String, Option<u64>)> {
        let query = Query::parse(Some(query));
        reported(&query, protocol).map(|(id, speed)| (id.to_string(), speed)).collect()
    }

    #[test]
    fn every_form_that_players_send_is_understood() {
        let one = |name: &str, speed| vec![(name.to_owned(), speed)];
        // hls.js, Shaka, media3
        assert_eq!(seen("_HLS_pathway=cdn-a&_HLS_throughput=500000", Protocol::Hls), one("cdn-a", Some(500_000)));
        // the specification, Electra
        assert_eq!(seen("_HLS_pathway=%22cdn-a%22", Protocol::Hls), one("cdn-a", None));
        // VHS
        assert_eq!(seen("_HLS_pathway=cdn-a&_HLS_throughput=4194304.5", Protocol::Hls), one("cdn-a", Some(4_194_304)));
        // media3 appends without replacing
        let doubled = "_HLS_pathway=cdn-a&_HLS_throughput=1&_HLS_pathway=cdn-b&_HLS_throughput=2";
        assert_eq!(seen(doubled, Protocol::Hls), one("cdn-b", Some(2)));
        // dash.js
        let dash = "_DASH_pathway=%22A%2CB%22&_DASH_throughput=90619000%2C";
        assert_eq!(seen(dash, Protocol::Dash), [("A".into(), Some(90_619_000)), ("B".into(), None)]);
        let late = "_DASH_pathway=%22A%2CB%22&_DASH_throughput=%2C86860000";
        assert_eq!(seen(late, Protocol::Dash), [("A".into(), None), ("B".into(), Some(86_860_000))]);
        for nothing in ["", "_HLS_pathway=", "_HLS_pathway=%22%22&_HLS_throughput=", "_HLS_pathway=a%20b", "&&=&%"] {
            assert_eq!(seen(nothing, Protocol::Hls), []);
        }
        for speed in ["NaN", "-5", "inf", "x"] {
            assert_eq!(seen(&format!("_HLS_pathway=a&_HLS_throughput={speed}"), Protocol::Hls), one("a", None));
        }
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        assert_eq!(percent_decode("a%7Eb%zz%2"), "a~b%zz%2");
        assert_eq!(percent_decode("%é"), "%é");
        assert_eq!(percent_decode("%+f%-1"), "% f%-1");
    }
}

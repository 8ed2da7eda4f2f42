//! What of a record has no column of its own, as text for the map `cmcd` of a row.

use std::collections::BTreeMap;

use spillway_model::ViewId;
use spillway_model::limits::CMCD_VALUE_MAX_BYTES;

use super::event::{OTHER, bitrate, is_media};
use super::text::plain;
use super::{Cmcd, Measure, State, StreamingFormat};
use crate::beacon::Event;

/// Keys that the event's columns don't hold whole.
pub(super) fn rest(record: &Cmcd, event: &Event, view_id: &ViewId, cid_whole: bool) -> Vec<(String, String)> {
    let one =
        |measures: &Option<Vec<Measure>>| measures.as_ref().is_some_and(|all| all.len() == 1 && is_media(&all[0]));
    let held = |key: &str| match key {
        "ts" | "pt" | "dfa" | "ltc" | "rc" | "ttfb" | "ttlb" | "st" | "v" => true,
        "msd" => event.counters.as_ref().is_some_and(|counters| counters.startup_ms.is_some()),
        "sid" => record.sid.as_deref() == Some(view_id.as_str()),
        "cid" => cid_whole,
        "sf" => matches!(record.sf, Some(StreamingFormat::Hls | StreamingFormat::Dash)),
        "e" => !matches!(event.kind.as_str(), OTHER | "mute" | "resize"),
        "sta" => !matches!(record.sta, Some(State::Quit | State::Preloading)),
        "bl" => one(&record.bl_ms),
        "mtp" => one(&record.mtp_kbps),
        "bsa" => record.bsa.as_ref().is_some_and(|all| all.len() == 1 && all[0].object.is_none()),
        "bsda" => record.bsda_ms.as_ref().is_some_and(|all| all.len() == 1 && all[0].object.is_none()),
        "pb" | "br" | "ab" => bitrate(record).is_some_and(|(from, measures)| from == key && measures.len() == 1),
        "ec" => event.error.is_some() && record.ec.as_ref().is_some_and(|codes| codes.len() == 1),
        "bg" => event.visible.is_some(),
        "h" => event.host.is_some(),
        _ => false,
    };
    let typed = record.typed().into_iter().filter(|(key, _)| !held(key)).map(|(key, value)| match key {
        // Paths of our customers' media, tokens cut off.
        "url" => (key.to_owned(), without_query(&plain(&value)).to_owned()),
        "nor" => (key.to_owned(), paths(record)),
        _ => (key.to_owned(), plain(&value)),
    });
    let others = record.others.iter().map(|(key, value)| (key.clone(), plain(value)));
    let mut all: Vec<(String, String)> = typed
        .chain(others)
        .map(|(key, value)| {
            let clean = if value.contains("://") { without_query(&value) } else { &value };
            (key, cut(clean, CMCD_VALUE_MAX_BYTES).to_owned())
        })
        .collect();
    all.sort();
    all
}

impl Cmcd {
    /// Every key with its value as text for people and tables (`br` → `2400`, `bs` → `true`, `ot` → `v`), without the
    /// queries of URLs, which hold tokens.
    #[must_use]
    pub fn pairs(&self) -> BTreeMap<String, String> {
        let typed = self.typed().into_iter().map(|(key, value)| match key {
            "nor" => (key.to_owned(), paths(self)),
            _ => (key.to_owned(), shown(&value)),
        });
        let others = self.others.iter().map(|(key, value)| (key.clone(), shown(value)));
        let clean = |(key, value): (String, String)| {
            let bare = if key == "url" || value.contains("://") { without_query(&value) } else { &value };
            (key, cut(bare, CMCD_VALUE_MAX_BYTES).to_owned())
        };
        typed.chain(others).map(clean).collect()
    }
}

/// A list of one number is that number, as version 1 wrote it.
fn shown(value: &str) -> String {
    let alone = value.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    match value {
        "?1" => "true".to_owned(),
        "?0" => "false".to_owned(),
        _ => match alone.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(number) => number.to_owned(),
            None => plain(value),
        },
    }
}

fn paths(record: &Cmcd) -> String {
    let next = record.nor.iter().flatten().map(|next| without_query(&next.path));
    next.collect::<Vec<_>>().join(" ")
}

pub(super) fn without_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

pub(super) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_show_values_as_people_write_them_and_no_tokens() {
        let text = b"br=2400,bl=(3900;v),bs,ot=v,sid=\"a,\\\"b\\\"\",nor=(\"../b.m4s?t=secret\"),\
                     com.example-u=\"https://x.example/a?t=secret\"";
        let pairs = Cmcd::parse(text).expect("read").pairs();
        let all: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            all,
            [
                ("bl", "(3900;v)"),
                ("br", "2400"),
                ("bs", "true"),
                ("com.example-u", "https://x.example/a"),
                ("nor", "../b.m4s"),
                ("ot", "v"),
                ("sid", "a,\"b\""),
            ]
        );
    }
}

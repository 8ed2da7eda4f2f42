//! What holds beside the states: orders, times of calm, a policy on trial, volumes that will not be used.

use std::collections::BTreeMap;

use spillway_wire::overview::{Note, Overview};

use super::format::{shorten, span};
use super::words::Tag;

/// Notes on the page; the rest is counted.
const NOTES_MAX: usize = 12;
const KIND_MAX_CHARS: usize = 20;
const TEXT_MAX_CHARS: usize = 300;

/// One note.
pub(crate) struct Row {
    /// Tells notes apart when the page is patched.
    pub(crate) key: String,
    pub(crate) tag: Tag,
    pub(crate) region: String,
    pub(crate) text: String,
    /// How long it still holds; empty if it has no end of its own.
    pub(crate) ends: String,
}

/// The notes of `overview` in its order, and how many are not listed.
pub(crate) fn rows(overview: &Overview) -> (Vec<Row>, usize) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let rows = overview.notes.iter().take(NOTES_MAX).map(|note| {
        let nth = seen.entry(&note.kind).or_default();
        *nth += 1;
        Row {
            key: format!("{}-{nth}", note.kind),
            tag: tag(note),
            region: note.region.clone(),
            text: shorten(&note.text, TEXT_MAX_CHARS),
            ends: note.until_ms.map_or_else(String::new, |until| {
                format!("for another {}", span(until.saturating_sub(overview.at_ms)))
            }),
        }
    });
    (rows.collect(), overview.notes.len().saturating_sub(NOTES_MAX))
}

fn tag(note: &Note) -> Tag {
    let (text, class) = match note.kind.as_str() {
        "override" => ("order", "c-plain"),
        "freeze" => ("freeze", "c-warn"),
        "ad_break" => ("ad break", "c-plain"),
        "event" => ("event", "c-plain"),
        "canary" => ("trial", "c-plain"),
        "commit" => ("commit", "c-warn"),
        other => (other, "c-plain"),
    };
    Tag { text: shorten(text, KIND_MAX_CHARS), class }
}

//! Which representations are left out while a bitrate limit is in force.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::playlists::dash::scan::{Scan, Set};
use crate::playlists::dash::xml::value;

/// Spans of representations above `limit` (bit/s), but never the lowest of a set. A set of video that is above it as a
/// whole goes, if another one of its period can do: H.264, or the same codec. Else players that begin with the best set
/// would be kept there.
pub(crate) fn left_out(xml: &str, scan: &Scan, limit: u64) -> Vec<Range<usize>> {
    let fits = |set: &Set| set.representations.iter().any(|one| one.bits_per_second.is_none_or(|bits| bits <= limit));
    let can_do: BTreeSet<(usize, String)> = scan
        .sets
        .iter()
        .filter(|set| !set.is_special && fits(set) && is_video(xml, set))
        .map(|set| (set.period, codec(xml, set)))
        .collect();
    let mut out = Vec::new();
    for set in &scan.sets {
        if !fits(set) && !set.is_special && !scan.has_preselections && is_video(xml, set) && !set.span.is_empty() {
            let other = [codec(xml, set), "avc".to_owned()];
            if other.into_iter().any(|codec| can_do.contains(&(set.period, codec))) {
                out.push(set.span.clone());
                continue;
            }
        }
        let bits = || set.representations.iter().filter_map(|one| one.bits_per_second);
        let limit = if fits(set) { limit } else { bits().min().unwrap_or(limit) };
        let above = set.representations.iter().filter(|one| one.bits_per_second.is_some_and(|bits| bits > limit));
        out.extend(above.map(|one| one.span.clone()));
    }
    out
}

/// What the set says of itself, or else its first representation.
fn said(xml: &str, set: &Set, name: &str) -> String {
    let first = set.representations.first().map(|one| &one.tag);
    value(xml, &set.tag, name).or_else(|| value(xml, first?, name)).unwrap_or_default()
}

fn is_video(xml: &str, set: &Set) -> bool {
    said(xml, set, "contentType") == "video" || said(xml, set, "mimeType").starts_with("video/")
}

fn codec(xml: &str, set: &Set) -> String {
    let codecs = said(xml, set, "codecs");
    let first = codecs.split(['.', ',']).next().unwrap_or_default().trim();
    if matches!(first, "avc1" | "avc3") { "avc".to_owned() } else { first.to_owned() }
}

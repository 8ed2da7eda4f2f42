//! Which items of a playlist are written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::playlists::hls::GROUPS;
use crate::playlists::hls::parse::{Item, Playlist};
use crate::playlists::hls::tags::Tag;
use crate::playlists::space::Place;
use crate::playlists::writer::WriteError;

/// For each item whether it is written: the variants of one pathway of the origin's, those below the limit, and no
/// rendition whose variants are all gone.
pub(crate) fn kept(playlist: &Playlist<'_>, max_bitrate_kbps: Option<u32>) -> Result<Vec<bool>, WriteError> {
    let mut kept = vec![true; playlist.items.len()];
    let home = home(playlist)?;
    for (item, kept) in playlist.items.iter().zip(&mut kept) {
        *kept = item.pathway().is_none_or(|pathway| pathway == home);
    }
    if let Some(kbps) = max_bitrate_kbps {
        leave_out_above(playlist, u64::from(kbps) * 1_000, &mut kept);
    }
    if kept.contains(&false) {
        leave_out_orphans(playlist, &mut kept);
    }
    Ok(kept)
}

/// Where the origin already repeats its variants per pathway, only one of these is multiplied: the one that its steering
/// tag names, or else the first, of those that are on the origin.
fn home<'a>(playlist: &Playlist<'a>) -> Result<&'a str, WriteError> {
    let variants = || playlist.items.iter().filter(|item| matches!(item, Item::Variant { .. }));
    if variants().next().is_none() {
        return Err(WriteError::NoVariant);
    }
    let on_origin =
        |item: &&Item<'_>| matches!(item.variant(), Some((_, uri)) if matches!(uri.place, Place::OnOrigin(_)));
    let mut names = variants().filter(on_origin).filter_map(Item::pathway);
    let first = names.clone().next().ok_or(WriteError::NothingOnOrigin)?;
    let named = playlist.home.filter(|home| names.any(|name| name == *home));
    Ok(named.unwrap_or(first))
}

/// What a player must be able to decode to play a variant.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Needs<'a> {
    codecs: Vec<&'a str>,
    range: &'a str,
    protection: &'a str,
    layout: &'a str,
    is_audio_only: bool,
}

impl<'a> Needs<'a> {
    fn of(tag: &Tag<'a>) -> Self {
        let text = |name| tag.value(name).unwrap_or_default().trim();
        let mut codecs: Vec<&str> = text("CODECS").split(',').map(four_cc).filter(|codec| !codec.is_empty()).collect();
        codecs.sort_unstable();
        codecs.dedup();
        let pictures = ["RESOLUTION", "VIDEO", "FRAME-RATE"].into_iter().any(|name| tag.attribute(name).is_some());
        let is_audio_only = !pictures && !codecs.is_empty() && codecs.iter().all(|codec| AUDIO_CODECS.contains(codec));
        let range = tag.value("VIDEO-RANGE").unwrap_or("SDR").trim();
        Self { codecs, range, protection: text("ALLOWED-CPC"), layout: text("REQ-VIDEO-LAYOUT"), is_audio_only }
    }

    /// Whether every player manages: H.264 and AAC, or nothing said.
    fn is_nothing_special(&self) -> bool {
        self.codecs.iter().all(|codec| matches!(*codec, "avc1" | "avc3" | "mp4a" | "stpp" | "wvtt"))
            && !self.is_audio_only
            && self.range == "SDR"
            && self.protection.is_empty()
            && matches!(self.layout, "" | "CH-MONO")
    }
}

const AUDIO_CODECS: [&str; 14] =
    ["mp4a", "ac-3", "ec-3", "ac-4", "opus", "Opus", "flac", "fLaC", "alac", "dtsc", "dtse", "dtsx", "mhm1", "mha1"];

fn four_cc(codec: &str) -> &str {
    codec.trim().split('.').next().unwrap_or_default()
}

/// Never the last: where every variant that all players can play is above the limit, the lowest of them stays; where no
/// variant is one that all can play, the lowest of each kind. So sound alone, or a codec that few have, is never all
/// that is left. Variants that do not tell their bandwidth stay.
fn leave_out_above(playlist: &Playlist<'_>, limit: u64, kept: &mut [bool]) {
    let bits = |tag: &Tag<'_>| tag.bits_per_second("BANDWIDTH");
    let mut lowest: BTreeMap<Needs<'_>, u64> = BTreeMap::new();
    for (item, _) in playlist.items.iter().zip(&*kept).filter(|(_, kept)| **kept) {
        if let Item::Variant { tag, .. } = item {
            let bits = bits(tag).unwrap_or(0);
            let least = lowest.entry(Needs::of(tag)).or_insert(bits);
            *least = bits.min(*least);
        }
    }
    let for_all = lowest.iter().filter(|(needs, _)| needs.is_nothing_special()).map(|(_, bits)| *bits).min();
    let least = lowest.values().copied().min().unwrap_or(0);
    for (item, kept) in playlist.items.iter().zip(kept).filter(|(_, kept)| **kept) {
        let limit = match item {
            Item::Variant { tag, .. } => {
                let needs = Needs::of(tag);
                match for_all {
                    Some(_) if !needs.is_nothing_special() => limit,
                    Some(least) => limit.max(least),
                    None => limit.max(lowest.get(&needs).copied().unwrap_or(0)),
                }
            }
            // Of little weight, and of no use without a variant beside it.
            Item::IFrames { .. } => limit.max(least),
            _ => continue,
        };
        if let Some((tag, _)) = item.variant() {
            *kept = bits(tag).is_none_or(|bits| bits <= limit);
        }
    }
}

/// Renditions whose variants are all gone; also those of another pathway that no variant names, in a playlist that we
/// wrote ourselves.
fn leave_out_orphans(playlist: &Playlist<'_>, kept: &mut [bool]) {
    let name = |text| playlist.variables.fill_name(text);
    let mut used: BTreeSet<(&str, Cow<'_, str>)> = BTreeSet::new();
    let mut unused: BTreeSet<(&str, Cow<'_, str>)> = BTreeSet::new();
    let (mut homes, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for (item, kept) in playlist.items.iter().zip(&*kept) {
        if let Some((tag, _)) = item.variant() {
            let groups = GROUPS.into_iter().filter_map(|kind| Some((kind, name(tag.string(kind)?))));
            if *kept {
                used.extend(groups)
            } else {
                unused.extend(groups)
            }
            if *kept {
                homes.extend(item.pathway())
            } else {
                gone.extend(item.pathway())
            };
        }
    }
    let is_of_another = |group: &str| {
        group.rsplit_once('/').is_some_and(|(_, pathway)| gone.contains(pathway) && !homes.contains(pathway))
    };
    for (item, kept) in playlist.items.iter().zip(kept) {
        if let Item::Media { tag, .. } = item
            && let Some((kind, group)) = tag.value("TYPE").zip(tag.string("GROUP-ID"))
        {
            let group = (kind, name(group));
            *kept = used.contains(&group) || !(unused.contains(&group) || is_of_another(&group.1));
        }
    }
}

//! Writes steering into a multivariant playlist: each variant once per pathway, rendition groups likewise, absolute
//! URIs, and the steering tag. Lines that are not touched stay byte for byte (endings, BOM, unknown tags, order).

use std::collections::{BTreeMap, BTreeSet};

use spillway_routing::hash_pair;

use crate::playlists::hls_tags::{Line, Tag, lines};
use crate::playlists::space::{Place, Space, has_scheme};
use crate::playlists::writer::{Offer, Steering, WriteError};

const STREAM: &str = "#EXT-X-STREAM-INF:";
const IFRAMES: &str = "#EXT-X-I-FRAME-STREAM-INF:";
const MEDIA: &str = "#EXT-X-MEDIA:";
const STEERING: &str = "#EXT-X-CONTENT-STEERING:";
const DEFINE: &str = "#EXT-X-DEFINE:";
const SESSION: [&str; 2] = ["#EXT-X-SESSION-DATA:", "#EXT-X-SESSION-KEY:"];
/// Attributes of a variant that name a rendition group.
const GROUPS: [&str; 4] = ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"];
/// What a variant without `PATHWAY-ID` belongs to.
const NO_PATHWAY: &str = ".";

enum Item<'a> {
    Plain(Line<'a>),
    /// A tag whose URI must not be relative any more, since the playlist has moved.
    Session(Tag<'a>),
    Media(Tag<'a>),
    IFrames(Tag<'a>),
    Variant {
        tag: Tag<'a>,
        between: Vec<Line<'a>>,
        uri: Line<'a>,
    },
}

/// Writes `steering` into the playlist `body`, which lies in `space`.
///
/// # Errors
/// [`WriteError`] if this is no multivariant playlist, or one that can't be understood.
pub(crate) fn write(body: &[u8], space: &Space, steering: &Steering) -> Result<String, WriteError> {
    let text = std::str::from_utf8(body).map_err(|_| WriteError::NotUtf8)?;
    let playlist = Playlist::parse(text, space)?;
    playlist.check_there_is_something_to_steer()?;
    playlist.render(steering)
}

struct Playlist<'a> {
    space: &'a Space,
    /// `#EXTM3U`, with a BOM if there is one.
    header: Line<'a>,
    /// With the number of the first line, from 1.
    items: Vec<(usize, Item<'a>)>,
    variables: BTreeMap<&'a str, &'a str>,
}

impl<'a> Playlist<'a> {
    fn parse(text: &'a str, space: &'a Space) -> Result<Self, WriteError> {
        let all = lines(text);
        let mut numbered = all.iter().copied().zip(1_usize..);
        let header = numbered.next().map(|(line, _)| line).filter(|line| is_header(line.text));
        let mut out =
            Self { space, header: header.ok_or(WriteError::NotHls)?, items: vec![], variables: BTreeMap::new() };
        let mut home: Option<&'a str> = None;
        while let Some((line, number)) = numbered.next() {
            let tag =
                |prefix| Tag::parse(line, prefix).map_err(|detail| WriteError::BrokenLine { line: number, detail });
            let item = if line.text.starts_with("#EXTINF:") || line.text.starts_with("#EXT-X-TARGETDURATION:") {
                return Err(WriteError::MediaPlaylist);
            } else if line.text.starts_with(STREAM) {
                let tag = tag(STREAM)?;
                let (between, uri) = uri_after(&mut numbered, number)?;
                Item::Variant { tag, between, uri }
            } else if line.text.starts_with(IFRAMES) {
                Item::IFrames(tag(IFRAMES)?)
            } else if line.text.starts_with(MEDIA) {
                Item::Media(tag(MEDIA)?)
            } else if line.text.starts_with(STEERING) {
                // Someone else's: ours takes its place, but it tells which pathway is the playlist's own.
                home = tag(STEERING)?.string("PATHWAY-ID");
                continue;
            } else if let Some(prefix) = SESSION.into_iter().find(|prefix| line.text.starts_with(prefix)) {
                Item::Session(tag(prefix)?)
            } else {
                if line.text.starts_with(DEFINE) {
                    let tag = tag(DEFINE)?;
                    out.variables.extend(tag.string("NAME").zip(tag.string("VALUE")));
                }
                Item::Plain(line)
            };
            out.items.push((number, item));
        }
        out.keep_one_pathway(home);
        Ok(out)
    }

    /// Where the origin already repeats its variants per pathway, only one of these is multiplied.
    fn keep_one_pathway(&mut self, home: Option<&str>) {
        fn pathway<'a>(item: &Item<'a>) -> Option<&'a str> {
            match item {
                Item::Variant { tag, .. } | Item::IFrames(tag) => Some(tag.string("PATHWAY-ID").unwrap_or(NO_PATHWAY)),
                _ => None,
            }
        }
        let variants = || self.items.iter().filter(|(_, item)| matches!(item, Item::Variant { .. }));
        let named: BTreeSet<&str> = variants().filter_map(|(_, item)| pathway(item)).collect();
        if named.len() < 2 {
            return;
        }
        let first = variants().find_map(|(_, item)| pathway(item));
        let home = home.filter(|home| named.contains(home)).or(first).unwrap_or(NO_PATHWAY).to_owned();
        let stays = |item: &Item<'_>| pathway(item).is_none_or(|name| name == home);
        let (mut used, mut unused) = (BTreeSet::new(), BTreeSet::new());
        for (_, item) in &self.items {
            if let Item::Variant { tag, .. } | Item::IFrames(tag) = item {
                let groups = GROUPS.iter().filter_map(|name| tag.string(name));
                if stays(item) {
                    used.extend(groups)
                } else {
                    unused.extend(groups)
                };
            }
        }
        let orphan =
            |tag: &Tag<'_>| tag.string("GROUP-ID").is_some_and(|group| unused.contains(group) && !used.contains(group));
        self.items.retain(|(_, item)| match item {
            Item::Media(tag) => !orphan(tag),
            other => stays(other),
        });
    }

    fn check_there_is_something_to_steer(&self) -> Result<(), WriteError> {
        let mut any = false;
        for (number, item) in &self.items {
            if let Item::Variant { uri, .. } = item {
                any = true;
                let uri = self.substituted(uri.text.trim(), *number)?;
                if matches!(self.space.locate(&uri), Place::OnOrigin(_)) {
                    return Ok(());
                }
            }
        }
        Err(if any { WriteError::NothingOnOrigin } else { WriteError::NoVariant })
    }

    fn render(mut self, steering: &Steering) -> Result<String, WriteError> {
        self.leave_out_above(steering.max_bitrate_kbps);
        let groups: BTreeSet<&str> = self
            .items
            .iter()
            .filter_map(|(_, item)| if let Item::Media(tag) = item { tag.string("GROUP-ID") } else { None })
            .collect();
        let ending = if self.header.ending.is_empty() { "\n" } else { self.header.ending };
        let (first, others) = steering.offers.split_first().ok_or(WriteError::NoVariant)?;
        let mut out = format!("{}{ending}", self.header.text);
        out.push_str(&format!("{STEERING}SERVER-URI=\"{}\",PATHWAY-ID=\"{}\"{ending}", steering.server_uri, first.id));
        let steered = |item: &Item<'_>| matches!(item, Item::Media(_) | Item::IFrames(_) | Item::Variant { .. });
        let last = self.items.iter().rposition(|(_, item)| steered(item));
        for (index, (number, item)) in self.items.iter().enumerate() {
            let copy =
                Edition { playlist: &self, groups: &groups, offer: first, number: *number, ending, with_between: true };
            copy.render(item, &mut out)?;
            if Some(index) != last {
                continue;
            }
            if !out.ends_with('\n') && !others.is_empty() {
                out.push_str(ending);
            }
            for offer in others {
                for (number, item) in self.items.iter().filter(|(_, item)| steered(item)) {
                    Edition { offer, number: *number, with_between: false, ..copy }.render(item, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    /// Never the last: where all are above, the lowest stay.
    fn leave_out_above(&mut self, max_bitrate_kbps: Option<u32>) {
        let Some(limit) = max_bitrate_kbps.map(|kbps| u64::from(kbps) * 1_000) else { return };
        let bandwidth = |tag: &Tag<'_>| tag.value("BANDWIDTH").and_then(|text| text.trim().parse::<u64>().ok());
        let variants = self.items.iter().filter_map(|(_, item)| match item {
            Item::Variant { tag, .. } => Some(bandwidth(tag).unwrap_or(0)),
            _ => None,
        });
        let limit = limit.max(variants.min().unwrap_or(0));
        self.items.retain(|(_, item)| match item {
            Item::Variant { tag, .. } | Item::IFrames(tag) => bandwidth(tag).is_none_or(|bits| bits <= limit),
            _ => true,
        });
    }

    /// `uri` with `{$name}` replaced.
    fn substituted(&self, uri: &str, line: usize) -> Result<String, WriteError> {
        let mut out = String::with_capacity(uri.len());
        let mut rest = uri;
        while let Some((before, after)) = rest.split_once("{$") {
            let Some((name, after)) = after.split_once('}') else { break };
            let unknown = || WriteError::UnknownVariable { line, name: name.chars().take(64).collect() };
            out.push_str(before);
            out.push_str(self.variables.get(name).ok_or_else(unknown)?);
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// One pathway's copy of the steered items.
#[derive(Clone, Copy)]
struct Edition<'p, 'a> {
    playlist: &'p Playlist<'a>,
    groups: &'p BTreeSet<&'a str>,
    offer: &'p Offer,
    number: usize,
    ending: &'p str,
    with_between: bool,
}

impl Edition<'_, '_> {
    fn render(self, item: &Item<'_>, out: &mut String) -> Result<(), WriteError> {
        match item {
            Item::Plain(line) => self.push(line.text, *line, out),
            Item::Session(tag) => {
                let uri = tag.string("URI").filter(|uri| !has_scheme(uri));
                let moved = uri.map(|uri| self.moved(uri)).transpose()?.flatten();
                let set: Vec<_> = moved.into_iter().map(|uri| ("URI", uri)).collect();
                self.push(&tag.with(&set), tag.line(), out);
            }
            Item::Media(tag) => {
                let mut set = Vec::new();
                if let Some(group) = tag.string("GROUP-ID") {
                    set.push(("GROUP-ID", self.group(group)));
                }
                let moved = tag.string("URI").map(|uri| self.moved(uri)).transpose()?.flatten();
                set.extend(moved.map(|uri| ("URI", uri)));
                self.push(&tag.with(&set), tag.line(), out);
            }
            Item::IFrames(tag) => {
                let uri = tag.string("URI").ok_or(WriteError::BrokenLine { line: self.number, detail: "no URI" })?;
                let mut set = self.variant(tag, uri)?;
                set.extend(self.moved(uri)?.map(|uri| ("URI", uri)));
                self.push(&tag.with(&set), tag.line(), out);
            }
            Item::Variant { tag, between, uri } => {
                let named = uri.text.trim();
                self.push(&tag.with(&self.variant(tag, named)?), tag.line(), out);
                for line in between.iter().filter(|_| self.with_between) {
                    self.push(line.text, *line, out);
                }
                let text = match self.moved(named)? {
                    Some(moved) => uri.text.replacen(named, &moved, 1),
                    None => uri.text.to_owned(),
                };
                self.push(&text, *uri, out);
            }
        }
        Ok(())
    }

    /// `text` in the place of `line`, with its ending. A copy always has one.
    fn push(self, text: &str, line: Line<'_>, out: &mut String) {
        out.push_str(text);
        out.push_str(if line.ending.is_empty() && !self.with_between { self.ending } else { line.ending });
    }

    fn variant(self, tag: &Tag<'_>, uri: &str) -> Result<Vec<(&'static str, String)>, WriteError> {
        let mut set = Vec::new();
        for name in GROUPS {
            // NONE and groups that nobody declares stay.
            set.extend(
                tag.string(name).filter(|group| self.groups.contains(group)).map(|group| (name, self.group(group))),
            );
        }
        set.push(("PATHWAY-ID", self.offer.id.to_string()));
        if tag.string("STABLE-VARIANT-ID").is_none() {
            set.push(("STABLE-VARIANT-ID", self.stable_id(uri)?));
        }
        Ok(set)
    }

    /// No pathway id has a slash, so two groups never meet under one name.
    fn group(self, group: &str) -> String {
        format!("{group}/{}", self.offer.id)
    }

    /// `uri` on this pathway; `None` if it stays as it is.
    fn moved(self, uri: &str) -> Result<Option<String>, WriteError> {
        let full = self.playlist.substituted(uri, self.number)?;
        match self.playlist.space.locate(&full) {
            Place::OnOrigin(path) => Ok(Some(format!("{}{path}", self.offer.base_url))),
            Place::Elsewhere => Ok(None),
            Place::OutsideBase => Err(WriteError::OutsideBase(full.chars().take(120).collect())),
        }
    }

    /// The same on every pathway and at every download: the path without its query, or its hash.
    fn stable_id(self, uri: &str) -> Result<String, WriteError> {
        let full = self.playlist.substituted(uri, self.number)?;
        let path = match self.playlist.space.locate(&full) {
            Place::OnOrigin(path) => path,
            _ => full,
        };
        let name = path.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+/=._-".contains(&b);
        if !name.is_empty() && name.bytes().all(plain) {
            Ok(name.to_owned())
        } else {
            Ok(format!("{:08x}", hash_pair(name, "stable-variant")))
        }
    }
}

fn is_header(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_end() == "#EXTM3U"
}

/// The next line that is neither empty nor a comment, and the lines before it.
fn uri_after<'a>(
    lines: &mut impl Iterator<Item = (Line<'a>, usize)>,
    number: usize,
) -> Result<(Vec<Line<'a>>, Line<'a>), WriteError> {
    let broken = WriteError::BrokenLine { line: number, detail: "a variant has no URI" };
    let mut between = Vec::new();
    for (line, _) in lines {
        if line.text.starts_with(STREAM) {
            return Err(broken);
        }
        if !line.text.trim().is_empty() && !line.text.starts_with('#') {
            return Ok((between, line));
        }
        between.push(line);
    }
    Err(broken)
}

//! Writes the kept items: each is cut into pieces once, and the pieces are put together for every pathway.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::playlists::hls::parse::{Item, Playlist, Uri};
use crate::playlists::hls::stable::StableIds;
use crate::playlists::hls::tags::{Attribute, Line, Tag};
use crate::playlists::hls::{GROUPS, STEERING};
use crate::playlists::space::Place;
use crate::playlists::writer::{Offer, Steering, WriteError};

/// A part of a written line.
enum Piece<'a> {
    /// Of the original, or the same on every pathway.
    Text(&'a str),
    /// A line ending of the original; where it has none (the end of the file), a copy gets one.
    Ending(&'a str),
    /// What is said on the first pathway alone: lines between a variant and its URI.
    Once(&'a str),
    /// The pathway's id.
    Id,
    /// This path on the pathway.
    Url(&'a str),
}

/// A new value of an attribute.
enum Value<'a> {
    Text(&'a str),
    Url(&'a str),
    Id,
    /// A group of this name: no pathway id has a slash, so two groups never meet under one name.
    Group(&'a str),
}

/// The pieces of the items that are written.
struct Pieces<'p, 'a> {
    playlist: &'p Playlist<'a>,
    /// Whether pathways are named at all.
    steered: bool,
    /// Groups that renditions declare; `NONE` and others stay as they are.
    groups: BTreeSet<Cow<'p, str>>,
    /// What we appended to the groups of a playlist that we wrote ourselves.
    suffix: Option<String>,
    all: Vec<Piece<'p>>,
    /// Where the pieces of each steered item are, and where the last of them ends.
    copied: Vec<std::ops::Range<usize>>,
    last: usize,
}

/// Writes the `kept` items.
///
/// # Errors
/// [`WriteError`] if a URI has no place on a pathway, or the result would be too large.
pub(crate) fn render(
    playlist: &Playlist<'_>,
    kept: &[bool],
    stable: &StableIds,
    steering: &Steering,
    input_bytes: usize,
) -> Result<String, WriteError> {
    let (first, others) = steering.written()?;
    let mut pieces = Pieces::new(playlist, kept, steering.server_uri.is_some());
    for (index, item) in playlist.items.iter().enumerate().filter(|(index, _)| kept[*index]) {
        let start = pieces.all.len();
        pieces.cut(item, stable.get(index))?;
        if item.is_steered() {
            pieces.last = pieces.all.len();
            pieces.copied.push(start..pieces.last);
        }
    }
    let ending = if playlist.header.ending.is_empty() { "\n" } else { playlist.header.ending };
    let max = steering.output_max_bytes(input_bytes);
    let mut out = Output { text: String::with_capacity(pieces.bytes(first, others).min(max)), ending, max };
    out.text.push_str(playlist.header.text);
    out.text.push_str(ending);
    if let Some(uri) = &steering.server_uri {
        for part in [STEERING, "SERVER-URI=\"", uri, "\",PATHWAY-ID=\"", first.id.as_str(), "\"", ending] {
            out.text.push_str(part);
        }
    }
    let (steered, rest) = pieces.all.split_at(pieces.last);
    out.push(steered, first, true)?;
    if !others.is_empty() && !out.text.ends_with('\n') {
        out.text.push_str(ending);
    }
    for offer in others {
        for range in &pieces.copied {
            out.push(&pieces.all[range.clone()], offer, false)?;
        }
    }
    out.push(rest, first, true)?;
    Ok(out.text)
}

struct Output<'o> {
    text: String,
    ending: &'o str,
    max: usize,
}

impl Output<'_> {
    fn push(&mut self, pieces: &[Piece<'_>], offer: &Offer, is_first: bool) -> Result<(), WriteError> {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text.push_str(text),
                Piece::Ending("") if !is_first => self.text.push_str(self.ending),
                Piece::Ending(ending) => self.text.push_str(ending),
                Piece::Once(text) if is_first => self.text.push_str(text),
                Piece::Once(_) => {}
                Piece::Id => self.text.push_str(offer.id.as_str()),
                Piece::Url(path) => self.text.push_str(&offer.url(path)),
            }
            if self.text.len() > self.max {
                return Err(WriteError::Outgrown(self.max));
            }
        }
        Ok(())
    }
}

impl<'p, 'a> Pieces<'p, 'a> {
    fn new(playlist: &'p Playlist<'a>, kept: &[bool], steered: bool) -> Self {
        let kept = || playlist.items.iter().zip(kept).filter(|(_, kept)| **kept).map(|(item, _)| item);
        let names =
            || kept().filter_map(|item| if let Item::Media { tag, .. } = item { tag.string("GROUP-ID") } else { None });
        let suffix = kept().find_map(Item::pathway).map(|home| format!("/{home}"));
        let ours = suffix.filter(|suffix| names().all(|group| group.ends_with(suffix.as_str())));
        Self {
            playlist,
            steered,
            groups: if steered {
                names().map(|name| playlist.variables.fill_name(name)).collect()
            } else {
                BTreeSet::new()
            },
            suffix: ours,
            all: Vec::with_capacity(24 * playlist.items.len()),
            copied: Vec::with_capacity(playlist.items.len()),
            last: 0,
        }
    }

    /// What will be written, about: a signature makes it more.
    fn bytes(&self, first: &Offer, others: &[Offer]) -> usize {
        let of = |pieces: &[Piece<'_>], offer: &Offer| {
            let bytes = |piece: &Piece<'_>| match piece {
                Piece::Text(text) | Piece::Ending(text) | Piece::Once(text) => text.len(),
                Piece::Id => offer.id.as_str().len(),
                Piece::Url(path) => path.len() + offer.base_url.len(),
            };
            pieces.iter().map(bytes).sum::<usize>()
        };
        let copies = others.iter().map(|offer| of(&self.all[..self.last], offer)).sum::<usize>();
        of(&self.all, first) + copies + 2_048
    }

    fn cut(&mut self, item: &'p Item<'a>, stable: Option<&'p str>) -> Result<(), WriteError> {
        match item {
            Item::Plain(line) => self.line(*line),
            Item::Once { tag, uri } => {
                let mut set = Vec::new();
                set.extend(moved(uri.as_ref())?.map(|path| ("URI", Value::Url(path))));
                self.tag(tag, set);
            }
            Item::Media { tag, uri } => {
                let mut set = Vec::new();
                set.extend(self.group(tag.string("GROUP-ID")).map(|group| ("GROUP-ID", group)));
                set.extend(moved(uri.as_ref())?.map(|path| ("URI", Value::Url(path))));
                set.extend(stable.map(|id| ("STABLE-RENDITION-ID", Value::Text(id))));
                self.tag(tag, set);
            }
            Item::IFrames { tag, uri } => {
                let mut set = self.variant(tag, stable);
                set.extend(moved(Some(uri))?.map(|path| ("URI", Value::Url(path))));
                self.tag(tag, set);
            }
            Item::Variant { tag, between, line, uri } => {
                let set = self.variant(tag, stable);
                self.tag(tag, set);
                self.all.extend(between.iter().flat_map(|line| [Piece::Once(line.text), Piece::Once(line.ending)]));
                let Some(path) = moved(Some(uri))? else {
                    self.line(*line);
                    return Ok(());
                };
                let named = line.text.trim();
                let before = line.text.len() - line.text.trim_start().len();
                let (before, rest) = line.text.split_at(before);
                let parts = [Piece::Text(before), Piece::Url(path), Piece::Text(&rest[named.len()..])];
                self.all.extend(parts);
                self.all.push(Piece::Ending(line.ending));
            }
        }
        Ok(())
    }

    fn variant(&self, tag: &Tag<'a>, stable: Option<&'p str>) -> Vec<(&'static str, Value<'p>)>
    where
        'a: 'p,
    {
        let mut set = Vec::with_capacity(8);
        if self.steered {
            set.extend(GROUPS.into_iter().filter_map(|name| Some((name, self.group(tag.string(name))?))));
            set.push(("PATHWAY-ID", Value::Id));
            set.extend(stable.map(|id| ("STABLE-VARIANT-ID", Value::Text(id))));
        }
        set
    }

    /// The pathway's own group of this name, if it is one that a rendition declares.
    fn group(&self, name: Option<&'p str>) -> Option<Value<'p>> {
        let name = name.filter(|name| self.groups.contains(&self.playlist.variables.fill_name(name)))?;
        let own = self.suffix.as_ref().and_then(|suffix| name.strip_suffix(suffix.as_str()));
        Some(Value::Group(own.unwrap_or(name)))
    }

    fn line(&mut self, line: Line<'p>) {
        self.all.extend([Piece::Text(line.text), Piece::Ending(line.ending)]);
    }

    /// The tag's line with quoted attributes set: existing values are replaced where they stand, the others appended;
    /// every other byte stays.
    fn tag(&mut self, tag: &'p Tag<'a>, set: Vec<(&'static str, Value<'p>)>) {
        let Line { text, ending } = tag.line();
        let place = |name| tag.attribute(name).map(|attribute: &Attribute| (attribute.value.clone(), attribute.quoted));
        let mut set: Vec<_> = set.into_iter().map(|(name, value)| (place(name), name, value)).collect();
        // New ones last, in our order.
        set.sort_by_key(|(place, ..)| place.as_ref().map_or(usize::MAX, |(span, _)| span.start));
        let mut at = 0;
        let mut separator = if text.trim_end().ends_with([',', ':']) { "" } else { "," };
        for (place, name, value) in set {
            match place {
                Some((span, quoted)) => {
                    self.all.push(Piece::Text(&text[at..span.start]));
                    self.value(value, if quoted { "" } else { "\"" });
                    at = span.end;
                }
                None => {
                    self.all.push(Piece::Text(&text[at..]));
                    at = text.len();
                    self.all.extend([Piece::Text(separator), Piece::Text(name), Piece::Text("=")]);
                    self.value(value, "\"");
                    separator = ",";
                }
            }
        }
        self.all.extend([Piece::Text(&text[at..]), Piece::Ending(ending)]);
    }

    fn value(&mut self, value: Value<'p>, quote: &'static str) {
        self.all.push(Piece::Text(quote));
        match value {
            Value::Text(text) => self.all.push(Piece::Text(text)),
            Value::Url(path) => self.all.push(Piece::Url(path)),
            Value::Id => self.all.push(Piece::Id),
            Value::Group(name) => self.all.extend([Piece::Text(name), Piece::Text("/"), Piece::Id]),
        }
        self.all.push(Piece::Text(quote));
    }
}

/// The path of `uri` on every pathway; `None` if it stays as it is.
fn moved<'p>(uri: Option<&'p Uri<'_>>) -> Result<Option<&'p str>, WriteError> {
    match uri.map(|uri| (&uri.place, &*uri.full)) {
        Some((Place::OnOrigin(path), _)) => Ok(Some(path)),
        Some((Place::OutsideBase, full)) => Err(WriteError::outside(full)),
        Some((Place::Elsewhere, _)) | None => Ok(None),
    }
}

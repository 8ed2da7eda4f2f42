//! Writes the kept items: each is cut into pieces once, and the pieces are put together for every pathway.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use crate::playlists::hls::parse::{Item, Playlist, Uri};
use crate::playlists::hls::stable::StableIds;
use crate::playlists::hls::tags::{Attribute, Line, Tag};
use crate::playlists::hls::{GROUPS, STEERING};
use crate::playlists::space::Place;
use crate::playlists::writer::{Offer, Steering, WriteError};

/// A part of what is written.
enum Piece<'a> {
    /// The same on every pathway: so much of [`Pieces::text`].
    Text(Range<usize>),
    /// The end of the file where the original has no line ending; a copy gets one.
    End,
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
    /// What is the same on every pathway.
    text: String,
    /// Where the pieces of each steered item are, and where the last of them ends.
    copied: Vec<Range<usize>>,
    last: usize,
    /// Where the pieces of the item begin that is being cut.
    item: usize,
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
    let mut pieces = Pieces::new(playlist, kept, steering.server_uri.is_some(), input_bytes);
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
    let capacity = pieces.bytes(first, others).min(max);
    let mut out = Output { written: String::with_capacity(capacity), text: &pieces.text, ending, max };
    out.written.push_str(playlist.header.text);
    out.written.push_str(ending);
    if let Some(uri) = &steering.server_uri {
        for part in [STEERING, "SERVER-URI=\"", uri, "\",PATHWAY-ID=\"", first.id.as_str(), "\"", ending] {
            out.written.push_str(part);
        }
    }
    let (steered, rest) = pieces.all.split_at(pieces.last);
    out.push(steered, first, true)?;
    if !others.is_empty() && !out.written.ends_with('\n') {
        out.written.push_str(ending);
    }
    for offer in others {
        for range in &pieces.copied {
            out.push(&pieces.all[range.clone()], offer, false)?;
        }
    }
    out.push(rest, first, true)?;
    Ok(out.written)
}

struct Output<'o> {
    written: String,
    text: &'o str,
    ending: &'o str,
    max: usize,
}

impl Output<'_> {
    fn push(&mut self, pieces: &[Piece<'_>], offer: &Offer, is_first: bool) -> Result<(), WriteError> {
        for piece in pieces {
            match piece {
                Piece::Text(range) => self.written.push_str(&self.text[range.clone()]),
                Piece::End if !is_first => self.written.push_str(self.ending),
                Piece::Once(text) if is_first => self.written.push_str(text),
                Piece::End | Piece::Once(_) => {}
                Piece::Id => self.written.push_str(offer.id.as_str()),
                Piece::Url(path) => self.written.push_str(&offer.url(path)),
            }
        }
        if self.written.len() > self.max {
            return Err(WriteError::Outgrown(self.max));
        }
        Ok(())
    }
}

impl<'p, 'a> Pieces<'p, 'a> {
    fn new(playlist: &'p Playlist<'a>, kept: &[bool], steered: bool, input_bytes: usize) -> Self {
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
            all: Vec::with_capacity(12 * playlist.items.len()),
            text: String::with_capacity(input_bytes + 64 * playlist.items.len()),
            copied: Vec::with_capacity(playlist.items.len()),
            last: 0,
            item: 0,
        }
    }

    /// What will be written, about: a signature makes it more.
    fn bytes(&self, first: &Offer, others: &[Offer]) -> usize {
        let (mut ids, mut urls, mut fixed) = (0, 0, 0);
        for piece in &self.all {
            match piece {
                Piece::Text(range) => fixed += range.len(),
                Piece::Once(text) => fixed += text.len(),
                Piece::End => fixed += 2,
                Piece::Id => ids += 1,
                Piece::Url(path) => {
                    urls += 1;
                    fixed += path.len();
                }
            }
        }
        let of = |offer: &Offer| fixed + ids * offer.id.as_str().len() + urls * offer.base_url.len();
        of(first) + others.iter().map(of).sum::<usize>() + 2_048
    }

    /// More text; the end of the item's own, if that is what came before.
    fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let start = self.text.len();
        self.text.push_str(text);
        let is_of_item = self.all.len() > self.item;
        match self.all.last_mut() {
            Some(Piece::Text(range)) if is_of_item && range.end == start => range.end = self.text.len(),
            _ => self.all.push(Piece::Text(start..self.text.len())),
        }
    }

    fn cut(&mut self, item: &'p Item<'a>, stable: Option<&'p str>) -> Result<(), WriteError> {
        self.item = self.all.len();
        match item {
            Item::Plain(lines) => self.push(lines),
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
                self.push(before);
                self.all.push(Piece::Url(path));
                self.push(&rest[named.len()..]);
                self.end(line.ending);
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
        self.push(line.text);
        self.end(line.ending);
    }

    fn end(&mut self, ending: &str) {
        if ending.is_empty() { self.all.push(Piece::End) } else { self.push(ending) }
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
                    self.push(&text[at..span.start]);
                    self.value(value, if quoted { "" } else { "\"" });
                    at = span.end;
                }
                None => {
                    self.push(&text[at..]);
                    at = text.len();
                    [separator, name, "="].into_iter().for_each(|part| self.push(part));
                    self.value(value, "\"");
                    separator = ",";
                }
            }
        }
        self.push(&text[at..]);
        self.end(ending);
    }

    fn value(&mut self, value: Value<'p>, quote: &'static str) {
        self.push(quote);
        match value {
            Value::Text(text) => self.push(text),
            Value::Url(path) => self.all.push(Piece::Url(path)),
            Value::Id => self.all.push(Piece::Id),
            Value::Group(name) => {
                self.push(name);
                self.push("/");
                self.all.push(Piece::Id);
            }
        }
        self.push(quote);
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

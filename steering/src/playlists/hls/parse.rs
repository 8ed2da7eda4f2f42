//! A multivariant playlist as its items, with the place of every URI.

use std::borrow::Cow;

use crate::playlists::hls::STEERING;
use crate::playlists::hls::tags::{Line, Tag, lines};
use crate::playlists::hls::variables::Variables;
use crate::playlists::space::{Place, Space, has_scheme};
use crate::playlists::writer::WriteError;

const STREAM: &str = "#EXT-X-STREAM-INF:";
const IFRAMES: &str = "#EXT-X-I-FRAME-STREAM-INF:";
const MEDIA: &str = "#EXT-X-MEDIA:";
/// Tags whose URI must not be relative any more, since the playlist has moved. The last one is not in the standard:
/// pictures for the progress bar.
const MOVED: [&str; 3] = ["#EXT-X-SESSION-DATA:", "#EXT-X-SESSION-KEY:", "#EXT-X-IMAGE-STREAM-INF:"];
/// What only media playlists have.
const OF_MEDIA_PLAYLISTS: [&str; 3] = ["#EXTINF:", "#EXT-X-TARGETDURATION:", "#EXT-X-MEDIA-SEQUENCE:"];
/// Variants and renditions of one playlist; a large one has some hundred.
const STEERED_MAX: usize = 10_000;
/// What a variant without `PATHWAY-ID` belongs to.
const NO_PATHWAY: &str = ".";

/// A URI with its variables filled in.
pub(crate) struct Uri<'a> {
    pub(crate) full: Cow<'a, str>,
    pub(crate) place: Place,
}

/// Lines that are steered or not.
pub(crate) enum Item<'a> {
    /// Lines that nothing is done to, with their endings.
    Plain(&'a str),
    /// Said once: session data, keys, pictures.
    Once {
        tag: Tag<'a>,
        uri: Option<Uri<'a>>,
    },
    Media {
        tag: Tag<'a>,
        uri: Option<Uri<'a>>,
    },
    IFrames {
        tag: Tag<'a>,
        uri: Uri<'a>,
    },
    Variant {
        tag: Tag<'a>,
        between: Vec<Line<'a>>,
        line: Line<'a>,
        uri: Uri<'a>,
    },
}

impl<'a> Item<'a> {
    /// What is written once per pathway.
    pub(crate) fn is_steered(&self) -> bool {
        matches!(self, Self::Media { .. } | Self::IFrames { .. } | Self::Variant { .. })
    }

    /// Tag and URI of a variant or I-frame variant.
    pub(crate) fn variant(&self) -> Option<(&Tag<'a>, &Uri<'a>)> {
        match self {
            Self::Variant { tag, uri, .. } | Self::IFrames { tag, uri } => Some((tag, uri)),
            _ => None,
        }
    }

    /// The pathway that the origin says a variant belongs to.
    pub(crate) fn pathway(&self) -> Option<&'a str> {
        self.variant().map(|(tag, _)| tag.string("PATHWAY-ID").unwrap_or(NO_PATHWAY))
    }
}

/// A multivariant playlist.
pub(crate) struct Playlist<'a> {
    /// `#EXTM3U`, with a BOM if there is one.
    pub(crate) header: Line<'a>,
    pub(crate) items: Vec<Item<'a>>,
    pub(crate) variables: Variables<'a>,
    /// The pathway that the origin's own steering tag begins with; that tag is no item, for ours takes its place.
    pub(crate) home: Option<&'a str>,
}

impl<'a> Playlist<'a> {
    /// Reads `text`, which lies in `space`.
    pub(crate) fn parse(text: &'a str, space: &Space) -> Result<Self, WriteError> {
        let mut numbered = lines(text).zip(1_usize..);
        let header = numbered.next().map(|(line, _)| line).filter(|line| is_header(line.text));
        let mut out = Self {
            header: header.ok_or(WriteError::NotHls)?,
            items: vec![],
            variables: Variables::of(text)?,
            home: None,
        };
        let offset = |line: Line<'_>| line.text.as_ptr().addr() - text.as_ptr().addr();
        // Where the lines begin that nothing is done to.
        let mut plain = out.header.text.len() + out.header.ending.len();
        let mut steered = 0;
        while let Some((line, number)) = numbered.next() {
            let reader = Reader { space, variables: &out.variables, line, number };
            let (mut item, mut last) = (None, line);
            match kind(line.text) {
                Kind::Plain => continue,
                Kind::OfMediaPlaylists => return Err(WriteError::MediaPlaylist),
                Kind::Steering => out.home = reader.tag(STEERING)?.string("PATHWAY-ID"),
                Kind::Stream => {
                    let tag = reader.tag(STREAM)?;
                    let (between, line) =
                        uri_after(&mut numbered).ok_or(reader.broken("no URI stands below this variant"))?;
                    let uri = reader.uri(line.text.trim())?;
                    last = line;
                    item = Some(Item::Variant { tag, between, line, uri });
                }
                Kind::IFrames => {
                    let tag = reader.tag(IFRAMES)?;
                    let uri = reader.uri(tag.string("URI").ok_or(reader.broken("an I-frame variant has no URI"))?)?;
                    item = Some(Item::IFrames { tag, uri });
                }
                Kind::Media => {
                    let tag = reader.tag(MEDIA)?;
                    tag.string("GROUP-ID").ok_or(reader.broken("a rendition has no GROUP-ID"))?;
                    let uri = tag.string("URI").map(|uri| reader.uri(uri)).transpose()?;
                    item = Some(Item::Media { tag, uri });
                }
                Kind::Moved(prefix) => {
                    let tag = reader.tag(prefix)?;
                    let uri = tag.string("URI").map(|uri| reader.uri(uri)).transpose()?;
                    // Keys and data that are named absolutely are where they are.
                    let uri = uri.filter(|uri| !has_scheme(&uri.full));
                    item = Some(Item::Once { tag, uri });
                }
            }
            if plain < offset(line) {
                out.items.push(Item::Plain(&text[plain..offset(line)]));
            }
            plain = offset(last) + last.text.len() + last.ending.len();
            steered += usize::from(item.is_some());
            if steered > STEERED_MAX {
                return Err(WriteError::TooManyVariants(STEERED_MAX));
            }
            out.items.extend(item);
        }
        if plain < text.len() {
            out.items.push(Item::Plain(&text[plain..]));
        }
        Ok(out)
    }
}

enum Kind {
    Plain,
    OfMediaPlaylists,
    Steering,
    Stream,
    IFrames,
    Media,
    Moved(&'static str),
}

fn kind(text: &str) -> Kind {
    if !text.starts_with("#EXT") {
        Kind::Plain
    } else if text.starts_with(STREAM) {
        Kind::Stream
    } else if text.starts_with(MEDIA) {
        Kind::Media
    } else if text.starts_with(IFRAMES) {
        Kind::IFrames
    } else if text.starts_with(STEERING) {
        Kind::Steering
    } else if let Some(prefix) = MOVED.into_iter().find(|prefix| text.starts_with(prefix)) {
        Kind::Moved(prefix)
    } else if OF_MEDIA_PLAYLISTS.into_iter().any(|prefix| text.starts_with(prefix)) {
        Kind::OfMediaPlaylists
    } else {
        Kind::Plain
    }
}

/// Reads one line.
struct Reader<'p, 'a> {
    space: &'p Space,
    variables: &'p Variables<'a>,
    line: Line<'a>,
    number: usize,
}

impl<'a> Reader<'_, 'a> {
    fn broken(&self, detail: &'static str) -> WriteError {
        WriteError::BrokenLine { line: self.number, detail }
    }

    fn tag(&self, prefix: &str) -> Result<Tag<'a>, WriteError> {
        Tag::parse(self.line, prefix).map_err(|detail| self.broken(detail))
    }

    fn uri(&self, written: &'a str) -> Result<Uri<'a>, WriteError> {
        let full = self.variables.fill(written, self.number)?;
        let place = self.space.locate(&full);
        Ok(Uri { full, place })
    }
}

fn is_header(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_end() == "#EXTM3U"
}

/// The next line that is neither empty nor a comment, and the lines before it. Nothing that we know stands there.
fn uri_after<'a>(lines: &mut impl Iterator<Item = (Line<'a>, usize)>) -> Option<(Vec<Line<'a>>, Line<'a>)> {
    let mut between = Vec::new();
    for (line, _) in lines {
        if !line.text.trim().is_empty() && !line.text.starts_with('#') {
            return Some((between, line));
        }
        if !matches!(kind(line.text), Kind::Plain) {
            return None;
        }
        between.push(line);
    }
    None
}

//! Writes steering into a multivariant playlist: each variant once per pathway, rendition groups likewise, absolute
//! URIs, and the steering tag. Lines that are not touched stay byte for byte (endings, BOM, unknown tags, order).
//!
//! [`parse`] (lines, with the place of every URI; `tags` and `variables` below it) → [`choose`] (which variants are
//! written: of one pathway of the origin's, below the bitrate limit) → [`stable`] (names that stay) → [`render`].

mod choose;
mod parse;
mod render;
mod stable;
pub(crate) mod tags;
mod variables;

use self::parse::Playlist;
use self::stable::StableIds;
use crate::playlists::space::Space;
use crate::playlists::writer::{Steering, WriteError};

/// Attributes of a variant that name a rendition group, which are the types of a rendition too.
const GROUPS: [&str; 4] = ["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"];
const STEERING: &str = "#EXT-X-CONTENT-STEERING:";

/// Writes `steering` into the playlist `body`, which lies in `space`.
///
/// # Errors
/// [`WriteError`] if this is no multivariant playlist, or one that can't be understood.
pub(crate) fn write(body: &[u8], space: &Space, steering: &Steering) -> Result<String, WriteError> {
    let text = std::str::from_utf8(body).map_err(|_| WriteError::NotUtf8)?;
    let playlist = Playlist::parse(text, space)?;
    let kept = choose::kept(&playlist, steering.max_bitrate_kbps)?;
    // Of all variants: what is left out today must not rename the others.
    let stable = if steering.server_uri.is_some() { StableIds::of(&playlist) } else { StableIds::default() };
    render::render(&playlist, &kept, &stable, steering, text.len())
}

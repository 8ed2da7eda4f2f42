//! `EXT-X-DEFINE`: variables of a playlist.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use spillway_model::limits::PLAYLIST_MAX_BYTES;

use crate::playlists::hls::tags::{Tag, lines};
use crate::playlists::writer::{URI_MAX_BYTES, WriteError};

const DEFINE: &str = "#EXT-X-DEFINE:";
const BEGIN: &str = "{$";

/// The variables that a playlist defines.
#[derive(Debug, Default)]
pub(crate) struct Variables<'a> {
    values: BTreeMap<&'a str, &'a str>,
    /// Values come from the query of the URL that the player asked, which is not known here.
    by_query: BTreeSet<&'a str>,
    /// Bytes of all URIs that were filled in: a few variables could be named in many.
    filled_bytes: Cell<usize>,
}

impl<'a> Variables<'a> {
    pub(crate) fn of(text: &'a str) -> Result<Self, WriteError> {
        let mut out = Self::default();
        if !text.contains(DEFINE) {
            return Ok(out);
        }
        for (line, number) in lines(text).zip(1_usize..).filter(|(line, _)| line.text.starts_with(DEFINE)) {
            let tag = Tag::parse(line, DEFINE).map_err(|detail| WriteError::BrokenLine { line: number, detail })?;
            out.values.extend(tag.string("NAME").zip(tag.string("VALUE")));
            out.by_query.extend(tag.string("QUERYPARAM"));
        }
        Ok(out)
    }

    /// `text` with `{$name}` replaced. A variable of the query stays, for the player to fill in; but where the text
    /// begins with one, nobody knows where it leads.
    pub(crate) fn fill<'t>(&self, text: &'t str, line: usize) -> Result<Cow<'t, str>, WriteError> {
        if text.len() > URI_MAX_BYTES {
            return Err(WriteError::LongUri);
        }
        // Most have none: one byte is found faster than two.
        if !text.contains('{') {
            return Ok(Cow::Borrowed(text));
        }
        let Some(first) = text.find(BEGIN) else { return Ok(Cow::Borrowed(text)) };
        let mut out = text[..first].to_owned();
        let mut rest = &text[first..];
        while let Some((before, after)) = rest.split_once(BEGIN) {
            let Some((name, after)) = after.split_once('}') else { break };
            out.push_str(before);
            match self.values.get(name) {
                Some(value) => out.push_str(value),
                None if self.by_query.contains(name) && !out.is_empty() => {
                    out.push_str(BEGIN);
                    out.push_str(name);
                    out.push('}');
                }
                None => return Err(WriteError::UnknownVariable { line, name: name.chars().take(64).collect() }),
            }
            if out.len() > URI_MAX_BYTES {
                return Err(WriteError::LongUri);
            }
            rest = after;
        }
        out.push_str(rest);
        self.filled_bytes.set(self.filled_bytes.get() + out.len());
        if self.filled_bytes.get() > PLAYLIST_MAX_BYTES {
            return Err(WriteError::Outgrown(PLAYLIST_MAX_BYTES));
        }
        Ok(Cow::Owned(out))
    }

    /// As [`Self::fill`], for names: what can't be filled in stays as it is.
    pub(crate) fn fill_name<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.fill(text, 0).unwrap_or(Cow::Borrowed(text))
    }
}

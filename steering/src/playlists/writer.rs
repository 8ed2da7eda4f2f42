//! What the two playlist writers share.

use spillway_model::PathwayId;
use spillway_model::limits::PLAYLIST_MAX_PATHWAYS;

use crate::signers::Grant;

/// Longest URI of a playlist, variables filled in. Signed ones have a few thousand bytes.
pub(crate) const URI_MAX_BYTES: usize = 16 * 1024;
/// What steering may add beyond a copy of the playlist per pathway: 60 variants on 5 pathways need 0.1 MB of it.
pub(crate) const ADDED_MAX_BYTES: usize = 1024 * 1024;

/// A pathway that a playlist offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) id: PathwayId,
    /// Absolute, without a trailing slash.
    pub(crate) base_url: String,
    /// Signs its URLs, where the pathway wants that.
    pub(crate) grant: Option<Grant>,
}

impl Offer {
    /// A pathway whose URLs nobody signs.
    #[cfg(test)]
    pub(crate) const fn plain(id: PathwayId, base_url: String) -> Self {
        Self { id, base_url, grant: None }
    }

    /// The URL of `path_and_query` on this pathway; the path begins with a slash. Every URL of a playlist is made here.
    pub(crate) fn url(&self, path_and_query: &str) -> String {
        if let Some(grant) = &self.grant {
            return grant.url(path_and_query);
        }
        let mut out = String::with_capacity(self.base_url.len() + path_and_query.len());
        out.push_str(&self.base_url);
        out.push_str(path_and_query);
        out
    }
}

/// What to write into a playlist.
#[derive(Clone, Debug)]
pub(crate) struct Steering {
    /// Absolute URL of the steering answers, with the session's token. `None` for a player that does not follow: it gets
    /// the first offer alone, and no word of steering.
    pub(crate) server_uri: Option<String>,
    /// Best first; at least one.
    pub(crate) offers: Vec<Offer>,
    /// Renditions above it are left out, but never the last one.
    pub(crate) max_bitrate_kbps: Option<u32>,
    /// DASH: where a changing MPD is read again, so that the session stays the same.
    pub(crate) reload_url: Option<String>,
    /// DASH: whether players ask for a steering answer before they start.
    pub(crate) query_before_start: bool,
}

impl Steering {
    /// The offers that are written, best first.
    pub(crate) fn written(&self) -> Result<(&Offer, &[Offer]), WriteError> {
        let (first, others) = self.offers.split_first().ok_or(WriteError::NoPathway)?;
        Ok((first, if self.server_uri.is_some() { others } else { &[] }))
    }

    /// The largest result for an `input` of so many bytes.
    pub(crate) fn output_max_bytes(&self, input: usize) -> usize {
        input * self.offers.len().clamp(1, PLAYLIST_MAX_PATHWAYS) + ADDED_MAX_BYTES
    }
}

/// Why a playlist can't be written. The origin's own then plays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("the playlist is not UTF-8")]
    NotUtf8,
    #[error("the playlist does not begin with #EXTM3U")]
    NotHls,
    #[error("this is a media playlist; a multivariant playlist is expected")]
    MediaPlaylist,
    #[error("the playlist has no variant")]
    NoVariant,
    #[error("no pathway serves this session")]
    NoPathway,
    #[error("no URI of the playlist lies on its origin: there is nothing to steer")]
    NothingOnOrigin,
    #[error("line {line}: {detail}")]
    BrokenLine {
        /// From 1.
        line: usize,
        detail: &'static str,
    },
    #[error("line {line}: variable {name:?} is not defined by NAME and VALUE, or a URI begins with one of QUERYPARAM")]
    UnknownVariable {
        /// From 1.
        line: usize,
        name: String,
    },
    #[error("{0:?} lies on the origin's host, but not below its base URL")]
    OutsideBase(String),
    #[error("a URI is longer than {URI_MAX_BYTES} bytes")]
    LongUri,
    #[error("the playlist has more than {0} variants and renditions")]
    TooManyVariants(usize),
    #[error("with all pathways the playlist would be larger than {0} bytes")]
    Outgrown(usize),
    #[error("the MPD is not well-formed: {0}")]
    BadXml(String),
    #[error("the root element is not MPD")]
    NotMpd,
    #[error("the MPD has a document type definition")]
    Doctype,
    #[error("the MPD is nested deeper than {0} elements")]
    TooDeep(usize),
    #[error("the MPD refers to remote elements by relative URLs (xlink:href, ImportedMPD)")]
    RemoteElement,
}

impl WriteError {
    /// [`WriteError::OutsideBase`] with as much of the URI as a log line bears, without its query: it may be a secret.
    pub(crate) fn outside(uri: &str) -> Self {
        let path = uri.split(['?', '#']).next().unwrap_or_default();
        Self::OutsideBase(path.chars().take(120).collect())
    }

    /// [`WriteError::BadXml`] with as much of the reason as a log line bears: it quotes the MPD.
    pub(crate) fn bad_xml(reason: &impl ToString) -> Self {
        let begin: String = reason.to_string().chars().take(160).collect();
        Self::BadXml(begin.escape_debug().to_string())
    }

    /// Stable name, for counters.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotHls => "not_hls",
            Self::MediaPlaylist => "media_playlist",
            Self::NoVariant => "no_variant",
            Self::NoPathway => "no_pathway",
            Self::NothingOnOrigin => "nothing_on_origin",
            Self::BrokenLine { .. } => "broken_line",
            Self::UnknownVariable { .. } => "unknown_variable",
            Self::OutsideBase(_) => "outside_base",
            Self::LongUri => "long_uri",
            Self::TooManyVariants(_) => "too_many_variants",
            Self::Outgrown(_) => "outgrown",
            Self::BadXml(_) => "bad_xml",
            Self::NotMpd => "not_mpd",
            Self::Doctype => "doctype",
            Self::TooDeep(_) => "too_deep",
            Self::RemoteElement => "remote_element",
        }
    }
}

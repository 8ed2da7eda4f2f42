//! What the two playlist writers share.

use spillway_model::PathwayId;

/// A pathway that a playlist offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) id: PathwayId,
    /// Absolute, without a trailing slash.
    pub(crate) base_url: String,
}

/// What to write into a playlist.
#[derive(Clone, Debug)]
pub(crate) struct Steering {
    /// Absolute URL of the steering answers, with the session's token.
    pub(crate) server_uri: String,
    /// Best first; at least one.
    pub(crate) offers: Vec<Offer>,
    /// Renditions above it are left out, but never the last one.
    pub(crate) max_bitrate_kbps: Option<u32>,
    /// DASH: where a changing MPD is read again, so that the session stays the same.
    pub(crate) reload_url: Option<String>,
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
    #[error("no URI of the playlist lies on its origin: there is nothing to steer")]
    NothingOnOrigin,
    #[error("line {line}: {detail}")]
    BrokenLine {
        /// From 1.
        line: usize,
        detail: &'static str,
    },
    #[error("line {line}: variable {name:?} is not defined by NAME and VALUE")]
    UnknownVariable {
        /// From 1.
        line: usize,
        name: String,
    },
    #[error("{0:?} lies on the origin's host, but not below its base URL")]
    OutsideBase(String),
    #[error("the MPD is not well-formed: {0}")]
    BadXml(String),
    #[error("the root element is not MPD")]
    NotMpd,
    #[error("the MPD has a document type definition")]
    Doctype,
    #[error("the MPD is nested deeper than {0} elements")]
    TooDeep(usize),
    #[error("the MPD refers to remote elements (xlink:href)")]
    RemoteElement,
}

impl WriteError {
    /// Stable name, for counters.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotHls => "not_hls",
            Self::MediaPlaylist => "media_playlist",
            Self::NoVariant => "no_variant",
            Self::NothingOnOrigin => "nothing_on_origin",
            Self::BrokenLine { .. } => "broken_line",
            Self::UnknownVariable { .. } => "unknown_variable",
            Self::OutsideBase(_) => "outside_base",
            Self::BadXml(_) => "bad_xml",
            Self::NotMpd => "not_mpd",
            Self::Doctype => "doctype",
            Self::TooDeep(_) => "too_deep",
            Self::RemoteElement => "remote_element",
        }
    }
}

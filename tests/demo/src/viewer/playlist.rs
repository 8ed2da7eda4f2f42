//! Exactly what a player needs of HLS playlists.

use std::collections::BTreeMap;

use url::Url;

/// Most variants, renditions or segments that are read.
const MAX_ENTRIES: usize = 1_000;

/// Why a playlist can't be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistError {
    /// Not a playlist at all.
    #[error("read the playlist: it does not begin with #EXTM3U")]
    NotAPlaylist,
    /// A tag without something that it needs.
    #[error("read {0}")]
    Tag(String),
    /// Nothing to play in it.
    #[error("find {0} in the playlist")]
    Empty(&'static str),
}

/// One variant stream on one pathway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// `PATHWAY-ID`; `.` if absent, as the specification says.
    pub pathway: String,
    /// `STABLE-VARIANT-ID`, or the URI if absent: what is the same on every pathway.
    pub stable_id: String,
    /// `BANDWIDTH`.
    pub bandwidth_bps: u64,
    /// Media playlist.
    pub url: Url,
    /// Audio media playlist, if audio is apart.
    pub audio_url: Option<Url>,
}

/// `EXT-X-CONTENT-STEERING`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeringTag {
    /// `SERVER-URI`, resolved.
    pub server_uri: Url,
    /// `PATHWAY-ID`.
    pub pathway: Option<String>,
}

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multivariant {
    /// In the playlist's order.
    pub variants: Vec<Variant>,
    /// If the playlist is steered.
    pub steering: Option<SteeringTag>,
}

impl Multivariant {
    /// Reads `text`, which came from `base`.
    ///
    /// # Errors
    /// [`PlaylistError`] if there is nothing to play.
    pub fn parse(text: &str, base: &Url) -> Result<Self, PlaylistError> {
        let mut audio: BTreeMap<String, Url> = BTreeMap::new();
        let mut raw: Vec<(BTreeMap<String, String>, Url)> = Vec::new();
        let mut steering = None;
        let mut pending: Option<BTreeMap<String, String>> = None;
        for line in lines(text)? {
            if let Some(rest) = line.strip_prefix("#EXT-X-MEDIA:") {
                let tag = attributes(rest);
                if tag.get("TYPE").is_some_and(|kind| kind == "AUDIO")
                    && let (Some(group), Some(uri)) = (tag.get("GROUP-ID"), tag.get("URI"))
                {
                    audio.entry(group.clone()).or_insert(resolve(base, uri)?);
                }
            } else if let Some(rest) = line.strip_prefix("#EXT-X-STREAM-INF:") {
                pending = Some(attributes(rest));
            } else if let Some(rest) = line.strip_prefix("#EXT-X-CONTENT-STEERING:") {
                let tag = attributes(rest);
                let uri = tag.get("SERVER-URI").ok_or_else(|| missing("EXT-X-CONTENT-STEERING", "SERVER-URI"))?;
                let pathway = tag.get("PATHWAY-ID").cloned();
                steering = Some(SteeringTag { server_uri: resolve(base, uri)?, pathway });
            } else if !line.starts_with('#')
                && let Some(tag) = pending.take()
                && raw.len() < MAX_ENTRIES
            {
                raw.push((tag, resolve(base, line)?));
            }
        }
        let variants =
            raw.into_iter().map(|(tag, url)| variant(&tag, url, &audio)).collect::<Result<Vec<_>, PlaylistError>>()?;
        if variants.is_empty() {
            return Err(PlaylistError::Empty("a variant"));
        }
        Ok(Self { variants, steering })
    }

    /// Every pathway once, in the playlist's order.
    #[must_use]
    pub fn pathways(&self) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for variant in &self.variants {
            if !out.contains(&variant.pathway) {
                out.push(variant.pathway.clone());
            }
        }
        out
    }

    /// The variants of one pathway by rising bandwidth.
    #[must_use]
    pub fn ladder(&self, pathway: &str) -> Vec<&Variant> {
        let mut ladder: Vec<&Variant> = self.variants.iter().filter(|variant| variant.pathway == pathway).collect();
        ladder.sort_by_key(|variant| variant.bandwidth_bps);
        ladder
    }
}

/// One rendition's window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPlaylist {
    /// `EXT-X-TARGETDURATION`, ms.
    pub target_ms: u64,
    /// Sequence number of the first segment.
    pub first_sequence: u64,
    /// Initialisation segment, if any.
    pub init: Option<Url>,
    /// Segment URLs in order.
    pub segments: Vec<Url>,
}

impl MediaPlaylist {
    /// Reads `text`, which came from `base`.
    ///
    /// # Errors
    /// [`PlaylistError`] if it isn't one or holds no segment.
    pub fn parse(text: &str, base: &Url) -> Result<Self, PlaylistError> {
        let mut out = Self { target_ms: 2_000, first_sequence: 0, init: None, segments: Vec::new() };
        for line in lines(text)? {
            if let Some(rest) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                out.target_ms = number(rest, "EXT-X-TARGETDURATION")? * 1_000;
            } else if let Some(rest) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                out.first_sequence = number(rest, "EXT-X-MEDIA-SEQUENCE")?;
            } else if let Some(rest) = line.strip_prefix("#EXT-X-MAP:") {
                let tag = attributes(rest);
                let uri = tag.get("URI").ok_or_else(|| missing("EXT-X-MAP", "URI"))?;
                out.init = Some(resolve(base, uri)?);
            } else if !line.starts_with('#') && out.segments.len() < MAX_ENTRIES {
                out.segments.push(resolve(base, line)?);
            }
        }
        if out.segments.is_empty() {
            return Err(PlaylistError::Empty("a segment"));
        }
        Ok(out)
    }

    /// One past the newest sequence number.
    #[must_use]
    pub fn end_sequence(&self) -> u64 {
        self.first_sequence + self.segments.len() as u64
    }

    /// The segment of this sequence number, if it is in the window.
    #[must_use]
    pub fn segment(&self, sequence: u64) -> Option<&Url> {
        let index = sequence.checked_sub(self.first_sequence)?;
        self.segments.get(usize::try_from(index).ok()?)
    }
}

fn variant(tag: &BTreeMap<String, String>, url: Url, audio: &BTreeMap<String, Url>) -> Result<Variant, PlaylistError> {
    let bandwidth = tag.get("BANDWIDTH").ok_or_else(|| missing("EXT-X-STREAM-INF", "BANDWIDTH"))?;
    Ok(Variant {
        pathway: tag.get("PATHWAY-ID").cloned().unwrap_or_else(|| ".".to_owned()),
        stable_id: tag.get("STABLE-VARIANT-ID").cloned().unwrap_or_else(|| url.path().to_owned()),
        bandwidth_bps: number(bandwidth, "BANDWIDTH")?,
        audio_url: tag.get("AUDIO").and_then(|group| audio.get(group)).cloned(),
        url,
    })
}

fn lines(text: &str) -> Result<impl Iterator<Item = &str>, PlaylistError> {
    if !text.trim_start_matches('\u{feff}').starts_with("#EXTM3U") {
        return Err(PlaylistError::NotAPlaylist);
    }
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()))
}

fn resolve(base: &Url, uri: &str) -> Result<Url, PlaylistError> {
    base.join(uri).map_err(|error| PlaylistError::Tag(format!("the URI {uri:?}: {error}")))
}

fn missing(tag: &str, attribute: &str) -> PlaylistError {
    PlaylistError::Tag(format!("{tag}: it has no {attribute}"))
}

fn number(text: &str, what: &str) -> Result<u64, PlaylistError> {
    text.trim().parse().map_err(|_| PlaylistError::Tag(format!("{what} {text:?} (valid: a whole number)")))
}

/// `NAME=value,NAME="quoted, value"` as a map; quotes are taken off.
fn attributes(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => match after.find(',') {
                Some(comma) => after.split_at(comma),
                None => (after, ""),
            },
        };
        out.insert(name.trim().to_owned(), value.to_owned());
        rest = next.trim_start_matches([',', ' ']);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Url {
        Url::parse("http://steer.example/v1/playlists/hls/live/river/master.m3u8?sid=v").expect("url")
    }

    #[test]
    fn variants_keep_their_pathway_and_audio_follows_the_group() {
        let text = "#EXTM3U\n\
            #EXT-X-CONTENT-STEERING:SERVER-URI=\"http://s.example/v1/steer/hls?t=a~b,c\",PATHWAY-ID=\"b\"\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio-a\",NAME=\"Tone, low\",URI=\"http://a.example/a48.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=400,CODECS=\"x,y\",AUDIO=\"audio-a\",PATHWAY-ID=\"a\",STABLE-VARIANT-ID=\"v360\"\n\
            http://a.example/v360.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=200,PATHWAY-ID=\"a\"\nlow.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=400,PATHWAY-ID=\"b\",STABLE-VARIANT-ID=\"v360\"\nhttp://b.example/v360.m3u8\n";
        let list = Multivariant::parse(text, &base()).expect("valid");
        assert_eq!(list.pathways(), ["a", "b"]);
        let ladder = list.ladder("a");
        assert_eq!(ladder[0].url.as_str(), "http://steer.example/v1/playlists/hls/live/river/low.m3u8");
        assert_eq!(ladder[1].audio_url.as_ref().map(Url::as_str), Some("http://a.example/a48.m3u8"));
        let steering = list.steering.expect("steered");
        assert_eq!(steering.pathway.as_deref(), Some("b"));
        assert_eq!(steering.server_uri.query(), Some("t=a~b,c"));
    }

    #[test]
    fn a_window_knows_its_segments_by_sequence_number() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:40\n#EXT-X-MAP:URI=\"hls/v/init.mp4\"\n\
            #EXTINF:2.0,\nhls/v/40.m4s\n#EXT-X-DISCONTINUITY\n#EXTINF:2.0,\nhls/v/41.m4s\n";
        let list =
            MediaPlaylist::parse(text, &Url::parse("http://a.example/live/v.m3u8").expect("url")).expect("valid");
        assert_eq!((list.target_ms, list.end_sequence()), (2_000, 42));
        assert_eq!(list.segment(41).map(Url::as_str), Some("http://a.example/live/hls/v/41.m4s"));
        assert_eq!((list.segment(39), list.segment(42)), (None, None));
        assert_eq!(list.init.as_ref().map(Url::path), Some("/live/hls/v/init.mp4"));
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        assert_eq!(Multivariant::parse("<html>", &base()), Err(PlaylistError::NotAPlaylist));
        assert_eq!(Multivariant::parse("#EXTM3U\n", &base()), Err(PlaylistError::Empty("a variant")));
        let error = Multivariant::parse("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=x\na.m3u8\n", &base()).expect_err("bad");
        assert_eq!(error.to_string(), "read BANDWIDTH \"x\" (valid: a whole number)");
    }
}

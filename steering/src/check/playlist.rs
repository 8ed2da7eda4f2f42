//! What comes next: from a playlist to the next one, and from there to a segment. Only as much of HLS and DASH as that
//! needs.

mod dash;

use spillway_model::limits::PLAYLIST_MAX_BYTES;

use crate::playlists::hls::tags::{Line, Tag, lines};

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// HLS with variants.
    Multivariant,
    /// HLS with segments; the target duration.
    Media { live: bool, target_s: u64 },
    /// DASH; how often it is read again where it is live.
    Mpd { live: bool, refresh_s: u64 },
    /// Media, or whatever it is.
    Segment,
}

impl Kind {
    /// In words.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Multivariant => "multivariant playlist",
            Self::Media { live: true, .. } => "live playlist",
            Self::Media { live: false, .. } => "media playlist",
            Self::Mpd { live: true, .. } => "live MPD",
            Self::Mpd { live: false, .. } => "MPD",
            Self::Segment => "segment",
        }
    }

    /// How long a copy of it may be used at most, where it changes, s.
    pub(super) const fn changes_every_s(self) -> Option<u64> {
        match self {
            Self::Media { live: true, target_s } => Some(target_s),
            Self::Mpd { live: true, refresh_s } => Some(refresh_s),
            _ => None,
        }
    }
}

/// A body and the URI that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) next: Option<String>,
}

/// Reads a body; what is no playlist is a segment.
pub(super) fn read(body: &[u8]) -> Read {
    let segment = Read { kind: Kind::Segment, next: None };
    if body.len() > PLAYLIST_MAX_BYTES {
        return segment;
    }
    let Ok(text) = std::str::from_utf8(body) else { return segment };
    let text = text.trim_start_matches('\u{feff}');
    if text.starts_with("#EXTM3U") {
        return hls(text);
    }
    if text.trim_start().starts_with('<') { dash::read(text).unwrap_or(segment) } else { segment }
}

fn hls(text: &str) -> Read {
    let after = |line: &str, tag: &str| line.strip_prefix(tag).map(|rest| rest.trim().to_owned());
    let (mut target_s, mut ends, mut variants, mut uris, mut rendition) = (None, false, false, vec![], None);
    for line in lines(text) {
        let line = line.text.trim();
        match line {
            "" => {}
            "#EXT-X-ENDLIST" => ends = true,
            _ if line.starts_with("#EXT-X-STREAM-INF:") => variants = true,
            _ if line.starts_with("#EXT-X-MEDIA:") => rendition = rendition.or_else(|| attribute(line, "URI")),
            _ if line.starts_with('#') => {
                ends |= line == "#EXT-X-PLAYLIST-TYPE:VOD";
                let seconds = after(line, "#EXT-X-TARGETDURATION:").and_then(|text| text.parse::<f64>().ok());
                let seconds = seconds.map(|seconds| seconds.ceil() as u64);
                target_s = target_s.or(seconds);
            }
            _ => uris.push(line),
        }
    }
    // Variables are the steering node's to fill in; here such a URI leads nowhere.
    uris.retain(|uri| !uri.contains("{$"));
    let (kind, next) = match target_s {
        // The newest of a live playlist is there for longest.
        Some(target_s) if !ends => (Kind::Media { live: true, target_s }, uris.last()),
        Some(target_s) => (Kind::Media { live: false, target_s }, uris.first()),
        None => (Kind::Multivariant, uris.first().filter(|_| variants)),
    };
    Read { kind, next: next.map(|uri| (*uri).to_owned()).or(rendition.filter(|_| kind == Kind::Multivariant)) }
}

fn attribute(line: &str, name: &str) -> Option<String> {
    let prefix = &line[..=line.find(':')?];
    Tag::parse(Line { text: line, ending: "" }, prefix).ok()?.string(name).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Kind, Option<String>) {
        let read = read(text.as_bytes());
        (read.kind, read.next)
    }

    #[test]
    fn a_multivariant_playlist_leads_to_its_first_variant() {
        let text = "\u{feff}#EXTM3U\r\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"a.m3u8\"\r\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=1\r\nv1/i.m3u8?x\r\n#EXT-X-STREAM-INF:BANDWIDTH=2\r\nv2/i.m3u8\r\n";
        assert_eq!(read_text(text), (Kind::Multivariant, Some("v1/i.m3u8?x".into())));
        let audio = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"a.m3u8\"\n";
        assert_eq!(read_text(audio), (Kind::Multivariant, Some("a.m3u8".into())));
        assert_eq!(read_text("#EXTM3U\n"), (Kind::Multivariant, None));
        assert_eq!(read_text("#EXTM3U\n#EXT-X-STREAM-INF:\n{$host}/x\n"), (Kind::Multivariant, None));
    }

    #[test]
    fn a_live_playlist_leads_to_its_newest_segment_and_an_ended_one_to_its_first() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n1.m4s\n#EXTINF:4,\n2.m4s\n";
        assert_eq!(read_text(text), (Kind::Media { live: true, target_s: 4 }, Some("2.m4s".into())));
        let ended = format!("{text}#EXT-X-ENDLIST\n");
        assert_eq!(read_text(&ended), (Kind::Media { live: false, target_s: 4 }, Some("1.m4s".into())));
    }

    #[test]
    fn what_is_no_playlist_is_a_segment() {
        for body in [&b"\xff\x00\x01"[..], b"", b"<html></html>", b"<!DOCTYPE html><html>", b"styp"] {
            assert_eq!(read(body), Read { kind: Kind::Segment, next: None }, "{body:?}");
        }
    }
}

//! HLS playlists, line by line.

use super::{Base, Listing, PARTS_MAX, Playlist, RENDITIONS_MAX, SEGMENTS_MAX, Segment, Segments, TARGET_MAX_MS};
use crate::cache::object::Key;

/// Reads a text that begins with `#EXTM3U`.
pub(super) fn read(text: &str, base: &Base<'_>) -> Option<Playlist> {
    let mut media = Media::default();
    let mut playlists: Vec<Key> = Vec::new();
    let mut variant_follows = false;
    let mut add = |key: Option<Key>| {
        if let Some(key) = key.filter(|key| playlists.len() < RENDITIONS_MAX && !playlists.contains(key)) {
            playlists.push(key);
        }
    };
    let mut is_multivariant = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(tag) = line.strip_prefix("#EXT") {
            if let Some(list) = tag.strip_prefix("-X-MEDIA:") {
                is_multivariant = true;
                add(attribute(list, "URI").and_then(|uri| base.key(uri)));
            } else if tag.starts_with("-X-STREAM-INF:") {
                (is_multivariant, variant_follows) = (true, true);
            } else {
                media.tag(tag, base);
            }
        } else if !line.starts_with('#') {
            if std::mem::take(&mut variant_follows) {
                add(base.key(line));
            } else {
                media.uri(line, base);
            }
        }
    }
    match is_multivariant {
        true => Some(Playlist::Multivariant(playlists)),
        false => media.listing().map(|listing| Playlist::Media(vec![listing])),
    }
}

/// A media playlist as far as it was read.
#[derive(Default)]
struct Media {
    first: u64,
    skipped: usize,
    /// What stands before a segment's URI.
    duration_ms: Option<u64>,
    gap: bool,
    segments: Vec<Option<Segment>>,
    /// What the first segments need; there may be others for later ones.
    first_init: Option<Option<Key>>,
    listing: Listing,
    ended: bool,
}

impl Media {
    /// A tag, without its `#EXT`.
    fn tag(&mut self, tag: &str, base: &Base<'_>) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        match name {
            "INF" => self.duration_ms = Some(milliseconds(value.split(',').next().unwrap_or_default())),
            "-X-TARGETDURATION" => self.listing.target_ms = milliseconds(value).min(TARGET_MAX_MS),
            "-X-MEDIA-SEQUENCE" => self.first = value.trim().parse().unwrap_or(0),
            "-X-ENDLIST" => self.ended = true,
            "-X-GAP" => self.gap = true,
            "-X-SKIP" => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS").and_then(|count| count.parse().ok());
                self.skipped = skipped.unwrap_or(0).min(SEGMENTS_MAX);
            }
            "-X-MAP" => {
                self.listing.init = attribute(value, "URI").and_then(|uri| base.key(uri));
                self.first_init.get_or_insert_with(|| self.listing.init.clone());
            }
            "-X-PART" => {
                let Some(key) = attribute(value, "URI").and_then(|uri| base.key(uri)) else { return };
                let duration_ms = attribute(value, "DURATION").map_or(0, milliseconds);
                if self.listing.parts.len() >= PARTS_MAX {
                    self.listing.parts.remove(0);
                }
                let gap = attribute(value, "GAP") == Some("YES");
                self.listing.parts.push(Segment { key, duration_ms, gap });
            }
            "-X-PRELOAD-HINT" if attribute(value, "TYPE") == Some("PART") => {
                self.listing.hint = attribute(value, "URI").and_then(|uri| base.key(uri));
            }
            _ => {}
        }
    }

    /// A line that is no tag; without a duration before it, it is no segment.
    fn uri(&mut self, uri: &str, base: &Base<'_>) {
        let gap = std::mem::take(&mut self.gap);
        let Some(duration_ms) = self.duration_ms.take() else { return };
        // What is elsewhere has a number, too.
        self.segments.push(base.key(uri).map(|key| Segment { key, duration_ms, gap }));
    }

    fn listing(self) -> Option<Listing> {
        if self.segments.is_empty() && self.listing.parts.is_empty() && self.listing.target_ms == 0 {
            return None;
        }
        // Numbers count what stands in a row; what is elsewhere ends it.
        let from = self.segments.len().saturating_sub(SEGMENTS_MAX);
        let from = self.segments.iter().rposition(Option::is_none).map_or(from, |at| from.max(at + 1));
        let skipped = if from == 0 { self.skipped } else { 0 };
        let first = self.first.saturating_add((self.skipped + from) as u64);
        let list: Vec<Segment> = self.segments.into_iter().skip(from).flatten().collect();
        let init = if self.ended { self.first_init.flatten() } else { self.listing.init };
        Some(Listing { segments: Segments::Listed { first, skipped, list }, init, live: !self.ended, ..self.listing })
    }
}

/// Seconds as milliseconds; what is no length is none.
fn milliseconds(seconds: &str) -> u64 {
    let seconds: f64 = seconds.trim().parse().unwrap_or(0.0);
    // Also what is no number at all.
    (seconds.clamp(0.0, 86_400.0) * 1000.0).round() as u64
}

/// The value of an attribute, without its quotes.
fn attribute<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = list;
    loop {
        let (found, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if found.trim() == name {
            return Some(value.trim());
        }
        rest = next.trim_start_matches([',', ' ']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::paths::PathRules;

    fn read_at(key: &str, text: &str) -> Option<Playlist> {
        let paths = PathRules::new(&[], &["CMCD".to_owned()]).expect("valid");
        super::super::read(text, &Base::new(&Key::from(key), &paths).expect("a path"))
    }

    fn listing(text: &str) -> Listing {
        match read_at("/live/v1/index.m3u8?x=1", text) {
            Some(Playlist::Media(mut listings)) if listings.len() == 1 => listings.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn keys(listing: &Listing) -> Vec<&str> {
        let Segments::Listed { list, .. } = &listing.segments else { panic!("listed") };
        list.iter().map(|segment| &*segment.key).collect()
    }

    #[test]
    fn a_low_latency_playlist_has_segments_parts_and_what_comes_next() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=1.0\n#EXT-X-MEDIA-SEQUENCE:40\r\n\
            #EXT-X-MAP:URI=\"init,0.mp4\"\n#EXTINF:4.0,a title, with a comma\n40.m4s?CMCD=x&q=1\n\
            #EXT-X-PART:DURATION=1.001,INDEPENDENT=YES,URI=\"41.0.m4s\"\n#EXT-X-PART:DURATION=1,URI=\"41.1.m4s\",GAP=YES\n\
            #EXTINF:3.99,\n/live/v1/41.m4s\n#EXT-X-PART:DURATION=1,URI=\"42.0.m4s\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init2.mp4\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"42.1.m4s\"\n";
        let read = listing(text);
        assert_eq!(keys(&read), ["/live/v1/40.m4s?q=1", "/live/v1/41.m4s"]);
        assert!(matches!(read.segments, Segments::Listed { first: 40, skipped: 0, .. }));
        let parts: Vec<_> = read.parts.iter().map(|part| (&*part.key, part.duration_ms, part.gap)).collect();
        assert_eq!(
            parts,
            [
                ("/live/v1/41.0.m4s", 1_001, false),
                ("/live/v1/41.1.m4s", 1_000, true),
                ("/live/v1/42.0.m4s", 1_000, false)
            ]
        );
        assert_eq!(read.hint.as_deref(), Some("/live/v1/42.1.m4s"));
        assert_eq!((read.init.as_deref(), read.target_ms, read.live), (Some("/live/v1/init,0.mp4"), 4_000, true));
    }

    #[test]
    fn a_delta_says_how_many_it_leaves_out_and_a_finished_list_ends() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:10\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n\
            #EXTINF:2,\n13.ts\n#EXT-X-ENDLIST\n";
        let read = listing(text);
        assert!(matches!(read.segments, Segments::Listed { first: 13, skipped: 3, .. }), "{:?}", read.segments);
        assert!(!read.live);
    }

    #[test]
    fn what_is_elsewhere_ends_the_row_and_is_never_named() {
        let text = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:5\n#EXTINF:2,\n5.ts\n#EXTINF:2,\nhttps://ads.example/6.ts\n\
            #EXTINF:2,\n7.ts\n#EXT-X-GAP\n#EXTINF:2,\n8.ts\nstray.ts\n#EXTINF:2,\n../../..%2f/9.ts\n#EXTINF:2,\n10.ts\n";
        let read = listing(text);
        assert_eq!(keys(&read), ["/live/v1/10.ts"]);
        assert!(matches!(read.segments, Segments::Listed { first: 10, .. }));
    }

    #[test]
    fn a_multivariant_playlist_names_each_playlist_once() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x, y\",URI=\"a.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nv1.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\n# a remark\nv2.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=2\nv2.m3u8\n#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI=\"i.m3u8\"\n";
        let Some(Playlist::Multivariant(read)) = read_at("/vod/master.m3u8", text) else { panic!("multivariant") };
        assert_eq!(read.iter().map(|key| &**key).collect::<Vec<_>>(), ["/vod/a.m3u8", "/vod/v1.m3u8", "/vod/v2.m3u8"]);
    }

    #[test]
    fn garbage_is_nothing_and_a_long_list_keeps_its_end() {
        for text in [
            "",
            "#EXTM3U",
            "#EXTM3U\nx\ny",
            "hello",
            "#EXTINF:2,\na.ts",
            "#EXTM3U\n#EXT-X-PART:URI=\"\n#EXT-X-MAP:=,=\"x",
        ] {
            assert_eq!(read_at("/a.m3u8", text), None, "{text:?}");
        }
        let odd = listing(
            "#EXTM3U\n#EXT-X-TARGETDURATION:NaN\n#EXT-X-MEDIA-SEQUENCE:99999999999999999999\n#EXTINF:-7,\n1.ts\n",
        );
        assert_eq!((keys(&odd), odd.target_ms), (vec!["/live/v1/1.ts"], 0));
        let many: String = (0..SEGMENTS_MAX + 5).map(|n| format!("#EXTINF:2,\n{n}.ts\n")).collect();
        let read = listing(&format!("#EXTM3U\n{many}"));
        assert_eq!(keys(&read).first(), Some(&"/live/v1/5.ts"));
        assert!(matches!(read.segments, Segments::Listed { first: 5, .. }));
        let parts: String = (0..PARTS_MAX + 5).map(|n| format!("#EXT-X-PART:DURATION=1,URI=\"{n}.ts\"\n")).collect();
        assert_eq!(listing(&format!("#EXTM3U\n{parts}")).parts.len(), PARTS_MAX);
    }
}

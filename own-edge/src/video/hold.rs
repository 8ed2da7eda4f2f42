//! Requests that an origin holds on purpose, until there is something new (low-latency HLS): playlists with
//! `_HLS_msn`, and the part that a playlist announces as the next one.

use std::time::Duration;

use super::Catalog;

/// An origin answers a blocking reload within so many target durations, if only with a 503 (RFC 8216bis, 6.2.5.2).
const TARGETS: u32 = 3;
/// Target duration of a playlist that was not read yet: what Apple recommends.
const TARGET_USUAL: Duration = Duration::from_secs(6);
/// The query parameter by which a player asks for a playlist that has a segment, or a part of it.
const WAITS_FOR: &str = "_HLS_msn=";

/// How long an origin may hold a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    target: Duration,
}

impl Hold {
    /// Of a request for `url`, if it may be held at all.
    pub(crate) fn of(url: &str, catalog: &Catalog) -> Option<Self> {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let target_ms = match query.split(['&', '\n']).any(|pair| pair.starts_with(WAITS_FOR)) {
            true => catalog.target_ms(url).unwrap_or(0),
            false => catalog.hinted_target_ms(url)?,
        };
        let target = if target_ms > 0 { Duration::from_millis(target_ms) } else { TARGET_USUAL };
        Some(Self { target })
    }

    /// At most so long.
    pub(crate) fn longest(self) -> Duration {
        self.target * TARGETS
    }

    /// Whether who gave up after `waited` has held the request: nothing new came, which is nobody's fault.
    pub(crate) fn was_kept(self, waited: Duration) -> bool {
        waited >= self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::object::Key;
    use crate::rules::paths::PathRules;
    use crate::video::{Base, read};

    #[test]
    fn what_waits_for_something_new_is_held_for_three_targets_and_nothing_else() {
        let catalog = Catalog::new();
        let held_s = |url: &str| Hold::of(url, &catalog).map(|hold| hold.longest().as_secs());
        assert_eq!(held_s("/v.m3u8?_HLS_msn=4"), Some(18), "not read yet");
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n7.ts\n#EXT-X-PART:DURATION=1,URI=\"8.0.ts\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.1.ts\"\n";
        let paths = PathRules::new(&[], &[]).expect("valid");
        let playlist = read(text, &Base::new(&Key::from("/v.m3u8"), &paths).expect("a path")).expect("a playlist");
        catalog.learn("/v.m3u8", playlist);
        for (url, expected) in [
            ("/v.m3u8?_HLS_msn=4&_HLS_part=1", Some(12)),
            ("/v.m3u8?_HLS_msn=4\ngzip", Some(12)),
            ("/other.m3u8?x=1&_HLS_msn=4", Some(18)),
            ("/8.1.ts", Some(12)),
            ("/8.0.ts", None),
            ("/7.ts", None),
            ("/v.m3u8", None),
            ("/v.m3u8?x_HLS_msn=4", None),
            ("/_HLS_msn=4", None),
        ] {
            assert_eq!(held_s(url), expected, "{url}");
        }
        let hold = Hold::of("/8.1.ts", &catalog).expect("announced");
        assert_eq!((hold.was_kept(Duration::from_millis(3_999)), hold.was_kept(Duration::from_secs(4))), (false, true));
    }
}

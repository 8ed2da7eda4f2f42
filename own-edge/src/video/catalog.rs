//! What is known of playlists that were served: bounded in number, replaced by newer versions, found by playlist and by
//! segment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter, Weighter};
use spillway_model::Millis;
use spillway_wire::load::TitleLoad;

use super::rendition::{Rendition, counted_after};
use super::{Listing, Playlist, Segments};
use crate::cache::object::Key;

/// Playlists whose size is expected; sizes tables only.
const PLAYLISTS_USUAL: usize = 4_096;
/// Segments of all known playlists; some 30 MB with their keys.
const LISTED_MAX: u64 = 131_072;
/// Keys by which their place is found.
const PLACES_MAX: usize = 131_072;
/// Media playlists of which it is remembered which title they are of.
const TITLED_MAX: usize = 16_384;
/// Renditions whose requests are counted in one interval; those that come later count for nothing.
const COUNTED_MAX: usize = 16_384;
/// Titles in a report.
const TITLES_REPORTED: usize = 20;
/// Numbers in a URL that are tried as a segment's; from its end.
const NUMBERS_TRIED: usize = 4;

/// What is new must stay for a while, though what is there is asked for all the time.
const HOT_SHARE: f64 = 0.5;
const SHARDS: usize = 16;

fn cache<V: Clone, W: Weighter<Key, V> + Clone>(
    items: usize,
    weight: u64,
    shards: usize,
    weighter: W,
) -> Cache<Key, V, W> {
    let options = OptionsBuilder::new()
        .shards(shards)
        .hot_allocation(HOT_SHARE)
        .estimated_items_capacity(items)
        .weight_capacity(weight)
        .build()
        .expect("both capacities are set");
    Cache::with_options(options, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// What is known.
pub(crate) struct Catalog {
    playlists: Cache<Key, Known, BySegments>,
    places: Cache<Key, Place>,
    /// Multivariant playlist by media playlist.
    titles: Cache<Key, Key>,
    /// Renditions that were asked for since they were counted last.
    asked: Mutex<Vec<Weak<Rendition>>>,
    /// Whether there is anything; spares whoever serves no playlists the look.
    any: AtomicBool,
    any_counted: AtomicBool,
}

/// One playlist.
#[derive(Clone)]
enum Known {
    /// Media playlists.
    Multivariant(Arc<[Key]>),
    /// Renditions.
    Media(Arc<[Arc<Rendition>]>),
}

/// Where a segment stands. Whoever forgets the playlist forgets its places, since nothing is behind them any more.
#[derive(Clone)]
struct Place {
    rendition: Weak<Rendition>,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// The segment of a number.
    Segment(u64),
    /// A part.
    Part,
    /// Those with a number between what stands before and behind it.
    Counted,
}

#[derive(Clone)]
struct BySegments;

impl Weighter<Key, Known> for BySegments {
    fn weight(&self, _: &Key, known: &Known) -> u64 {
        match known {
            Known::Multivariant(keys) => 1 + keys.len() as u64,
            Known::Media(renditions) => renditions.iter().map(|rendition| rendition.listing().len() + 1).sum(),
        }
    }
}

/// What a version of a live playlist brings.
pub(crate) struct News {
    /// Renditions of which something new may have come.
    renditions: Arc<[Arc<Rendition>]>,
    /// What left them long enough ago that nobody will ask for it, and no other playlist has.
    pub left: Vec<Key>,
}

impl News {
    /// What viewers will ask for at once, where some watch: the newest part and the one after it, or the newest segment.
    pub(crate) fn wanted(&self, now: Millis) -> Vec<Key> {
        self.renditions.iter().flat_map(|rendition| rendition.newest(now)).collect()
    }
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self {
            // One shard: the longest playlist must fit into any.
            playlists: cache(PLAYLISTS_USUAL, LISTED_MAX, 1, BySegments),
            places: cache(PLACES_MAX, PLACES_MAX as u64, SHARDS, UnitWeighter),
            titles: cache(TITLED_MAX, TITLED_MAX as u64, 1, UnitWeighter),
            asked: Mutex::default(),
            any: AtomicBool::new(false),
            any_counted: AtomicBool::new(false),
        }
    }

    /// Takes a playlist that was served for `url`.
    pub(crate) fn learn(&self, url: &str, playlist: Playlist) -> Option<News> {
        let id = id(url);
        let listings = match playlist {
            Playlist::Multivariant(keys) => {
                for key in &keys {
                    self.titles.insert(self::id(key), id.clone());
                }
                self.playlists.insert(id, Known::Multivariant(keys.into()));
                return None;
            }
            Playlist::Media(listings) => listings,
        };
        let before = match self.playlists.get(&id) {
            Some(Known::Media(renditions)) if renditions.len() == listings.len() => Some(renditions),
            _ => None,
        };
        let new = || listings.iter().map(|_| Arc::new(Rendition::new(id.clone()))).collect();
        let renditions = before.unwrap_or_else(new);
        let (mut live, mut left) = (false, Vec::new());
        for (rendition, listing) in renditions.iter().zip(listings) {
            live |= listing.live;
            let (listing, gone) = rendition.take(listing);
            self.place(rendition, &listing);
            left.extend(gone.into_iter().filter(|key| self.is_of(key, rendition)));
        }
        self.playlists.insert(id, Known::Media(renditions.clone()));
        self.any.store(true, Ordering::Relaxed);
        live.then_some(News { renditions, left })
    }

    /// Whether no playlist that came later has `key`, too.
    fn is_of(&self, key: &Key, rendition: &Arc<Rendition>) -> bool {
        self.places.get(key).is_some_and(|place| Weak::ptr_eq(&place.rendition, &Arc::downgrade(rendition)))
    }

    fn place(&self, rendition: &Arc<Rendition>, listing: &Listing) {
        let put =
            |key: &Key, kind| self.places.insert(key.clone(), Place { rendition: Arc::downgrade(rendition), kind });
        match &listing.segments {
            Segments::Listed { first, list, .. } => {
                (*first..).zip(list).for_each(|(number, segment)| put(&segment.key, Kind::Segment(number)));
            }
            Segments::Counted(counted) => {
                put(&Key::from(pattern(&counted.prefix, &counted.suffix)), Kind::Counted);
                self.any_counted.store(true, Ordering::Relaxed);
            }
        }
        let parts = listing.parts.iter().map(|part| &part.key);
        parts.chain(&listing.hint).for_each(|key| put(key, Kind::Part));
    }

    /// A viewer asks for `key`: what comes after it, where that is there.
    pub(crate) fn asked(&self, key: &Key, now: Millis, wall_ms: impl FnOnce() -> u64) -> Option<Key> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        match self.places.get(key) {
            Some(place) => {
                let rendition = place.rendition.upgrade()?;
                self.note_asked(&rendition, matches!(place.kind, Kind::Part), now);
                let listing = rendition.listing();
                match place.kind {
                    Kind::Segment(number) => listing.after_segment(key, number),
                    Kind::Part => listing.after_part(key),
                    Kind::Counted => None,
                }
            }
            None if self.any_counted.load(Ordering::Relaxed) => self.counted_next(key, now, wall_ms()),
            None => None,
        }
    }

    fn counted_next(&self, key: &str, now: Millis, wall_ms: u64) -> Option<Key> {
        numbers(key).take(NUMBERS_TRIED).find_map(|(from, to)| {
            let (before, behind) = (&key[..from], &key[to..]);
            let rendition = self.places.get(&*pattern(before, behind))?.rendition.upgrade()?;
            let listing = rendition.listing();
            let Segments::Counted(counted) = &listing.segments else { return None };
            self.note_asked(&rendition, false, now);
            counted_after(counted, before, key, key[from..to].parse().ok()?, wall_ms)
        })
    }

    fn note_asked(&self, rendition: &Arc<Rendition>, part: bool, now: Millis) {
        if rendition.note_asked(part, now) {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.len() < COUNTED_MAX {
                asked.push(Arc::downgrade(rendition));
            } else {
                // Else it would never be the first again.
                rendition.take_asked();
            }
        }
    }

    /// The most watched titles since the last call.
    pub(crate) fn take_titles(&self) -> Vec<TitleLoad> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let mut requests: BTreeMap<Key, u64> = BTreeMap::new();
        for rendition in asked.iter().filter_map(Weak::upgrade) {
            let title = self.titles.get(&rendition.playlist).unwrap_or_else(|| rendition.playlist.clone());
            *requests.entry(title).or_default() += rendition.take_asked();
        }
        let mut titles: Vec<TitleLoad> =
            requests.into_iter().map(|(key, requests)| TitleLoad { playlist: key.to_string(), requests }).collect();
        titles.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.playlist.cmp(&b.playlist)));
        titles.truncate(TITLES_REPORTED);
        titles
    }

    /// The target duration of the playlist that `url` is a version of.
    pub(super) fn target_ms(&self, url: &str) -> Option<u64> {
        match self.playlists.get(&id(url))? {
            Known::Media(renditions) => renditions.first().map(|rendition| rendition.listing().target_ms),
            Known::Multivariant(_) => None,
        }
    }

    /// The target duration of the playlist that announces `url` as its next part.
    pub(super) fn hinted_target_ms(&self, url: &str) -> Option<u64> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let place = self.places.get(url).filter(|place| matches!(place.kind, Kind::Part))?;
        let listing = place.rendition.upgrade()?.listing();
        (listing.hint.as_deref() == Some(url)).then_some(listing.target_ms)
    }

    /// Forgets the playlists that `goes` names.
    pub(crate) fn forget(&self, goes: impl Fn(&Key) -> bool) {
        self.titles.retain(|_, title| !goes(title));
        if self.any.load(Ordering::Relaxed) {
            self.playlists.retain(|key, _| !goes(key));
        }
    }
}

fn pattern(before: &str, behind: &str) -> String {
    format!("{before}\n{behind}")
}

/// The numbers in a text, the last first, as places of begin and end.
fn numbers(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    std::iter::from_fn(move || {
        let to = bytes[..end].iter().rposition(u8::is_ascii_digit)? + 1;
        let from = bytes[..to].iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        end = from;
        Some((from, to))
    })
}

/// What versions of one playlist have in common: its URL without what a player asks for in it.
fn id(url: &str) -> Key {
    let Some((path, query)) = url.split_once('?').filter(|(_, query)| query.contains("_HLS_")) else {
        return Key::from(url);
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("_HLS_")).collect();
    if kept.is_empty() { Key::from(path) } else { Key::from(format!("{path}?{}", kept.join("&"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::paths::PathRules;
    use crate::video::{Base, read};

    fn learn(catalog: &Catalog, url: &str, text: &str) -> Option<News> {
        let paths = PathRules::new(&[], &[]).expect("valid");
        let playlist = read(text, &Base::new(&Key::from(url), &paths).expect("a path")).expect("a playlist");
        catalog.learn(url, playlist)
    }

    fn next(catalog: &Catalog, key: &str) -> Option<String> {
        catalog.asked(&Key::from(key), Millis(1_000_000), || 0).map(|key| key.to_string())
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_segment_knows_its_successor_as_the_newest_playlist_has_it() {
        let catalog = Catalog::new();
        assert_eq!(next(&catalog, "/1.ts"), None);
        let head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE";
        learn(
            &catalog,
            "/v.m3u8",
            &format!("{head}:1\n#EXTINF:2,\n1.ts\n#EXTINF:2,\n2.ts\n#EXT-X-GAP\n#EXTINF:2,\n3.ts\n"),
        );
        assert_eq!(
            (next(&catalog, "/1.ts"), next(&catalog, "/2.ts"), next(&catalog, "/4.ts")),
            (some("/2.ts"), None, None)
        );
        // A delta: 2 and 3 are left out.
        let delta = format!("{head}:2\n#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n#EXTINF:2,\n4.ts\n");
        learn(&catalog, "/v.m3u8?_HLS_msn=4&_HLS_skip=YES", &delta);
        assert_eq!((next(&catalog, "/1.ts"), next(&catalog, "/2.ts")), (None, some("/4.ts")));
        // It began anew with other segments under the old numbers.
        learn(&catalog, "/v.m3u8", &format!("{head}:2\n#EXTINF:2,\nb2.ts\n#EXTINF:2,\nb3.ts\n"));
        assert_eq!((next(&catalog, "/2.ts"), next(&catalog, "/b2.ts")), (None, some("/b3.ts")));
        catalog.forget(|key| &**key == "/v.m3u8");
        assert_eq!(next(&catalog, "/b2.ts"), None);
    }

    #[test]
    fn ranges_of_one_object_have_the_next_object_as_their_successor() {
        let catalog = Catalog::new();
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n#EXT-X-BYTERANGE:9@0\na.ts\n#EXTINF:2,\n\
            #EXT-X-BYTERANGE:9\na.ts\n#EXTINF:2,\nb.ts\n#EXT-X-ENDLIST\n";
        assert!(learn(&catalog, "/v.m3u8", text).is_none(), "nothing new will come");
        assert_eq!(next(&catalog, "/a.ts"), some("/b.ts"));
    }

    #[test]
    fn only_what_is_watched_is_wanted() {
        let catalog = Catalog::new();
        let text = |hint: u32| {
            format!(
                "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7.ts\n\
                 #EXT-X-PART:DURATION=1,URI=\"8.{}.ts\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.{hint}.ts\"\n",
                hint - 1
            )
        };
        let news = learn(&catalog, "/v.m3u8", &text(1)).expect("live");
        assert!(news.wanted(Millis(1_000_000)).is_empty());
        assert_eq!(next(&catalog, "/8.0.ts"), some("/8.1.ts"));
        let news = learn(&catalog, "/v.m3u8?_HLS_msn=8&_HLS_part=1", &text(2)).expect("live");
        let wanted: Vec<_> = news.wanted(Millis(1_000_000)).iter().map(|key| key.to_string()).collect();
        assert_eq!(wanted, ["/8.1.ts", "/8.2.ts"]);
        assert!(news.wanted(Millis(1_012_000)).is_empty(), "12 s later nobody watches");
    }

    #[test]
    fn what_left_the_window_as_long_ago_as_it_is_long_can_go_unless_another_playlist_has_it() {
        let catalog = Catalog::new();
        let window = |first: usize, len: usize| {
            let list: String = (first..first + len).map(|n| format!("#EXTINF:2,\n{n}.ts\n")).collect();
            let part = |n: usize| format!("#EXT-X-PART:DURATION=1,URI=\"{n}.part\"\n");
            let parts: String = (first + len..first + len + 2).map(part).collect();
            format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n{list}{parts}")
        };
        let left = |url: &str, first: usize, len: usize| {
            let left = learn(&catalog, url, &window(first, len)).expect("live").left;
            left.iter().map(|key| key.to_string()).collect::<Vec<_>>()
        };
        for first in 0..10 {
            // Parts go sooner: there are fewer in the list.
            let expected = if first < 7 { vec![] } else { vec![format!("/{}.part", first + 1)] };
            assert_eq!(left("/v.m3u8", first, 8), expected, "{first}");
        }
        // 0 to 9 left, and nine of them stay.
        assert_eq!(left("/v.m3u8", 10, 8), ["/0.ts", "/11.part"]);
        assert_eq!(left("/v.m3u8", 11, 8), ["/1.ts", "/12.part"]);
        // A longer window over the same segments, and a jump.
        left("/dvr.m3u8", 5, 24);
        assert!(left("/v.m3u8", 24, 8).iter().all(|key| key.ends_with("part")));
        assert!(left("/v.m3u8", 1_000, 8).iter().all(|key| key.ends_with("part")));
        // A stream that begins anew.
        for first in (0..40).map(|n| n % 5) {
            assert!(left("/loop.m3u8", first, 8).iter().all(|key| key.ends_with("part")));
        }
    }

    #[test]
    fn counted_segments_go_on_as_far_as_they_are_there() {
        let catalog = Catalog::new();
        let mpd = "<MPD type=\"static\" mediaPresentationDuration=\"PT5S\"><Period><AdaptationSet><SegmentTemplate \
            duration=\"2\" media=\"v1/$RepresentationID$/$Number%02d$.m4s\"/><Representation id=\"a1\"/></AdaptationSet></Period></MPD>";
        learn(&catalog, "/x.mpd", mpd);
        for (key, expected) in [
            ("/v1/a1/01.m4s", some("/v1/a1/02.m4s")),
            ("/v1/a1/02.m4s", some("/v1/a1/03.m4s")),
            ("/v1/a1/03.m4s", None),
            ("/v1/a1/1.m4s", None),
            ("/v1/a2/01.m4s", None),
            ("/v1/a1/99999999999999999999.m4s", None),
        ] {
            assert_eq!(next(&catalog, key), expected, "{key}");
        }
    }

    #[test]
    fn requests_count_for_the_title_that_has_the_playlist() {
        let catalog = Catalog::new();
        learn(
            &catalog,
            "/film/master.m3u8",
            "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nb.m3u8\n",
        );
        let list =
            |name: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{name}1.ts\n#EXTINF:2,\n{name}2.ts\n");
        for name in ["a", "b"] {
            learn(&catalog, &format!("/film/{name}.m3u8?_HLS_msn=1"), &list(name));
        }
        learn(&catalog, "/alone.m3u8", &list("alone"));
        let mpd = "<MPD type=\"static\" mediaPresentationDuration=\"PT5S\"><Period><AdaptationSet><SegmentTemplate \
            duration=\"2\" media=\"$RepresentationID$/$Number$.m4s\"/><Representation id=\"v\"/></AdaptationSet></Period></MPD>";
        learn(&catalog, "/show/x.mpd", mpd);
        for key in
            ["/film/a1.ts", "/film/b1.ts", "/film/b2.ts", "/alone1.ts", "/show/v/1.m4s", "/show/v/2.m4s", "/other.ts"]
        {
            next(&catalog, key);
        }
        let titles = |catalog: &Catalog| -> Vec<(String, u64)> {
            catalog.take_titles().into_iter().map(|title| (title.playlist, title.requests)).collect()
        };
        let expected = [("/film/master.m3u8", 3), ("/show/x.mpd", 2), ("/alone.m3u8", 1)];
        assert_eq!(titles(&catalog), expected.map(|(name, requests)| (name.to_owned(), requests)));
        assert_eq!(titles(&catalog), []);
        next(&catalog, "/alone2.ts");
        assert_eq!(titles(&catalog), [("/alone.m3u8".to_owned(), 1)]);
    }

    #[test]
    fn no_more_than_so_many_renditions_are_counted_and_all_of_them_again_later() {
        let catalog = Catalog::new();
        for n in 0..COUNTED_MAX + 10 {
            learn(&catalog, &format!("/{n}.m3u8"), &format!("#EXTM3U\n#EXTINF:2,\n{n}.ts\n"));
            next(&catalog, &format!("/{n}.ts"));
        }
        assert_eq!(catalog.take_titles().len(), TITLES_REPORTED);
        let last = COUNTED_MAX + 9;
        next(&catalog, &format!("/{last}.ts"));
        assert_eq!(catalog.take_titles(), [TitleLoad { playlist: format!("/{last}.m3u8"), requests: 1 }]);
    }

    #[test]
    fn ten_times_what_is_remembered_takes_no_more_than_it_may() {
        let catalog = Catalog::new();
        for n in 0..400 {
            let segments: String = (0..4_000).map(|s| format!("#EXTINF:2,\n{n}/{s}.ts\n")).collect();
            learn(&catalog, &format!("/{n}.m3u8"), &format!("#EXTM3U\n{segments}"));
        }
        assert!(catalog.playlists.weight() <= LISTED_MAX, "{}", catalog.playlists.weight());
        assert!(catalog.places.len() <= PLACES_MAX, "{}", catalog.places.len());
        assert_eq!(next(&catalog, "/399/7.ts"), some("/399/8.ts"));
    }
}

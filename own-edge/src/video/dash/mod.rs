//! DASH MPDs: segments by template (number or timeline), by list, or all in one file.

mod template;

use std::collections::{BTreeMap, VecDeque};

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};

use template::{Run, Template, expanded, filled, width};

use super::times::{duration_ms, moment_ms};
use super::{
    Base, CountEnd, Counted, Listing, Playlist, RENDITIONS_MAX, SEGMENTS_MAX, Segment, Segments, TARGET_MAX_MS,
};

/// Deeper than any MPD.
const DEPTH_MAX: usize = 64;
/// Segments of all renditions together.
const ALL_SEGMENTS_MAX: usize = 4 * SEGMENTS_MAX;
/// Entries of one timeline.
const TIMELINE_MAX: usize = SEGMENTS_MAX;
/// Bytes of a `BaseURL`.
const BASE_MAX_BYTES: usize = 8 * 1024;
/// Stands where a number will stand; no digit, so that it is found again.
const PLACE: &str = "-spillway-number-";

/// Reads a text that begins with `<`.
pub(super) fn read(text: &str, base: &Base<'_>) -> Option<Playlist> {
    let mut xml = Reader::from_str(text);
    let mut mpd = Mpd::default();
    let mut open: Vec<Level> = Vec::new();
    loop {
        match xml.read_event().ok()? {
            Event::Start(tag) => {
                if open.len() >= DEPTH_MAX {
                    return None;
                }
                let level = mpd.opened(&tag, &mut open)?;
                open.push(level);
            }
            Event::Empty(tag) => {
                let level = mpd.opened(&tag, &mut open)?;
                mpd.closed(level, &mut open, base);
            }
            Event::End(_) => {
                let level = open.pop()?;
                mpd.closed(level, &mut open, base);
            }
            Event::Text(text) => {
                if let Some(level) = open.last_mut() {
                    level.add(&text.decode().ok()?);
                }
            }
            Event::GeneralRef(entity) => {
                if let Some(level) = open.last_mut() {
                    match entity.resolve_char_ref().ok()? {
                        Some(char) => level.add(char.encode_utf8(&mut [0; 4])),
                        None => level.add(resolve_predefined_entity(&entity.decode().ok()?)?),
                    }
                }
            }
            // Entities of its own could make a small text a large one.
            Event::DocType(_) => return None,
            Event::Eof => break,
            _ => {}
        }
    }
    mpd.is_one.then(|| Playlist::Media(mpd.finished()))
}

/// An element that is open, with what holds in it.
#[derive(Clone, Default)]
struct Level {
    name: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, String>,
    /// Of a `BaseURL`.
    text: Option<String>,
    /// Base URLs from the MPD down, one behind the other; `None` once one leads elsewhere.
    bases: Vec<String>,
    /// The first `BaseURL` of each element counts; others are the same elsewhere.
    has_base: bool,
    template: Option<Template>,
    /// What the `SegmentURL`s of a list say; `None` for a part of a file.
    urls: Vec<Option<String>>,
}

impl Level {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name.as_bytes()).map(String::as_str)
    }

    fn add(&mut self, more: &str) {
        if let Some(text) = self.text.as_mut().filter(|text| text.len() + more.len() <= BASE_MAX_BYTES) {
            text.push_str(more);
        }
    }
}

#[derive(Default)]
struct Mpd {
    is_one: bool,
    dynamic: bool,
    /// When it begins, wall clock ms.
    start_ms: Option<u64>,
    length_ms: Option<u64>,
    /// Of the period that is open: begin since the MPD's, and length.
    period: (u64, Option<u64>),
    /// Where the next one begins, if it doesn't say.
    next_period_ms: u64,
    listings: Vec<Listing>,
    /// Of each listing, the number of its period; and of the one that is open.
    periods: Vec<usize>,
    period_number: usize,
    segments: usize,
}

impl Mpd {
    fn opened(&mut self, tag: &BytesStart<'_>, open: &mut [Level]) -> Option<Level> {
        let name = tag.local_name().as_ref().to_vec();
        let mut level = Level { name, ..Level::default() };
        if let Some(parent) = open.last() {
            (level.bases, level.template) = (parent.bases.clone(), parent.template.clone());
        } else if std::mem::replace(&mut self.is_one, true) || level.name != b"MPD" {
            return None;
        }
        for attribute in tag.attributes() {
            let attribute = attribute.ok()?;
            let value = attribute.unescape_value().ok()?.into_owned();
            level.attributes.insert(attribute.key.local_name().as_ref().to_vec(), value);
        }
        match &*level.name {
            b"MPD" => {
                self.dynamic = level.attribute("type") == Some("dynamic");
                self.start_ms = level.attribute("availabilityStartTime").and_then(moment_ms);
                self.length_ms = level.attribute("mediaPresentationDuration").and_then(duration_ms);
            }
            b"Period" => {
                self.period_number += 1;
                let start_ms = level.attribute("start").and_then(duration_ms).unwrap_or(self.next_period_ms);
                let said = level.attribute("duration").and_then(duration_ms);
                self.period = (start_ms, said.or_else(|| self.length_ms?.checked_sub(start_ms)));
                self.next_period_ms = start_ms.saturating_add(self.period.1.unwrap_or(0));
            }
            b"BaseURL" => level.text = Some(String::new()),
            b"SegmentTemplate" | b"SegmentList" => level.template = Some(Template::of(&level)),
            b"SegmentURL" => {
                if let Some(list) = open.last_mut().filter(|parent| parent.name == b"SegmentList") {
                    list.urls.push(level.attribute("media").map(str::to_owned));
                }
            }
            b"Initialization" => {
                let template = open.last_mut().and_then(|parent| parent.template.as_mut());
                if let (Some(template), Some(url)) = (template, level.attribute("sourceURL")) {
                    template.init = Some(url.to_owned());
                }
            }
            b"SegmentTimeline" => {
                if let Some(template) = &mut level.template {
                    template.timeline = Some(Vec::new());
                }
            }
            b"S" => self.run(&level, open),
            _ => {}
        }
        Some(level)
    }

    fn run(&mut self, level: &Level, open: &mut [Level]) {
        let number = |name| level.attribute(name).and_then(|text| text.parse::<u64>().ok());
        let timeline = open.last_mut().filter(|parent| parent.name == b"SegmentTimeline");
        let timeline = timeline.and_then(|parent| parent.template.as_mut()?.timeline.as_mut());
        if let (Some(timeline), Some(duration)) = (timeline, number("d")) {
            let repeat = level.attribute("r").and_then(|text| text.parse().ok()).unwrap_or(0);
            if timeline.len() < TIMELINE_MAX {
                timeline.push(Run { at: number("t"), duration, repeat });
            }
        }
    }

    fn closed(&mut self, level: Level, open: &mut [Level], base: &Base<'_>) {
        match (&*level.name, open.last_mut()) {
            (b"BaseURL", Some(parent)) if !parent.has_base => {
                parent.has_base = true;
                parent.bases.push(level.text.unwrap_or_default().trim().to_owned());
            }
            (b"SegmentTemplate" | b"SegmentTimeline", Some(parent)) => parent.template = level.template,
            (b"SegmentList", Some(parent)) => {
                parent.template = level.template;
                if let Some(template) = &mut parent.template
                    && !level.urls.is_empty()
                {
                    let left_out = level.urls.len().saturating_sub(SEGMENTS_MAX);
                    template.urls = Some(level.urls[left_out..].into());
                    template.urls_left_out = left_out as u64;
                }
            }
            (b"Representation", _) if self.listings.len() < RENDITIONS_MAX => {
                if let Some(listing) = self.listing(&level, base) {
                    self.listings.push(listing);
                    self.periods.push(self.period_number);
                }
            }
            _ => {}
        }
    }

    fn listing(&mut self, level: &Level, base: &Base<'_>) -> Option<Listing> {
        let mut below = base.below("")?;
        for uri in &level.bases {
            below = below.below(uri)?;
        }
        let inherited = Template::default();
        let template = level.template.as_ref().unwrap_or(&inherited);
        let segments = match (&template.urls, &template.media, &template.timeline, template.duration) {
            (Some(urls), ..) => self.by_list(template, urls, &below)?,
            (None, Some(media), Some(timeline), _) => self.by_timeline(template, media, timeline, level, &below)?,
            (None, Some(media), None, Some(ticks)) => self.by_number(template, media, ticks, level, &below)?,
            (None, Some(_), None, None) => return None,
            // A file of its own; without one there is nothing to be had.
            (None, None, ..) if !level.has_base => return None,
            (None, None, ..) => self.by_list(&Template::default(), &[Some(String::new())], &below)?,
        };
        let init = template.init.as_ref().and_then(|init| below.key(&filled(init, level, "", "")?));
        let longest = match &segments {
            Segments::Listed { list, .. } => list.iter().map(|segment| segment.duration_ms).max().unwrap_or(0),
            Segments::Counted(_) => template.ms(template.duration.unwrap_or(0)),
        };
        let target_ms = longest.min(TARGET_MAX_MS);
        Some(Listing { segments, init, target_ms, live: self.dynamic, ..Listing::default() })
    }

    /// So many segments of a list may still be kept, the last ones.
    fn room(&self) -> usize {
        SEGMENTS_MAX.min(ALL_SEGMENTS_MAX.saturating_sub(self.segments))
    }

    /// Begin and length of the last segments of a timeline of the open period.
    fn expanded(&self, template: &Template, timeline: &[Run]) -> VecDeque<(u64, u64)> {
        let end = self.period.1.map(|ms| u128::from(ms) * u128::from(template.timescale.max(1)) / 1000);
        expanded(timeline, end, SEGMENTS_MAX)
    }

    fn by_list(&mut self, template: &Template, urls: &[Option<String>], below: &Base<'_>) -> Option<Segments> {
        let lengths = template.timeline.as_ref().map(|timeline| self.expanded(template, timeline));
        let duration_ms = |at: usize| match (&lengths, template.duration) {
            (Some(lengths), _) => lengths.get(at).map(|(_, ticks)| template.ms(*ticks)),
            (None, Some(ticks)) => Some(template.ms(ticks)),
            (None, None) => (urls.len() == 1).then_some(self.period.1.unwrap_or(0)),
        };
        let from = urls.len().saturating_sub(self.room());
        let segment = |(at, url): (usize, &Option<String>)| {
            let key = below.key(url.as_ref()?)?;
            Some(Segment { key, duration_ms: duration_ms(at)?, gap: false })
        };
        let list: Vec<Segment> = urls.iter().enumerate().skip(from).map(segment).collect::<Option<_>>()?;
        self.segments += list.len();
        let first = template.first.saturating_add(template.urls_left_out).saturating_add(from as u64);
        Some(Segments::Listed { first, skipped: 0, list })
    }

    fn by_timeline(
        &mut self,
        template: &Template,
        media: &str,
        timeline: &[Run],
        level: &Level,
        below: &Base<'_>,
    ) -> Option<Segments> {
        let all = self.expanded(template, timeline);
        let from = all.len().saturating_sub(self.room());
        let segment = |(number, (at, ticks)): (u64, &(u64, u64))| {
            let uri = filled(media, level, &number.to_string(), &at.to_string())?;
            Some(Segment { key: below.key(&uri)?, duration_ms: template.ms(*ticks), gap: false })
        };
        let list: Vec<Segment> = (template.first..).zip(&all).skip(from).map(segment).collect::<Option<_>>()?;
        self.segments += list.len();
        Some(Segments::Listed { first: template.first.saturating_add(from as u64), skipped: 0, list })
    }

    fn by_number(
        &self,
        template: &Template,
        media: &str,
        ticks: u64,
        level: &Level,
        below: &Base<'_>,
    ) -> Option<Segments> {
        let whole = below.key(&filled(media, level, PLACE, PLACE)?)?;
        let (prefix, suffix) = whole.split_once(PLACE)?;
        if suffix.contains(PLACE) || media.contains("$Time") {
            return None;
        }
        let end = self.end(template, ticks)?;
        let (prefix, suffix) = (prefix.to_owned(), suffix.to_owned());
        Some(Segments::Counted(Counted { prefix, suffix, width: width(media), first: template.first, end }))
    }

    fn finished(mut self) -> Vec<Listing> {
        let begins = if self.dynamic { self.periods.last() } else { self.periods.first() }.copied();
        for (listing, period) in self.listings.iter_mut().zip(self.periods) {
            listing.aside = begins != Some(period);
        }
        self.listings
    }

    /// Where numbers end.
    fn end(&self, template: &Template, ticks: u64) -> Option<CountEnd> {
        let scale = template.timescale.max(1);
        let each_us =
            u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(scale)).ok().filter(|us| *us >= 1_000)?;
        let count = self.period.1.map(|ms| (u128::from(ms) * 1000).div_ceil(u128::from(each_us)));
        let last = count.map(|count| {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            template.first.saturating_add(count.saturating_sub(1))
        });
        if !self.dynamic {
            return last.map(CountEnd::Last);
        }
        let complete_ms = self.start_ms?.checked_add(self.period.0)?.checked_add(each_us / 1000)?;
        let from_ms = complete_ms.saturating_sub(template.early_ms);
        Some(CountEnd::Clock { from_ms, each_us, last: last.unwrap_or(u64::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::object::Key;
    use crate::rules::paths::PathRules;

    fn read_mpd(text: &str) -> Option<Vec<Listing>> {
        let paths = PathRules::new(&[], &[]).expect("valid");
        let base = Base::new(&Key::from("/live/a.mpd?x"), &paths).expect("a path");
        match super::super::read(text, &base)? {
            Playlist::Media(listings) => Some(listings),
            Playlist::Multivariant(_) => None,
        }
    }

    fn keys(listing: &Listing) -> Vec<&str> {
        let Segments::Listed { list, .. } = &listing.segments else { panic!("listed") };
        list.iter().map(|segment| &*segment.key).collect()
    }

    #[test]
    fn a_timeline_is_expanded_for_each_representation() {
        let text = r#"<?xml version="1.0"?><m:MPD xmlns:m="urn:mpeg:dash:schema:mpd:2011" type="static"
            mediaPresentationDuration="PT12S"><m:BaseURL>media/</m:BaseURL><m:BaseURL>https://other.example/</m:BaseURL>
            <m:Period><m:AdaptationSet>
            <m:SegmentTemplate timescale="1000" startNumber="7" media="$RepresentationID$/$Time%06d$-$Number$.m4s"
              initialization="$RepresentationID$/init-$Bandwidth$.mp4"><m:SegmentTimeline><m:S t="1000" d="2000" r="1"/>
              <m:S d="1500"/><m:S d="3000" r="-1"/></m:SegmentTimeline></m:SegmentTemplate>
            <m:Representation id="v1" bandwidth="100"/><m:Representation id="v2" bandwidth="200"><m:BaseURL>b&amp;c/</m:BaseURL>
            </m:Representation></m:AdaptationSet></m:Period></m:MPD>"#;
        let read = read_mpd(text).expect("read");
        assert_eq!(
            keys(&read[0]),
            [
                "/live/media/v1/001000-7.m4s",
                "/live/media/v1/003000-8.m4s",
                "/live/media/v1/005000-9.m4s",
                "/live/media/v1/006500-10.m4s",
                "/live/media/v1/009500-11.m4s",
            ]
        );
        assert_eq!(read[0].init.as_deref(), Some("/live/media/v1/init-100.mp4"));
        assert_eq!(keys(&read[1])[0], "/live/media/b&c/v2/001000-7.m4s");
        assert_eq!((read.len(), read[0].target_ms, read[0].live), (2, 3_000, false));
    }

    #[test]
    fn lists_and_files_say_their_segments_themselves() {
        let text = r#"<MPD type="static" mediaPresentationDuration="PT10S"><BaseURL>vod/</BaseURL><Period>
            <AdaptationSet><SegmentList timescale="1000" duration="4000" startNumber="5">
              <Initialization sourceURL="init.mp4"/></SegmentList>
              <Representation id="1"><BaseURL>a/</BaseURL><SegmentList><SegmentURL media="1.m4s"/>
                <SegmentURL media="2.m4s?x=1" mediaRange="0-9"/></SegmentList></Representation>
              <Representation id="2"><SegmentList timescale="10" startNumber="1"><SegmentTimeline><S d="20" r="1"/>
                <S d="60"/></SegmentTimeline><SegmentURL media="b1"/><SegmentURL media="b2"/><SegmentURL media="b3"/>
                </SegmentList></Representation>
              <Representation id="3"><BaseURL>c.mp4</BaseURL><SegmentList><SegmentURL mediaRange="0-9"/>
                </SegmentList></Representation></AdaptationSet>
            <AdaptationSet><Representation id="4"><BaseURL>d.mp4</BaseURL><SegmentBase indexRange="800-899">
              <Initialization range="0-799"/></SegmentBase></Representation>
              <Representation id="5"><BaseURL>e.vtt</BaseURL></Representation><Representation id="6"/>
              <Representation id="7"><BaseURL>https://other.example/f.mp4</BaseURL></Representation></AdaptationSet>
            </Period></MPD>"#;
        let read = read_mpd(text).expect("read");
        let said: Vec<_> = read.iter().map(|one| (keys(one), one.init.as_deref(), one.target_ms)).collect();
        assert_eq!(
            said,
            [
                (vec!["/live/vod/a/1.m4s", "/live/vod/a/2.m4s?x=1"], Some("/live/vod/a/init.mp4"), 4_000),
                (vec!["/live/vod/b1", "/live/vod/b2", "/live/vod/b3"], Some("/live/vod/init.mp4"), 6_000),
                (vec!["/live/vod/d.mp4"], None, 10_000),
                (vec!["/live/vod/e.vtt"], None, 10_000),
            ],
            "parts of a file are not told apart, and what is elsewhere is left out"
        );
        let first = |listing: &Listing| match listing.segments {
            Segments::Listed { first, .. } => first,
            Segments::Counted(_) => 0,
        };
        assert_eq!((first(&read[0]), first(&read[1])), (5, 1));
        let urls: String = (0..SEGMENTS_MAX + 3).map(|n| format!("<SegmentURL media=\"{n}\"/>")).collect();
        let long = format!(
            "<MPD><Period><Representation><SegmentList duration=\"2\">{urls}</SegmentList></Representation></Period></MPD>"
        );
        let read = read_mpd(&long).expect("read");
        assert_eq!((first(&read[0]), keys(&read[0]).len(), keys(&read[0])[0]), (4, SEGMENTS_MAX, "/live/3"));
    }

    #[test]
    fn numbers_end_with_the_period_or_with_the_clock() {
        let text = |attributes: &str| {
            format!(
                "<MPD {attributes}><Period start=\"PT0S\"><AdaptationSet><SegmentTemplate timescale=\"90000\" \
                 duration=\"180000\" startNumber=\"10\" media=\"d/$Number%03d$.m4s?n=$$\"/><Representation id=\"a\"/>\
                 </AdaptationSet></Period></MPD>"
            )
        };
        let counted = |attributes: &str| match read_mpd(&text(attributes)).expect("read").remove(0).segments {
            Segments::Counted(counted) => counted,
            other => panic!("{other:?}"),
        };
        let vod = counted("type=\"static\" mediaPresentationDuration=\"PT5S\"");
        assert_eq!((vod.end, &*vod.key(12)), (CountEnd::Last(12), "/live/d/012.m4s?n=$"));
        let live = counted("type=\"dynamic\" availabilityStartTime=\"1970-01-01T00:01:00Z\"");
        // The first is complete at 62 s.
        for (at_ms, newest) in [(61_999, None), (62_000, Some(10)), (63_999, Some(10)), (64_000, Some(11))] {
            assert_eq!(live.newest(at_ms), newest, "{at_ms}");
        }
        assert_eq!(read_mpd(&text("type=\"static\"")), Some(vec![]), "without an end nothing is known to be there");
    }

    #[test]
    fn garbage_is_nothing_and_what_is_large_is_cut() {
        for text in ["<", "<a/>", "<MPD>", "<!DOCTYPE x [<!ENTITY a \"b\">]><MPD/>", "<MPD/><MPD/>", "<html><body>"] {
            assert!(read_mpd(text).is_none_or(|read| read.is_empty()), "{text}");
        }
        let deep = format!("<MPD>{}", "<a>".repeat(100_000));
        assert_eq!(read_mpd(&deep), None);
        let long = |representations: &str| {
            format!(
                "<MPD><Period><AdaptationSet><SegmentTemplate media=\"$RepresentationID$/$Time$\"><SegmentTimeline>\
                 <S t=\"0\" d=\"1\" r=\"999999999999\"/><S d=\"18446744073709551615\" r=\"5\"/></SegmentTimeline></SegmentTemplate>\
                 {representations}</AdaptationSet></Period></MPD>"
            )
        };
        let many: String = (0..100).map(|n| format!("<Representation id=\"{n}\"/>")).collect();
        let read = read_mpd(&long(&many)).expect("read");
        let all: usize = read.iter().map(|listing| keys(listing).len()).sum();
        assert_eq!((read.len(), all), (RENDITIONS_MAX, ALL_SEGMENTS_MAX));
    }
}

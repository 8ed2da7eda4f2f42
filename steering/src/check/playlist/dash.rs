//! A segment out of an MPD: the first representation's, by template, list or base URL.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use url::Url;

use super::{Kind, Read};

/// Where an MPD does not say how often it changes, s.
const REFRESH_UNSAID_S: f64 = 10.0;
/// Nobody nests deeper.
const DEPTH_MAX: usize = 64;

/// What is known of the segments of one representation.
#[derive(Default)]
struct Found {
    /// `BaseURL` of each level that is open, outermost first.
    bases: Vec<(usize, String)>,
    /// The `BaseURL` that is open is the first of its level.
    is_first_base: bool,
    media: Option<String>,
    initialization: Option<String>,
    start_number: Option<u64>,
    /// Start and duration of each segment.
    timeline: Vec<(u64, u64)>,
    listed: Option<String>,
    representation: Option<(String, String)>,
}

/// Reads an MPD; `None`: it is none, or broken.
pub(super) fn read(xml: &str) -> Option<Read> {
    let mut reader = Reader::from_str(xml);
    let (mut open, mut found): (Vec<String>, Found) = (vec![], Found::default());
    let (mut live, mut refresh_s) = (false, REFRESH_UNSAID_S);
    loop {
        let event = reader.read_event().ok()?;
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                if open.is_empty() {
                    if name != "MPD" {
                        return None;
                    }
                    live = attribute(tag, "type").as_deref() == Some("dynamic");
                    let seconds = |name| attribute(tag, name).and_then(|text| duration_s(&text));
                    let said = seconds("minimumUpdatePeriod").filter(|seconds| *seconds > 0.0);
                    refresh_s = said.or_else(|| seconds("maxSegmentDuration")).unwrap_or(refresh_s);
                }
                found.opened(&name, tag, open.len());
                if matches!(event, Event::Start(_)) {
                    open.push(name);
                }
                if open.len() > DEPTH_MAX {
                    return None;
                }
            }
            Event::Text(text) if open.last().is_some_and(|name| name == "BaseURL") => {
                found.base_text(open.len(), &text.decode().ok()?);
            }
            Event::GeneralRef(entity) if &**entity == b"amp" && open.last().is_some_and(|name| name == "BaseURL") => {
                found.base_text(open.len(), "&");
            }
            Event::End(_) => {
                if open.pop().as_deref() == Some("Representation") {
                    break;
                }
                // The base URLs of what has ended hold no longer.
                let depth = open.len();
                found.bases.retain(|(level, _)| *level <= depth);
            }
            Event::DocType(_) | Event::Eof => break,
            _ => {}
        }
        if found.representation.is_some()
            && matches!(&event, Event::Empty(tag) if tag.local_name().as_ref() == b"Representation")
        {
            break;
        }
    }
    let refresh_s = refresh_s.ceil() as u64;
    // The name of the root was looked at first, so an empty document has none.
    (!open.is_empty() || found.representation.is_some())
        .then(|| Read { kind: Kind::Mpd { live, refresh_s }, next: found.uri(live) })
}

impl Found {
    fn opened(&mut self, name: &str, tag: &BytesStart<'_>, depth: usize) {
        let number = |name| attribute(tag, name).and_then(|text| text.trim().parse::<u64>().ok());
        match name {
            // Its text counts for the element around it, so the level is that one's.
            "BaseURL" => {
                self.is_first_base = !self.bases.iter().any(|(level, _)| *level == depth);
                if self.is_first_base {
                    self.bases.push((depth, String::new()));
                }
            }
            "Representation" => {
                let id = attribute(tag, "id").unwrap_or_default();
                self.representation = Some((id, attribute(tag, "bandwidth").unwrap_or_default()));
            }
            "SegmentTemplate" => {
                self.media = attribute(tag, "media").or(self.media.take());
                self.initialization = attribute(tag, "initialization").or(self.initialization.take());
                self.start_number = number("startNumber").or(self.start_number);
            }
            "SegmentTimeline" => self.timeline.clear(),
            "S" => {
                let before = self.timeline.last().map_or(0, |(start, length)| start + length);
                let (start, length) = (number("t").unwrap_or(before), number("d").unwrap_or(0));
                let repeats = number("r").unwrap_or(0).min(100_000);
                self.timeline.extend((0..=repeats).map(|n| (start.saturating_add(n.saturating_mul(length)), length)));
                self.timeline.truncate(200_000);
            }
            "SegmentURL" => self.listed = self.listed.take().or_else(|| attribute(tag, "media")),
            _ => {}
        }
    }

    /// Text of the first `BaseURL` of a level; `depth` counts the element itself.
    fn base_text(&mut self, depth: usize, text: &str) {
        let place = self.bases.iter_mut().rfind(|(level, _)| *level + 1 == depth);
        if let Some((_, base)) = place.filter(|_| self.is_first_base) {
            base.push_str(text.trim());
        }
    }

    fn uri(&self, live: bool) -> Option<String> {
        let base = self.bases.iter().fold(String::new(), |base, (_, next)| joined(&base, next));
        let own = match (&self.media, &self.listed) {
            (Some(media), _) => self.templated(media, live),
            (None, Some(listed)) => Some(listed.clone()),
            // A representation in one file.
            (None, None) => Some(String::new()).filter(|_| !base.is_empty() && !base.ends_with('/')),
        };
        own.map(|own| joined(&base, &own))
    }

    fn templated(&self, media: &str, live: bool) -> Option<String> {
        let first = self.start_number.unwrap_or(1);
        let place = match (self.timeline.first(), live) {
            (Some((time, _)), false) => Some((first, *time)),
            (Some(_), true) => {
                let (time, _) = self.timeline.last()?;
                Some((first + self.timeline.len() as u64 - 1, *time))
            }
            (None, false) => Some((first, 0)),
            // Which segment is the newest depends on the clock: the one that is always there does.
            (None, true) => None,
        };
        let (id, bandwidth) = self.representation.as_ref()?;
        let (template, (number, time)) = match place {
            Some(place) => (media, place),
            None => (self.initialization.as_deref()?, (0, 0)),
        };
        let mut out = String::new();
        for (n, piece) in template.split('$').enumerate() {
            if n % 2 == 0 {
                out.push_str(piece);
                continue;
            }
            let (name, format) = piece.split_once('%').unwrap_or((piece, ""));
            let width: usize = format.trim_end_matches('d').parse().unwrap_or(1);
            match name {
                "" => out.push('$'),
                "RepresentationID" => out.push_str(id),
                "Bandwidth" => out.push_str(bandwidth),
                "Number" => out.push_str(&format!("{number:0width$}", width = width.min(20))),
                "Time" => out.push_str(&format!("{time:0width$}", width = width.min(20))),
                _ => return None,
            }
        }
        Some(out)
    }
}

/// A relative URI behind another: what stands after the last slash goes.
fn joined(base: &str, next: &str) -> String {
    if let Ok(base) = Url::parse(base) {
        return base.join(next).map_or_else(|_| next.to_owned(), String::from);
    }
    let absolute = next.contains("://") || next.starts_with('/');
    match base.rfind('/') {
        _ if next.is_empty() => base.to_owned(),
        Some(at) if !absolute => format!("{}{next}", &base[..=at]),
        _ => next.to_owned(),
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = tag.try_get_attribute(name).ok()??;
    found.unescape_value().ok().map(std::borrow::Cow::into_owned)
}

/// `PT1M2.5S` in seconds; days and more are no periods of refresh.
fn duration_s(text: &str) -> Option<f64> {
    let mut rest = text.trim().strip_prefix("PT")?;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let value: f64 = rest[..end].parse().ok()?;
        seconds += value
            * match &rest[end..=end] {
                "H" => 3_600.0,
                "M" => 60.0,
                "S" => 1.0,
                _ => return None,
            };
        rest = &rest[end + 1..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(body: &str) -> (Kind, Option<String>) {
        let read = read(&format!("<?xml version=\"1.0\"?>\n{body}")).expect("an MPD");
        (read.kind, read.next)
    }

    const STATIC: Kind = Kind::Mpd { live: false, refresh_s: 10 };

    #[test]
    fn a_template_leads_to_the_first_segment_of_the_first_representation() {
        let body = r#"<MPD type="static"><BaseURL>dash/</BaseURL><Period><AdaptationSet>
            <SegmentTemplate media="$RepresentationID$/$Number%03d$.m4s?b=$Bandwidth$&amp;x=$$" startNumber="7"/>
            <Representation id="v1" bandwidth="100"/><Representation id="v2" bandwidth="200"/></AdaptationSet></Period></MPD>"#;
        assert_eq!(uri(body), (STATIC, Some("dash/v1/007.m4s?b=100&x=$".into())));
    }

    #[test]
    fn a_live_timeline_leads_to_its_newest_segment_and_a_clock_to_the_initialization() {
        let timeline = r#"<MPD type="dynamic" minimumUpdatePeriod="PT1.5S"><Period><AdaptationSet><SegmentTemplate media="$Time$.m4s">
            <SegmentTimeline><S t="100" d="10" r="2"/><S d="5"/></SegmentTimeline></SegmentTemplate>
            <Representation id="v1" bandwidth="1"/></AdaptationSet></Period></MPD>"#;
        assert_eq!(uri(timeline), (Kind::Mpd { live: true, refresh_s: 2 }, Some("130.m4s".into())));
        let clock = r#"<m:MPD xmlns:m="u" type="dynamic" maxSegmentDuration="PT4S"><m:Period><m:AdaptationSet>
            <m:SegmentTemplate media="$Number$.m4s" initialization="i-$RepresentationID$.mp4"/>
            <m:Representation id="v1"></m:Representation></m:AdaptationSet></m:Period></m:MPD>"#;
        assert_eq!(uri(clock), (Kind::Mpd { live: true, refresh_s: 4 }, Some("i-v1.mp4".into())));
    }

    #[test]
    fn a_list_or_a_file_is_taken_as_it_stands() {
        let list = r#"<MPD><Period><AdaptationSet><Representation id="v"><SegmentList><SegmentURL media="a.m4s"/>
            <SegmentURL media="b.m4s"/></SegmentList></Representation></AdaptationSet></Period></MPD>"#;
        assert_eq!(uri(list), (STATIC, Some("a.m4s".into())));
        let file = r#"<MPD><BaseURL>https://h/x/</BaseURL><BaseURL>https://other/</BaseURL><Period><AdaptationSet>
            <Representation id="v"><BaseURL>a&amp;b.mp4</BaseURL><SegmentBase/></Representation></AdaptationSet></Period></MPD>"#;
        assert_eq!(uri(file), (STATIC, Some("https://h/x/a&b.mp4".into())));
        let none = r#"<MPD><Period><AdaptationSet><SegmentTemplate media="$Sub$"/><Representation id="v"/></AdaptationSet></Period></MPD>"#;
        assert_eq!(uri(none), (STATIC, None));
    }

    #[test]
    fn what_is_no_mpd_is_none() {
        for text in ["<html></html>", "<", "<MPD", "", "<!DOCTYPE x><MPD/>"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

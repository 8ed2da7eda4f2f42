//! One pass over an MPD: where the elements are that steering changes.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::playlists::dash::xml::{tag_name, value, value_of_local};
use crate::playlists::space::has_scheme;
use crate::playlists::writer::WriteError;

/// Deeper than any MPD.
const DEPTH_MAX: usize = 64;
/// An xlink target that only says "remove me".
const RESOLVE_TO_ZERO: &str = "urn:mpeg:dash:resolve-to-zero:2013";
/// The node of the MPD itself.
pub(crate) const ROOT: usize = 0;

/// A closed element.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) span: Range<usize>,
    pub(crate) tag: Range<usize>,
    pub(crate) content: Range<usize>,
}

/// A `BaseURL` of the MPD, a period, a set or a representation.
#[derive(Debug)]
pub(crate) struct BaseUrl {
    /// Whose it is.
    pub(crate) node: usize,
    pub(crate) element: Element,
}

/// An adaptation set.
#[derive(Debug, Default)]
pub(crate) struct Set {
    pub(crate) period: usize,
    pub(crate) span: Range<usize>,
    pub(crate) tag: Range<usize>,
    /// Not for everybody: trick play, other camera angles.
    pub(crate) is_special: bool,
    pub(crate) representations: Vec<Representation>,
}

#[derive(Debug)]
pub(crate) struct Representation {
    pub(crate) span: Range<usize>,
    pub(crate) tag: Range<usize>,
    /// `None` if it does not say: that must be an error of the origin's.
    pub(crate) bits_per_second: Option<u64>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Prefix of the root's name, with its colon.
    pub(crate) prefix: String,
    /// Where the root's content begins.
    pub(crate) content: usize,
    pub(crate) is_dynamic: bool,
    pub(crate) after_information: Option<usize>,
    /// MPD, periods, sets and representations, which may have BaseURLs: each with its parent, which stands before it.
    pub(crate) nodes: Vec<usize>,
    pub(crate) base_urls: Vec<BaseUrl>,
    /// Replaced or no longer true: ContentSteering, Location, PatchLocation.
    pub(crate) dropped: Vec<Range<usize>>,
    pub(crate) timings: Vec<Range<usize>>,
    /// Tags that may name segments by rooted or absolute URLs, each with its node.
    pub(crate) segments: Vec<(usize, Range<usize>)>,
    pub(crate) periods: usize,
    pub(crate) sets: Vec<Set>,
    pub(crate) has_preselections: bool,
}

/// An element that was opened.
struct Open<'x> {
    /// Without prefix; empty if it is of another vocabulary.
    name: &'x str,
    tag: Range<usize>,
    /// The nearest node above or at it.
    node: usize,
}

impl Scan {
    pub(crate) fn run(xml: &str) -> Result<Self, WriteError> {
        let bad = |error: quick_xml::Error| WriteError::bad_xml(&error);
        let mut out = Self::default();
        let mut reader = Reader::from_str(xml);
        let mut open: Vec<Open<'_>> = Vec::with_capacity(DEPTH_MAX);
        let mut roots = 0_usize;
        loop {
            let start = position(&reader);
            let event = reader.read_event().map_err(bad)?;
            let end = position(&reader);
            match &event {
                Event::Start(tag) | Event::Empty(tag) => {
                    roots += usize::from(open.is_empty());
                    if let Some(error) = tag.attributes().find_map(Result::err) {
                        return Err(WriteError::bad_xml(&error));
                    }
                    let element = out.opened(xml, start..end, &open)?;
                    if matches!(event, Event::Empty(_)) {
                        out.closed(xml, &element, end..end, end, &open)?;
                    } else {
                        open.push(element);
                    }
                    if open.len() > DEPTH_MAX {
                        return Err(WriteError::TooDeep(DEPTH_MAX));
                    }
                }
                Event::End(_) => {
                    let element = open.pop().ok_or_else(|| WriteError::BadXml("an end without a start".into()))?;
                    out.closed(xml, &element, element.tag.end..start, end, &open)?;
                }
                Event::DocType(_) => return Err(WriteError::Doctype),
                Event::Eof if open.is_empty() && roots == 1 => return Ok(out),
                Event::Eof => return Err(WriteError::BadXml("there is not exactly one closed root element".into())),
                _ => {}
            }
        }
    }

    fn opened<'x>(&mut self, xml: &'x str, tag: Range<usize>, open: &[Open<'x>]) -> Result<Open<'x>, WriteError> {
        let text = &xml[tag.clone()];
        let full = tag_name(text);
        let name = full.rsplit_once(':').map_or(full, |(_, local)| local);
        if open.is_empty() {
            if name != "MPD" {
                return Err(WriteError::NotMpd);
            }
            self.prefix = full[..full.len() - name.len()].to_owned();
            self.content = tag.end;
            self.is_dynamic = value(xml, &tag, "type").as_deref() == Some("dynamic");
        }
        let is_ours = full.len() - name.len() == self.prefix.len() && full.starts_with(&self.prefix);
        let name = if is_ours { name } else { "" };
        if text.contains("href")
            && value_of_local(xml, &tag, "href").is_some_and(|href| href != RESOLVE_TO_ZERO && !has_scheme(&href))
        {
            return Err(WriteError::RemoteElement);
        }
        let parent = open.last();
        let mut node = parent.map_or(ROOT, |parent| parent.node);
        match (name, parent.map_or("", |parent| parent.name)) {
            ("MPD", "") | ("Period", "MPD") | ("AdaptationSet", "Period") | ("Representation", "AdaptationSet") => {
                self.nodes.push(node);
                node = self.nodes.len() - 1;
                if name == "AdaptationSet" {
                    self.sets.push(Set { period: self.periods, tag: tag.clone(), ..Set::default() });
                }
            }
            ("SegmentTemplate" | "SegmentURL" | "Initialization" | "RepresentationIndex" | "BitstreamSwitching", _)
                if ["=\"/", "='/", "://", "../"].iter().any(|sign| text.contains(sign)) =>
            {
                self.segments.push((node, tag.clone()));
            }
            _ => {}
        }
        Ok(Open { name, tag, node })
    }

    fn closed(
        &mut self,
        xml: &str,
        element: &Open<'_>,
        content: Range<usize>,
        end: usize,
        parents: &[Open<'_>],
    ) -> Result<(), WriteError> {
        let parent = parents.last();
        let tag = element.tag.clone();
        let span = tag.start..end;
        match (element.name, parent.map_or("", |parent| parent.name)) {
            ("BaseURL", "MPD" | "Period" | "AdaptationSet" | "Representation") => {
                self.base_urls.push(BaseUrl { node: element.node, element: Element { span, tag, content } });
            }
            ("ContentSteering", "MPD" | "ServiceDescription") | ("Location" | "PatchLocation", "MPD") => {
                self.dropped.push(span);
            }
            ("ProgramInformation", "MPD") => self.after_information = Some(end),
            ("Period", "MPD") => self.periods += 1,
            ("UTCTiming", "MPD") => self.timings.push(tag),
            ("Preselection", _) => self.has_preselections = true,
            ("ImportedMPD", _) => {
                let uri = value(xml, &tag, "uri").unwrap_or_else(|| xml[content].trim().to_owned());
                if !has_scheme(&uri) {
                    return Err(WriteError::RemoteElement);
                }
            }
            ("EssentialProperty" | "Viewpoint", "AdaptationSet") => self.now(|set| set.is_special = true),
            ("Role", "AdaptationSet") => {
                let is_main = value(xml, &tag, "value").is_none_or(|value| value == "main");
                self.now(|set| set.is_special |= !is_main);
            }
            ("Representation", "AdaptationSet") => {
                let bits_per_second = value(xml, &tag, "bandwidth").and_then(|text| text.trim().parse().ok());
                self.now(|set| set.representations.push(Representation { span, tag, bits_per_second }));
            }
            ("AdaptationSet", "Period") => self.now(|set| set.span = span),
            _ => {}
        }
        Ok(())
    }

    /// Changes the adaptation set that is open.
    fn now(&mut self, change: impl FnOnce(&mut Set)) {
        if let Some(set) = self.sets.last_mut() {
            change(set);
        }
    }
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

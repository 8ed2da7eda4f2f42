//! Writes steering into an MPD: a BaseURL per pathway and the ContentSteering element. The reader only finds spans;
//! every byte outside them stays.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::Event;

use crate::playlists::hls_tags::splice;
use crate::playlists::space::{Place, Space, has_scheme};
use crate::playlists::writer::{Offer, Steering, WriteError};

/// Deeper than any MPD.
const DEPTH_MAX: usize = 64;
/// An xlink target that only says "remove me".
const RESOLVE_TO_ZERO: &str = "urn:mpeg:dash:resolve-to-zero:2013";

/// Writes `steering` into the MPD `body`, which lies in `space`.
///
/// # Errors
/// [`WriteError`] if this is no MPD, or one that can't be understood.
pub(crate) fn write(body: &[u8], space: &Space, steering: &Steering) -> Result<String, WriteError> {
    let text = std::str::from_utf8(body).map_err(|_| WriteError::NotUtf8)?;
    let xml = text.strip_prefix('\u{feff}').unwrap_or(text);
    let scan = Scan::run(xml)?;
    let written = scan.edit(xml, space, steering)?;
    Ok(format!("{}{written}", &text[..text.len() - xml.len()]))
}

/// An element that was opened.
#[derive(Clone, Debug)]
struct Open {
    /// Without prefix.
    name: String,
    start: usize,
    /// Where its content begins.
    content: usize,
}

/// A closed element of interest.
#[derive(Clone, Debug)]
struct Element {
    span: Range<usize>,
    tag: Range<usize>,
    content: Range<usize>,
}

/// What was found.
#[derive(Debug, Default)]
struct Scan {
    /// Prefix of the root's name, with its colon.
    prefix: String,
    /// Where the root's content begins.
    content: usize,
    dynamic: bool,
    periods: usize,
    after_information: Option<usize>,
    base_urls: Vec<Element>,
    nested_base_urls: Vec<Element>,
    /// Replaced or no longer true: ContentSteering, Location, PatchLocation.
    dropped: Vec<Range<usize>>,
    timings: Vec<Range<usize>>,
    /// Representations with their bandwidth, by adaptation set.
    sets: Vec<Vec<(Range<usize>, u64)>>,
}

impl Scan {
    fn run(xml: &str) -> Result<Self, WriteError> {
        let bad = |error: quick_xml::Error| WriteError::BadXml(error.to_string());
        let mut out = Self::default();
        let mut reader = Reader::from_str(xml);
        let mut open: Vec<Open> = Vec::new();
        let mut roots = 0_usize;
        loop {
            let start = position(&reader);
            let event = reader.read_event().map_err(bad)?;
            let end = position(&reader);
            match event {
                Event::Start(_) | Event::Empty(_) => {
                    roots += usize::from(open.is_empty());
                    let element = out.opened(xml, start..end, &open)?;
                    if matches!(event, Event::Empty(_)) {
                        out.closed(&element, end..end, end, &open, xml);
                    } else {
                        open.push(element);
                    }
                    if open.len() > DEPTH_MAX {
                        return Err(WriteError::TooDeep(DEPTH_MAX));
                    }
                }
                Event::End(_) => {
                    let element = open.pop().ok_or_else(|| WriteError::BadXml("an end without a start".into()))?;
                    out.closed(&element, element.content..start, end, &open, xml);
                }
                Event::DocType(_) => return Err(WriteError::Doctype),
                Event::Eof if open.is_empty() && roots == 1 => return Ok(out),
                Event::Eof => return Err(WriteError::BadXml("there is not exactly one closed root element".into())),
                _ => {}
            }
        }
    }

    fn opened(&mut self, xml: &str, tag: Range<usize>, open: &[Open]) -> Result<Open, WriteError> {
        let full = tag_name(&xml[tag.clone()]);
        let name = full.rsplit_once(':').map_or(full, |(_, local)| local);
        if open.is_empty() {
            if name != "MPD" {
                return Err(WriteError::NotMpd);
            }
            self.prefix = full[..full.len() - name.len()].to_owned();
            self.content = tag.end;
            self.dynamic = value(xml, &tag, "type").as_deref() == Some("dynamic");
        }
        if name == "AdaptationSet" {
            self.sets.push(Vec::new());
        }
        if value(xml, &tag, "xlink:href").is_some_and(|href| href != RESOLVE_TO_ZERO && !has_scheme(&href)) {
            return Err(WriteError::RemoteElement);
        }
        Ok(Open { name: name.to_owned(), start: tag.start, content: tag.end })
    }

    fn closed(&mut self, element: &Open, content: Range<usize>, end: usize, parents: &[Open], xml: &str) {
        let parent = parents.last().map_or("", |parent| parent.name.as_str());
        let span = element.start..end;
        let tag = element.start..element.content;
        match (element.name.as_str(), parent, parents.len()) {
            ("BaseURL", "MPD", 1) => self.base_urls.push(Element { span, tag, content }),
            ("BaseURL", "Period" | "AdaptationSet" | "Representation", _) => {
                self.nested_base_urls.push(Element { span, tag, content });
            }
            ("ContentSteering", "MPD" | "ServiceDescription", _) | ("Location" | "PatchLocation", "MPD", 1) => {
                self.dropped.push(span);
            }
            ("ProgramInformation", "MPD", 1) => self.after_information = Some(end),
            ("Period", "MPD", 1) => self.periods += 1,
            ("UTCTiming", "MPD", 1) => self.timings.push(tag),
            ("Representation", "AdaptationSet", _) => {
                let bandwidth = value(xml, &tag, "bandwidth").and_then(|text| text.trim().parse().ok());
                if let (Some(set), Some(bandwidth)) = (self.sets.last_mut(), bandwidth) {
                    set.push((span, bandwidth));
                }
            }
            _ => {}
        }
    }

    fn edit(&self, xml: &str, space: &Space, steering: &Steering) -> Result<String, WriteError> {
        if self.periods == 0 {
            return Err(WriteError::NoVariant);
        }
        let first = steering.offers.first().ok_or(WriteError::NoVariant)?;
        let base = self.base(xml, space)?;
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let at = match &base.element {
            Some(element) => element.span.clone(),
            None => {
                let at = self.after_information.unwrap_or(self.content);
                at..at
            }
        };
        let gap = gap(xml, &at);
        let attributes =
            base.element.as_ref().map_or_else(String::new, |element| attributes(&xml[element.tag.clone()]));
        let mut elements = self.base_urls_for(&steering.offers, &base.folder, &attributes);
        if let Some(url) = steering.reload_url.as_deref().filter(|_| self.dynamic) {
            elements.push(format!("<{0}Location>{1}</{0}Location>", self.prefix, escape(url)));
        }
        elements.push(format!(
            "<{0}ContentSteering defaultServiceLocation=\"{1}\" queryBeforeStart=\"false\">{2}</{0}ContentSteering>",
            self.prefix,
            first.id,
            escape(&steering.server_uri)
        ));
        let inserted = if at.is_empty() { format!("{gap}{}", elements.join(gap)) } else { elements.join(gap) };
        edits.push((at.clone(), inserted));
        let replaced = |span: &Range<usize>| !at.is_empty() && *span == at;
        edits.extend(self.base_urls.iter().filter(|e| !replaced(&e.span)).map(|e| (e.span.clone(), String::new())));
        edits.extend(self.dropped.iter().map(|span| (span.clone(), String::new())));
        edits.extend(self.left_out_above(steering.max_bitrate_kbps).map(|span| (span, String::new())));
        self.edit_nested(xml, &base.space, &steering.offers, &mut edits)?;
        self.edit_timings(xml, space, first, &mut edits)?;
        Ok(splice(xml, outermost(edits)))
    }

    /// What the MPD's relative URLs are relative to.
    fn base(&self, xml: &str, space: &Space) -> Result<Base, WriteError> {
        let outside = |uri: &str| WriteError::OutsideBase(uri.chars().take(120).collect());
        if self.base_urls.is_empty() {
            return match space.folder() {
                Place::OnOrigin(folder) => Ok(Base { element: None, space: space.clone(), folder }),
                _ => Err(outside("the MPD's folder")),
            };
        }
        for element in &self.base_urls {
            let uri = text_of(xml, &element.content)?;
            let Some(below) = space.below(&uri) else { continue };
            return match below.folder() {
                Place::OnOrigin(folder) => Ok(Base { element: Some(element.clone()), space: below, folder }),
                _ => Err(outside(&uri)),
            };
        }
        Err(WriteError::NothingOnOrigin)
    }

    fn base_urls_for(&self, offers: &[Offer], path: &str, attributes: &str) -> Vec<String> {
        let element = |offer: &Offer| {
            let url = format!("{}{path}", offer.base_url);
            format!(
                "<{0}BaseURL serviceLocation=\"{1}\"{attributes}>{2}</{0}BaseURL>",
                self.prefix,
                offer.id,
                escape(&url)
            )
        };
        offers.iter().map(element).collect()
    }

    /// A relative one follows its parent. What names the origin's host, or begins at its root, would leave the
    /// pathway, so it is said once per pathway. Other hosts (ads) stay.
    fn edit_nested(
        &self,
        xml: &str,
        space: &Space,
        offers: &[Offer],
        edits: &mut Vec<(Range<usize>, String)>,
    ) -> Result<(), WriteError> {
        for element in &self.nested_base_urls {
            let uri = text_of(xml, &element.content)?;
            if !has_scheme(&uri) && !uri.starts_with('/') {
                continue;
            }
            match space.locate(&uri) {
                Place::OnOrigin(path) => {
                    let attributes = attributes(&xml[element.tag.clone()]);
                    let urls = self.base_urls_for(offers, &path, &attributes);
                    edits.push((element.span.clone(), urls.join(gap(xml, &element.span))));
                }
                Place::Elsewhere => {}
                Place::OutsideBase => return Err(WriteError::OutsideBase(uri.chars().take(120).collect())),
            }
        }
        Ok(())
    }

    /// A clock at a relative URL was meant relative to the MPD, which has moved.
    fn edit_timings(
        &self,
        xml: &str,
        space: &Space,
        first: &Offer,
        edits: &mut Vec<(Range<usize>, String)>,
    ) -> Result<(), WriteError> {
        for tag in &self.timings {
            let by_http = value(xml, tag, "schemeIdUri").is_some_and(|scheme| scheme.contains(":http-"));
            let Some(span) = attribute(xml, tag, "value").filter(|_| by_http) else { continue };
            let uri = plain(&xml[span.clone()])?;
            // A list of several URLs is left to the player.
            if has_scheme(&uri) || uri.contains(' ') {
                continue;
            }
            if let Place::OnOrigin(path) = space.locate(&uri) {
                edits.push((span, escape(format!("{}{path}", first.base_url)).into_owned()));
            }
        }
        Ok(())
    }

    /// Representations above the limit, but never the lowest of a set.
    fn left_out_above(&self, max_bitrate_kbps: Option<u32>) -> impl Iterator<Item = Range<usize>> {
        let limit = max_bitrate_kbps.map_or(u64::MAX, |kbps| u64::from(kbps) * 1_000);
        self.sets.iter().flat_map(move |set| {
            let limit = limit.max(set.iter().map(|(_, bandwidth)| *bandwidth).min().unwrap_or(0));
            set.iter().filter(move |(_, bandwidth)| *bandwidth > limit).map(|(span, _)| span.clone())
        })
    }
}

struct Base {
    element: Option<Element>,
    space: Space,
    folder: String,
}

/// Edits inside an element that goes away go with it.
fn outermost(mut edits: Vec<(Range<usize>, String)>) -> Vec<(Range<usize>, String)> {
    edits.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut end = 0;
    edits.retain(|(span, _)| {
        let outside = span.start >= end;
        end = end.max(span.end);
        outside
    });
    edits
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

/// White space before `at` (after it, where something is inserted), to set new elements in line with the old ones.
fn gap<'x>(xml: &'x str, at: &Range<usize>) -> &'x str {
    if at.is_empty() {
        let after = &xml[at.start..];
        &after[..after.len() - after.trim_start().len()]
    } else {
        let before = &xml[..at.start];
        &before[before.trim_end().len()..]
    }
}

fn tag_name(tag: &str) -> &str {
    let inner = tag.trim_start_matches('<');
    inner.split(|c: char| c.is_whitespace() || c == '/' || c == '>').next().unwrap_or_default()
}

/// Spans (in `xml`) of the names and values of a tag's attributes.
fn attribute_spans(xml: &str, tag: &Range<usize>) -> Vec<(Range<usize>, Range<usize>)> {
    let mut out = Vec::new();
    let mut at = tag.start + 1 + tag_name(&xml[tag.clone()]).len();
    while let Some(equals) = xml[at..tag.end].find('=').map(|found| at + found) {
        let name = xml[at..equals].trim();
        let name_start = at + xml[at..equals].find(name).unwrap_or(0);
        let Some((quote_at, quote)) = xml[equals + 1..tag.end].char_indices().find(|(_, c)| !c.is_whitespace()) else {
            break;
        };
        let start = equals + 1 + quote_at + quote.len_utf8();
        let Some(length) = xml[start.min(tag.end)..tag.end].find(quote) else { break };
        out.push((name_start..name_start + name.len(), start..start + length));
        at = start + length + quote.len_utf8();
    }
    out
}

fn attribute(xml: &str, tag: &Range<usize>, name: &str) -> Option<Range<usize>> {
    attribute_spans(xml, tag).into_iter().find(|(found, _)| &xml[found.clone()] == name).map(|(_, value)| value)
}

fn value(xml: &str, tag: &Range<usize>, name: &str) -> Option<String> {
    plain(&xml[attribute(xml, tag, name)?]).ok()
}

/// A tag's attributes as they are written, with a leading space, without `serviceLocation`.
fn attributes(tag: &str) -> String {
    let spans = attribute_spans(tag, &(0..tag.len()));
    let kept = spans.into_iter().filter(|(name, _)| &tag[name.clone()] != "serviceLocation");
    kept.map(|(name, value)| format!(" {}", &tag[name.start..value.end + 1])).collect()
}

fn plain(text: &str) -> Result<String, WriteError> {
    unescape(text).map(std::borrow::Cow::into_owned).map_err(|error| WriteError::BadXml(error.to_string()))
}

fn text_of(xml: &str, content: &Range<usize>) -> Result<String, WriteError> {
    let raw = xml[content.clone()].trim();
    if raw.contains('<') {
        return Err(WriteError::BadXml("markup in a BaseURL".into()));
    }
    plain(raw)
}

//! Writes steering into an MPD: a BaseURL per pathway and the ContentSteering element. The reader only finds spans;
//! every byte outside them stays.
//!
//! [`scan`] (one pass: where is what) → the edits here, and those of [`limit`] → [`xml`] puts them in.

mod limit;
mod scan;
mod xml;

use quick_xml::escape::escape;

use self::scan::{Element, ROOT, Scan};
use self::xml::{Edits, attribute, attributes_but_location, gap, plain, text_of, value, whole_attribute};
use crate::playlists::space::{Place, Space, has_scheme, relative};
use crate::playlists::writer::{Offer, Steering, URI_MAX_BYTES, WriteError};

/// Attributes that hold URLs of segments.
const SEGMENT_URLS: [&str; 5] = ["media", "initialization", "index", "bitstreamSwitching", "sourceURL"];

/// Writes `steering` into the MPD `body`, which lies in `space`.
///
/// # Errors
/// [`WriteError`] if this is no MPD, or one that can't be understood.
pub(crate) fn write(body: &[u8], space: &Space, steering: &Steering) -> Result<String, WriteError> {
    let text = std::str::from_utf8(body).map_err(|_| WriteError::NotUtf8)?;
    let xml = text.strip_prefix('\u{feff}').unwrap_or(text);
    let scan = Scan::run(xml)?;
    if scan.periods == 0 {
        return Err(WriteError::NoVariant);
    }
    let (first, others) = steering.written()?;
    let offers: Vec<&Offer> = std::iter::once(first).chain(others).collect();
    let bom = &text[..text.len() - xml.len()];
    let max_bytes = steering.output_max_bytes(text.len()) - bom.len();
    let mut writer = Writer { xml, scan: &scan, space, offers, edits: Edits::new(xml, max_bytes) };
    let base = writer.base()?;
    writer.head(&base, steering)?;
    writer.nested(&base)?;
    writer.timings()?;
    if let Some(kbps) = steering.max_bitrate_kbps {
        limit::left_out(xml, &scan, u64::from(kbps) * 1_000).iter().for_each(|span| writer.edits.remove(span));
    }
    let written = writer.edits.apply();
    Ok(if bom.is_empty() { written } else { format!("{bom}{written}") })
}

struct Writer<'w> {
    xml: &'w str,
    scan: &'w Scan,
    space: &'w Space,
    offers: Vec<&'w Offer>,
    edits: Edits<'w>,
}

/// What the MPD's relative URLs are relative to.
struct Base<'w> {
    element: Option<&'w Element>,
    space: Space,
    /// What each pathway's BaseURL is made of.
    path: String,
}

impl<'w> Writer<'w> {
    fn base(&self) -> Result<Base<'w>, WriteError> {
        let mut own = self.scan.base_urls.iter().filter(|found| found.node == ROOT).peekable();
        if own.peek().is_none() {
            return match self.space.folder() {
                Place::OnOrigin(path) => Ok(Base { element: None, space: self.space.clone(), path }),
                _ => Err(WriteError::outside("the MPD's folder")),
            };
        }
        for found in own {
            let uri = self.text(&found.element)?;
            let Some(space) = self.space.below(&uri) else { continue };
            return match self.space.locate(&uri) {
                Place::OnOrigin(path) => Ok(Base { element: Some(&found.element), space, path }),
                _ => Err(WriteError::outside(&uri)),
            };
        }
        Err(WriteError::NothingOnOrigin)
    }

    /// BaseURLs, Location and ContentSteering of the MPD. What said the same before goes.
    fn head(&mut self, base: &Base<'_>, steering: &Steering) -> Result<(), WriteError> {
        let at = match base.element {
            Some(element) => element.span.clone(),
            None => {
                let at = self.scan.after_information.unwrap_or(self.scan.content);
                at..at
            }
        };
        let (gap, prefix) = (gap(self.xml, &at), &self.scan.prefix);
        let mut elements = self.base_urls_for(&base.path, base.element);
        if let Some(url) = steering.reload_url.as_deref().filter(|_| self.scan.is_dynamic) {
            elements.push(format!("<{prefix}Location>{}</{prefix}Location>", escape(url)));
        }
        if let Some(server) = &steering.server_uri {
            // Exactly one default: players disagree on how a list is separated.
            elements.push(format!(
                "<{prefix}ContentSteering defaultServiceLocation=\"{}\" queryBeforeStart=\"{}\">{}</{prefix}ContentSteering>",
                self.offers[0].id,
                steering.query_before_start,
                escape(server)
            ));
        }
        let elements = elements.join(gap);
        self.edits.replace(at.clone(), if at.is_empty() { format!("{gap}{elements}") } else { elements })?;
        let others = self.scan.base_urls.iter().filter(|found| found.node == ROOT && found.element.span != at);
        others.for_each(|found| self.edits.remove(&found.element.span));
        self.scan.dropped.iter().for_each(|span| self.edits.remove(span));
        Ok(())
    }

    /// A BaseURL per pathway, with the attributes that `like` has.
    fn base_urls_for(&self, path: &str, like: Option<&Element>) -> Vec<String> {
        let attributes = like.map_or_else(String::new, |like| attributes_but_location(&self.xml[like.tag.clone()]));
        let prefix = &self.scan.prefix;
        let element = |offer: &&Offer| {
            let url = offer.url(path);
            let id = &offer.id;
            format!("<{prefix}BaseURL serviceLocation=\"{id}\"{attributes}>{}</{prefix}BaseURL>", escape(&url))
        };
        self.offers.iter().map(element).collect()
    }

    /// URLs below the MPD's level. Relative ones follow their parent. What names the origin's host, or begins at its
    /// root, would leave the pathway. Other hosts (ads) stay, with all that is relative to them.
    fn nested(&mut self, base: &Base<'_>) -> Result<(), WriteError> {
        let mut spaces: Vec<Space> = vec![base.space.clone()];
        // Of each node the index of its space; `None` is elsewhere.
        let mut of: Vec<Option<usize>> = Vec::with_capacity(self.scan.nodes.len());
        let mut own: Vec<&scan::BaseUrl> = self.scan.base_urls.iter().filter(|found| found.node != ROOT).collect();
        own.sort_by_key(|found| found.node);
        let mut own = own.into_iter().peekable();
        for (node, parent) in self.scan.nodes.iter().enumerate() {
            let above = of.get(*parent).copied().unwrap_or(Some(0));
            let mut here: Option<Option<usize>> = None;
            let (mut is_said, mut others) = (false, Vec::new());
            while let Some(found) = own.next_if(|found| found.node == node) {
                let uri = self.text(&found.element)?;
                let space = if is_absolute(&uri) { Some(&spaces[0]) } else { above.map(|index| &spaces[index]) };
                let below = space.and_then(|space| space.below(&uri));
                let place = space.map_or(Place::Elsewhere, |space| space.locate(&uri));
                if place == Place::Elsewhere {
                    others.push(&found.element);
                }
                is_said |= self.nested_base_url(&found.element, &uri, place)?;
                // The first on the origin counts, as for the MPD.
                if let (Some(below), None | Some(None)) = (below, here) {
                    spaces.push(below);
                    here = Some(Some(spaces.len() - 1));
                } else if here.is_none() {
                    here = Some(None);
                }
            }
            if is_said {
                self.remove_our_own(&others);
            }
            of.push(here.unwrap_or(above));
        }
        for (node, tag) in &self.scan.segments {
            if let Some(space) = of.get(*node).copied().flatten().map(|index| &spaces[index]) {
                self.segment_urls(tag, space)?;
            }
        }
        Ok(())
    }

    /// Whether it is now said once per pathway.
    fn nested_base_url(&mut self, element: &Element, uri: &str, place: Place) -> Result<bool, WriteError> {
        match place {
            Place::OnOrigin(path) if is_absolute(uri) || uri.starts_with('/') => {
                let urls = self.base_urls_for(&path, Some(element));
                self.edits.replace(element.span.clone(), urls.join(gap(self.xml, &element.span)))?;
                Ok(true)
            }
            Place::OnOrigin(_) => {
                // It goes with the pathway above it, and is none of its own.
                if let Some(span) = whole_attribute(self.xml, &element.tag, "serviceLocation") {
                    self.edits.replace(span, String::new())?;
                }
                Ok(false)
            }
            Place::Elsewhere => Ok(false),
            Place::OutsideBase => Err(WriteError::outside(uri)),
        }
    }

    /// Where an MPD is written once more, the pathways of the first time.
    fn remove_our_own(&mut self, elements: &[&Element]) {
        for element in elements {
            let location = value(self.xml, &element.tag, "serviceLocation");
            if location.is_some_and(|location| self.offers.iter().any(|offer| offer.id.as_str() == location)) {
                self.edits.remove(&element.span);
            }
        }
    }

    /// An attribute has one value for all pathways, so it becomes relative.
    fn segment_urls(&mut self, tag: &std::ops::Range<usize>, space: &Space) -> Result<(), WriteError> {
        for span in SEGMENT_URLS.iter().filter_map(|name| attribute(self.xml, tag, name)) {
            let uri = plain(&self.xml[span.clone()])?;
            match (space.locate(&uri), space.folder()) {
                (Place::OnOrigin(path), Place::OnOrigin(folder)) if is_absolute(&uri) || uri.starts_with('/') => {
                    self.edits.replace(span, escape(relative(&folder, &path)).into_owned())?;
                }
                (Place::OutsideBase, _) => return Err(WriteError::outside(&uri)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A clock at a relative URL was meant relative to the MPD, which has moved.
    fn timings(&mut self) -> Result<(), WriteError> {
        for tag in &self.scan.timings {
            let by_http = value(self.xml, tag, "schemeIdUri").is_some_and(|scheme| scheme.contains(":http-"));
            let Some(span) = attribute(self.xml, tag, "value").filter(|_| by_http) else { continue };
            let uri = plain(&self.xml[span.clone()])?;
            // A list of several URLs is left to the player.
            if has_scheme(&uri) || uri.contains(' ') {
                continue;
            }
            match self.space.locate(&uri) {
                Place::OnOrigin(path) => {
                    self.edits.replace(span, escape(self.offers[0].url(&path)).into_owned())?;
                }
                Place::OutsideBase => return Err(WriteError::outside(&uri)),
                Place::Elsewhere => {}
            }
        }
        Ok(())
    }

    fn text(&self, element: &Element) -> Result<String, WriteError> {
        let text = text_of(self.xml, &element.content)?;
        if text.len() > URI_MAX_BYTES { Err(WriteError::LongUri) } else { Ok(text) }
    }
}

fn is_absolute(uri: &str) -> bool {
    has_scheme(uri) || uri.starts_with("//")
}

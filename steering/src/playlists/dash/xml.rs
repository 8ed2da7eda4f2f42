//! Spans of an XML text: tags, attributes, and the edits between them.

use std::ops::Range;

use quick_xml::escape::unescape;

use crate::playlists::writer::WriteError;

/// Name of a tag with its prefix.
pub(crate) fn tag_name(tag: &str) -> &str {
    let inner = tag.trim_start_matches('<');
    inner.split(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').next().unwrap_or_default()
}

/// Spans (in `xml`) of the names and values of a tag's attributes. The tag is known to be well-formed.
fn attribute_spans<'x>(
    xml: &'x str,
    tag: &Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<'x> {
    let mut at = tag.start + 1 + tag_name(&xml[tag.clone()]).len();
    let end = tag.end;
    std::iter::from_fn(move || {
        let equals = at + xml[at..end].find('=')?;
        let name = xml[at..equals].trim();
        let name_start = at + xml[at..equals].find(name)?;
        let open = equals + 1 + xml[equals + 1..end].find(['"', '\''])?;
        let quote = char::from(xml.as_bytes()[open]);
        let length = xml[open + 1..end].find(quote)?;
        at = open + 1 + length + 1;
        Some((name_start..name_start + name.len(), open + 1..open + 1 + length))
    })
}

/// The value of an attribute where it stands; `name` with its prefix.
pub(crate) fn attribute(xml: &str, tag: &Range<usize>, name: &str) -> Option<Range<usize>> {
    attribute_spans(xml, tag).find(|(found, _)| &xml[found.clone()] == name).map(|(_, value)| value)
}

/// The value of an attribute.
pub(crate) fn value(xml: &str, tag: &Range<usize>, name: &str) -> Option<String> {
    plain(&xml[attribute(xml, tag, name)?]).ok()
}

/// The value of the attribute of this name in any namespace but its own.
pub(crate) fn value_of_local(xml: &str, tag: &Range<usize>, local: &str) -> Option<String> {
    let fits = |name: &str| name.rsplit_once(':').is_some_and(|(_, found)| found == local);
    let (_, value) = attribute_spans(xml, tag).find(|(name, _)| fits(&xml[name.clone()]))?;
    plain(&xml[value]).ok()
}

/// An attribute with the space before it, to be removed.
pub(crate) fn whole_attribute(xml: &str, tag: &Range<usize>, name: &str) -> Option<Range<usize>> {
    let (name, value) = attribute_spans(xml, tag).find(|(found, _)| &xml[found.clone()] == name)?;
    Some(xml[..name.start].trim_end().len()..value.end + 1)
}

/// A tag's attributes as they are written, each with a leading space, without `serviceLocation`.
pub(crate) fn attributes_but_location(tag: &str) -> String {
    let spans = attribute_spans(tag, &(0..tag.len()));
    let kept = spans.filter(|(name, _)| &tag[name.clone()] != "serviceLocation");
    kept.map(|(name, value)| format!(" {}", &tag[name.start..value.end + 1])).collect()
}

/// `text` with its entities replaced; only the five of XML and character references are known.
pub(crate) fn plain(text: &str) -> Result<String, WriteError> {
    unescape(text).map(std::borrow::Cow::into_owned).map_err(|error| WriteError::bad_xml(&error))
}

/// The text of an element that has nothing but text.
pub(crate) fn text_of(xml: &str, content: &Range<usize>) -> Result<String, WriteError> {
    let raw = xml[content.clone()].trim();
    if raw.contains('<') {
        return Err(WriteError::BadXml("markup in a BaseURL".into()));
    }
    plain(raw)
}

/// White space before `at` (after it, where something is inserted), to set new elements in line with the old ones.
pub(crate) fn gap<'x>(xml: &'x str, at: &Range<usize>) -> &'x str {
    if at.is_empty() {
        let after = &xml[at.start..];
        &after[..after.len() - after.trim_start().len()]
    } else {
        let before = &xml[..at.start];
        &before[before.trim_end().len()..]
    }
}

/// Replacements of spans of one text.
pub(crate) struct Edits<'x> {
    xml: &'x str,
    edits: Vec<(Range<usize>, String)>,
    added_bytes: usize,
    max_bytes: usize,
}

impl<'x> Edits<'x> {
    /// Of `xml`, with a result of at most `max_bytes`.
    pub(crate) fn new(xml: &'x str, max_bytes: usize) -> Self {
        Self { xml, edits: vec![], added_bytes: 0, max_bytes }
    }

    /// Puts `text` in the place of `span`; where that is empty, before what stands there.
    pub(crate) fn replace(&mut self, span: Range<usize>, text: String) -> Result<(), WriteError> {
        self.added_bytes += text.len();
        if self.xml.len() + self.added_bytes > self.max_bytes {
            return Err(WriteError::Outgrown(self.max_bytes));
        }
        self.edits.push((span, text));
        Ok(())
    }

    /// Removes an element with the white space before it.
    pub(crate) fn remove(&mut self, span: &Range<usize>) {
        let start = span.start - gap(self.xml, span).len();
        self.edits.push((start..span.end, String::new()));
    }

    /// The text with all edits made. Those inside an element that goes away go with it.
    pub(crate) fn apply(mut self) -> String {
        self.edits.sort_by_key(|(span, _)| (span.start, !span.is_empty(), std::cmp::Reverse(span.end)));
        let mut out = String::with_capacity(self.xml.len() + self.added_bytes);
        let mut at = 0;
        for (span, text) in self.edits {
            if span.start < at {
                continue;
            }
            out.push_str(&self.xml[at..span.start]);
            out.push_str(&text);
            at = span.end;
        }
        out.push_str(&self.xml[at..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_where_they_stand() {
        let tag = "<a:b c = 'x=\"1\"' serviceLocation=\"p\"\n d:href=\"&lt;y\"/>";
        let all = 0..tag.len();
        assert_eq!(value(tag, &all, "c").as_deref(), Some("x=\"1\""));
        assert_eq!(value_of_local(tag, &all, "href").as_deref(), Some("<y"));
        assert_eq!(value(tag, &all, "href"), None);
        assert_eq!(attributes_but_location(tag), " c = 'x=\"1\"' d:href=\"&lt;y\"");
        assert_eq!(
            whole_attribute(tag, &all, "serviceLocation").map(|span| &tag[span]),
            Some(" serviceLocation=\"p\"")
        );
    }

    #[test]
    fn an_edit_inside_a_removed_element_goes_with_it() {
        let xml = "<a> <b><c/></b> <d/></a>";
        let mut edits = Edits::new(xml, 100);
        let span = |part: &str| xml.find(part).map(|at| at..at + part.len()).expect("there");
        edits.replace(span("<c/>"), "x".into()).expect("small");
        edits.remove(&span("<b><c/></b>"));
        edits.replace(3..3, "new".into()).expect("small");
        assert_eq!(edits.apply(), "<a>new <d/></a>");
        let mut edits = Edits::new(xml, 30);
        assert!(edits.replace(0..0, "x".repeat(31)).is_err());
    }
}

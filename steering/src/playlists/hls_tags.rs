//! Lines and attribute lists of HLS playlists, as spans of the original text.

use std::ops::Range;

/// A line with its ending (`\n`, `\r\n`, or none at the end of the file).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) text: &'a str,
    pub(crate) ending: &'a str,
}

/// The lines of `text`; joined again they are the same bytes.
pub(crate) fn lines(text: &str) -> Vec<Line<'_>> {
    text.split_inclusive('\n')
        .map(|whole| {
            let text = whole.strip_suffix('\n').map_or(whole, |rest| rest.strip_suffix('\r').unwrap_or(rest));
            Line { text, ending: &whole[text.len()..] }
        })
        .collect()
}

/// One attribute: where its name and its value (without quotes) stand in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    name: Range<usize>,
    value: Range<usize>,
    pub(crate) quoted: bool,
}

/// A tag line with its attributes.
#[derive(Clone, Debug)]
pub(crate) struct Tag<'a> {
    line: Line<'a>,
    attributes: Vec<Attribute>,
}

impl<'a> Tag<'a> {
    /// Reads the attribute list after `prefix` (which ends with the colon). The error says what is wrong with it.
    pub(crate) fn parse(line: Line<'a>, prefix: &str) -> Result<Self, &'static str> {
        let text = line.text;
        let mut attributes = Vec::new();
        let mut at = prefix.len();
        while at < text.len() {
            let rest = &text[at..];
            let skipped = rest.len() - rest.trim_start().len();
            at += skipped;
            if at == text.len() {
                break;
            }
            let equals = text[at..].find('=').ok_or("an attribute has no value")?;
            let name = at..at + equals;
            let bytes = text[name.clone()].bytes();
            if name.is_empty() || !bytes.clone().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err("an attribute's name is not one");
            }
            at = name.end + 1;
            let quoted = text[at..].starts_with('"');
            let value = if quoted {
                let end = text[at + 1..].find('"').ok_or("a quoted string is not closed")?;
                at + 1..at + 1 + end
            } else {
                at..at + text[at..].find(',').unwrap_or(text.len() - at)
            };
            at = value.end + usize::from(quoted);
            attributes.push(Attribute { name, value, quoted });
            let rest = text[at..].trim_start();
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err("attributes are not separated by commas");
            }
            at = text.len() - rest.len() + usize::from(!rest.is_empty());
        }
        Ok(Self { line, attributes })
    }

    pub(crate) fn line(&self) -> Line<'a> {
        self.line
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| &self.line.text[attribute.name.clone()] == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.attribute(name).map(|attribute| &self.line.text[attribute.value.clone()])
    }

    /// The value, if it is a quoted string.
    pub(crate) fn string(&self, name: &str) -> Option<&'a str> {
        self.attribute(name).filter(|attribute| attribute.quoted)?;
        self.value(name)
    }

    /// The line (without ending) with quoted attributes set: existing values are replaced where they stand, the
    /// others appended; every other byte stays.
    pub(crate) fn with(&self, set: &[(&str, String)]) -> String {
        let text = self.line.text;
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let mut appended = String::new();
        for (name, value) in set {
            match self.attribute(name) {
                Some(attribute) if attribute.quoted => edits.push((attribute.value.clone(), value.clone())),
                Some(attribute) => edits.push((attribute.value.clone(), format!("\"{value}\""))),
                None => appended.push_str(&format!(",{name}=\"{value}\"")),
            }
        }
        let bare = text.trim_end().ends_with([',', ':']);
        let mut out = splice(text, edits);
        out.push_str(if bare { appended.strip_prefix(',').unwrap_or(&appended) } else { &appended });
        out
    }
}

/// `text` with the given spans replaced. Spans must not overlap.
pub(crate) fn splice(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let added: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut at = 0;
    for (span, new) in edits {
        out.push_str(&text[at..span.start]);
        out.push_str(&new);
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Result<Tag<'_>, &'static str> {
        Tag::parse(Line { text, ending: "\n" }, "#X:")
    }

    #[test]
    fn attributes_are_read_and_set_where_they_stand() {
        let text = "#X:BANDWIDTH=1,CODECS=\"avc1,mp4a\",AUDIO=\"a\", RES=1x2 ,X-Y=0xF";
        let tag = tag(text).expect("a list");
        assert_eq!(tag.value("CODECS"), Some("avc1,mp4a"));
        assert_eq!(tag.value("RES"), Some("1x2 "));
        assert_eq!(tag.string("BANDWIDTH"), None);
        assert_eq!(
            tag.with(&[("AUDIO", "a/b".into()), ("P", "q".into())]),
            "#X:BANDWIDTH=1,CODECS=\"avc1,mp4a\",AUDIO=\"a/b\", RES=1x2 ,X-Y=0xF,P=\"q\""
        );
        assert_eq!(tag.with(&[]), text);
    }

    #[test]
    fn a_broken_list_says_what_is_wrong() {
        for broken in ["#X:A=\"b", "#X:A", "#X:A=\"b\"C=1", "#X:=1", "#X:A B=1"] {
            assert!(tag(broken).is_err(), "{broken}");
        }
        for tolerable in ["#X:", "#X:A=1,", "#X: A=1", "#X:A="] {
            assert!(tag(tolerable).is_ok(), "{tolerable}");
        }
    }

    #[test]
    fn lines_join_to_the_same_bytes() {
        for text in ["", "a", "a\n", "a\r\nb\n\r\n\nc", "\r", "a\r"] {
            let joined: String = lines(text).iter().map(|line| format!("{}{}", line.text, line.ending)).collect();
            assert_eq!(joined, text);
        }
    }
}

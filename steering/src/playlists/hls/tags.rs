//! Lines and attribute lists of HLS playlists, as spans of the original text.

use std::ops::Range;

/// A line with its ending (`\n`, `\r\n`, or none at the end of the file).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) text: &'a str,
    pub(crate) ending: &'a str,
}

/// The lines of `text`; joined again they are the same bytes.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.split_inclusive('\n').map(|whole| {
        let text = whole.strip_suffix('\n').map_or(whole, |rest| rest.strip_suffix('\r').unwrap_or(rest));
        Line { text, ending: &whole[text.len()..] }
    })
}

/// One attribute: where its name and its value (without quotes) stand in the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    name: Range<usize>,
    pub(crate) value: Range<usize>,
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
        let mut attributes: Vec<Attribute> = Vec::with_capacity(12);
        let mut at = prefix.len();
        while at < text.len() {
            at = skip_space(text, at);
            if at == text.len() {
                break;
            }
            // One comma too many is nothing to break over.
            if text.as_bytes()[at] == b',' {
                at += 1;
                continue;
            }
            let equals = find(text, at, b'=').ok_or("an attribute has no value")?;
            let name = at..equals;
            let bytes = &text.as_bytes()[name.clone()];
            if name.is_empty() || !bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
                return Err("an attribute's name is not one");
            }
            if attributes.len() >= ATTRIBUTES_MAX {
                return Err("there are too many attributes");
            }
            if attributes.iter().any(|known| text[known.name.clone()] == text[name.clone()]) {
                return Err("an attribute occurs twice");
            }
            at = name.end + 1;
            let quoted = text.as_bytes().get(at) == Some(&b'"');
            let value = if quoted {
                at + 1..find(text, at + 1, b'"').ok_or("a quoted string is not closed")?
            } else {
                at..find(text, at, b',').unwrap_or(text.len())
            };
            at = skip_space(text, value.end + usize::from(quoted));
            attributes.push(Attribute { name, value, quoted });
            if at < text.len() && text.as_bytes()[at] != b',' {
                return Err("attributes are not separated by commas");
            }
            at += 1;
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

    /// The value as a number of bits per second.
    pub(crate) fn bits_per_second(&self, name: &str) -> Option<u64> {
        self.value(name)?.trim().parse().ok()
    }
}

/// More than any tag has.
const ATTRIBUTES_MAX: usize = 64;

fn find(text: &str, from: usize, byte: u8) -> Option<usize> {
    text.as_bytes()[from..].iter().position(|b| *b == byte).map(|found| from + found)
}

fn skip_space(text: &str, from: usize) -> usize {
    let spaces = text.as_bytes()[from..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    from + spaces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(text: &str) -> Result<Tag<'_>, &'static str> {
        Tag::parse(Line { text, ending: "\n" }, "#X:")
    }

    #[test]
    fn attributes_are_read_as_they_stand() {
        let text = "#X:BANDWIDTH=1,CODECS=\"avc1,mp4a\",AUDIO=\"a\", RES=1x2 ,X-Y=0xF";
        let tag = tag(text).expect("a list");
        assert_eq!(tag.value("CODECS"), Some("avc1,mp4a"));
        assert_eq!(tag.value("RES"), Some("1x2 "));
        assert_eq!(tag.string("BANDWIDTH"), None);
        assert_eq!(tag.bits_per_second("BANDWIDTH"), Some(1));
        assert_eq!(tag.value("X-Y"), Some("0xF"));
    }

    #[test]
    fn a_broken_list_says_what_is_wrong() {
        for broken in ["#X:A=\"b", "#X:A", "#X:A=\"b\"C=1", "#X:=1", "#X:A B=1", "#X:A=1,A=2", "#X:ü=1"] {
            assert!(tag(broken).is_err(), "{broken}");
        }
        for tolerable in ["#X:", "#X:A=1,", "#X: A=1", "#X:A=", "#X:A=\"ü\" , B=é", "#X:,A=1,,B=2"] {
            assert!(tag(tolerable).is_ok(), "{tolerable}");
        }
        let many: String = (0..=ATTRIBUTES_MAX).map(|n| format!("A{n}=1,")).collect();
        assert_eq!(tag(&format!("#X:{many}")).expect_err("many"), "there are too many attributes");
    }

    #[test]
    fn lines_join_to_the_same_bytes() {
        for text in ["", "a", "a\n", "a\r\nb\n\r\n\nc", "\r", "a\r"] {
            let joined: String = lines(text).map(|line| format!("{}{}", line.text, line.ending)).collect();
            assert_eq!(joined, text);
        }
    }
}

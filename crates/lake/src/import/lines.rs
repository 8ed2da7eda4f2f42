//! Lines of a log, each of bounded length, with the hash of all bytes. Of a log that is a JSON array, its elements are
//! the lines, wherever its line feeds are.

use std::io::{BufRead as _, BufReader, Read};

use sha2::{Digest as _, Sha256};

/// A longer line is no request: CloudFront's URLs end at 8 KB, Akamai's lines at some 16 KB.
const LINE_MAX_BYTES: usize = 128 << 10;

struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Reads lines.
pub(super) struct Lines<R> {
    reader: BufReader<Hashing<R>>,
    buffer: Vec<u8>,
    number: u64,
    /// Whether the log is an array; `None`: not looked yet.
    array: Option<bool>,
}

/// One line.
pub(super) struct Line<'a> {
    /// From 1; of an array the number of the element.
    pub(super) number: u64,
    /// Without its end, or the reason why it can't be read.
    pub(super) text: Result<&'a str, &'static str>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(log: R) -> Self {
        let reader = BufReader::with_capacity(1 << 18, Hashing { inner: log, hasher: Sha256::new() });
        Self { reader, buffer: Vec::new(), number: 0, array: None }
    }

    /// Whether the first character is the bracket of an array.
    fn is_array(&mut self) -> std::io::Result<bool> {
        if let Some(array) = self.array {
            return Ok(array);
        }
        let begin = self.reader.fill_buf()?;
        let text = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin);
        let array = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        self.array = Some(array);
        Ok(array)
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        if self.is_array()? {
            return self.next_element();
        }
        let limit = LINE_MAX_BYTES as u64 + 1;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let text = if self.buffer.last() != Some(&b'\n') && read as u64 == limit {
            self.skip_line()?;
            Err("line_too_long")
        } else {
            std::str::from_utf8(&self.buffer).map(|text| text.trim_end_matches(['\n', '\r'])).map_err(|_| "bad_utf8")
        };
        Ok(Some(Line { number: self.number, text }))
    }

    /// The next element of an array. What stands between elements is left out, so that arrays one behind the other are
    /// read too.
    fn next_element(&mut self) -> std::io::Result<Option<Line<'_>>> {
        let mut element = Element::default();
        let mut length = 0;
        while !element.ended {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                if !element.begun {
                    return Ok(None);
                }
                break;
            }
            let mut used = 0;
            for byte in available {
                let taken = element.takes(*byte);
                if element.ended && !taken {
                    break;
                }
                used += 1;
                if taken {
                    length += 1;
                    if length <= LINE_MAX_BYTES {
                        self.buffer.push(*byte);
                    }
                }
                if element.ended {
                    break;
                }
            }
            self.reader.consume(used);
        }
        self.number += 1;
        let text = if length > LINE_MAX_BYTES {
            Err("line_too_long")
        } else {
            std::str::from_utf8(self.buffer.trim_ascii_end()).map_err(|_| "bad_utf8")
        };
        Ok(Some(Line { number: self.number, text }))
    }

    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let available = self.reader.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(available.len(), |at| at + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// The hash of everything that was read, hex.
    pub(super) fn into_sha256(self) -> String {
        super::hex(self.reader.into_inner().hasher)
    }
}

/// Where in an element of an array the reader is.
#[derive(Debug, Default)]
struct Element {
    begun: bool,
    ended: bool,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Element {
    /// Whether `byte` is part of the element. If it ended and did not take the byte, that is for the next one.
    fn takes(&mut self, byte: u8) -> bool {
        if !self.begun {
            let between = byte.is_ascii_whitespace() || matches!(byte, b',' | b'[' | b']' | 0xef | 0xbb | 0xbf);
            self.begun = !between;
            if between {
                return false;
            }
        }
        match byte {
            // No text of JSON holds a line feed: the element is broken, and what follows need not be.
            b'\n' if self.in_text => self.ended = true,
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_text => self.escaped = true,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                self.ended = self.depth == 0;
            }
            b',' | b']' | b'\n' if self.depth == 0 => {
                self.ended = true;
                return false;
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_and_a_long_one_costs_only_itself() {
        let long = "x".repeat(LINE_MAX_BYTES + 300_000);
        let log = format!("one\r\n\n{long}\nfour\n\u{e4}\nlast");
        let mut bytes = log.clone().into_bytes();
        bytes.extend(b"\n\xff\xfe");
        let mut lines = Lines::new(&bytes[..]);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().expect("read") {
            seen.push((line.number, line.text.map(str::to_owned)));
        }
        let ok = |number, text: &str| (number, Ok(text.to_owned()));
        assert_eq!(
            seen,
            [
                ok(1, "one"),
                ok(2, ""),
                (3, Err("line_too_long")),
                ok(4, "four"),
                ok(5, "\u{e4}"),
                ok(6, "last"),
                (7, Err("bad_utf8")),
            ]
        );
        assert_eq!(lines.into_sha256(), super::super::hash_of(&bytes[..]).expect("hash"));
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one() {
        let log = format!("{}\nb", "x".repeat(LINE_MAX_BYTES));
        let mut lines = Lines::new(log.as_bytes());
        assert_eq!(lines.next().expect("read").expect("a line").text.map(str::len), Ok(LINE_MAX_BYTES));
        assert_eq!(lines.next().expect("read").expect("a line").text, Ok("b"));
        assert!(lines.next().expect("read").is_none());
    }

    fn all(log: &[u8]) -> Vec<(u64, Result<String, &'static str>)> {
        let mut lines = Lines::new(log);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().expect("read") {
            seen.push((line.number, line.text.map(str::to_owned)));
        }
        assert_eq!(lines.into_sha256(), super::super::hash_of(log).expect("hash"));
        seen
    }

    #[test]
    fn elements_of_an_array_are_lines_wherever_its_line_feeds_are() {
        let elements = [r#"{"a":"[1,2]} \\\" {","b":{"c":[1,{"d":2}]}}"#, "{}", "7", r#""text, too""#];
        let expected: Vec<_> = (1..).zip(elements).map(|(number, text)| (number, Ok(text.to_owned()))).collect();
        for log in [
            format!("[{}]", elements.join(",")),
            format!("\u{feff} [\n{}\n]\n", elements.join(",\n")),
            format!("[{}]\n[{}]", elements[..1].join(","), elements[1..].join(" , ")),
            format!("[{}", elements.join(",")),
        ] {
            assert_eq!(all(log.as_bytes()), expected, "{log}");
        }
        assert_eq!(all(b"[]"), []);
        assert_eq!(all(b"[ \n ]\n"), []);
    }

    #[test]
    fn a_broken_element_costs_little_and_a_long_one_only_itself() {
        let long = "x".repeat(LINE_MAX_BYTES + 1);
        let log = format!("[{{\"a\":\"unclosed}},\n{{\"b\":1}},{{\"c\":\"{long}\"}},{{\"d\":2}}]");
        let seen = all(log.as_bytes());
        let told: Vec<_> = seen.iter().map(|(number, text)| (*number, text.as_deref().map(str::trim_end))).collect();
        assert_eq!(
            told,
            [(1, Ok("{\"a\":\"unclosed},")), (2, Ok("{\"b\":1}")), (3, Err(&"line_too_long")), (4, Ok("{\"d\":2}")),]
        );
    }
}

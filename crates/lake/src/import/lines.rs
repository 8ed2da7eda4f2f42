//! Lines of a log, each of bounded length, with the hash of all bytes.

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
}

/// One line.
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// Without its end, or the reason why it can't be read.
    pub(super) text: Result<&'a str, &'static str>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(log: R) -> Self {
        let reader = BufReader::with_capacity(1 << 18, Hashing { inner: log, hasher: Sha256::new() });
        Self { reader, buffer: Vec::new(), number: 0 }
    }

    /// The next line; `None` at the end.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Line<'_>>> {
        self.buffer.clear();
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
}

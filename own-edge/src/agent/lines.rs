//! Bytes into lines, however they come.

/// Longer lines are nobody's: a target, a user agent and a header of 8 KiB each fit.
const LINE_MAX_BYTES: usize = 32 * 1024;

/// The line that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    /// Up to the next line feed, everything belongs to a line that is not wanted.
    skipping: bool,
}

impl Lines {
    /// Lines of which the first one's beginning isn't known.
    pub(super) fn amid() -> Self {
        Self { begun: Vec::new(), skipping: true }
    }

    /// Hands each line that ends in `bytes` to `each`, without its line feed; `None` is one that was too long.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Option<&[u8]>)) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            self.take(&rest[..end], &mut each);
            if !self.skipping {
                each(Some(&self.begun));
            }
            self.skipping = false;
            self.begun.clear();
            rest = &rest[end + 1..];
        }
        self.take(rest, &mut each);
    }

    fn take(&mut self, part: &[u8], each: &mut impl FnMut(Option<&[u8]>)) {
        if self.skipping {
            return;
        }
        if self.begun.len() + part.len() > LINE_MAX_BYTES {
            each(None);
            self.skipping = true;
            self.begun.clear();
        } else {
            self.begun.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(lines: &mut Lines, parts: &[&[u8]]) -> Vec<Option<String>> {
        let mut out = Vec::new();
        for part in parts {
            lines.push(part, |line| out.push(line.map(|line| String::from_utf8_lossy(line).into_owned())));
        }
        out
    }

    #[test]
    fn a_line_ends_where_its_line_feed_is() {
        let whole = |text: &str| Some(text.to_owned());
        let mut lines = Lines::default();
        assert_eq!(split(&mut lines, &[b"a", b"b\nc\n\nd"]), [whole("ab"), whole("c"), whole("")]);
        assert_eq!(split(&mut lines, &[b"e\n"]), [whole("de")]);
        assert_eq!(split(&mut Lines::amid(), &[b"half", b" a line\nwhole\n"]), [whole("whole")]);
    }

    #[test]
    fn a_line_without_an_end_takes_no_memory_and_counts_once() {
        let mut lines = Lines::default();
        let mut long = Vec::new();
        for _ in 0..100 {
            long.extend(split(&mut lines, &[&[b'x'; 10_000]]));
            assert!(lines.begun.capacity() <= 2 * LINE_MAX_BYTES);
        }
        assert_eq!(long, [None]);
        assert_eq!(split(&mut lines, &[b"y\nz\n"]), [Some("z".to_owned())]);
    }
}

//! The bytes of a body that one request gets: one range of it, or several with a head before each
//! (`multipart/byteranges`, RFC 9110, 14.6).

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use futures::StreamExt as _;
use http::HeaderValue;

use crate::cache::fill::Reader;
use crate::cache::object::Object;
use crate::respond::body::{Arriving, Cut};

/// What goes out, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Text(Bytes),
    /// Bytes of the body.
    Body(Range<u64>),
}

/// What of a body goes out.
#[derive(Debug)]
pub(crate) enum Spans {
    /// Some bytes of it.
    One(Range<u64>),
    /// Several such, as a body of their own.
    Several(Multipart),
}

/// A body of parts.
#[derive(Debug)]
pub(crate) struct Multipart {
    steps: VecDeque<Step>,
    /// Bytes of all.
    pub len: u64,
    /// Its media type.
    pub kind: String,
}

impl Multipart {
    /// Of a body of `whole` bytes that is of `kind`.
    pub(crate) fn new(ranges: Vec<Range<u64>>, whole: u64, kind: Option<&HeaderValue>) -> Self {
        // Nobody who makes a body can know it, so none holds it.
        let boundary = format!("{:016x}", RandomState::new().hash_one(whole));
        Self::bounded(ranges, whole, kind, &boundary)
    }

    fn bounded(ranges: Vec<Range<u64>>, whole: u64, kind: Option<&HeaderValue>, boundary: &str) -> Self {
        let mut steps = VecDeque::with_capacity(2 * ranges.len() + 1);
        let mut len = 0;
        for (at, range) in ranges.into_iter().enumerate() {
            let mut head = Vec::from(if at == 0 { "" } else { "\r\n" });
            head.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            if let Some(kind) = kind {
                head.extend_from_slice(b"Content-Type: ");
                head.extend_from_slice(kind.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            let place = format!("Content-Range: bytes {}-{}/{whole}\r\n\r\n", range.start, range.end - 1);
            head.extend_from_slice(place.as_bytes());
            len += head.len() as u64 + (range.end - range.start);
            steps.extend([Step::Text(head.into()), Step::Body(range)]);
        }
        let end = format!("\r\n--{boundary}--\r\n");
        len += end.len() as u64;
        steps.push_back(Step::Text(end.into()));
        Self { steps, len, kind: format!("multipart/byteranges; boundary={boundary}") }
    }
}

impl Spans {
    fn steps(self) -> VecDeque<Step> {
        match self {
            Self::One(range) => VecDeque::from([Step::Body(range)]),
            Self::Several(Multipart { steps, .. }) => steps,
        }
    }

    /// Of a kept object.
    pub(crate) fn of_object(self, object: Arc<Object>) -> Arriving {
        let stored = object.body.stored();
        futures::stream::unfold(self.steps(), move |mut steps| {
            let next = loop {
                match steps.front_mut() {
                    None => break None,
                    Some(Step::Text(text)) => {
                        let text = std::mem::take(text);
                        steps.pop_front();
                        break Some(Ok(text));
                    }
                    Some(Step::Body(range)) => match stored.part(range.start, range.end) {
                        Ok(Some(part)) => {
                            range.start += part.len() as u64;
                            break Some(Ok(part));
                        }
                        Ok(None) => drop(steps.pop_front()),
                        Err(_) => break Some(Err(Cut)),
                    },
                }
            };
            std::future::ready(next.map(|next| (next, steps)))
        })
        .boxed()
    }

    /// Of what arrives.
    pub(crate) fn of_reader(self, reader: Reader) -> Arriving {
        let skipping = Skipping { reader, at: 0, came: Bytes::new() };
        futures::stream::unfold((self.steps(), skipping), async |(mut steps, mut skipping)| {
            loop {
                match steps.front_mut()? {
                    Step::Text(text) => {
                        let text = std::mem::take(text);
                        steps.pop_front();
                        return Some((Ok(text), (steps, skipping)));
                    }
                    Step::Body(range) => match skipping.next(range).await {
                        Some(next) => return Some((next, (steps, skipping))),
                        None => drop(steps.pop_front()),
                    },
                }
            }
        })
        .boxed()
    }
}

/// A reader that leaves out what lies before a range.
struct Skipping {
    reader: Reader,
    /// Where `came` begins.
    at: u64,
    /// Read, and not wanted yet.
    came: Bytes,
}

impl Skipping {
    /// The next bytes of `range`, which shrinks by them; `None` behind them.
    async fn next(&mut self, range: &mut Range<u64>) -> Option<Result<Bytes, Cut>> {
        while !range.is_empty() {
            if self.came.is_empty() {
                match self.reader.next().await? {
                    Ok(bytes) => self.came = bytes,
                    Err(_) => return Some(Err(Cut)),
                }
            }
            let skipped = range.start.saturating_sub(self.at).min(self.came.len() as u64);
            self.came.advance(skipped as usize);
            let taken = self.came.len().min(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
            let wanted = self.came.split_to(taken);
            self.at += skipped + taken as u64;
            range.start += taken as u64;
            if taken > 0 {
                return Some(Ok(wanted));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_heads_an_end_and_the_length_that_is_told() {
        let kind = HeaderValue::from_static("video/mp4");
        let parts = Multipart::bounded(vec![0..2, 500..600], 1_000, Some(&kind), "b");
        let sizes = parts.steps.iter().map(|step| match step {
            Step::Text(text) => text.len() as u64,
            Step::Body(range) => range.end - range.start,
        });
        assert_eq!(sizes.sum::<u64>(), parts.len);
        let text = |text: &'static str| Step::Text(Bytes::from_static(text.as_bytes()));
        assert_eq!(
            Vec::from(parts.steps),
            [
                text("--b\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-1/1000\r\n\r\n"),
                Step::Body(0..2),
                text("\r\n--b\r\nContent-Type: video/mp4\r\nContent-Range: bytes 500-599/1000\r\n\r\n"),
                Step::Body(500..600),
                text("\r\n--b--\r\n"),
            ]
        );
        assert_eq!(parts.kind, "multipart/byteranges; boundary=b");
    }
}

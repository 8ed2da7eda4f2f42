//! Bodies that clients get: nothing, a few bytes, a kept object, or what is still arriving.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use hyper::body::{Body, Frame, SizeHint};

use spillway_model::Millis;

use crate::access::Open;
use crate::cache::disk::OpenFile;
use crate::cache::object::{Key, Object, Stored};
use crate::edge::Edge;
use crate::serve::admit::SessionKey;
use crate::serve::socket::CutFlag;

/// The body ended before its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("send a body whose source ended early")]
pub(crate) struct Cut;

/// What is still arriving, in order.
pub(crate) type Arriving = Pin<Box<dyn Stream<Item = Result<Bytes, Cut>> + Send>>;

enum Source {
    Bytes(Option<Bytes>),
    Kept { object: Arc<Object>, stored: Stored, at: u64, end: u64 },
    Arriving { stream: Arriving, left: Option<u64> },
}

/// A body.
pub(crate) struct EdgeBody {
    source: Source,
    delivery: Option<Delivery>,
    line: Option<Box<Open>>,
    on_cut: Option<CutFlag>,
}

/// Who gets it and how much they got.
pub(crate) struct Delivery {
    pub edge: Arc<Edge>,
    pub key: Key,
    pub session: SessionKey,
    /// When its request came.
    pub began: Millis,
    pub bytes: u64,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.edge.meter.delivered(&self.key, self.bytes);
            // It was noted when it began; only a long one says more.
            if self.edge.meter.newest_second() > self.began.0 / 1000 {
                self.edge.sessions.served(self.session, self.edge.now());
            }
        }
    }
}

impl EdgeBody {
    /// A body of these bytes, none of media.
    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self { source: Source::Bytes((!bytes.is_empty()).then_some(bytes)), delivery: None, line: None, on_cut: None }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    /// The bytes of `object` from `at` up to, without, `end`.
    pub(crate) fn object(object: Arc<Object>, at: u64, end: u64, delivery: Delivery) -> Self {
        let source = Source::Kept { stored: object.body.stored(), object, at, end };
        Self { source, delivery: Some(delivery), line: None, on_cut: None }
    }

    /// What arrives; `left` is its length where that is known.
    pub(crate) fn arriving(stream: Arriving, left: Option<u64>, delivery: Delivery) -> Self {
        Self { source: Source::Arriving { stream, left }, delivery: Some(delivery), line: None, on_cut: None }
    }

    /// What comes in place of another body, that knows who gets it.
    pub(crate) fn instead(stream: Arriving, len: Option<u64>) -> Self {
        Self { source: Source::Arriving { stream, left: len }, delivery: None, line: None, on_cut: None }
    }

    /// Its bytes, as far as they are known.
    pub(crate) fn len(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// Sets `flag` where it can't be completed: its end may be the connection's end.
    pub(crate) fn on_cut(&mut self, flag: CutFlag) {
        self.on_cut = Some(flag);
    }

    /// The next bytes.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        let next = std::task::ready!(self.source.poll_next(cx));
        match &next {
            Some(Ok(bytes)) => self.hand_over(bytes.len() as u64),
            Some(Err(Cut)) => {
                if let Some(flag) = &self.on_cut {
                    flag.set();
                }
            }
            None => {}
        }
        Poll::Ready(next)
    }

    /// The rest of the body as a part of a file, where it is one: bytes from the first up to, without, the second.
    pub(crate) fn file(&self) -> Option<(Arc<OpenFile>, Range<u64>)> {
        match &self.source {
            Source::Kept { stored: Stored::File(file), at, end, .. } if at < end => Some((file.clone(), *at..*end)),
            _ => None,
        }
    }

    /// The kept object that it is of.
    pub(crate) fn kept(&self) -> Option<&Arc<Object>> {
        match &self.source {
            Source::Kept { object, .. } => Some(object),
            _ => None,
        }
    }

    /// So many bytes of the file were sent.
    pub(crate) fn sent(&mut self, bytes: u64) {
        if let Source::Kept { at, .. } = &mut self.source {
            *at += bytes;
        }
        self.hand_over(bytes);
    }

    /// The file can't be read.
    pub(crate) fn file_failed(&self) {
        if let (Source::Kept { object, .. }, Some(delivery)) = (&self.source, &self.delivery) {
            delivery.edge.drop_damaged(&delivery.key, object);
        }
    }

    fn hand_over(&mut self, bytes: u64) {
        if let Some(line) = &mut self.line {
            line.bytes += bytes;
        }
        if let Some(delivery) = &mut self.delivery {
            delivery.bytes += bytes;
        }
    }

    /// Logs the request when the body is gone.
    pub(crate) fn log(&mut self, line: Open) {
        self.line = Some(Box::new(line));
    }
}

impl Source {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        match self {
            Self::Bytes(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Self::Kept { stored, at, end, .. } => Poll::Ready(match stored.part(*at, *end) {
                Ok(Some(part)) => {
                    *at += part.len() as u64;
                    Some(Ok(part))
                }
                Ok(None) => None,
                Err(_) => Some(Err(Cut)),
            }),
            Self::Arriving { left: Some(0), .. } => Poll::Ready(None),
            Self::Arriving { stream, left } => {
                let next = std::task::ready!(stream.as_mut().poll_next(cx));
                match (next, left) {
                    (Some(Ok(bytes)), Some(left)) if bytes.len() as u64 > *left => {
                        *left = 0;
                        Poll::Ready(Some(Err(Cut)))
                    }
                    (Some(Ok(bytes)), left) => {
                        if let Some(left) = left {
                            *left -= bytes.len() as u64;
                        }
                        Poll::Ready(Some(Ok(bytes)))
                    }
                    (None, Some(_)) => Poll::Ready(Some(Err(Cut))),
                    (other, _) => Poll::Ready(other),
                }
            }
        }
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.poll_next(cx).map(|next| next.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Bytes(bytes) => bytes.is_none(),
            Source::Kept { at, end, .. } => at >= end,
            Source::Arriving { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Kept { at, end, .. } => SizeHint::with_exact(end.saturating_sub(*at)),
            Source::Arriving { left: Some(left), .. } => SizeHint::with_exact(*left),
            Source::Arriving { left: None, .. } => SizeHint::default(),
        }
    }
}

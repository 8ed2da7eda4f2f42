//! Bodies that clients get: nothing, a few bytes, a kept object, or what is still arriving.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use hyper::body::{Body, Frame, SizeHint};

use crate::access::Open;
use crate::admit::SessionKey;
use crate::connection::Shared;
use crate::edge::Edge;
use crate::object::{Key, Object};

/// The body ended before its end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("send a body whose source ended early")]
pub(crate) struct Cut;

/// What is still arriving, in order.
pub(crate) type Arriving = Pin<Box<dyn Stream<Item = Result<Bytes, Cut>> + Send>>;

enum Source {
    Bytes(Option<Bytes>),
    Object { object: Arc<Object>, at: u64, end: u64 },
    Arriving { stream: Arriving, left: Option<u64> },
}

/// A body.
pub(crate) struct EdgeBody {
    source: Source,
    delivery: Option<Delivery>,
    line: Option<Box<Open>>,
}

/// Who gets it and how much they got.
pub(crate) struct Delivery {
    pub edge: Arc<Edge>,
    pub key: Key,
    pub session: SessionKey,
    /// For HTTP/1: a body whose end is the connection's end must not look complete when it is not.
    pub connection: Option<Arc<Shared>>,
    pub bytes: u64,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.edge.meter.delivered(&self.key, self.bytes);
            self.edge.sessions.served(self.session, self.edge.now());
        }
    }
}

impl EdgeBody {
    /// A body of these bytes, none of media.
    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self { source: Source::Bytes((!bytes.is_empty()).then_some(bytes)), delivery: None, line: None }
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::bytes(Bytes::new())
    }

    /// The bytes of `object` from `at` up to, without, `end`.
    pub(crate) fn object(object: Arc<Object>, at: u64, end: u64, delivery: Delivery) -> Self {
        Self { source: Source::Object { object, at, end }, delivery: Some(delivery), line: None }
    }

    /// What arrives; `left` is its length where that is known.
    pub(crate) fn arriving(stream: Arriving, left: Option<u64>, delivery: Delivery) -> Self {
        Self { source: Source::Arriving { stream, left }, delivery: Some(delivery), line: None }
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
            Self::Object { object, at, end } => {
                let piece = object.body.from(*at, *end);
                *at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Poll::Ready(piece.map(Ok))
            }
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
        let this = &mut *self;
        let next = std::task::ready!(this.source.poll_next(cx));
        if let (Some(line), Some(Ok(bytes))) = (&mut this.line, &next) {
            line.bytes += bytes.len() as u64;
        }
        if let Some(delivery) = &mut this.delivery {
            match &next {
                Some(Ok(bytes)) => delivery.bytes += bytes.len() as u64,
                Some(Err(Cut)) => {
                    if let Some(connection) = &delivery.connection {
                        connection.reset_at_end();
                    }
                }
                None => {}
            }
        }
        Poll::Ready(next.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Bytes(bytes) => bytes.is_none(),
            Source::Object { at, end, .. } => at >= end,
            Source::Arriving { left, .. } => *left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::Object { at, end, .. } => SizeHint::with_exact(end.saturating_sub(*at)),
            Source::Arriving { left: Some(left), .. } => SizeHint::with_exact(*left),
            Source::Arriving { left: None, .. } => SizeHint::default(),
        }
    }
}

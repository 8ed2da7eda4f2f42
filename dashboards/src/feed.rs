//! Every open page's stream of server-sent events.
//!
//! Each client has a short queue. Who does not read for the length of it is dropped, so that neither the others nor
//! the memory pay for it; its page connects again by itself.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Frames that wait for one client: about eight seconds.
const QUEUE_MAX: usize = 4;
/// Pages open at once.
const CLIENTS_MAX: usize = 256;
/// What a client waits before it connects again.
const RETRY_MS: u32 = 2_000;

/// All clients; `None` once the streams have ended for good.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Arc<Mutex<Option<Vec<mpsc::Sender<Bytes>>>>>);

/// Why a client gets no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoStream {
    /// As many as there may be have one.
    Full,
    /// The process ends.
    Ending,
}

impl Feed {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    /// A stream that begins with `first`.
    pub(crate) fn join(&self, first: Bytes) -> Result<mpsc::Receiver<Bytes>, NoStream> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = clients.as_mut().ok_or(NoStream::Ending)?;
        clients.retain(|client| !client.is_closed());
        if clients.len() >= CLIENTS_MAX {
            return Err(NoStream::Full);
        }
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        // A new queue has room.
        let _ = sender.try_send(first);
        clients.push(sender);
        Ok(receiver)
    }

    /// Sends `frame` to everyone; drops who has no room for it. Returns how many were dropped for being slow.
    pub(crate) fn send(&self, frame: &Bytes) -> usize {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slow = 0;
        if let Some(clients) = clients.as_mut() {
            clients.retain(|client| match client.try_send(frame.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    slow += 1;
                    false
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            });
        }
        slow
    }

    /// Whether anybody listens.
    pub(crate) fn len(&self) -> usize {
        let clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.as_ref().map_or(0, |clients| clients.iter().filter(|client| !client.is_closed()).count())
    }

    /// Ends every stream, and lets none begin.
    pub(crate) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A comment: keeps proxies from closing a quiet stream, and finds clients that have gone.
pub(crate) fn heartbeat() -> Bytes {
    Bytes::from_static(b": beat\n\n")
}

/// One event of name `board` with `html` as its data.
pub(crate) fn frame(at_ms: u64, html: &str) -> Bytes {
    let mut text = String::with_capacity(html.len() + html.len() / 32 + 64);
    text.push_str(&format!("retry: {RETRY_MS}\nid: {at_ms}\nevent: board\n"));
    // A line break of any kind inside the text would otherwise begin a field of its own.
    for line in html.split(['\n', '\r']).filter(|line| !line.is_empty()) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_break_in_the_data_begins_a_field() {
        let frame = frame(7, "<p>\r\nevent: evil\rdata: evil\n\n</p>");
        let text = std::str::from_utf8(&frame).expect("text");
        assert_eq!(
            text,
            "retry: 2000\nid: 7\nevent: board\ndata: <p>\ndata: event: evil\ndata: data: evil\ndata: </p>\n\n"
        );
    }

    #[test]
    fn a_client_that_does_not_read_is_dropped_and_the_others_are_not() {
        let feed = Feed::new();
        let mut reader = feed.join(heartbeat()).expect("room");
        let mut sleeper = feed.join(heartbeat()).expect("room");
        let mut slow = 0;
        for n in 0..10 {
            assert!(reader.try_recv().is_ok());
            slow += feed.send(&frame(n, "x"));
        }
        assert_eq!((slow, feed.len()), (1, 1));
        let left = std::iter::from_fn(|| sleeper.try_recv().ok()).count();
        assert_eq!(left, QUEUE_MAX, "its queue is bounded");
        assert_eq!(sleeper.try_recv(), Err(mpsc::error::TryRecvError::Disconnected), "and its stream ends");
    }

    #[test]
    fn there_is_a_bound_on_clients_and_who_left_makes_room() {
        let feed = Feed::new();
        let mut clients: Vec<_> = (0..CLIENTS_MAX).map(|_| feed.join(heartbeat()).expect("room")).collect();
        assert_eq!(feed.join(heartbeat()).expect_err("full"), NoStream::Full);
        clients.pop();
        let _again = feed.join(heartbeat()).expect("room again");
        feed.end();
        assert_eq!(feed.join(heartbeat()).expect_err("ended"), NoStream::Ending);
    }
}

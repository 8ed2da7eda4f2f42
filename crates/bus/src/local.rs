//! The bus of one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use crate::{Bus, HttpPush};

/// Messages a subscriber may lag behind before it loses the oldest.
const LAG_MAX: usize = 1_024;

/// In-process bus, and the front of all others: what is published here also goes to the peers of [`HttpPush`].
#[derive(Clone, Default)]
pub struct LocalBus {
    topics: Arc<Mutex<HashMap<String, broadcast::Sender<Bytes>>>>,
    push: Option<Arc<HttpPush>>,
}

/// A stream of messages.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Bytes>,
    lost: u64,
}

impl LocalBus {
    /// A bus with no peers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A bus that also pushes to peers.
    #[must_use]
    pub fn with_push(push: HttpPush) -> Self {
        Self { topics: Arc::default(), push: Some(Arc::new(push)) }
    }

    /// Hands `message` to this process's subscribers only (what a peer pushed must not be pushed back).
    pub fn deliver(&self, topic: &str, message: Bytes) {
        // An error means that nobody listens, which is no fault of a publisher.
        let _ = self.sender(topic).send(message);
    }

    fn sender(&self, topic: &str) -> broadcast::Sender<Bytes> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(topic.to_owned()).or_insert_with(|| broadcast::channel(LAG_MAX).0).clone()
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, topic: &str, message: Bytes) {
        self.deliver(topic, message.clone());
        if let Some(push) = &self.push {
            push.enqueue(topic, message);
        }
    }

    fn subscribe(&self, topic: &str) -> Subscription {
        Subscription { receiver: self.sender(topic).subscribe(), lost: 0 }
    }
}

impl Subscription {
    /// The next message; `None` when the bus is gone.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.receiver.recv().await {
                Ok(message) => return Some(message),
                Err(broadcast::error::RecvError::Lagged(count)) => self.lost += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// A message that is already here.
    pub fn try_next(&mut self) -> Option<Bytes> {
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Some(message),
                Err(broadcast::error::TryRecvError::Lagged(count)) => self.lost += count,
                Err(_) => return None,
            }
        }
    }

    /// Messages lost by lagging so far.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_reaches_every_subscriber_of_its_topic_only() {
        let bus = LocalBus::new();
        let (mut a, mut b, mut other) = (bus.subscribe("x"), bus.subscribe("x"), bus.subscribe("y"));
        bus.publish("x", Bytes::from_static(b"1")).await;
        assert_eq!(a.next().await.as_deref(), Some(&b"1"[..]));
        assert_eq!(b.next().await.as_deref(), Some(&b"1"[..]));
        assert_eq!(other.try_next(), None);
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_is_told() {
        let bus = LocalBus::new();
        let mut slow = bus.subscribe("x");
        for n in 0..(LAG_MAX as u64 + 10) {
            bus.publish("x", Bytes::from(n.to_le_bytes().to_vec())).await;
        }
        let first = slow.next().await.expect("a message");
        assert!(u64::from_le_bytes(first[..8].try_into().expect("eight bytes")) > 0);
        assert!(slow.lost() > 0);
    }
}

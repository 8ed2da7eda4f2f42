//! The bus between processes without a broker: each publisher posts to its peers.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::LocalBus;

/// Messages that wait for one peer: at one frame a second, the time of a short restart.
const QUEUE_MAX: usize = 64;
/// A frame of 1,000 cells is about 300 KB.
const BODY_MAX_BYTES: usize = 8 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(2);

/// Posts messages to peers, each through its own bounded queue: a dead peer costs the others nothing, and what its
/// queue can't hold is lost (frames are worth nothing when late).
#[derive(Debug)]
pub struct HttpPush {
    queues: Vec<mpsc::Sender<(String, Bytes)>>,
}

impl HttpPush {
    /// Peers by base URL (`http://host:port`), with the service token that they expect. Must be called in a tokio
    /// runtime, whose tasks do the sending.
    #[must_use]
    pub fn new(peers: &[String], service_token: &str) -> Self {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build().unwrap_or_default();
        let queues = peers
            .iter()
            .map(|peer| {
                let (sender, receiver) = mpsc::channel(QUEUE_MAX);
                tokio::spawn(send_all(
                    client.clone(),
                    peer.trim_end_matches('/').to_owned(),
                    service_token.to_owned(),
                    receiver,
                ));
                sender
            })
            .collect();
        Self { queues }
    }

    pub(crate) fn enqueue(&self, topic: &str, message: Bytes) {
        for queue in &self.queues {
            let _ = queue.try_send((topic.to_owned(), message.clone()));
        }
    }
}

async fn send_all(client: reqwest::Client, peer: String, token: String, mut queue: mpsc::Receiver<(String, Bytes)>) {
    let mut reachable = true;
    while let Some((topic, message)) = queue.recv().await {
        let url = format!("{peer}/internal/bus/{topic}");
        let sent = client.post(url).bearer_auth(&token).body(message).send().await;
        let now_reachable = sent.is_ok_and(|answer| answer.status().is_success());
        if reachable != now_reachable {
            tracing::warn!(peer, reachable = now_reachable, "bus peer changed");
        }
        reachable = now_reachable;
    }
}

#[derive(Clone)]
struct Receiver {
    bus: LocalBus,
    service_token: String,
}

/// `POST /internal/bus/{topic}` with a bearer service token: puts the body onto `bus`.
pub fn http_router(bus: LocalBus, service_token: &str) -> Router {
    Router::new()
        .route("/internal/bus/{topic}", post(receive))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Receiver { bus, service_token: service_token.to_owned() })
}

async fn receive(State(to): State<Receiver>, Path(topic): Path<String>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let given =
        headers.get("authorization").and_then(|value| value.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    if !given.is_some_and(|given| same(given, &to.service_token)) {
        return StatusCode::UNAUTHORIZED;
    }
    to.bus.deliver(&topic, body);
    StatusCode::ACCEPTED
}

/// Equality that takes the same time wherever the texts differ, so that time tells nothing of the token.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bus as _;

    #[tokio::test]
    async fn a_message_crosses_processes_by_http() {
        let there = LocalBus::new();
        let mut arrives = there.subscribe("rollup");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let peer = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, http_router(there, "secret")).await });

        LocalBus::with_push(HttpPush::new(std::slice::from_ref(&peer), "wrong"))
            .publish("rollup", Bytes::from_static(b"no"))
            .await;
        LocalBus::with_push(HttpPush::new(&[peer], "secret")).publish("rollup", Bytes::from_static(b"yes")).await;

        assert_eq!(arrives.next().await.as_deref(), Some(&b"yes"[..]));
    }
}

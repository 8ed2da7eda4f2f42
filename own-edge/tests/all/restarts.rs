//! Changes while an edge runs: of its configuration, and of its process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{LONG, get, get_with, open_get};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TestEdge, media};

const KEPT: &str = "Cache-Control: max-age=60";

/// Asks until the answer has this status.
async fn until(edge: &TestEdge, target: &str, headers: &str, status: u16) {
    for _ in 0..500 {
        if get_with(edge.address, target, headers).await.status == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{target} is never answered with {status}");
}

#[tokio::test]
async fn a_reload_changes_what_it_may_and_nothing_if_a_value_is_wrong() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, "one");
    let with = |lines: &str| format!("origin = \"{}\"\n{lines}", origin.url());
    let edge = TestEdge::of(&with("")).await;
    get(edge.address, "/1").await;
    edge.hit("/1").await;
    let page = "Origin: https://evil.example";
    assert_eq!(get_with(edge.address, "/1", page).await.status, 200);
    edge.reload(&with("allowed_origins = [\"https://tv.example\"]\nmemory_mb = 300"));
    until(&edge, "/1", page, 403).await;
    // What is kept stays.
    assert!(get(edge.address, "/1").await.is_hit());
    for wrong in ["allowed_origins = [\"evil.example\"]", "allowed_origins = 7", "methods = [\"HEAD\"]", "]"] {
        edge.reload(&with(wrong));
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(get_with(edge.address, "/1", page).await.status, 403, "{wrong}");
    }
    edge.reload(&with("methods = [\"GET\"]"));
    until(&edge, "/1", page, 200).await;
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_successor_takes_over_without_a_lost_request_and_finds_the_disk() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, media(300_000));
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/slow", move |_| vec![Step::Wait(held.clone()), Step::Send(response(200, KEPT, b"late"))]);
    let folder = tempfile::tempdir().unwrap();
    let lines = format!(
        "origin = \"{}\"\nhandover = {:?}\ndisk = {{ path = {:?}, size_mb = 20 }}",
        origin.url(),
        folder.path().join("edge.sock"),
        folder.path().join("cache"),
    );
    let mut first = TestEdge::open(&lines).await;
    while !first.readiness.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    get(first.address, "/1").await;
    first.hit("/1").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    // Somebody who waits, somebody who holds a connection, and many who come and go.
    let waiting = open_get(first.address, "/slow").await;
    origin.asked("/slow", 1).await;
    let mut kept_open = TcpStream::connect(first.address).await.unwrap();
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let askers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked, address) = (stop.clone(), asked.clone(), first.address);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let reply = get(address, "/1").await;
                    assert!(reply.complete && reply.body == media(300_000), "{}", reply.head);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let second = TestEdge::open(&lines).await;
    assert_eq!(second.address, first.address, "it has the same socket");
    while !second.readiness.is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Who holds a connection to the first is served there once more at most, and told to come again.
    kept_open.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n").await.ok();
    let mut bytes = Vec::new();
    tokio::time::timeout(LONG, kept_open.read_to_end(&mut bytes)).await.expect("closed").ok();
    assert!(bytes.is_empty() || String::from_utf8_lossy(&bytes[..1_000]).contains("connection: close"));
    gate.open();
    assert_eq!(waiting.rest().await.body, b"late");
    tokio::time::timeout(LONG, &mut first.task).await.expect("it ends by itself").unwrap();
    let before = asked.load(Ordering::Relaxed);
    while asked.load(Ordering::Relaxed) < before + 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    assert_eq!(origin.count("/1"), 1, "the successor found it on disk");
    // And a third one after that.
    let third = TestEdge::open(&lines).await;
    assert_eq!(third.address, second.address);
}

#[tokio::test]
async fn what_is_no_edge_hands_nothing_over() {
    let origin = Scripted::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.sock");
    let other = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"hello").await;
        }
    });
    let lines = format!("origin = \"{}\"\nhandover = {path:?}", origin.url());
    let opening = tokio::spawn(async move { TestEdge::open(&lines).await.address });
    let error = tokio::time::timeout(LONG, opening).await.expect("it says so").unwrap_err();
    assert!(error.is_panic(), "an edge began behind somebody else's socket");
    // A socket that nobody listens at any more is in nobody's way.
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let edge = TestEdge::open(&format!("origin = \"{}\"\nhandover = {stale:?}", origin.url())).await;
    until(&edge, "/.spillway/readyz", "", 200).await;
}

//! What is broken on purpose, and that nothing else is.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Reply, get, get_from, raw};
use crate::scripted::Scripted;
use crate::support::{TOKEN, TestEdge, media};

async fn command(edge: &TestEdge, method: &str, token: &str, body: &str) -> Reply {
    let head = format!(
        "{method} /.spillway/faults HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    );
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    raw(edge.address, format!("{head}{length}\r\n{body}").as_bytes()).await
}

async fn set(edge: &TestEdge, faults: Value) {
    let reply = command(edge, "PUT", TOKEN, &faults.to_string()).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
}

const LEN: usize = 400_000;

async fn edge() -> (Scripted, TestEdge) {
    let origin = Scripted::start().await;
    for target in ["/vod/1", "/live/1"] {
        origin.answer(target, "Cache-Control: max-age=60", media(LEN));
    }
    let edge = TestEdge::start(&origin).await;
    for target in ["/vod/1", "/live/1"] {
        get(edge.address, target).await;
        edge.hit(target).await;
    }
    (origin, edge)
}

#[tokio::test]
async fn each_does_what_it_says_where_it_says_until_it_is_gone() {
    let (_origin, edge) = edge().await;
    set(&edge, json!([{"status": 503, "prefix": "/live/"}])).await;
    assert_eq!((get(edge.address, "/live/1").await.status, get(edge.address, "/vod/1").await.status), (503, 200));

    set(&edge, json!([{"reset": true, "prefix": "/live/"}])).await;
    let cut = get(edge.address, "/live/1").await;
    assert_eq!((cut.status, cut.complete), (200, false));
    // What is on its way when the connection is reset is lost.
    assert!(cut.body.len() <= LEN / 2 && media(LEN).starts_with(&cut.body), "{} bytes", cut.body.len());

    set(&edge, json!([{"latency_ms": 200}, {"latency_ms": 100}])).await;
    let began = Instant::now();
    assert_eq!(get(edge.address, "/vod/1").await.body, media(LEN));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());

    // 400 kB at 8 Mbit/s take 0.4 s.
    set(&edge, json!([{"throttle_kbps": 8000}])).await;
    let began = Instant::now();
    let slow = get(edge.address, "/vod/1").await;
    assert!(slow.complete && slow.body == media(LEN));
    assert!((350..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());

    set(&edge, json!([{"hang": true}])).await;
    let address = edge.address;
    let waiting = tokio::spawn(async move { get(address, "/vod/1").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    let gone = command(&edge, "DELETE", TOKEN, "").await;
    assert_eq!((gone.status, &gone.body[..]), (200, &b"[]\n"[..]));
    assert_eq!(waiting.await.unwrap().body, media(LEN));
    assert!(get(edge.address, "/live/1").await.is_hit());
}

#[tokio::test]
async fn a_share_is_one_of_sessions() {
    let (_origin, edge) = edge().await;
    set(&edge, json!([{"status": 500, "share_percent": 40}])).await;
    let mut broken = 0;
    for session in 1..=100 {
        let from = [127, 0, 7, session];
        let first = get_from(edge.address, from, "/vod/1").await.status;
        broken += usize::from(first == 500);
        assert_eq!(get_from(edge.address, from, "/live/1").await.status, first, "the same sessions every time");
    }
    assert!((20..=60).contains(&broken), "{broken} of 100");
}

#[tokio::test]
async fn what_is_not_valid_is_named_and_changes_nothing() {
    let (_origin, edge) = edge().await;
    assert_eq!(command(&edge, "PUT", "another", "[]").await.status, 401);
    set(&edge, json!([{"status": 503}])).await;
    for (bad, names) in [
        ("[{}]", "one of status, latency_ms"),
        ("[{\"status\": 200}]", "400 to 599"),
        ("[{\"status\": 503, \"share_percent\": 0}]", "1 to 100"),
        ("[{\"latency_ms\": 60001}]", "1 to 60000"),
        ("[{\"throttle_kbps\": 0}]", "1 or more"),
        ("[{\"hang\": true, \"prefix\": \"live\"}]", "begins with /"),
        ("[{\"melt\": true}]", "melt"),
        ("{}", "a JSON list"),
        ("", "a JSON list"),
    ] {
        let reply = command(&edge, "PUT", TOKEN, bad).await;
        let body = String::from_utf8_lossy(&reply.body);
        assert!(reply.status == 400 && body.contains(names), "{bad}: {} {body}", reply.status);
    }
    let many = Value::from(vec![json!({"reset": true}); 17]);
    assert_eq!(command(&edge, "PUT", TOKEN, &many.to_string()).await.status, 400);
    assert_eq!(get(edge.address, "/vod/1").await.status, 503, "the fault before is in force");
    let listed = command(&edge, "GET", TOKEN, "").await;
    let listed: Value = serde_json::from_slice(&listed.body).unwrap();
    assert_eq!(listed, json!([{"status": 503, "share_percent": 100, "prefix": "/"}]));
}

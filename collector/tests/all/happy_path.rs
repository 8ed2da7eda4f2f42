//! A beacon goes all the way.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use spillway_lake::{LakeSession, TailSource, format};

use crate::support::{TOKEN, answer, beacon, config, event, heartbeats, start};

#[tokio::test]
async fn an_acknowledged_event_is_queryable_at_once_and_in_the_table_after_a_commit() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, spillway_collector::CollectorConfig { commit_interval_s: 1, ..config() }).await;
    let (status, body) = running.post(heartbeats("v1", 0..3)).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(body, json!({"accepted": 3, "rejected": [], "heartbeat_s": 10, "sample_rate": 1.0}));
    assert_eq!(running.query("SELECT count(*) FROM events WHERE asn = 64500 AND pathway = 'cdn-a'").await, 3);
    let committed = async {
        while running.tail.stats().committed_rows < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), committed).await.expect("a commit");
    assert_eq!(running.query("SELECT count(*) FROM events_committed").await, 3);
    assert_eq!(running.stored().await, 3);
    running.stop().await;
}

#[tokio::test]
async fn gzip_is_read_with_and_without_its_header_and_hosts_become_pathways() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let zip = |body: String| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body.as_bytes()).expect("write");
        encoder.finish().expect("finish")
    };
    let body = |view| zip(beacon(view, json!([event("heartbeat", 0, json!({"host": "a.example:81"}))])));
    assert_eq!(running.post(body("v1")).await.0, 202);
    let request = running.client.post(running.url()).header("content-type", "application/json; charset=utf-8");
    let response = request.header("content-encoding", "gzip").body(body("v2")).send().await.expect("answer");
    assert_eq!(response.status(), 202);
    assert_eq!(running.query("SELECT count(*) FROM events WHERE pathway = 'cdn-a'").await, 2);
    running.stop().await;
}

#[tokio::test]
async fn duplicates_are_accepted_silently_and_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    running.post(heartbeats("v1", 0..5)).await;
    let (status, body) = running.post(heartbeats("v1", 3..8)).await;
    assert_eq!((status, body["accepted"].as_u64()), (202, Some(5)));
    let (a, b) = tokio::join!(running.post(heartbeats("v2", 0..9)), running.post(heartbeats("v2", 0..9)));
    assert_eq!((a.0, b.0), (202, 202));
    let counters = running.counters().await;
    assert_eq!(counters["discarded"], json!({"duplicate": 11}));
    assert_eq!((counters["received"].as_u64(), counters["accepted"].as_u64()), (Some(28), Some(17)));
    assert_eq!(counters["in_flight"], 0);
    assert_eq!(running.stored().await, 17);
    assert_eq!(running.query("SELECT count(*) FROM events_raw").await, 17);
    running.stop().await;
}

#[tokio::test]
async fn the_tail_is_served_to_other_processes_and_to_nobody_else() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    running.post(heartbeats("v1", 0..2)).await;
    let elsewhere = TailSource::Http { url: running.base.clone(), token: TOKEN.into() };
    let session = LakeSession::open(&running.root, vec![elsewhere]).await.expect("open");
    assert_eq!(session.warnings(), [""; 0]);
    let rows = session.query("SELECT collector, wal_seq, view_id FROM events ORDER BY seq").await.expect("rows");
    assert!(format::csv(&rows).expect("csv").contains("collector-1,1,v1"));
    for path in ["/internal/tail?table=events", "/internal/counters"] {
        let response = running.client.get(format!("{}{path}", running.base)).send().await.expect("answer");
        assert_eq!(response.status(), 401, "{path}");
    }
    let unknown = running.client.get(format!("{}/internal/tail?table=views", running.base)).bearer_auth(TOKEN);
    assert_eq!(answer(unknown.send().await.expect("answer")).await.0, 404);
    running.stop().await;
}

#[tokio::test]
async fn browsers_may_send_from_allowed_origins() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let send = |key: &str, origin: &str| {
        let request = running.client.post(format!("{}/v1/beacons?k={key}", running.base));
        request.header("origin", origin).header("content-type", "text/plain").body(heartbeats(key, 0..1)).send()
    };
    let any = send("key-of-demo", "https://anywhere.example").await.expect("answer");
    assert_eq!(any.headers()["access-control-allow-origin"], "https://anywhere.example");
    assert_eq!(any.status(), 202);
    let good = send("key-of-strict", "https://tv.example").await.expect("answer");
    assert_eq!((good.status().as_u16(), good.headers().contains_key("vary")), (202, true));
    let (status, body) = answer(send("key-of-strict", "https://evil.example").await.expect("answer")).await;
    assert_eq!((status, body["error"].as_str()), (403, Some("origin_not_allowed")));
    let preflight = running
        .client
        .request(reqwest::Method::OPTIONS, running.url())
        .header("origin", "https://x.example")
        .header("access-control-request-method", "POST")
        .send()
        .await
        .expect("answer");
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-max-age"], "7200");
    assert!(preflight.headers()["access-control-allow-headers"].to_str().expect("text").contains("content-encoding"));
    running.stop().await;
}

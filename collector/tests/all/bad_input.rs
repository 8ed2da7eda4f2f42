//! What must not hurt: every bad body has its own answer, and is counted.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{KEY, NOW_MS, Running, answer, beacon, config, event, heartbeats, start};

async fn refused(running: &Running, body: impl Into<reqwest::Body>, status: u16, reason: &str) {
    let (found, body) = running.post(body).await;
    assert_eq!((found, body["error"].as_str()), (status, Some(reason)), "{body}");
    let counters = running.counters().await;
    assert_eq!(counters["beacons_refused"][reason], 1, "{counters}");
    assert_eq!(running.tail.stats().wal_seq, 0, "nothing of it is stored");
}

macro_rules! refusals {
    ($($name:ident: $body:expr => $status:literal $reason:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().expect("dir");
            let running = start(&dir, config()).await;
            refused(&running, $body, $status, $reason).await;
            running.stop().await;
        }
    )+};
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("write");
    encoder.finish().expect("finish")
}

fn many_events() -> String {
    beacon("v", (0..301).map(|seq| event("heartbeat", seq, json!({}))).collect())
}

/// JSON that nests 100,000 deep.
fn deep() -> String {
    format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))
}

refusals! {
    an_empty_body_is_refused: "" => 400 "empty_body";
    a_body_of_10_mb_is_refused: vec![b' '; 10 << 20] => 413 "body_too_large";
    a_gzip_bomb_is_refused: gzip(&vec![b' '; 100 << 20]) => 413 "body_too_large";
    half_a_gzip_is_refused: gzip(heartbeats("v", 0..1).as_bytes())[..40].to_vec() => 400 "bad_gzip";
    invalid_utf8_is_refused: b"{\"v\":1,\"sdk\":\"\xff\"}".to_vec() => 400 "bad_utf8";
    text_that_is_no_json_is_refused: "hello" => 400 "bad_json";
    deep_json_is_refused: deep() => 400 "bad_json";
    deep_json_in_the_context_is_refused: heartbeats("v", 0..1).replace("\"ctx\":{", &format!("\"ctx\":{{\"title\":{},", deep())) => 400 "bad_json";
    too_many_events_are_refused: many_events() => 400 "too_many_events";
    an_unknown_version_is_refused: heartbeats("v", 0..1).replace("\"v\":1", "\"v\":2") => 400 "unknown_version";
    nan_is_refused: heartbeats("v", 0..1).replace("\"playing\"", "NaN") => 400 "bad_json";
    a_view_id_of_a_megabyte_is_refused: gzip(heartbeats(&"v".repeat(1 << 20), 0..1).as_bytes()) => 400 "bad_context";
    a_view_id_with_a_slash_is_refused: heartbeats("v/w", 0..1) => 400 "bad_context";
}

#[tokio::test]
async fn missing_and_wrong_keys_are_told_apart() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    for (query, status, reason) in
        [("", 401, "missing_key"), ("?k=", 401, "missing_key"), ("?k=key-of-nobody", 403, "unknown_key")]
    {
        let request = running.client.post(format!("{}/v1/beacons{query}", running.base));
        let response = request.header("content-type", "text/plain").body(heartbeats("v", 0..1)).send().await;
        let (found, body) = answer(response.expect("answer")).await;
        assert_eq!((found, body["error"].as_str()), (status, Some(reason)));
    }
    running.stop().await;
}

#[tokio::test]
async fn other_media_types_and_encodings_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let headers = [("content-type", "application/xml"), ("content-encoding", "br")];
    for (name, value) in headers {
        let request = running.client.post(running.url());
        let request = if name == "content-type" { request } else { request.header("content-type", "text/plain") };
        let response = request.header(name, value).body(heartbeats("v", 0..1)).send().await.expect("answer");
        let (status, body) = answer(response).await;
        assert_eq!((status, body["error"].as_str()), (415, Some("unsupported_media_type")), "{name}");
    }
    let get = running.client.get(running.url()).send().await.expect("answer");
    assert_eq!(get.status(), 405);
    running.stop().await;
}

#[tokio::test]
async fn one_bad_event_costs_only_itself() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let year_1970 = 1_000;
    let year_2100 = 4_102_444_800_000_u64;
    let events = json!([
        event("heartbeat", 0, json!({})),
        event("heartbeat", 1, json!({"created_ms": year_1970})),
        event("heartbeat", 2, json!({"created_ms": year_2100})),
        event("heartbeat", 3, json!({"counters": {"watched_ms": -1}})),
        event("heartbeat", 4, json!({"counters": {"watched_ms": 1_u64 << 60}})),
        event("heartbeat", 5, json!({"mono_ms": 1e300})),
        event("dance", 6, json!({})),
        event("segment", 7, json!({})),
        event("heartbeat", 8, json!({"pathway": "no such\u{7}id"})),
        {"type": "heartbeat"},
        "a text",
        event("heartbeat", 9, json!({"unknown_field": {"a": [1, 2, 3]}})),
    ]);
    let (status, body) = running.post(beacon("v", events)).await;
    assert_eq!((status, body["accepted"].as_u64()), (202, Some(3)), "{body}");
    let found: Vec<(u64, &str)> = body["rejected"]
        .as_array()
        .expect("list")
        .iter()
        .map(|event| (event["index"].as_u64().expect("index"), event["reason"].as_str().expect("reason")))
        .collect();
    let expected = [
        (1, "too_old"),
        (3, "bad_value"),
        (4, "bad_value"),
        (5, "bad_value"),
        (6, "unknown_type"),
        (7, "missing_field"),
        (8, "bad_id"),
        (9, "missing_field"),
        (10, "bad_value"),
    ];
    assert_eq!(found, expected);
    let future = format!("SELECT count(*) FROM events WHERE seq = 2 AND event_ms = {NOW_MS} AND dt = '2026-01-01'");
    assert_eq!(running.query(&future).await, 1, "the future is now");
    let counters = running.counters().await;
    let discarded: u64 = counters["discarded"].as_object().expect("map").values().filter_map(Value::as_u64).sum();
    assert_eq!((counters["received"].as_u64(), counters["accepted"].as_u64()), (Some(12), Some(3)));
    assert_eq!(discarded, 9);
    running.stop().await;
}

#[tokio::test]
async fn deep_json_costs_its_event_where_a_value_belongs_and_nothing_where_we_know_no_field() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let events = json!([
        event("heartbeat", 0, json!({"state": "HERE"})),
        event("heartbeat", 1, json!({"unknown_field": "HERE"}))
    ]);
    let (status, body) = running.post(beacon("v", events).replace("\"HERE\"", &deep())).await;
    assert_eq!((status, body["accepted"].as_u64()), (202, Some(1)), "{body}");
    assert_eq!(body["rejected"], json!([{"index": 0, "reason": "bad_value"}]));
    running.stop().await;
}

#[tokio::test]
async fn an_empty_batch_is_a_beacon_too() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    assert_eq!(running.post(beacon("v", json!([]))).await.0, 202);
    running.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let dir = tempfile::tempdir().expect("dir");
    let config = spillway_collector::CollectorConfig { body_timeout_ms: 100, ..config() };
    let running = start(&dir, config).await;
    let mut stream = TcpStream::connect(running.address).await.expect("connect");
    let head = format!(
        "POST /v1/beacons?k={KEY} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 500\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("write");
    let mut answer = vec![0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
    let length = read.expect("in time").expect("answer");
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    running.stop().await;
}

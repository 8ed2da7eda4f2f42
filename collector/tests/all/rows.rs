//! Deliveries and steering answers of other roles.

use serde_json::json;

use crate::support::{NOW_MS, TOKEN, config, start};

const DELIVERIES: &str = "/v1/deliveries?v=1&source=own-a-1&seq=7";

fn delivery(path: &str) -> serde_json::Value {
    json!({
        "delivered_ms": NOW_MS - 5, "host": "A.example:81", "address": "10.1.2.3", "path": path, "status": 200,
        "bytes": 1_000, "ttfb_ms": 3, "duration_ms": 9, "cache_status": "hit", "protocol": "HTTP/2", "view_id": "v1",
        "cmcd": {"br": "2400", "nor": "../b.m4s?secret=1"}
    })
}

#[tokio::test]
async fn deliveries_are_durable_completed_and_scrubbed() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let lines = format!("{}\n{}\n", delivery("/a.m4s?secret=1"), delivery("https://x.example/b.m4s#secret"));
    let (status, body) = running.rows(DELIVERIES, lines).await;
    assert_eq!((status, body), (202, json!({"accepted": 2, "rejected": [], "duplicate": false})));
    let rows = running.select("SELECT * FROM deliveries ORDER BY \"row\"").await;
    let shown = format!("{rows:?}");
    assert!(!shown.contains("secret") && !shown.contains("10.1.2.3"), "{shown}");
    for (key, value) in [
        ("source", json!("own-a-1")),
        ("batch_seq", json!(7)),
        ("pathway", json!("cdn-a")),
        ("region", json!("eu-a")),
        ("asn", json!(64_500)),
        ("path", json!("/a.m4s")),
        ("bytes", json!(1_000)),
        ("requests", json!(1)),
        ("format", json!("rows")),
        ("dt", json!("2025-12-31")),
        ("collector", json!("collector-1")),
    ] {
        assert_eq!(rows[0][key], value, "{key}");
    }
    assert_eq!(rows[1]["path"], "/b.m4s");
    running.stop().await;
}

#[tokio::test]
async fn a_batch_that_comes_again_is_stored_once_also_after_a_kill_and_from_the_table() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let body = json!([delivery("/a.m4s"), delivery("/b.m4s")]).to_string();
    let again = json!({"accepted": 2, "rejected": [], "duplicate": true});
    let (a, b) = tokio::join!(running.rows(DELIVERIES, body.clone()), running.rows(DELIVERIES, body.clone()));
    assert_eq!((a.0, b.0), (202, 202));
    assert!(a.1["duplicate"] != b.1["duplicate"], "{a:?} {b:?}");
    running.kill().await;
    let running = start(&dir, config()).await;
    assert_eq!(running.rows(DELIVERIES, body.clone()).await, (202, again.clone()));
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("wal")).expect("remove");
    let running = start(&dir, config()).await;
    assert_eq!(running.rows(DELIVERIES, body.clone()).await, (202, again));
    assert_eq!(running.query("SELECT count(*) FROM deliveries_raw").await, 2);
    let (_, other) = running.rows("/v1/deliveries?v=1&source=own-a-1&seq=8", body.clone()).await;
    assert_eq!(other["duplicate"], false);
    let (_, other) = running.rows("/v1/deliveries?v=1&source=own-a-2&seq=7", body).await;
    assert_eq!(other["duplicate"], false);
    assert_eq!(running.query("SELECT count(*) FROM deliveries").await, 6);
    running.stop().await;
}

#[tokio::test]
async fn steering_answers_are_stored_with_their_why() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let answer = json!({
        "issued_ms": NOW_MS, "view_id": "v1", "region": "eu-a", "asn": 64_500, "epoch": 4, "protocol": "hls",
        "priority": ["cdn-a", "cdn-b"], "ttl_s": 10, "sample_rate": 0.01, "reason": "healthy", "why": {"share": 0.7}
    });
    let (status, body) = running.rows("/v1/steers?v=1&source=steer-1&seq=0", answer.to_string()).await;
    assert_eq!((status, body["accepted"].as_u64()), (202, Some(1)), "{body}");
    assert_eq!(running.rows("/v1/steers?v=1&source=steer-1&seq=0", answer.to_string()).await.1["duplicate"], true);
    let rows = running.select("SELECT node, first_pathway, priority, ttl_s, epoch, why_json FROM steers").await;
    let expected = json!({
        "node": "steer-1", "first_pathway": "cdn-a", "priority": "cdn-a,cdn-b", "ttl_s": 10, "epoch": 4,
        "why_json": "{\"share\":0.7}"
    });
    assert_eq!(rows, [expected]);
    running.stop().await;
}

#[tokio::test]
async fn bad_rows_cost_only_themselves_and_a_bad_batch_is_refused_by_reason() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let body = [
        delivery("/a").to_string(),
        "{".into(),
        json!({"delivered_ms": NOW_MS + 120_000}).to_string(),
        json!({"delivered_ms": NOW_MS - 49 * 3_600_000}).to_string(),
        json!({"delivered_ms": NOW_MS, "pathway": "a/b"}).to_string(),
        json!({"host": "a"}).to_string(),
    ];
    let (status, stored) = running.rows(DELIVERIES, body.join("\n")).await;
    assert_eq!((status, stored["accepted"].as_u64()), (202, Some(1)));
    let why: Vec<_> =
        stored["rejected"].as_array().expect("rejected").iter().map(|row| row["reason"].as_str()).collect();
    assert_eq!(why, ["bad_value", "bad_value", "too_old", "bad_id", "missing_field"].map(Some));

    for (query, body, status, reason) in [
        (DELIVERIES, "", 400, "empty_body"),
        (DELIVERIES, "hello", 400, "bad_json"),
        ("/v1/deliveries?v=2&source=a&seq=1", "{}", 400, "unknown_version"),
        ("/v1/deliveries?v=1&source=a%2Fb&seq=1", "{}", 400, "bad_source"),
    ] {
        let (got, said) = running.rows(query, body).await;
        assert_eq!((got, said["error"].as_str()), (status, Some(reason)), "{query} {body:?}: {said}");
    }
    assert_eq!(running.rows("/v1/deliveries?v=1&source=a", "{}").await.0, 400, "without a sequence");
    let (status, _) = running.rows(DELIVERIES, vec![b'x'; 600 << 10]).await;
    assert_eq!(status, 413);

    let url = format!("{}{DELIVERIES}", running.base);
    for token in [None, Some("wrong"), Some(&TOKEN[1..])] {
        let request = running.client.post(&url).body(delivery("/a").to_string());
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        assert_eq!(request.send().await.expect("answer").status(), 401);
    }
    assert_eq!(running.query("SELECT count(*) FROM deliveries").await, 1);
    running.stop().await;
}

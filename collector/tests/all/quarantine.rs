//! Refused events stay visible, and no more of them than there is room for.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_collector::CollectorConfig;

use crate::support::{KEY, NOW_MS, Running, beacon, config, event, start};

const TWO_DAYS_MS: u64 = 48 * 3600 * 1000;

/// Waits for `rows` rows, which nobody promises to write at once.
async fn quarantined(running: &Running, rows: usize) -> Vec<Value> {
    let sql = "SELECT reason, view_id, source, property, \"row\", raw FROM quarantine ORDER BY view_id, \"row\"";
    for _ in 0..500 {
        let found = running.select(sql).await;
        if found.len() >= rows {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{rows} rows were expected");
}

#[tokio::test]
async fn a_refused_event_is_kept_with_its_reason_and_stays_discarded() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let old = event("heartbeat", 1, json!({"created_ms": NOW_MS - TWO_DAYS_MS - 1, "host": "a.example:81"}));
    let odd =
        json!({"type": "explode", "note": "https://x.example/a?secret=1", "seq": 2, "created_ms": 1, "mono_ms": 1});
    let events = json!([event("heartbeat", 0, json!({})), old, odd, {"type": "heartbeat"}]);
    let (status, body) = running.post(beacon("v", events)).await;
    assert_eq!((status, body["accepted"].as_u64(), body["rejected"].as_array().map(Vec::len)), (202, Some(1), Some(3)));
    let rows = quarantined(&running, 3).await;
    let reasons: Vec<_> = rows.iter().map(|row| (row["row"].as_u64(), row["reason"].as_str())).collect();
    let expected = [(Some(1), Some("too_old")), (Some(2), Some("unknown_type")), (Some(3), Some("missing_field"))];
    assert_eq!(reasons, expected);
    assert!(rows.iter().all(|row| row["view_id"] == "v" && row["source"] == "sdk" && row["property"] == "demo"));
    let raw = rows[1]["raw"].as_str().expect("text");
    assert!(raw.contains("explode") && raw.contains("https://x.example/a") && !raw.contains("secret"), "{raw}");
    let counters = running.counters().await;
    assert_eq!(counters["discarded"], json!({"too_old": 1, "unknown_type": 1, "missing_field": 1}));
    assert_eq!((counters["received"].as_u64(), counters["accepted"].as_u64()), (Some(4), Some(1)));
    assert_eq!(running.query("SELECT count(*) FROM events").await, 1);
    running.stop().await;
}

#[tokio::test]
async fn under_global_privacy_control_only_the_reason_is_kept() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let body = beacon("v", json!([{"type": "explode", "name": "somebody"}]));
    assert_eq!(running.post_with(body, &[("sec-gpc", "1")]).await.0, 202);
    let rows = quarantined(&running, 1).await;
    assert_eq!((rows[0]["reason"].as_str(), rows[0].get("raw")), (Some("missing_field"), None));
    running.stop().await;
}

#[tokio::test]
async fn garbage_beyond_the_budget_is_dropped_and_the_beacon_is_answered_all_the_same() {
    let dir = tempfile::tempdir().expect("dir");
    let budget = CollectorConfig { quarantine_bytes_per_s: 1, ..config() };
    let running = start(&dir, budget).await;
    let garbage: Vec<Value> =
        (0..100).map(|seq| json!({"type": "explode", "seq": seq, "x": "y".repeat(4_000)})).collect();
    for view in ["a", "b"] {
        let (status, body) = running.post(beacon(view, json!(garbage))).await;
        assert_eq!((status, body["rejected"].as_array().map(Vec::len)), (202, Some(100)));
    }
    assert_eq!(running.counters().await["discarded"], json!({"missing_field": 200}));
    let kept = quarantined(&running, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!kept.is_empty() && kept.len() <= 16, "64 KiB hold 16 rows of 4 KiB, and there are {}", kept.len());
    running.stop().await;
}

#[tokio::test]
async fn a_quarantine_that_is_switched_off_keeps_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, CollectorConfig { quarantine_bytes_per_s: 0, ..config() }).await;
    assert_eq!(running.post(beacon("v", json!([{"type": "explode"}]))).await.0, 202);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running.query("SELECT count(*) FROM quarantine").await, 0);
    running.stop().await;
}

#[tokio::test]
async fn cmcd_that_cannot_be_read_is_kept_with_its_reason_and_without_tokens() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let lines = [
        format!("e=t,sid=\"v\",ts={NOW_MS}"),
        "e=t,ts=(((".to_owned(),
        "sid=\"v\"".to_owned(),
        format!("e=rr,ts={NOW_MS},url=\"https://a.example/1.m4s?token=secret"),
        format!("e=t,sid=\"{}\",ts={NOW_MS}", "x".repeat(65)),
    ];
    let post = |headers: &'static [(&'static str, &'static str)]| {
        let mut request = running.client.post(format!("{}/v1/cmcd?k={KEY}", running.base)).body(lines.join("\n"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let answer = post(&[("content-type", "application/cmcd")]).await.expect("answer");
    assert_eq!(answer.status(), 200);
    let rows = quarantined(&running, 4).await;
    let told: Vec<_> = rows.iter().map(|row| (row["row"].as_u64(), row["reason"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some(1), Some("bad_syntax")),
            (Some(2), Some("missing_field")),
            (Some(3), Some("bad_syntax")),
            (Some(4), Some("bad_id")),
        ]
    );
    assert!(rows.iter().all(|row| row["source"] == "cmcd" && row["property"] == "demo"));
    assert_eq!(rows[0]["raw"], "e=t,ts=(((");
    assert_eq!(rows[2]["raw"].as_str(), Some(&*format!("e=rr,ts={NOW_MS},url=\"https://a.example/1.m4s")));
    let counters = running.counters().await;
    assert_eq!(counters["discarded"], json!({"bad_syntax": 2, "missing_field": 1, "bad_id": 1}));

    post(&[("content-type", "application/cmcd"), ("sec-gpc", "1")]).await.expect("answer");
    let rows = quarantined(&running, 8).await;
    assert_eq!(rows.iter().filter(|row| row.get("raw").is_none()).count(), 4, "{rows:?}");
    running.stop().await;
}

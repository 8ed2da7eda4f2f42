//! Refused events stay visible, and no more of them than there is room for.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_collector::CollectorConfig;

use crate::support::{NOW_MS, Running, beacon, config, event, start};

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

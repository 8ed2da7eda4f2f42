//! Floods and full stores.

use spillway_collector::CollectorConfig;

use crate::support::{config, heartbeats, start};

#[tokio::test]
async fn one_network_cannot_send_without_end() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, CollectorConfig { rate_limit_prefix_per_s: 1, ..config() }).await;
    let mut statuses = Vec::new();
    for seq in 0..4 {
        statuses.push(running.post_from(heartbeats("v", seq..seq + 1), "10.1.2.3").await.0);
    }
    assert_eq!(statuses[..2], [202, 202], "a burst of twice the rate");
    assert_eq!(statuses[3], 429);
    assert_eq!(running.post_from(heartbeats("v", 9..10), "10.1.3.3").await.0, 202, "the neighbours may");
    let request = running.client.post(running.url()).header("x-client", "10.1.2.99").body("");
    let response = request.send().await.expect("answer");
    assert_eq!(response.status(), 429);
    let seconds: u64 = response.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!((1..=10).contains(&seconds));
    running.stop().await;
}

#[tokio::test]
async fn rows_that_cannot_be_committed_put_senders_off_and_are_not_lost() {
    let dir = tempfile::tempdir().expect("dir");
    let small = CollectorConfig { tail_max_bytes: 1 << 20, ..config() };
    let running = start(&dir, small).await;
    let mut taken = 0;
    let refused = loop {
        let body = heartbeats(&format!("v{taken}"), 0..300);
        let request = running.client.post(running.url()).header("content-type", "text/plain").body(body);
        let response = request.send().await.expect("answer");
        if response.status() != 202 {
            break response;
        }
        taken += 300;
        assert!(taken < 100_000, "the tail has a bound");
    };
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    let counters = running.counters().await;
    assert_eq!(counters["discarded"]["lake_behind"], 300, "{counters}");
    assert_eq!(counters["received"].as_u64(), Some(taken + 300));
    assert_eq!(running.stored().await, taken);
    running.stop().await;
}

#[tokio::test]
async fn a_disk_that_fails_puts_senders_off_until_it_is_back() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    let wal = dir.path().join("wal");
    std::fs::remove_dir_all(&wal).expect("remove");
    for _ in 0..2 {
        let request = running.client.post(running.url()).header("content-type", "text/plain");
        let response = request.body(heartbeats("v", 0..3)).send().await.expect("answer");
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
    }
    assert!(running.frame().await.cells.is_empty(), "what is not durable is in no frame");
    std::fs::create_dir_all(&wal).expect("create");
    assert_eq!(running.post(heartbeats("v", 0..3)).await.0, 202);
    let counters = running.counters().await;
    assert_eq!(counters["discarded"], serde_json::json!({"wal_write": 6}));
    assert_eq!((counters["received"].as_u64(), counters["accepted"].as_u64()), (Some(9), Some(3)));
    assert_eq!(running.stored().await, 3);
    running.stop().await;
}

#[tokio::test]
async fn a_bad_value_names_key_and_what_is_valid() {
    let bad = CollectorConfig { path: "/internal/x".into(), ..config() };
    let text = bad.check().expect_err("reserved").to_string();
    assert!(text.contains("collector.path") && text.contains("/internal/x"), "{text}");
    CollectorConfig::default().check().expect("the defaults hold");
}

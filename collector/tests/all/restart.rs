//! Ends of every kind.

use std::sync::Arc;

use serde_json::json;

use crate::support::{Hand, config, heartbeats, start, start_with};

#[tokio::test]
async fn a_retry_after_a_kill_is_not_stored_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    running.post(heartbeats("v", 0..5)).await;
    running.kill().await;
    let running = start(&dir, config()).await;
    assert_eq!(running.post(heartbeats("v", 3..7)).await.0, 202);
    let counters = running.counters().await;
    assert_eq!(counters["discarded"], json!({"duplicate": 2}));
    assert_eq!(counters["recovered_rows"], 5);
    assert_eq!(running.stored().await, 7);
    assert_eq!(running.query("SELECT count(*) FROM events_raw").await, 7);
    running.stop().await;
}

#[tokio::test]
async fn a_retry_is_known_from_the_table_when_the_wal_is_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    running.post(heartbeats("v", 0..5)).await;
    running.stop().await;
    std::fs::remove_dir_all(dir.path().join("wal")).expect("remove");
    let running = start(&dir, config()).await;
    running.post(heartbeats("v", 0..6)).await;
    assert_eq!(running.counters().await["discarded"], json!({"duplicate": 5}));
    assert_eq!(running.query("SELECT count(*) FROM events_raw").await, 6);
    running.stop().await;
}

#[tokio::test]
async fn an_orderly_end_commits_everything() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    running.post(heartbeats("v", 0..5)).await;
    let (root, client, url) = (running.root.clone(), running.client.clone(), running.url());
    running.stop().await;
    assert_eq!(spillway_lake::events_stored(&root, vec![]).await.expect("stored"), 5);
    assert!(client.post(url).body("x").send().await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_corrupt_wal_refuses_the_start_and_says_where() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    for seq in 0..3 {
        running.post(heartbeats("v", seq..seq + 1)).await;
    }
    running.kill().await;
    let segment = std::fs::read_dir(dir.path().join("wal"))
        .expect("dir")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .expect("segment");
    let mut bytes = std::fs::read(&segment).expect("read");
    bytes[40] ^= 0xff;
    std::fs::write(&segment, bytes).expect("write");
    let start = tokio::spawn({
        let dir = dir.path().to_owned();
        async move { start_with(&dir, config(), Arc::new(Hand::default())).await }
    });
    assert!(start.await.is_err_and(|error| error.is_panic()), "the start fails");
    let skip = spillway_collector::CollectorConfig { skip_corrupt: true, ..config() };
    let running = start_with(dir.path(), skip, Arc::new(Hand::default())).await;
    assert_eq!(running.post(heartbeats("v", 5..6)).await.0, 202);
    assert!(segment.with_extension("corrupt").exists());
    running.stop().await;
}

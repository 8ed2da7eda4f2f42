//! A collector that is killed loses nothing that it acknowledged; garbage is refused with a reason and counted.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_system_tests::{Ports, Role, SERVICE_TOKEN, WRITE_KEY, config, run};

pub fn beacon(view: &str, seqs: std::ops::Range<u64>) -> Value {
    let now_ms = 1_000 + seqs.start;
    let events: Vec<Value> = seqs
        .map(|seq| json!({"type": "heartbeat", "seq": seq, "created_ms": now_ms, "mono_ms": seq, "pathway": "cdn-a"}))
        .collect();
    json!({"v": 1, "sdk": "test/1", "sent_ms": now_ms, "ctx": {"view_id": view, "content_id": "live/x"}, "events": events})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_collector_loses_nothing_and_stores_nothing_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), ports, "")).expect("written");
    let arguments = ["collector", "--config", file.to_str().expect("utf-8")];
    let mut collector = Some(Role::start(&arguments));

    let senders: Vec<_> = (0..4).map(|sender| tokio::spawn(send_all(ports.collector, sender))).collect();
    for pause_ms in [400, 900] {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        collector.take().expect("running").kill();
        collector = Some(Role::start(&arguments));
    }
    let mut acknowledged = BTreeSet::new();
    for sender in senders {
        acknowledged.extend(sender.await.expect("a sender ends"));
    }

    let sql = "SELECT view_id, seq, count(*) AS copies FROM events_raw GROUP BY view_id, seq";
    let (status, out, said) = run(&["query", "--config", arguments[2], "--json", sql]);
    assert_eq!(status, 0, "{said}");
    let mut stored = BTreeSet::new();
    for line in out.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(row["copies"], 1, "stored twice: {row}");
        stored.insert((row["view_id"].as_str().expect("text").to_owned(), row["seq"].as_u64().expect("number")));
    }
    assert_eq!(acknowledged.len(), 4 * 60 * 5);
    let lost: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    drop(collector);
}

/// Posts 60 beacons of 5 events, each until it is acknowledged: what an SDK does.
async fn send_all(port: u16, sender: u64) -> Vec<(String, u64)> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("client");
    let url = format!("http://127.0.0.1:{port}/v1/beacons?k={WRITE_KEY}");
    let view = format!("view-{sender}");
    let mut acknowledged = Vec::new();
    for batch in 0..60 {
        let seqs = batch * 5..batch * 5 + 5;
        let body = beacon(&view, seqs.clone()).to_string();
        loop {
            let sent = client.post(&url).header("content-type", "text/plain").body(body.clone()).send().await;
            match sent {
                Ok(answer) if answer.status() == 202 => break,
                Ok(answer) => assert!([408, 429, 503].contains(&answer.status().as_u16()), "{}", answer.status()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        acknowledged.extend(seqs.map(|seq| (view.clone(), seq)));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    acknowledged
}

#[tokio::test]
async fn garbage_is_refused_with_a_reason_and_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), ports, "")).expect("written");
    let _collector = Role::start(&["collector", "--config", file.to_str().expect("utf-8")]);
    let client = reqwest::Client::new();
    let base = format!("http://127.0.0.1:{}", ports.collector);
    let half_good = {
        let mut half = beacon("half", 0..2);
        half["events"][1]["type"] = "teleport".into();
        half.to_string()
    };
    for (key, body, status, word) in [
        (WRITE_KEY, "{\"v\":1".to_owned(), 400, "bad_json"),
        (WRITE_KEY, String::new(), 400, "empty_body"),
        (WRITE_KEY, "{\"v\":9}".to_owned(), 400, "unknown_version"),
        ("nobody", beacon("v", 0..1).to_string(), 403, "unknown_key"),
        (WRITE_KEY, half_good, 202, "unknown_type"),
    ] {
        let sent = client.post(format!("{base}/v1/beacons?k={key}")).header("content-type", "text/plain").body(body);
        let answer = sent.send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{word}");
        let text = answer.text().await.expect("a body");
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
    let counters =
        client.get(format!("{base}/internal/counters")).bearer_auth(SERVICE_TOKEN).send().await.expect("counters");
    let counters: Value = counters.json().await.expect("JSON");
    let discarded: u64 = counters["discarded"].as_object().expect("by reason").values().filter_map(Value::as_u64).sum();
    assert_eq!(counters["accepted"], 1);
    assert_eq!(counters["received"].as_u64(), Some(1 + discarded), "{counters}");
    assert_eq!(counters["discarded"]["unknown_type"], 1, "{counters}");

    // What an operator watches is told each second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let metrics = client.get(format!("{base}/metrics")).send().await.expect("metrics").text().await.expect("text");
    for line in [
        "spillway_collector_events_accepted_total 1",
        "spillway_collector_events_discarded_total{reason=\"unknown_type\"} 1",
        "spillway_wal_append_seconds_count ",
        "spillway_wal_bytes ",
        "spillway_wal_queue_bytes 0",
        "spillway_lake_commit_lag_seconds ",
        "spillway_lake_pending_rows ",
    ] {
        assert!(metrics.contains(line), "{line:?} is missing in {metrics}");
    }
}

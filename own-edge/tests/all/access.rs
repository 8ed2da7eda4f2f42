//! The access log: what was delivered reaches a collector, and no viewer waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use spillway_wire::delivery::Delivery;
use spillway_wire::rows;

use crate::client::{LONG, get, get_with, raw};
use crate::scripted::{Scripted, Seen, Step, response};
use crate::support::{TOKEN, TestEdge, media};

const PATH: &str = "/v1/deliveries";

async fn collector(status: u16) -> Scripted {
    let server = Scripted::start().await;
    let answer = br#"{"accepted":1,"rejected":[],"duplicate":false}"#;
    server.on(PATH, move |_| vec![Step::Send(response(status, "Content-Type: application/json", answer))]);
    server
}

/// Every row that came, read as a collector reads them.
fn rows_of(seen: &[Seen]) -> Vec<Delivery> {
    let read = |seen: &Seen| {
        let received = rows::parse::<Delivery>(seen.body.as_bytes()).unwrap();
        assert_eq!(received.rejected, [], "{}", seen.body);
        received.rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
    };
    seen.iter().flat_map(read).collect()
}

#[tokio::test]
async fn each_request_is_one_delivery_with_its_bytes_result_and_cmcd() {
    let (origin, collector) = (Scripted::start().await, collector(202).await);
    origin.answer("/live/river/1.m4s", "Cache-Control: max-age=60", media(100_000));
    let edge = TestEdge::with(&origin.url(), &format!("collectors = [\"{}\"]", collector.url())).await;
    let cmcd = "CMCD=br%3D2400%2Cnor%3D%222.m4s%3Ft%3Dsecret%22%2Cot%3Dv%2Csid%3D%22view-1%22";
    assert_eq!(get(edge.address, &format!("/live/river/1.m4s?{cmcd}")).await.status, 200);
    edge.hit("/live/river/1.m4s").await;
    let headers = "CMCD-Object: br=800,ot=a\nCMCD-Session: sid=\"view-2\"\nRange: bytes=0-9";
    assert_eq!(get_with(edge.address, "/live/river/1.m4s", headers).await.status, 206);
    assert_eq!(raw(edge.address, &crate::client::get_bytes("HEAD", "/live/river/1.m4s", "")).await.status, 200);
    assert_eq!(get(edge.address, "/missing?token=secret").await.status, 404);
    assert_eq!(get(edge.address, "/1?CMCD=br%3D%3D").await.status, 404, "CMCD that is none costs itself");
    // Not understood, so not a delivery.
    assert_eq!(get(edge.address, "/a/%2e%2e/b").await.status, 400);

    edge.shutdown.cancel();
    tokio::time::timeout(LONG, async {
        while !edge.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let seen = collector.seen_at(PATH);
    assert_eq!(seen[0].header("authorization"), Some(&*format!("Bearer {TOKEN}")));
    assert!(seen[0].target.starts_with("/v1/deliveries?v=1&source=own-test-1&seq=1767"), "{}", seen[0].target);
    assert!(!seen.iter().any(|seen| seen.body.contains("secret")));
    let mut rows = rows_of(&seen);
    rows.retain(|row| !(row.cache_status.as_deref() == Some("hit") && row.bytes == Some(100_000)));
    let told: Vec<(&str, u16, u64, &str, Option<&str>)> = rows
        .iter()
        .map(|row| {
            let (path, word) = (row.path.as_deref().unwrap(), row.cache_status.as_deref().unwrap());
            (path, row.status.unwrap(), row.bytes.unwrap(), word, row.view_id.as_deref())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("/live/river/1.m4s", 200, 100_000, "miss", Some("view-1")),
            ("/live/river/1.m4s", 206, 10, "hit", Some("view-2")),
            ("/live/river/1.m4s", 200, 0, "hit", None),
            ("/missing", 404, 9, told[3].3, None),
            ("/1", 404, 9, told[4].3, None),
        ]
    );
    let pairs =
        |row: &Delivery| row.cmcd.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
    assert_eq!(pairs(&rows[0]), "br=2400 nor=2.m4s ot=v sid=view-1");
    assert_eq!(pairs(&rows[1]), "br=800 ot=a sid=view-2");
    assert_eq!(rows[4].cmcd, BTreeMap::new());
    for row in &rows {
        assert_eq!((row.pathway.as_deref(), row.protocol.as_deref()), (Some("own-test-1"), Some("HTTP/1.1")));
        assert_eq!((row.address.as_deref(), row.sample_rate), (Some("127.0.0.1"), None));
        assert!(row.duration_ms >= row.ttfb_ms && row.delivered_ms > 1_767_225_600_000);
    }
}

#[tokio::test]
async fn a_dead_collector_costs_viewers_nothing_and_the_end_little() {
    let (origin, collector) = (Scripted::start().await, collector(503).await);
    origin.answer("/a", "Cache-Control: max-age=60", "x");
    let edge = TestEdge::with(&origin.url(), &format!("collectors = [\"{}\"]", collector.url())).await;
    for _ in 0..50 {
        assert_eq!(get(edge.address, "/a").await.status, 200);
    }
    while collector.seen_at(PATH).len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(get(edge.address, "/a").await.status, 200);
    let seen = collector.seen_at(PATH);
    assert_eq!((&seen[0].target, &seen[0].body), (&seen[1].target, &seen[1].body), "the same batch again");
    edge.shutdown.cancel();
    tokio::time::timeout(LONG, async {
        while !edge.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_share_takes_whole_sessions_and_says_so() {
    let (origin, collector) = (Scripted::start().await, collector(202).await);
    origin.answer("/a", "Cache-Control: max-age=60", "x");
    let lines = format!("collectors = [\"{}\"]\ndeliveries_share = 0.5", collector.url());
    let edge = TestEdge::with(&origin.url(), &lines).await;
    for session in 0..40 {
        for _ in 0..2 {
            assert_eq!(get(edge.address, &format!("/a?CMCD=sid%3D%22s-{session}%22")).await.status, 200);
        }
    }
    edge.shutdown.cancel();
    while !edge.task.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut by_session: BTreeMap<String, u32> = BTreeMap::new();
    for row in rows_of(&collector.seen_at(PATH)) {
        assert_eq!(row.sample_rate, Some(0.5));
        *by_session.entry(row.view_id.unwrap()).or_default() += 1;
    }
    assert!((8..=32).contains(&by_session.len()), "{} of 40", by_session.len());
    assert!(by_session.values().all(|requests| *requests == 2), "{by_session:?}");
}

#[tokio::test]
async fn a_file_has_a_line_for_each_request_and_may_be_moved_away() {
    let (origin, folder) = (Scripted::start().await, tempfile::tempdir().unwrap());
    origin.answer("/1", "Cache-Control: max-age=60", "one");
    let (path, moved) = (folder.path().join("access.ndjson"), folder.path().join("access.1"));
    let edge = TestEdge::with(&origin.url(), &format!("access_log = {path:?}")).await;
    let lines = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Delivery>(line).unwrap()).collect::<Vec<_>>()
    };
    let written = async |path: &std::path::Path, count: usize| {
        for _ in 0..500 {
            if lines(path).len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} lines, not {count}", lines(path).len());
    };
    get(edge.address, "/1?CMCD=sid%3D%22view-1%22").await;
    get(edge.address, "/2").await;
    written(&path, 2).await;
    let rows = lines(&path);
    let said: Vec<_> = rows.iter().map(|row| (row.path.as_deref(), row.status, row.view_id.as_deref())).collect();
    assert_eq!(said, [(Some("/1"), Some(200), Some("view-1")), (Some("/2"), Some(404), None)]);
    std::fs::rename(&path, &moved).unwrap();
    get(edge.address, "/2").await;
    written(&path, 1).await;
    assert_eq!(lines(&moved).len(), 2);
    get(edge.address, "/2").await;
    edge.stop().await;
    assert_eq!(lines(&path).len(), 2, "the last lines are written before the end");
}

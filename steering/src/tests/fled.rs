//! Players that leave a pathway by themselves, over HTTP: they are not sent back, and are counted.

use spillway_model::Millis;
use spillway_wire::frame::Frame;

use super::fixtures::{manifest, sealed};
use super::node::{Node, server_uri};

/// Sums of `cdn-a` over the frames until `settled` polls of settled sessions were counted: (settled, fled).
async fn counted(node: &mut Node, settled: u64) -> (u64, u64) {
    let mut sums = (0, 0);
    while sums.0 < settled {
        let frame: Frame = serde_json::from_slice(&node.frames.next().await.expect("a frame")).expect("json");
        for cell in frame.cells.iter().filter(|cell| cell.sessions_settled > 0) {
            assert_eq!(cell.key.pathway, "cdn-a");
            sums = (sums.0 + cell.sessions_settled, sums.1 + cell.sessions_fled);
        }
    }
    sums
}

/// Polls at `uri` as a player that is on `on`: the answer's order, the next URI, and its TTL.
async fn poll(node: &Node, uri: &str, on: &str) -> (Vec<String>, String, Millis) {
    let answer = node.steer(&format!("{uri}&_HLS_pathway={on}&_HLS_throughput=5000000")).await;
    let next = answer.reload_uri.expect("a reload URI");
    let next = next.strip_prefix("http://steer.example").expect("ours").to_owned();
    let order = answer.priority.iter().map(ToString::to_string).collect();
    (order, next, Millis::from_secs(u64::from(answer.ttl_s)))
}

#[tokio::test]
async fn who_fled_is_not_sent_back_and_counts_as_evidence_once() {
    let mut node = Node::start().await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(1, &[("cdn-a", 1_000_000)])), |region| region["epoch"] == 1).await;
    for on in ["cdn-a", "cdn-b"] {
        let playlist = node.text(&format!("/v1/playlists/hls/vod/lake/master.m3u8?sid=then-on-{on}")).await;
        let (order, uri, _) = poll(&node, &server_uri(&playlist), "cdn-a").await;
        assert_eq!(order[0], "cdn-a");
        // Sooner than its TTL: it is believed of itself, but who asks so often is no evidence.
        let (order, ..) = poll(&node, &uri, "cdn-b").await;
        assert_eq!(order.last().map(String::as_str), Some("cdn-a"), "{order:?}");

        let (_, uri, ttl) = poll(&node, &uri, "cdn-a").await;
        node.clock.advance(ttl);
        let (order, uri, _) = poll(&node, &uri, on).await;
        let (again, ..) = poll(&node, &uri, on).await;
        assert_eq!(order, again, "{on}");
        if on == "cdn-a" {
            assert_eq!(order[0], "cdn-a");
        } else {
            assert_eq!(order.last().map(String::as_str), Some("cdn-a"), "{order:?}");
            assert!(uri.contains("&fled=") && uri.contains(":cdn-a"), "{uri}");
        }
    }
    assert_eq!(counted(&mut node, 2).await, (2, 1));
    node.shutdown.cancel();
}

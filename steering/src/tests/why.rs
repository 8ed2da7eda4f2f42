//! The signed debug header, over HTTP.

use spillway_model::Millis;

use super::fixtures::{manifest, sealed};
use super::node::Node;

#[tokio::test]
async fn with_a_signed_header_answers_say_why_and_without_it_nothing() {
    let node = Node::start().await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(3, &[("cdn-b", 1_000_000)])), |region| region["epoch"] == 3).await;
    let token = node.json("/v1/decide?content=vod/lake&sid=tv-1").await["token"].as_str().expect("text").to_owned();
    let explained = node.json(&format!("/v1/explain?t={token}")).await;
    assert!(explained.get("debug_header").is_none(), "a viewer's own token gives no leave: {explained}");
    let header = node.as_viewer("/v1/explain?sid=tv-1&content=vod/lake").await["debug_header"].clone();
    let header = header.as_str().expect("a bearer token does");

    for path in [format!("/v1/steer/hls?t={token}"), format!("/v1/decide?t={token}")] {
        assert!(!node.get(&path).await.headers().contains_key("x-spillway-why"));
        for forged in ["", "debug~9999999999~k~00", &format!("{header}0"), &token] {
            let answer = node.with_header(&path, "x-spillway-debug", forged).await;
            assert_eq!((answer.status().as_u16(), answer.headers().contains_key("x-spillway-why")), (200, false));
        }
        let answer = node.with_header(&path, "x-spillway-debug", header).await;
        assert!(answer.headers()["access-control-expose-headers"].to_str().expect("text").contains("x-spillway-why"));
        let why = answer.headers()["x-spillway-why"].to_str().expect("ASCII");
        let why: serde_json::Value = serde_json::from_str(why).expect("JSON");
        assert_eq!((&why["epoch"], &why["rule"], &why["reason"]), (&3.into(), &"because".into(), &"weight".into()));
    }
    node.clock.advance(Millis::from_secs(3_601));
    let late = node.with_header(&format!("/v1/steer/hls?t={token}"), "x-spillway-debug", header).await;
    assert!(!late.headers().contains_key("x-spillway-why"), "its hour is over");
    node.shutdown.cancel();
}

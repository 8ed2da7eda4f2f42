//! What players announce is there before they ask.

use crate::client::{get, get_with, open_get};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::TestEdge;

const KEPT: &str = "Cache-Control: max-age=60";

#[tokio::test]
async fn the_announced_next_segment_is_fetched_once_and_then_a_hit() {
    let origin = Scripted::start().await;
    for target in ["/v/1.m4s", "/v/2.m4s?t=1", "/v/3.m4s"] {
        origin.answer(target, KEPT, target);
    }
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/v/1.m4s?CMCD=bl%3D2000%2Cnor%3D%222.m4s%3Ft%3D1%22").await;
    origin.asked("/v/2.m4s?t=1", 1).await;
    assert_eq!(edge.hit("/v/2.m4s?t=1&CMCD=bl%3D1000").await.body, b"/v/2.m4s?t=1");
    get_with(edge.address, "/v/1.m4s", "CMCD-Request: nor=\"..%2Fv%2F3.m4s\"").await;
    origin.asked("/v/3.m4s", 1).await;
    edge.hit("/v/3.m4s").await;
    // Announced again, it is there.
    get(edge.address, "/v/1.m4s?CMCD=nor%3D%223.m4s%22").await;
    assert_eq!((origin.count("/v/2.m4s?t=1"), origin.count("/v/3.m4s")), (1, 1));
}

#[tokio::test]
async fn who_asks_while_it_is_fetched_ahead_joins_that_fetch() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.answer("/1", KEPT, "one");
    origin.on("/2", move |_| vec![Step::Wait(held.clone()), Step::Send(response(200, KEPT, b"two"))]);
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/1?CMCD=nor%3D%222%22").await;
    origin.asked("/2", 1).await;
    let waiting = open_get(edge.address, "/2").await;
    gate.open();
    assert_eq!(waiting.rest().await.body, b"two");
    assert_eq!(origin.count("/2"), 1);
}

#[tokio::test]
async fn what_is_elsewhere_or_no_plain_path_is_not_fetched() {
    let origin = Scripted::start().await;
    origin.answer("/a/1", KEPT, "one");
    origin.answer("/last", KEPT, "last");
    let edge = TestEdge::start(&origin).await;
    for nor in [
        "http%3A%2F%2Fevil.example%2Fx",
        "%2F%2Fevil.example%2Fx",
        "https%3A%2F%2Fedge.invalid%2Fx",
        "x%252fy",
        "x%2500",
        "ftp%3A%2F%2Fedge.invalid%2Fx",
    ] {
        get(edge.address, &format!("/a/1?CMCD=nor%3D%22{nor}%22")).await;
    }
    get(edge.address, "/a/1?CMCD=nor%3D%22..%2Flast%22").await;
    origin.asked("/last", 1).await;
    assert_eq!((origin.seen_at("/x").len(), origin.seen_at("/a/1").len()), (0, 1));
    assert!(origin.seen_at("/a/x%2fy").is_empty() && origin.seen_at("/a/x%00").is_empty());
}

#[tokio::test]
async fn what_is_known_not_to_be_kept_is_not_fetched_ahead() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, "one");
    origin.answer("/2", "Cache-Control: no-store", "two");
    origin.answer("/3", KEPT, "three");
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/2").await;
    get(edge.address, "/1?CMCD=nor%3D%222%22").await;
    get(edge.address, "/1?CMCD=nor%3D%223%22").await;
    origin.asked("/3", 1).await;
    assert_eq!(origin.count("/2"), 1);
}

//! What players announce is there before they ask.

use std::time::Duration;

use crate::client::{get, get_with, open_get, raw};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TOKEN, TestEdge};

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

/// A playlist of `segments` from a number on.
fn playlist(first: u32, segments: &[&str], more: &str) -> String {
    let segments: String = segments.iter().map(|name| format!("#EXTINF:2,\n{name}\n")).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n{segments}{more}")
}

/// Puts a playlist and segments of these names where they are asked for.
fn stream(origin: &Scripted, list: &str, text: String, segments: &[&str]) {
    origin.answer(list, KEPT, text);
    for name in segments {
        origin.answer(name, KEPT, *name);
    }
}

#[tokio::test]
async fn the_next_segment_of_the_playlist_is_there_before_it_is_asked_for() {
    let origin = Scripted::start().await;
    let text = playlist(0, &["1.ts?t=x", "2.ts", "3.ts"], "#EXT-X-ENDLIST\n");
    stream(&origin, "/v/list.m3u8", text, &["/v/1.ts?t=x", "/v/2.ts", "/v/3.ts"]);
    let edge = TestEdge::start(&origin).await;
    edge.hit("/v/list.m3u8").await;
    assert_eq!(get(edge.address, "/v/1.ts?t=x&CMCD=bl%3D2000").await.body, b"/v/1.ts?t=x");
    origin.asked("/v/2.ts", 1).await;
    assert_eq!(origin.count("/v/3.ts"), 0, "one ahead, not all");
    edge.hit("/v/2.ts").await;
    // A hit goes on with the next, too; and the last one has none.
    origin.asked("/v/3.ts", 1).await;
    edge.hit("/v/3.ts").await;
    assert_eq!((origin.count("/v/2.ts"), origin.count("/v/3.ts")), (1, 1));
}

#[tokio::test]
async fn what_a_player_announces_goes_before_what_the_playlist_says() {
    let origin = Scripted::start().await;
    let text = playlist(0, &["1.ts", "2.ts"], "");
    stream(&origin, "/list.m3u8", text, &["/1.ts", "/2.ts", "/hd-2.ts"]);
    let edge = TestEdge::start(&origin).await;
    edge.hit("/list.m3u8").await;
    get(edge.address, "/1.ts?CMCD=nor%3D%22hd-2.ts%22").await;
    origin.asked("/hd-2.ts", 1).await;
    edge.hit("/hd-2.ts").await;
    assert_eq!(origin.count("/2.ts"), 0);
}

#[tokio::test]
async fn the_operator_says_what_is_fetched_ahead() {
    for (value, announced) in [("off", 0), ("announced", 1)] {
        let origin = Scripted::start().await;
        stream(&origin, "/list.m3u8", playlist(0, &["1.ts", "2.ts"], ""), &["/1.ts", "/2.ts", "/3.ts", "/last.ts"]);
        let edge = TestEdge::with(&origin.url(), &format!("prefetch = \"{value}\"")).await;
        edge.hit("/list.m3u8").await;
        get(edge.address, "/1.ts").await;
        get(edge.address, "/1.ts?CMCD=nor%3D%223.ts%22").await;
        if announced > 0 {
            origin.asked("/3.ts", announced).await;
        }
        // What was begun before this is done by then, or seen at least.
        get(edge.address, "/last.ts").await;
        assert_eq!((origin.count("/2.ts"), origin.count("/3.ts")), (0, announced), "{value}");
    }
}

#[tokio::test]
async fn a_purged_playlist_says_nothing_any_more() {
    let origin = Scripted::start().await;
    stream(&origin, "/list.m3u8", playlist(0, &["1.ts", "2.ts"], ""), &["/1.ts", "/2.ts", "/last.ts"]);
    let edge = TestEdge::start(&origin).await;
    edge.hit("/list.m3u8").await;
    let purge = format!(
        "POST /.spillway/purge HTTP/1.1\r\nHost: e\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 25\r\n\r\n{{\"urls\": [\"/list.m3u8\"]}} "
    );
    assert_eq!(raw(edge.address, purge.as_bytes()).await.status, 200);
    get(edge.address, "/1.ts").await;
    get(edge.address, "/last.ts").await;
    assert_eq!(origin.count("/2.ts"), 0);
}

#[tokio::test]
async fn segments_by_number_are_fetched_as_far_as_the_mpd_goes() {
    let origin = Scripted::start().await;
    let mpd = "<MPD type=\"static\" mediaPresentationDuration=\"PT4S\"><Period><AdaptationSet><SegmentTemplate \
        duration=\"2\" startNumber=\"1\" media=\"$RepresentationID$/$Number$.m4s\"/><Representation id=\"v1\"/>\
        </AdaptationSet></Period></MPD>";
    stream(&origin, "/m.mpd", mpd.to_owned(), &["/v1/1.m4s", "/v1/2.m4s", "/v1/3.m4s", "/last"]);
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/m.mpd").await;
    // It is read beside, which nobody waits for.
    while origin.count("/v1/2.m4s") == 0 {
        get(edge.address, "/v1/1.m4s").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    edge.hit("/v1/2.m4s").await;
    get(edge.address, "/last").await;
    assert_eq!(origin.count("/v1/3.m4s"), 0);
}

#[tokio::test]
async fn what_is_new_at_a_live_edge_is_fetched_once_for_those_who_watch_it() {
    let origin = Scripted::start().await;
    let live = "Cache-Control: max-age=1";
    for name in ["a", "b"] {
        origin.answer(&format!("/{name}.m3u8"), live, playlist(7, &[&format!("{name}7.ts")], ""));
    }
    for name in ["/a7.ts", "/a8.ts", "/b7.ts", "/b8.ts"] {
        origin.answer(name, KEPT, name);
    }
    let edge = TestEdge::start(&origin).await;
    for target in ["/a.m3u8", "/b.m3u8", "/a7.ts"] {
        edge.hit(target).await;
    }
    for name in ["a", "b"] {
        let segments = [format!("{name}7.ts"), format!("{name}8.ts")];
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        origin.answer(&format!("/{name}.m3u8"), live, playlist(7, &segments, ""));
    }
    edge.clock.forward(2);
    // Nobody watches the second one.
    get(edge.address, "/b.m3u8").await;
    get(edge.address, "/a.m3u8").await;
    origin.asked("/a8.ts", 1).await;
    edge.hit("/a8.ts").await;
    assert_eq!((origin.count("/a8.ts"), origin.count("/b8.ts")), (1, 0));
}

#[tokio::test]
async fn nothing_is_fetched_ahead_from_an_origin_that_fails() {
    let origin = Scripted::start().await;
    stream(&origin, "/list.m3u8", playlist(0, &["1.ts", "2.ts"], ""), &["/1.ts", "/2.ts", "/last"]);
    origin.on("/bad", |_| vec![Step::Send(response(500, "", b"bad"))]);
    let edge = TestEdge::start(&origin).await;
    edge.hit("/list.m3u8").await;
    for _ in 0..3 {
        get(edge.address, "/bad").await;
    }
    get(edge.address, "/1.ts").await;
    assert_eq!(origin.count("/2.ts"), 0);
}

#[tokio::test]
async fn nothing_is_fetched_ahead_near_the_ceiling() {
    let origin = Scripted::start().await;
    stream(&origin, "/list.m3u8", playlist(0, &["1.ts", "2.ts"], ""), &["/1.ts", "/2.ts", "/last"]);
    origin.answer("/large", KEPT, vec![0; 1_000_000]);
    let edge = TestEdge::with(&origin.url(), "ceiling_mbps = 0.8").await;
    edge.hit("/list.m3u8").await;
    for target in ["/large", "/1.ts", "/last"] {
        assert_eq!(get(edge.address, target).await.status, 200, "a running session goes on");
    }
    assert_eq!(origin.count("/2.ts"), 0);
    edge.clock.forward(11);
    get(edge.address, "/1.ts").await;
    origin.asked("/2.ts", 1).await;
}

#[tokio::test]
async fn what_a_playlist_says_wrongly_changes_no_answer() {
    let origin = Scripted::start().await;
    let texts = [
        "#EXTM3U\n#EXTINF:x,\nhttp://elsewhere.example/1.ts\n#EXTINF:2,\n..%2f..%2fetc\n#EXT-X-MAP:URI=\"\n".to_owned(),
        "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n#EXTINF:1e999,\n/never\n#EXT-X-SKIP:SKIPPED-SEGMENTS=-4\n".to_owned(),
        "<MPD><Period><SegmentTemplate media=\"$\"/>".to_owned(),
        format!("#EXTM3U\n{}", "#EXTINF:2,\nx\n".repeat(200_000)),
    ];
    let edge = TestEdge::start(&origin).await;
    origin.answer("/1.ts", KEPT, "one");
    for (n, text) in texts.iter().enumerate() {
        let target = format!("/{n}.m3u8");
        origin.answer(&target, KEPT, text.clone());
        assert_eq!(get(edge.address, &target).await.body, text.as_bytes());
        assert_eq!(edge.hit(&target).await.body, text.as_bytes());
        assert_eq!(edge.hit("/1.ts").await.body, b"one");
    }
    // Bytes that are no text.
    origin.answer("/bytes.m3u8", KEPT, [b"#EXTM3U\n\xff\xfe\0".as_slice(), &[0xff; 3]].concat());
    edge.hit("/bytes.m3u8").await;
    assert_eq!((origin.count("/never"), origin.count("/1.ts")), (0, 1));
}

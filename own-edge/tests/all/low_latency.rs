//! Low-latency HLS: what an origin holds on purpose is held once, and speaks against nobody.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::client::{get, head, open_get};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::TestEdge;

const RELOAD: &str = "/live.m3u8?_HLS_msn=8&_HLS_part=0";
const FOR_A_SECOND: &str = "Cache-Control: max-age=1";

/// A live playlist with segment 7, and the first part of the next one to come.
fn playlist(target_s: u32) -> String {
    format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:{target_s}\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:1,\n7.m4s\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.0.m4s\"\n"
    )
}

fn origins(all: &[&Scripted]) -> String {
    all.iter().map(|origin| format!("[[origins]]\nurl = \"{}\"\n", origin.url())).collect()
}

/// Waits at the gate, then answers.
fn holds(origin: &Scripted, target: &str, gate: &Gate, answer: Vec<u8>) {
    let steps = vec![Step::Wait(gate.clone()), Step::Send(answer)];
    origin.on(target, move |_| steps.clone());
}

#[tokio::test]
async fn all_who_wait_for_a_playlist_wait_upstream_once_and_have_it_at_once() {
    let origin = Scripted::start().await;
    // Once kept, once good for those who wait alone.
    for (n, headers) in [FOR_A_SECOND, ""].into_iter().enumerate() {
        let (path, gate) = (format!("/{n}.m3u8"), Gate::new());
        holds(&origin, &path, &gate, response(200, headers, playlist(1).as_bytes()));
        let edge = TestEdge::start(&origin).await;
        // In any order of the directives, with a session of one's own.
        let targets = (0..40).map(|n| match n % 2 {
            0 => format!("{path}?_HLS_msn=8&_HLS_part=0&CMCD=sid%3D%22a{n}%22"),
            _ => format!("{path}?_HLS_part=0&_HLS_msn=8"),
        });
        let mut waiting = Vec::new();
        for target in targets {
            waiting.push(open_get(edge.address, &target).await);
        }
        origin.asked(&format!("{path}?_HLS_msn=8&_HLS_part=0"), 1).await;
        // All have been read by then.
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
        for reply in join_all(waiting.into_iter().map(|open| open.rest())).await {
            assert_eq!((reply.status, reply.complete, reply.body == playlist(1).as_bytes()), (200, true, true));
        }
        assert_eq!(origin.seen_at(&path).len(), 1);
    }
}

#[tokio::test]
async fn a_long_hold_is_no_slow_origin() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    let gate = Gate::new();
    a.answer("/live.m3u8", "Cache-Control: max-age=60", playlist(1));
    holds(&a, RELOAD, &gate, response(200, FOR_A_SECOND, b"#EXTM3U\nnew"));
    for n in 0..3 {
        a.answer(&format!("/{n}"), "", "from the first");
        b.answer(&format!("/{n}"), "", "from the second");
    }
    b.answer("/live.m3u8", FOR_A_SECOND, "from the second");
    // A usual answer has a second at most.
    let lines = format!("origin_try_ms = 100\norigin_first_byte_ms = 1000\n{}", origins(&[&a, &b]));
    let edge = TestEdge::of(&lines).await;
    edge.hit("/live.m3u8").await;
    let began = Instant::now();
    let opener = async {
        a.asked(RELOAD, 1).await;
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        gate.open();
    };
    let (reply, ()) = tokio::join!(get(edge.address, RELOAD), opener);
    assert_eq!(reply.body, b"#EXTM3U\nnew", "{}", reply.head);
    assert!(began.elapsed() >= Duration::from_millis(2_500));
    assert!(b.seen_at("/live.m3u8").is_empty());
    assert_eq!(get(edge.address, "/0").await.body, b"from the first");
}

#[tokio::test]
async fn a_hold_in_vain_is_the_last_word_and_no_failure() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    a.answer("/live.m3u8", "Cache-Control: max-age=60", playlist(1));
    let edge = TestEdge::of(&origins(&[&a, &b])).await;
    edge.hit("/live.m3u8").await;
    // The encoder stands still: three renditions' reloads end in vain, after more than a target duration.
    let replies = join_all((8..12).map(async |msn| {
        let (gate, target) = (Gate::new(), format!("/live.m3u8?_HLS_msn={msn}"));
        holds(&a, &target, &gate, response(503, "", b"nothing new"));
        let opener = async {
            a.asked(&target, 1).await;
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            gate.open();
        };
        tokio::join!(get(edge.address, &target), opener).0
    }));
    assert!(replies.await.iter().all(|reply| reply.status == 503 && reply.body == b"nothing new"));
    assert!(b.seen_at("/live.m3u8").is_empty(), "what is not there yet is nowhere");
    a.answer("/7.m4s", FOR_A_SECOND, "seven");
    assert_eq!(get(edge.address, "/7.m4s").await.body, b"seven", "the first one is still asked first");
    // One that says so at once is in trouble.
    a.on("/live.m3u8?_HLS_msn=20", |_| vec![Step::Send(response(503, "", b"down"))]);
    b.answer("/live.m3u8?_HLS_msn=20", FOR_A_SECOND, playlist(1));
    assert_eq!(get(edge.address, "/live.m3u8?_HLS_msn=20").await.body, playlist(1).as_bytes());
}

#[tokio::test]
async fn a_hold_ends() {
    let origin = Scripted::start().await;
    let never = Gate::new();
    origin.answer("/live.m3u8", "Cache-Control: max-age=60", playlist(1));
    holds(&origin, RELOAD, &never, Vec::new());
    let edge = TestEdge::with(&origin.url(), "origin_first_byte_ms = 500\norigin_try_ms = 100").await;
    edge.hit("/live.m3u8").await;
    let began = Instant::now();
    assert_eq!(get(edge.address, RELOAD).await.status, 504);
    let took = began.elapsed();
    assert!((Duration::from_millis(3_100)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn an_announced_part_is_held_and_streamed_through_to_all_who_wait() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    let (born, rest) = (Gate::new(), Gate::new());
    a.answer("/live.m3u8", "Cache-Control: max-age=60", playlist(1));
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nmoof1\r\n";
    let steps = vec![
        Step::Wait(born.clone()),
        Step::Send(head.into()),
        Step::Wait(rest.clone()),
        Step::Send(b"5\r\nmdat2\r\n0\r\n\r\n".to_vec()),
    ];
    a.on("/8.0.m4s", move |_| steps.clone());
    let lines = format!("origin_try_ms = 100\norigin_first_byte_ms = 600\n{}", origins(&[&a, &b]));
    let edge = TestEdge::of(&lines).await;
    edge.hit("/live.m3u8").await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(open_get(edge.address, "/8.0.m4s").await);
    }
    a.asked("/8.0.m4s", 1).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    born.open();
    // The first bytes are there before the last ones exist.
    for one in &mut waiting {
        one.first_byte().await;
    }
    rest.open();
    for reply in join_all(waiting.into_iter().map(|open| open.rest())).await {
        assert_eq!((&reply.body[..], reply.complete), (&b"moof1mdat2"[..], true));
    }
    edge.hit("/8.0.m4s").await;
    assert_eq!((a.count("/8.0.m4s"), b.count("/8.0.m4s")), (1, 0));
}

#[tokio::test]
async fn held_requests_leave_the_others_their_places() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    origin.answer("/live.m3u8", "Cache-Control: max-age=60", playlist(1));
    holds(&origin, RELOAD, &gate, response(200, FOR_A_SECOND, b"new"));
    origin.answer("/7.m4s", FOR_A_SECOND, "seven");
    let edge = TestEdge::with(&origin.url(), "origin_requests = 1\norigin_connect_ms = 500").await;
    edge.hit("/live.m3u8").await;
    let waiting = open_get(edge.address, RELOAD).await;
    origin.asked(RELOAD, 1).await;
    assert_eq!(get(edge.address, "/7.m4s").await.body, b"seven");
    gate.open();
    assert_eq!(waiting.rest().await.body, b"new");
    // Who asks for the head alone may wait, too.
    assert_eq!(head(edge.address, RELOAD).await.status, 200);
}

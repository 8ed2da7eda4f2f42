//! Several origins: who is asked when one fails.

use std::time::Duration;

use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::client::{get, get_with, head, raw};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::TestEdge;

/// Longer than an answer takes on this machine, shorter than any time that is configured here.
const SOON: Duration = Duration::from_millis(1_500);

/// A port that nobody listens on.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn list(urls: &[&str]) -> String {
    urls.iter().map(|url| format!("[[origins]]\nurl = \"{url}\"\n")).collect()
}

/// Two origins that have the same things.
async fn two() -> (Scripted, Scripted) {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    for origin in [&a, &b] {
        for n in 0..20 {
            origin.answer(&format!("/{n}"), "Cache-Control: max-age=60", "media");
        }
    }
    (a, b)
}

fn fails(origin: &Scripted, target: &str, status: u16) {
    origin.on(target, move |_| vec![Step::Send(response(status, "", b"trouble"))]);
}

#[tokio::test]
async fn while_the_first_works_nobody_else_is_asked() {
    let (a, b) = two().await;
    let edge = TestEdge::of(&list(&[&a.url(), &b.url()])).await;
    a.on("/404", |_| vec![Step::Send(response(404, "", b"gone"))]);
    for n in 0..5 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"media");
    }
    assert_eq!(get(edge.address, "/404").await.body, b"gone", "that something is not there is an answer");
    assert_eq!((a.count("/4"), b.count("/4"), b.count("/404")), (1, 0, 0));
}

#[tokio::test]
async fn a_first_origin_that_is_down_is_no_ones_concern() {
    let (_a, b) = two().await;
    let edge = TestEdge::of(&list(&[&nobody().await, &b.url()])).await;
    for n in 0..10 {
        let began = Instant::now();
        let reply = get(edge.address, &format!("/{n}")).await;
        assert_eq!((reply.status, &reply.body[..]), (200, &b"media"[..]), "{}", reply.head);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_first_origin_that_hangs_costs_one_try_until_it_is_out() {
    let (a, b) = two().await;
    let never = Gate::new();
    for n in 0..20 {
        let steps = vec![Step::Wait(never.clone())];
        a.on(&format!("/{n}"), move |_| steps.clone());
    }
    let edge = TestEdge::of(&format!("origin_try_ms = 300\n{}", list(&[&a.url(), &b.url()]))).await;
    for n in 0..6 {
        let began = Instant::now();
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"media");
        let took = began.elapsed();
        assert!(took < SOON, "{took:?}");
        assert_eq!(took >= Duration::from_millis(300), n < 3, "/{n} took {took:?}");
    }
}

#[tokio::test]
async fn who_waits_for_an_origin_that_others_found_silent_waits_no_longer() {
    let (a, b) = two().await;
    let never = Gate::new();
    for target in (0..20).map(|n| format!("/{n}")).chain(["/healthz".to_owned()]) {
        let steps = vec![Step::Wait(never.clone())];
        a.on(&target, move |_| steps.clone());
    }
    let probed = "health_path = \"/healthz\"\nhealth_interval_ms = 200\n";
    let edge = TestEdge::of(&format!("origin_try_ms = 8000\n{}{probed}{}", list(&[&a.url()]), list(&[&b.url()]))).await;
    let began = Instant::now();
    let replies = join_all((0..10).map(async |n| get(edge.address, &format!("/{n}")).await)).await;
    assert!(replies.iter().all(|reply| reply.body == b"media"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_blocking_playlist_is_slow_on_purpose() {
    let (a, b) = two().await;
    let gate = Gate::new();
    let steps = [Step::Wait(gate.clone()), Step::Send(response(200, "", b"late"))];
    a.on("/live.m3u8", move |_| steps.to_vec());
    b.answer("/live.m3u8", "", "from another");
    let edge = TestEdge::of(&format!("origin_try_ms = 100\n{}", list(&[&a.url(), &b.url()]))).await;
    let asked = get(edge.address, "/live.m3u8?_HLS_msn=3");
    let (reply, ()) = tokio::join!(asked, async {
        a.asked("/live.m3u8?_HLS_msn=3", 1).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        gate.open();
    });
    assert_eq!((&reply.body[..], b.seen_at("/live.m3u8").len()), (&b"late"[..], 0), "{}", reply.head);
}

#[tokio::test]
async fn all_together_take_no_longer_than_one_may() {
    let never = Gate::new();
    let origins = [Scripted::start().await, Scripted::start().await, Scripted::start().await];
    for origin in &origins {
        let steps = vec![Step::Wait(never.clone())];
        origin.on("/1", move |_| steps.clone());
    }
    let urls: Vec<String> = origins.iter().map(Scripted::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let lines = format!("origin_first_byte_ms = 900\norigin_try_ms = 400\n{}", list(&urls));
    let edge = TestEdge::of(&lines).await;
    let began = Instant::now();
    let reply = get(edge.address, "/1").await;
    assert_eq!(reply.status, 504, "{}", reply.head);
    assert!((Duration::from_millis(850)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(origins.iter().all(|origin| origin.count("/1") == 1), "each is asked once");
}

#[tokio::test]
async fn an_origin_in_trouble_is_the_second_choice() {
    let (a, b) = two().await;
    let edge = TestEdge::of(&list(&[&a.url(), &b.url()])).await;
    for (n, status) in [(0, 502), (1, 503), (2, 504)] {
        fails(&a, &format!("/{n}"), status);
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"media");
        // So that they are not three failures in a row.
        assert_eq!(get(edge.address, &format!("/{}", n + 10)).await.status, 200);
    }
    fails(&a, "/3", 500);
    assert_eq!(get(edge.address, "/3").await.status, 500, "another one would hardly do better");
    for origin in [&a, &b] {
        fails(origin, "/4", 503);
    }
    let reply = get(edge.address, "/4").await;
    assert_eq!((reply.status, &reply.body[..]), (503, &b"trouble"[..]), "its word reaches who asked");
    assert_eq!((a.count("/4"), b.count("/4")), (1, 1));
}

#[tokio::test]
async fn an_answer_is_better_than_none() {
    let a = Scripted::start().await;
    a.on("/1", |_| vec![Step::Send(response(503, "Retry-After: 7", b"busy"))]);
    let edge = TestEdge::of(&list(&[&a.url(), &nobody().await])).await;
    let reply = get(edge.address, "/1").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("7")), "{}", reply.head);
}

#[tokio::test]
async fn only_what_may_be_asked_twice_is() {
    let b = Scripted::start().await;
    for method in ["GET", "HEAD", "POST"] {
        b.on("/1", |_| vec![Step::Send(response(200, "", b""))]);
        let edge = TestEdge::of(&format!("methods = [\"*\"]\n{}", list(&[&nobody().await, &b.url()]))).await;
        let request = format!("{method} /1 HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let request = if method == "POST" { request } else { request.replace("Content-Length: 0\r\n", "") };
        let status = raw(edge.address, request.as_bytes()).await.status;
        assert_eq!(status, if method == "POST" { 502 } else { 200 }, "{method}");
    }
    assert_eq!(b.count("/1"), 2);
}

#[tokio::test]
async fn what_can_not_be_asked_twice_goes_to_one_that_works() {
    let (_a, b) = two().await;
    let edge = TestEdge::of(&format!("methods = [\"*\"]\n{}", list(&[&nobody().await, &b.url()]))).await;
    for n in 0..3 {
        get(edge.address, &format!("/{n}")).await;
    }
    let post = b"POST /5 HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(raw(edge.address, post).await.status, 200);
    assert_eq!(b.seen("/5")[0].body, "hi");
}

#[tokio::test]
async fn one_origin_is_asked_once_whatever_it_answers() {
    let a = Scripted::start().await;
    for status in [500, 502, 503, 504] {
        fails(&a, &format!("/{status}"), status);
    }
    a.on("/reset", |_| vec![Step::Reset]);
    let edge = TestEdge::of(&list(&[&a.url()])).await;
    for (target, status) in [("/500", 500), ("/502", 502), ("/503", 503), ("/504", 504), ("/reset", 502)] {
        assert_eq!(get(edge.address, target).await.status, status, "{target}");
        assert_eq!(a.count(target), 1, "{target}");
    }
    // It is out by now, and the only one.
    a.answer("/1", "", "media");
    assert_eq!(get(edge.address, "/1").await.body, b"media");
}

#[tokio::test]
async fn all_down_is_stale_or_an_error() {
    let (a, b) = two().await;
    let edge = TestEdge::of(&list(&[&a.url(), &b.url()])).await;
    edge.hit("/1").await;
    drop((a, b));
    edge.clock.forward(70);
    let stale = get(edge.address, "/1").await;
    assert_eq!((stale.status, &stale.body[..]), (200, &b"media"[..]), "{}", stale.head);
    assert!(stale.cache_status().contains("detail=origin-connect"), "{}", stale.head);
    for n in 0..5 {
        assert_eq!(get(edge.address, &format!("/new-{n}")).await.status, 502);
    }
}

#[tokio::test]
async fn an_origin_that_is_out_is_left_alone_until_its_time_is_over() {
    let (a, b) = two().await;
    for n in 0..20 {
        a.on(&format!("/{n}"), |_| vec![Step::Reset]);
    }
    let edge = TestEdge::of(&list(&[&a.url(), &b.url()])).await;
    let asked = |n: usize| a.count(&format!("/{n}"));
    for n in 0..6 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"media");
    }
    assert_eq!((0..6).map(asked).collect::<Vec<_>>(), [1, 1, 1, 0, 0, 0]);
    edge.clock.forward(1);
    // One request tries it, and it stays out for twice as long.
    for n in 6..9 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"media");
    }
    assert_eq!((6..9).map(asked).collect::<Vec<_>>(), [1, 0, 0]);
    for n in 9..20 {
        a.answer(&format!("/{n}"), "Cache-Control: max-age=60", "first");
    }
    edge.clock.forward(1);
    assert_eq!(get(edge.address, "/9").await.body, b"media");
    edge.clock.forward(1);
    for n in 10..13 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"first", "it is back");
    }
}

#[tokio::test]
async fn an_origin_that_cuts_its_bodies_is_left_alone_too() {
    let (a, b) = two().await;
    for n in 0..20 {
        let whole = response(200, "Cache-Control: max-age=60", b"media");
        let cut = whole[..whole.len() - 2].to_vec();
        a.on(&format!("/{n}"), move |_| vec![Step::Send(cut.clone()), Step::Close]);
    }
    let edge = TestEdge::of(&list(&[&a.url(), &b.url()])).await;
    for n in 0..3 {
        assert!(!get(edge.address, &format!("/{n}")).await.complete);
    }
    assert_eq!(get(edge.address, "/4").await.body, b"media");
    assert_eq!(a.count("/4"), 0);
}

#[tokio::test]
async fn a_probe_finds_out_before_a_viewer_does_and_ends_it_too() {
    let (a, b) = two().await;
    fails(&a, "/healthz", 500);
    let probed = format!("health_path = \"/healthz\"\nhealth_interval_ms = 100\n{}", list(&[&b.url()]));
    let edge = TestEdge::of(&format!("{}{probed}", list(&[&a.url()]))).await;
    a.asked("/healthz", 3).await;
    // The third answer is on its way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(edge.address, "/1").await.status, 200);
    assert_eq!((a.count("/1"), b.count("/1")), (0, 1));
    let probes = a.count("/healthz");
    assert_eq!(a.seen("/healthz")[0].header("user-agent"), Some("spillway-edge-probe"));
    a.answer("/healthz", "", "fine");
    edge.clock.forward(2);
    a.asked("/healthz", probes + 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(get(edge.address, "/2").await.status, 200);
    assert_eq!((a.count("/2"), b.count("/2")), (1, 0));
}

#[tokio::test]
async fn one_edge_stands_before_several_properties() {
    let (a, b) = (Scripted::start().await, Scripted::start().await);
    a.answer("/river/1", "", "river");
    b.answer("/lake/1", "", "lake");
    let lines = format!(
        "[[origins]]\nurl = \"{}\"\nprefixes = [\"/river/\"]\n[[origins]]\nurl = \"{}\"\nprefixes = [\"/lake/\"]",
        a.url(),
        b.url()
    );
    let edge = TestEdge::of(&lines).await;
    assert_eq!(get(edge.address, "/river/1").await.body, b"river");
    assert_eq!(get(edge.address, "/lake/1").await.body, b"lake");
    let none = get(edge.address, "/sea/1").await;
    assert_eq!(none.status, 404, "{}", none.head);
    assert!(none.cache_status().contains("detail=origin-none"), "{}", none.head);
}

#[tokio::test]
async fn a_revalidation_goes_on_to_the_next_origin() {
    let (a, b) = two().await;
    a.answer("/v", "Cache-Control: max-age=10\nETag: \"1\"", "media");
    b.on("/v", |seen| {
        assert_eq!(seen.header("if-none-match"), Some("\"1\""));
        vec![Step::Send(response(304, "Cache-Control: max-age=10\nETag: \"1\"", b""))]
    });
    let edge = TestEdge::of(&list(&[&a.url(), &b.url()])).await;
    edge.hit("/v").await;
    fails(&a, "/v", 503);
    edge.clock.forward(11);
    let reply = get(edge.address, "/v").await;
    assert_eq!((reply.status, &reply.body[..], b.count("/v")), (200, &b"media"[..], 1), "{}", reply.head);
    assert!(get_with(edge.address, "/v", "").await.is_hit());
    assert_eq!(head(edge.address, "/v").await.status, 200);
}

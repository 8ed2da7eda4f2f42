//! What is kept, for how long, and what clients get of it.

use crate::client::{get, get_with, head};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::TestEdge;

/// Serves `first`; then 304 to whoever knows its tag, and `second` to others.
fn versions(origin: &Scripted, target: &str, control: &str) {
    let control = control.to_owned();
    origin.on(target, move |seen| {
        let headers = format!("{control}\nETag: \"v1\"");
        vec![Step::Send(match seen.header("if-none-match") {
            Some("\"v1\"") => response(304, &format!("{headers}\nX-Round: later"), b""),
            _ => response(200, &format!("{headers}\nX-Round: first"), b"version 1"),
        })]
    });
}

#[tokio::test]
async fn a_fresh_object_is_served_with_its_age_and_an_expired_one_is_revalidated_once() {
    let origin = Scripted::start().await;
    versions(&origin, "/1", "Cache-Control: max-age=10");
    let edge = TestEdge::start(&origin).await;

    let miss = get(edge.address, "/1").await;
    assert!(miss.cache_status().contains("own-test-1; fwd=miss; stored; ttl=10"), "{}", miss.head);
    edge.hit("/1").await;
    edge.clock.forward(4);
    let hit = get(edge.address, "/1").await;
    assert!(hit.is_hit() && hit.header("age") == Some("4"), "{}", hit.head);
    edge.clock.forward(7);
    let revalidated = get(edge.address, "/1").await;
    assert_eq!((revalidated.status, &revalidated.body[..]), (200, &b"version 1"[..]));
    assert_eq!(revalidated.header("x-round"), Some("later"));
    assert!(revalidated.cache_status().contains("fwd=stale"), "{}", revalidated.head);
    assert_eq!(revalidated.header("age"), Some("0"));
    assert!(get(edge.address, "/1").await.is_hit());

    let seen = origin.seen("/1");
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].header("if-none-match"), Some("\"v1\""));
}

#[tokio::test]
async fn a_new_version_replaces_the_old_one() {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=10\nETag: \"a\"", "old");
    let edge = TestEdge::start(&origin).await;
    edge.hit("/1").await;
    origin.answer("/1", "Cache-Control: max-age=10\nETag: \"b\"", "new");
    edge.clock.forward(11);
    assert_eq!(get(edge.address, "/1").await.body, b"new");
    assert_eq!(edge.hit("/1").await.body, b"new");
}

#[tokio::test]
async fn a_304_that_speaks_of_another_version_is_not_believed() {
    let origin = Scripted::start().await;
    origin.on("/1", |seen| {
        vec![Step::Send(match seen.header("if-none-match") {
            Some(_) => response(304, "ETag: \"other\"", b""),
            None => response(200, "Cache-Control: max-age=10\nETag: \"a\"", b"whole"),
        })]
    });
    let edge = TestEdge::start(&origin).await;
    edge.hit("/1").await;
    edge.clock.forward(11);
    let reply = get(edge.address, "/1").await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"whole"[..]));
    assert_eq!(origin.count("/1"), 3);
}

#[tokio::test]
async fn a_revalidation_is_waited_for_by_all_and_made_once() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let behind = gate.clone();
    origin.on("/1", move |seen| match seen.header("if-none-match") {
        Some(_) => {
            vec![Step::Wait(behind.clone()), Step::Send(response(304, "Cache-Control: max-age=10\nETag: \"a\"", b""))]
        }
        None => vec![Step::Send(response(200, "Cache-Control: max-age=10\nETag: \"a\"", b"kept"))],
    });
    let edge = TestEdge::start(&origin).await;
    edge.hit("/1").await;
    edge.clock.forward(11);
    let open = futures::future::join_all((0..20).map(|_| crate::client::open_get(edge.address, "/1"))).await;
    origin.asked("/1", 2).await;
    gate.open();
    for reply in futures::future::join_all(open.into_iter().map(|client| client.rest())).await {
        assert_eq!((reply.status, &reply.body[..]), (200, &b"kept"[..]));
    }
    assert_eq!(origin.count("/1"), 2);
}

#[tokio::test]
async fn stale_serves_at_once_while_one_revalidates() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    origin.answer("/1", "Cache-Control: max-age=10, stale-while-revalidate=60\nETag: \"a\"", "old");
    let edge = TestEdge::start(&origin).await;
    edge.hit("/1").await;
    let behind = gate.clone();
    origin.on("/1", move |_| {
        vec![Step::Wait(behind.clone()), Step::Send(response(200, "Cache-Control: max-age=60", b"new"))]
    });
    edge.clock.forward(12);
    for _ in 0..5 {
        let stale = get(edge.address, "/1").await;
        assert!(stale.body == b"old" && stale.cache_status().contains("stale-while-revalidate"), "{}", stale.head);
    }
    origin.asked("/1", 2).await;
    gate.open();
    while get(edge.address, "/1").await.body != b"new" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(edge.hit("/1").await.body, b"new");
    assert_eq!(origin.count("/1"), 2);
}

#[tokio::test]
async fn without_an_origin_stale_serves_for_a_while_unless_that_is_forbidden() {
    let origin = Scripted::start().await;
    origin.answer("/may", "Cache-Control: max-age=10", "kept");
    origin.answer("/must-not", "Cache-Control: max-age=10, must-revalidate", "kept");
    let edge = TestEdge::start(&origin).await;
    for target in ["/may", "/must-not"] {
        edge.hit(target).await;
    }
    drop(origin);
    edge.clock.forward(11);
    for detail in ["detail=origin-", "origin-failed-just-now"] {
        let stale = get(edge.address, "/may").await;
        assert_eq!((stale.status, &stale.body[..]), (200, &b"kept"[..]));
        assert!(stale.cache_status().contains(detail), "{}", stale.head);
    }
    let forbidden = get(edge.address, "/must-not").await;
    assert_eq!(forbidden.status, 504, "{}", forbidden.head);
    assert_eq!(forbidden.header("access-control-allow-origin"), Some("*"));
    edge.clock.forward(60);
    let gone = get(edge.address, "/may").await;
    assert_eq!(gone.status, 502);
    assert!(gone.cache_status().contains("detail=origin-"), "{}", gone.head);
}

#[tokio::test]
async fn an_error_serves_stale_only_where_the_origin_allowed_it() {
    let origin = Scripted::start().await;
    origin.answer("/may", "Cache-Control: max-age=10, stale-if-error=60", "kept");
    origin.answer("/may-not", "Cache-Control: max-age=10", "kept");
    let edge = TestEdge::start(&origin).await;
    for target in ["/may", "/may-not"] {
        edge.hit(target).await;
        origin.on(target, |_| vec![Step::Send(response(503, "", b"down"))]);
    }
    edge.clock.forward(11);
    assert_eq!(get(edge.address, "/may").await.status, 200);
    let passed = get(edge.address, "/may-not").await;
    assert_eq!((passed.status, &passed.body[..]), (503, &b"down"[..]));
    origin.answer("/may-not", "Cache-Control: max-age=10", "back");
    assert_eq!(get(edge.address, "/may-not").await.body, b"back");
}

#[tokio::test]
async fn an_origin_that_does_not_answer_ends_in_504_and_one_that_talks_nonsense_in_502() {
    let origin = Scripted::start().await;
    let never = Gate::new();
    origin.on("/hang", move |_| vec![Step::Wait(never.clone())]);
    origin.on("/nonsense", |_| vec![Step::Send(b"what?\r\n\r\n".to_vec()), Step::Close]);
    origin.on("/close", |_| vec![Step::Close]);
    let edge = TestEdge::with(&origin.url(), "origin_first_byte_ms = 100").await;
    for (target, status, detail) in
        [("/hang", 504, "origin-timeout"), ("/nonsense", 502, "origin-answer"), ("/close", 502, "origin-answer")]
    {
        let reply = get(edge.address, target).await;
        assert_eq!(reply.status, status, "{target}");
        assert!(reply.cache_status().contains(detail), "{target}: {}", reply.head);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn a_head_comes_from_what_is_kept_or_from_the_origin() {
    let origin = Scripted::start().await;
    origin.on("/1", |seen| {
        let whole = response(200, "Cache-Control: max-age=60\nX-Kind: media", b"12345");
        vec![Step::Send(if seen.head.starts_with("HEAD") { whole[..whole.len() - 5].to_vec() } else { whole })]
    });
    let edge = TestEdge::start(&origin).await;
    let passed = head(edge.address, "/1").await;
    assert_eq!((passed.status, passed.header("content-length"), passed.complete), (200, Some("5"), true));
    assert!(origin.seen("/1")[0].head.starts_with("HEAD /1 "));
    edge.hit("/1").await;
    let hit = head(edge.address, "/1").await;
    assert!(hit.is_hit() && hit.complete && hit.header("content-length") == Some("5"), "{}", hit.head);
    assert_eq!(hit.header("x-kind"), Some("media"));
    assert_eq!(origin.count("/1"), 2);
}

#[tokio::test]
async fn cmcd_tells_no_objects_apart_and_stays_here() {
    let origin = Scripted::start().await;
    origin.answer("/1?a=1", "Cache-Control: max-age=60", "x");
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/1?a=1&CMCD=sid%3D%22v-1%22").await;
    assert_eq!(edge.hit("/1?CMCD=sid%3D%22v-2%22&a=1").await.body, b"x");
    assert_eq!(origin.count("/1?a=1"), 1);
}

#[tokio::test]
async fn the_origin_hears_a_client_but_nothing_that_would_change_what_everybody_gets() {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=60", "shared");
    origin.answer("/2", "Cache-Control: max-age=60", "secret");
    let edge = TestEdge::start(&origin).await;
    let lines = "Cookie: a=b\nX-Any: 1\nX-Any: 2\nVia: 1.1 before\nConnection: X-Hop\nX-Hop: 1\nOrigin: https://x.example\n\
                 Accept-Encoding: br\nRange: bytes=0-0\nIf-None-Match: \"a\"\nX-Forwarded-Host: evil.example\nForwarded: host=evil.example\nX-Host: evil.example\n\
                 X-Original-URL: /admin\nX-HTTP-Method-Override: DELETE\nCMCD-Session: sid=\"v-1\"";
    get_with(edge.address, "/1", lines).await;
    let seen = origin.seen("/1").remove(0);
    for name in [
        "origin",
        "range",
        "if-none-match",
        "x-hop",
        "x-forwarded-host",
        "forwarded",
        "x-host",
        "x-original-url",
        "x-http-method-override",
        "cmcd-session",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!((seen.header("cookie"), seen.header("x-any")), (Some("a=b"), Some("1")));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert!(seen.head.to_lowercase().contains("via: 1.1 before\r\nvia: 1.1 own-test-1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), Some(&*origin.address.to_string()));

    let alone = get_with(edge.address, "/2", "Authorization: Bearer x").await;
    assert_eq!(alone.body, b"secret");
    assert_eq!(origin.seen("/2")[0].header("authorization"), Some("Bearer x"));
    assert!(!get(edge.address, "/2").await.is_hit(), "what credentials brought is not kept");
}

#[tokio::test]
async fn every_answer_can_be_read_by_a_page_elsewhere_and_names_the_pathway() {
    let origin = Scripted::start().await;
    let private = "Cache-Control: max-age=60\nAccess-Control-Allow-Origin: https://x.example\n\
                   Access-Control-Allow-Credentials: true\nConnection: x-hop\nX-Hop: 1\nCache-Status: shield; hit";
    origin.answer("/1", private, "x");
    let edge = TestEdge::start(&origin).await;
    for target in ["/1", "/1", "/missing"] {
        let reply = get(edge.address, target).await;
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{}", reply.head);
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert!(reply.header("access-control-expose-headers").is_some_and(|names| names.contains("Retry-After")));
        assert_eq!(reply.header("timing-allow-origin"), Some("*"));
        assert_eq!(reply.header("x-pathway"), Some("own-test-1"));
        assert_eq!(reply.header("via"), Some("1.1 own-test-1"));
        assert_eq!(reply.header("x-hop"), None);
    }
    let hit = edge.hit("/1").await.head.to_lowercase();
    assert!(
        hit.contains("cache-status: shield; hit\r\n") && hit.contains("cache-status: own-test-1; hit; ttl="),
        "{hit}"
    );
}

#[tokio::test]
async fn what_holds_for_some_paths_holds_for_these_only() {
    let origin = Scripted::start().await;
    origin.answer("/live/1.m3u8", "Cache-Control: max-age=60", "playlist");
    origin.answer("/vod/1.m4s", "Cache-Control: no-cache", "segment");
    origin.on("/vod/gone.m4s", |_| vec![Step::Send(response(404, "", b"none"))]);
    let paths = r#"paths = [
        { prefix = "/live/", max_ttl_s = 1, ignore_query = ["*"] },
        { prefix = "/t/", strip_segments = 2, ttl_s = 30, error_ttl_s = 5 },
    ]"#;
    let edge = TestEdge::with(&origin.url(), paths).await;
    get(edge.address, "/live/1.m3u8?viewer=1").await;
    edge.hit("/live/1.m3u8?viewer=2").await;
    edge.clock.forward(2);
    get(edge.address, "/live/1.m3u8").await;
    assert_eq!(origin.count("/live/1.m3u8"), 2);
    // A token in the path names nobody's object, and reaches no origin.
    get(edge.address, "/t/one/vod/1.m4s").await;
    assert_eq!(edge.hit("/t/two/vod/1.m4s").await.body, b"segment");
    get(edge.address, "/t/one/vod/gone.m4s").await;
    edge.hit("/t/one/vod/gone.m4s").await;
    assert_eq!((origin.count("/vod/1.m4s"), origin.count("/vod/gone.m4s")), (1, 1));
    get(edge.address, "/vod/gone.m4s").await;
}

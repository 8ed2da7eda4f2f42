//! What a proxy between clients and an origin owes both: methods, variants, what is changed, what comes ahead, whose answer it is.

use std::net::Ipv4Addr;

use crate::client::{get, get_bytes, get_with, open, open_get, raw};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::TestEdge;

const KEPT: &str = "Cache-Control: max-age=60";

/// An answer that names the request's `Foo`.
fn by_foo(origin: &Scripted, target: &str) {
    origin.on(target, |seen| {
        let said = seen.header("foo").unwrap_or("none").to_owned();
        vec![Step::Send(response(200, &format!("{KEPT}\nVary: Foo"), said.as_bytes()))]
    });
}

#[tokio::test]
async fn any_method_goes_through_where_it_is_allowed_and_its_success_makes_the_url_forgotten() {
    let origin = Scripted::start().await;
    origin.on("/1", |seen| {
        let status = match seen.header("x-answer") {
            Some(status) => status.parse().unwrap(),
            None => 200,
        };
        vec![Step::Send(response(status, "Cache-Control: max-age=60\nContent-Location: /2", b"one"))]
    });
    origin.answer("/2", KEPT, "two");
    let edge = TestEdge::with(&origin.url(), "methods = [\"*\"]").await;
    let send = async |method: &str, lines: &str, body: &str| {
        let head = get_bytes(method, "/1", &format!("Content-Length: {}\n{lines}", body.len()));
        raw(edge.address, &[&head, body.as_bytes()].concat()).await
    };
    for (method, lines, forgets) in [
        ("POST", "", true),
        ("M-SEARCH", "", true),
        ("DELETE", "X-Answer: 302", true),
        ("PUT", "X-Answer: 404", false),
        ("PATCH", "X-Answer: 503", false),
    ] {
        for target in ["/1", "/2"] {
            get(edge.address, target).await;
            edge.hit(target).await;
        }
        let reply = send(method, lines, "a body").await;
        assert!(reply.cache_status().contains("fwd=method"), "{method}: {}", reply.head);
        let seen = origin.seen("/1").pop().unwrap();
        assert!(seen.head.starts_with(&format!("{method} /1 ")) && seen.body == "a body", "{}", seen.head);
        assert_eq!(reply.header("connection"), Some("close"), "what follows a body is not looked at");
        for target in ["/1", "/2"] {
            assert_eq!(get(edge.address, target).await.is_hit(), !forgets, "{method} {lines} {target}");
        }
    }
    for method in ["CONNECT", "TRACE"] {
        let target = if method == "CONNECT" { "edge.example:80" } else { "/1" };
        let reply = raw(edge.address, &get_bytes(method, target, "")).await;
        assert!(matches!(reply.status, 400 | 405 | 414), "{method}: {}", reply.head);
    }
}

#[tokio::test]
async fn what_follows_a_body_on_its_connection_is_not_a_request() {
    let origin = Scripted::start().await;
    origin.answer("/1", "", "one");
    origin.answer("/2", "", "two");
    let edge = TestEdge::with(&origin.url(), "methods = [\"*\"]").await;
    for (lines, status) in [
        ("Content-Length: 2\r\n\r\nok", 200),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ] {
        let request = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{lines}GET /2 HTTP/1.1\r\nHost: a\n\r\n");
        let reply = raw(edge.address, request.as_bytes()).await;
        assert_eq!(reply.status, status, "{lines:?}: {}", reply.head);
    }
    assert_eq!((origin.count("/1"), origin.count("/2")), (1, 0));
}

#[tokio::test]
async fn each_variant_is_fetched_once_and_given_to_those_who_ask_for_it() {
    let origin = Scripted::start().await;
    by_foo(&origin, "/1");
    let edge = TestEdge::start(&origin).await;
    for said in ["1", "2", "3"] {
        assert_eq!(get_with(edge.address, "/1", &format!("Foo: {said}")).await.body, said.as_bytes());
    }
    assert_eq!(get(edge.address, "/1").await.body, b"none");
    for said in ["1", "2", "3"] {
        let hit = get_with(edge.address, "/1", &format!("Foo: {said}\nBar: {said}")).await;
        assert!(hit.is_hit() && hit.body == said.as_bytes(), "{}", hit.head);
    }
    assert_eq!(origin.count("/1"), 4);
}

#[tokio::test]
async fn who_waited_for_another_variant_gets_their_own() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/1", move |seen| {
        let said = seen.header("foo").unwrap_or("none").to_owned();
        vec![Step::Wait(held.clone()), Step::Send(response(200, &format!("{KEPT}\nVary: Foo"), said.as_bytes()))]
    });
    let edge = TestEdge::start(&origin).await;
    let sayings = ["1", "2", "1", "2", "2"];
    let mut asking = Vec::new();
    for said in sayings {
        let request = get_bytes("GET", "/1", &format!("Foo: {said}"));
        asking.push(open(edge.address, Ipv4Addr::LOCALHOST.into(), &request).await);
        origin.asked("/1", 1).await;
    }
    // They all wait for the first, since nobody knows yet that it depends on anything.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(origin.count("/1"), 1);
    gate.open();
    for (open, said) in asking.into_iter().zip(sayings) {
        assert_eq!(open.rest().await.body, said.as_bytes());
    }
    assert_eq!(origin.count("/1"), 2, "one fetch for each variant");
}

#[tokio::test]
async fn what_was_being_fetched_when_its_url_was_changed_is_not_kept() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/1", move |seen| match seen.head.starts_with("GET") {
        true => vec![Step::Wait(held.clone()), Step::Send(response(200, KEPT, b"old"))],
        false => vec![Step::Send(response(200, "", b"changed"))],
    });
    let edge = TestEdge::with(&origin.url(), "methods = [\"*\"]").await;
    let before = open_get(edge.address, "/1").await;
    origin.asked("/1", 1).await;
    assert_eq!(raw(edge.address, &get_bytes("POST", "/1", "")).await.body, b"changed");
    gate.open();
    assert_eq!(before.rest().await.body, b"old", "who asked before may have it");
    for _ in 0..3 {
        let reply = get(edge.address, "/1").await;
        if reply.is_hit() {
            break;
        }
    }
    // The first fetch and the change; then one more that is kept.
    assert_eq!(origin.count("/1"), 3);
}

#[tokio::test]
async fn an_early_hint_reaches_who_asked_and_is_not_kept() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/1", move |_| {
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.js>; rel=preload\r\nKeep-Alive: 5\r\n\r\n".to_vec();
        vec![Step::Send(hint), Step::Wait(held.clone()), Step::Send(response(200, KEPT, b"body"))]
    });
    let edge = TestEdge::start(&origin).await;
    let first = open_get(edge.address, "/1").await;
    origin.asked("/1", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    gate.open();
    // The client reads the hint as a first head without a body; the answer stands behind it.
    let reply = first.rest().await;
    assert_eq!((reply.status, reply.header("link")), (103, Some("</a.js>; rel=preload")));
    assert_eq!(reply.header("keep-alive"), None);
    let rest = String::from_utf8(reply.body).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\nbody"), "{rest}");
    let hit = edge.hit("/1").await;
    assert_eq!((hit.status, hit.header("link")), (200, None));

    origin.on("/2", |_| {
        let hint = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
        vec![Step::Send(hint), Step::Send(response(200, KEPT, b"body"))]
    });
    let old = raw(edge.address, b"GET /2 HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(old.status, 200, "HTTP/1.0 knows no hints: {}", old.head);
}

#[tokio::test]
async fn an_answer_for_one_is_given_to_nobody_else() {
    let origin = Scripted::start().await;
    let gate = Gate::new();
    for (target, headers) in
        [("/private", "Cache-Control: private"), ("/silent", "X: 1"), ("/no-store", "Cache-Control: no-store")]
    {
        let held = gate.clone();
        origin.on(target, move |seen| {
            let who = seen.header("cookie").or(seen.header("authorization")).unwrap_or("nobody").to_owned();
            vec![Step::Wait(held.clone()), Step::Send(response(200, headers, who.as_bytes()))]
        });
    }
    let edge = TestEdge::start(&origin).await;
    let whos = ["Cookie: ann", "Cookie: bob", "Authorization: cid", "X: 1", "Cookie: ann"];
    for target in ["/private", "/silent", "/no-store"] {
        let mut asking = Vec::new();
        for who in whos {
            let request = get_bytes("GET", target, who);
            asking.push(open(edge.address, Ipv4Addr::LOCALHOST.into(), &request).await);
            origin.asked(target, 1).await;
        }
        gate.open();
        for (open, who) in asking.into_iter().zip(whos) {
            let expected = if who == "X: 1" { "nobody" } else { who.rsplit(' ').next().unwrap() };
            let reply = open.rest().await;
            assert_eq!(String::from_utf8(reply.body).unwrap(), expected, "{target} {who}: {}", reply.head);
        }
    }
}

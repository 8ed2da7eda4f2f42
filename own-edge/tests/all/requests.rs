//! Requests that are not taken, clients that don't behave, and the end.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{LONG, get, get_bytes, get_with, open_get, raw};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TOKEN, TestEdge};

#[tokio::test]
async fn requests_that_two_parsers_may_read_differently_are_refused() {
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    for request in [
        "GET /1 HTTP/1.1\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: \r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET http://b/1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/1 HTTP/1.1\r\n\r\n",
        "GET /1 HTTP/1.1\nHost: a\n\n",
        "GET /1 HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "GET /1 HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n",
    ] {
        let reply = raw(edge.address, request.as_bytes()).await;
        assert_eq!(reply.status, 400, "{request:?}: {}", reply.head);
    }
    assert_eq!(origin.count("/1"), 0);
}

/// Lines that repeat are read once: they must not stand for others.
#[tokio::test]
async fn each_request_of_a_connection_says_what_its_own_lines_say() {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=60", "0123456789");
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/1").await;
    let lines = ["", "", "Range: bytes=1-2\r\n", "Range: bytes=1-2\r\n", "Range: bytes=1-3\r\n", "", "Host: a\r\n"];
    let requests = lines.map(|line| format!("GET /1 HTTP/1.1\r\nHost: a\r\n{line}\r\n"));
    let expected = ["0123456789", "0123456789", "12", "12", "123", "0123456789", "request refused: two-hosts\n"];
    // At once, one by one, and so that each ends within a line.
    let (whole, all) = (requests.concat(), requests.concat().len());
    for step in [all, requests[0].len(), 7, 1] {
        let mut stream = TcpStream::connect(edge.address).await.expect("connection");
        stream.set_nodelay(true).expect("no delay");
        for part in whole.as_bytes().chunks(step) {
            stream.write_all(part).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let mut came = Vec::new();
        tokio::time::timeout(LONG, stream.read_to_end(&mut came)).await.expect("it ends").expect("read");
        let came = String::from_utf8(came).expect("text");
        let answers: Vec<_> = came.split("HTTP/1.1 ").skip(1).collect();
        let bodies: Vec<_> =
            answers.iter().filter_map(|answer| answer.split_once("\r\n\r\n")).map(|(_, b)| b).collect();
        assert_eq!(bodies, expected, "{step} bytes at once");
    }
}

#[tokio::test]
async fn what_follows_a_refused_request_on_its_connection_is_not_a_request() {
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    let smuggled = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = raw(edge.address, smuggled.as_bytes()).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!((origin.count("/1"), origin.count("/2")), (0, 0));
}

#[tokio::test]
async fn paths_that_leave_the_root_in_any_coding_are_refused() {
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    for path in ["/../etc", "/a/../../b", "/%2e%2e/a", "/.%2E/a", "/a%2f..%2fb", "/a%5c..%5cb", "/a%00", "/a/..;/b"] {
        let reply = get(edge.address, path).await;
        assert_eq!(reply.status, 400, "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    }
    let long = get(edge.address, &format!("/{}", "a".repeat(9_000))).await;
    assert_eq!(long.status, 414);
    let heavy = get_with(edge.address, "/1", &format!("X: {}", "a".repeat(33_000))).await;
    assert_eq!(heavy.status, 431);
    let many = get_with(edge.address, "/1", &"X: a\n".repeat(200)).await;
    assert_eq!(many.status, 431);
}

#[tokio::test]
async fn a_preflight_is_answered_here() {
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    let headers =
        "Origin: https://x.example\nAccess-Control-Request-Method: GET\nAccess-Control-Request-Headers: range";
    let reply = raw(edge.address, &get_bytes("OPTIONS", "/1", headers)).await;
    assert_eq!((reply.status, reply.header("access-control-allow-headers")), (204, Some("range")));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(origin.count("/1"), 0);
}

#[tokio::test]
async fn a_request_that_was_here_before_is_a_loop() {
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    let reply = get_with(edge.address, "/1", "Via: 1.1 shield, 1.1 own-test-1").await;
    assert_eq!(reply.status, 508);
    assert_eq!(origin.count("/1"), 0);
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut() {
    let origin = Scripted::start().await;
    let edge = TestEdge::with(&origin.url(), "header_timeout_ms = 200").await;
    for begin in ["", "GET /1 HTTP/1.1\r\nHost: a\r\nX-", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("cut");
        assert!(ended.is_err() || !bytes.starts_with(b"HTTP/1.1 200"), "{begin:?}");
    }
    // Dribbling doesn't buy time.
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let dribble = async {
        for byte in b"GET /1 HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            .iter()
            .cycle()
        {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, dribble).await.expect("cut");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_others_are_served() {
    let (origin, body) = (Scripted::start().await, vec![7; 30_000_000]);
    origin.answer("/1", "Cache-Control: max-age=60", body.clone());
    let edge = TestEdge::with(&origin.url(), "write_stall_ms = 300").await;
    let stalled = open_get(edge.address, "/1").await;
    assert_eq!(get(edge.address, "/1").await.body.len(), body.len());
    tokio::time::sleep(Duration::from_millis(700)).await;
    let reply = stalled.rest().await;
    assert!(!reply.complete, "{} bytes", reply.body.len());
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_from_the_same_memory() {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=60", "over two");
    let edge = TestEdge::start(&origin).await;
    edge.hit("/1").await;
    let client: hyper_util::client::legacy::Client<_, http_body_util::Empty<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).http2_only(true).build_http();
    let uri: http::Uri = format!("http://{}/1", edge.address).parse().unwrap();
    let reply = client.get(uri).await.unwrap();
    assert_eq!((reply.status(), reply.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    assert!(reply.headers()["cache-status"].to_str().unwrap().contains("; hit"));
    let body = http_body_util::BodyExt::collect(reply.into_body()).await.unwrap().to_bytes();
    assert_eq!(body, "over two");
}

#[tokio::test]
async fn health_stands_on_the_same_port_and_numbers_need_the_service_token() {
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    assert_eq!(get(edge.address, "/.spillway/healthz").await.body, b"ok\n");
    assert_eq!(get(edge.address, "/.spillway/readyz").await.status, 200);
    assert_eq!(get(edge.address, "/.spillway/else").await.status, 404);
    let token = format!("Authorization: Bearer {TOKEN}");
    // Without a recorder there are none, but nobody else learns that either way.
    assert_eq!(get_with(edge.address, "/.spillway/metrics", &token).await.status, 404);
    assert!(origin.seen("/.spillway/healthz").is_empty());
}

#[tokio::test]
async fn an_admin_listener_takes_health_off_the_viewers_port() {
    let origin = Scripted::start().await;
    let free = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let edge = TestEdge::with(&origin.url(), &format!("admin_listen = \"{free}\"")).await;
    assert_eq!(get(edge.address, "/.spillway/healthz").await.status, 404);
    assert_eq!(get(free, "/readyz").await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_turned_away_and_a_free_place_is_used_again() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let steps = vec![Step::Wait(gate.clone()), Step::Send(response(200, "", b"x"))];
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::with(&origin.url(), "max_connections = 1").await;
    let first = open_get(edge.address, "/1").await;
    origin.asked("/1", 1).await;
    let mut second = TcpStream::connect(edge.address).await.unwrap();
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(LONG, second.read_to_end(&mut bytes)).await.expect("turned away");
    assert!(ended.is_err() || bytes.is_empty());
    gate.open();
    assert_eq!(first.rest().await.body, b"x");
    for attempt in 0.. {
        let mut third = TcpStream::connect(edge.address).await.unwrap();
        let _ = third.write_all(&get_bytes("GET", "/1", "")).await;
        let mut bytes = Vec::new();
        if third.read_to_end(&mut bytes).await.is_ok() && bytes.starts_with(b"HTTP/1.1 200") {
            break;
        }
        assert!(attempt < 200, "the place never became free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn at_the_end_open_answers_are_finished_and_new_connections_refused() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let whole = response(200, "Cache-Control: max-age=60", b"to the end");
    let (begin, rest) = (whole[..whole.len() - 4].to_vec(), whole[whole.len() - 4..].to_vec());
    let steps = vec![Step::Send(begin), Step::Wait(gate.clone()), Step::Send(rest)];
    origin.on("/1", move |_| steps.clone());
    let mut edge = TestEdge::start(&origin).await;
    let mut client = open_get(edge.address, "/1").await;
    client.first_byte().await;

    edge.shutdown.cancel();
    while TcpStream::connect(edge.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!edge.readiness.is_ready());
    gate.open();
    let reply = client.rest().await;
    assert!(reply.complete && reply.body == b"to the end");
    tokio::time::timeout(LONG, &mut edge.task).await.expect("ends").unwrap();
}

//! Who may read, how often they may ask, how many connections they have.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{LONG, get, get_bytes, get_from, get_with, raw};
use crate::scripted::Scripted;
use crate::support::{TOKEN, TestEdge};

const KEPT: &str = "Cache-Control: max-age=60\nAccess-Control-Allow-Origin: https://of.the.origin";

#[tokio::test]
async fn only_pages_of_listed_sites_may_ask_and_read() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, "one");
    let lines = "allowed_origins = [\"https://tv.example\", \"https://*.media.example\"]";
    let edge = TestEdge::with(&origin.url(), lines).await;
    for _ in 0..2 {
        for page in ["https://tv.example", "https://a.media.example"] {
            let reply = get_with(edge.address, "/1", &format!("Origin: {page}")).await;
            assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(page)));
            assert_eq!((reply.header("vary"), reply.header("timing-allow-origin")), (Some("Origin"), Some(page)));
        }
    }
    // A player that is no page.
    let reply = get(edge.address, "/1").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None));
    for method in ["GET", "OPTIONS"] {
        let reply = raw(edge.address, &get_bytes(method, "/1", "Origin: https://evil.example")).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None), "{method}");
    }
    let asks = "Origin: https://tv.example\nAccess-Control-Request-Method: GET";
    let preflight = raw(edge.address, &get_bytes("OPTIONS", "/1", asks)).await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("https://tv.example")));
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_so_and_others_are_served() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, "one");
    let edge = TestEdge::with(&origin.url(), "requests_per_s_per_client = 3").await;
    let mut told = 0;
    for _ in 0..20 {
        let reply = get_from(edge.address, [127, 0, 0, 2], "/1").await;
        if reply.status == 429 {
            told += 1;
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "a player must be able to read it");
        }
    }
    assert!((10..=14).contains(&told), "{told}");
    assert_eq!(get_from(edge.address, [127, 0, 0, 3], "/1").await.status, 200);
    // An operator is no client.
    let authorised = format!("Authorization: Bearer {TOKEN}");
    for _ in 0..20 {
        assert_ne!(get_with(edge.address, "/.spillway/metrics", &authorised).await.status, 429);
    }
}

#[tokio::test]
async fn a_client_has_so_many_connections_and_gets_one_back_for_each_that_ends() {
    let origin = Scripted::start().await;
    origin.answer("/1", KEPT, "one");
    let edge = TestEdge::with(&origin.url(), "max_connections_per_client = 3").await;
    let request = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut open = Vec::new();
    for n in 0..5 {
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let _ = stream.write_all(request).await;
        let mut bytes = [0; 12];
        let read = tokio::time::timeout(LONG, stream.read_exact(&mut bytes)).await.expect("answered or closed");
        assert_eq!(read.is_ok(), n < 3, "connection {n}");
        open.extend(read.is_ok().then_some(stream));
    }
    assert_eq!(get_from(edge.address, [127, 0, 0, 2], "/1").await.status, 200, "another client");
    drop(open.pop());
    for _ in 0..100 {
        if get(edge.address, "/1").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no place came free");
}

//! Bodies that are cut, and go on where they stopped, or end as cut.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::{get, open_get};
use crate::scripted::{Gate, Scripted, Seen, Step, lines, response};
use crate::support::{TestEdge, media};

const LEN: usize = 400_000;
const CUT: usize = 150_000;
const HEADERS: &str = "Cache-Control: max-age=60\nETag: \"v1\"";

/// The head and the first bytes, and then, behind the gate, a reset.
fn cut(headers: &str, gate: &Gate) -> Vec<Step> {
    let whole = response(200, headers, &media(LEN));
    let begin = whole[..whole.len() - LEN + CUT].to_vec();
    vec![Step::Send(begin), Step::Wait(gate.clone()), Step::Reset]
}

/// From where a request wants to go on.
fn from(seen: &Seen) -> Option<usize> {
    seen.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

/// The bytes from `from`, with the validator.
fn rest(from: usize, etag: &str) -> Vec<u8> {
    let headers = format!("ETag: {etag}\nContent-Range: bytes {from}-{}/{LEN}", LEN - 1);
    response(206, &headers, &media(LEN)[from..])
}

fn list(origins: &[&Scripted]) -> String {
    origins.iter().map(|origin| format!("[[origins]]\nurl = \"{}\"\n", origin.url())).collect()
}

#[tokio::test]
async fn a_body_that_was_cut_goes_on_from_the_same_origin_byte_by_byte() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let steps = cut(HEADERS, &gate);
    origin.on("/1", move |seen| match from(seen) {
        None => steps.clone(),
        Some(from) => {
            assert_eq!(seen.header("if-range"), Some("\"v1\""));
            vec![Step::Send(rest(from, "\"v1\""))]
        }
    });
    let edge = TestEdge::start(&origin).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = open_get(edge.address, "/1").await;
        client.first_byte().await;
        clients.push(client);
    }
    gate.open();
    for client in clients {
        let reply = client.rest().await;
        assert!(reply.complete && reply.body == media(LEN), "{} bytes of {}", reply.body.len(), reply.head);
    }
    assert_eq!(edge.hit("/1").await.body, media(LEN));
    let asked: Vec<_> = origin.seen("/1").iter().map(from).collect();
    assert_eq!((asked.len(), asked[0]), (2, None));
    assert!(asked[1].is_some_and(|from| from <= CUT), "{asked:?}");
}

#[tokio::test]
async fn it_goes_on_from_the_next_origin_where_that_has_the_same() {
    let (a, b, gate) = (Scripted::start().await, Scripted::start().await, Gate::new());
    let steps = cut(HEADERS, &gate);
    a.on("/1", move |_| steps.clone());
    b.on("/1", |seen| vec![Step::Send(rest(from(seen).unwrap(), "\"v1\""))]);
    let edge = TestEdge::of(&list(&[&a, &b])).await;
    let mut client = open_get(edge.address, "/1").await;
    client.first_byte().await;
    gate.open();
    let reply = client.rest().await;
    assert!(reply.complete && reply.body == media(LEN), "{} bytes", reply.body.len());
    assert_eq!((a.count("/1"), b.count("/1")), (1, 1));
}

#[tokio::test]
async fn it_goes_on_elsewhere_when_its_origin_falls_silent() {
    let (a, b, never) = (Scripted::start().await, Scripted::start().await, Gate::new());
    let steps = cut(HEADERS, &never);
    a.on("/1", move |_| steps.clone());
    a.on("/healthz", move |_| vec![Step::Wait(never.clone())]);
    b.on("/1", |seen| vec![Step::Send(rest(from(seen).unwrap(), "\"v1\""))]);
    let probed = "health_path = \"/healthz\"\nhealth_interval_ms = 200\n";
    let edge = TestEdge::of(&format!("{}{probed}{}", list(&[&a]), list(&[&b]))).await;
    let began = tokio::time::Instant::now();
    let reply = get(edge.address, "/1").await;
    assert!(reply.complete && reply.body == media(LEN), "{} bytes", reply.body.len());
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((a.count("/1"), b.count("/1")), (1, 1));
}

#[tokio::test]
async fn it_goes_on_elsewhere_when_nothing_comes_any_more() {
    let (a, b, never) = (Scripted::start().await, Scripted::start().await, Gate::new());
    let steps = cut(HEADERS, &never);
    a.on("/1", move |_| steps.clone());
    b.on("/1", |seen| vec![Step::Send(rest(from(seen).unwrap(), "\"v1\""))]);
    let edge = TestEdge::of(&format!("origin_try_ms = 300\n{}", list(&[&a, &b]))).await;
    let began = tokio::time::Instant::now();
    let reply = get(edge.address, "/1").await;
    assert!(reply.complete && reply.body == media(LEN), "{} bytes", reply.body.len());
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn another_version_elsewhere_does_not_keep_the_first_from_going_on() {
    let (a, b, gate) = (Scripted::start().await, Scripted::start().await, Gate::new());
    let steps = cut(HEADERS, &gate);
    a.on("/1", move |seen| match from(seen) {
        None => steps.clone(),
        Some(from) => vec![Step::Send(rest(from, "\"v1\""))],
    });
    b.answer("/1", "ETag: \"v2\"", vec![0; LEN]);
    let edge = TestEdge::of(&list(&[&a, &b])).await;
    let mut client = open_get(edge.address, "/1").await;
    client.first_byte().await;
    gate.open();
    let reply = client.rest().await;
    assert!(reply.complete && reply.body == media(LEN), "{} bytes", reply.body.len());
    assert_eq!((a.count("/1"), b.count("/1")), (2, 1));
}

#[tokio::test]
async fn what_may_be_something_else_is_never_appended() {
    type Answer = fn(usize) -> Vec<u8>;
    let wrong: [(&str, Answer); 7] = [
        ("another version", |from| rest(from, "\"v2\"")),
        ("a weak validator", |from| rest(from, "W/\"v1\"")),
        ("no validator", |from| {
            response(206, &format!("Content-Range: bytes {from}-{}/{LEN}", LEN - 1), &media(LEN)[from..])
        }),
        ("the whole", |_| response(200, HEADERS, &media(LEN))),
        ("another range", |from| {
            let headers = format!("ETag: \"v1\"\nContent-Range: bytes {}-{}/{LEN}", from + 1, LEN - 1);
            response(206, &headers, &media(LEN)[from + 1..])
        }),
        ("another length", |from| {
            let headers = format!("ETag: \"v1\"\nContent-Range: bytes {from}-{LEN}/{}", LEN + 1);
            response(206, &headers, &media(LEN + 1)[from..])
        }),
        ("more than the range", |from| {
            let head = format!("ETag: \"v1\"\nContent-Range: bytes {from}-{}/{LEN}", LEN - 1);
            let body = media(LEN + 10)[from..].to_vec();
            let mut bytes =
                format!("HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\n{}\r\n", lines(&head)).into_bytes();
            bytes.extend([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
            bytes
        }),
    ];
    for (what, answer) in wrong {
        let (origin, gate) = (Scripted::start().await, Gate::new());
        let steps = cut(HEADERS, &gate);
        origin.on("/1", move |seen| from(seen).map_or_else(|| steps.clone(), |from| vec![Step::Send(answer(from))]));
        let edge = TestEdge::start(&origin).await;
        let mut client = open_get(edge.address, "/1").await;
        client.first_byte().await;
        gate.open();
        let reply = client.rest().await;
        assert!(!reply.complete, "{what}: {} bytes", reply.body.len());
        assert!(media(LEN).starts_with(&reply.body), "{what}: no wrong byte");
        assert_eq!(origin.count("/1"), 2, "{what}: it is asked once for the rest");
        origin.answer("/1", HEADERS, media(LEN));
        assert_eq!(get(edge.address, "/1").await.body, media(LEN), "{what}: nothing cut is kept");
    }
}

#[tokio::test]
async fn it_goes_on_once_only() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let steps = cut(HEADERS, &gate);
    origin.on("/1", move |seen| match from(seen) {
        None => steps.clone(),
        Some(from) => {
            let rest = rest(from, "\"v1\"");
            vec![Step::Send(rest[..rest.len() - 1_000].to_vec()), Step::Close]
        }
    });
    let edge = TestEdge::start(&origin).await;
    let mut client = open_get(edge.address, "/1").await;
    client.first_byte().await;
    gate.open();
    let reply = client.rest().await;
    assert!(!reply.complete && reply.body.len() == LEN - 1_000, "{} bytes", reply.body.len());
    assert_eq!(origin.count("/1"), 2);
}

#[tokio::test]
async fn without_a_strong_validator_a_cut_is_a_cut() {
    for headers in ["Cache-Control: max-age=60", "Cache-Control: max-age=60\nETag: W/\"v1\""] {
        let (origin, gate, asked) = (Scripted::start().await, Gate::new(), AtomicUsize::new(0));
        let steps = cut(headers, &gate);
        origin.on("/1", move |seen| {
            assert!(from(seen).is_none() && asked.fetch_add(1, Ordering::Relaxed) == 0, "asked for a part");
            steps.clone()
        });
        let edge = TestEdge::start(&origin).await;
        let mut client = open_get(edge.address, "/1").await;
        client.first_byte().await;
        gate.open();
        assert!(!client.rest().await.complete, "{headers}");
        assert_eq!(origin.count("/1"), 1, "{headers}");
    }
}

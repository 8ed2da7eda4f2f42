//! Parts of bodies: of what is kept in memory or on disk, and of what arrives.

use serde_json::json;

use crate::client::{Reply, get, get_with, open_get, raw};
use crate::fills::in_two;
use crate::purging::purge;
use crate::scripted::{Gate, Scripted, Step};
use crate::support::{TestEdge, media};

/// The parts of a multipart body: where each begins, ends (the last byte) and of how many, and its bytes.
fn parts(reply: &Reply) -> Vec<(u64, u64, u64, &[u8])> {
    let boundary = reply.header("content-type").and_then(|kind| kind.strip_prefix("multipart/byteranges; boundary="));
    let boundary = format!("--{}", boundary.expect("a multipart type"));
    let find = |from: &[u8], text: &str| from.windows(text.len()).position(|bytes| bytes == text.as_bytes());
    let (mut rest, mut parts) = (&reply.body[..], Vec::new());
    while let Some(body) = rest.strip_prefix(format!("{boundary}\r\n").as_bytes()) {
        let head_len = find(body, "\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&body[..head_len]).unwrap();
        let (kind, place) = head.split_once("\r\n").unwrap();
        assert_eq!(kind, "Content-Type: video/mp4");
        let (range, whole) =
            place.strip_prefix("Content-Range: bytes ").and_then(|place| place.split_once('/')).unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let body = &body[head_len + 4..];
        let len = find(body, &format!("\r\n{boundary}")).unwrap();
        parts.push((first.parse().unwrap(), last.parse().unwrap(), whole.parse().unwrap(), &body[..len]));
        rest = &body[len + 2..];
    }
    assert_eq!(rest, format!("{boundary}--\r\n").as_bytes());
    parts
}

fn assert_parts(reply: &Reply, expected: &[(u64, u64)], body: &[u8]) {
    assert_eq!((reply.status, reply.complete, reply.header("content-range")), (206, true, None), "{}", reply.head);
    assert_eq!(reply.header("content-length"), Some(&*reply.body.len().to_string()));
    assert_eq!(reply.lines("content-type").len(), 1);
    let whole = body.len() as u64;
    let expected: Vec<_> =
        expected.iter().map(|&(first, last)| (first, last, whole, &body[first as usize..=last as usize])).collect();
    assert!(parts(reply) == expected, "{}", reply.head);
}

#[tokio::test]
async fn parts_of_a_kept_object_are_exact() {
    let (origin, body) = (Scripted::start().await, media(1_000_000));
    origin.answer("/1", "Cache-Control: max-age=60\nETag: \"a\"\nContent-Type: video/mp4", body.clone());
    let edge = TestEdge::start(&origin).await;
    let whole = get(edge.address, "/1").await;
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    edge.hit("/1").await;
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("262143-262145", 262_143, 262_146),
        ("999999-", 999_999, 1_000_000),
        ("-5", 999_995, 1_000_000),
    ] {
        let part = get_with(edge.address, "/1", &format!("Range: bytes={range}")).await;
        assert_eq!((part.status, part.complete), (206, true), "{range}");
        assert!(part.is_hit() && part.body == body[from..to], "{range}");
        assert_eq!(part.header("content-range"), Some(&*format!("bytes {from}-{}/1000000", to - 1)));
    }
    let outside = get_with(edge.address, "/1", "Range: bytes=1000000-").await;
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */1000000")));
    let other = get_with(edge.address, "/1", "Range: bytes=0-0\nIf-Range: \"b\"").await;
    assert_eq!((other.status, other.body.len()), (200, body.len()));
    let known = get_with(edge.address, "/1", "If-None-Match: \"a\"").await;
    assert_eq!((known.status, known.complete, known.header("etag")), (304, true, Some("\"a\"")));
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_large_body_is_the_same_while_it_moves_into_a_file_of_memory() {
    let (origin, body) = (Scripted::start().await, media(3_000_000));
    origin.answer("/1", "Cache-Control: max-age=60", body.clone());
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/1").await;
    for _ in 0..4 {
        let (whole, part) = (get(edge.address, "/1"), get_with(edge.address, "/1", "Range: bytes=100001-2999998"));
        let (whole, part, again) = tokio::join!(whole, part, get(edge.address, "/1"));
        assert!(whole.is_hit() && whole.complete && whole.body == body);
        assert!(part.is_hit() && part.complete && part.body == body[100_001..2_999_999]);
        assert!(again.complete && again.body == body);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Several at once, of which one is slow: it has its bytes when nobody else knows the object any more.
    let slow = open_get(edge.address, "/1").await;
    purge(&edge, json!({"urls": ["/1"]})).await;
    get(edge.address, "/1").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(slow.rest().await.body == body);
    assert_eq!(origin.count("/1"), 2);
}

#[tokio::test]
async fn a_range_is_served_while_the_object_arrives() {
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(200_000));
    let steps = in_two("Cache-Control: max-age=60", &body, &gate);
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let early = get_with(edge.address, "/1", "Range: bytes=10-19").await;
    assert_eq!((early.status, early.complete, &early.body[..]), (206, true, &body[10..20]));
    assert_eq!(early.header("content-range"), Some("bytes 10-19/200000"));
    gate.open();
    let late = get_with(edge.address, "/1", "Range: bytes=-10").await;
    assert_eq!((late.status, &late.body[..]), (206, &body[199_990..]));
    assert_eq!(origin.count("/1"), 1);
}

const SEVERAL: &str = "Range: bytes=-5, 0-0,262000-262300,262301-300000";
const APART: [(u64, u64); 3] = [(0, 0), (262_000, 300_000), (999_995, 999_999)];

#[tokio::test]
async fn several_parts_of_what_is_kept_come_in_one_answer() {
    let (origin, body) = (Scripted::start().await, media(1_000_000));
    origin.answer("/1", "Cache-Control: max-age=60\nETag: \"a\"\nContent-Type: video/mp4", body.clone());
    let edge = TestEdge::start(&origin).await;
    get(edge.address, "/1").await;
    edge.hit("/1").await;
    let reply = get_with(edge.address, "/1", SEVERAL).await;
    assert_parts(&reply, &APART, &body);
    assert!(reply.is_hit() && reply.header("etag") == Some("\"a\""));

    // One that is left is sent as one; nobody gets more of the body than all of it.
    let one = get_with(edge.address, "/1", "Range: bytes=5-6,5000000-").await;
    assert_eq!((one.status, one.header("content-range"), one.body.len()), (206, Some("bytes 5-6/1000000"), 2));
    let none = get_with(edge.address, "/1", "Range: bytes=1000000-,5000000-").await;
    assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */1000000")));
    let many: Vec<_> = (0..1_000).map(|n| format!("{}-{}", n * 1_000, n * 1_000)).collect();
    let all = get_with(edge.address, "/1", &format!("Range: bytes={}", many.join(","))).await;
    assert_eq!((all.status, all.body == body), (200, true));
    let overlapping = ["0-"; 1_000].join(",");
    let all = get_with(edge.address, "/1", &format!("Range: bytes={overlapping}")).await;
    assert_eq!((all.status, all.body == body), (200, true));
    let other = get_with(edge.address, "/1", &format!("{SEVERAL}\nIf-Range: \"b\"")).await;
    assert_eq!((other.status, other.body.len()), (200, body.len()));
    // Ranges are for GET.
    let request = "HEAD /1 HTTP/1.1\r\nHost: e\r\nRange: bytes=0-0\r\nConnection: close\r\n\r\n";
    let head = raw(edge.address, request.as_bytes()).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000000")));
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn several_parts_of_a_file_come_in_one_answer() {
    let (origin, folder, body) = (Scripted::start().await, tempfile::tempdir().unwrap(), media(1_000_000));
    origin.answer("/1", "Cache-Control: max-age=60\nContent-Type: video/mp4", body.clone());
    let disk = format!(
        "disk = {{ path = {:?}, size_mb = 64 }}\nmemory_mb = 4\nmax_object_mb = 2",
        folder.path().join("cache")
    );
    let edge = TestEdge::with(&origin.url(), &disk).await;
    for _ in 0..2 {
        get(edge.address, "/1").await;
    }
    let reply = get_with(edge.address, "/1", SEVERAL).await;
    assert_parts(&reply, &APART, &body);
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn several_parts_are_served_while_the_object_arrives() {
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(1_000_000));
    let steps = in_two("Cache-Control: max-age=60\nContent-Type: video/mp4", &body, &gate);
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;
    let early = get_with(edge.address, "/1", SEVERAL.replace("-5, ", "").as_str()).await;
    assert_parts(&early, &APART[..2], &body);
    let late = tokio::spawn(async move { get_with(edge.address, "/1", SEVERAL).await });
    gate.open();
    assert_parts(&late.await.unwrap(), &APART, &body);
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_cut_shows_between_parts_too() {
    let (origin, body) = (Scripted::start().await, media(1_000_000));
    let steps = {
        let whole = crate::scripted::response(200, "Cache-Control: max-age=60\nContent-Type: video/mp4", &body);
        vec![Step::Send(whole[..whole.len() - 400_000].to_vec()), Step::Close]
    };
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;
    let reply = get_with(edge.address, "/1", SEVERAL).await;
    assert!(!reply.complete, "{}", reply.head);
}

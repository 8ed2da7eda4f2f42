//! One fetch for all who wait.

use std::time::Duration;

use futures::future::join_all;

use crate::client::{get, open_get, open_slowly};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TestEdge, media};

/// The head and a part of `body`, then, behind the gate, the rest.
pub fn in_two(headers: &str, body: &[u8], gate: &Gate) -> Vec<Step> {
    let whole = response(200, headers, body);
    let (begin, rest) = whole.split_at(whole.len() - body.len() / 2);
    vec![Step::Send(begin.to_vec()), Step::Wait(gate.clone()), Step::Send(rest.to_vec())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_misses_make_one_fetch_and_all_see_the_first_byte_before_the_last_arrives() {
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(900_000));
    let steps = in_two("Cache-Control: max-age=60", &body, &gate);
    origin.on("/live/1.m4s", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let clients = join_all((0..100).map(|_| async {
        let mut client = open_get(edge.address, "/live/1.m4s").await;
        client.first_byte().await;
        client
    }))
    .await;
    assert_eq!(origin.count("/live/1.m4s"), 1);
    gate.open();
    let replies = join_all(clients.into_iter().map(|client| client.rest())).await;

    assert!(replies.iter().all(|reply| reply.status == 200 && reply.complete && reply.body == body));
    let collapsed = replies.iter().filter(|reply| reply.cache_status().contains("collapsed")).count();
    assert_eq!(collapsed, 99);
    assert_eq!(edge.hit("/live/1.m4s").await.body, body);
    assert_eq!(origin.count("/live/1.m4s"), 1);
}

#[tokio::test]
async fn a_fill_goes_on_when_its_clients_leave() {
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(200_000));
    let steps = in_two("Cache-Control: max-age=60", &body, &gate);
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let mut first = open_get(edge.address, "/1").await;
    first.first_byte().await;
    let mut second = open_get(edge.address, "/1").await;
    second.first_byte().await;
    drop(first);
    gate.open();
    let reply = second.rest().await;

    assert!(reply.complete && reply.body == body);
    assert_eq!(edge.hit("/1").await.body, body);
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_fill_that_all_clients_left_is_still_kept() {
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(200_000));
    let steps = in_two("Cache-Control: max-age=60", &body, &gate);
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let mut only = open_get(edge.address, "/1").await;
    only.first_byte().await;
    drop(only);
    gate.open();

    let reply = get(edge.address, "/1").await;
    assert!(reply.complete && reply.body == body);
    assert_eq!(origin.count("/1"), 1);
}

#[tokio::test]
async fn a_cut_answer_never_looks_complete_and_is_fetched_again() {
    let cuts: [(&str, Vec<Step>); 5] = [
        ("/reset", vec![Step::Send(response(200, "Cache-Control: max-age=60", &media(50_000))[..30_000].to_vec())]),
        ("/short", vec![Step::Send(response(200, "Cache-Control: max-age=60", &media(50_000))[..49_999].to_vec())]),
        (
            "/chunked",
            vec![Step::Send(
                b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                    .to_vec(),
            )],
        ),
        ("/unkept", vec![Step::Send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec())]),
        (
            "/passed",
            vec![Step::Send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 10\r\n\r\nhello".to_vec())],
        ),
    ];
    let origin = Scripted::start().await;
    let edge = TestEdge::start(&origin).await;
    for (target, mut steps) in cuts {
        let (gate, whole) = (Gate::new(), response(200, "Cache-Control: max-age=60", b"whole"));
        let cut = if target == "/reset" { Step::Reset } else { Step::Close };
        steps.extend([Step::Wait(gate.clone()), cut]);
        let broken = steps.clone();
        let first = std::sync::atomic::AtomicBool::new(true);
        origin.on(target, move |_| {
            if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                broken.clone()
            } else {
                vec![Step::Send(whole.clone())]
            }
        });
        let mut client = open_get(edge.address, target).await;
        client.first_byte().await;
        gate.open();
        let reply = client.rest().await;
        assert!(!reply.complete, "{target}: {} bytes of {}", reply.body.len(), reply.head);
        let again = get(edge.address, target).await;
        assert_eq!((again.status, again.complete, &again.body[..]), (200, true, &b"whole"[..]), "{target}");
        assert_eq!(origin.count(target), 2, "{target}");
    }
}

#[tokio::test]
async fn a_cut_answer_without_length_is_a_reset_even_for_an_old_client() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec();
    let steps = vec![Step::Send(begin), Step::Wait(gate.clone()), Step::Close];
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let mut stream = tokio::net::TcpStream::connect(edge.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /1 HTTP/1.0\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"hello") {
        assert!(tokio::io::AsyncReadExt::read_buf(&mut stream, &mut bytes).await.unwrap() > 0);
    }
    gate.open();
    let end = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut bytes).await;
    assert_eq!(end.expect_err("no clean end").kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn bytes_behind_the_stated_length_reach_nobody() {
    let origin = Scripted::start().await;
    let mut surplus = response(200, "Cache-Control: max-age=60", b"hello");
    surplus.extend(response(200, "Cache-Control: max-age=60", b"poison"));
    origin.on("/1", move |_| vec![Step::Send(surplus.clone())]);
    origin.answer("/2", "Cache-Control: max-age=60", "clean");
    let edge = TestEdge::start(&origin).await;

    for _ in 0..3 {
        assert_eq!(get(edge.address, "/1").await.body, b"hello");
        let other = get(edge.address, "/2").await;
        assert!(other.body == b"clean" || other.status == 502, "{}", other.head);
    }
}

#[tokio::test]
async fn an_answer_for_one_only_releases_all_who_wait_and_is_not_kept() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let steps = vec![Step::Wait(gate.clone()), Step::Send(response(200, "Cache-Control: no-store", b"mine"))];
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let clients = join_all((0..10).map(|_| open_get(edge.address, "/1"))).await;
    origin.asked("/1", 1).await;
    gate.open();
    let replies = join_all(clients.into_iter().map(|client| client.rest())).await;

    assert!(replies.iter().all(|reply| reply.complete && reply.body == b"mine"));
    assert_eq!(origin.count("/1"), 10);
    let after = get(edge.address, "/1").await;
    assert!(after.cache_status().contains("fwd=bypass"), "{}", after.head);
    assert_eq!(origin.count("/1"), 11);
}

#[tokio::test]
async fn what_has_no_time_is_shared_with_those_who_wait_and_forgotten() {
    let (origin, gate) = (Scripted::start().await, Gate::new());
    let steps = vec![Step::Wait(gate.clone()), Step::Send(response(404, "", b"gone"))];
    origin.on("/1", move |_| steps.clone());
    let edge = TestEdge::start(&origin).await;

    let clients = join_all((0..10).map(|_| open_get(edge.address, "/1"))).await;
    origin.asked("/1", 1).await;
    gate.open();
    let replies = join_all(clients.into_iter().map(|client| client.rest())).await;

    assert!(replies.iter().all(|reply| reply.status == 404 && reply.complete && reply.body == b"gone"));
    let before = origin.count("/1");
    let shared = replies.iter().filter(|reply| reply.cache_status().contains("collapsed")).count();
    assert_eq!(before + shared, 10);
    assert_eq!(get(edge.address, "/1").await.status, 404);
    assert_eq!(origin.count("/1"), before + 1);
}

#[tokio::test]
async fn a_body_that_grows_beyond_the_limit_passes_through_whole() {
    let (origin, body) = (Scripted::start().await, media(3_000_000));
    let mut steps = vec![Step::Send(
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
    )];
    for part in body.chunks(100_000) {
        steps.push(Step::Send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()));
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    origin.on("/1", move |_| steps.clone());
    origin.answer("/2", "Cache-Control: max-age=60", body.clone());
    let edge = TestEdge::with(&origin.url(), "max_object_mb = 1\nfill_mb = 1\nmemory_mb = 8").await;

    for target in ["/1", "/2"] {
        for round in 1..=2 {
            let reply = get(edge.address, target).await;
            assert!(reply.complete && reply.body == body, "{target}: {} bytes", reply.body.len());
            assert_eq!(origin.count(target), round, "{target}");
        }
    }
}

#[tokio::test]
async fn more_fills_than_memory_for_them_all_end_well() {
    let (origin, body) = (Scripted::start().await, media(700_000));
    for n in 0..20 {
        origin.answer(&format!("/{n}"), "Cache-Control: max-age=60", body.clone());
    }
    let edge = TestEdge::with(&origin.url(), "max_object_mb = 1\nfill_mb = 1\nmemory_mb = 8").await;
    let replies = join_all((0..20).map(|n| {
        let address = edge.address;
        async move { get(address, &format!("/{n}")).await }
    }))
    .await;
    assert!(replies.iter().all(|reply| reply.complete && reply.body == body));
}

#[tokio::test]
async fn ten_times_the_memory_is_served_from_no_more_than_the_memory() {
    let (origin, body) = (Scripted::start().await, media(200_000));
    let targets: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
    for target in &targets {
        origin.answer(target, "Cache-Control: max-age=600", body.clone());
    }
    let edge = TestEdge::with(&origin.url(), "max_object_mb = 1\nfill_mb = 1\nmemory_mb = 2").await;
    for target in &targets {
        assert_eq!(get(edge.address, target).await.body, body);
    }
    let mut kept = 0;
    for target in &targets {
        // A head that is not kept is passed and leaves what is kept as it is.
        let reply = crate::client::head(edge.address, target).await;
        kept += usize::from(reply.is_hit());
    }
    assert!(kept * body.len() <= 2 * 1024 * 1024, "{kept} objects are kept");
    assert!(kept >= 5, "{kept} objects are kept");
}

/// Bytes of this process's files of memory.
fn memory_files_bytes() -> u64 {
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
    let of_memory =
        files.filter(|path| std::fs::read_link(path).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:")));
    of_memory.filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum()
}

#[tokio::test]
async fn what_slow_clients_hold_beside_what_is_kept_is_bounded() {
    const READERS: usize = 16;
    const MIB: u64 = 1024 * 1024;
    // More than the system takes for a client that reads nothing.
    let (origin, body) = (Scripted::start().await, media(8_000_000));
    for n in 0..=READERS {
        origin.answer(&format!("/{n}"), "Cache-Control: max-age=600", body.clone());
    }
    let edge = TestEdge::with(&origin.url(), "max_object_mb = 8\nfill_mb = 24\nmemory_mb = 32").await;
    // From now on large bodies go into files of memory, whose bytes can be seen.
    for _ in 0..3 {
        get(edge.address, &format!("/{READERS}")).await;
    }
    let mut slow = Vec::new();
    for n in 0..READERS {
        let mut reader = open_slowly(edge.address, &format!("/{n}")).await;
        reader.first_byte().await;
        // The whole of it is fetched, and kept if it is; it pushes out what the others still read.
        tokio::time::sleep(Duration::from_millis(100)).await;
        slow.push(reader);
        assert!(memory_files_bytes() <= 56 * MIB, "{} bytes with {n}", memory_files_bytes());
    }
    assert!(memory_files_bytes() > 32 * MIB, "{} bytes: they hold nothing", memory_files_bytes());
    let new = format!("/{READERS}");
    assert!(get(edge.address, &new).await.body == body);
    for reader in slow {
        assert!(reader.rest().await.body == body);
    }
    get(edge.address, &new).await;
    edge.hit(&new).await;
}

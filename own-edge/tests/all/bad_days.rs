//! Too much of everything: bytes, waiters, headers, hints, files.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use crate::client::{LONG, get, get_bytes, head, open_get, raw};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TOKEN, TestEdge, media, rss_bytes};

const MIB: u64 = 1024 * 1024;

/// Watches what a test takes beside what it took before.
async fn growth(began: u64, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(rss_bytes().saturating_sub(began));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}

/// Ten times as much takes ten times as long, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_without_an_end_in_sight_goes_through_and_stays_nowhere() {
    const BYTES: u64 = 1024 * MIB;
    let origin = Scripted::start().await;
    let head = |framing: &str| {
        Step::Send(format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n").into_bytes())
    };
    let chunk = [b"100000\r\n".as_slice(), &vec![0; MIB as usize], b"\r\n"].concat();
    let chunked = head("Transfer-Encoding: chunked");
    let times = (BYTES / MIB) as usize;
    origin.on("/chunked", move |_| {
        vec![chunked.clone(), Step::Repeat(chunk.clone(), times), Step::Send(b"0\r\n\r\n".to_vec())]
    });
    let known = head(&format!("Content-Length: {BYTES}"));
    origin.on("/known", move |_| vec![known.clone(), Step::Repeat(vec![0; MIB as usize], times)]);
    let lines = "max_object_mb = 1\nfill_mb = 1\nmemory_mb = 8";
    let edge = TestEdge::with(&origin.url(), lines).await;
    let (began, over) = (rss_bytes(), AtomicBool::new(false));
    let all = async {
        for target in ["/chunked", "/known"] {
            let whole = timeout(3 * LONG, open_get(edge.address, target).await.count()).await;
            let bytes = whole.expect("a gigabyte does not take a minute");
            assert!((BYTES..BYTES + 2 * MIB).contains(&bytes), "{target}: {bytes} bytes");
            // One that leaves takes the fetch along.
            let mut leaves = open_get(edge.address, target).await;
            leaves.first_byte().await;
            drop(leaves);
        }
        over.store(true, Ordering::Relaxed);
    };
    let (most, ()) = tokio::join!(growth(began, &over), all);
    assert!(most < 100 * MIB, "{} MiB", most / MIB);
    assert_eq!(origin.count("/chunked"), 2, "nothing of it was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_of_a_segment_that_is_being_born_make_one_fetch() {
    // Both ends of each connection are in this process.
    const CLIENTS: usize = 2_000;
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(200_000));
    let whole = response(200, "Cache-Control: max-age=60", &body);
    let steps =
        [Step::Send(whole[..100_000].to_vec()), Step::Wait(gate.clone()), Step::Send(whole[100_000..].to_vec())];
    origin.on("/live/1.m4s", move |_| steps.to_vec());
    let edge = TestEdge::start(&origin).await;
    let began = (rss_bytes(), Instant::now());
    let clients = join_all((0..CLIENTS).map(|_| async {
        let mut client = open_get(edge.address, "/live/1.m4s").await;
        client.first_byte().await;
        client
    }))
    .await;
    let with_all = rss_bytes().saturating_sub(began.0);
    gate.open();
    let counts = join_all(clients.into_iter().map(|client| client.count())).await;
    assert!(counts.iter().all(|bytes| (200_000..201_000).contains(bytes)));
    assert_eq!(origin.count("/live/1.m4s"), 1);
    // The clients hold half of the body each; the edge, once for all.
    let each = with_all / CLIENTS as u64;
    assert!(each < 300_000, "{each} bytes for each client");
    assert!(began.1.elapsed() < LONG, "{:?}", began.1.elapsed());
}

#[tokio::test]
async fn an_origin_whose_head_never_ends_or_is_too_much_is_an_origin_that_fails() {
    let origin = Scripted::start().await;
    let line = b"X-Much: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".to_vec();
    let begin = Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec());
    let (lines, first) = (Step::Repeat(line, 1_000_000), begin.clone());
    origin.on("/lines", move |_| vec![first.clone(), lines.clone()]);
    let long = Step::Repeat(vec![b'a'; 1_000_000], 100);
    origin.on("/line", move |_| vec![begin.clone(), Step::Send(b"X: ".to_vec()), long.clone()]);
    let hints = Step::Repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec(), 10_000_000);
    origin.on("/hints", move |_| vec![hints.clone()]);
    let size = Step::Repeat(vec![b'0'; 1_000_000], 100);
    let chunks = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    origin.on("/size", move |_| vec![Step::Send(chunks.clone()), size.clone()]);
    let edge =
        TestEdge::with(&origin.url(), "origin_first_byte_ms = 2000\norigin_try_ms = 2000\norigin_read_ms = 1000").await;
    let (began, over) = (rss_bytes(), AtomicBool::new(false));
    let all = async {
        for target in ["/lines", "/line", "/hints", "/size"] {
            // Hints before the answer are for clients of HTTP/1.1.
            let request = format!("GET {target} HTTP/1.0\r\nHost: a\r\n\r\n");
            let reply = timeout(LONG, raw(edge.address, request.as_bytes())).await.expect("an answer");
            let failed = matches!(reply.status, 502 | 504) || (target == "/size" && reply.body.is_empty());
            assert!(failed, "{target}: {}", reply.head);
        }
        over.store(true, Ordering::Relaxed);
    };
    let (most, ()) = tokio::join!(growth(began, &over), all);
    assert!(most < 100 * MIB, "{} MiB", most / MIB);
}

#[tokio::test]
async fn headers_over_http2_have_their_limits_too() {
    let origin = Scripted::start().await;
    origin.answer("/1", "Cache-Control: max-age=60", "one");
    let edge = TestEdge::start(&origin).await;
    let client: hyper_util::client::legacy::Client<_, http_body_util::Empty<bytes::Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).http2_only(true).build_http();
    let ask = async |count: usize, bytes: usize| {
        let mut request = http::Request::get(format!("http://{}/1", edge.address));
        for number in 0..count {
            request = request.header(format!("x-{number}"), "a".repeat(bytes));
        }
        let body = http_body_util::Empty::new();
        timeout(LONG, client.request(request.body(body).unwrap())).await.expect("an end").map(|reply| reply.status())
    };
    assert_eq!(ask(1, 100).await.ok().map(|status| status.as_u16()), Some(200));
    for (count, bytes) in [(1, 40_000), (2_000, 100), (300, 1_000)] {
        let status = ask(count, bytes).await;
        assert!(
            status.as_ref().map_or(true, |status| matches!(status.as_u16(), 400 | 431)),
            "{count} × {bytes}: {status:?}"
        );
    }
    assert_eq!(ask(1, 100).await.ok().map(|status| status.as_u16()), Some(200));
    assert_eq!(origin.count("/1"), 1);
}

/// What may be hidden in or behind a body, where bodies are taken at all.
#[tokio::test]
async fn nothing_that_is_hidden_in_a_body_becomes_a_request() {
    let origin = Scripted::start().await;
    origin.answer("/1", "", "one");
    origin.answer("/hidden", "", "two");
    let edge = TestEdge::with(&origin.url(), "methods = [\"*\"]\norigin_first_byte_ms = 1000").await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for framing in [
        format!("Content-Length: 0\r\nContent-Length: 38\r\n\r\n{hidden}"),
        format!("Content-Length: 0, 38\r\n\r\n{hidden}"),
        format!("Content-Length : 0\r\n\r\n{hidden}"),
        format!("Content-Length: -0\r\n\r\n{hidden}"),
        format!("Content-Length: 0x0\r\n\r\n{hidden}"),
        format!("Content-Length: 18446744073709551616\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("X: a\r\n\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0_2\r\nok\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\nok\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n2;a={hidden}ok\r\n0\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n0\r\nX: {hidden}\r\n\r\n"),
    ] {
        let request = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{framing}");
        let reply = timeout(LONG, raw(edge.address, request.as_bytes())).await.expect("an end");
        assert!(!reply.body.ends_with(b"two"), "{framing:?}: {}", reply.head);
    }
    assert_eq!(origin.count("/hidden"), 0);
    assert!(origin.seen("/1").iter().all(|seen| !seen.head.contains("hidden") && !seen.body.contains("hidden")));
}

/// A file system of 4 MiB. Only root can have one.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "spillway-test"]).arg(dir.path());
        let said = mount.output();
        match said {
            Ok(said) if said.status.success() => Some(Self(dir)),
            other => {
                eprintln!("not tried: a small file system can't be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_costs_the_disk_tier_and_comes_back_into_use_when_there_is_room() {
    let Some(small) = Small::mount() else { return };
    let folder = small.0.path().join("cache");
    let (origin, body) = (Scripted::start().await, media(700_001));
    let targets: Vec<String> = (0..20).map(|n| format!("/{n}")).collect();
    for target in &targets {
        origin.answer(target, "Cache-Control: max-age=86400\nETag: \"1\"", body.clone());
    }
    // Memory in few parts, so that each has room for all of its share.
    let lines = format!("memory_mb = 64\nmax_object_mb = 16\ndisk = {{ path = {folder:?}, size_mb = 64 }}");
    let edge = TestEdge::with(&origin.url(), &lines).await;
    let files = || {
        let files = |folder| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let whole = |path: &PathBuf| !path.to_string_lossy().contains("passing-");
        let all = files(folder.clone()).flat_map(|path| if path.is_dir() { files(path).collect() } else { vec![path] });
        all.filter(whole).count()
    };
    for round in 0..3 {
        for target in &targets {
            let reply = get(edge.address, target).await;
            assert!(reply.complete && reply.body == body, "round {round}: {}", reply.head);
            edge.hit(target).await;
            // A failed write lets the disk rest for 5 s.
            edge.clock.forward(6);
        }
    }
    for target in &targets {
        assert_eq!(origin.count(target), 1, "memory has them all");
    }
    // The log of purges, and as many objects as there is room for; nothing of those that failed.
    assert!((2..=6).contains(&files()), "{} files", files());
    // Those that were written are among them.
    let purge = format!("{{\"urls\": {:?}}}", &targets[..10]);
    let lines = format!("Authorization: Bearer {TOKEN}\nContent-Length: {}", purge.len());
    let request = [&get_bytes("POST", "/.spillway/purge", &lines), purge.as_bytes()].concat();
    let reply = raw(edge.address, &request).await;
    assert!(matches!(reply.status, 200 | 500), "in force either way: {}", reply.head);
    assert_eq!(files(), 1, "what was purged gives its room back");
    let mut is_back = false;
    for _ in 0..500 {
        // Those that could not be written are tried again; a write of before the purge may fail only now.
        edge.clock.forward(6);
        for target in &targets[10..14] {
            edge.hit(target).await;
        }
        is_back = files() == 5;
        if is_back {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_back, "it is written to again");
    assert_eq!(head(edge.address, "/13").await.header("content-length"), Some("700001"));
}

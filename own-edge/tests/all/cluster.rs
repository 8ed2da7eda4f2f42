//! Edges that fetch from edges: peers of a cluster, and shields.

use std::time::Duration;

use futures::future::join_all;
use spillway_wire::signed_url::own::Keys;
use spillway_wire::signed_url::{Place, Resource, Signer};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::client::{Reply, get, get_from, get_with};
use crate::reports::Orchestrator;
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TOKEN, TestEdge, media};

const SOON: Duration = Duration::from_millis(1_500);
const KEPT: &str = "Cache-Control: max-age=60";

/// `[cluster]` of edges by name and URL.
fn cluster(peers: &[(&str, String)]) -> String {
    let peers: Vec<_> = peers.iter().map(|(name, url)| format!("{{ name = \"{name}\", url = \"{url}\" }}")).collect();
    format!("[cluster]\npeers = [{}]\n", peers.join(", "))
}

/// A cluster of edges before `origin`, in the order of `names`.
async fn edges(origin: &Scripted, names: &[&'static str]) -> Vec<TestEdge> {
    let mut listeners = Vec::new();
    for _ in names {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let peers: Vec<_> = names.iter().copied().zip(listeners.iter().map(url)).collect();
    let lines = format!("origin = \"{}\"\n{}", origin.url(), cluster(&peers));
    names.iter().zip(listeners).map(|(name, listener)| TestEdge::named(name, listener, &lines)).collect()
}

/// An edge named own-a whose peers own-b and own-c are scripted.
async fn among(origin: &Scripted, b: &str, c: &str, lines: &str) -> TestEdge {
    let peers = [("own-a", "http://a.example".to_owned()), ("own-b", b.to_owned()), ("own-c", c.to_owned())];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    TestEdge::named("own-a", listener, &format!("{lines}\norigin = \"{}\"\n{}", origin.url(), cluster(&peers)))
}

/// An origin that has /0 to /59, and knows whom an answer came from.
async fn stocked(body: &'static str) -> Scripted {
    let origin = Scripted::start().await;
    for n in 0..60 {
        origin.answer(&format!("/{n}"), KEPT, body);
    }
    origin
}

fn asked(origin: &Scripted) -> usize {
    (0..60).map(|n| origin.count(&format!("/{n}"))).sum()
}

async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_misses_of_three_edges_make_one_fetch() {
    let (origin, gate, body) = (Scripted::start().await, Gate::new(), media(300_000));
    let steps = vec![Step::Wait(gate.clone()), Step::Send(response(200, KEPT, &body))];
    origin.on("/live/1.m4s", move |_| steps.clone());
    let edges = edges(&origin, &["own-a", "own-b", "own-c"]).await;
    let clients = (0..100).map(|n| get(edges[n % 3].address, "/live/1.m4s"));
    let opened = async {
        origin.asked("/live/1.m4s", 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        gate.open();
    };
    let (replies, ()) = tokio::join!(join_all(clients), opened);
    assert!(replies.iter().all(|reply| reply.complete && reply.body == body));
    assert_eq!(origin.count("/live/1.m4s"), 1);
    for edge in &edges {
        assert_eq!(edge.hit("/live/1.m4s").await.body, body, "each keeps what its own viewers want");
    }
}

#[tokio::test]
async fn every_path_is_fetched_once_and_all_edges_take_part() {
    let origin = stocked("media").await;
    let edges = edges(&origin, &["own-a", "own-b", "own-c"]).await;
    for n in 0..60 {
        for edge in &edges {
            assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"media");
        }
    }
    assert_eq!(asked(&origin), 60);
    let mut owners = std::collections::BTreeMap::<String, usize>::new();
    for n in 0..60 {
        let head = origin.seen(&format!("/{n}"))[0].head.clone();
        let owner = head.lines().rfind(|line| line.starts_with("via: ")).unwrap();
        *owners.entry(owner.to_owned()).or_default() += 1;
    }
    assert!(owners.len() == 3 && owners.values().all(|paths| *paths > 8), "{owners:?}");
}

#[tokio::test]
async fn a_peer_is_told_who_asks_and_an_origin_is_not() {
    let (origin, b, c) = (stocked("origin").await, stocked("peer").await, stocked("peer").await);
    let edge = among(&origin, &b.url(), &c.url(), "").await;
    for n in 0..60 {
        get(edge.address, &format!("/{n}")).await;
    }
    assert_eq!((asked(&origin) + asked(&b) + asked(&c)), 60);
    assert!([&origin, &b, &c].iter().all(|server| asked(server) > 8), "each has its share");
    for (server, token) in [(&origin, None), (&b, Some(TOKEN)), (&c, Some(TOKEN))] {
        for seen in (0..60).flat_map(|n| server.seen(&format!("/{n}"))) {
            assert_eq!((seen.header("spillway-edge-token"), seen.header("via")), (token, Some("1.1 own-a")));
        }
    }
}

#[tokio::test]
async fn what_comes_from_a_peer_goes_to_no_peer() {
    let (origin, b, c) = (stocked("origin").await, stocked("peer").await, stocked("peer").await);
    let edge = among(&origin, &b.url(), &c.url(), "").await;
    for n in 0..60 {
        let via = if n % 2 == 0 { "Via: 1.1 own-b" } else { "Via: 1.1 someone, 1.1 own-c" };
        let headers = format!("{via}\nSpillway-Edge-Token: {TOKEN}");
        assert_eq!(get_with(edge.address, &format!("/{n}"), &headers).await.body, b"origin");
    }
    assert_eq!((asked(&origin), asked(&b), asked(&c)), (60, 0, 0));
}

#[tokio::test]
async fn a_dead_peer_is_nobodys_concern() {
    let (origin, b) = (stocked("origin").await, stocked("peer").await);
    let edge = among(&origin, &b.url(), &nobody().await, "").await;
    let began = Instant::now();
    for n in 0..60 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.status, 200);
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(asked(&origin) + asked(&b), 60);
    assert!(asked(&b) > 20, "what the dead one had goes to the next, too: {}", asked(&b));
}

#[tokio::test]
async fn a_peer_that_hangs_costs_half_the_time_and_its_probe_ends_that() {
    let (origin, b, never) = (stocked("origin").await, Scripted::start().await, Gate::new());
    for target in (0..60).map(|n| format!("/{n}")).chain(["/.spillway/readyz".to_owned()]) {
        let steps = vec![Step::Wait(never.clone())];
        b.on(&target, move |_| steps.clone());
    }
    let lines = "origin_first_byte_ms = 1000\norigin_try_ms = 200";
    let edge = among(&origin, &b.url(), &b.url(), lines).await;
    let began = Instant::now();
    let replies: Vec<Reply> = join_all((0..20).map(async |n| get(edge.address, &format!("/{n}")).await)).await;
    assert!(replies.iter().all(|reply| reply.body == b"origin"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    b.asked("/.spillway/readyz", 6).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let (began, before) = (Instant::now(), asked(&b));
    for n in 20..40 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"origin");
    }
    assert!(began.elapsed() < SOON && asked(&b) == before, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_peers_error_is_not_the_last_word() {
    let (origin, b) = (stocked("origin").await, Scripted::start().await);
    for n in 0..60 {
        b.on(&format!("/{n}"), |_| vec![Step::Send(response(502, "", b"its origin is down"))]);
    }
    let edge = among(&origin, &b.url(), &b.url(), "").await;
    for n in 0..60 {
        assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"origin");
    }
    assert!(asked(&b) > 40, "it lives, and is asked on: {}", asked(&b));
}

/// Two edges, each the other's shield.
async fn ring(beyond: &str) -> (TestEdge, TestEdge) {
    let listeners = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let shield = |listener: &TcpListener| {
        let url = listener.local_addr().unwrap();
        format!("[[origins]]\nurl = \"http://{url}\"\nrole = \"shield\"\n{beyond}")
    };
    let (to_a, to_b) = (shield(&listeners.0), shield(&listeners.1));
    (TestEdge::named("own-a", listeners.0, &to_b), TestEdge::named("own-b", listeners.1, &to_a))
}

#[tokio::test]
async fn a_loop_is_answered_as_one_at_once_and_left_where_there_is_an_origin() {
    let (a, _b) = ring("").await;
    let began = Instant::now();
    let reply = get(a.address, "/1").await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert_eq!((reply.status, &*text), (508, "request refused: loop\n"), "{}", reply.head);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    let origin = stocked("origin").await;
    let (a, b) = ring(&format!("[[origins]]\nurl = \"{}\"", origin.url())).await;
    for n in 0..10 {
        let began = Instant::now();
        let reply = get(if n % 2 == 0 { a.address } else { b.address }, &format!("/{n}")).await;
        assert_eq!(reply.body, b"origin", "{}", reply.head);
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    }
}

/// An edge before `shield`, and `origin` behind that.
async fn behind(shield: &str, origin: &Scripted, lines: &str) -> TestEdge {
    let list = format!("[[origins]]\nurl = \"{}\"\n[[origins]]\nurl = \"{shield}\"\nrole = \"shield\"\n", origin.url());
    // Tables come last.
    let (scalars, tables) = lines.split_at(lines.find("[signed_urls]").unwrap_or(lines.len()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    TestEdge::named("own-leaf", listener, &format!("{scalars}\n{list}{tables}"))
}

fn url(edge: &TestEdge) -> String {
    format!("http://{}", edge.address)
}

#[tokio::test]
async fn a_shield_is_asked_before_the_origin_and_keeps_for_all_behind_it() {
    let origin = stocked("media").await;
    let shield = TestEdge::start(&origin).await;
    let leaf = behind(&url(&shield), &origin, "").await;
    let reply = get(leaf.address, "/1").await;
    assert_eq!(reply.body, b"media");
    assert_eq!(reply.lines("via"), ["1.1 own-test-1", "1.1 own-leaf"]);
    assert_eq!(reply.header("x-pathway"), Some("own-leaf"));
    assert_eq!(origin.seen("/1")[0].header("via"), Some("1.1 own-leaf"));
    assert!(get(shield.address, "/1").await.is_hit());
    assert!(leaf.hit("/1").await.cache_status().starts_with("own-leaf; hit"));
    assert_eq!(origin.count("/1"), 1);
    shield.shutdown.cancel();
    while tokio::net::TcpStream::connect(shield.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for n in 2..8 {
        assert_eq!(get(leaf.address, &format!("/{n}")).await.body, b"media", "without it the origin is asked");
    }
}

#[tokio::test]
async fn an_edge_that_asks_is_no_viewer_and_is_not_turned_away() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    for n in 0..10 {
        origin.answer(&format!("/{n}"), KEPT, media(300_000));
    }
    let shield = orchestrator.edge(&origin, "ceiling_mbps = 0.1").await;
    let leaf = behind(&url(&shield), &Scripted::start().await, "").await;
    for n in 0..10 {
        let reply = get_from(leaf.address, [127, 0, 0, 10 + n], &format!("/{n}?CMCD=sid%3D%22v%22")).await;
        assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.head);
    }
    assert_eq!(get(shield.address, "/1").await.status, 503, "it is full for a viewer");
    let report = orchestrator.next().await;
    assert_eq!(report.viewers, 0);
    assert!(report.bits_out_10s_bps > 0 && report.origin.fetches <= 10);
}

#[tokio::test]
async fn what_a_shield_sends_is_an_answer_but_no_bytes_of_the_origin() {
    let (shield, orchestrator) = (stocked("media").await, Orchestrator::start().await);
    let lines = format!("orchestrators = [\"{}\"]\n", orchestrator.url());
    let leaf = behind(&shield.url(), &Scripted::start().await, &lines).await;
    for n in 0..10 {
        get(leaf.address, &format!("/{n}")).await;
    }
    let report = orchestrator.next().await;
    assert_eq!((report.origin.state.as_str(), report.origin.bytes), ("up", 0));
}

#[tokio::test]
async fn an_edge_needs_no_token_of_a_viewer_and_a_viewer_needs_one_everywhere() {
    const KEY: &str = "an-edge-key-of-32-bytes-or-more!";
    let origin = stocked("media").await;
    let lines = format!("[signed_urls]\nkey = \"{KEY}\"");
    let shield = TestEdge::with(&origin.url(), &lines).await;
    let leaf = behind(&url(&shield), &Scripted::start().await, &lines).await;
    let signer = Signer::Own(Keys::new(KEY, None).unwrap());
    let resource = Resource { host: "", path: "/1", folder: "/", expires_s: 1_767_225_600 + 2_000 };
    let signed = signer.sign(Place::Path, &resource).unwrap().url("", "/1");
    let reply = get(leaf.address, &signed).await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"media"[..]), "{}", reply.head);
    assert_eq!((origin.count("/1"), origin.seen_at(&signed).len()), (1, 0));
    for edge in [&leaf, &shield] {
        assert_eq!(get(edge.address, "/1").await.status, 403);
        let forged = get_with(edge.address, "/1", "Spillway-Edge-Token: guessed").await;
        assert_eq!((forged.status, &forged.body[..]), (421, &b"request refused: edge-token\n"[..]));
    }
}

#[tokio::test]
async fn a_shield_of_another_token_is_passed_over() {
    let (origin, shield) = (stocked("origin").await, Scripted::start().await);
    for n in 0..10 {
        shield.on(&format!("/{n}"), |_| vec![Step::Send(response(421, "", b"request refused: edge-token\n"))]);
    }
    let leaf = behind(&shield.url(), &origin, "").await;
    for n in 0..10 {
        assert_eq!(get(leaf.address, &format!("/{n}")).await.body, b"origin");
    }
    assert_eq!(asked(&shield), 3, "and left alone soon");
}

#[tokio::test]
async fn what_is_for_one_viewer_goes_to_no_peer() {
    let (origin, b, c) = (Scripted::start().await, Scripted::start().await, Scripted::start().await);
    for n in 0..20 {
        origin.answer(&format!("/{n}"), "Cache-Control: no-store", "mine");
        for peer in [&b, &c] {
            peer.answer(&format!("/{n}"), "Cache-Control: no-store", "mine");
        }
    }
    let edge = among(&origin, &b.url(), &c.url(), "").await;
    for _ in 0..2 {
        for n in 0..20 {
            assert_eq!(get(edge.address, &format!("/{n}")).await.body, b"mine");
        }
    }
    assert_eq!(asked(&origin) + asked(&b) + asked(&c), 40);
    assert!(asked(&b) + asked(&c) <= 20, "once it is known, the origin is asked itself");
}

#[tokio::test]
async fn what_peers_send_is_no_traffic_of_the_origin() {
    let (origin, orchestrator) = (stocked("origin").await, Orchestrator::start().await);
    let peer = stocked("peer").await;
    let lines = format!("orchestrators = [\"{}\"]", orchestrator.url());
    let edge = among(&origin, &peer.url(), &peer.url(), &lines).await;
    let mut reports = vec![orchestrator.next().await];
    for n in 0..60 {
        get(edge.address, &format!("/{n}")).await;
    }
    reports.push(orchestrator.next().await);
    reports.push(orchestrator.next().await);
    let fetches: u64 = reports.iter().map(|report| report.origin.fetches).sum();
    let bytes: u64 = reports.iter().map(|report| report.origin.bytes).sum();
    assert_eq!((fetches, bytes), (asked(&origin) as u64, 6 * asked(&origin) as u64));
    assert!(asked(&peer) > 20);
    assert_eq!(reports[2].origin.state, "up");
}

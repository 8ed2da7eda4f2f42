//! What goes on when a part of us is gone: one test for each row of the table, each with a real process killed or a real
//! folder taken away.
//!
//! | lost | what holds |
//! | --- | --- |
//! | telemetry | weights stay; probes still find a dead pathway |
//! | orchestrator | the last manifest, until its time is over; then static weights. A restart moves nobody |
//! | manifest store | the last manifest; after a restart the node's own copy of it |
//! | steering node | another one answers the same token in the same order |
//! | everything | playlists that were handed out name every pathway, best first, and need none of us |
//!
//! What players make of the last two is in `tests/players` (`refused-at-start`, `lost-midstream`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use spillway_system_tests::{Ports, Role, WRITE_KEY, config, free_ports};
use tokio::runtime::Runtime;

const NO_PROBES: &str = "[orchestrator.probe]\nenabled = false\n";
const MASTER: &str =
    "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=800000\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=3000000\nhigh.m3u8\n";

/// A CDN or origin that is not ours: it answers every path, until it is dropped with all its connections.
struct Cdn {
    runtime: Option<Runtime>,
}

impl Cdn {
    fn start(port: u16) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let router = Router::new().route("/vod/master.m3u8", get(|| async { MASTER })).fallback(|| async { "bytes" });
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            axum::serve(listener, router).await
        });
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Cdn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A configuration written down.
struct Deployment {
    dir: tempfile::TempDir,
    ports: Ports,
    file: String,
}

impl Deployment {
    fn new(extra: &str, change: impl FnOnce(String, &Path) -> String) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let ports = Ports::free();
        let file = dir.path().join("spillway.toml");
        std::fs::write(&file, change(config(dir.path(), ports, extra), dir.path())).expect("written");
        let file = file.to_str().expect("utf-8").to_owned();
        Self { dir, ports, file }
    }

    fn start(&self, role: &str) -> Role {
        Role::start(&[role, "--config", &self.file])
    }

    async fn region(&self) -> Value {
        let url = format!("http://127.0.0.1:{}/internal/steer", self.ports.steer);
        let status: Value = reqwest::get(url).await.expect("an answer").json().await.expect("JSON");
        status["regions"]["eu"].clone()
    }

    /// Waits until the node says so of its region.
    async fn until(&self, seconds: u64, holds: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..seconds * 5 {
            let region = self.region().await;
            if holds(&region) {
                return region;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("not within {seconds} s: {}", self.region().await);
    }
}

async fn decide(port: u16, session: &str) -> Value {
    let url = format!("http://127.0.0.1:{port}/v1/decide?content=live/x&sid={session}");
    reqwest::get(url).await.expect("an answer").json().await.expect("JSON")
}

/// First pathway by session, once an epoch is in force.
async fn orders(port: u16) -> (u64, BTreeMap<String, String>) {
    let mut out = BTreeMap::new();
    let mut epoch = 0;
    for number in 0..40 {
        let session = format!("s{number}");
        let answer = decide(port, &session).await;
        epoch = answer["epoch"].as_u64().expect("an epoch");
        out.insert(session, answer["pathways"][0]["id"].as_str().expect("a pathway").to_owned());
    }
    (epoch, out)
}

async fn until_steered(port: u16) -> (u64, BTreeMap<String, String>) {
    for _ in 0..100 {
        if orders(port).await.0 > 0 {
            // Once more: the manifest may have come in the middle of the last look.
            return orders(port).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("no manifest reached the steering node within 20 s");
}

#[tokio::test]
async fn telemetry_weights_stay_and_probes_still_find_a_dead_pathway() {
    let deployment = Deployment::new("[orchestrator.probe]\ninterval_s = 1\n", |text, _| text);
    let (cdn_a, _cdn_b) = (Cdn::start(deployment.ports.cdn_a), Cdn::start(deployment.ports.cdn_b));
    let (_steer, collector) = (deployment.start("steer"), deployment.start("collector"));
    let _orchestrator = deployment.start("orchestrator");
    until_steered(deployment.ports.steer).await;
    views_play(deployment.ports.collector).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (_, before) = orders(deployment.ports.steer).await;
    assert!(before.values().any(|first| first == "cdn-a"), "{before:?}");

    collector.kill();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (_, now) = orders(deployment.ports.steer).await;
        assert_eq!(now, before, "nobody is moved for want of beacons");
    }
    drop(cdn_a);
    for _ in 0..100 {
        let (_, now) = orders(deployment.ports.steer).await;
        if now.values().all(|first| first == "cdn-b") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("cdn-a is dead and still first after 20 s: {:?}", orders(deployment.ports.steer).await);
}

/// 60 views that play, half on each pathway.
async fn views_play(port: u16) {
    let client = reqwest::Client::new();
    for (seq, kind) in ["view_start", "heartbeat"].into_iter().enumerate() {
        for view in 0..60 {
            let pathway = if view % 2 == 0 { "cdn-a" } else { "cdn-b" };
            let ok = json!({"requests_ok": 5, "bytes": 500_000});
            let event = json!({
                "type": kind, "seq": seq, "created_ms": 1, "mono_ms": seq * 1000, "pathway": pathway, "state": "playing",
                "counters": {"watched_ms": 5000, "stall_ms": 0}, "pathways": {pathway: ok},
            });
            let body = json!({
                "v": 1, "sdk": "test/1", "sent_ms": 1, "ctx": {"view_id": format!("v{view}"), "content_id": "live/x"},
                "events": [event],
            });
            let url = format!("http://127.0.0.1:{port}/v1/beacons?k={WRITE_KEY}");
            let sent = client.post(url).header("content-type", "text/plain").body(body.to_string()).send().await;
            assert_eq!(sent.expect("an answer").status(), 202);
        }
    }
}

#[tokio::test]
async fn orchestrator_the_last_manifest_stays_in_force_and_a_restart_moves_nobody() {
    // Probes off: the pathways of this test do not exist, and that is not what it is about.
    let deployment = Deployment::new(NO_PROBES, |text, _| text);
    let port = deployment.ports.steer;
    let _steer = deployment.start("steer");
    let (epoch, _) = orders(port).await;
    assert_eq!(epoch, 0, "without any manifest the order is static, and there is one");

    let orchestrator = deployment.start("orchestrator");
    let before = until_steered(port).await;
    orchestrator.kill();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(orders(port).await, before, "the last manifest stays in force");
    }

    let _restarted = deployment.start("orchestrator");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = orders(port).await;
    assert_eq!(after.1, before.1, "a restart moves nobody");
    assert!(after.0 >= before.0, "an epoch never goes back");
}

#[tokio::test]
async fn orchestrator_a_manifest_is_renewed_while_it_lives_and_ends_in_static_weights_when_it_is_gone() {
    let deployment = Deployment::new(NO_PROBES, |text, _| {
        let text = text.replace("cdn-a = 50, cdn-b = 50", "cdn-a = 0, cdn-b = 100");
        text.replace("[orchestrator]\n", "[orchestrator]\nmanifest_valid_s = 8\n")
    });
    let _steer = deployment.start("steer");
    let orchestrator = deployment.start("orchestrator");
    let first = deployment.until(20, |region| region["plan"] == "manifest").await;
    let (_, before) = orders(deployment.ports.steer).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(deployment.region().await["plan"], "manifest", "a plan that doesn't change must not run out");
    }
    let renewed = deployment.region().await;
    assert!(renewed["epoch"].as_u64() > first["epoch"].as_u64(), "{renewed}");
    assert_eq!(orders(deployment.ports.steer).await.1, before, "a renewal moves nobody");

    orchestrator.kill();
    deployment.until(10, |region| region["plan"] == "expired").await;
    let (_, after) = orders(deployment.ports.steer).await;
    assert!(after.values().all(|first| first == "cdn-b"), "static weights: {after:?}");
}

#[tokio::test]
async fn manifest_store_a_node_goes_on_and_starts_again_from_its_own_copy() {
    let deployment = Deployment::new(NO_PROBES, |text, dir| {
        let copies = format!("manifest_copy_dir = \"{}\"\ntoken_key =", dir.join("copies").display());
        text.replace("token_key =", &copies)
    });
    let steer = deployment.start("steer");
    let orchestrator = deployment.start("orchestrator");
    deployment.until(20, |region| region["plan"] == "manifest").await;
    let before = orders(deployment.ports.steer).await;
    orchestrator.kill();
    let store = deployment.dir.path().join("store");
    std::fs::rename(&store, deployment.dir.path().join("gone")).expect("the store was there");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(orders(deployment.ports.steer).await, before, "what was accepted stays");
    }
    steer.kill();
    let _again = deployment.start("steer");
    let region = deployment.until(10, |region| region["plan"] == "manifest").await;
    assert_eq!(region["from"], "copy", "{region}");
    assert_eq!(orders(deployment.ports.steer).await, before);
}

#[tokio::test]
async fn steering_node_another_one_answers_the_same_token_in_the_same_order() {
    let [origin, second] = free_ports();
    let _origin = Cdn::start(origin);
    let one = Deployment::new(NO_PROBES, |text, _| {
        text.replace("http://127.0.0.1:1\"", &format!("http://127.0.0.1:{origin}\""))
    });
    let other = one.dir.path().join("other.toml");
    let text = std::fs::read_to_string(&one.file).expect("written");
    // As behind an address that both share: the public URL stays.
    let listen = |port: u16| format!("[steer]\nlisten = \"127.0.0.1:{port}\"");
    std::fs::write(&other, text.replace(&listen(one.ports.steer), &listen(second))).expect("written");
    let first_node = one.start("steer");
    let _second_node = Role::start(&["steer", "--config", other.to_str().expect("utf-8")]);
    let _orchestrator = one.start("orchestrator");
    for port in [one.ports.steer, second] {
        until_steered(port).await;
    }
    let poll = server_uri(&playlist(one.ports.steer).await);
    let before = steer(one.ports.steer, &poll).await;
    let again = before["RELOAD-URI"].as_str().expect("a URI").to_owned();
    let before = steer(one.ports.steer, &again).await;
    first_node.kill();
    let after = steer(second, &again).await;
    assert_eq!(after, before, "the same order, TTL and URI of the next poll");
    assert!(again.contains("?t=view-1~"), "{again}");
}

#[tokio::test]
async fn everything_a_playlist_that_was_handed_out_needs_none_of_us() {
    let [origin] = free_ports();
    let deployment = Deployment::new(NO_PROBES, |text, _| {
        text.replace("http://127.0.0.1:1\"", &format!("http://127.0.0.1:{origin}\""))
    });
    let _theirs = [Cdn::start(origin), Cdn::start(deployment.ports.cdn_a), Cdn::start(deployment.ports.cdn_b)];
    let all = deployment.start("all");
    until_steered(deployment.ports.steer).await;
    let playlist = playlist(deployment.ports.steer).await;
    all.kill();
    assert!(reqwest::get(server_uri(&playlist)).await.is_err(), "nobody answers any more");
    let variants: Vec<&str> = playlist.lines().filter(|line| line.starts_with("http")).collect();
    for port in [deployment.ports.cdn_a, deployment.ports.cdn_b] {
        let here = variants.iter().filter(|url| url.starts_with(&format!("http://127.0.0.1:{port}/vod/")));
        assert_eq!(here.count(), 2, "every variant on every pathway: {playlist}");
    }
    for url in variants {
        assert_eq!(reqwest::get(url).await.expect("a CDN").status(), 200, "{url}");
    }
}

async fn playlist(port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}/v1/playlists/hls/vod/master.m3u8?sid=view-1");
    let answer = reqwest::get(url).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.text().await.expect("text")
}

fn server_uri(playlist: &str) -> String {
    let after = playlist.split("SERVER-URI=\"").nth(1).expect("a steering tag");
    after.split('"').next().expect("a string").to_owned()
}

/// The node at `port` asked with path and query of `url`.
async fn steer(port: u16, url: &str) -> Value {
    let path = &url[url.find("/v1/").expect("ours")..];
    let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

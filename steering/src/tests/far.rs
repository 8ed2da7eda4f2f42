//! A node without the store: orchestrators over HTTP, files, and its own disk when nothing else is left.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use spillway_bus::{DirStore, LocalBus};
use spillway_model::Millis;
use spillway_service::{CancellationToken, Readiness};
use spillway_wire::envelope::{KEYS_FILE, key_id};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::fixtures::{StoppedClock, config, deployment, manifest, sealed, signing_key};
use crate::{Parts, run};

/// `/v1/manifests/eu-a` and `/v1/keys` as an orchestrator has them.
struct Orchestrator {
    url: String,
    envelope: watch::Sender<(u64, Vec<u8>)>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

fn keys() -> Vec<u8> {
    let key = base64::engine::general_purpose::STANDARD.encode(signing_key().verifying_key().to_bytes());
    serde_json::to_vec(&serde_json::json!({ "k1": key })).expect("json")
}

fn plan(epoch: u64, to: &str) -> (u64, Vec<u8>) {
    (epoch, sealed(&manifest(epoch, &[(to, 1_000_000)])))
}

impl Orchestrator {
    async fn start(first: (u64, Vec<u8>)) -> Self {
        Self::at("127.0.0.1:0", first).await
    }

    async fn at(address: &str, first: (u64, Vec<u8>)) -> Self {
        let (envelope, seen) = watch::channel(first);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answer = async move |region: String, query: Vec<(String, String)>, headers: HeaderMap| -> Response {
            if region != "eu-a" {
                return StatusCode::NOT_FOUND.into_response();
            }
            count.fetch_add(1, Ordering::SeqCst);
            let tag = |epoch: u64| format!("\"{epoch}\"");
            let known = headers.get("if-none-match").and_then(|tag| tag.to_str().ok()).unwrap_or_default().to_owned();
            let mut seen = seen.clone();
            assert!(query.iter().any(|(name, value)| name == "wait_s" && value == "20"), "{query:?}");
            let news = seen.wait_for(|(epoch, _)| tag(*epoch) != known);
            match tokio::time::timeout(Duration::from_secs(20), news).await {
                Ok(Ok(now)) => ([("etag", tag(now.0))], now.1.clone()).into_response(),
                _ => StatusCode::NOT_MODIFIED.into_response(),
            }
        };
        let answer = Arc::new(answer);
        let manifests = move |UrlPath(region), Query(query), headers| {
            let answer = Arc::clone(&answer);
            async move { answer(region, query, headers).await }
        };
        let players =
            r#"{"v":1,"at_ms":1,"players":[{"player":"oldtv","version":"","moves":60,"followed":0,"follows":false}]}"#;
        let router = Router::new()
            .route("/v1/manifests/{region}", get(manifests))
            .route("/v1/keys", get(|| async { keys() }))
            .route("/v1/players", get(move || async move { players }));
        let listener = TcpListener::bind(address).await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { url, envelope, asked, task }
    }

    /// Listener and connections are gone.
    async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
        self.envelope.send_replace((u64::MAX, vec![]));
    }
}

struct Node {
    url: String,
    client: reqwest::Client,
    clock: Arc<StoppedClock>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Node {
    async fn start(dir: &Path, from: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address: SocketAddr = listener.local_addr().expect("address");
        let (clock, shutdown) = (StoppedClock::new(), CancellationToken::new());
        let mut config = config("http://127.0.0.1:9");
        config.manifests_from = from.iter().map(|from| (*from).to_owned()).collect();
        config.manifest_copy_dir = Some(dir.join("copies"));
        let parts = Parts {
            config,
            deployed: deployment().into(),
            service_token: "a-secret-of-roles".into(),
            tokens: vec![],
            store: Arc::new(DirStore::open(&dir.join("store")).expect("store")),
            bus: LocalBus::new(),
            clock: Arc::clone(&clock) as Arc<dyn spillway_model::Clock>,
            listener,
            public: None,
            readiness: Readiness::default(),
            metrics: None,
            shutdown: shutdown.clone(),
            posted: CancellationToken::new(),
        };
        let task = tokio::spawn(run(parts));
        Self { url: format!("http://{address}"), client: reqwest::Client::new(), clock, shutdown, task }
    }

    async fn region(&self) -> serde_json::Value {
        let status = self.client.get(format!("{}/internal/steer", self.url)).send().await.expect("an answer");
        status.json::<serde_json::Value>().await.expect("json")["regions"]["eu-a"].clone()
    }

    /// Waits until it steers by this epoch and where that came from.
    async fn steers_by(&self, epoch: u64, from: &str) {
        for _ in 0..800 {
            let region = self.region().await;
            if region["epoch"] == epoch && region["from"] == from {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("epoch {epoch} from {from} never came: {}", self.region().await);
    }

    async fn first(&self) -> String {
        let answer = self.client.get(format!("{}/v1/decide?content=vod/lake&region=eu-a", self.url)).send().await;
        let decided: serde_json::Value = answer.expect("an answer").json().await.expect("json");
        decided["pathways"][0]["id"].as_str().expect("a pathway").to_owned()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("ended well");
    }
}

#[tokio::test]
async fn a_node_follows_an_orchestrator_far_away_and_asks_no_more_than_it_must() {
    let dir = tempfile::tempdir().expect("dir");
    let far = Orchestrator::start(plan(3, "cdn-a")).await;
    let node = Node::start(dir.path(), &[&far.url]).await;
    node.steers_by(3, &far.url).await;
    far.envelope.send_replace(plan(4, "cdn-b"));
    node.steers_by(4, &far.url).await;
    assert_eq!(node.first().await, "cdn-b");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(far.asked.load(Ordering::SeqCst), 3, "two answers, and one question that waits");
    node.stop().await;
}

#[tokio::test]
async fn a_node_far_away_hears_of_players_that_do_not_follow() {
    let dir = tempfile::tempdir().expect("dir");
    let far = Orchestrator::start(plan(3, "cdn-a")).await;
    let node = Node::start(dir.path(), &[&far.url]).await;
    node.steers_by(3, &far.url).await;
    let playlist = async |player: &str| {
        let url = format!("{}/v1/playlists/hls?content=vod/lake/m.m3u8&player={player}", node.url);
        let body = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n";
        node.client.post(url).body(body).send().await.expect("an answer").text().await.expect("text")
    };
    assert!(playlist("newtv").await.contains("#EXT-X-CONTENT-STEERING"));
    for _ in 0..200 {
        if !playlist("oldtv").await.contains("#EXT-X-CONTENT-STEERING") {
            return node.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is steered after 2 s");
}

#[tokio::test]
async fn the_next_orchestrator_is_asked_when_one_is_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let one = Orchestrator::start(plan(3, "cdn-a")).await;
    let two = Orchestrator::start(plan(3, "cdn-a")).await;
    let node = Node::start(dir.path(), &[&one.url, &two.url]).await;
    node.steers_by(3, &one.url).await;
    assert_eq!(two.asked.load(Ordering::SeqCst), 0);
    one.die().await;
    two.envelope.send_replace(plan(4, "cdn-b"));
    node.steers_by(4, &two.url).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_starts_while_all_else_is_gone_steers_by_its_last_good_manifest_and_then_by_static_weights() {
    let dir = tempfile::tempdir().expect("dir");
    let far = Orchestrator::start(plan(7, "cdn-b")).await;
    let url = far.url.clone();
    let node = Node::start(dir.path(), &[&url]).await;
    node.steers_by(7, &url).await;
    node.stop().await;
    far.die().await;
    std::fs::remove_dir_all(dir.path().join("store")).expect("the store is gone too");

    let node = Node::start(dir.path(), &[&url]).await;
    node.steers_by(7, "copy").await;
    assert_eq!(node.first().await, "cdn-b", "the plan");
    node.clock.advance(Millis::from_secs(61));
    assert_eq!(node.region().await["plan"], "expired");
    assert_eq!(node.first().await, "cdn-c", "the plan's static weights");

    let back = Orchestrator::at(url.strip_prefix("http://").expect("http"), plan(8, "cdn-a")).await;
    node.steers_by(8, &url).await;
    back.die().await;
    node.stop().await;
}

#[tokio::test]
async fn a_copy_that_was_tampered_with_is_refused_like_any_other() {
    let dir = tempfile::tempdir().expect("dir");
    let copies = dir.path().join("copies");
    std::fs::create_dir_all(&copies).expect("folder");
    std::fs::write(copies.join(KEYS_FILE), keys()).expect("keys");
    let mut forged: serde_json::Value = serde_json::from_slice(&plan(9, "cdn-b").1).expect("json");
    forged["payload"] =
        serde_json::from_slice::<serde_json::Value>(&plan(8, "cdn-a").1).expect("json")["payload"].clone();
    std::fs::write(copies.join("eu-a.json"), forged.to_string()).expect("copy");
    let node = Node::start(dir.path(), &["http://127.0.0.1:9"]).await;
    let region = node.region().await;
    assert_eq!((&region["plan"], &region["refused"]["bad_signature"]), (&"static".into(), &1.into()), "{region}");
    node.stop().await;
}

#[tokio::test]
async fn files_that_somebody_put_there_are_followed_while_the_orchestrator_is_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let files = dir.path().join("by-hand");
    std::fs::create_dir_all(&files).expect("folder");
    let far = Orchestrator::start(plan(3, "cdn-a")).await;
    let url = far.url.clone();
    let node = Node::start(dir.path(), &[&url, files.to_str().expect("utf-8")]).await;
    node.steers_by(3, &url).await;
    far.die().await;
    std::fs::write(files.join("eu-a.json"), plan(4, "cdn-c").1).expect("written");
    node.steers_by(4, files.to_str().expect("utf-8")).await;
    assert_eq!(node.first().await, "cdn-c");
    node.stop().await;
}

#[tokio::test]
async fn pinned_keys_are_the_only_ones_that_count() {
    let dir = tempfile::tempdir().expect("dir");
    let far = Orchestrator::start(plan(3, "cdn-a")).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let other = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let public = base64::engine::general_purpose::STANDARD.encode(other.verifying_key().to_bytes());
    let mut config = config("http://127.0.0.1:9");
    config.manifests_from = vec![far.url.clone()];
    config.manifest_keys = vec![public.clone()];
    let state =
        crate::SteerState::new(&config, deployment(), (vec![], String::new()), StoppedClock::new()).expect("valid");
    drop(listener);
    let store: Arc<dyn spillway_bus::Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
    let sources = crate::sources::Source::all(&config.manifests_from, &store).expect("sources");
    let follower = crate::follow::Follower { state: Arc::new(state), sources, copies: None };
    follower.restore().await;
    let shutdown = CancellationToken::new();
    let run = async {
        for _ in 0..500 {
            let status = follower.state.manifests.status(super::fixtures::NOW);
            if status[&super::fixtures::region()].refusals.by_reason.contains_key("unknown_key") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
    };
    tokio::join!(follower.run(&shutdown), run);
    let eu_a = super::fixtures::region();
    let offer = |epoch: u64| {
        let payload = spillway_wire::manifest::to_bytes(&manifest(epoch, &[("cdn-a", 1_000_000)]));
        let sealed = spillway_wire::envelope::seal(&key_id(&public), &other, &payload);
        let bytes = serde_json::to_vec(&sealed).expect("json");
        follower.state.manifests.offer(&eu_a, &bytes, super::fixtures::NOW)
    };
    let refusals = follower.state.manifests.status(super::fixtures::NOW)[&eu_a].refusals.clone();
    assert_eq!(refusals.by_reason.get("unknown_key"), Some(&1), "{refusals:?}");
    assert!(offer(1).expect("the pinned key signs"));
    far.die().await;
}

#[tokio::test]
async fn in_shadow_mode_views_go_by_static_weights_and_are_told_where_the_plan_would_send_them() {
    let dir = tempfile::tempdir().expect("dir");
    let mut plan = manifest(3, &[("cdn-b", 1_000_000)]);
    plan.modes[0].mode = spillway_model::Mode::Shadow;
    plan.shadow = plan.cohorts.clone();
    let far = Orchestrator::start((3, sealed(&plan))).await;
    let node = Node::start(dir.path(), &[&far.url]).await;
    node.steers_by(3, &far.url).await;
    let url = format!("{}/v1/decide?content=vod/lake&region=eu-a", node.url);
    let decided: serde_json::Value = node.client.get(url).send().await.expect("an answer").json().await.expect("json");
    let url = format!("{}/v1/explain?t={}", node.url, decided["token"].as_str().expect("a token"));
    let told: serde_json::Value = node.client.get(url).send().await.expect("an answer").json().await.expect("json");
    assert_eq!((&told["order"][0]["id"], &told["order"][0]["place"]), (&"cdn-c".into(), &"static".into()), "{told}");
    assert_eq!(told["shadow_first"]["id"], "cdn-b");
    node.stop().await;
}

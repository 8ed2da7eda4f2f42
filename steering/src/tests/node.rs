//! A whole node over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine as _;
use bytes::Bytes;
use spillway_bus::{DirStore, LocalBus, Store, Subscription};
use spillway_model::{Millis, PathwayState};
use spillway_service::auth::{Role, TokenConfig, token_hash};
use spillway_service::{CancellationToken, Readiness};
use spillway_wire::envelope::{KEYS_KEY, manifest_key};
use spillway_wire::frame::{FRAME_TOPIC, Frame};
use spillway_wire::steering::{STEERING_MEDIA_TYPE, SteeringAnswer};
use tokio::net::TcpListener;

use super::fixtures::{StoppedClock, config, deployment, manifest, region, sealed, signing_key};
use crate::{Parts, SteerConfig, run};

const MASTER: &str = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n";
const MPD: &str = "<MPD type=\"dynamic\"><Period/></MPD>";

/// An origin whose status can be set, and which counts.
#[derive(Clone)]
struct Origin {
    status: Arc<AtomicU16>,
    fetches: Arc<AtomicUsize>,
}

pub(crate) struct Node {
    url: String,
    client: reqwest::Client,
    origin: Origin,
    pub(super) clock: Arc<StoppedClock>,
    store: Arc<dyn Store>,
    pub(super) frames: Subscription,
    pub(crate) shutdown: CancellationToken,
    pub(super) posted: CancellationToken,
    _dir: tempfile::TempDir,
}

async fn origin() -> (Origin, String) {
    let origin = Origin { status: Arc::new(AtomicU16::new(200)), fetches: Arc::default() };
    let answer = |body: &'static str| {
        let origin = origin.clone();
        move || {
            let origin = origin.clone();
            async move {
                origin.fetches.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                let status = StatusCode::from_u16(origin.status.load(Ordering::SeqCst)).expect("status");
                (status, [("cache-control", "max-age=3")], body)
            }
        }
    };
    let elsewhere = || async { (StatusCode::FOUND, [("location", "http://127.0.0.2:9/x.m3u8")]) };
    let router = Router::new()
        .route("/vod/lake/master.m3u8", get(answer(MASTER)))
        .route("/live/river/manifest.mpd", get(answer(MPD)))
        .route("/vod/lake/media.m3u8", get(answer("#EXTM3U\n#EXTINF:4,\na.m4s\n")))
        .route("/vod/elsewhere/master.m3u8", get(elsewhere));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (origin, url)
}

impl Node {
    pub(super) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// A node with a changed configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut SteerConfig)) -> Self {
        let (origin, origin_url) = origin().await;
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let clock = StoppedClock::new();
        let bus = LocalBus::new();
        let frames = spillway_bus::Bus::subscribe(&bus, FRAME_TOPIC);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address: SocketAddr = listener.local_addr().expect("address");
        let shutdown = CancellationToken::new();
        let mut config = config(&origin_url);
        change(&mut config);
        let posted = CancellationToken::new();
        let parts = Parts {
            config,
            deployed: deployment().into(),
            service_token: "a-secret-of-roles".into(),
            tokens: vec![TokenConfig { name: "ann".into(), role: Role::Viewer, sha256: token_hash("viewer-token") }],
            store: Arc::clone(&store),
            bus,
            clock: Arc::clone(&clock) as Arc<dyn spillway_model::Clock>,
            listener,
            public: None,
            readiness: Readiness::default(),
            metrics: None,
            shutdown: shutdown.clone(),
            posted: posted.clone(),
        };
        tokio::spawn(run(parts));
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("client");
        let url = format!("http://{address}");
        Self { url, client, origin, clock, store, frames, shutdown, posted, _dir: dir }
    }

    pub(super) async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.url)).header("x-test-client", "127.11.1.9");
        request.send().await.expect("an answer")
    }

    pub(super) async fn with_header(&self, path: &str, name: &str, value: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.url)).header(name, value).send().await.expect("an answer")
    }

    /// JSON for an operator who may see.
    pub(super) async fn as_viewer(&self, path: &str) -> serde_json::Value {
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth("viewer-token");
        request.send().await.expect("an answer").json().await.expect("json")
    }

    pub(super) fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.url))
    }

    pub(super) async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.expect("text")
    }

    pub(super) async fn json(&self, path: &str) -> serde_json::Value {
        self.get(path).await.json().await.expect("json")
    }

    pub(super) async fn steer(&self, path: &str) -> SteeringAnswer<'static> {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200);
        let answer: SteeringAnswer<'static> = answer.json().await.expect("an answer");
        assert_eq!(answer.version, 1);
        assert!((2..=300).contains(&answer.ttl_s));
        assert!(answer.reload_uri.as_ref().is_some_and(|uri| uri.starts_with("http://steer.example/v1/steer/")));
        answer
    }

    pub(super) async fn set(&self, key: &str, value: Vec<u8>) {
        let version = self.store.get(key).await.expect("get").map_or(0, |found| found.version);
        self.store.compare_and_set(key, version, Bytes::from(value)).await.expect("set");
    }

    pub(super) async fn publish_keys(&self) {
        let key = base64::engine::general_purpose::STANDARD.encode(signing_key().verifying_key().to_bytes());
        self.set(KEYS_KEY, serde_json::to_vec(&serde_json::json!({ "k1": key })).expect("json")).await;
    }

    /// Publishes and waits until the node steers by it, or has refused it.
    pub(super) async fn publish(&self, bytes: Vec<u8>, until: impl Fn(&serde_json::Value) -> bool) {
        self.set(&manifest_key(&region()), bytes).await;
        for _ in 0..500 {
            if until(&self.json("/internal/steer").await["regions"]["eu-a"]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the node never saw the manifest");
    }
}

/// The path and query of the steering URI in a playlist.
pub(super) fn server_uri(playlist: &str) -> String {
    let uri = playlist.split("SERVER-URI=\"").nth(1).expect("a steering tag").split('"').next().expect("a string");
    uri.strip_prefix("http://steer.example").expect("our public URL").to_owned()
}

fn first_of(playlist: &str) -> String {
    let line = playlist.lines().find(|line| line.starts_with("#EXT-X-CONTENT-STEERING")).expect("the tag");
    line.split("PATHWAY-ID=\"").nth(1).expect("a pathway").trim_end_matches('"').to_owned()
}

#[tokio::test]
async fn a_view_goes_from_playlist_to_polls_and_moves_at_the_second() {
    let node = Node::start().await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(1, &[("cdn-a", 1_000_000)])), |region| region["epoch"] == 1).await;

    let answer = node.get("/v1/playlists/hls/vod/lake/master.m3u8?sid=view-1").await;
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "application/vnd.apple.mpegurl");
    assert_eq!(
        [headers["cache-control"].as_bytes(), headers["x-spillway-epoch"].as_bytes()],
        [&b"no-store"[..], &b"1"[..]]
    );
    assert_eq!(headers["access-control-allow-origin"], "*");
    let playlist = answer.text().await.expect("text");
    assert_eq!(first_of(&playlist), "cdn-a");
    assert!(playlist.contains("\nhttp://cdn-a.example/p/vod/lake/v.m3u8\n"), "{playlist}");
    let poll = server_uri(&playlist);
    assert!(poll.starts_with("/v1/steer/hls?t=view-1~eu-a~64501~"), "{poll}");

    let mut plan = manifest(2, &[("cdn-b", 1_000_000)]);
    plan.pathways.get_mut("cdn-a").expect("there").state = PathwayState::Down;
    node.publish(sealed(&plan), |region| region["epoch"] == 2).await;

    let one = node.steer(&format!("{poll}&_HLS_pathway=cdn-a&_HLS_throughput=500000")).await;
    assert_eq!(one.priority[0], "cdn-a");
    assert!((2..=5).contains(&one.ttl_s), "{}", one.ttl_s);
    let again = one.reload_uri.expect("a reload URI");
    let two = node.steer(again.strip_prefix("http://steer.example").expect("ours")).await;
    assert_eq!((&*two.priority[0], two.priority.last().map(|id| &**id)), ("cdn-b", Some("cdn-a")));
    let (mut a, mut b) = (one.priority.clone(), two.priority.clone());
    a.sort();
    b.sort();
    assert_eq!(a, b, "every pathway of the playlist, each time");
    node.shutdown.cancel();
}

#[tokio::test]
async fn bad_tokens_are_answered_like_good_ones_but_make_no_audience() {
    let mut node = Node::start().await;
    let playlist = node.text("/v1/playlists/hls/vod/lake/master.m3u8").await;
    let poll = server_uri(&playlist);
    let forged = format!("{}0000", &poll[..poll.len() - 4]);
    let odd = [
        "/v1/steer/hls",
        "/v1/steer/dash?t=",
        "/v1/steer/hls?t=%00%ff~~",
        &forged,
        "/v1/steer/hls?&&=&t",
        "/v1/steer/dash?_DASH_pathway=%22,%22",
    ];
    for path in odd {
        let answer = node.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], STEERING_MEDIA_TYPE);
        assert!(answer.headers()["access-control-expose-headers"].to_str().expect("text").contains("retry-after"));
        let answer = node.steer(path).await;
        assert_eq!(answer.priority.len(), 6);
        assert!(!answer.reload_uri.expect("there").contains("t="), "no token for a stranger");
        assert_eq!(node.steer(path).await.priority, answer.priority, "the same address, the same answer");
    }
    node.steer(&poll).await;
    node.steer(&poll.replace('~', "%7E")).await;
    let forged_playlist = format!("/v1/playlists/hls/vod/lake/master.m3u8?t={}", forged.split("t=").nth(1).expect("t"));
    assert_eq!(node.get(&forged_playlist).await.status(), 200);
    let decided = node.json("/v1/decide?content=vod/lake&t=forged").await;
    assert!(decided["pathways"].as_array().is_some_and(|list| list.len() >= 2), "{decided}");
    let (mut polls, mut assigned, mut untrusted) = (0, 0, 0);
    while polls < 2 || untrusted < 20 {
        let message = node.frames.next().await.expect("a frame");
        let frame: Frame = serde_json::from_slice(&message).expect("json");
        assert_eq!((frame.kind.as_str(), frame.source.as_str()), ("steer", "steer-test"));
        for cell in frame.cells {
            // A flood must not use up the networks that are told apart.
            let asn = (cell.sessions_untrusted == 0).then_some(64_501);
            assert_eq!((cell.key.property.as_str(), cell.key.region.as_str(), cell.key.asn), ("demo", "eu-a", asn));
            polls += cell.polls;
            assigned += cell.sessions_assigned;
            untrusted += cell.sessions_untrusted;
        }
    }
    assert_eq!((polls, assigned, untrusted), (2, 1, 20));
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_preflight_is_answered() {
    let node = Node::start().await;
    let request = node
        .client
        .request(reqwest::Method::OPTIONS, format!("{}/v1/steer/hls?t=x", node.url))
        .header("origin", "https://page.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "cmcd-session");
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success());
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
    assert!(answer.headers().contains_key("access-control-max-age"));
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_started_view_that_never_polls_is_a_ghost() {
    let mut node = Node::start().await;
    node.text("/v1/playlists/hls/vod/lake/master.m3u8?sid=ghost").await;
    let poll = server_uri(&node.text("/v1/playlists/hls/vod/lake/master.m3u8?sid=alive").await);
    node.steer(&poll).await;
    node.clock.advance(Millis::from_secs(100));
    let mut ghosts = 0;
    while ghosts == 0 {
        let frame: Frame = serde_json::from_slice(&node.frames.next().await.expect("a frame")).expect("json");
        ghosts += frame.cells.iter().map(|cell| cell.ghost_starts).sum::<u64>();
    }
    assert_eq!(ghosts, 1);
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_changing_mpd_is_read_again_by_the_same_session() {
    let node = Node::start().await;
    let answer = node.get("/v1/playlists/dash/live/river/manifest.mpd?region=eu-b").await;
    assert_eq!(answer.headers()["content-type"], "application/dash+xml");
    let mpd = answer.text().await.expect("text");
    let between = |text: &str, from: &str, to: &str| {
        text.split(from).nth(1).and_then(|rest| rest.split(to).next()).expect("there").to_owned()
    };
    let location = between(&mpd, "<Location>", "</Location>");
    let again = node.text(location.strip_prefix("http://steer.example").expect("ours")).await;
    let session = |mpd: &str| between(mpd, "/v1/steer/dash?t=", "~");
    assert_eq!(session(&mpd), session(&again));
    assert!(again.contains("~eu-b~"), "{again}");
    let first = between(&mpd, "defaultServiceLocation=\"", "\"");
    assert!(
        mpd.contains(&format!("<BaseURL serviceLocation=\"{first}\">http://{first}.example/p/live/river/</BaseURL>"))
    );
    node.shutdown.cancel();
}

#[tokio::test]
async fn one_fetch_serves_many_and_an_old_copy_serves_while_the_origin_is_down() {
    let node = Node::start().await;
    let path = "/v1/playlists/hls/vod/lake/master.m3u8";
    let many = futures::future::join_all((0..20).map(|_| node.get(path))).await;
    assert!(many.iter().all(|answer| answer.status() == 200));
    assert_eq!(node.origin.fetches.load(Ordering::SeqCst), 1);

    node.origin.status.store(503, Ordering::SeqCst);
    node.clock.advance(Millis::from_secs(30));
    assert_eq!(node.get(path).await.status(), 200, "stale");
    node.clock.advance(Millis::from_secs(31));
    let gone = node.get(path).await;
    assert_eq!((gone.status().as_u16(), gone.headers()["x-spillway-reason"].as_bytes()), (502, &b"origin_status"[..]));
    assert_eq!(gone.json::<serde_json::Value>().await.expect("json")["detail"], "the origin answers 503");
    assert_eq!(node.get("/v1/steer/hls").await.status(), 200, "steering never fails");
    node.shutdown.cancel();
}

#[tokio::test]
async fn what_can_not_be_rewritten_plays_from_the_best_pathway() {
    let node = Node::start().await;
    let answer = node.get("/v1/playlists/hls/vod/lake/media.m3u8").await;
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["x-spillway-reason"].as_bytes()),
        (307, &b"media_playlist"[..])
    );
    let location = answer.headers()["location"].to_str().expect("text");
    assert!(location.ends_with(".example/p/vod/lake/media.m3u8"), "{location}");

    let status = async |path: &str| node.get(path).await.status().as_u16();
    assert_eq!(status("/v1/playlists/hls/vod/nothing.m3u8").await, 404);
    assert_eq!(status("/v1/playlists/hls/vod/elsewhere/master.m3u8").await, 502, "no redirect to another host");
    assert_eq!(status("/v1/playlists/hls/a%2f..%2fx").await, 400);
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_posted_playlist_is_rewritten_without_any_fetch() {
    let node = Node::start().await;
    let post = async |path: &str, body: &'static str| {
        let answer = node.client.post(format!("{}{path}", node.url)).body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let (status, playlist) = post("/v1/playlists/hls?content=vod/sea/master.m3u8&sid=s-1", MASTER).await;
    assert_eq!(status, 200);
    assert!(playlist.contains("/p/vod/sea/v.m3u8") && server_uri(&playlist).contains("t=s-1~"), "{playlist}");
    let (status, refused) = post("/v1/playlists/dash?content=vod/sea/x.mpd", MASTER).await;
    assert_eq!((status, refused.contains("bad_xml")), (422, true), "{refused}");
    assert_eq!(post("/v1/playlists/hls", MASTER).await.0, 422);
    assert_eq!(node.origin.fetches.load(Ordering::SeqCst), 0);
    node.shutdown.cancel();
}

#[tokio::test]
async fn custom_players_get_json_and_redirects_and_an_explanation() {
    let node = Node::start().await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(4, &[("cdn-b", 1_000_000)])), |region| region["epoch"] == 4).await;
    let decision = node.json("/v1/decide?content=vod/lake&sid=tv-1").await;
    assert_eq!(
        (&decision["sid"], &decision["epoch"], &decision["reason"]),
        (&"tv-1".into(), &4.into(), &"because".into())
    );
    let best = serde_json::json!({ "id": "cdn-b", "base_url": "http://cdn-b.example/p", "place": "weight" });
    assert_eq!(decision["pathways"][0], best);
    assert!(decision["pathways"].as_array().expect("list").len() >= 2);

    let go = node.get("/v1/go/vod/lake/a%20b.mp4").await;
    assert_eq!(
        (go.status().as_u16(), go.headers()["location"].as_bytes()),
        (307, &b"http://cdn-b.example/p/vod/lake/a%20b.mp4"[..])
    );

    let token = decision["token"].as_str().expect("text");
    let why = node.json(&format!("/v1/explain?t={token}")).await;
    assert_eq!(
        (&why["sid"], &why["rule"]["session_is"], &why["plan"]),
        (&"tv-1".into(), &"new".into(), &"manifest".into())
    );
    assert_eq!(why["order"][0]["place"], "weight");
    assert_eq!(node.get("/v1/explain?sid=tv-1").await.status(), 401);
    let request = node.client.get(format!("{}/v1/explain?sid=tv-1&content=x", node.url)).bearer_auth("viewer-token");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_forged_manifest_changes_nothing_and_a_new_key_is_learned() {
    let node = Node::start().await;
    let good = manifest(1, &[("cdn-a", 1_000_000)]);
    node.publish(sealed(&good), |region| region["refused"]["unknown_key"] == 1).await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(2, &[("cdn-a", 1_000_000)])), |region| region["epoch"] == 2).await;
    node.publish(b"garbage".to_vec(), |region| region["refused"]["unreadable"] == 1).await;
    let status = node.json("/internal/steer").await;
    assert_eq!(
        (&status["regions"]["eu-a"]["epoch"], &status["regions"]["eu-b"]["plan"]),
        (&2.into(), &"static".into())
    );
    node.clock.advance(Millis::from_secs(61));
    assert_eq!(node.json("/internal/steer").await["regions"]["eu-a"]["plan"], "expired");
    node.shutdown.cancel();
}

//! A whole orchestrator over HTTP, with its store and its lake.

mod edges;
mod flood;
mod manifests;
mod reload;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_bus::{Bus as _, DirStore, LocalBus};
use spillway_lake::{LakeSession, lake_root};
use spillway_model::Clock as _;
use spillway_orchestrator_core::Parameters;
use spillway_service::auth::{Role, TokenConfig, token_hash};
use spillway_service::{CancellationToken, Readiness, SystemClock};
use spillway_wire::frame::{Cell, CellKey, FRAME_TOPIC, Frame};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::canary::CanaryConfig;
use crate::fixtures::deployment;
use crate::{Configured, Lake, OrchestratorConfig, Parts, ProbeConfig, run};

struct Orchestrator {
    url: String,
    client: reqwest::Client,
    bus: LocalBus,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    file: reload::File,
    hangups: watch::Sender<u64>,
    configured: Configured,
}

impl Orchestrator {
    /// On the data in `dir`; a second one there goes on from the first.
    async fn start(dir: &Path, config: OrchestratorConfig, parameters: Parameters) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address: SocketAddr = listener.local_addr().expect("address");
        let token = |name: &str, role| TokenConfig { name: name.into(), role, sha256: token_hash(name) };
        let (bus, shutdown) = (LocalBus::new(), CancellationToken::new());
        let probe = ProbeConfig { enabled: false, ..ProbeConfig::default() };
        let configured = Configured {
            deployment: deployment(),
            parameters,
            config: OrchestratorConfig { round_ms: 100, probe, ..config },
            recorded: String::new(),
        };
        let (file, hangups) = (reload::File::default(), watch::Sender::new(0));
        let reread = file.rereader();
        let parts = Parts {
            configured: configured.clone(),
            deploys: spillway_service::Deploys::new(Arc::clone(&configured.deployment)),
            reread,
            hangups: hangups.subscribe(),
            tokens: vec![token("viewer-token", Role::Viewer), token("operator-token", Role::Operator)],
            service_token: "a-secret-of-roles".into(),
            key_file: dir.join("key"),
            class_of: std::collections::BTreeMap::new(),
            lake: Lake { root: lake_root(dir.join("lake").to_str().expect("utf-8")).expect("root"), tails: vec![] },
            store: Arc::new(DirStore::open(&dir.join("store")).expect("store")),
            bus: bus.clone(),
            clock: Arc::new(SystemClock::default()),
            listener,
            readiness: Readiness::default(),
            metrics: None,
            shutdown: shutdown.clone(),
        };
        let task = tokio::spawn(run(parts));
        Self {
            url: format!("http://{address}"),
            client: reqwest::Client::new(),
            bus,
            shutdown,
            task,
            file,
            hangups,
            configured,
        }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, token: &str, body: &Value) -> (u16, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(token);
        let answer = request.body(body.to_string()).send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.expect("text")).unwrap_or_default())
    }

    async fn post(&self, token: &str, body: Value) -> (u16, Value) {
        self.ask(reqwest::Method::POST, "/v1/admin/calm", token, &body).await
    }

    /// Publishes frames of a few well views in each region until shutdown.
    fn play(&self) {
        let (bus, shutdown) = (self.bus.clone(), self.shutdown.clone());
        tokio::spawn(async move {
            let cell = |region: &str| Cell {
                key: CellKey {
                    pathway: "cdn-b".into(),
                    region: region.into(),
                    protocol: "hls".into(),
                    ..CellKey::default()
                },
                views_active: 3,
                windows: 3,
                heartbeats_due: 3,
                heartbeats_received: 3,
                ..Cell::default()
            };
            while !shutdown.is_cancelled() {
                let end_ms = SystemClock::default().now().0;
                let (source, kind) = ("collector-1".into(), "collector".into());
                let cells = vec![cell("eu-a"), cell("eu-b")];
                let frame = Frame { v: 1, source, kind, start_ms: end_ms - 1_000, end_ms, cells, ..Frame::default() };
                bus.publish(FRAME_TOPIC, serde_json::to_vec(&frame).expect("json").into()).await;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    }

    /// Waits for an overview whose notes are as wanted.
    async fn notes(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        for _ in 0..200 {
            let (_, overview) = self.ask(reqwest::Method::GET, "/v1/overview", "", &Value::Null).await;
            let notes = overview["notes"].as_array().cloned().unwrap_or_default();
            if overview["at_ms"].as_u64().is_some_and(|at| at > 0) && wanted(&notes) {
                return notes;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no such overview came");
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("no panic").expect("ended well");
    }
}

async fn audit(dir: &Path) -> Vec<(String, String)> {
    let root = lake_root(dir.join("lake").to_str().expect("utf-8")).expect("root");
    let session = LakeSession::open(&root, vec![]).await.expect("open");
    let mut out = Vec::new();
    for action in ["calm.add", "calm.end", "canary.accept", "canary.roll_back"] {
        for actor in ["operator-token", "spillway"] {
            let sql = format!("SELECT count(*) FROM audit WHERE action = '{action}' AND actor = '{actor}'");
            if session.count(&sql).await.expect("count") > 0 {
                out.push((action.to_owned(), actor.to_owned()));
            }
        }
    }
    out
}

#[tokio::test]
async fn a_freeze_is_ordered_shown_kept_over_a_restart_ended_and_written_down() {
    let dir = tempfile::tempdir().expect("dir");
    let start = || Orchestrator::start(dir.path(), OrchestratorConfig::default(), Parameters::default());
    let one = start().await;
    let freeze = json!({"kind": "freeze", "region": "eu-a", "reason": "final of the cup", "expires_s": 600});
    assert_eq!(one.post("viewer-token", freeze.clone()).await.0, 403);
    assert_eq!(one.post("nobody", freeze.clone()).await.0, 401);
    let (status, refused) = one.post("operator-token", json!({"kind": "freeze", "reason": "x", "until": 5})).await;
    assert_eq!((status, &refused["error"]), (400, &json!("bad_json")), "it always has an end: {refused}");
    let (status, refused) = one.post("operator-token", json!({"kind": "nap", "reason": "x", "expires_s": 5})).await;
    assert_eq!(status, 400);
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("freeze, ad_break, event")), "{refused}");

    let (status, stored) = one.post("operator-token", freeze).await;
    let id = stored["id"].as_str().expect("an id").to_owned();
    assert_eq!((status, &stored["by"]), (201, &json!("operator-token")));
    let (_, listed) = one.ask(reqwest::Method::GET, "/v1/admin/calm", "viewer-token", &Value::Null).await;
    assert_eq!(listed[&id], stored);
    one.stop().await;

    let two = start().await;
    let notes = two.notes(|notes| !notes.is_empty()).await;
    let text = "final of the cup (operator-token)";
    let note = json!({"kind": "freeze", "region": "eu-a", "text": text, "until_ms": stored["expires_ms"]});
    assert_eq!(notes, [note]);
    let path = format!("/v1/admin/calm/{id}");
    assert_eq!(two.ask(reqwest::Method::DELETE, &path, "viewer-token", &Value::Null).await.0, 403);
    assert_eq!(two.ask(reqwest::Method::DELETE, &path, "operator-token", &Value::Null).await.0, 204);
    assert_eq!(two.ask(reqwest::Method::DELETE, &path, "operator-token", &Value::Null).await.0, 404);
    two.notes(<[Value]>::is_empty).await;
    two.stop().await;
    let expected = ["calm.add", "calm.end"].map(|action| (action.to_owned(), "operator-token".to_owned()));
    assert_eq!(audit(dir.path()).await, expected);
}

#[tokio::test]
async fn a_policy_without_harm_is_accepted_once_and_stays_so() {
    let dir = tempfile::tempdir().expect("dir");
    let canary = CanaryConfig {
        policy: "bold".into(),
        region: "eu-b".into(),
        parameters: [("move_max".to_owned(), 0.2)].into(),
    };
    let config = OrchestratorConfig { canary: Some(canary), ..OrchestratorConfig::default() };
    let parameters = Parameters { health_tau_s: 0.2, canary_s: 1.0, canary_windows: 1.0, ..Parameters::default() };
    let says = |words: &'static str| {
        move |notes: &[Value]| notes.iter().any(|note| note["text"].as_str().is_some_and(|text| text.contains(words)))
    };
    let one = Orchestrator::start(dir.path(), config.clone(), parameters.clone()).await;
    one.notes(says("measured without it first")).await;
    one.play();
    one.notes(says("policy bold on trial in eu-b")).await;
    one.notes(says("policy bold accepted everywhere: +0.00 points")).await;
    one.stop().await;
    assert_eq!(audit(dir.path()).await, [("canary.accept".to_owned(), "spillway".to_owned())]);

    let two = Orchestrator::start(dir.path(), config, parameters).await;
    let notes = two.notes(|notes| !notes.is_empty()).await;
    assert!(says("accepted everywhere")(&notes), "from the first round on: {notes:?}");
    two.stop().await;
}

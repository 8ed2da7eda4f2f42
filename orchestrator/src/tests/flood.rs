//! A flood of requests without a token, from a real steering node's handlers to the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_bus::{Bus as _, DirStore, LocalBus};
use spillway_model::Verdict;
use spillway_orchestrator_core::{Engine, FindingNote, Parameters, RoundOutput};
use spillway_service::classes::ClassTable;
use spillway_service::config::Secret;
use spillway_service::{CancellationToken, Readiness};
use spillway_steering::SteerConfig;
use spillway_wire::frame::{FRAME_TOPIC, Frame};
use spillway_wire::probe::PROBE_TOPIC;
use tokio::net::TcpListener;

use crate::classes::ClassViews;
use crate::fixtures::{NOW, StoppedClock, deployment, region};
use crate::observe::{Ears, Loads};
use crate::{OrchestratorConfig, setup};

/// A request without a token.
const STRANGER: &str = "/v1/steer/dash";
/// One that shows a stolen one.
const THIEF: &str = "/v1/steer/hls?t=stolen";

/// A view starts: the node rewrites a packager's playlist for it.
async fn start(client: &reqwest::Client, url: &str) {
    let playlist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n";
    let request = client.post(format!("{url}/v1/playlists/hls?content=vod/lake/master.m3u8")).body(playlist);
    let answer = request.header("x-test-client", "127.11.1.9").send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.expect("text").contains("/v1/steer/hls?t="));
}

async fn poll(client: &reqwest::Client, url: &str) {
    let request = client.get(url).header("x-test-client", "127.11.1.9");
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

/// Lets `views` start at a real node and `strangers` poll it, and decides one round on its frames.
async fn decided(views: usize, (stranger, strangers): (&str, u64)) -> RoundOutput {
    let dir = tempfile::tempdir().expect("dir");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    let (node_bus, shutdown) = (LocalBus::new(), CancellationToken::new());
    let mut frames = node_bus.subscribe(FRAME_TOPIC);
    let config = SteerConfig {
        origins: BTreeMap::from([("default".into(), "http://127.0.0.1:9".into())]),
        trusted_header: Some("x-test-client".into()),
        ..SteerConfig::of("http://steer.example", Secret("a-secret-of-32-characters-at-least".into()))
    };
    tokio::spawn(spillway_steering::run(spillway_steering::Parts {
        config,
        deployed: deployment().into(),
        tokens: vec![],
        service_token: "a-secret-of-roles".into(),
        store: Arc::new(DirStore::open(dir.path()).expect("store")),
        bus: node_bus,
        clock: StoppedClock::new(),
        listener,
        public: None,
        readiness: Readiness::default(),
        metrics: None,
        shutdown: shutdown.clone(),
        posted: CancellationToken::new(),
    }));
    let (bus, deployment) = (LocalBus::new(), deployment());
    let classes = ClassViews::new(ClassTable::default(), &deployment);
    let mut ears = Ears::new(bus.subscribe(FRAME_TOPIC), bus.subscribe(PROBE_TOPIC), 1, classes);
    let client = reqwest::Client::new();
    for _ in 0..views {
        start(&client, &url).await;
    }
    for _ in 0..strangers {
        poll(&client, &format!("{url}{stranger}")).await;
    }
    let mut seen = 0;
    while seen < strangers {
        let message = frames.next().await.expect("a frame");
        let frame: Frame = serde_json::from_slice(&message).expect("json");
        seen += frame.cells.iter().map(|cell| cell.sessions_untrusted).sum::<u64>();
        bus.publish(FRAME_TOPIC, message).await;
    }
    assert_eq!(seen, strangers);
    shutdown.cancel();
    let config = OrchestratorConfig::default();
    let mut engine = Engine::new(setup(&deployment, Parameters::default(), &config).expect("valid"));
    engine.round(NOW, &ears.hear(NOW, &deployment, &Loads::default()))
}

fn abuse(output: &RoundOutput) -> Option<&FindingNote> {
    output.regions[&region()].findings.iter().find(|note| note.verdict == Verdict::Abuse)
}

#[tokio::test]
async fn a_flood_without_tokens_is_called_abuse_and_is_no_demand() {
    let output = decided(0, (THIEF, 120)).await;
    let note = abuse(&output).expect("a verdict");
    assert_eq!(note.text, "120 requests without a valid token in 10 s, 0 with");
    assert_eq!(output.regions[&region()].demand.0, 0, "nobody is charged for them");
}

#[tokio::test]
async fn some_strangers_among_an_audience_are_no_abuse() {
    let output = decided(130, (STRANGER, 110)).await;
    assert!(abuse(&output).is_none(), "{:?}", output.regions[&region()].verdicts);
}

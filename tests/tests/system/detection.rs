//! Detection comes from beacons and probes, and from nothing else.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_system_tests::{Ports, Role, WRITE_KEY, config};

pub(crate) const NO_PROBES: &str = "[orchestrator.probe]\nenabled = false\n";
const VIEWS: u64 = 60;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) all: Role,
    ports: Ports,
    client: reqwest::Client,
}

impl World {
    pub(crate) fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let ports = Ports::free();
        let file = dir.path().join("spillway.toml");
        let text = config(dir.path(), ports, extra).replace("bus_peers", "# bus_peers");
        std::fs::write(&file, text).expect("written");
        let all = Role::start(&["all", "--config", file.to_str().expect("utf-8")]);
        Self { dir, all, ports, client: reqwest::Client::new() }
    }

    /// One event per view; odd views are on cdn-b.
    pub(crate) async fn post(&self, seq: u64, event: impl Fn(&str) -> Value) {
        let url = format!("http://127.0.0.1:{}/v1/beacons?k={WRITE_KEY}", self.ports.collector);
        let mut sent = Vec::new();
        for view in 0..VIEWS {
            let pathway = if view % 2 == 0 { "cdn-a" } else { "cdn-b" };
            let mut event = event(pathway);
            event["seq"] = seq.into();
            event["created_ms"] = 1.into();
            event["mono_ms"] = (seq * 1000).into();
            event["pathway"] = pathway.into();
            let body = json!({
                "v": 1, "sdk": "test/1", "sent_ms": 1, "ctx": {"view_id": format!("v{view}"), "content_id": "live/x"},
                "events": [event],
            });
            sent.push(self.client.post(&url).header("content-type", "text/plain").body(body.to_string()).send());
        }
        for answer in sent {
            assert_eq!(answer.await.expect("an answer").status(), 202);
        }
    }

    async fn state(&self, pathway: &str) -> String {
        let url = format!("http://127.0.0.1:{}/v1/overview", self.ports.orchestrator);
        let overview: Value = self.client.get(url).send().await.expect("an answer").json().await.expect("JSON");
        overview["regions"]["eu"]["pathways"][pathway]["state"].as_str().unwrap_or("none").to_owned()
    }

    /// The first state but HEALTHY that `pathway` has within `seconds`.
    pub(crate) async fn reaction(&self, pathway: &str, seconds: u64) -> Option<String> {
        for _ in 0..seconds * 4 {
            let state = self.state(pathway).await;
            if state != "HEALTHY" && state != "none" {
                return Some(state);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        None
    }

    pub(crate) async fn views_play(&self) {
        self.post(0, |_| json!({"type": "view_start"})).await;
        self.post(1, |pathway| {
            let ok = json!({"requests_ok": 5, "bytes": 500_000});
            json!({"type": "heartbeat", "state": "playing", "counters": {"watched_ms": 5000, "stall_ms": 0}, "pathways": {pathway: ok}})
        })
        .await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(self.state("cdn-a").await, "HEALTHY");
    }
}

/// Nothing listens where the two CDNs should be: they are as dead as can be in all three tests.
#[tokio::test]
async fn with_beacons_and_probes_blocked_a_dead_pathway_is_not_noticed() {
    let world = World::start(NO_PROBES);
    world.views_play().await;
    assert_eq!(world.reaction("cdn-a", 12).await, None, "something else than beacons and probes decided");
}

#[tokio::test]
async fn failed_requests_in_beacons_lead_to_down_within_five_seconds() {
    let world = World::start(NO_PROBES);
    world.views_play().await;
    let begun = tokio::time::Instant::now();
    world
        .post(2, |pathway| {
            let status = if pathway == "cdn-a" { 503 } else { 200 };
            json!({"type": "segment", "request": {"pathway": pathway, "status": status, "ttlb_ms": 20, "late": false}})
        })
        .await;
    let reaction = world.reaction("cdn-a", 10).await;
    assert_eq!(reaction.as_deref(), Some("DOWN"));
    assert!(begun.elapsed() < Duration::from_secs(6), "took {:?}", begun.elapsed());
    assert_eq!(world.state("cdn-b").await, "HEALTHY");
}

#[tokio::test]
async fn failures_on_every_pathway_are_not_put_down_to_one() {
    let world = World::start(NO_PROBES);
    world.views_play().await;
    world
        .post(2, |pathway| json!({"type": "segment", "request": {"pathway": pathway, "status": 503, "ttlb_ms": 20}}))
        .await;
    assert_eq!(world.reaction("cdn-a", 6).await, None, "an origin fault must not move anyone");
    assert_eq!(world.state("cdn-b").await, "HEALTHY");
}

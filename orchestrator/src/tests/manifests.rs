//! The manifest's life over HTTP: waiting for it, history, difference, rollback, files elsewhere.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use spillway_orchestrator_core::Parameters;
use spillway_wire::envelope::{open, read_keys};
use spillway_wire::manifest;

use super::Orchestrator;
use crate::OrchestratorConfig;
use crate::round::weights_by_pathway;

impl Orchestrator {
    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, "", &Value::Null).await
    }

    async fn manifest(&self, path: &str, seen: Option<&str>) -> (u16, String, Vec<u8>) {
        let mut request = self.client.get(format!("{}/v1/manifests/{path}", self.url));
        if let Some(seen) = seen {
            request = request.header("if-none-match", seen);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let tag = answer.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned()).unwrap_or_default();
        (status, tag, answer.bytes().await.expect("bytes").into())
    }

    /// Share of new views by pathway in the manifest in force.
    async fn weights(&self) -> (u64, Vec<(String, u32)>) {
        let keys = self.client.get(format!("{}/v1/keys", self.url)).send().await.expect("an answer");
        let keys = read_keys(&keys.bytes().await.expect("bytes"));
        let (_, _, envelope) = self.manifest("eu-b?wait_s=20", None).await;
        let manifest = manifest::parse(&open(&envelope, &keys).expect("signed")).expect("valid");
        let weights = weights_by_pathway(&manifest).into_iter();
        (manifest.epoch, weights.map(|(id, ppm)| (id.to_string(), ppm)).filter(|(_, ppm)| *ppm > 0).collect())
    }

    /// Waits until the weights of eu-b are these.
    async fn until(&self, wanted: &[(&str, u32)]) -> u64 {
        let wanted: Vec<(String, u32)> = wanted.iter().map(|(id, ppm)| ((*id).to_owned(), *ppm)).collect();
        for _ in 0..200 {
            let (epoch, weights) = self.weights().await;
            if weights == wanted {
                return epoch;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?} instead of {wanted:?}", self.weights().await);
    }
}

#[tokio::test]
async fn who_waits_for_a_manifest_gets_the_next_one_at_once_or_304_at_the_end() {
    let dir = tempfile::tempdir().expect("dir");
    let one = Orchestrator::start(dir.path(), OrchestratorConfig::default(), Parameters::default()).await;
    let (status, tag, _) = one.manifest("eu-b?wait_s=20", None).await;
    assert_eq!(status, 200, "also the first one is waited for");
    assert_eq!(one.manifest("eu-b", Some(&tag)).await.0, 304);
    let asked = tokio::time::Instant::now();
    assert_eq!(one.manifest("eu-b?wait_s=1", Some(&tag)).await.0, 304);
    assert!(asked.elapsed() >= Duration::from_secs(1));
    let waits = one.manifest("eu-b?wait_s=20", Some(&tag));
    let order = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let exclude = json!({"kind": "exclude", "target": "cdn-b", "reason": "test", "expires_s": 60});
        assert_eq!(one.ask(Method::POST, "/v1/admin/overrides", "operator-token", &exclude).await.0, 201);
    };
    let ((status, next, _), ()) = tokio::join!(waits, order);
    assert_eq!(status, 200);
    assert_ne!(next, tag);
    assert_eq!(one.manifest("mars", None).await.0, 404);
    assert_eq!(one.manifest("eu-b?wait_s=soon", None).await.0, 400);
    // A question that waits must not hold up the end.
    let (url, client) = (format!("{}/v1/manifests/eu-b?wait_s=30", one.url), one.client.clone());
    let waits = tokio::spawn(async move { client.get(url).header("if-none-match", next).send().await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = tokio::time::Instant::now();
    one.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(5));
    assert_eq!(waits.await.expect("task").expect("an answer").status(), 304);
}

#[tokio::test]
async fn a_rollback_holds_against_rounds_and_restarts_until_it_ends_and_is_written_down() {
    let dir = tempfile::tempdir().expect("dir");
    let start = || Orchestrator::start(dir.path(), OrchestratorConfig::default(), Parameters::default());
    let one = start().await;
    let (first, before) = one.weights().await;
    assert!(before.len() > 1, "{before:?}");
    let exclude =
        json!({"kind": "weight", "target": "cdn-b", "region": "eu-b", "value": 1.0, "reason": "x", "expires_s": 600});
    let (status, order) = one.ask(Method::POST, "/v1/admin/overrides", "operator-token", &exclude).await;
    assert_eq!(status, 201, "{order}");
    let second = one.until(&[("cdn-b", 1_000_000)]).await;

    let rollback = |epoch: u64| json!({"epoch": epoch, "reason": "that was wrong", "expires_s": 600});
    let path = "/v1/admin/manifests/eu-b/rollback";
    assert_eq!(one.ask(Method::POST, path, "viewer-token", &rollback(first)).await.0, 403);
    assert_eq!(one.ask(Method::POST, path, "operator-token", &rollback(9_999)).await.0, 404);
    assert_eq!(one.ask(Method::POST, path, "operator-token", &json!({"epoch": first, "reason": "x"})).await.0, 400);
    let (status, stored) = one.ask(Method::POST, path, "operator-token", &rollback(first)).await;
    assert_eq!((status, &stored["epoch"]), (201, &first.into()), "{stored}");
    let wanted: Vec<(&str, u32)> = before.iter().map(|(id, ppm)| (id.as_str(), *ppm)).collect();
    let third = one.until(&wanted).await;
    assert!(third > second, "a new epoch with old weights");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(one.weights().await.1, before, "five rounds later");
    let (_, overview) = one.get("/v1/overview").await;
    let text = format!("weights of epoch {first}: that was wrong (operator-token)");
    assert!(
        overview["notes"].as_array().is_some_and(|notes| notes.iter().any(|note| note["text"] == text.as_str())),
        "{overview}"
    );
    one.stop().await;

    let two = start().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(two.weights().await.1, before, "after a restart");
    let id = stored["id"].as_str().expect("an id");
    let end = format!("/v1/admin/rollbacks/{id}?reason=understood");
    assert_eq!(two.ask(Method::DELETE, &end, "operator-token", &Value::Null).await.0, 204);
    two.until(&[("cdn-b", 1_000_000)]).await;

    let (_, history) = two.get("/v1/manifests/eu-b/history").await;
    let epochs: Vec<u64> = history.as_array().expect("list").iter().filter_map(|it| it["epoch"].as_u64()).collect();
    assert!(epochs.len() >= 4 && epochs.is_sorted_by(|a, b| a > b), "{epochs:?}");
    let (status, found) = two.get(&format!("/v1/manifests/eu-b/diff?from={first}&to={second}")).await;
    assert_eq!((status, &found["from"], &found["to"]), (200, &first.into(), &second.into()));
    let lines = found["text"].as_array().expect("lines");
    assert!(
        lines.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with("weight all: cdn-b:"))),
        "{found}"
    );
    assert_eq!(two.get("/v1/manifests/eu-b/diff?from=777").await.0, 404);
    assert_eq!(two.get("/v1/manifests/eu-b/diff?shadow=1").await.0, 404, "no shadow plan here");
    two.stop().await;

    let root = spillway_lake::lake_root(dir.path().join("lake").to_str().expect("utf-8")).expect("root");
    let session = spillway_lake::LakeSession::open(&root, vec![]).await.expect("open");
    for (action, reason) in [("rollback.add", "that was wrong"), ("rollback.end", "understood")] {
        let sql = format!(
            "SELECT count(*) FROM audit WHERE action = '{action}' AND reason = '{reason}' AND actor = 'operator-token'"
        );
        assert_eq!(session.count(&sql).await.expect("count"), 1, "{action}");
    }
}

#[tokio::test]
async fn manifests_and_keys_are_published_to_a_folder_that_a_node_can_read_and_players_are_told() {
    let dir = tempfile::tempdir().expect("dir");
    let folder = dir.path().join("published");
    let config = OrchestratorConfig { publish_dir: Some(folder.clone()), ..OrchestratorConfig::default() };
    let one = Orchestrator::start(dir.path(), config, Parameters::default()).await;
    let (epoch, _) = one.weights().await;
    let (status, registry) = one.get("/v1/players").await;
    assert_eq!((status, &registry["v"], &registry["players"]), (200, &1.into(), &serde_json::json!([])));
    for _ in 0..200 {
        if folder.join("eu-b.json").exists() && folder.join("eu-a.json").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let keys = read_keys(&std::fs::read(folder.join("keys.json")).expect("keys"));
    for region in ["eu-a", "eu-b"] {
        let envelope = std::fs::read(folder.join(format!("{region}.json"))).expect("an envelope");
        let manifest = manifest::parse(&open(&envelope, &keys).expect("signed")).expect("valid");
        assert_eq!(manifest.region.as_str(), region);
        assert!(region != "eu-b" || manifest.epoch >= epoch);
    }
    one.stop().await;
}

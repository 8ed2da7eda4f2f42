//! What own edges are answered.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use spillway_orchestrator_core::Parameters;
use spillway_wire::load::{LOAD_VERSION, LoadReport, TitleLoad};

use super::Orchestrator;
use crate::OrchestratorConfig;

const SERVICE: &str = "a-secret-of-roles";

/// A report of an edge that has run for long and carries some of what it can.
fn report(pathway: &str, seq: u64, titles: &[&str]) -> LoadReport {
    let titles = titles.iter().map(|title| TitleLoad { playlist: (*title).to_owned(), requests: 3 });
    LoadReport {
        v: LOAD_VERSION,
        pathway: pathway.into(),
        region: "eu-a".into(),
        base_url: format!("http://{pathway}.example"),
        seq,
        interval_ms: 2_000,
        ceiling_bps: 100_000_000,
        bits_out_10s_bps: 10_000_000,
        top_titles: titles.collect(),
        ..LoadReport::default()
    }
}

/// What the edge is answered, once that is as wanted.
async fn answered(at: &Orchestrator, reports: &[LoadReport], wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..100 {
        for report in reports {
            let (status, answer) = at.ask(Method::POST, "/v1/loads", SERVICE, &json!(report)).await;
            assert_eq!(status, 200, "{answer}");
            last = answer;
        }
        if wanted(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never as wanted, at last {last}");
}

#[tokio::test]
async fn edges_are_told_what_to_prewarm_and_where_to_send_whom_they_do_not_take() {
    let dir = tempfile::tempdir().expect("dir");
    let config = OrchestratorConfig { redirect_new_sessions: true, ..OrchestratorConfig::default() };
    let at = Orchestrator::start(dir.path(), config, Parameters::default()).await;
    at.play();
    let (old, new) = (report("own-x-1", 900, &["/film/master.m3u8"]), report("own-x-2", 0, &[]));
    // The newest edge's answer comes last.
    let told = answered(&at, &[old.clone(), new.clone()], |told| told["prewarm"] != Value::Null).await;
    assert_eq!((&told["prewarm"], &told["admit"]), (&json!(["/film/master.m3u8"]), &json!(true)));

    let order = json!({"titles": ["/premiere.mpd"], "target": "own-x-1", "reason": "premiere", "expires_s": 60});
    let path = "/v1/admin/prewarm";
    assert_eq!(at.ask(Method::POST, path, "viewer-token", &order).await.0, 403);
    let (status, stored) = at.ask(Method::POST, path, "operator-token", &order).await;
    assert_eq!(status, 201, "{stored}");
    let told = answered(&at, &[new.clone(), old.clone()], |told| told["prewarm"] != Value::Null).await;
    assert_eq!(told["prewarm"], json!(["/premiere.mpd"]));
    let notes = at.notes(|notes| notes.iter().any(|note| note["kind"] == "prewarm")).await;
    assert!(notes.iter().any(|note| note["text"] == "own-x-1: /premiere.mpd: premiere (operator-token)"), "{notes:?}");
    assert_eq!(at.ask(Method::GET, path, "viewer-token", &Value::Null).await.1[stored["id"].as_str().unwrap()], stored);

    // Full, and its neighbour has room.
    let full = LoadReport { bits_out_10s_bps: 99_000_000, ..old.clone() };
    let both = [new, full];
    let told = answered(&at, &both, |told| told["admit"] == json!(false) && told["redirect_to"] != Value::Null).await;
    assert_eq!(told["redirect_to"], "http://own-x-2.example/p/");

    let end = format!("{path}/{}?reason=over", stored["id"].as_str().unwrap());
    assert_eq!(at.ask(Method::DELETE, &end, "operator-token", &Value::Null).await.0, 204);
    answered(&at, &[old], |told| told["prewarm"] == Value::Null).await;

    for (bad, words) in [
        (json!({"titles": ["film"], "reason": "r", "expires_s": 1}), "\"film\" is not valid"),
        (json!({"target": "cdn-a", "top": 3, "reason": "r", "expires_s": 1}), "own-x-1"),
        (json!({"tops": 3, "reason": "r", "expires_s": 1}), "unknown field `tops`"),
    ] {
        let (status, refused) = at.ask(Method::POST, path, "operator-token", &bad).await;
        assert_eq!(status, 400);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(words)), "{refused}");
    }
    at.stop().await;
}

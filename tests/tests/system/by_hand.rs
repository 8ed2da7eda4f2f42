//! The night when nothing decides: a manifest made by hand, and a steering node that follows it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use spillway_system_tests::{Ports, Role, config, run};

const NO_PROBES: &str = "[orchestrator.probe]\nenabled = false\n";

async fn region(port: u16) -> Value {
    let url = format!("http://127.0.0.1:{port}/internal/steer");
    let status: Value = reqwest::get(url).await.expect("an answer").json().await.expect("JSON");
    status["regions"]["eu"].clone()
}

/// Waits until the node steers by what `holds`.
async fn until(port: u16, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..150 {
        let region = region(port).await;
        if holds(&region) {
            return region;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("never steered so: {}", region(port).await);
}

/// First pathways of 40 sessions.
async fn firsts(port: u16) -> Vec<String> {
    let mut out = Vec::new();
    for number in 0..40 {
        let url = format!("http://127.0.0.1:{port}/v1/decide?content=live/x&sid=s{number}");
        let answer: Value = reqwest::get(url).await.expect("an answer").json().await.expect("JSON");
        out.push(answer["pathways"][0]["id"].as_str().expect("a pathway").to_owned());
    }
    out.sort();
    out.dedup();
    out
}

fn text(path: &Path) -> &str {
    path.to_str().expect("utf-8")
}

#[tokio::test]
async fn with_orchestrator_and_store_gone_an_evacuation_by_hand_is_followed_and_taken_over_later() {
    let dir = tempfile::tempdir().expect("dir");
    let (ports, published) = (Ports::free(), dir.path().join("published"));
    let file = dir.path().join("spillway.toml");
    let from = format!(
        "manifests_from = [\"http://127.0.0.1:{}\", \"{}\"]\ntoken_key =",
        ports.orchestrator,
        text(&published)
    );
    let whole = config(dir.path(), ports, NO_PROBES).replace("token_key =", &from);
    let also = format!("[orchestrator]\npublish_dir = \"{}\"\n", text(&published));
    std::fs::write(&file, whole.replace("[orchestrator]\n", &also)).expect("written");
    let config = text(&file);
    let steer = Role::start(&["steer", "--config", config]);
    let orchestrator = Role::start(&["orchestrator", "--config", config]);
    let far = format!("http://127.0.0.1:{}", ports.orchestrator);
    let before = until(ports.steer, |region| region["from"] == far.as_str()).await;
    assert_eq!(firsts(ports.steer).await, ["cdn-a", "cdn-b"]);
    let copies = dir.path().join("manifests");
    for _ in 0..50 {
        if copies.join("eu.json").exists() && copies.join("keys.json").exists() && published.join("eu.json").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    orchestrator.kill();
    steer.kill();
    std::fs::remove_dir_all(dir.path().join("store")).expect("the store is gone");

    let _steer = Role::start(&["steer", "--config", config]);
    let restarted = until(ports.steer, |region| region["plan"] == "manifest").await;
    assert_eq!(restarted["epoch"], before["epoch"], "by its own copy, or by the files: {restarted}");

    let key = dir.path().join("manifest.key");
    let make = |evacuate: &str, from: &Path, more: &[&str]| {
        let base =
            ["manifest", "make", "--evacuate", evacuate, "--region", "eu", "--config", config, "--sign", text(&key)];
        let rest = ["--from", text(from), "--out", text(&published), "--reason", "fire"];
        run(&[&base[..], &rest[..], more].concat())
    };
    let (status, _, said) = make("cdn-x", &copies, &[]);
    assert!(status == 1 && said.contains("cdn-x") && said.contains("cdn-a, cdn-b"), "{status} {said}");
    let (status, _, said) = make("cdn-a", &copies, &["--epoch", "0"]);
    assert!(status == 2 && said.contains("--epoch 0"), "{status} {said}");
    let (status, out, said) = make("cdn-a", &copies, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(out.contains("→ 0.0 %") && out.contains("cdn-b:") && out.contains("100.0 %"), "{out}");
    let epoch = before["epoch"].as_u64().expect("a number") + 1;
    until(ports.steer, |region| region["epoch"] == epoch && region["from"] == text(&published)).await;
    assert_eq!(firsts(ports.steer).await, ["cdn-b"]);

    let made = published.join("eu.json");
    let (status, out, said) = run(&["manifest", "verify", text(&made)]);
    assert!(status == 0 && out.contains("good: eu epoch"), "{out} {said}");
    let (_, out, _) = run(&["manifest", "diff", text(&copies.join("eu.json")), text(&made)]);
    // The node's copy may be the new one by now.
    assert!(out.is_empty() || out.contains("state cdn-a: ") && out.contains("evacuation of cdn-a: fire"), "{out}");
    let (status, _, said) = make("cdn-b", &published, &[]);
    assert!(status == 1 && said.contains("nothing that serves anybody in eu would be left"), "{status} {said}");

    let _orchestrator = Role::start(&["orchestrator", "--config", config]);
    let after = until(ports.steer, |region| region["epoch"].as_u64() > Some(epoch)).await;
    assert_eq!(after["refused"], serde_json::json!({}), "an epoch never goes back, though the store was lost");
}

#[tokio::test]
async fn static_weights_by_hand_go_into_the_store_as_the_next_epoch() {
    let dir = tempfile::tempdir().expect("dir");
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), ports, NO_PROBES)).expect("written");
    let (config, key) = (text(&file), dir.path().join("by-hand.key"));
    let _steer = Role::start(&["steer", "--config", config]);
    assert_eq!(run(&["keygen", text(&key)]).0, 0);
    for epoch in 1..=2 {
        let make = ["manifest", "make", "--static", "--all", "--config", config, "--sign", text(&key), "--publish"];
        let (status, out, said) = run(&make);
        assert!(status == 0 && out.contains(&format!("eu: epoch {epoch}, made from")), "{out} {said}");
        until(ports.steer, |region| region["epoch"] == epoch && region["from"] == "store").await;
    }
    assert_eq!(firsts(ports.steer).await, ["cdn-a", "cdn-b"]);
    let (status, _, said) =
        run(&["manifest", "make", "--static", "--config", config, "--sign", text(&key), "--publish"]);
    assert!(status == 2 && said.contains("--region") && said.contains("--all"), "{status} {said}");
}

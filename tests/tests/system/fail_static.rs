//! The orchestrator is killed for 20 s: steering goes on from the last manifest, and a restart moves nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use spillway_system_tests::{Ports, Role, config};

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
async fn steering_goes_on_without_the_orchestrator_and_its_restart_moves_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    // Probes off: the pathways of this test do not exist, and that is not what it is about.
    std::fs::write(&file, config(dir.path(), ports, "[orchestrator.probe]\nenabled = false\n")).expect("written");
    let file = file.to_str().expect("utf-8").to_owned();
    let _steer = Role::start(&["steer", "--config", &file]);
    let (epoch, _) = orders(ports.steer).await;
    assert_eq!(epoch, 0, "without any manifest the order is static, and there is one");

    let orchestrator = Role::start(&["orchestrator", "--config", &file]);
    let before = until_steered(ports.steer).await;
    orchestrator.kill();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(orders(ports.steer).await, before, "the last manifest stays in force");
    }

    let _restarted = Role::start(&["orchestrator", "--config", &file]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = orders(ports.steer).await;
    assert_eq!(after.1, before.1, "a restart moves nobody");
    assert!(after.0 >= before.0, "an epoch never goes back");
}

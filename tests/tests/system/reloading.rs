//! A configuration is read again while the real binary runs: by the tool, and at SIGHUP.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use spillway_system_tests::{ADMIN_TOKEN, Ports, Role, config, free_ports, run};

/// Probes off: the pathways of this test do not exist, and that is not what it is about.
const NO_PROBES: &str = "[orchestrator.probe]\nenabled = false\n";

async fn decided(port: u16) -> Vec<String> {
    let url = format!("http://127.0.0.1:{port}/v1/decide?content=live/x&sid=one");
    let answer: Value = reqwest::get(url).await.expect("an answer").json().await.expect("JSON");
    let pathways = answer["pathways"].as_array().expect("a list").iter();
    let mut ids: Vec<String> = pathways.filter_map(|it| Some(it["id"].as_str()?.to_owned())).collect();
    ids.sort();
    ids
}

async fn until_decided(port: u16, wanted: &[&str]) {
    for _ in 0..100 {
        if decided(port).await == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?} instead of {wanted:?} after 10 s", decided(port).await);
}

async fn until_counted(port: u16, outcome: &str) {
    let wanted = format!("spillway_reloads_total{{outcome=\"{outcome}\"}} 1");
    for _ in 0..100 {
        let metrics = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await.expect("an answer");
        if metrics.text().await.expect("text").contains(&wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no {wanted} after 10 s");
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).expect("written");
}

fn pathway(id: &str) -> String {
    let [port] = free_ports();
    format!("[[pathway]]\nid = \"{id}\"\nbase_url = \"http://127.0.0.1:{port}\"\ncapacity_mbps = 1000\n")
}

#[tokio::test]
async fn pathways_and_regions_come_and_go_while_everything_runs() {
    let dir = tempfile::tempdir().expect("dir");
    let (ports, file) = (Ports::free(), dir.path().join("spillway.toml"));
    let good = config(dir.path(), ports, NO_PROBES);
    write(&file, &good);
    let name = file.to_str().expect("utf-8").to_owned();
    let all = Role::start(&["all", "--config", &name]);
    until_decided(ports.steer, &["cdn-a", "cdn-b"]).await;

    // A region for everybody here, with a pathway of its own; and something that needs a restart.
    let us = "[[region]]\nid = \"us\"\ncontrol_share = 1.0\nstatic_weights = { cdn-c = 1 }\n\
              [[prefix]]\nprefix = \"127.0.0.0/8\"\nregion = \"us\"\n";
    let more = format!("{us}{}regions = [\"us\"]\n[orchestrator]\nround_ms = 1000", pathway("cdn-c"));
    let more = good.replacen("[orchestrator]", &more, 1).replace("price_usd_per_gb = 0.02", "price_usd_per_gb = 0.03");
    write(&file, &more);
    let url = format!("http://127.0.0.1:{}", ports.orchestrator);
    let arguments = ["reload", "--orchestrator", &url, "--token", ADMIN_TOKEN];
    let (status, said, errors) = run(&[&arguments[..], &["--dry-run"]].concat());
    assert_eq!(status, 0, "{errors}");
    for words in [
        "nothing is changed",
        "pathway[cdn-b].price_usd_per_gb: 0.02 → 0.03",
        "pathway[cdn-c]: new",
        "orchestrator.round_ms: needs a restart",
        "cdn-c is new in us",
        "us: new",
    ] {
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
    assert_eq!(decided(ports.steer).await, ["cdn-a", "cdn-b"]);
    let (status, said, errors) = run(&[&arguments[..], &["--json"]].concat());
    assert_eq!(status, 0, "{errors}");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["outcome"], "applied", "{told}");
    until_decided(ports.steer, &["cdn-a", "cdn-b", "cdn-c"]).await;

    // A file that is not valid changes nothing, whoever asks.
    write(&file, &more.replace("static_weights = { cdn-c = 1 }", "static_weights = { cdn-x = 1 }"));
    let (status, _, errors) = run(&arguments);
    assert!(status == 1 && errors.contains("region[us].static_weights") && errors.contains("cdn-x"), "{errors}");
    until_counted(ports.orchestrator, "bad_configuration").await;

    // Back, by signal.
    write(&file, &good);
    all.hang_up();
    until_decided(ports.steer, &["cdn-a", "cdn-b"]).await;
    let (status, said, errors) = run(&arguments);
    assert!(status == 0 && said.contains("nothing that can change differs"), "{said} {errors}");
}

#[tokio::test]
async fn a_steering_node_alone_takes_its_file_again_at_a_hangup() {
    let dir = tempfile::tempdir().expect("dir");
    let (ports, file) = (Ports::free(), dir.path().join("spillway.toml"));
    let good = config(dir.path(), ports, NO_PROBES);
    write(&file, &good);
    let steer = Role::start(&["steer", "--config", file.to_str().expect("utf-8")]);
    until_decided(ports.steer, &["cdn-a", "cdn-b"]).await;
    write(&file, "broken = ");
    steer.hang_up();
    until_counted(ports.steer, "bad_configuration").await;
    assert_eq!(decided(ports.steer).await, ["cdn-a", "cdn-b"]);
    write(&file, &good.replacen("[collector]", &format!("{}[collector]", pathway("cdn-c")), 1));
    steer.hang_up();
    until_decided(ports.steer, &["cdn-a", "cdn-b", "cdn-c"]).await;
    until_counted(ports.steer, "applied").await;
}

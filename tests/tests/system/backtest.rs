//! What was recorded is decided again: the same under the same configuration, later under a slower one.

use std::cell::Cell;
use std::time::Duration;

use serde_json::{Value, json};
use spillway_system_tests::run;

use crate::detection::{NO_PROBES, World};

/// `backtest` of everything in the world's lake; status, standard output, standard error.
fn backtest(world: &World, config: &str, more: &[&str]) -> (i32, String, String) {
    let lake = world.dir.path().join("lake");
    let lake = lake.to_str().expect("utf-8");
    let mut arguments = vec!["backtest", "--lake", lake, "--config", config];
    arguments.extend(more);
    run(&arguments)
}

const ALWAYS: [&str; 4] = ["--from", "2020-01-01", "--to", "2100-01-01T00:00:00Z"];

/// Views of cdn-a whose request fails: every `nth`.
fn failing(nth: u64) -> impl Fn(&str) -> Value {
    let count = Cell::new(0_u64);
    move |pathway| {
        let ill = pathway == "cdn-a" && count.replace(count.get() + 1).is_multiple_of(nth);
        let status = if ill { 503 } else { 200 };
        json!({"type": "segment", "request": {"pathway": pathway, "status": status, "ttlb_ms": 20, "late": false}})
    }
}

#[tokio::test]
async fn recorded_rounds_are_decided_again_alike_and_by_a_slower_policy_later() {
    let mut world = World::start(NO_PROBES);
    world.views_play().await;
    // Half of cdn-a's views fail, then all.
    world.post(2, failing(2)).await;
    assert_eq!(world.reaction("cdn-a", 10).await.as_deref(), Some("DOWN"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.post(3, failing(1)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.all.terminate(Duration::from_secs(10)).expect("ends in time").success());

    let same = world.dir.path().join("spillway.toml");
    let same = same.to_str().expect("utf-8");
    let (status, out, said) = backtest(&world, same, &[&ALWAYS[..], &["--json"]].concat());
    assert_eq!(status, 0, "{said}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let fidelity = &report["fidelity"];
    assert_eq!((&fidelity["share"], &fidelity["first_difference"]), (&1.0.into(), &Value::Null), "{report}");
    assert_eq!(fidelity["epochs_recorded"], fidelity["epochs_replayed"], "{report}");
    assert!(report["rounds"].as_u64().expect("a number") >= 5, "{report}");
    assert_eq!((&report["changed"], &report["rounds_missing"]), (&json!([]), &0.into()), "{report}");
    let cdn_a = &report["regions"]["eu"]["pathways"]["cdn-a"];
    assert!(cdn_a["base"]["first_down_ms"].is_u64(), "{report}");
    assert_eq!((&cdn_a["down_later_s"], &report["total"]["base"]), (&0.0.into(), &report["total"]["new"]), "{report}");

    let slower = world.dir.path().join("slower.toml");
    let text = std::fs::read_to_string(same).expect("read");
    let slow_lane = "\n[policy]\nfast_share = 0.6\nfast_small_share = 0.6\n";
    std::fs::write(&slower, text + slow_lane).expect("written");
    let slower = slower.to_str().expect("utf-8");
    let page = world.dir.path().join("report.html");
    let page = page.to_str().expect("utf-8");
    let (status, out, said) = backtest(&world, slower, &[&ALWAYS[..], &["--json", "--html", page]].concat());
    assert_eq!(status, 0, "{said}");
    let report: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(report["fidelity"]["share"], 1.0, "{report}");
    let later = report["regions"]["eu"]["pathways"]["cdn-a"]["down_later_s"].as_f64();
    assert!(later.is_some_and(|seconds| seconds >= 2.0), "{report}");
    assert_eq!(report["changed"].as_array().map(Vec::len), Some(2), "{report}");
    let html = std::fs::read_to_string(page).expect("a page");
    assert!(html.contains("later under the new policy") && html.contains("<polyline"), "{html}");
    let (status, out, _) = backtest(&world, slower, &ALWAYS);
    assert_eq!(status, 0);
    for words in ["fidelity: after 100.00 %", "fast_share: 0.25 share → 0.6 share", "Load is not simulated"] {
        assert!(out.contains(words), "{words:?} is missing in {out}");
    }

    for (arguments, code, words) in [
        (&["--from", "2026-01-02", "--to", "2026-01-01"][..], 2, "is not before --to"),
        (&["--from", "2020-01-01", "--to", "2020-01-02"], 1, "no round was recorded in the span"),
        (&["--from", "soon", "--to", "2020-01-02"], 2, "\"soon\" is not valid (valid: a time such as"),
        (&[&ALWAYS[..], &["--orchestrator", "x"]].concat(), 1, "recorded: orchestrator-1"),
        (&[&ALWAYS[..], &["--base", "/nowhere.toml"]].concat(), 64, "/nowhere.toml"),
    ] {
        let (status, out, said) = backtest(&world, same, arguments);
        assert_eq!((status, out.as_str()), (code, ""), "{said}");
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
}

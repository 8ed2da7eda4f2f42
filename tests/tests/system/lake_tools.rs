//! `spillway lake …` on a lake whose collector is at work.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use spillway_system_tests::{Ports, Role, WRITE_KEY, config, run, spillway};

use crate::durability::beacon;

fn json(arguments: &[&str]) -> Value {
    let (status, out, said) = run(arguments);
    assert_eq!(status, 0, "{arguments:?}: {said}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?} printed {out:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tools_work_beside_a_running_collector() {
    let dir = tempfile::tempdir().expect("dir");
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), ports, "")).expect("written");
    let file = file.to_str().expect("utf-8");
    let mut collector = Role::start(&["collector", "--config", file]);
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{}/v1/beacons?k={WRITE_KEY}", ports.collector);
    for (view, from) in [("kept", 0), ("forgotten", 0), ("kept", 5), ("forgotten", 5)] {
        let body = beacon(view, from..from + 5).to_string();
        let answer = client.post(&url).header("content-type", "text/plain").body(body).send().await.expect("answer");
        assert_eq!(answer.status(), 202);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Nothing is committed yet: `forget` sees the rows in the tail and waits for their commit.
    let forgotten = json(&["lake", "forget", "--config", file, "--view", "forgotten", "--vacuum-now", "--json"]);
    assert_eq!(forgotten["forgotten"]["rows"]["events"], 10, "{forgotten}");
    assert_eq!(forgotten["pending_rows"], 0);
    assert!(forgotten["vacuum"]["files_removed"].as_u64().expect("a number") > 0, "{forgotten}");
    let verified = json(&["lake", "verify", "--config", file, "--json"]);
    assert_eq!((&verified["clean"], &verified["report"]["committed_rows"]), (&true.into(), &10.into()), "{verified}");
    assert_eq!(verified["report"]["forgotten_rows"], 10, "{verified}");
    for tool in ["compact", "rewrite", "retain", "vacuum", "checkpoint"] {
        let done = json(&["lake", tool, "--config", file, "--json"]);
        assert_eq!(done["job"], tool, "{done}");
    }
    let (_, out, _) =
        run(&["query", "--config", file, "--csv", "SELECT view_id, count(*) AS n FROM events GROUP BY 1"]);
    assert_eq!(out.trim(), "view_id,n\nkept,10");

    // At a full stop the WAL holds what was committed, and the lake is still clean.
    assert!(collector.terminate(Duration::from_secs(15)).expect("ends in time").success());
    let (status, out, _) = run(&["lake", "verify", "--config", file]);
    assert_eq!(status, 0);
    assert!(out.ends_with("clean\n"), "{out}");
}

#[test]
fn a_wrong_table_in_the_retention_is_named() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("spillway.toml");
    let text = config(dir.path(), Ports::free(), "") + "\n[lake]\nretention_days = { event = 3 }\n";
    std::fs::write(&file, text).expect("written");
    let (status, _, said) = run(&["lake", "retain", "--config", file.to_str().expect("utf-8")]);
    assert_eq!(status, 64, "{said}");
    assert!(said.contains("lake.retention_days.event") && said.contains("a table: events"), "{said}");
    assert_eq!(run(&["lake", "vacuum", "--config", "x", "--retention-hours", "1"]).0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_can_look_back_and_a_reader_may_leave_early() {
    let dir = tempfile::tempdir().expect("dir");
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), ports, "")).expect("written");
    let file = file.to_str().expect("utf-8");
    let mut collector = Role::start(&["collector", "--config", file]);
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{}/v1/beacons?k={WRITE_KEY}", ports.collector);
    for batch in 0..20 {
        let body = beacon("v", batch * 200..(batch + 1) * 200).to_string();
        let answer = client.post(&url).header("content-type", "text/plain").body(body).send().await.expect("answer");
        assert_eq!(answer.status(), 202);
    }
    assert!(collector.terminate(Duration::from_secs(15)).expect("ends in time").success());

    let query = |at: &str| run(&["query", "--config", file, "--csv", "--at", at, "SELECT count(*) AS n FROM events"]);
    assert_eq!(query("0").1.trim(), "n\n0", "the table was made, and empty");
    assert_eq!(query("2001-01-01").1.trim(), "n\n0", "there was no table");
    assert_eq!(query("2100-01-01T00:00:00Z").1.trim(), "n\n4000");
    let (status, _, said) = query("99");
    assert_eq!(status, 1);
    assert!(said.contains("table events has no version 99 (valid: 0 (20") && said.contains(" to "), "{said}");
    let (status, _, said) = query("yesterday");
    assert_eq!(status, 1);
    assert!(said.contains("--at: \"yesterday\" is not valid (valid: a version"), "{said}");

    // More than a pipe holds.
    for form in ["--csv", "--json", ""] {
        let mut command = std::process::Command::new(spillway());
        command.args([
            "query",
            "--config",
            file,
            "SELECT a.*, b.seq AS other FROM events a, events b WHERE b.seq < 20",
        ]);
        command.args((!form.is_empty()).then_some(form));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
        assert!(!first.is_empty());
        let ended = child.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("not yet committed are missing")).collect();
        assert!(ended.status.success() && said.is_empty(), "{form}: {:?} {said:?}", ended.status);
    }
}

//! A disk that is full under the real binary.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use spillway_system_tests::{Ports, Role, WRITE_KEY, config, run};

use crate::durability::beacon;

/// A file system of a few megabytes; gone when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// `None` where mounting is not allowed.
    fn mount(dir: &'a Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(dir).expect("dir");
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir).output().ok()?;
        mounted.status.success().then_some(Self(dir))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily: the killed collector may take a moment to let go of its files.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_answered_503_told_to_operators_and_survived_without_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let data = dir.path().join("data");
    let Some(_disk) = SmallDisk::mount(&data, 4 << 20) else {
        eprintln!("not tested: only root may mount a small file system here");
        return;
    };
    let ports = Ports::free();
    let file = dir.path().join("spillway.toml");
    let lake = format!("[lake]\nroot = \"file://{}\"\n", dir.path().join("lake").display());
    std::fs::write(&file, config(&data, ports, &lake)).expect("written");
    let arguments = ["collector", "--config", file.to_str().expect("utf-8")];
    let collector = Role::start(&arguments);
    let client = reqwest::Client::new();
    let base = format!("http://127.0.0.1:{}", ports.collector);
    let post = |seq: u64| {
        let body = beacon("v", seq * 20..seq * 20 + 20).to_string();
        client.post(format!("{base}/v1/beacons?k={WRITE_KEY}")).header("content-type", "text/plain").body(body).send()
    };
    let gauge = || async {
        let metrics = client.get(format!("{base}/metrics")).send().await.expect("metrics").text().await.expect("text");
        metrics.lines().find_map(|line| line.strip_prefix("spillway_wal_failing ").map(str::to_owned))
    };
    assert_eq!(post(0).await.expect("an answer").status(), 202);
    assert_eq!(gauge().await.as_deref(), Some("0"));

    // Somebody else fills the disk.
    let ballast = data.join("ballast");
    let filled = std::fs::write(&ballast, vec![1_u8; 8 << 20]);
    assert!(filled.is_err(), "the disk has more than it should");
    let mut acknowledged = 1;
    let refused = loop {
        let answer = post(acknowledged).await.expect("an answer");
        if answer.status() != 202 {
            break answer;
        }
        // What was left of the last page.
        acknowledged += 1;
        assert!(acknowledged < 50, "a full disk takes everything");
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let said: Value = refused.json().await.expect("JSON");
    assert!(said.to_string().contains("wal"), "{said}");
    assert_eq!(gauge().await.as_deref(), Some("1"), "the alarm is raised");
    assert_eq!(post(acknowledged).await.expect("an answer").status(), 503, "it is still full");

    std::fs::remove_file(&ballast).expect("removed");
    // What the player was told to send again.
    assert_eq!(post(acknowledged).await.expect("an answer").status(), 202);
    assert_eq!(gauge().await.as_deref(), Some("0"), "the alarm is over");
    collector.kill();
    let _collector = Role::start(&arguments);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sql = "SELECT count(*) AS n, count(DISTINCT seq) AS seqs FROM events_raw";
    let (status, out, said) = run(&["query", "--config", arguments[2], "--json", sql]);
    assert_eq!(status, 0, "{said}");
    let row: Value = serde_json::from_str(out.trim()).expect("JSON");
    let expected = (acknowledged + 1) * 20;
    assert_eq!((row["n"].as_u64(), row["seqs"].as_u64()), (Some(expected), Some(expected)));
}

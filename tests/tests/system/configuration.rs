//! Bad configuration ends with 64 and says which key, which value and what is valid.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use spillway_system_tests::{Ports, Role, config, run, spillway};

fn refused(text: &str) -> String {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, text).expect("written");
    let (status, _, said) = run(&["all", "--config", file.to_str().expect("utf-8")]);
    assert_eq!(status, 64, "{said}");
    said
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_what_is_valid() {
    let dir = tempfile::tempdir().expect("dir");
    let good = config(dir.path(), Ports::free(), "");
    for (from, to, expected) in [
        ("cdn-a = 50", "cdn-x = 50", &["static_weights", "cdn-x"][..]),
        ("capacity_mbps = 1000", "capacity_mbps = -1", &["capacity_mbps", "-1", "above 0"]),
        ("control_share = 1.0", "control_share = 7.0", &["control_share", "7", "0 to 1"]),
        ("control_share = 1.0", "mode = \"yes\"", &["mode", "yes", "observe, shadow, control"]),
        ("base_url = \"http://", "base_url = \"ftp://", &["base_url", "ftp://", "http:// or https://"]),
        ("token_key = \"0123456789abcdef", "token_key = \"", &["token_key", "32"]),
        ("[collector]", "[collector]\nlisten_on = 1", &["listen_on", "unknown field"]),
        ("[orchestrator]", "[orchestrator]\nround_ms = \"soon\"", &["round_ms", "soon"]),
        ("[collector]", "[policy]\nhold = 5\n[collector]", &["policy.hold", "check-config --explain"]),
        ("[collector]", "[policy]\nmove_max = 1.5\n[collector]", &["policy.move_max", "1.5", "0 to 1"]),
        (
            "[collector]",
            "[orchestrator.canary]\npolicy = \"p\"\nregion = \"mars\"\nparameters = { hold_s = 60 }\n[collector]",
            &["orchestrator.canary.region", "mars"],
        ),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        let said = refused(&text);
        for word in expected {
            assert!(said.contains(word), "{word:?} is missing in {said:?}");
        }
    }
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("port");
    let port = taken.local_addr().expect("bound").port();
    let dir = tempfile::tempdir().expect("dir");
    let said = refused(&config(dir.path(), Ports { steer: port, ..Ports::free() }, ""));
    assert!(said.contains("steer.listen") && said.contains(&port.to_string()), "{said}");
}

#[test]
fn a_missing_file_and_bad_usage_are_told_apart() {
    let (status, _, said) = run(&["all", "--config", "/nowhere/spillway.toml"]);
    assert_eq!(status, 64);
    assert!(said.contains("/nowhere/spillway.toml"), "{said}");
    assert_eq!(run(&["all"]).0, 2);
    let (status, _, said) = run(&["probe"]);
    assert_eq!(status, 1);
    assert!(said.contains("not there yet"), "{said}");
}

#[test]
fn a_terminated_process_ends_within_ten_seconds_and_well() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), Ports::free(), "")).expect("written");
    // At once after the ports are announced, when most of the process has yet to start; and again on its own data.
    for _ in 0..5 {
        let mut all = Role::start(&["all", "--config", file.to_str().expect("utf-8")]);
        let status = all.terminate(Duration::from_secs(10)).expect("it ends within 10 s");
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[test]
fn a_process_whose_log_nobody_reads_ends_well_too() {
    let dir = tempfile::tempdir().expect("dir");
    let file = dir.path().join("spillway.toml");
    std::fs::write(&file, config(dir.path(), Ports::free(), "")).expect("written");
    let mut collector = Command::new(spillway())
        .args(["collector", "--config", file.to_str().expect("utf-8")])
        .env("RUST_LOG", "info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut first = String::new();
    BufReader::new(collector.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
    drop(collector.stderr.take());
    let mut role = Role::from(collector);
    let status = role.terminate(Duration::from_secs(10)).expect("it ends within 10 s");
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn the_sample_configuration_is_valid() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/spillway.toml");
    let (status, out, said) = run(&["check-config", "--config", sample, "--explain"]);
    assert_eq!(status, 0, "{said}");
    assert!(out.contains("valid (1 regions, 2 pathways") && out.contains("hold_s"), "{out}");
    let edge = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/edge.toml");
    let (status, out, said) = run(&["check-config", "--config", edge]);
    assert!(status == 0 && out.contains("valid (an own edge)"), "{out}{said}");
}

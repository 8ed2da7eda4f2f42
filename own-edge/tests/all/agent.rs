//! An agent beside a server that is only a statistics page and a log: what it reports, and when it says nothing.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use spillway_own_edge::agent::{AgentConfig, run};
use spillway_own_edge::{EdgeShell, Reload};
use spillway_service::{CancellationToken, Readiness};
use spillway_wire::load::{Directives, LoadReport};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{LONG, Reply, get, get_with, raw};
use crate::reports::{Orchestrator, admit};
use crate::scripted::{Scripted, Step, response};
use crate::support::{TOKEN, TestClock};

/// A running agent.
pub struct TestAgent {
    pub admin: SocketAddr,
    pub clock: Arc<TestClock>,
    pub readiness: Readiness,
    /// What the configuration's file says now; each change is told as by SIGHUP.
    file: Arc<Mutex<Result<AgentConfig, String>>>,
    hangups: watch::Sender<u64>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl TestAgent {
    pub async fn start(orchestrator: &Orchestrator, lines: &str) -> Self {
        let config: AgentConfig = toml::from_str(&format!(
            r#"
            pathway = "own-test-1"
            region = "eu-test"
            base_url = "http://edge.example"
            ceiling_mbps = 1000
            orchestrators = ["{}"]
            {lines}
            "#,
            orchestrator.url()
        ))
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::with(config, listener).await
    }

    pub async fn with(config: AgentConfig, listener: TcpListener) -> Self {
        let admin = listener.local_addr().unwrap();
        let clock = TestClock::new();
        let (readiness, shutdown) = (Readiness::default(), CancellationToken::new());
        let (file, hangups) = (Arc::new(Mutex::new(Ok(config.clone()))), watch::Sender::new(0));
        let reread = file.clone();
        let reread = Arc::new(move || reread.lock().unwrap().clone());
        let shell = EdgeShell {
            service_token: TOKEN.into(),
            clock: clock.clone(),
            readiness: readiness.clone(),
            metrics: None,
            shutdown: shutdown.clone(),
            reload: Some(Reload { hangups: hangups.subscribe(), reread }),
            faults: None,
        };
        let task = tokio::spawn(async move { run(config, shell, Some(listener)).await.unwrap() });
        Self { admin, clock, readiness, file, hangups, shutdown, task }
    }

    /// Changes the file, and says so.
    pub fn reload(&self, config: Result<AgentConfig, String>) {
        *self.file.lock().unwrap() = config;
        self.hangups.send_modify(|count| *count += 1);
    }

    /// Asks the admin port to drain, or not.
    pub async fn drain(&self, token: &str, body: &str) -> Reply {
        let request = format!(
            "POST /v1/drain HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw(self.admin, request.as_bytes()).await
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, &mut self.task).await.expect("it ends").unwrap();
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Waits until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// A page like nginx's, a log, and an agent that looks at both.
struct Beside {
    page: Scripted,
    dir: tempfile::TempDir,
    orchestrator: Orchestrator,
    agent: TestAgent,
}

fn up() -> Vec<Step> {
    let page = "Active connections: 8 \nserver accepts handled requests\n 9 9 9 \nReading: 0 Writing: 1 Waiting: 7 \n";
    vec![Step::Send(response(200, "", page.as_bytes()))]
}

impl Beside {
    async fn start(lines: &str) -> Self {
        let (page, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
        page.on("/status", |_| up());
        let dir = tempfile::tempdir().unwrap();
        append(&dir.path().join("log"), &line(9, "/old.m4s", 1_000_000, "HIT", ""));
        let pid = std::process::id();
        fs::write(dir.path().join("pid"), pid.to_string()).unwrap();
        let at = dir.path().display();
        let lines = format!(
            "server = 'nginx'\nstatistics_url = '{}/status'\nlog = '{at}/log'\npid_file = '{at}/pid'\norders_dir = '{at}/orders'\n{lines}",
            page.url()
        );
        fs::create_dir(dir.path().join("orders")).unwrap();
        let agent = TestAgent::start(&orchestrator, &lines).await;
        let beside = Self { page, dir, orchestrator, agent };
        beside.next().await;
        beside
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self, lines: &str) {
        append(&self.path("log"), lines);
    }

    async fn next(&self) -> LoadReport {
        self.orchestrator.next().await
    }

    /// What was reported from now on until `seq` requests were.
    async fn sum(&self, requests: u64) -> Vec<LoadReport> {
        let mut reports = vec![self.next().await];
        while reports.iter().map(|report| report.requests).sum::<u64>() < requests {
            reports.push(self.next().await);
        }
        reports
    }

    /// No report comes for longer than an interval.
    async fn is_silent(&self) {
        // One may be under way.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let before = self.orchestrator.count();
        tokio::time::sleep(Duration::from_millis(3_000)).await;
        assert_eq!(self.orchestrator.count(), before);
        assert_eq!(get(self.agent.admin, "/readyz").await.status, 503);
    }
}

fn append(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn line(viewer: u8, target: &str, bytes: u64, cache: &str, origin: &str) -> String {
    format!(
        "{{\"client\":\"127.0.0.{viewer}\",\"target\":\"{target}\",\"status\":\"200\",\"bytes_out\":\"{bytes}\",\"cache\":\"{cache}\",\"origin_status\":\"{origin}\",\"origin_bytes\":\"7\",\"agent\":\"tv\"}}\n"
    )
}

#[tokio::test]
async fn a_report_says_what_the_log_and_the_page_say() {
    let beside = Beside::start("group = 'cluster'\ncache_dir = '/'").await;
    // So that a mean of ten seconds is one.
    beside.agent.clock.forward(11);
    beside.next().await;
    for viewer in 1..=3 {
        // What a client calls itself hides nothing.
        let line = line(viewer, "/live/river/1.m4s?CMCD=sid%3D%22one%22", 100_000, "HIT", "");
        beside.log(&line.replace("\"tv\"", "\"spillway-edge-agent\""));
    }
    beside.log(&line(9, "/status", 9_000, "", "").replace("\"tv\"", "\"spillway-edge-agent\""));
    beside.log(&line(4, "/vod/film/1.m4s", 50_000, "MISS", "502, 200"));
    beside.log("this is no line of ours\n");
    beside.log(&format!("{}\n", "x".repeat(100_000)));
    beside.log(&line(4, "/vod/film/2.m4s", 50_000, "MISS", "200"));
    let reports = beside.sum(5).await;
    let last = reports.last().unwrap();
    assert_eq!((&*last.pathway, last.group.as_deref(), &*last.region), ("own-test-1", Some("cluster"), "eu-test"));
    assert_eq!((&*last.base_url, last.ceiling_bps, last.draining), ("http://edge.example", 1_000_000_000, false));
    let sum = |of: fn(&LoadReport) -> u64| reports.iter().map(of).sum::<u64>();
    let bytes: f64 = reports.iter().map(|r| r.bits_out_bps as f64 * r.interval_ms as f64 / 8_000.0).sum();
    assert!((bytes - 400_000.0).abs() <= 3.0, "{bytes}: what stood in the log before counts for nothing");
    assert_eq!(last.bits_out_10s_bps, 400_000 * 8 / 10);
    assert_eq!((last.viewers, last.connections), (4, 7), "this question's connection is none");
    assert_eq!((sum(|r| r.origin.fetches), sum(|r| r.origin.failed), sum(|r| r.origin.bytes)), (3, 1, 35));
    let hits: f64 = reports.iter().map(|r| f64::from(r.hit_ratio_ppm.unwrap_or(0)) * r.requests as f64).sum();
    assert!((hits / 1e6 - 3.0).abs() < 0.01, "{hits}");
    let content: Vec<_> = reports.iter().flat_map(|r| &r.top_content).map(|load| &*load.content).collect();
    assert!(content.contains(&"live/river") && content.contains(&"vod/film"), "{content:?}");
    assert!(last.cpu_ppm.is_some() && last.memory_bytes.is_some_and(|bytes| bytes > 1_000_000));
    assert!(last.disk_ppm.is_some_and(|ppm| ppm <= 1_000_000));
    assert!(beside.agent.readiness.is_ready());

    beside.agent.clock.forward(11);
    let later = beside.next().await;
    assert_eq!((later.viewers, later.bits_out_10s_bps, later.requests, later.hit_ratio_ppm), (0, 0, 0, None));
}

#[tokio::test]
async fn the_ceiling_follows_the_file_and_what_takes_a_restart_does_not() {
    let beside = Beside::start("").await;
    let before = beside.agent.file.lock().unwrap().clone().unwrap();
    let with = |ceiling_mbps| AgentConfig { ceiling_mbps, region: "elsewhere".into(), ..before.clone() };
    for (file, expected_bps) in [
        (Ok(with(2_000.0)), 2_000_000_000),
        (Ok(with(-1.0)), 2_000_000_000),
        (Err("it can't be read".into()), 2_000_000_000),
        (Ok(with(500.0)), 500_000_000),
    ] {
        beside.agent.reload(file);
        // One may be under way.
        beside.next().await;
        let report = beside.next().await;
        assert_eq!((report.ceiling_bps, &*report.region), (expected_bps, "eu-test"));
    }
}

#[tokio::test]
async fn a_server_that_was_busy_before_its_agent_is_not_called_idle() {
    let beside = Beside::start("").await;
    beside.log(&line(1, "/1.m4s", 1_000_000, "HIT", ""));
    let last = beside.sum(1).await.pop().unwrap();
    assert!(last.bits_out_10s_bps >= 8_000_000 / 8, "of some seconds: {}", last.bits_out_10s_bps);
}

#[tokio::test]
async fn what_is_not_known_is_not_reported() {
    let beside = Beside::start("").await;
    beside.page.on("/status", |_| vec![Step::Close]);
    beside.is_silent().await;
    beside.page.on("/status", |_| up());
    beside.log(&line(1, "/1.m4s", 1_000, "HIT", ""));
    let back = beside.sum(1).await;
    assert!(back[0].interval_ms > 5_000, "it covers what wasn't reported: {} ms", back[0].interval_ms);

    // A mean that goes over what nobody knows would be too low or too high.
    beside.log("127.0.0.1 - - [23/Nov/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n");
    beside.is_silent().await;
    beside.log(&line(1, "/1.m4s", 1_000_000, "HIT", ""));
    let back = beside.sum(1).await.pop().unwrap();
    let within_2s = 8_000_000 * 1000 / 2_000;
    assert!((within_2s / 2..=within_2s * 3 / 2).contains(&back.bits_out_10s_bps), "{}", back.bits_out_10s_bps);
}

#[tokio::test]
async fn a_log_that_says_nothing_of_what_is_answered_is_not_believed() {
    let beside = Beside::start("").await;
    let answered = AtomicU64::new(9);
    beside.page.on("/status", move |_| {
        let count = answered.fetch_add(100, Ordering::Relaxed);
        let page =
            format!("Active connections: 8 \nserver accepts handled requests\n 9 9 {count} \nReading: 0 Writing: 1 \n");
        vec![Step::Send(response(200, "", page.as_bytes()))]
    });
    beside.next().await;
    beside.agent.clock.forward(11);
    beside.is_silent().await;
    beside.log(&line(1, "/1.m4s", 1_000, "HIT", ""));
    beside.sum(1).await;
}

#[tokio::test]
async fn a_log_that_is_rotated_loses_nothing() {
    let beside = Beside::start("").await;
    beside.log(&line(1, "/1.m4s", 1_000, "HIT", ""));
    fs::rename(beside.path("log"), beside.path("log.1")).unwrap();
    append(&beside.path("log.1"), &line(1, "/2.m4s", 1_000, "HIT", ""));
    tokio::time::sleep(Duration::from_millis(600)).await;
    append(&beside.path("log"), &line(1, "/3.m4s", 1_000, "HIT", ""));
    append(&beside.path("log.1"), &line(1, "/4.m4s", 1_000, "HIT", ""));
    let reports = beside.sum(4).await;
    assert_eq!(reports.iter().map(|report| report.requests).sum::<u64>(), 4);
    fs::write(beside.path("log"), line(1, "/5.m4s", 900, "HIT", "")).unwrap();
    beside.sum(1).await;
}

#[tokio::test]
async fn orders_become_files_and_an_answer_and_end_with_the_agent() {
    let beside = Beside::start("").await;
    let (flag, file) = (beside.path("orders/refuse-new"), beside.path("orders/orders.json"));
    until("orders are written", || file.exists()).await;
    assert!(!flag.exists());
    let ask = async |viewer: &str| {
        let headers = format!("X-Original-URI: /master.m3u8?sid=s-{viewer}\nX-Real-IP: 127.0.0.1\nUser-Agent: tv");
        get_with(beside.agent.admin, "/v1/admission", &headers).await
    };
    assert_eq!(ask("a").await.status, 204);
    let socket = "X-Original-URI: /master.m3u8\nX-Real-IP: unix:";
    assert_eq!(get_with(beside.agent.admin, "/v1/admission", socket).await.status, 204, "a client without an address");

    let elsewhere = Some("http://other.example/base/".to_owned());
    beside.orchestrator.order(Directives { admit: false, redirect_to: elsewhere, epoch: 7, ..admit() }).await;
    until("the flag is there", || flag.exists()).await;
    let text = fs::read_to_string(&file).unwrap();
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "admit": false, "reason": "not-admitted", "drain": false, "redirect_to": "http://other.example/base", "epoch": 7
    });
    assert_eq!(told, expected);
    assert_eq!(ask("a").await.status, 204, "its session runs");
    let refused = ask("b").await;
    assert_eq!((refused.status, refused.header("x-spillway-reason")), (403, Some("not-admitted")));
    assert_eq!(refused.header("x-spillway-redirect"), Some("http://other.example/base"));
    assert_eq!(get(beside.agent.admin, "/v1/admission").await.status, 400);
    fs::remove_file(&flag).unwrap();
    fs::remove_file(&file).unwrap();
    until("both are there again", || flag.exists() && file.exists()).await;

    beside.orchestrator.order(Directives { epoch: 8, ..admit() }).await;
    until("the flag is gone", || !flag.exists()).await;
    beside.log(&line(1, "/1.m4s", 2_000_000_000, "HIT", ""));
    until("it is full", || flag.exists()).await;
    assert_eq!(fs::read_to_string(&flag).unwrap(), "full\n");
    let Beside { agent, dir, .. } = beside;
    agent.stop().await;
    assert_eq!(fs::read_dir(dir.path().join("orders")).unwrap().count(), 0, "nobody would renew them");
}

#[tokio::test]
async fn an_operator_drains_it_with_the_token_and_its_end_is_a_drain() {
    let beside = Beside::start("").await;
    assert_eq!(beside.agent.drain("wrong", r#"{"drain":true}"#).await.status, 401);
    let bad = beside.agent.drain(TOKEN, r#"{"drian":true}"#).await;
    assert!(bad.status == 400 && String::from_utf8_lossy(&bad.body).contains("drian"), "{bad:?}");
    assert!(!beside.next().await.draining);
    assert_eq!(beside.agent.drain(TOKEN, r#"{"drain":true}"#).await.status, 200);
    beside.next().await;
    assert!(beside.next().await.draining);
    until("the flag is there", || beside.path("orders/refuse-new").exists()).await;
    assert_eq!(beside.agent.drain(TOKEN, r#"{"drain":false}"#).await.status, 200);
    beside.next().await;
    assert!(!beside.next().await.draining);

    let Beside { agent, orchestrator, page: _page, .. } = beside;
    let (last, ()) = tokio::join!(orchestrator.next(), agent.stop());
    assert!(last.draining);
}

#[tokio::test]
async fn a_server_that_ends_together_with_its_agent_is_drained_too() {
    let Beside { agent, orchestrator, page, .. } = Beside::start("").await;
    page.on("/status", |_| vec![Step::Close]);
    let (last, ()) = tokio::join!(orchestrator.next(), agent.stop());
    assert!(last.draining);
    assert_eq!(last.connections, 7, "what was known last");
}

//! `steer`: answers a second and core of a steering node, beside a bare axum handler that says the same number of bytes.
//!
//! The requests are real: each session starts with a playlist, polls once, and then goes on with the token of its
//! RELOAD-URI. Both servers get the same bytes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::dns;
use crate::http_load::{Answers, Effort, Target, connect, get, send};
use crate::process::{SERVER_CORE, Server, median, pinned, stay_on_the_clients_core};

/// Targets of the design: shares of the bare handler's rate, and multiples of its p99.
const RATIO_MIN: f64 = 0.8;
const DECIDE_RATIO_MIN: f64 = 0.7;
const P99_RATIO_MAX: f64 = 2.0;
/// Seconds between two polls of a session, for cores per million viewers.
const TTL_S: f64 = 30.0;
const CONNECTIONS: usize = 64;
/// Over TLS each viewer has a connection of its own, as far as this machine's client goes.
const TLS_CONNECTIONS: usize = 1_000;
/// Share of the bare handler's fastest at which the latencies of both are compared.
const LATENCY_LOAD: f64 = 0.4;
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASKS_UNTIL_READY: u32 = 300;

/// What to run.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Alternating runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Seconds of load in each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// The Knot DNS server: the zone's peer
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/knotd")]
    knotd: PathBuf,
    /// The built example `rewrite_speed` of steering
    #[arg(long, value_name = "FILE")]
    rewrites: PathBuf,
    /// Sessions that poll
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=200_000))]
    sessions: u32,
    /// One JSON line
    #[arg(long)]
    json: bool,
}

/// A steering node and its peer, each on the server's core; only one is asked at a time.
struct Stage {
    node: Server,
    node_port: u16,
    tls_port: u16,
    bare_port: u16,
    dir: TempDir,
}

/// Answers per CPU-second of the server.
struct Rate {
    per_cpu_s: f64,
    answers: Answers,
}

pub(crate) fn run(spillway: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    stay_on_the_clients_core()?;
    let mut result =
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(spillway, arguments))?;
    let dns = dns::measure(spillway, &arguments.knotd, arguments.runs, arguments.seconds)?;
    for (key, value) in [
        ("dns_per_s", json!(dns.dns_per_s)),
        ("dns_peer", json!(dns.dns_peer)),
        ("dns_ratio", json!(dns.dns_ratio)),
        ("rewrites_per_s", rewrites(&arguments.rewrites)?),
    ] {
        result[key] = value;
    }
    if arguments.json {
        println!("{result}");
    } else {
        println!("{result:#}");
    }
    Ok(())
}

/// Playlists a second and core, by protocol, variants and pathways.
fn rewrites(example: &Path) -> anyhow::Result<Value> {
    // It exits 1 if it misses a target, and tells its figures all the same.
    let output = pinned(SERVER_CORE, example).arg("--json").output()?;
    let mut out = serde_json::Map::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let case: Value = serde_json::from_str(line).with_context(|| format!("{} said {line:?}", example.display()))?;
        let protocol = case["protocol"].as_str().context("no protocol")?;
        out.insert(format!("{protocol}_{}x{}", case["variants"], case["pathways"]), case["value"].clone());
    }
    ensure!(!out.is_empty(), "{} said nothing", example.display());
    Ok(Value::Object(out))
}

async fn measure(spillway: &Path, arguments: &Arguments) -> anyhow::Result<Value> {
    let stage = Stage::start(spillway).await?;
    let node = Target::plain(stage.node_port);
    let (polls, answer_bytes) = stage.sessions(&node, arguments.sessions).await?;
    let (decides, decide_bytes) = stage.decides(&node, &polls).await?;
    let bare = stage.bare(answer_bytes).await?;
    let bare_decide = stage.bare_at(stage.bare_port + 1, decide_bytes).await?;
    let (at, at_decide) = (Target::plain(stage.bare_port), Target::plain(stage.bare_port + 1));
    let fast = Effort { connections: CONNECTIONS, rate: None, seconds: f64::from(arguments.seconds) };
    let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut p99 = Vec::new();
    for number in 1..=arguments.runs {
        let ours = rate(&stage.node, &node, &polls, fast).await?;
        let peer = rate(&bare, &at, &polls, fast).await?;
        let decide = rate(&stage.node, &node, &decides, fast).await?;
        let decide_peer = rate(&bare_decide, &at_decide, &decides, fast).await?;
        let calm = Effort { rate: Some(peer.answers.count as f64 / peer.answers.seconds * LATENCY_LOAD), ..fast };
        let ours_calm = send(&node, &polls, calm).await?;
        let peer_calm = send(&at, &polls, calm).await?;
        let (a, b) = (ours_calm.latency_ms(0.99), peer_calm.latency_ms(0.99));
        eprintln!(
            "run {number}: {:.0} answers/s/core, bare {:.0}; decide {:.0}, bare {:.0}; p99 at {:.0}/s {a:.2} ms, bare {b:.2} ms",
            ours.per_cpu_s,
            peer.per_cpu_s,
            decide.per_cpu_s,
            decide_peer.per_cpu_s,
            calm.rate.unwrap_or_default(),
        );
        for (name, rate) in [("answers", &ours), ("bare", &peer), ("decide", &decide), ("decide_bare", &decide_peer)] {
            rates.entry(name).or_default().push(rate.per_cpu_s);
        }
        p99.push(a / b);
    }
    let tls = Effort { connections: TLS_CONNECTIONS, ..fast };
    let encrypted = Target::tls(stage.tls_port, &stage.dir.path().join("cert.pem"))?;
    let tls = rate(&stage.node, &encrypted, &polls, tls).await?;
    let rss_mb_max = stage.node.rss_mb_max()?;
    bare.end_hard()?;
    bare_decide.end_hard()?;
    stage.node.end()?;
    let of = |name: &str| median(rates.get(name).cloned().unwrap_or_default());
    let (ratio, decide_ratio, p99_ratio) = (of("answers") / of("bare"), of("decide") / of("decide_bare"), median(p99));
    Ok(json!({
        "answers_per_s": of("answers").round(),
        "bare_per_s": of("bare").round(),
        "ratio": round(ratio),
        "p99_ratio": round(p99_ratio),
        "decide_per_s": of("decide").round(),
        "decide_ratio": round(decide_ratio),
        "tls_answers_per_s": tls.per_cpu_s.round(),
        "tls_cores_per_million_viewers": round(1e6 / TTL_S / tls.per_cpu_s),
        "rss_mb_max": rss_mb_max.round(),
        "answer_bytes": answer_bytes,
        "sessions": arguments.sessions,
        "runs": arguments.runs,
        "ok": ratio >= RATIO_MIN && decide_ratio >= DECIDE_RATIO_MIN && p99_ratio <= P99_RATIO_MAX,
    }))
}

async fn rate(server: &Server, target: &Target, requests: &Arc<Vec<Vec<u8>>>, effort: Effort) -> anyhow::Result<Rate> {
    let before_s = server.cpu_s()?;
    let answers = send(target, requests, effort).await?;
    let cpu_s = server.cpu_s()? - before_s;
    ensure!(cpu_s > 0.1, "only {cpu_s} s of the server's CPU: too short a run to say anything");
    Ok(Rate { per_cpu_s: answers.count as f64 / cpu_s, answers })
}

impl Stage {
    async fn start(spillway: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let [node_port, tls_port, bare_port] = free_ports()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;
        let config = dir.path().join("spillway.toml");
        std::fs::write(&config, toml(dir.path(), node_port, tls_port))?;
        let key = dir.path().join("manifest.key");
        tool(spillway, &["keygen".as_ref(), key.as_os_str()])?;
        let make = ["manifest", "make", "--static", "--all", "--publish", "--config"].map(OsStr::new);
        tool(spillway, &[&make[..], &[config.as_os_str(), "--sign".as_ref(), key.as_os_str()]].concat())?;
        let mut command = pinned(SERVER_CORE, spillway);
        let node = Server::start(command.args(["steer", "--config"]).arg(&config).env("RUST_LOG", "error"))?;
        let stage = Self { node, node_port, tls_port, bare_port, dir };
        ready(node_port).await?;
        steered(node_port).await?;
        Ok(stage)
    }

    async fn bare(&self, body_bytes: usize) -> anyhow::Result<Server> {
        self.bare_at(self.bare_port, body_bytes).await
    }

    async fn bare_at(&self, port: u16, body_bytes: usize) -> anyhow::Result<Server> {
        let mut command = pinned(SERVER_CORE, &std::env::current_exe()?);
        command.args(["--spillway", "-", "bare", "--listen", &format!("127.0.0.1:{port}")]);
        let server = Server::start(command.args(["--body-bytes", &body_bytes.to_string()]))?;
        ready(port).await?;
        Ok(server)
    }

    /// The third requests of that many sessions, and the size of an answer to them.
    async fn sessions(&self, node: &Target, count: u32) -> anyhow::Result<(Arc<Vec<Vec<u8>>>, usize)> {
        let mut connection = connect(node).await?;
        let (mut polls, mut bytes) = (Vec::new(), 0);
        let playlist = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nv.m3u8\n";
        for number in 0..count {
            let title = number % 100;
            let start = format!(
                "POST /v1/playlists/hls?content=vod/title-{title}/master.m3u8 HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{playlist}",
                playlist.len()
            );
            let (status, body) = connection.ask(start.as_bytes()).await?;
            let written = String::from_utf8_lossy(&body).into_owned();
            ensure!(status == 200, "status {status}: {written}");
            let first = between(&written, "SERVER-URI=\"", "\"").context("no SERVER-URI in the playlist")?;
            let on = between(&written, "PATHWAY-ID=\"", "\"").context("no PATHWAY-ID in the playlist")?;
            let said = |bits: u32| format!("&_HLS_pathway={on}&_HLS_throughput={bits}");
            let (_, body) = connection.ask(&get(&below_host(first, &said(500_000))?, &BTreeMap::new())).await?;
            let answer: Value = serde_json::from_slice(&body)?;
            let reload = answer["RELOAD-URI"].as_str().context("no RELOAD-URI")?;
            let poll = get(&below_host(reload, &said(4_862_113))?, &BTreeMap::new());
            if number == 0 {
                bytes = connection.ask(&poll).await?.1.len();
            }
            polls.push(poll);
        }
        Ok((Arc::new(polls), bytes))
    }

    /// The same sessions, asking `/v1/decide`.
    async fn decides(&self, node: &Target, polls: &[Vec<u8>]) -> anyhow::Result<(Arc<Vec<Vec<u8>>>, usize)> {
        let token = |poll: &[u8]| -> anyhow::Result<String> {
            let text = std::str::from_utf8(poll)?;
            Ok(between(text, "?t=", "&").context("no token in a poll")?.to_owned())
        };
        let paths = polls.iter().map(|poll| Ok(format!("/v1/decide?t={}", token(poll)?)));
        let paths: Vec<String> = paths.collect::<anyhow::Result<_>>()?;
        let requests: Vec<Vec<u8>> = paths.iter().map(|path| get(path, &BTreeMap::new())).collect();
        let first = requests.first().context("no session")?;
        let (status, body) = connect(node).await?.ask(first).await?;
        ensure!(status == 200, "status {status}");
        Ok((Arc::new(requests), body.len()))
    }
}

/// Runs a tool of the binary to its end.
fn tool(spillway: &Path, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let output = Command::new(spillway).args(arguments).output()?;
    ensure!(output.status.success(), "spillway {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Waits until the node goes by the published manifest, and not by static weights.
async fn steered(port: u16) -> anyhow::Result<()> {
    for _ in 0..ASKS_UNTIL_READY {
        let (_, body) = connect(&Target::plain(port)).await?.ask(&get("/internal/steer", &BTreeMap::new())).await?;
        let status: Value = serde_json::from_slice(&body)?;
        if status["regions"]["eu"]["plan"] == "manifest" {
            return Ok(());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    bail!("the node does not take the published manifest")
}

async fn ready(port: u16) -> anyhow::Result<()> {
    for _ in 0..ASKS_UNTIL_READY {
        if let Ok(mut connection) = connect(&Target::plain(port)).await
            && connection.ask(&get("/readyz", &BTreeMap::new())).await.is_ok_and(|(status, _)| status == 200)
        {
            return Ok(());
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
    bail!("nobody is ready on port {port} after {:?}", ASK_INTERVAL * ASKS_UNTIL_READY)
}

/// Path and query of an absolute URL, with more query.
fn below_host(url: &str, more: &str) -> anyhow::Result<String> {
    let path = url.strip_prefix("http://localhost").with_context(|| format!("{url} is not ours"))?;
    Ok(format!("{path}{more}"))
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split(after).next()
}

/// Two that are free, and a third with a free one behind it.
fn free_ports() -> anyhow::Result<[u16; 3]> {
    for _ in 0..50 {
        let held =
            [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [a, b, c] = [held[0].local_addr()?.port(), held[1].local_addr()?.port(), held[2].local_addr()?.port()];
        if c < u16::MAX && TcpListener::bind(("127.0.0.1", c + 1)).is_ok() {
            return Ok([a, b, c]);
        }
    }
    bail!("no two free ports beside each other in 50 tries")
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn toml(dir: &Path, port: u16, tls_port: u16) -> String {
    let at = dir.display();
    let mut pathways = String::new();
    for name in ["cdn-a", "cdn-b", "cdn-c", "own-x-1", "own-x-2", "own-x-3"] {
        let group = if name.starts_with("own") { "group = \"own-x\"\n" } else { "" };
        pathways.push_str(&format!(
            "[[pathway]]\nid = \"{name}\"\nbase_url = \"https://{name}.example.net\"\ncapacity_mbps = 100000\n{group}\n"
        ));
    }
    format!(
        r#"
data_dir = "{at}"
service_token = "bench-service-token"

[[property]]
id = "bench"
write_key = "bench-key"

[[region]]
id = "eu"
static_weights = {{ own-x = 60, cdn-a = 20, cdn-b = 20 }}

{pathways}
[steer]
listen = "127.0.0.1:{port}"
public_url = "http://localhost"
token_key = "0123456789abcdef0123456789abcdef"
origins = {{ default = "http://127.0.0.1:9" }}
poll_budget_per_s = 10000000

[steer.tls]
listen = "127.0.0.1:{tls_port}"
cert = "{at}/cert.pem"
key = "{at}/key.pem"
"#
    )
}

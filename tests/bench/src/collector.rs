//! The collector under test: its own directory, its own ports, pinned to its core.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{CLIENT_CORE, SERVER_CORE, Server, json, number, pinned};

/// Write key of the property.
const KEY: &str = "bench-key";
const SERVICE_TOKEN: &str = "bench-service-token";
/// How often the collector is asked for something that it is about to reach.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASKS_UNTIL_READY: u32 = 300;
const ASKS_UNTIL_COMMITTED: u32 = 600;

/// A running collector.
pub(crate) struct Collector {
    pub(crate) server: Server,
    spillway: PathBuf,
    dir: TempDir,
    port: u16,
    tls_port: u16,
}

impl Collector {
    /// Starts one on an empty lake, with limits that don't limit and all else by default.
    pub(crate) fn start(spillway: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let ports = [held[0].local_addr()?.port(), held[1].local_addr()?.port()];
        drop(held);
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into(), "localhost".into()])?;
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem())?;
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;
        std::fs::write(dir.path().join("spillway.toml"), config(dir.path(), ports))?;
        let config = dir.path().join("spillway.toml");
        let server = Server::start(
            pinned(SERVER_CORE, spillway).args(["collector", "--config"]).arg(&config).env("RUST_LOG", "warn"),
        )?;
        let [port, tls_port] = ports;
        let collector = Self { server, spillway: spillway.to_owned(), dir, port, tls_port };
        for _ in 0..ASKS_UNTIL_READY {
            if collector.get("/readyz", "").is_ok() {
                return Ok(collector);
            }
            std::thread::sleep(ASK_INTERVAL);
        }
        bail!("the collector is not ready after {:?}", ASK_INTERVAL * ASKS_UNTIL_READY)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("spillway.toml")
    }

    /// `spillway load beacons` on the client's core, against the plain port.
    pub(crate) fn load(&self) -> Command {
        self.load_at(format!("http://127.0.0.1:{}/v1/beacons", self.port))
    }

    /// The same over TLS.
    pub(crate) fn load_tls(&self) -> Command {
        let mut command = self.load_at(format!("https://localhost:{}/v1/beacons", self.tls_port));
        command.arg("--tls-ca").arg(self.dir.path().join("cert.pem"));
        command
    }

    fn load_at(&self, url: String) -> Command {
        let mut command = pinned(CLIENT_CORE, &self.spillway);
        command.args(["load", "beacons", "--key", KEY, "--json", "--url", &url]);
        command
    }

    /// A tool of the binary that reads this collector's configuration, on the client's core.
    pub(crate) fn tool(&self, words: &[&str]) -> Command {
        let mut command = pinned(CLIENT_CORE, &self.spillway);
        command.args(words).arg("--config").arg(self.config());
        command
    }

    /// Waits until everything acknowledged is in the table; the counters then.
    pub(crate) fn committed(&self) -> anyhow::Result<Value> {
        for _ in 0..ASKS_UNTIL_COMMITTED {
            let counters: Value = serde_json::from_str(&self.get("/internal/counters", SERVICE_TOKEN)?)?;
            if counters["pending_rows"] == 0 {
                return Ok(counters);
            }
            std::thread::sleep(ASK_INTERVAL);
        }
        bail!("rows still wait for their commit after {:?}", ASK_INTERVAL * ASKS_UNTIL_COMMITTED)
    }

    /// Bytes of Parquet per row of `events`, after compaction.
    pub(crate) fn bytes_per_event(&self) -> anyhow::Result<f64> {
        json(self.tool(&["lake", "compact", "--json"]).env("RUST_LOG", "error"))?;
        let listed = json(&mut self.tool(&["lake", "files", "--table", "events", "--json"]))?;
        let (mut bytes, mut rows) = (0.0, 0.0);
        for file in listed["files"].as_array().context("lake files names no files")? {
            bytes += number(file, "bytes")?;
            rows += number(file, "rows")?;
        }
        anyhow::ensure!(rows > 0.0, "lake files names no rows: {listed}");
        Ok(bytes / rows)
    }

    fn get(&self, path: &str, token: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        anyhow::ensure!(head.contains(" 200 "), "{path}: {}", head.lines().next().unwrap_or_default());
        Ok(body.to_owned())
    }
}

fn config(dir: &Path, [port, tls_port]: [u16; 2]) -> String {
    let at = dir.display();
    format!(
        r#"
data_dir = "{at}"
service_token = "{SERVICE_TOKEN}"

[[property]]
id = "bench"
write_key = "{KEY}"

[[region]]
id = "eu"
static_weights = {{ cdn-a = 1 }}

[[pathway]]
id = "cdn-a"
base_url = "http://127.0.0.1:1"
capacity_mbps = 1000
price_usd_per_gb = 0.01

[[pathway]]
id = "cdn-b"
base_url = "http://127.0.0.1:2"
capacity_mbps = 1000
price_usd_per_gb = 0.02

[collector]
listen = "127.0.0.1:{port}"
rate_limit_key_per_s = 10000000
rate_limit_prefix_per_s = 10000000

[collector.tls]
listen = "127.0.0.1:{tls_port}"
cert = "{at}/cert.pem"
key = "{at}/key.pem"
"#
    )
}

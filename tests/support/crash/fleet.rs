//! The processes of a campaign: collectors, and the load.

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::storage::Storage;
use super::{Campaign, text};
use crate::{SERVICE_TOKEN, WRITE_KEY, free_ports};

const STEP: Duration = Duration::from_millis(20);

/// A collector that is killed and started again.
pub(super) struct Collector {
    spillway: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Collector {
    pub(super) fn start(campaign: &Campaign, storage: &Storage, number: usize) -> Result<Self, String> {
        let [port] = free_ports();
        let dir = campaign.dir.join(format!("collector-{number}"));
        std::fs::create_dir_all(&dir).map_err(|error| format!("create {}: {error}", dir.display()))?;
        let mut collector = Self { spillway: campaign.spillway.clone(), dir, port, child: None };
        let file = collector.config_file();
        std::fs::write(&file, collector.config(storage, number)).map_err(|error| format!("write {file:?}: {error}"))?;
        collector.restart_if_killed(storage)?;
        Ok(collector)
    }

    /// Everything small and often, so that few seconds hold many writes, commits and trims.
    fn config(&self, storage: &Storage, number: usize) -> String {
        let (dir, port, root) = (text(&self.dir), self.port, storage.root());
        format!(
            r#"
data_dir = "{dir}"
service_token = "{SERVICE_TOKEN}"

[[property]]
id = "site"
write_key = "{WRITE_KEY}"

[[region]]
id = "eu"
static_weights = {{ cdn-a = 50, cdn-b = 50 }}

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

[lake]
root = "{root}"

[collector]
listen = "127.0.0.1:{port}"
id = "crash-{number}"
commit_interval_s = 1
segment_max_bytes = 262144
rate_limit_key_per_s = 1000000
rate_limit_prefix_per_s = 1000000
"#
        )
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.dir.join("spillway.toml")
    }

    pub(super) fn wal_dir(&self) -> PathBuf {
        self.dir.join("wal")
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn restart_if_killed(&mut self, storage: &Storage) -> Result<(), String> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = self.dir.join("log");
        let log = File::options().create(true).append(true).open(&log).map_err(|error| format!("{log:?}: {error}"))?;
        let started = Command::new(&self.spillway)
            .args(["collector", "--config"])
            .arg(self.config_file())
            .env("RUST_LOG", "warn")
            .env("NO_COLOR", "1")
            .envs(storage.environment())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(started.map_err(|error| format!("start {}: {error}", self.spillway.display()))?);
        Ok(())
    }

    /// Until it answers, which it does once the WAL is read.
    pub(super) fn wait_until_ready(&mut self, patience: Duration) -> Result<(), String> {
        use std::io::{Read as _, Write as _};
        for _ in 0..patience.as_millis() / STEP.as_millis() {
            let ready = || -> std::io::Result<bool> {
                let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
                stream.set_read_timeout(Some(Duration::from_millis(500)))?;
                stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
                let mut answer = [0; 12];
                stream.read_exact(&mut answer)?;
                Ok(&answer == b"HTTP/1.1 200")
            };
            if ready().unwrap_or(false) {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok()?) {
                return Err(format!("a restarted collector ended with {status}: {}", self.said()));
            }
            std::thread::sleep(STEP);
        }
        Err(format!("a restarted collector takes no beacons within {patience:?}: {}", self.said()))
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("a collector ended by itself with {status}: {}", self.said()));
        }
        child.kill().and_then(|()| child.wait()).map(drop).map_err(|error| format!("kill a collector: {error}"))
    }

    /// SIGTERM; it must end well.
    pub(super) fn stop(&mut self, patience: Duration) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = terminate(&mut child, patience).ok_or("a collector does not stop")?;
        if status.success() { Ok(()) } else { Err(format!("a collector stopped with {status}: {}", self.said())) }
    }

    /// The end of its log.
    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `spillway load beacons` against the collectors, with a ledger.
pub(super) struct Load(Option<Child>);

impl Load {
    pub(super) fn start(campaign: &Campaign, fleet: &[Collector]) -> Result<Self, String> {
        let mut command = Command::new(&campaign.spillway);
        command.args([
            "load",
            "beacons",
            "--key",
            WRITE_KEY,
            "--events-per-beacon",
            "20",
            "--seconds",
            "3600",
            "--json",
        ]);
        command.args(["--connections", "16", "--views", "64"]);
        command.args(["--rate", &campaign.beacons_per_s.to_string(), "--seed", &campaign.seed.to_string()]);
        command.arg("--ledger").arg(campaign.dir.join("ledger"));
        for (flag, collector) in ["--url", "--failover"].into_iter().zip(fleet) {
            command.args([flag, &collector.url()]);
        }
        let started = command.stdout(Stdio::piped()).spawn();
        Ok(Self(Some(started.map_err(|error| format!("start the load: {error}"))?)))
    }

    /// Lets it finish what is under way; its summary.
    pub(super) fn stop(mut self, patience: Duration) -> Result<Value, String> {
        let mut child = self.0.take().ok_or("the load is not there")?;
        let status = terminate(&mut child, patience).ok_or("the load does not stop")?;
        let mut said = String::new();
        if let Some(mut output) = child.stdout.take() {
            std::io::Read::read_to_string(&mut output, &mut said).map_err(|error| format!("read the load: {error}"))?;
        }
        if !status.success() {
            return Err(format!("the load ended with {status}: {said}"));
        }
        serde_json::from_str(said.trim()).map_err(|error| format!("the load said {said:?}: {error}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// SIGTERM, then up to `patience`; killed and `None` if it did not end.
fn terminate(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    if told.is_ok_and(|status| status.success()) {
        for _ in 0..patience.as_millis() / STEP.as_millis() {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(STEP);
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

//! What system tests share: the real binary, started and killed.

pub mod crash;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Secret of the roles in tests.
pub const SERVICE_TOKEN: &str = "a-service-token-for-tests";
/// Write key of the property in tests.
pub const WRITE_KEY: &str = "write-key-1";

/// The `spillway` binary of this build.
///
/// # Panics
/// If it was not built: a system test without the real binary proves nothing.
#[must_use]
pub fn spillway() -> PathBuf {
    let here = std::env::current_exe().expect("a test has a path");
    let built = here.ancestors().nth(2).expect("target/<profile>/deps").join("spillway");
    assert!(built.exists(), "{} is missing: cargo build --profile demo -p spillway", built.display());
    built
}

/// `count` ports that are free now.
///
/// # Panics
/// If the machine has none.
#[must_use]
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until the last one is chosen, so that they differ.
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    std::array::from_fn(|index| held[index].local_addr().expect("bound").port())
}

/// Ports of a deployment under test.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Collector.
    pub collector: u16,
    /// Steering node.
    pub steer: u16,
    /// Orchestrator.
    pub orchestrator: u16,
    /// Dashboard.
    pub dashboard: u16,
    /// Where `cdn-a` would be.
    pub cdn_a: u16,
    /// Where `cdn-b` would be.
    pub cdn_b: u16,
}

impl Ports {
    /// Free ones.
    #[must_use]
    pub fn free() -> Self {
        let [collector, steer, orchestrator, dashboard, cdn_a, cdn_b] = free_ports();
        Self { collector, steer, orchestrator, dashboard, cdn_a, cdn_b }
    }
}

/// A configuration with one region (`eu`, by default every address) and two CDNs; `extra` comes last and may add
/// sections or replace none.
#[must_use]
pub fn config(data_dir: &Path, ports: Ports, extra: &str) -> String {
    let Ports { collector, steer, orchestrator, dashboard, cdn_a, cdn_b } = ports;
    let mut out = String::new();
    let _ = write!(
        out,
        r#"
data_dir = "{}"
service_token = "{SERVICE_TOKEN}"
bus_peers = ["http://127.0.0.1:{orchestrator}"]

[[token]]
name = "tester"
role = "admin"
sha256 = "{ADMIN_TOKEN_SHA256}"

[[property]]
id = "site"
write_key = "{WRITE_KEY}"

[[region]]
id = "eu"
control_share = 1.0
static_weights = {{ cdn-a = 50, cdn-b = 50 }}

[[pathway]]
id = "cdn-a"
base_url = "http://127.0.0.1:{cdn_a}"
capacity_mbps = 1000
price_usd_per_gb = 0.01

[[pathway]]
id = "cdn-b"
base_url = "http://127.0.0.1:{cdn_b}"
capacity_mbps = 1000
price_usd_per_gb = 0.02

[collector]
listen = "127.0.0.1:{collector}"

[steer]
listen = "127.0.0.1:{steer}"
public_url = "http://127.0.0.1:{steer}"
token_key = "0123456789abcdef0123456789abcdef"
origins = {{ default = "http://127.0.0.1:1" }}

[orchestrator]
listen = "127.0.0.1:{orchestrator}"
{extra}
[dashboard]
listen = "127.0.0.1:{dashboard}"
"#,
        data_dir.display(),
    );
    out
}

/// Admin token of the tests.
pub const ADMIN_TOKEN: &str = "an-admin-token-for-tests";
/// Its SHA-256 (`printf %s an-admin-token-for-tests | sha256sum`).
pub const ADMIN_TOKEN_SHA256: &str = "7bccd821f62a3fd2387075bf7c88c720e461b4c309a1089176cd104f9f60b520";

/// A running role; killed when dropped.
#[derive(Debug)]
pub struct Role {
    child: Child,
}

impl Role {
    /// Starts `spillway <arguments>` and waits until its ports are open.
    ///
    /// # Panics
    /// If it ends before, with what it said.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(spillway())
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut first = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        output.read_line(&mut first).expect("a line");
        if !first.contains("listening") {
            let mut said = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut said);
            panic!("spillway {arguments:?} did not start: {said}");
        }
        // Nobody reads on: its log must not fill the pipe and stop it.
        let mut errors = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = errors.read_to_end(&mut said);
        });
        Self { child }
    }

    /// SIGKILL: nothing is flushed.
    ///
    /// # Panics
    /// If it can't be killed.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGHUP: it reads its configuration again.
    ///
    /// # Panics
    /// If the signal can't be sent.
    pub fn hang_up(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill runs").success());
    }

    /// SIGTERM, then up to `patience` for its end; `None` if it did not end.
    ///
    /// # Panics
    /// If the signal can't be sent.
    pub fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        for _ in 0..patience.as_millis() / 50 {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        None
    }
}

impl From<Child> for Role {
    fn from(child: Child) -> Self {
        Self { child }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `spillway <arguments>` to its end: status, standard output, standard error.
///
/// # Panics
/// If it can't be started.
#[must_use]
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(spillway()).args(arguments).output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

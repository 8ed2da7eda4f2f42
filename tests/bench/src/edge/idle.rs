//! Connections that stay open and say nothing: what each costs the server's memory.
//!
//! They belong to another process, so that its descriptors are not ours, and come from several addresses, since one
//! address has about 28,000 ports.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::edge::client::Ask;
use crate::edge::origin::{Origin, path};
use crate::edge::servers::Cache;
use crate::http_load::{Target, connect_from};
use crate::process::{CLIENT_CORE, pinned};

const COUNT: usize = 15_000;
const KB_EACH_MAX: f64 = 10.0;
/// From one source address.
const PER_SOURCE: usize = 3_000;
/// Behind the last request, until memory is read.
const REST: Duration = Duration::from_secs(2);
/// Of so many connections one is asked again at the end, whether it lives.
const ASKED_AGAIN_EVERY: usize = 100;
const PATIENCE: Duration = Duration::from_secs(120);

/// The other process.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Port of the server on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Connections
    #[arg(long)]
    count: usize,
}

/// What came of it.
pub(crate) struct Idle {
    pub(crate) json: Value,
    pub(crate) reached: bool,
}

/// `ours` was started for this alone: memory that load has left behind would hide what connections take.
pub(crate) async fn measure(ours: &Cache) -> anyhow::Result<Idle> {
    let before_mb = ours.server.rss_mb()?;
    let mut clients = Clients::start(ours.port)?;
    // The origin of this process need not answer meanwhile: the one object is cached.
    ensure!(clients.line()? == "open", "the idle clients did not open");
    tokio::time::sleep(REST).await;
    let rss_mb = ours.server.rss_mb()?;
    let alive = clients.end()?;
    let alive: usize = alive.parse().with_context(|| format!("the idle clients said {alive:?}"))?;
    ensure!(alive == COUNT / ASKED_AGAIN_EVERY, "only {alive} of {} connections live", COUNT / ASKED_AGAIN_EVERY);
    let kb_each = (rss_mb - before_mb) * 1e3 / COUNT as f64;
    let reached = kb_each <= KB_EACH_MAX;
    let json = json!({
        "count": COUNT,
        "rss_mb": (rss_mb * 10.0).round() / 10.0,
        "rss_before_mb": (before_mb * 10.0).round() / 10.0,
        "kb_each": (kb_each * 100.0).round() / 100.0,
        "kb_each_max": KB_EACH_MAX,
        "reached": reached,
    });
    Ok(Idle { json, reached })
}

/// The other process, from here.
struct Clients(Child);

impl Clients {
    fn start(port: u16) -> anyhow::Result<Self> {
        let mut command: Command = pinned(CLIENT_CORE, &std::env::current_exe()?);
        command.args(["--spillway", "-", "edge-idle", "--port", &port.to_string(), "--count", &COUNT.to_string()]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// What it says next.
    fn line(&mut self) -> anyhow::Result<String> {
        let said = self.0.stdout.as_mut().context("its output")?;
        let mut line = String::new();
        BufReader::with_capacity(1, said).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// How many were alive.
    fn end(mut self) -> anyhow::Result<String> {
        drop(self.0.stdin.take());
        self.line()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens them, says so, keeps them until its input ends, and says how many of a sample still answer.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let limit = std::fs::read_to_string("/proc/self/limits")?;
    let files = limit.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default();
    let most: usize = files.split_whitespace().nth(3).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    ensure!(
        most > arguments.count + 64,
        "{} connections need more than {most} descriptors (ulimit -n)",
        arguments.count
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = Ask::new(&path(1024, 0), Origin::new().body(1024, 0));
    let target = Target::plain(arguments.port);
    let mut open = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            let mut open = Vec::new();
            for number in 0..arguments.count {
                let source = Ipv4Addr::new(127, 0, 1, u8::try_from(number / PER_SOURCE + 1)?);
                let mut connection = connect_from(source, &target).await?;
                let (status, body) = connection.ask(&ask.request).await?;
                ensure!(status == 200 && body == ask.body, "connection {number}: status {status}, or a wrong body");
                open.push(connection);
            }
            Ok(open)
        })
        .await
        .with_context(|| format!("{} connections took more than {PATIENCE:?}", arguments.count))?
    })?;
    println!("open");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let alive = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, async {
            let mut alive = 0;
            for connection in open.iter_mut().step_by(ASKED_AGAIN_EVERY) {
                alive += usize::from(connection.ask(&ask.request).await.is_ok_and(|(status, _)| status == 200));
            }
            alive
        })
        .await
    })?;
    println!("{alive}");
    Ok(())
}

//! What a server says of itself, now.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use spillway_model::Millis;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::ServerKind;
use super::config::AgentPlan;
use super::page::Page;
use crate::load::report::ratio_ppm;

/// A server that takes longer to say how it is isn't well.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// varnishstat writes some 50 KB; more with many backends.
const OUTPUT_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Varnish counts its seconds; a count that stands still for longer is what is left of a dead one.
const STILL_MS: u64 = 1_500;

/// One reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub connections: u64,
    /// Requests since the server's start.
    pub requests: u64,
    /// Bytes into sockets since the first reading, where the server counts them as they go.
    pub bytes_out: Option<u64>,
    /// Use of the disk tier.
    pub disk_ppm: Option<u32>,
}

/// Who is asked.
pub(super) enum Statistics {
    Nginx(Page),
    Varnish { instance: Option<String>, pulse: Pulse },
    Ats { page: Page, sent: Sent },
}

impl Statistics {
    pub(super) fn new(plan: &AgentPlan) -> Self {
        let page = plan.statistics.as_ref().map(Page::new);
        match (plan.server, page) {
            (ServerKind::Nginx, Some(page)) => Self::Nginx(page),
            (ServerKind::Ats, Some(page)) => Self::Ats { page, sent: Sent::default() },
            _ => Self::Varnish { instance: plan.instance.clone(), pulse: Pulse::default() },
        }
    }

    /// Asks; for at most a second.
    ///
    /// # Errors
    /// Why nothing is known.
    pub(super) async fn read(&mut self, at: Millis) -> Result<Reading, String> {
        match tokio::time::timeout(READ_TIMEOUT, self.ask(at)).await {
            Ok(reading) => reading,
            Err(_) => Err(format!("the statistics don't come within {} ms", READ_TIMEOUT.as_millis())),
        }
    }

    async fn ask(&mut self, at: Millis) -> Result<Reading, String> {
        match self {
            Self::Nginx(page) => stub_status(&String::from_utf8_lossy(&page.get().await?)),
            Self::Varnish { instance, pulse } => {
                let (reading, uptime) = varnishstat(&varnishstat_output(instance.as_deref()).await?)?;
                if pulse.beats(uptime, at) {
                    Ok(reading)
                } else {
                    Err(format!("varnishd doesn't live any more: its uptime stays {uptime} s"))
                }
            }
            Self::Ats { page, sent } => {
                let answer = page.get().await?;
                let reading = stats_over_http(&answer)?;
                let bytes_out = reading.bytes_out.map(|counter| sent.read(counter, answer.len() as u64));
                Ok(Reading { bytes_out, ..reading })
            }
        }
    }
}

/// Whether a count goes on.
#[derive(Debug, Default)]
pub(super) struct Pulse(Option<(u64, Millis)>);

impl Pulse {
    fn beats(&mut self, count: u64, at: Millis) -> bool {
        match self.0 {
            Some((known, since)) if known == count => at.saturating_sub(since).0 < STILL_MS,
            _ => {
                self.0 = Some((count, at));
                true
            }
        }
    }
}

/// What ATS has sent to others than the agent, whose questions are no deliveries.
#[derive(Debug, Default)]
pub(super) struct Sent {
    counter: Option<u64>,
    /// The last answer's length, which is in the next one's count.
    own: u64,
    total: u64,
}

impl Sent {
    /// Bytes since the first reading; `counter` stands in an answer of `own` bytes.
    fn read(&mut self, counter: u64, own: u64) -> u64 {
        // When it starts anew, ATS goes on from what it saved last: lower than before, and not nothing.
        let grown = self.counter.map_or(0, |before| counter.saturating_sub(before));
        self.total += grown.saturating_sub(self.own);
        (self.counter, self.own) = (Some(counter), own);
        self.total
    }
}

/// nginx's `stub_status`.
fn stub_status(page: &str) -> Result<Reading, String> {
    let bad = || {
        let shown: String = page.chars().take(80).collect();
        format!("{shown:?} is no stub_status page (Active connections: …)")
    };
    let active = page.lines().find_map(|line| line.strip_prefix("Active connections:")).ok_or_else(bad)?;
    let active: u64 = active.trim().parse().map_err(|_| bad())?;
    let mut counts = page.lines().skip_while(|line| !line.starts_with("server accepts handled requests")).skip(1);
    let requests = counts.next().and_then(|line| line.split_whitespace().nth(2)?.parse().ok()).ok_or_else(bad)?;
    // One of them is this question's.
    Ok(Reading { connections: active.saturating_sub(1), requests, ..Reading::default() })
}

async fn varnishstat_output(instance: Option<&str>) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("varnishstat: {error}");
    let mut command = Command::new("varnishstat");
    // Its first try tells.
    command
        .args(["-j", "-t", "0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(instance) = instance {
        command.args(["-n", instance]);
    }
    let mut child = command.spawn().map_err(failed)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let output = child.stdout.take().expect("it is piped").take(OUTPUT_MAX_BYTES);
    let errors = child.stderr.take().expect("it is piped").take(1_024);
    let (mut output, mut errors) = (output, errors);
    tokio::try_join!(output.read_to_end(&mut out), errors.read_to_end(&mut err)).map_err(failed)?;
    let status = child.wait().await.map_err(failed)?;
    if status.success() {
        return Ok(out);
    }
    Err(format!("varnishstat ended: {status}: {}", String::from_utf8_lossy(&err).trim()))
}

/// `varnishstat -j`, and how many seconds the child process lives.
fn varnishstat(output: &[u8]) -> Result<(Reading, u64), String> {
    let json: Value =
        serde_json::from_slice(output).map_err(|error| format!("varnishstat's output is no JSON: {error}"))?;
    // Up to version 6.4 they stood at the top.
    let counters = json.get("counters").unwrap_or(&json);
    let counters = counters.as_object().ok_or("varnishstat's output has no counters")?;
    let value = |name: &str| counters.get(name).and_then(|counter| counter.get("value")).and_then(Value::as_u64);
    let sum = |prefix: &str, suffix: &str| {
        let names = counters.keys().filter(|name| name.starts_with(prefix) && name.ends_with(suffix));
        names.filter_map(|name| value(name)).fold(0, u64::saturating_add)
    };
    let uptime = value("MAIN.uptime").ok_or("varnishstat has no MAIN.uptime: the child process doesn't run")?;
    let (used, free) = (sum("SMF.", ".g_bytes"), sum("SMF.", ".g_space"));
    let reading = Reading {
        connections: sum("MEMPOOL.sess", ".live"),
        requests: value("MAIN.client_req").unwrap_or(0),
        bytes_out: None,
        disk_ppm: ratio_ppm(used, used.saturating_add(free)),
    };
    Ok((reading, uptime))
}

/// ATS's `stats_over_http`: all values are strings.
fn stats_over_http(page: &[u8]) -> Result<Reading, String> {
    let json: Value = serde_json::from_slice(page).map_err(|error| format!("the statistics are no JSON: {error}"))?;
    let value = |name: &str| match json.get("global")?.get(name)? {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    let needed = |name: &str| value(name).ok_or_else(|| format!("the statistics have no {name}"));
    let (used, size) = (value("proxy.process.cache.bytes_used"), value("proxy.process.cache.bytes_total"));
    Ok(Reading {
        connections: needed("proxy.process.http.current_client_connections")?
            + value("proxy.process.http2.current_client_connections").unwrap_or(0),
        requests: value("proxy.process.http.incoming_requests").unwrap_or(0),
        bytes_out: Some(needed("proxy.process.net.write_bytes")?),
        disk_ppm: used.zip(size).and_then(|(used, size)| ratio_ppm(used, size)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nginx 1.22.1 wrote it.
    #[test]
    fn a_page_of_nginx() {
        let page = "Active connections: 291 \nserver accepts handled requests\n 16630948 16630948 31070465 \nReading: 6 Writing: 179 Waiting: 106 \n";
        assert_eq!(stub_status(page), Ok(Reading { connections: 290, requests: 31_070_465, ..Reading::default() }));
        for bad in ["", "<html>404</html>", "Active connections: many\n", "Active connections: 1\n"] {
            assert!(stub_status(bad).expect_err("bad").contains("no stub_status page"), "{bad}");
        }
    }

    /// As varnishstat 7.1.1 wrote it, shortened, with connections and a file of storage.
    #[test]
    fn counters_of_varnish() {
        let output = include_bytes!("samples/varnishstat.json");
        let read = varnishstat(output).expect("read");
        assert_eq!(read, (Reading { connections: 3, requests: 6, bytes_out: None, disk_ppm: Some(250_000) }, 38));
        let old = br#"{"MAIN.uptime":{"value":7},"MEMPOOL.sess0.live":{"value":2}}"#;
        assert_eq!(varnishstat(old), Ok((Reading { connections: 2, ..Reading::default() }, 7)));
        for (bad, word) in [("", "no JSON"), ("[]", "no counters"), (r#"{"counters":{}}"#, "MAIN.uptime")] {
            assert!(varnishstat(bad.as_bytes()).expect_err("bad").contains(word), "{bad}");
        }
    }

    #[test]
    fn what_a_dead_varnish_left_stands_still() {
        let mut pulse = Pulse::default();
        assert!(pulse.beats(7, Millis(0)));
        assert!(pulse.beats(7, Millis(1_000)), "it counts in seconds");
        assert!(!pulse.beats(7, Millis(2_000)));
        assert!(!pulse.beats(7, Millis(60_000)));
        assert!(pulse.beats(1, Millis(62_000)), "another one");
    }

    #[test]
    fn what_ats_sent_to_the_agent_is_left_out_and_a_restart_costs_nothing() {
        let mut sent = Sent::default();
        assert_eq!(sent.read(5_000_000, 40_000), 0);
        assert_eq!(sent.read(5_040_000, 40_000), 0, "nobody else asked");
        assert_eq!(sent.read(6_080_000, 40_000), 1_000_000);
        assert_eq!(sent.read(5_500_000, 40_000), 1_000_000, "it was started anew");
        assert_eq!(sent.read(5_840_000, 40_000), 1_300_000);
        assert_eq!(sent.read(0, 40_000), 1_300_000, "from nothing");
        assert_eq!(sent.read(540_000, 40_000), 1_800_000);
    }

    /// As ATS 9.2 wrote it, shortened, with connections.
    #[test]
    fn statistics_of_ats() {
        let page = include_bytes!("samples/stats_over_http.json");
        let read = stats_over_http(page).expect("read");
        let bytes_out = Some(3_002_480);
        assert_eq!(read, Reading { connections: 3, requests: 6, bytes_out, disk_ppm: Some(31_307) });
        for (bad, word) in [("", "no JSON"), ("{}", "current_client_connections")] {
            assert!(stats_over_http(bad.as_bytes()).expect_err("bad").contains(word), "{bad}");
        }
    }
}

//! varnishncsa as a child, where no log file is named: its lines, and another one when it dies.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use spillway_service::CancellationToken;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::lines::Lines;
use super::watched::Watched;

const PROGRAM: &str = "varnishncsa";
/// What a line says; the same as in `docs/edge-agent.md`. varnishncsa escapes what is in it (`-j`).
pub(super) const FORMAT: &str = concat!(
    r#"{"side":"%{Varnish:side}x","client":"%h","target":"%U%q","status":"%s","bytes_out":"%O","#,
    r#""cache":"%{Varnish:handling}x","agent":"%{User-Agent}i","cmcd_session":"%{CMCD-Session}i"}"#
);
/// The first pause before another one; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Of its errors, the end.
const SAID_BYTES: usize = 1_024;
const LAST_WORDS: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 64 * 1024;

/// Runs one varnishncsa after the other until `shutdown`.
pub(super) async fn run(instance: Option<String>, watched: Arc<Watched>, shutdown: CancellationToken) {
    let mut pause = PAUSE;
    loop {
        let begun = watched.now();
        let error = tokio::select! {
            error = follow(instance.as_deref(), &watched) => error,
            () = shutdown.cancelled() => return,
        };
        watched.log_is(Err(error));
        counter!("spillway_edge_agent_log_restarts_total").increment(1);
        if watched.now().saturating_sub(begun).0 > 1_000 * PAUSE_MAX.as_secs() {
            pause = PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Hands its lines on until it ends; says how it ended. It ends when this is dropped.
async fn follow(instance: Option<&str>, watched: &Watched) -> String {
    let mut command = Command::new(PROGRAM);
    // It waits until there is a varnishd; statistics tell if there is none.
    command.args(["-t", "off", "-c", "-b", "-j", "-F", FORMAT]);
    if let Some(instance) = instance {
        command.args(["-n", instance]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("{PROGRAM} doesn't start: {error}"),
    };
    let mut output = child.stdout.take().expect("it is piped");
    let mut errors = child.stderr.take().expect("it is piped");
    let (mut lines, mut buffer) = (Lines::default(), Vec::with_capacity(READ_BYTES));
    let (mut said, mut says) = (Vec::new(), true);
    watched.log_is(Ok(()));
    loop {
        buffer.clear();
        tokio::select! {
            read = output.read_buf(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(_) => lines.push(&buffer, |line| watched.line(line)),
            },
            read = errors.read_buf(&mut said), if says => {
                says = matches!(read, Ok(1..));
                said.drain(..said.len().saturating_sub(SAID_BYTES));
            }
        }
    }
    // Why it ends may come last.
    if says {
        let _ = tokio::time::timeout(LAST_WORDS, errors.take(SAID_BYTES as u64).read_to_end(&mut said)).await;
    }
    // Who has closed its output is of no use any more.
    let _ = child.start_kill();
    let said = String::from_utf8_lossy(&said);
    // Dots tell that it waits.
    let last = said.lines().map(|line| line.trim_matches(['.', ' '])).rfind(|line| !line.is_empty()).unwrap_or("-");
    match child.wait().await {
        Ok(status) => format!("{PROGRAM} ended: {status}; it said: {last}"),
        Err(error) => format!("{PROGRAM} ended: {error}"),
    }
}

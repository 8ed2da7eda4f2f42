//! The processes under test: started, watched, and ended in order.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

const LAST_LINES: usize = 12;

/// Running child processes.
#[derive(Debug, Default)]
pub struct Children {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    reported: bool,
}

impl Children {
    /// Starts `program` with `arguments`; what it says goes to `log`.
    ///
    /// # Errors
    /// If the log can't be written or the program not be started.
    pub fn start(&mut self, name: &str, program: &Path, arguments: &[&str], log: &Path) -> anyhow::Result<()> {
        let file = File::create(log).with_context(|| format!("write the log {}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share a log")?)
            .stderr(file)
            // Ctrl-C is for the demo, which then ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {} ({name})", program.display()))?;
        self.running.push(Running { name: name.to_owned(), child, log: log.to_owned(), reported: false });
        Ok(())
    }

    /// Those that ended although nobody asked them to, each once, with their last words.
    pub fn dead(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for running in self.running.iter_mut().filter(|running| !running.reported) {
            if let Ok(Some(status)) = running.child.try_wait() {
                running.reported = true;
                out.push(format!("{} ended by itself ({status}):\n{}", running.name, last_lines(&running.log)));
            }
        }
        out
    }

    /// Asks all to end, and kills what has not ended after `grace`. Returns the names of those that had to be killed.
    pub async fn stop(mut self, grace: Duration) -> Vec<String> {
        for running in &self.running {
            if let Some(pid) = running.child.id() {
                // The standard library can only kill; `kill` can ask.
                let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await;
                if !asked.is_ok_and(|status| status.success()) {
                    tracing::warn!(name = running.name, "could not send SIGTERM");
                }
            }
        }
        let deadline = Instant::now() + grace;
        let mut killed = Vec::new();
        for running in &mut self.running {
            if tokio::time::timeout_at(deadline, running.child.wait()).await.is_err() {
                killed.push(running.name.clone());
                if let Err(error) = running.child.kill().await {
                    tracing::warn!(name = running.name, %error, "could not kill");
                }
            }
        }
        killed
    }
}

/// The end of a log, for error messages.
#[must_use]
pub fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    let shown: Vec<String> = lines[from..].iter().map(|line| format!("    {line}")).collect();
    if shown.is_empty() { format!("    (nothing in {})", log.display()) } else { shown.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_child_that_ends_by_itself_is_reported_once_with_its_last_words() {
        let dir = tempfile::tempdir().expect("dir");
        let mut children = Children::default();
        let log = dir.path().join("log");
        children.start("role", Path::new("sh"), &["-c", "echo the reason >&2; exit 64"], &log).expect("starts");
        let dead = loop {
            let dead = children.dead();
            if !dead.is_empty() {
                break dead;
            }
            tokio::task::yield_now().await;
        };
        assert!(
            dead[0].contains("role ended by itself (exit status: 64)") && dead[0].contains("the reason"),
            "{dead:?}"
        );
        assert!(children.dead().is_empty());
        assert!(children.stop(GRACE).await.is_empty());
    }

    #[tokio::test]
    async fn a_child_is_asked_before_it_is_killed() {
        let dir = tempfile::tempdir().expect("dir");
        let mut children = Children::default();
        let log = dir.path().join("log");
        let script = "trap 'echo drained; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        children.start("role", Path::new("sh"), &["-c", script], &log).expect("starts");
        while !last_lines(&log).contains("ready") {
            tokio::task::yield_now().await;
        }
        assert!(children.stop(GRACE).await.is_empty());
        assert!(last_lines(&log).contains("drained"));
    }
}

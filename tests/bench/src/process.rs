//! Processes of a benchmark: pinned to a core, measured by the kernel, ended with us.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Core of the server under test, and of its peer.
pub(crate) const SERVER_CORE: u8 = 0;
/// Core of the client.
pub(crate) const CLIENT_CORE: u8 = 1;
/// Unit of the kernel's process times: `USER_HZ`, 100 on every Linux of today.
const TICKS_PER_S: f64 = 100.0;
/// A server has 15 s to end after SIGTERM: asked this often, with 50 ms between.
const ASKS_UNTIL_ENDED: u32 = 300;

/// `program` on one core, with descriptors for many connections.
pub(crate) fn pinned(core: u8, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$(ulimit -Hn)\"; exec taskset -c \"$0\" \"$@\""]).arg(core.to_string());
    command.arg(program);
    command
}

/// Puts this process, the client, onto its core; what it starts says itself where it belongs.
pub(crate) fn stay_on_the_clients_core() -> anyhow::Result<()> {
    let me = std::process::id().to_string();
    let told = Command::new("taskset").args(["-a", "-c", "-p", &CLIENT_CORE.to_string(), &me]).output()?;
    ensure!(told.status.success(), "taskset: {}", String::from_utf8_lossy(&told.stderr));
    Ok(())
}

/// Runs to the end; the last line of its standard output as JSON.
pub(crate) fn json(command: &mut Command) -> anyhow::Result<Value> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("{command:?}: {}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let last = said.lines().last().with_context(|| format!("{command:?} said nothing"))?;
    serde_json::from_str(last).with_context(|| format!("{command:?} said {last:?}"))
}

/// A number of a JSON object.
pub(crate) fn number(value: &Value, key: &str) -> anyhow::Result<f64> {
    value[key].as_f64().with_context(|| format!("{key} is no number in {value}"))
}

/// A server with its children; ended with this value.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?))
    }

    /// CPU time so far, user and system, of it and its children, s.
    pub(crate) fn cpu_s(&self) -> anyhow::Result<f64> {
        let ticks: u64 = self.processes()?.iter().map(|process| process.ticks).sum();
        Ok(ticks as f64 / TICKS_PER_S)
    }

    /// Resident memory, of it and its children, MB.
    pub(crate) fn rss_mb(&self) -> anyhow::Result<f64> {
        self.processes()?.iter().map(|process| status_mb(process.id, "VmRSS:")).sum()
    }

    /// Files of memory (memfd) that it has open, MB: no process's set of pages holds them.
    pub(crate) fn memory_files_mb(&self) -> anyhow::Result<f64> {
        let mut files = BTreeMap::new();
        for process in self.processes()? {
            // One may be closed while this is read.
            for open in std::fs::read_dir(format!("/proc/{}/fd", process.id))?.flatten() {
                let target = std::fs::read_link(open.path());
                // No path, and not compared as one.
                let of_memory = target.is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:"));
                if of_memory && let Ok(file) = std::fs::metadata(open.path()) {
                    files.insert(file.ino(), file.blocks() * 512);
                }
            }
        }
        Ok(files.values().sum::<u64>() as f64 / 1e6)
    }

    /// Itself, its children, and theirs.
    fn processes(&self) -> anyhow::Result<Vec<Process>> {
        let mut others: Vec<Process> = std::fs::read_dir("/proc")?
            .filter_map(|entry| Process::read(entry.ok()?.file_name().to_str()?.parse().ok()?).ok())
            .collect();
        let mut own = vec![Process::read(self.0.id())?];
        let mut at = 0;
        while let Some(parent) = own.get(at).map(|process| process.id) {
            own.extend(others.extract_if(.., |process| process.parent == parent));
            at += 1;
        }
        Ok(own)
    }

    /// Largest resident memory so far, MB.
    pub(crate) fn rss_mb_max(&self) -> anyhow::Result<f64> {
        status_mb(self.0.id(), "VmHWM:")
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Ends a server that holds nothing.
    pub(crate) fn end_hard(mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let pid = self.0.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill -TERM {pid}");
        for _ in 0..ASKS_UNTIL_ENDED {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the server did not end within 15 s of SIGTERM")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Children of a master that is killed would live on.
        let children = self.processes().unwrap_or_default().into_iter().skip(1);
        let children: Vec<String> = children.map(|child| child.id.to_string()).collect();
        let _ = self.0.kill();
        let _ = self.0.wait();
        if !children.is_empty() {
            let _ = Command::new("kill").arg("-KILL").args(children).stderr(Stdio::null()).status();
        }
    }
}

/// What the kernel says of a process.
struct Process {
    id: u32,
    parent: u32,
    /// CPU time, with that of children that have ended.
    ticks: u64,
}

impl Process {
    fn read(id: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name in parentheses may hold blanks; the fields behind it begin with the third.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        ensure!(fields.len() > 15, "/proc/{id}/stat is {stat:?}");
        let ticks = fields[11..15].iter().map(|field| field.parse::<u64>()).sum::<Result<_, _>>()?;
        Ok(Self { id, parent: fields[1].parse()?, ticks })
    }
}

/// A size that the kernel says of a process, MB.
fn status_mb(id: u32, key: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key} of {id}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0 / 1e6)
}

/// CPU time of this process, the client, so far, s.
pub(crate) fn own_cpu_s() -> anyhow::Result<f64> {
    Ok(Process::read(std::process::id())?.ticks as f64 / TICKS_PER_S)
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

//! What the system says of a server's processes: the master and all below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use spillway_model::Millis;

use crate::load::process::{self, TICKS_PER_S};

/// More are not looked at: nobody runs so many, and a wrong pid file may name the first process of the machine.
const PROCESSES_MAX: usize = 1_024;

/// Which processes are the server's.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// File with the master's process id.
    pub pid_file: Option<PathBuf>,
    /// The master's name, where there is no such file.
    pub name: String,
}

/// The server's processes at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processes {
    masters: Vec<u32>,
    /// CPU time of each, by id.
    ticks: BTreeMap<u32, u64>,
    /// Memory of all; what they share counts once.
    pub memory_bytes: Option<u64>,
    at: Millis,
}

impl Processes {
    /// Looks at them all; reads some small files of the system, and may block for a moment. `before` knows the masters.
    pub(super) fn look(wanted: &Wanted, before: &Self, at: Millis) -> Self {
        let masters = match &wanted.pid_file {
            Some(file) => fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).into_iter().collect(),
            None => known_or_found(&before.masters, &wanted.name),
        };
        let all = with_children(&masters);
        let ticks = all.iter().filter_map(|pid| Some((*pid, process::ticks(&read(*pid, "stat")?)?))).collect();
        Self { ticks, memory_bytes: memory_bytes(&all), masters, at }
    }

    /// Share of one core since `before`, ppm; `None` without processes, now or then.
    pub(super) fn cpu_ppm_since(&self, before: &Self) -> Option<u32> {
        if self.ticks.is_empty() || before.ticks.is_empty() {
            return None;
        }
        // One that is new began since then.
        let used = |(pid, ticks): (&u32, &u64)| ticks.saturating_sub(before.ticks.get(pid).copied().unwrap_or(0));
        let used: u64 = self.ticks.iter().map(used).sum();
        let elapsed_ms = self.at.saturating_sub(before.at).0;
        u32::try_from((used * 1000 / TICKS_PER_S * 1_000_000).checked_div(elapsed_ms)?).ok()
    }
}

fn read(pid: u32, file: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/{file}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The whole table is looked through only when a master is gone.
fn known_or_found(known: &[u32], name: &str) -> Vec<u32> {
    if !known.is_empty() && known.iter().all(|pid| is_called(*pid, name)) {
        return known.to_vec();
    }
    let Ok(table) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = table.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<u32> = pids.filter(|pid| is_called(*pid, name)).collect();
    // Workers have their master's name: who has one above is none.
    let called = found.clone();
    found.retain(|pid| parent(*pid).is_none_or(|parent| !called.contains(&parent)));
    found
}

/// By the system's name for it, which ATS changes, or by what it was started as, which nginx changes.
fn is_called(pid: u32, name: &str) -> bool {
    let system = read(pid, "comm").is_some_and(|comm| comm.trim_end() == name);
    system || read(pid, "cmdline").is_some_and(|line| program(&line) == name)
}

/// `nginx: master process /usr/sbin/nginx`, `/usr/bin/traffic_server\0--run-root`.
fn program(command_line: &str) -> &str {
    let first = command_line.split(['\0', ' ', ':']).next().unwrap_or_default();
    first.rsplit('/').next().unwrap_or_default()
}

fn parent(pid: u32) -> Option<u32> {
    read(pid, "stat")?.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn with_children(masters: &[u32]) -> Vec<u32> {
    let mut all = masters.to_vec();
    let mut next = 0;
    while let Some(pid) = all.get(next).copied()
        && all.len() < PROCESSES_MAX
    {
        next += 1;
        let children = read(pid, &format!("task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            if !all.contains(&child) {
                all.push(child);
            }
        }
    }
    all
}

/// What each has alone, and once what the one with most shares: caches lie in memory that all workers see.
fn memory_bytes(pids: &[u32]) -> Option<u64> {
    let statuses: Vec<String> = pids.iter().filter_map(|pid| read(*pid, "status")).collect();
    let field = |status: &str, name| process::status_bytes(status, name);
    let alone = statuses.iter().filter_map(|status| field(status, "RssAnon:"));
    let shared = |status: &String| Some(field(status, "RssFile:")? + field(status, "RssShmem:")?);
    let most_shared = statuses.iter().filter_map(shared).max()?;
    Some(alone.sum::<u64>() + most_shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_under_what_it_calls_itself() {
        for (line, name) in [
            ("nginx: master process nginx -c /etc/nginx.conf\0", "nginx"),
            ("/usr/bin/traffic_server\0--run-root=/x\0", "traffic_server"),
            ("varnishd\0-F\0", "varnishd"),
            ("", ""),
        ] {
            assert_eq!(program(line), name, "{line}");
        }
    }

    #[test]
    fn children_count_with_their_master() {
        use std::io::Read as _;
        use std::process::{Command, Stdio};
        let script = "exec 3<&0; cat <&3 >/dev/null & echo x; wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().expect("a shell");
        shell.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("its child has begun");
        let dir = tempfile::tempdir().expect("dir");
        let pid_file = dir.path().join("pid");
        fs::write(&pid_file, format!("{}\n", shell.id())).expect("written");
        let by_file = Wanted { pid_file: Some(pid_file), name: "unused".into() };
        let both = Processes::look(&by_file, &Processes::default(), Millis(1_000));
        assert!(both.ticks.len() == 2 && both.ticks.contains_key(&shell.id()), "{both:?}");
        assert!(both.memory_bytes.is_some_and(|bytes| bytes > 100_000), "{both:?}");
        drop(shell.stdin.take());
        shell.wait().expect("both end");

        let nobody = Processes::look(&by_file, &both, Millis(2_000));
        assert_eq!((nobody.memory_bytes, nobody.cpu_ppm_since(&both)), (None, None));
        let by_name = Wanted { pid_file: None, name: "no-such-program".into() };
        assert!(Processes::look(&by_name, &both, Millis(3_000)).masters.is_empty());
    }

    #[test]
    fn cpu_is_the_sum_and_a_new_worker_began_at_nothing() {
        let at = |at, ticks: &[(u32, u64)]| Processes {
            ticks: ticks.iter().copied().collect(),
            at: Millis(at),
            ..Processes::default()
        };
        let before = at(0, &[(1, 100), (2, 100)]);
        assert_eq!(at(2_000, &[(1, 150), (3, 50)]).cpu_ppm_since(&before), Some(500_000));
        assert_eq!(at(0, &[(1, 150)]).cpu_ppm_since(&before), None);
    }
}

//! What the system says of this process; `None` where it doesn't.

use spillway_model::Millis;

/// Linux's unit of CPU time towards programs, whatever the kernel's own clock is.
pub(crate) const TICKS_PER_S: u64 = 100;

/// CPU time at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    ticks: u64,
    at: Millis,
}

impl CpuTime {
    /// CPU time of this process so far.
    pub(crate) async fn read(at: Millis) -> Option<Self> {
        let stat = tokio::fs::read_to_string("/proc/self/stat").await.ok()?;
        Some(Self { ticks: ticks(&stat)?, at })
    }

    /// Share of one core since `before`, ppm.
    pub(crate) fn ppm_since(self, before: Self) -> Option<u32> {
        let elapsed_ms = self.at.saturating_sub(before.at).0;
        let used_ms = self.ticks.saturating_sub(before.ticks) * 1000 / TICKS_PER_S;
        u32::try_from((used_ms * 1_000_000).checked_div(elapsed_ms)?).ok()
    }
}

/// Resident memory of this process, bytes.
pub(crate) async fn memory_bytes() -> Option<u64> {
    status_bytes(&tokio::fs::read_to_string("/proc/self/status").await.ok()?, "VmRSS:")
}

/// User and system time. The second field, the program's name, may hold spaces and parentheses.
pub(crate) fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// A size in a process's status; `name` with its colon.
pub(crate) fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_found_in_what_linux_writes() {
        let stat = "4242 (a) b (c)) S 1 4242 4242 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 4 0 12345 1000 200";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("nonsense"), None);
        assert_eq!(status_bytes("Name:\tx\nVmRSS:\t    2048 kB\nVmData:\t 9 kB\n", "VmRSS:"), Some(2 * 1024 * 1024));
        let before = CpuTime { ticks: 100, at: Millis(0) };
        assert_eq!(CpuTime { ticks: 200, at: Millis(2_000) }.ppm_since(before), Some(500_000));
        assert_eq!(before.ppm_since(before), None);
    }
}

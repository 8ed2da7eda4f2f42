//! The ceiling: all bodies of a CDN share one line.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

const BURST: Duration = Duration::from_millis(100);

/// A token bucket kept as the moment when the line is free again. Chunks get their turn in the
/// order they ask, so that bodies share the line evenly.
pub(crate) struct Pacer {
    capacity_bps: u64,
    free_at: Mutex<Instant>,
}

impl Pacer {
    /// `capacity_bps` above 0.
    pub(crate) fn new(capacity_bps: u64) -> Self {
        Self { capacity_bps, free_at: Mutex::new(Instant::now()) }
    }

    /// Waits until these bytes may be sent.
    pub(crate) async fn wait(&self, size_bytes: usize) {
        let at = self.reserve(size_bytes);
        tokio::time::sleep_until(at).await;
    }

    fn reserve(&self, size_bytes: usize) -> Instant {
        let nanos = size_bytes as u64 * 8 * 1_000_000_000 / self.capacity_bps;
        let now = Instant::now();
        let mut free_at = self.free_at.lock().expect("nothing panics while reserving");
        // An idle line saves up one burst, no more.
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let at = (*free_at).max(earliest);
        *free_at = at + Duration::from_nanos(nanos);
        at
    }
}

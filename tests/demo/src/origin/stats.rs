//! What the origin has served, by class of resource.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::Serialize;

/// Requests and bytes of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassStats {
    /// Requests, `HEAD` included.
    pub requests: u64,
    /// Bytes of bodies.
    pub bytes: u64,
}

/// Everything since the origin started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OriginStats {
    /// All requests but preflights.
    pub requests: u64,
    /// Bytes of all bodies.
    pub bytes: u64,
    /// By class: `multivariant`, `media_playlist`, `mpd`, `init`, `vod_segment`, `live_segment`,
    /// `not_found`. A class that was never asked for is absent.
    pub by_class: BTreeMap<&'static str, ClassStats>,
}

#[derive(Default)]
pub(crate) struct Counters(Mutex<OriginStats>);

impl Counters {
    pub(crate) fn add(&self, class: &'static str, bytes: u64) {
        let mut stats = self.0.lock().expect("nothing panics while counting");
        stats.requests += 1;
        stats.bytes += bytes;
        let by_class = stats.by_class.entry(class).or_default();
        by_class.requests += 1;
        by_class.bytes += bytes;
    }

    pub(crate) fn snapshot(&self) -> OriginStats {
        self.0.lock().expect("nothing panics while counting").clone()
    }
}

//! How much memory bodies take: those that are kept, and those that are not any more and are still being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of bodies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies(Arc<AtomicU64>);

impl Bodies {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts so many more, until that is dropped.
    pub(crate) fn hold(&self, bytes: u64) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held { all: self.clone(), bytes }
    }
}

/// Bytes that are counted.
#[derive(Debug)]
pub(crate) struct Held {
    all: Bodies,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

//! How rooms meet: [`Bus`] (publish and subscribe of bytes) and [`Store`] (get, compare-and-set, watch).
//!
//! Embedded: [`LocalBus`] in process and [`DirStore`] on the local disk. Across processes: [`HttpPush`] forwards what
//! is published to the peers' `POST /internal/bus/{topic}`, which [`http_router`] puts onto their local bus. NATS is
//! not there yet.
//!
//! Invariant: bytes only; this crate knows no wire shape and takes no decision.

mod dir_store;
mod http;
mod local;

use async_trait::async_trait;
use bytes::Bytes;

pub use dir_store::DirStore;
pub use http::{HttpPush, http_router};
pub use local::{LocalBus, Subscription};

/// Publish and subscribe. At most once, in order per publisher; a slow subscriber loses the oldest and is told.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Hands `message` to every subscriber of `topic`. Never blocks on one of them.
    async fn publish(&self, topic: &str, message: Bytes);
    /// Everything published on `topic` from now on.
    fn subscribe(&self, topic: &str) -> Subscription;
}

/// A value with its version; versions of a key only grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Version; 1 for the first value.
    pub version: u64,
    /// The bytes.
    pub value: Bytes,
}

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key has another version than expected.
    #[error("key {key:?} has version {found} instead of {expected}")]
    Conflict {
        /// The key.
        key: String,
        /// What the caller thought.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A key that cannot be one.
    #[error("key {0:?} is not a path of [A-Za-z0-9._-] parts separated by single slashes")]
    BadKey(String),
    /// The disk or the peer failed.
    #[error("store access to {key:?}: {source}")]
    Io {
        /// The key.
        key: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A small consistent key-value store: manifests, overrides, drills, leases.
#[async_trait]
pub trait Store: Send + Sync {
    /// The value of `key`, if there is one.
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;
    /// Sets `key` if its version is `expected` (0: it must not exist). Returns the new version.
    async fn compare_and_set(&self, key: &str, expected: u64, value: Bytes) -> Result<u64, StoreError>;
    /// Keys that begin with `prefix`, in order.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
    /// Waits until `key` has a version above `seen`, and returns it. Cancel by dropping.
    async fn changed(&self, key: &str, seen: u64) -> Result<Versioned, StoreError>;
    /// Removes `key`; no error if it is not there.
    async fn remove(&self, key: &str) -> Result<(), StoreError>;
}

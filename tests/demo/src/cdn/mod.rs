//! An emulated commercial CDN: a small cache in front of the origin, a ceiling, a price, and a
//! fault layer.
//!
//! A request's path: `connection` knows the peer's address → `client` makes a region and an ASN
//! of it → [`faults`] says what goes wrong for it → `cache` finds or fetches the object → `body`
//! sends it at the pace of the ceiling and of the faults → `stats` counts it. [`control`] sets
//! faults and reads counters over HTTP.
//!
//! Clients bind 127.(region).(asn).x, so that region and network are properties of a connection,
//! as they are in the world.
//!
//! Not emulated: ranges, revalidation, `Vary`, stale answers, cache hierarchies. Query strings do
//! not reach the cache key or the origin.

mod body;
mod cache;
mod client;
mod connection;
pub mod control;
mod fault_json;
pub mod faults;
mod handler;
mod pace;
mod stats;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use serde::Deserialize;
use tokio::net::TcpListener;
use url::Url;

use cache::Cache;
use connection::{CdnListener, Connection};
use faults::Faults;
use pace::Pacer;
use stats::Counters;

pub use control::control_router;
pub use stats::{CdnStats, RegionStats};

/// Region of a client whose address is not in the configuration.
pub const UNKNOWN_REGION: &str = "unknown";

/// ASN of a client whose address is not in the configuration (reserved by RFC 7607).
pub const UNKNOWN_ASN: u32 = 0;

const DEFAULT_CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// What one emulated CDN is like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CdnConfig {
    /// Pathway id: ASCII letters, digits, `-` and `_`.
    pub name: String,
    /// Where it fetches from, without a path: `http://127.0.0.1:8080`.
    pub origin_base_url: String,
    /// Ceiling in bits per second over all clients; above it, bodies slow down.
    pub capacity_bps: u64,
    /// Price of 10^9 bytes sent to clients.
    pub price_usd_per_gb: f64,
    /// Added to every answer.
    #[serde(default)]
    pub base_latency_ms: u64,
    /// Bound of the cache; 64 MiB unless given.
    #[serde(default = "default_cache_bytes")]
    pub cache_bytes: u64,
    /// Second octet of a client's address → its region.
    #[serde(default)]
    pub regions: BTreeMap<u8, String>,
    /// Third octet of a client's address → its ASN.
    #[serde(default)]
    pub asns: BTreeMap<u8, u32>,
}

fn default_cache_bytes() -> u64 {
    DEFAULT_CACHE_BYTES
}

/// Why a CDN could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum CdnError {
    /// The name can't stand in a header.
    #[error("use the name `{0}` (valid: ASCII letters, digits, `-`, `_`)")]
    Name(String),
    /// The origin's address can't be read.
    #[error("use the origin `{0}` (valid: http://HOST:PORT)")]
    Origin(String),
    /// A ceiling of nothing.
    #[error("use capacity_bps 0 (valid: above 0)")]
    Capacity,
    /// The HTTP client for the origin could not be made.
    #[error("make the client for the origin: {0}")]
    Client(#[from] reqwest::Error),
}

/// One running emulated CDN.
pub struct Cdn {
    config: CdnConfig,
    faults: Faults,
    counters: Counters,
    cache: Arc<Cache>,
    pacer: Pacer,
    requests: AtomicU64,
}

impl Cdn {
    /// Checks the configuration; nothing listens yet.
    ///
    /// # Errors
    /// If a value can't be used; the message says what would be valid.
    pub fn new(config: CdnConfig) -> Result<Arc<Self>, CdnError> {
        let valid_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if config.name.is_empty() || !config.name.bytes().all(valid_name) {
            return Err(CdnError::Name(config.name));
        }
        if config.capacity_bps == 0 {
            return Err(CdnError::Capacity);
        }
        let origin = Url::parse(&config.origin_base_url)
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host() && url.path() == "/")
            .ok_or_else(|| CdnError::Origin(config.origin_base_url.clone()))?;
        Ok(Arc::new(Self {
            faults: Faults::default(),
            counters: Counters::default(),
            cache: Cache::new(origin, config.cache_bytes)?,
            pacer: Pacer::new(config.capacity_bps),
            requests: AtomicU64::new(0),
            config,
        }))
    }

    /// The configuration it runs with.
    #[must_use]
    pub fn config(&self) -> &CdnConfig {
        &self.config
    }

    /// Its pathway id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The faults in force, to be read and changed.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> CdnStats {
        self.counters.snapshot(&self.config, &self.cache)
    }

    /// Its routes. Regions, ASNs and resets need [`serve`], which knows the connection.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(handler::handle).with_state(Arc::clone(self))
    }
}

/// Serves a CDN until the future is dropped.
///
/// # Errors
/// None in practice: failing accepts are retried.
pub async fn serve(listener: TcpListener, cdn: Arc<Cdn>) -> std::io::Result<()> {
    let service = cdn.router().into_make_service_with_connect_info::<Connection>();
    axum::serve(CdnListener::new(listener), service).await
}

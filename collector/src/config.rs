//! What an operator may set.

use std::net::SocketAddr;

use serde::Deserialize;
use spillway_lake::wal::Durability;
use spillway_service::config::ConfigError;
use spillway_service::tls::TlsConfig;

/// `[collector]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollectorConfig {
    /// Address to listen on. Default `127.0.0.1:4300`.
    pub listen: SocketAddr,
    /// Another port, for players only, that speaks TLS. Default: none.
    pub tls: Option<TlsConfig>,
    /// Id: names its commits in the table and its frames; no two collectors of a lake may share it. Default
    /// `collector-1`.
    pub id: String,
    /// Path of beacons; ad blockers list the obvious ones. Default `/v1/beacons`.
    pub path: String,
    /// Path of CMCD in event mode. Default `/v1/cmcd`.
    pub cmcd_path: String,
    /// When an event is durable: `fsync` or `os`. Default `fsync`.
    pub durability: Durability,
    /// Longest wait for company before a group is written, ms. Default 20.
    pub group_commit_ms: u64,
    /// Interval of commits to the table, s. Default 5.
    pub commit_interval_s: u64,
    /// A commit comes earlier when so many bytes wait, as they are in the WAL. Default 64 MiB.
    pub commit_max_bytes: usize,
    /// A WAL segment is closed at this size, bytes; segments are removed as a whole, once all in them is committed.
    /// Default 64 MiB.
    pub segment_max_bytes: u64,
    /// Heartbeat interval that senders are told, s. Default 10.
    pub heartbeat_s: u32,
    /// Beacons that wait to be written, bytes. Default 64 MiB.
    pub queue_max_bytes: usize,
    /// Rows that wait to be committed, bytes; above it beacons are put off. Default 512 MiB.
    pub tail_max_bytes: usize,
    /// A body must have come by then, ms. Default 10,000.
    pub body_timeout_ms: u64,
    /// Beacons a second of one write key; a burst may be twice that. Default 20,000.
    pub rate_limit_key_per_s: u32,
    /// Beacons a second of one /24 (IPv6: /48); a burst may be twice that. Default 200.
    pub rate_limit_prefix_per_s: u32,
    /// Weight of one /24 (/48) in a pathway's health, share of the cell, 0 to 1. Default 0.05.
    pub weight_cap_prefix_share: f64,
    /// The cap holds from this many views in the cell on. Default 50.
    pub weight_cap_min_views: usize,
    /// Views followed at a time. Default 1,000,000.
    pub views_max: usize,
    /// Refused events that are kept in `quarantine`, bytes a second of one property; 256 seconds' worth may come at
    /// once. 0: none. Default 4,096 (at most 354 MB a day).
    pub quarantine_bytes_per_s: u32,
    /// Header in which a trusted proxy in front names the client's address. Default: none.
    pub trusted_header: Option<String>,
    /// Set a damaged WAL segment aside at the start instead of refusing to start. Default false.
    pub skip_corrupt: bool,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4300)),
            tls: None,
            id: "collector-1".into(),
            path: "/v1/beacons".into(),
            cmcd_path: "/v1/cmcd".into(),
            durability: Durability::Fsync,
            group_commit_ms: 20,
            commit_interval_s: 5,
            commit_max_bytes: 64 << 20,
            segment_max_bytes: 64 << 20,
            heartbeat_s: 10,
            queue_max_bytes: 64 << 20,
            tail_max_bytes: 512 << 20,
            body_timeout_ms: 10_000,
            rate_limit_key_per_s: 20_000,
            rate_limit_prefix_per_s: 200,
            weight_cap_prefix_share: 0.05,
            weight_cap_min_views: 50,
            views_max: 1_000_000,
            quarantine_bytes_per_s: 4_096,
            trusted_header: None,
            skip_corrupt: false,
        }
    }
}

impl CollectorConfig {
    /// Checks what the types don't.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with key, value and what is valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fails = |key: &str, value: &dyn std::fmt::Display, valid: &str| {
            Err(ConfigError::invalid(format!("collector.{key}"), value, valid))
        };
        if spillway_model::NodeId::new(&self.id).is_err() {
            return fails("id", &self.id, "1 to 64 characters of [A-Za-z0-9._-]");
        }
        for (key, path) in [("path", &self.path), ("cmcd_path", &self.cmcd_path)] {
            if !is_free_path(path) {
                return fails(key, path, "a path of [A-Za-z0-9._/-] such as /v1/beacons that is not ours already");
            }
        }
        if self.path == self.cmcd_path {
            return fails("cmcd_path", &self.cmcd_path, "another path than collector.path");
        }
        if self.group_commit_ms > 1_000 {
            return fails("group_commit_ms", &self.group_commit_ms, "0 to 1000");
        }
        if !(1..=300).contains(&self.commit_interval_s) {
            return fails("commit_interval_s", &self.commit_interval_s, "1 to 300");
        }
        if !(1 << 10..=1 << 30).contains(&self.commit_max_bytes) {
            return fails("commit_max_bytes", &self.commit_max_bytes, "1024 to 1073741824");
        }
        if !(1 << 10..=1 << 30).contains(&self.segment_max_bytes) {
            return fails("segment_max_bytes", &self.segment_max_bytes, "1024 to 1073741824");
        }
        if !(1..=30).contains(&self.heartbeat_s) {
            return fails("heartbeat_s", &self.heartbeat_s, "1 to 30");
        }
        if self.rate_limit_key_per_s == 0 || self.rate_limit_key_per_s > 10_000_000 {
            return fails("rate_limit_key_per_s", &self.rate_limit_key_per_s, "1 to 10000000");
        }
        if self.rate_limit_prefix_per_s == 0 || self.rate_limit_prefix_per_s > 10_000_000 {
            return fails("rate_limit_prefix_per_s", &self.rate_limit_prefix_per_s, "1 to 10000000");
        }
        if !(self.weight_cap_prefix_share > 0.0 && self.weight_cap_prefix_share <= 1.0) {
            return fails("weight_cap_prefix_share", &self.weight_cap_prefix_share, "above 0, at most 1");
        }
        if self.queue_max_bytes < 1 << 20 {
            return fails("queue_max_bytes", &self.queue_max_bytes, "1048576 or more");
        }
        if self.tail_max_bytes < 1 << 20 {
            return fails("tail_max_bytes", &self.tail_max_bytes, "1048576 or more");
        }
        if self.views_max == 0 {
            return fails("views_max", &self.views_max, "1 or more");
        }
        Ok(())
    }
}

fn is_free_path(path: &str) -> bool {
    let ours = ["/healthz", "/readyz", "/metrics", "/v1/deliveries", "/v1/steers"];
    let reserved = ours.contains(&path) || path.starts_with("/internal");
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    path.starts_with('/') && path.len() >= 2 && plain && !reserved
}

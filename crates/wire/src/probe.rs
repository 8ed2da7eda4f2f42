//! Probe result v1: one fetch by us, per pathway × region × object.

use serde::{Deserialize, Serialize};

/// Bus topic of probe results.
pub const PROBE_TOPIC: &str = "probe";

/// What a probe fetched and how it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// 1.
    pub v: u32,
    /// Pathway.
    pub pathway: String,
    /// Region of the vantage point.
    pub region: String,
    /// `small` (a cached canary), `segment` or `miss` (forced to the origin).
    pub object: String,
    /// Begun at, ms since epoch.
    pub at_ms: u64,
    /// HTTP status; 0 = no answer.
    pub status: u16,
    /// Time to first byte; absent = none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttfb_ms: Option<u64>,
    /// Time to last byte, or until given up.
    pub total_ms: u64,
    /// Bytes received.
    pub bytes: u64,
    /// The verdict on this fetch: right status, all bytes, in time.
    pub ok: bool,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

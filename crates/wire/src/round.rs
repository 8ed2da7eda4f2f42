//! What a round of the orchestrator went by, v1: the evidence that it gave its engine, and what the lake had taught it.
//! Kept in the lake, so that the same rounds can be decided again under another policy.
//!
//! The shape loses nothing: numbers with a fraction are written as the shortest text that reads back as the very same
//! number, because a decision that was near its threshold must fall on the same side again.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lenient::is_zero;
use crate::manifest::DrillV1;

/// The version that this module reads and writes.
pub const ROUND_VERSION: u32 = 1;

/// A number that reads back bit by bit: text in JSON (`"0.0125"`, `"inf"`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exact(pub f64);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Exact;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number as text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Exact, E> {
                text.parse().map(Exact).map_err(|_| E::custom(format_args!("{text:?} is not a number")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// What a round heard. What is absent was not heard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    /// 1.
    pub v: u32,
    /// Counters out of frames.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<HeardCell>,
    /// Load reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<HeardLoad>,
    /// Probe results.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<HeardProbe>,
    /// Views by title.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<HeardContent>,
    /// Overrides that were stored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<HeardOverride>,
    /// Views by content class.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<HeardClass>,
    /// Origin groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<HeardOrigin>,
    /// Limits that CDNs publish of themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<HeardLimit>,
    /// Freezes, ad breaks, events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calm: Vec<HeardCalm>,
    /// Frames that were due.
    pub frames_expected: u32,
    /// Frames that came.
    pub frames_received: u32,
    /// Drill in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillV1>,
}

/// One cell of one frame; see the frame's cell for what each counter is. Absent counters are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardCell {
    /// End of the interval, ms since epoch.
    pub at_ms: u64,
    /// Its length.
    pub interval_ms: u64,
    /// Which process counted.
    pub source: String,
    /// `collector` or `steer`.
    pub kind: String,
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Network, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// `hls`, `dash` or `other`.
    pub protocol: String,
    /// Gauge.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_active: u64,
    /// Gauge: of them, those whose player doesn't follow steering.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_fixed: u64,
    /// Gauge: of them, those with a bad window in the last minute.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_bad: u64,
    /// Views that started here.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_new: u64,
    /// Windows closed.
    #[serde(skip_serializing_if = "is_zero")]
    pub windows: u64,
    /// Bad ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub bad_windows: u64,
    /// Sum of window weights, thousandths.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_milli: u64,
    /// Weight of the bad ones, thousandths.
    #[serde(skip_serializing_if = "is_zero")]
    pub bad_weight_milli: u64,
    /// Sum of squared weights, millionths.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_sq_micro: u64,
    /// Media requests answered well.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_ok: u64,
    /// Media requests failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_failed: u64,
    /// Media requests in flight for too long.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests_late: u64,
    /// Distinct views with a failed request.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_failing: u64,
    /// Distinct views with a late request.
    #[serde(skip_serializing_if = "is_zero")]
    pub views_late: u64,
    /// Bits of media delivered.
    #[serde(skip_serializing_if = "is_zero")]
    pub bits: u64,
    /// Heartbeats due.
    #[serde(skip_serializing_if = "is_zero")]
    pub heartbeats_due: u64,
    /// Heartbeats that came.
    #[serde(skip_serializing_if = "is_zero")]
    pub heartbeats_received: u64,
    /// Steering: sessions assigned here first.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_assigned: u64,
    /// Steering, gauge: sessions that polled in the last TTL.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_polling: u64,
    /// Steering: playlists that nothing followed.
    #[serde(skip_serializing_if = "is_zero")]
    pub ghost_starts: u64,
    /// Steering: requests without a valid token.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_untrusted: u64,
    /// Steering: polls of sessions that were told to stay here. Absent in older recordings, like the next.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_settled: u64,
    /// Steering: of these, sessions that left by themselves.
    #[serde(skip_serializing_if = "is_zero")]
    pub sessions_fled: u64,
}

/// What an own edge said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardLoad {
    /// The edge.
    pub pathway: String,
    /// When it said so, ms since epoch.
    pub at_ms: u64,
    /// Its ceiling.
    pub ceiling_bps: u64,
    /// Bits out, mean of 10 s.
    pub bits_out_10s_bps: u64,
    /// Distinct active viewers.
    pub viewers: u64,
    /// Per viewer.
    pub bits_per_viewer_bps: u64,
    /// Hits ÷ requests; absent without requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_ratio_ppm: Option<u32>,
    /// `up`, `failing` or `unknown`.
    pub origin: String,
    /// It is being drained.
    pub draining: bool,
}

/// One fetch by us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardProbe {
    /// Pathway.
    pub pathway: String,
    /// Region of the vantage point.
    pub region: String,
    /// `small`, `segment` or `miss`.
    pub object: String,
    /// Begun at, ms since epoch.
    pub at_ms: u64,
    /// Right status, all bytes, in time.
    pub ok: bool,
    /// Time to last byte, or until given up.
    pub total_ms: u64,
    /// Why not, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// Views of one title.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardContent {
    /// Title.
    pub content: String,
    /// Region.
    pub region: String,
    /// Gauge.
    pub views_active: u64,
}

/// Views of one content class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardClass {
    /// Class.
    pub class: String,
    /// Region.
    pub region: String,
    /// Gauge.
    pub views_active: u64,
}

/// What an origin group said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardOrigin {
    /// Origin group.
    pub origin_group: String,
    /// When it said so, ms since epoch.
    pub at_ms: u64,
    /// Bits out to caches, mean of 10 s.
    pub bits_out_10s_bps: u64,
    /// `up`, `failing` or `unknown`.
    pub state: String,
    /// Titles that fail while others are well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failing_content: Vec<String>,
}

/// A limit that a CDN publishes of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardLimit {
    /// Pathway.
    pub pathway: String,
    /// Where; absent: everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// It asks to stay below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_bps: Option<u64>,
    /// It refuses beyond.
    pub hard_bps: u64,
    /// Valid until, ms since epoch.
    pub until_ms: u64,
}

/// A time in which nothing is optimised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardCalm {
    /// `freeze`, `ad break` or `event`.
    pub kind: String,
    /// Where; absent: everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Until when, ms since epoch.
    pub until_ms: u64,
    /// Who or what asked for it.
    pub reason: String,
}

/// An operator's order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeardOverride {
    /// Its id.
    pub id: String,
    /// `drain`, `exclude`, `pin`, `weight` or `cap`.
    pub kind: String,
    /// `weight`: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Exact>,
    /// `cap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap_bps: Option<u64>,
    /// To which pathway, or …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pathway: Option<String>,
    /// … to which group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where; absent: everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Who set it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// In force from, ms since epoch.
    pub since_ms: u64,
    /// In force until, ms since epoch.
    pub expires_ms: u64,
}

/// What the lake had taught.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Taught {
    /// 1.
    pub v: u32,
    /// Usual bad-window rates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usual: Vec<UsualRate>,
    /// How networks fare in the long run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkWindows>,
    /// Cache hit ratios by pathway.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hit_ratios: BTreeMap<String, TaughtHits>,
    /// Views in ten minutes ÷ views now, by region.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub growth_10min: BTreeMap<String, Exact>,
    /// By region.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bits_per_view_bps: BTreeMap<String, u64>,
    /// What has been used of contracts, by pathway.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bills: BTreeMap<String, TaughtBill>,
}

/// A usual bad-window rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsualRate {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Hour of the week, 0 on Monday at 0:00 UTC; absent: of the last hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hour_of_week: Option<u8>,
    /// 0 to 1.
    pub rate: Exact,
}

/// A network's windows on a pathway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkWindows {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Network.
    pub asn: u32,
    /// Windows.
    pub windows: Exact,
    /// Bad ones.
    pub bad_windows: Exact,
}

/// Hits ÷ requests by bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaughtHits {
    /// When caches are warm.
    pub warm: Exact,
    /// Of traffic that was just moved.
    pub after_move: Exact,
}

/// What has been used of a contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaughtBill {
    /// GB.
    pub used_gb: Exact,
    /// Part of the period's volume that has usually been used by now.
    pub profile: Exact,
    /// 95/5 level, Mbit/s.
    pub level_mbps: Exact,
    /// 5-minute slots that may still lie above it.
    pub free_slots: u32,
}

/// Reads one of the two texts of version 1.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Version { v } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if v != ROUND_VERSION {
        return Err(format!("version {v} of a round is unknown (valid: {ROUND_VERSION})"));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back_bit_by_bit() {
        for number in [0.0, -0.0, 0.1 + 0.2, 1.0 / 3.0, f64::MIN_POSITIVE, f64::MAX, 1e-310, f64::INFINITY, 0.012_5] {
            let text = serde_json::to_string(&Exact(number)).expect("json");
            let read: Exact = serde_json::from_str(&text).expect(&text);
            assert_eq!(read.0.to_bits(), number.to_bits(), "{text}");
        }
        assert!(serde_json::from_str::<Exact>("\"x\"").is_err());
    }

    #[test]
    fn another_version_is_refused() {
        let error = parse::<Heard>(r#"{"v":2}"#).expect_err("refused");
        assert!(error.contains("version 2") && error.contains("valid: 1"), "{error}");
        assert!(parse::<Heard>("{").is_err());
    }
}

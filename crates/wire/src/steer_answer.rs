//! Sampled steering answers v1, with their why (`POST /v1/steers`, see [`crate::rows`]).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spillway_model::limits::{NUMBER_MAX, PLAYLIST_MAX_PATHWAYS, TEXT_MAX_BYTES, TTL_MAX_S};
use spillway_model::{PathwayId, RegionId, ViewId};

use crate::rows::Row;

/// One answer as a player got it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SteerAnswer {
    /// Given at, ms since epoch.
    pub issued_ms: u64,
    /// The view, where its token was valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_id: Option<String>,
    /// Routing region.
    pub region: String,
    /// Network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Epoch of the manifest that decided; absent: static weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// `hls`, `dash` or `other`.
    pub protocol: String,
    /// PATHWAY-PRIORITY, best first.
    pub priority: Vec<String>,
    /// TTL, s.
    pub ttl_s: u32,
    /// Share of answers that are reported, (0, 1]. Default 1.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub sample_rate: f64,
    /// Why this one is first: a stable word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What `explain` says: any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Value>,
}

const fn all() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_all(rate: &f64) -> bool {
    (*rate - 1.0).abs() < f64::EPSILON
}

impl Row for SteerAnswer {
    fn check(&self) -> Result<(), &'static str> {
        let ids = RegionId::new(&self.region).is_ok()
            && self.view_id.as_deref().is_none_or(|id| ViewId::new(id).is_ok())
            && self.priority.iter().all(|id| PathwayId::new(id).is_ok());
        if !ids {
            return Err("bad_id");
        }
        let why_bytes = self.why.as_ref().map_or(0, |why| why.to_string().len());
        let holds = ["hls", "dash", "other"].contains(&self.protocol.as_str())
            && (1..=PLAYLIST_MAX_PATHWAYS).contains(&self.priority.len())
            && self.ttl_s <= TTL_MAX_S
            && self.sample_rate > 0.0
            && self.sample_rate <= 1.0
            && self.issued_ms <= NUMBER_MAX
            && self.epoch.unwrap_or(0) <= NUMBER_MAX
            && why_bytes <= TEXT_MAX_BYTES
            && self.reason.as_ref().is_none_or(|reason| reason.len() <= TEXT_MAX_BYTES);
        if holds { Ok(()) } else { Err("bad_value") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_reason() {
        let check = |change: fn(&mut SteerAnswer)| {
            let mut answer = SteerAnswer {
                region: "eu".into(),
                protocol: "hls".into(),
                priority: vec!["cdn-a".into()],
                sample_rate: 0.01,
                ..SteerAnswer::default()
            };
            change(&mut answer);
            answer.check()
        };
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|answer| answer.protocol = "rtmp".into()), Err("bad_value"));
        assert_eq!(check(|answer| answer.priority.clear()), Err("bad_value"));
        assert_eq!(check(|answer| answer.priority = vec!["a".into(); PLAYLIST_MAX_PATHWAYS + 1]), Err("bad_value"));
        assert_eq!(check(|answer| answer.sample_rate = 0.0), Err("bad_value"));
        assert_eq!(check(|answer| answer.sample_rate = f64::NAN), Err("bad_value"));
        assert_eq!(check(|answer| answer.why = Some("x".repeat(TEXT_MAX_BYTES).into())), Err("bad_value"));
        assert_eq!(check(|answer| answer.region = "a b".into()), Err("bad_id"));
        assert_eq!(check(|answer| answer.priority = vec!["a/b".into()]), Err("bad_id"));
    }
}

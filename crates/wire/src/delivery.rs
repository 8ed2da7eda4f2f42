//! Delivery v1: what an edge or a CDN delivered, one request or several alike (`POST /v1/deliveries`, see
//! [`crate::rows`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spillway_model::limits::{CMCD_MAX_KEYS, NUMBER_MAX, TEXT_MAX_BYTES};
use spillway_model::{PathwayId, RegionId, ViewId};

use crate::rows::Row;
use crate::scrub;

const fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_one(requests: &u64) -> bool {
    *requests == 1
}

/// One delivery. Absent = unknown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// End of the delivery (several: of the first), ms since epoch.
    pub delivered_ms: u64,
    /// Pathway; if absent it is found by `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pathway: Option<String>,
    /// Host that the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Client's address: it fills region, network and country where they are absent, and is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Routing region of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Network of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Country of the client, two letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Path of the object; a query is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// HTTP status; 0 = the client left before one was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes sent to the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Requests that this row stands for. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub requests: u64,
    /// Time to first byte (several: mean), ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttfb_ms: Option<u64>,
    /// Time to last byte (several: mean), ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// `hit`, `miss`, `stale`, `pass`, `error`, or the sender's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_status: Option<String>,
    /// `HTTP/1.1`, `HTTP/2`, `HTTP/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The view, where the request says it (CMCD's `sid`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view_id: Option<String>,
    /// CMCD of the request, key to value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cmcd: BTreeMap<String, String>,
    /// Share of deliveries that are reported, (0, 1]: sums are divided by it. Absent = 1, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<f64>,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            delivered_ms: 0,
            pathway: None,
            host: None,
            address: None,
            region: None,
            asn: None,
            country: None,
            path: None,
            status: None,
            bytes: None,
            requests: 1,
            ttfb_ms: None,
            duration_ms: None,
            cache_status: None,
            protocol: None,
            view_id: None,
            cmcd: BTreeMap::new(),
            sample_rate: None,
        }
    }
}

impl Row for Delivery {
    fn check(&self) -> Result<(), &'static str> {
        let ids = self.pathway.as_deref().is_none_or(|id| PathwayId::new(id).is_ok())
            && self.region.as_deref().is_none_or(|id| RegionId::new(id).is_ok())
            && self.view_id.as_deref().is_none_or(|id| ViewId::new(id).is_ok());
        if !ids {
            return Err("bad_id");
        }
        let numbers = [Some(self.delivered_ms), Some(self.requests), self.bytes, self.ttfb_ms, self.duration_ms];
        let texts = [&self.host, &self.address, &self.country, &self.path, &self.cache_status, &self.protocol];
        let cmcd = self.cmcd.iter().flat_map(|(key, value)| [key, value]);
        let holds = self.requests > 0
            && numbers.into_iter().flatten().all(|number| number <= NUMBER_MAX)
            && texts.into_iter().flatten().chain(cmcd).all(|text| text.len() <= TEXT_MAX_BYTES)
            && self.cmcd.len() <= CMCD_MAX_KEYS
            && self.sample_rate.is_none_or(|rate| rate > 0.0 && rate <= 1.0);
        if holds { Ok(()) } else { Err("bad_value") }
    }
}

impl Delivery {
    /// Takes out what must not come to rest: queries, fragments, credentials, and the address.
    pub fn scrub(&mut self) {
        self.address = None;
        self.host = self.host.as_deref().and_then(scrub::host_only);
        self.path = self.path.as_deref().map(|path| scrub::path_only(path).to_owned()).filter(|path| !path.is_empty());
        for text in [&mut self.cache_status, &mut self.protocol].into_iter().flatten() {
            *text = scrub::without_queries(text).into_owned();
        }
        self.cmcd = std::mem::take(&mut self.cmcd)
            .into_iter()
            .map(|(key, value)| {
                (scrub::without_queries(&key).into_owned(), scrub::without_queries(&value).into_owned())
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrubbed_delivery_tells_nobody_who_asked_with_which_token() {
        let mut delivery = Delivery {
            address: Some("203.0.113.7".into()),
            host: Some("https://u:p@CDN.example:81/x?y".into()),
            path: Some("https://cdn.example/live/a.m4s?token=secret#t".into()),
            cmcd: BTreeMap::from([("nor".into(), "../b.m4s?token=secret".into())]),
            ..Delivery::default()
        };
        delivery.scrub();
        let json = serde_json::to_string(&delivery).expect("json");
        assert!(!json.contains("secret") && !json.contains("203.0.113.7") && !json.contains("u:p"), "{json}");
        assert_eq!(delivery.host.as_deref(), Some("cdn.example:81"));
        assert_eq!(delivery.path.as_deref(), Some("/live/a.m4s"));
        assert_eq!(delivery.cmcd["nor"], "../b.m4s");
    }

    #[test]
    fn values_out_of_range_are_refused_by_reason() {
        let check = |change: fn(&mut Delivery)| {
            let mut delivery = Delivery::default();
            change(&mut delivery);
            delivery.check()
        };
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|row| row.requests = 0), Err("bad_value"));
        assert_eq!(check(|row| row.bytes = Some(u64::MAX)), Err("bad_value"));
        assert_eq!(check(|row| row.sample_rate = Some(0.0)), Err("bad_value"));
        assert_eq!(check(|row| row.sample_rate = Some(f64::NAN)), Err("bad_value"));
        assert_eq!(check(|row| row.path = Some("x".repeat(TEXT_MAX_BYTES + 1))), Err("bad_value"));
        assert_eq!(check(|row| row.pathway = Some("a/b".into())), Err("bad_id"));
        assert_eq!(check(|row| row.view_id = Some("x".repeat(65))), Err("bad_id"));
        let many =
            |row: &mut Delivery| row.cmcd = (0..=CMCD_MAX_KEYS).map(|key| (key.to_string(), String::new())).collect();
        assert_eq!(check(many), Err("bad_value"));
    }
}

//! What is seen of the system while the story runs: manifests, overviews, faults in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use spillway_model::Clock as _;
use spillway_service::SystemClock;
use spillway_wire::manifest::ManifestV1;
use spillway_wire::overview::{LogLine, Overview};

use super::api::Api;
use crate::cdn::Cdn;
use crate::cdn::faults::FaultKind;

/// Manifests of the region of the outage: this is how exact the detection is.
const CLOSE: Duration = Duration::from_millis(100);
const CALM: Duration = Duration::from_secs(1);
const FAULTS: Duration = Duration::from_millis(20);

/// All that was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Newest manifest by region.
    pub manifests: BTreeMap<String, ManifestV1>,
    /// Epochs by region.
    pub epochs: BTreeMap<String, BTreeSet<u64>>,
    /// Manifests that a consumer would refuse, and regions without one, in words.
    pub bad_manifests: Vec<String>,
    /// Epoch in which the pathway of the outage was first demoted: when it was seen, ms on the viewers' clock.
    pub demoted_ms: Option<u64>,
    /// First fault in force, ms on the viewers' clock.
    pub injected_ms: Option<u64>,
    /// First throttle without an error status.
    pub throttled_ms: Option<u64>,
    /// No fault any more.
    pub restored_ms: Option<u64>,
    /// Newest overview.
    pub overview: Option<Overview>,
    /// Highest utilisation of each own edge, from its load reports.
    pub own_peaks: BTreeMap<String, f64>,
    /// What the orchestrator said, not yet shown.
    pub fresh_log: Vec<LogLine>,
    pub(crate) known_log: BTreeSet<(u64, String)>,
}

/// Where and what to look for.
#[derive(Clone)]
pub struct Watch {
    /// System under test.
    pub api: Api,
    /// Viewers' clock.
    pub clock: SystemClock,
    /// Pathway of the outage.
    pub pathway: String,
    /// Region of the outage.
    pub region: String,
    /// What was seen.
    pub seen: Arc<Mutex<Seen>>,
}

/// Most messages of one kind that are kept.
const MAX_MESSAGES: usize = 20;

impl Watch {
    /// What was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nothing panics while looking")
    }

    /// Follows the manifests of one region.
    pub async fn manifests(self, region: String) {
        let mut etag: Option<String> = None;
        let pace = if region == self.region { CLOSE } else { CALM };
        loop {
            match self.api.manifest(&region, etag.as_deref()).await {
                Ok(Some(fetched)) => {
                    etag = Some(fetched.etag);
                    self.take_manifest(&region, fetched.manifest);
                }
                Ok(None) => {}
                Err(error) => {
                    let mut seen = self.seen();
                    if seen.bad_manifests.len() < MAX_MESSAGES {
                        seen.bad_manifests.push(format!("{error:#}"));
                    }
                }
            }
            tokio::time::sleep(pace).await;
        }
    }

    fn take_manifest(&self, region: &str, manifest: ManifestV1) {
        let now_ms = self.clock.monotonic().0;
        let mut seen = self.seen();
        seen.epochs.entry(region.to_owned()).or_default().insert(manifest.epoch);
        let before = seen.manifests.get(region);
        let in_outage = seen.injected_ms.is_some() && seen.restored_ms.is_none();
        let demoted = region == self.region && in_outage && is_demoted(&manifest, before, &self.pathway);
        if demoted && seen.demoted_ms.is_none() {
            seen.demoted_ms = Some(now_ms);
        }
        seen.manifests.insert(region.to_owned(), manifest);
    }

    /// Follows the overview.
    pub async fn overviews(self) {
        loop {
            if let Ok(overview) = self.api.overview().await {
                self.take_overview(overview);
            }
            tokio::time::sleep(CALM).await;
        }
    }

    fn take_overview(&self, overview: Overview) {
        let mut seen = self.seen();
        for (id, totals) in overview.pathways.iter().filter(|(_, totals)| totals.kind == "own") {
            if let Some(ppm) = totals.utilisation_ppm {
                let peak = seen.own_peaks.entry(id.clone()).or_default();
                *peak = peak.max(f64::from(ppm) / 1e6);
            }
        }
        for line in &overview.log {
            if seen.known_log.insert((line.at_ms, format!("{} {}", line.region, line.text))) {
                seen.fresh_log.push(line.clone());
            }
        }
        while seen.known_log.len() > 1_000 {
            seen.known_log.pop_first();
        }
        seen.overview = Some(overview);
    }

    /// Notes the very moments at which the fault begins, turns into a throttle, and ends.
    pub async fn faults(self, cdn: Arc<Cdn>) {
        loop {
            let faults = cdn.faults().list();
            let of_region = || faults.iter().filter(|fault| fault.region.as_deref() == Some(self.region.as_str()));
            let bites = of_region().any(|fault| fault.share_percent > 0);
            let errors =
                of_region().any(|fault| fault.share_percent > 0 && !matches!(fault.kind, FaultKind::Throttle { .. }));
            let now_ms = self.clock.monotonic().0;
            {
                let mut seen = self.seen();
                if bites && seen.injected_ms.is_none() {
                    seen.injected_ms = Some(now_ms);
                }
                if bites && !errors && seen.throttled_ms.is_none() {
                    seen.throttled_ms = Some(now_ms);
                }
                if !bites && seen.injected_ms.is_some() && seen.restored_ms.is_none() {
                    seen.restored_ms = Some(now_ms);
                }
            }
            tokio::time::sleep(FAULTS).await;
        }
    }
}

/// DOWN, or DEGRADED with less weight for running views than in the manifest before.
fn is_demoted(manifest: &ManifestV1, before: Option<&ManifestV1>, pathway: &str) -> bool {
    let weight = |manifest: &ManifestV1| -> u64 {
        let weights = manifest.cohorts.iter().map(|cohort| cohort.weights_running.get(pathway).copied().unwrap_or(0));
        weights.map(u64::from).sum::<u64>() / manifest.cohorts.len().max(1) as u64
    };
    match manifest.pathways.get(pathway).map(|view| view.state.as_str()) {
        Some("DOWN") => true,
        Some("DEGRADED") => before.is_none_or(|before| weight(manifest) < weight(before)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(state: &str, weight: u32) -> ManifestV1 {
        let weights = json!({ "a": weight, "b": 1_000_000 - weight });
        let pathway = |state: &str| {
            json!({ "kind": "commercial", "state": state, "reason": "", "since_ms": 0, "utilisation_ppm": 0,
                "capacity_bps": 1, "learned_capacity_bps": 1, "group": null, "origin_group": null,
                "serves": { "classes": [], "codecs": [], "drm": [], "territories": [], "address_families": [] },
                "failure_domains": [], "base_url": "http://x", "signer": null })
        };
        serde_json::from_value(json!({
            "v": 1, "region": "eu-south", "epoch": 1, "issued_ms": 0, "valid_until_ms": 1, "policy": "",
            "modes": [], "pathways": { "a": pathway(state), "b": pathway("HEALTHY") }, "groups": {},
            "cohorts": [{ "asn": null, "class": null, "device_class": null, "weights_new": weights,
                "weights_running": weights, "running_before_ms": 0, "spare": {}, "reason": "" }],
            "max_bitrate_kbps": [], "hot_titles": {},
            "ttl": { "vod_s": 30, "live_s": 5, "suspect_s": 5, "jitter_ppm": 0 },
            "static_weights": weights, "shadow": [], "overrides": [], "drill": null,
        }))
        .expect("a manifest")
    }

    #[test]
    fn down_is_a_detection_and_degraded_only_with_less_weight() {
        let before = manifest("HEALTHY", 700_000);
        assert!(!is_demoted(&before, Some(&before), "a"));
        assert!(is_demoted(&manifest("DOWN", 700_000), Some(&before), "a"));
        assert!(!is_demoted(&manifest("DEGRADED", 700_000), Some(&before), "a"));
        assert!(is_demoted(&manifest("DEGRADED", 70_000), Some(&before), "a"));
        assert!(!is_demoted(&manifest("DOWN", 0), Some(&before), "b"));
    }
}

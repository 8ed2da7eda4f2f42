//! What was decided goes into the lake: slow, and never in a round's way.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use spillway_lake::records::Decision;
use spillway_routing::Manifest;

use crate::ledger::{self, Ledger, Writer};

const COMMIT_EVERY: Duration = Duration::from_secs(10);

/// The orchestrator's side of the lake.
pub(crate) struct Decisions {
    rows: Ledger<Decision>,
    writer: Writer,
}

impl Decisions {
    /// Starts the writer.
    pub(crate) fn start(root: url::Url, id: &str) -> Self {
        let (rows, writer) = ledger::start(root, format!("{id}-decisions"), COMMIT_EVERY);
        Self { rows, writer }
    }

    /// Queues a published manifest. A full queue (an unreachable lake) loses it, counted; publishing never waits.
    pub(crate) fn record(&self, manifest: &Manifest) {
        self.rows.record(row(manifest));
    }

    /// Writes what is queued and ends.
    pub(crate) async fn close(self) {
        self.writer.close().await;
    }
}

fn row(manifest: &Manifest) -> Decision {
    let everyone = manifest.cohorts.iter().find(|rule| rule.asn.is_none() && rule.class.is_none());
    let weights: BTreeMap<&str, u32> =
        everyone.iter().flat_map(|rule| &rule.weights_new).map(|(target, ppm)| (target.as_str(), *ppm)).collect();
    let states: BTreeMap<&str, serde_json::Value> = manifest
        .pathways
        .iter()
        .map(|(id, pathway)| (id.as_str(), json!({"state": pathway.state.as_str(), "reason": pathway.reason})))
        .collect();
    Decision {
        region: manifest.region.to_string(),
        epoch: manifest.epoch,
        issued_ms: manifest.issued.0,
        policy: manifest.policy.clone(),
        reason: everyone.map(|rule| rule.reason.clone()).unwrap_or_default(),
        shares_json: json!(weights).to_string(),
        state_json: json!(states).to_string(),
    }
}

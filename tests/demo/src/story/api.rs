//! What the demo asks of the system under test, over HTTP as anyone would.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use spillway_wire::envelope::Envelope;
use spillway_wire::manifest::{self, ManifestV1};
use spillway_wire::overview::Overview;

/// Base URLs and secrets of one run.
#[derive(Debug, Clone)]
pub struct Api {
    /// Collector.
    pub collector: String,
    /// Orchestrator.
    pub orchestrator: String,
    /// Steering node.
    pub steer: String,
    /// Dashboard.
    pub dashboard: String,
    /// Switches of the emulated CDNs.
    pub control: String,
    /// Between roles.
    pub service_token: String,
    /// Of an operator.
    pub operator_token: String,
    /// Client of all calls.
    pub client: reqwest::Client,
}

/// `GET {collector}/internal/counters`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct CollectorCounters {
    /// Events that came.
    pub received: u64,
    /// Events that are kept.
    pub accepted: u64,
    /// The others by reason.
    pub discarded: BTreeMap<String, u64>,
    /// Rows in the table.
    pub committed_rows: u64,
}

/// A manifest as it was fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// For the next `If-None-Match`.
    pub etag: String,
    /// The payload, checked as a consumer does (but for the signature).
    pub manifest: ManifestV1,
}

impl Api {
    /// The manifest of a region, or none if it is still the one of `etag`.
    ///
    /// # Errors
    /// If there is none, or it is not one that a consumer takes.
    pub async fn manifest(&self, region: &str, etag: Option<&str>) -> anyhow::Result<Option<Fetched>> {
        let mut request = self.client.get(format!("{}/v1/manifests/{region}", self.orchestrator));
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let answer = request.send().await?;
        match answer.status().as_u16() {
            304 => return Ok(None),
            200 => {}
            status => bail!("get the manifest of {region}: status {status}"),
        }
        let etag = answer.headers().get("etag").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let envelope: Envelope = answer.json().await.context("read an envelope")?;
        let payload = BASE64.decode(&envelope.payload).context("read an envelope's payload")?;
        manifest::parse(&payload).with_context(|| format!("take the manifest of {region}"))?;
        Ok(Some(Fetched { etag, manifest: serde_json::from_slice(&payload).context("read a manifest")? }))
    }

    /// What the orchestrator knows.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn overview(&self) -> anyhow::Result<Overview> {
        let answer = self.client.get(format!("{}/v1/overview", self.orchestrator)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// What the collector has counted.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn counters(&self) -> anyhow::Result<CollectorCounters> {
        let request = self.client.get(format!("{}/internal/counters", self.collector)).bearer_auth(&self.service_token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Drains an own edge for `expires_s`.
    ///
    /// # Errors
    /// If the orchestrator refuses.
    pub async fn drain(&self, target: &str, reason: &str, expires_s: u64) -> anyhow::Result<()> {
        let body = json!({ "kind": "drain", "target": target, "reason": reason, "expires_s": expires_s });
        let url = format!("{}/v1/admin/overrides", self.orchestrator);
        let answer = self.client.post(url).bearer_auth(&self.operator_token).json(&body).send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("drain {target}: status {status}: {}", answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    /// Manifests that the steering node refused.
    ///
    /// # Errors
    /// If it does not tell, or steers a region by anything but a manifest.
    pub async fn manifests_refused(&self) -> anyhow::Result<u64> {
        let request = self.client.get(format!("{}/internal/steer", self.steer)).bearer_auth(&self.service_token);
        refused(&request.send().await?.error_for_status()?.json().await?)
    }

    /// Waits until `url` answers 200.
    pub async fn ready(&self, url: &str) {
        loop {
            if self.client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What a steering node says of the regions that it steers.
#[derive(Debug, Deserialize)]
struct SteerStatus {
    regions: BTreeMap<String, SteerRegion>,
}

#[derive(Debug, Deserialize)]
struct SteerRegion {
    plan: String,
    refused: BTreeMap<String, u64>,
}

fn refused(status: &SteerStatus) -> anyhow::Result<u64> {
    if status.regions.is_empty() {
        bail!("find a region that the steering node steers");
    }
    for (region, state) in &status.regions {
        if state.plan != "manifest" {
            bail!("find a manifest for {region} at the steering node: it goes by its {} plan", state.plan);
        }
    }
    Ok(status.regions.values().flat_map(|region| region.refused.values()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> SteerStatus {
        serde_json::from_str(text).expect("a status")
    }

    #[test]
    fn refusals_are_summed_and_a_region_without_a_manifest_is_an_error() {
        let two = r#"{"regions":{"a":{"plan":"manifest","refused":{"older_epoch":2}},"b":{"plan":"manifest","refused":{"x":1}}}}"#;
        assert_eq!(refused(&status(two)).expect("counts"), 3);
        let fallen = r#"{"regions":{"a":{"plan":"static","refused":{}}}}"#;
        assert!(refused(&status(fallen)).expect_err("static").to_string().contains("static plan"));
        assert!(refused(&status(r#"{"regions":{}}"#)).is_err());
    }
}

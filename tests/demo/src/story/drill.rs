//! The outage: as a drill that the system under test runs itself, or by hand where nothing is steered.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::process::Command;

use super::api::Api;
use super::config::OutageConfig;
use super::template;
use super::timeline::Timeline;

const TEMPLATE: &str = include_str!("../../../../deploy/drills/cdn-outage.toml");
/// The drill's report comes this long before the end of the story at the latest.
const BEFORE_END_S: f64 = 3.0;

/// The drill of this story as a file.
///
/// # Errors
/// If the committed file names something that the demo doesn't know.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a story")]
pub fn file(outage: &OutageConfig, timeline: &Timeline, control: &str) -> anyhow::Result<String> {
    let whole_s = |seconds: f64| (seconds.max(1.0) as u64).to_string();
    let values = BTreeMap::from([
        ("pathway".to_owned(), outage.pathway.clone()),
        ("region".to_owned(), outage.region.clone()),
        ("control".to_owned(), control.to_owned()),
        ("status".to_owned(), outage.status.to_string()),
        ("throttle_kbps".to_owned(), outage.throttle_kbps.to_string()),
        ("duration_s".to_owned(), whole_s(timeline.restore_s - timeline.outage_s)),
        ("throttle_at_s".to_owned(), whole_s(timeline.throttle_s - timeline.outage_s)),
        ("recovery_s".to_owned(), whole_s(timeline.end_s - timeline.restore_s - BEFORE_END_S)),
    ]);
    Ok(template::fill(TEMPLATE, &values)?)
}

/// Runs `spillway drill run` to its end and returns the report.
///
/// # Errors
/// If the drill can't start, or its verdict is not SUCCEEDED; the message holds both.
pub async fn run(spillway: &Path, file: &Path, api: &Api) -> anyhow::Result<Value> {
    let output = Command::new(spillway)
        .args(["drill", "run"])
        .arg(file)
        .args(["--orchestrator", &api.orchestrator, "--json"])
        .env("SPILLWAY_TOKEN", &api.operator_token)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("start `spillway drill run`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    let report: Option<Value> = report.lines().rev().find_map(|line| serde_json::from_str(line).ok());
    match report {
        Some(report) if output.status.success() => Ok(report),
        Some(report) => bail!("the drill ended as {}: {}", report["verdict"], report["why"].as_str().unwrap_or("")),
        None => bail!("the drill has no report ({}): {}", output.status, said.trim()),
    }
}

/// The same steps as the drill's, at the same moments, by the demo itself. Begins now.
///
/// # Errors
/// If the CDN's control port refuses.
pub async fn by_hand(outage: &OutageConfig, timeline: &Timeline, api: &Api) -> anyhow::Result<()> {
    let region = &outage.region;
    put(api, outage, json!({ "kind": "status", "status": outage.status, "region": region })).await?;
    tokio::time::sleep(Duration::from_secs_f64(timeline.throttle_s - timeline.outage_s)).await;
    put(api, outage, json!({ "kind": "throttle", "kbps": outage.throttle_kbps, "region": region })).await?;
    put(api, outage, json!({ "kind": "status", "status": outage.status, "region": region, "share_percent": 0 }))
        .await?;
    tokio::time::sleep(Duration::from_secs_f64(timeline.restore_s - timeline.throttle_s)).await;
    restore(api, outage).await
}

/// Lifts the faults of the outage.
///
/// # Errors
/// If the CDN's control port refuses.
pub async fn restore(api: &Api, outage: &OutageConfig) -> anyhow::Result<()> {
    let url = format!("{}/faults/{}?region={}", api.control, outage.pathway, outage.region);
    api.client.delete(url).send().await?.error_for_status().context("lift the faults")?;
    Ok(())
}

async fn put(api: &Api, outage: &OutageConfig, fault: Value) -> anyhow::Result<()> {
    let url = format!("{}/faults/{}", api.control, outage.pathway);
    api.client.put(url).json(&fault).send().await?.error_for_status().with_context(|| format!("set {fault}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_drill_fits_every_length_of_story() {
        let outage =
            OutageConfig { pathway: "cdn-a".into(), region: "eu-south".into(), status: 503, throttle_kbps: 60 };
        let timeline = Timeline {
            ramp_until_s: 12.0,
            spike_s: (18.0, 32.0),
            outage_s: 38.0,
            throttle_s: 52.0,
            restore_s: 63.0,
            drain_s: 74.0,
            end_s: 90.0,
        };
        let text = file(&outage, &timeline, "http://127.0.0.1:9").expect("filled in");
        let drill: toml::Table = text.parse().expect("TOML");
        assert_eq!(drill["duration_s"].as_integer(), Some(25));
        assert_eq!(drill["recovery_s"].as_integer(), Some(24));
        let steps = drill["inject"].as_array().expect("steps");
        assert_eq!((steps.len(), steps[1]["at_s"].as_integer()), (3, Some(14)));
        let body: Value = serde_json::from_str(steps[0]["body"].as_str().expect("text")).expect("JSON");
        assert_eq!(body, json!({ "kind": "status", "status": 503, "region": "eu-south" }));
        let restore = drill["restore"].as_array().expect("steps");
        assert_eq!(restore[0]["url"].as_str(), Some("http://127.0.0.1:9/faults/cdn-a?region=eu-south"));
    }
}

//! `spillway manifest`: what was published, what changed, and back again.

pub mod make;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use spillway_routing::Manifest;
use spillway_wire::diff::diff;
use spillway_wire::envelope::{KEYS_FILE, open, peek, read_keys};
use spillway_wire::manifest;

use crate::cli::manifest::{Action, Diff, History, Rollback, Show, Verify, Where};

/// Runs the action.
///
/// # Errors
/// What can't be reached or read, a refusal by the orchestrator, a file that a node would refuse.
pub async fn run(arguments: &crate::cli::manifest::Manifest) -> anyhow::Result<()> {
    match &arguments.action {
        Action::Show(show) => self::show(show).await,
        Action::History(history) => self::history(history).await,
        Action::Diff(diff) => self::difference(diff).await,
        Action::Rollback(rollback) => self::rollback(rollback).await,
        Action::Verify(verify) => self::verify(verify),
        Action::Make(make) => make::run(make).await,
    }
}

impl Where {
    fn url(&self, rest: &str) -> String {
        url(&self.orchestrator, "manifests", &self.region, rest)
    }
}

fn url(orchestrator: &str, what: &str, region: &str, rest: &str) -> String {
    format!("{}/v1/{what}/{region}{rest}", orchestrator.trim_end_matches('/'))
}

pub(super) fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?)
}

pub(super) async fn answer(request: reqwest::RequestBuilder, url: &str) -> anyhow::Result<Vec<u8>> {
    let answer = request.send().await.with_context(|| url.to_owned())?;
    let (status, bytes) = (answer.status(), answer.bytes().await?);
    if !status.is_success() {
        bail!("the orchestrator refuses: {status}: {}", String::from_utf8_lossy(&bytes));
    }
    Ok(bytes.into())
}

async fn asked(url: &str) -> anyhow::Result<Value> {
    let bytes = answer(client()?.get(url), url).await?;
    serde_json::from_slice(&bytes).with_context(|| format!("{url} answers no JSON"))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The manifest in an envelope, whoever signed it.
fn unsealed(bytes: &[u8], from: &str) -> anyhow::Result<Manifest> {
    let payload = peek(bytes).with_context(|| from.to_owned())?;
    manifest::parse(&payload).with_context(|| from.to_owned())
}

async fn show(arguments: &Show) -> anyhow::Result<()> {
    let bytes = match (&arguments.file, &arguments.orchestrator, &arguments.region) {
        (Some(file), _, _) => read_file(file)?,
        (None, Some(orchestrator), Some(region)) => {
            let url = url(orchestrator, "manifests", region, "");
            answer(client()?.get(&url), &url).await?
        }
        _ => bail!("a file, or --orchestrator and --region, is needed"),
    };
    let payload: Value = serde_json::from_slice(&peek(&bytes)?)?;
    println!("{}", serde_json::to_string_pretty(&payload)?);
    Ok(())
}

async fn history(arguments: &History) -> anyhow::Result<()> {
    let list = asked(&arguments.at.url(&format!("/history?limit={}", arguments.limit))).await?;
    if arguments.json {
        println!("{list}");
        return Ok(());
    }
    for line in list.as_array().into_iter().flatten() {
        let weights = line["weights_ppm"].as_object().into_iter().flatten();
        let weights: Vec<String> =
            weights.map(|(id, ppm)| format!("{id} {:.1} %", ppm.as_f64().unwrap_or(0.0) / 1e4)).collect();
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let when = spillway_lake::iso(line["issued_ms"].as_u64().unwrap_or(0));
        let what = if line["unreadable"].is_null() {
            weights.join(", ")
        } else {
            format!("unreadable: {}", text("unreadable"))
        };
        println!("{:>8}  {when}  {what}  ({})", line["epoch"], text("reason"));
    }
    Ok(())
}

async fn difference(arguments: &Diff) -> anyhow::Result<()> {
    let found = match (&arguments.files[..], &arguments.orchestrator, &arguments.region) {
        ([from, to], _, _) => {
            let read = |path: &Path| unsealed(&read_file(path)?, &path.display().to_string());
            let changes = diff(&read(from)?, &read(to)?);
            let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
            json!({"changes": changes, "text": text})
        }
        (_, Some(orchestrator), Some(region)) => {
            let mut query: Vec<String> = Vec::new();
            query.extend(arguments.from.map(|epoch| format!("from={epoch}")));
            query.extend(arguments.to.map(|epoch| format!("to={epoch}")));
            query.extend(arguments.shadow.then(|| "shadow=1".to_owned()));
            asked(&url(orchestrator, "manifests", region, &format!("/diff?{}", query.join("&")))).await?
        }
        _ => bail!("two files, or --orchestrator and --region, are needed"),
    };
    if arguments.json {
        println!("{found}");
        return Ok(());
    }
    if let Some(epoch) = found["from"].as_u64() {
        println!("{}: epoch {epoch} → {}", found["region"].as_str().unwrap_or_default(), found["to"]);
    }
    for line in found["text"].as_array().into_iter().flatten() {
        println!("  {}", line.as_str().unwrap_or_default());
    }
    for rule in found["cohorts"].as_array().into_iter().flatten() {
        let moved = rule["moved_ppm"].as_f64().unwrap_or(0.0) / 1e4;
        println!(
            "{}: {moved:.1} % of new views would be elsewhere ({})",
            rule["of"].as_str().unwrap_or_default(),
            rule["reason"].as_str().unwrap_or_default()
        );
        for (id, weights) in rule["weights_ppm"].as_object().into_iter().flatten() {
            let percent = |n: usize| weights[n].as_f64().unwrap_or(0.0) / 1e4;
            println!("  {id}: {:.1} % → {:.1} %", percent(0), percent(1));
        }
    }
    Ok(())
}

async fn rollback(arguments: &Rollback) -> anyhow::Result<()> {
    let url = url(&arguments.at.orchestrator, "admin/manifests", &arguments.at.region, "/rollback");
    let body = json!({"epoch": arguments.epoch, "reason": arguments.reason, "expires_s": arguments.expires_s});
    let request = client()?.post(&url).bearer_auth(&arguments.token).json(&body);
    let stored: Value = serde_json::from_slice(&answer(request, &url).await?)?;
    let until = spillway_lake::iso(stored["expires_ms"].as_u64().unwrap_or(0));
    let id = stored["id"].as_str().unwrap_or_default();
    println!("{id}: weights of epoch {} in {} until {until}", arguments.epoch, arguments.at.region);
    println!("it ends sooner by DELETE /v1/admin/rollbacks/{id}");
    Ok(())
}

fn verify(arguments: &Verify) -> anyhow::Result<()> {
    let mut refused = 0;
    for file in &arguments.files {
        let beside = file.with_file_name(KEYS_FILE);
        let keys = read_keys(&read_file(arguments.keys.as_deref().unwrap_or(&beside))?);
        let checked = open(&read_file(file)?, &keys)
            .map_err(|error| (error.name(), error.to_string()))
            .and_then(|payload| manifest::parse(&payload).map_err(|error| (error.name(), error.to_string())));
        match checked {
            Ok(manifest) => {
                let until = spillway_lake::iso(manifest.valid_until.0);
                println!("{}: good: {} epoch {}, valid until {until}", file.display(), manifest.region, manifest.epoch);
            }
            Err((name, why)) => {
                refused += 1;
                println!("{}: refused: {name}: {why}", file.display());
            }
        }
    }
    if refused > 0 {
        bail!("{refused} of {} files would be refused", arguments.files.len());
    }
    Ok(())
}

/// Keys of a folder with those of `more`.
fn with_keys(folder: &Path, more: (String, String)) -> BTreeMap<String, String> {
    let there = std::fs::read(folder.join(KEYS_FILE)).ok();
    let mut keys: BTreeMap<String, String> =
        there.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    keys.extend([more]);
    keys
}

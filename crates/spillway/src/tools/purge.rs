//! `spillway purge`: objects out of the caches of own edges.

use anyhow::{Context as _, bail};
use reqwest::StatusCode;
use serde_json::json;

use super::BadUsage;
use super::manifest::client;
use crate::cli::Purge;

/// Rounds over all edges: one that was purged may have fetched again from one that was not yet.
const ROUNDS: usize = 2;

/// Purges every edge, in the order given; goes on behind one that fails.
///
/// # Errors
/// Nothing to purge, and the edges that did not do it.
pub async fn run(arguments: &Purge) -> anyhow::Result<()> {
    let Purge { edges, url, prefix, tag, soft, token } = arguments;
    if url.is_empty() && prefix.is_empty() && tag.is_empty() {
        bail!(BadUsage("nothing to purge (valid: one of --url, --prefix, --tag)".into()));
    }
    let body = json!({"urls": url, "prefixes": prefix, "tags": tag, "soft": soft}).to_string();
    let client = client()?;
    let mut failed = Vec::new();
    for round in 0..ROUNDS.min(edges.len()) {
        for edge in edges {
            let base = edge.trim_end_matches('/');
            match purge(&client, base, &body, token).await {
                Ok(told) if round == 0 => println!("{base}: {told}"),
                Ok(_) => {}
                Err(error) => {
                    eprintln!("{base}: {error:#}");
                    failed.push(base);
                }
            }
        }
    }
    failed.sort_unstable();
    failed.dedup();
    if !failed.is_empty() {
        bail!("{} of {} edges may still serve it: {}", failed.len(), edges.len(), failed.join(", "));
    }
    Ok(())
}

/// On the admin port, or, where there is none, beside the viewers.
async fn purge(client: &reqwest::Client, base: &str, body: &str, token: &str) -> anyhow::Result<String> {
    let mut last = None;
    for path in ["/v1/purge", "/.spillway/purge"] {
        let request = client.post(format!("{base}{path}")).bearer_auth(token).body(body.to_owned());
        let answer = request.send().await.context("not reached")?;
        let status = answer.status();
        let told = answer.text().await.unwrap_or_default();
        if status.is_success() {
            return Ok(told.trim().to_owned());
        }
        last = Some(format!("{status}: {}", told.trim()));
        // An edge without an admin port takes the first path for one of its origin's.
        if !matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            break;
        }
    }
    bail!(last.unwrap_or_default())
}

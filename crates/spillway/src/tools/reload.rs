//! `spillway reload`: the configuration of a running orchestrator again.

use serde_json::Value;

use super::manifest::{answer, client};
use crate::cli::Reload;

/// Asks for the reload, and prints what it changed or would change.
///
/// # Errors
/// What can't be reached, and a refusal by the orchestrator: then its old configuration goes on.
pub async fn run(arguments: &Reload) -> anyhow::Result<()> {
    let url = format!("{}/v1/reload?dry_run={}", arguments.orchestrator.trim_end_matches('/'), arguments.dry_run);
    let told = answer(client()?.post(&url).bearer_auth(&arguments.token), &url).await?;
    let told: Value = serde_json::from_slice(&told)?;
    if arguments.json {
        println!("{told}");
    } else {
        lines(&told).iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

fn list<'t>(value: &'t Value, key: &str) -> impl Iterator<Item = &'t Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'t>(value: &'t Value, key: &str) -> &'t str {
    value[key].as_str().unwrap_or_default()
}

/// The answer for people.
fn lines(told: &Value) -> Vec<String> {
    let mut out = vec![match text(told, "outcome") {
        "applied" => "the new configuration is in force".to_owned(),
        "dry_run" => "nothing is changed; the file would change this:".to_owned(),
        _ => "nothing that can change differs".to_owned(),
    }];
    for change in list(told, "changed") {
        let (key, from, to) = (text(change, "key"), &change["from"], &change["to"]);
        out.push(match (from.as_str(), to.as_str()) {
            (None, Some(to)) => format!("  {key}: new, {to}"),
            (Some(from), None) => format!("  {key}: gone, was {from}"),
            (from, to) => format!("  {key}: {} → {}", from.unwrap_or_default(), to.unwrap_or_default()),
        });
    }
    for key in list(told, "needs_restart").filter_map(Value::as_str) {
        out.push(format!("  {key}: needs a restart, not applied"));
    }
    for left in list(told, "removed") {
        let (pathway, region, views) = (text(left, "pathway"), text(left, "region"), &left["views"]);
        out.push(format!("{pathway} leaves {region}: {views} views are on it"));
    }
    for new in list(told, "added") {
        out.push(format!("{} is new in {}", text(new, "pathway"), text(new, "region")));
    }
    for order in list(told, "orders").filter_map(Value::as_str) {
        out.push(format!("{order} names what is gone and does nothing"));
    }
    for (region, of) in told["regions"].as_object().into_iter().flatten() {
        out.push(match (text(of, "state"), of["from"].as_u64()) {
            ("same", Some(epoch)) => format!("{region}: epoch {epoch} stays"),
            ("gone", Some(epoch)) => format!("{region}: gone; epoch {epoch} is the last one"),
            ("changed", Some(epoch)) => format!("{region}: after epoch {epoch}"),
            (state, _) => format!("{region}: {state}"),
        });
        out.extend(list(of, "text").filter_map(Value::as_str).map(|line| format!("  {line}")));
        for (id, pair) in of["heads_for_ppm"].as_object().into_iter().flatten() {
            let percent = |n: usize| pair[n].as_f64().unwrap_or(0.0) / 1e4;
            out.push(format!("  {id} heads for {:.1} % (without it for {:.1} %)", percent(1), percent(0)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_key_by_key_and_region_by_region() {
        let told = serde_json::json!({
            "outcome": "dry_run",
            "changed": [{"key": "pathway[cdn-b].price_usd_per_gb", "from": "0.01", "to": "0.02"},
                        {"key": "pathway[cdn-c]", "from": "{}", "to": null}],
            "needs_restart": ["lake.jobs"],
            "removed": [{"pathway": "cdn-c", "region": "eu", "views": 12}],
            "added": [{"pathway": "cdn-d", "region": "eu"}],
            "orders": ["override o-1 (drain cdn-c by ann)"],
            "regions": {"eu": {"state": "changed", "from": 7, "text": ["weight all: cdn-c: gone, was 5.0 %"],
                               "heads_for_ppm": {"cdn-d": [0, 300_000]}},
                        "us": {"state": "same", "from": 3, "text": [], "heads_for_ppm": {}}},
        });
        assert_eq!(
            lines(&told),
            [
                "nothing is changed; the file would change this:",
                "  pathway[cdn-b].price_usd_per_gb: 0.01 → 0.02",
                "  pathway[cdn-c]: gone, was {}",
                "  lake.jobs: needs a restart, not applied",
                "cdn-c leaves eu: 12 views are on it",
                "cdn-d is new in eu",
                "override o-1 (drain cdn-c by ann) names what is gone and does nothing",
                "eu: after epoch 7",
                "  weight all: cdn-c: gone, was 5.0 %",
                "  cdn-d heads for 30.0 % (without it for 0.0 %)",
                "us: epoch 3 stays",
            ]
        );
    }
}

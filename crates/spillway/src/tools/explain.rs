//! `spillway explain`: why a session got its order, in five lines.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli;

/// Asks a steering node and prints its explanation.
///
/// # Errors
/// A node that can't be reached or refuses.
pub async fn run(arguments: &cli::Explain) -> anyhow::Result<()> {
    let url = format!("{}/v1/explain", arguments.steer.trim_end_matches('/'));
    let mut query: Vec<(&str, &str)> = Vec::new();
    for (name, value) in [
        ("t", &arguments.session_token),
        ("sid", &arguments.session),
        ("content", &arguments.content),
        ("region", &arguments.region),
    ] {
        query.extend(value.as_deref().map(|value| (name, value)));
    }
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let mut request = client.get(&url).query(&query);
    if let Some(token) = &arguments.token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.with_context(|| url.clone())?;
    let status = answer.status();
    let text = answer.text().await?;
    if !status.is_success() {
        bail!("the steering node refuses: {status}: {text}");
    }
    if arguments.json {
        println!("{text}");
        return Ok(());
    }
    let told: Value = serde_json::from_str(&text).with_context(|| format!("{url} answers no JSON"))?;
    for line in lines(&told) {
        println!("{line}");
    }
    Ok(())
}

/// Who, first, then, last and why: a line each.
fn lines(told: &Value) -> [String; 5] {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rule = &told["rule"];
    let network = told["asn"].as_u64().map_or("an unknown network".to_owned(), |asn| format!("AS{asn}"));
    let session_is = rule["session_is"].as_str().unwrap_or("new");
    let who = format!(
        "view {} of {} in {}, {network}: a {session_is} session under epoch {} ({}), asked again in {} s",
        told["sid"],
        told["content"],
        text(&told["region"]),
        told["epoch"],
        text(&told["plan"]),
        told["ttl_s"]
    );
    let order: &[Value] = told["order"].as_array().map_or(&[], Vec::as_slice);
    let (first, rest) = order.split_first().map_or((&Value::Null, order), |(first, rest)| (first, rest));
    let (dead, spare): (Vec<&Value>, Vec<&Value>) = rest.iter().partition(|step| step["place"] == "dead");
    let first = match first["place"].as_str() {
        None => "first: nothing serves this view here".to_owned(),
        Some(place) => {
            let how = match place {
                "weight" => format!(
                    "its hash fell into the {} of {session_is} sessions that go there",
                    percent(weight(&rule["weights_ppm"], &first["id"]))
                ),
                "static" => "by static weights: the plan does not decide for it (observed only, holdback, or no plan)"
                    .to_owned(),
                _ => "nothing with a weight may serve this view".to_owned(),
            };
            format!("first: {}, {how}; {}", text(&first["id"]), condition(first))
        }
    };
    let then = if spare.is_empty() {
        "then: nothing else".to_owned()
    } else {
        let one = |step: &&Value| match weight(&rule["spare_ppm"], &step["id"]) {
            Some(spare) => {
                format!("{} ({} of the spare room, {})", text(&step["id"]), percent(Some(spare)), condition(step))
            }
            None => format!("{} ({})", text(&step["id"]), condition(step)),
        };
        format!("then: {}; by spare room, outside the first one's failure domain", list(spare.iter().map(one)))
    };
    let last = if dead.is_empty() {
        "last: nothing is out of service".to_owned()
    } else {
        let one = |step: &&Value| format!("{} ({})", text(&step["id"]), condition(step));
        format!("last: {}", list(dead.iter().map(one)))
    };
    let shadow = match told["shadow_first"]["id"].as_str() {
        Some(id) => format!("; the shadow plan would send it to {id}"),
        None => String::new(),
    };
    let why = match rule["reason"].as_str() {
        Some(reason) if !reason.is_empty() => format!("why: {reason} (policy {}){shadow}", told["policy"]),
        _ => format!("why: no rule of the plan is for this view (policy {}){shadow}", told["policy"]),
    };
    [who, first, then, last, why]
}

fn weight(weights: &Value, id: &Value) -> Option<u64> {
    weights[id.as_str()?].as_u64()
}

fn percent(ppm: Option<u64>) -> String {
    ppm.map_or("share".to_owned(), |ppm| format!("{:.1} %", ppm as f64 / 1e4))
}

fn condition(step: &Value) -> String {
    let state = step["state"].as_str().unwrap_or("of unknown state");
    let full = percent(step["utilisation_ppm"].as_u64());
    match step["reason"].as_str() {
        Some(reason) if !reason.is_empty() => format!("{state}: {reason}; {full} full"),
        _ => format!("{state}, {full} full"),
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_explained_in_five_lines() {
        let told = serde_json::json!({
            "epoch": 88, "plan": "manifest", "policy": "p-9", "region": "eu", "asn": 64500, "sid": "v1", "content": "live/x",
            "ttl_s": 10, "declared": ["cdn-b", "cdn-c", "cdn-a"],
            "rule": {"reason": "cdn-a is DOWN: 42 of 60 sessions failed", "session_is": "running",
                     "weights_ppm": {"cdn-b": 700_000, "cdn-c": 300_000}, "spare_ppm": {"cdn-c": 850_000}},
            "order": [
                {"id": "cdn-b", "place": "weight", "state": "HEALTHY", "reason": "", "utilisation_ppm": 410_000},
                {"id": "cdn-c", "place": "spare", "state": "HEALTHY", "reason": "", "utilisation_ppm": 20_000},
                {"id": "cdn-a", "place": "dead", "state": "DOWN", "reason": "failing", "utilisation_ppm": 0}],
        });
        assert_eq!(
            lines(&told),
            [
                "view \"v1\" of \"live/x\" in eu, AS64500: a running session under epoch 88 (manifest), asked again in 10 s",
                "first: cdn-b, its hash fell into the 70.0 % of running sessions that go there; HEALTHY, 41.0 % full",
                "then: cdn-c (85.0 % of the spare room, HEALTHY, 2.0 % full); by spare room, outside the first one's \
                 failure domain",
                "last: cdn-a (DOWN: failing; 0.0 % full)",
                "why: cdn-a is DOWN: 42 of 60 sessions failed (policy \"p-9\")",
            ]
        );
    }

    #[test]
    fn an_empty_order_is_said() {
        let told = serde_json::json!({"epoch": 0, "plan": "static", "order": [], "region": "eu", "rule": null});
        let lines = lines(&told);
        assert_eq!(lines[1], "first: nothing serves this view here");
        assert!(lines[4].starts_with("why: no rule"), "{lines:?}");
    }
}

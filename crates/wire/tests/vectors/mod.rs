//! The questions that the golden vectors ask: ten manifests, a hundred sessions each. Used once, to make the file.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spillway_routing::share_of;

use super::Vector;

/// Moment before which views are running ones, in the manifests that tell them apart.
const LINE_MS: u64 = 1_767_225_600_000;

fn pathway(id: &str, group: Option<&str>, domains: &[&str]) -> Value {
    let all: Vec<&str> = [id].into_iter().chain(group).chain(domains.iter().copied()).collect();
    let mut all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    all.sort();
    json!({
        "kind": if id.starts_with("own-") { "own" } else { "commercial" },
        "state": "HEALTHY", "reason": "", "since_ms": 0, "utilisation_ppm": 0,
        "capacity_bps": 1_000_000_000_u64, "learned_capacity_bps": 1_000_000_000_u64,
        "serves": { "classes": [], "codecs": [], "drm": [], "territories": [], "address_families": [] },
        "group": group, "origin_group": null, "failure_domains": all,
        "base_url": format!("http://{id}.example"), "signer": null,
    })
}

fn cohort(new: &Value, running: &Value, spare: &Value) -> Value {
    json!({
        "asn": null, "class": null, "device_class": null, "weights_new": new, "weights_running": running,
        "running_before_ms": LINE_MS, "spare": spare, "reason": "",
    })
}

/// Three CDNs, of which two share a transit; `new` for all, static weights on two.
fn commercial(new: &Value, spare: &Value) -> Value {
    json!({
        "v": 1, "region": "eu-south", "epoch": 1, "issued_ms": LINE_MS, "valid_until_ms": LINE_MS + 60_000,
        "policy": "golden", "modes": [{ "class": null, "mode": "control", "control_ppm": 1_000_000 }],
        "pathways": {
            "cdn-a": pathway("cdn-a", None, &["transit-1"]),
            "cdn-b": pathway("cdn-b", None, &[]),
            "cdn-c": pathway("cdn-c", None, &["transit-1"]),
        },
        "groups": {}, "cohorts": [cohort(new, new, spare)], "max_bitrate_kbps": [], "hot_titles": {},
        "ttl": { "vod_s": 30, "live_s": 10, "suspect_s": 5, "jitter_ppm": 100_000 },
        "static_weights": { "cdn-a": 600_000, "cdn-b": 400_000 }, "shadow": [], "overrides": [], "drill": null,
    })
}

/// The same with two own clusters.
fn with_groups(new: &Value, spare: &Value) -> Value {
    let mut out = commercial(new, spare);
    for node in ["own-fra-1", "own-fra-2", "own-fra-3"] {
        out["pathways"][node] = pathway(node, Some("own-fra"), &[]);
    }
    for node in ["own-mil-1", "own-mil-2"] {
        out["pathways"][node] = pathway(node, Some("own-mil"), &["transit-2"]);
    }
    out["groups"]["own-fra"]["nodes"] = json!({ "own-fra-1": 500_000, "own-fra-2": 300_000, "own-fra-3": 200_000 });
    out["groups"]["own-mil"]["nodes"] = json!({ "own-mil-1": 500_000, "own-mil-2": 500_000 });
    out
}

/// Manifest payloads by name.
pub fn manifests() -> BTreeMap<String, Value> {
    let even = json!({ "cdn-a": 333_334, "cdn-b": 333_333, "cdn-c": 333_333 });
    let own = json!({ "own-fra": 550_000, "own-mil": 300_000, "cdn-a": 50_000, "cdn-b": 70_000, "cdn-c": 30_000 });
    let spare = json!({ "own-fra": 200_000, "own-mil-2": 100_000, "cdn-a": 300_000, "cdn-b": 500_000 });
    let groups = with_groups(&own, &spare);

    let mut hot = groups.clone();
    hot["hot_titles"] = json!({ "live/final": 2, "live/river": 3, "vod/t-1": 9, "vod/t-2": 0 });

    let mut holdback = groups.clone();
    holdback["modes"] = json!([
        { "class": "kids", "mode": "observe", "control_ppm": 1_000_000 },
        { "class": "live-sport", "mode": "control", "control_ppm": 1_000_000 },
        { "class": null, "mode": "control", "control_ppm": 500_000 },
    ]);
    holdback["pathways"]["cdn-a"]["state"] = "DOWN".into();

    let mut down = groups.clone();
    for (id, state) in [("cdn-a", "DOWN"), ("own-fra-2", "DOWN"), ("own-mil-1", "DRAINING"), ("cdn-c", "RECOVERING")] {
        down["pathways"][id]["state"] = state.into();
    }

    let mut running = groups.clone();
    running["cohorts"][0]["weights_running"] = json!({ "own-fra": 900_000, "cdn-c": 100_000 });

    let mut serves = groups.clone();
    serves["pathways"]["cdn-a"]["serves"] = json!({
        "classes": ["UHD-DRM", "live-sport"], "codecs": ["avc1", "hev1"], "drm": ["widevine"],
        "territories": ["GR", "IT"], "address_families": ["v4"],
    });
    serves["pathways"]["own-fra-1"]["serves"]["classes"] = json!(["kids"]);
    serves["pathways"]["own-mil-1"]["serves"]["codecs"] = json!(["avc1"]);
    serves["pathways"]["own-mil-2"]["serves"]["codecs"] = json!(["avc1"]);
    serves["pathways"]["cdn-c"]["serves"]["address_families"] = json!(["v4", "v6"]);

    let mut cohorts = groups.clone();
    let only = |name: &str| json!({ name: 1_000_000 });
    let mut rules = vec![groups["cohorts"][0].clone()];
    for (asn, class, device, weights) in [
        (Some(64_501), None, None, only("own-mil")),
        (None, Some("live-sport"), None, json!({ "cdn-b": 500_000, "cdn-c": 500_000 })),
        (Some(64_501), Some("live-sport"), None, only("cdn-c")),
        (None, None, Some("tv"), json!({ "own-fra": 999_999, "cdn-a": 1 })),
    ] {
        let mut rule = cohort(&weights, &weights, &json!({ "cdn-a": 1 }));
        rule["asn"] = json!(asn);
        rule["class"] = json!(class);
        rule["device_class"] = json!(device);
        rules.push(rule);
    }
    cohorts["cohorts"] = rules.into();

    let mut shadow = with_groups(&own, &spare);
    shadow["modes"] = json!([{ "class": null, "mode": "shadow", "control_ppm": 1_000_000 }]);
    shadow["pathways"]["cdn-b"]["state"] = "DOWN".into();
    shadow["static_weights"] = json!({ "own-fra": 400_000, "cdn-b": 300_000, "cdn-c": 300_000 });

    // A plan that fits nobody, spare weights beyond all bounds, a node without weight, a node outside its group.
    let mut odd = groups.clone();
    odd["cohorts"][0] = cohort(
        &only("cdn-a"),
        &only("cdn-a"),
        &json!({ "own-fra": 4_294_967_295_u32, "own-solo": 4_294_967_295_u32, "cdn-c": 1 }),
    );
    odd["pathways"]["cdn-a"]["state"] = "DOWN".into();
    odd["pathways"]["cdn-a"]["serves"]["territories"] = json!(["GR"]);
    odd["pathways"]["own-solo"] = pathway("own-solo", Some("own-gone"), &[]);
    odd["groups"]["own-fra"]["nodes"] = json!({ "own-fra-1": 0, "own-fra-2": 1, "own-fra-3": 999_999 });
    odd["static_weights"] = json!({ "own-fra": 500_000, "own-mil": 250_000, "cdn-b": 250_000 });

    let all = [
        ("commercial", commercial(&even, &json!({ "cdn-a": 100_000, "cdn-b": 200_000, "cdn-c": 700_000 }))),
        ("groups", groups),
        ("hot-titles", hot),
        ("holdback", holdback),
        ("down", down),
        ("running", running),
        ("serves", serves),
        ("cohorts", cohorts),
        ("shadow", shadow),
        ("odd", odd),
    ];
    all.map(|(name, manifest)| (name.to_owned(), manifest)).into()
}

/// A hundred questions for each manifest; the answers are still empty.
pub fn questions(manifests: &[String]) -> Vec<Vector> {
    let mut out = Vec::new();
    for manifest in manifests {
        for number in 0..100_u32 {
            let key = format!("{manifest}-{number}");
            let draw = |salt: &str, below: u32| (u64::from(share_of(&key, salt)) * u64::from(below) / 1_000_000) as u32;
            let one_of = |salt: &str, words: &[&str]| {
                words.get(draw(salt, words.len() as u32 + 2) as usize).map(|word| (*word).to_owned())
            };
            let session = match number % 4 {
                0 => format!("v-{number}"),
                1 => format!("{:08x}-1b2c-4d3e-8f90-{:012x}", draw("id", 1_000_000), draw("id2", 1_000_000)),
                2 => format!("k3v9Zt0aQ1mB7c.{key}_{}", draw("id", 1_000_000)),
                _ => char::from(b'a' + (number / 4) as u8).to_string(),
            };
            let titles = ["live/final", "live/river", "vod/t-1", "vod/t-2"];
            let title = titles.get(draw("title", 8) as usize).map(|title| (*title).to_owned());
            let mut vector = Vector {
                manifest: manifest.clone(),
                session,
                started_ms: LINE_MS - 2 + u64::from(draw("started", 4)),
                content: title.unwrap_or_else(|| format!("vod/series/{}/e-{}.x", draw("s", 40), draw("e", 24))),
                ..Vector::default()
            };
            if matches!(manifest.as_str(), "serves" | "cohorts" | "holdback" | "odd") {
                vector.asn = [Some(64_501), Some(64_502), None][draw("asn", 3) as usize];
                vector.class = one_of("class", &["live-sport", "kids", "UHD-DRM"]);
                vector.device_class = one_of("device", &["tv", "mobile"]);
                vector.codec = one_of("codec", &["avc1", "hev1", "av01"]);
                vector.drm = one_of("drm", &["widevine", "fairplay"]);
                vector.territory = one_of("territory", &["GR", "FR"]);
                vector.address_family = one_of("family", &["v4", "v6"]);
            }
            out.push(vector);
        }
    }
    out
}

//! 1,000 golden vectors of `rank()`: manifests as they are published, sessions, and the order they must get, on every
//! machine, in every language, for good. A change of `rank()` that breaks them moves running viewers at its release.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use spillway_model::{ContentClass, ContentId, TimestampMs};
use spillway_routing::{AddressFamily, Manifest, Order, Ranked, Ranker, Session, rank};
use spillway_wire::manifest;

#[path = "vectors/mod.rs"]
mod vectors;

/// The whole file.
#[derive(Serialize, Deserialize)]
struct File {
    /// Manifest payloads by name.
    manifests: BTreeMap<String, Value>,
    vectors: Vec<Vector>,
}

/// One question and its answer. Absent = unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Vector {
    manifest: String,
    session: String,
    started_ms: u64,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    codec: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    territory: Option<String>,
    /// `v4` or `v6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    address_family: Option<String>,
    /// `pathway place`, best first.
    order: Vec<String>,
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../routing/golden/rank.json")
}

fn order_of(vector: &Vector, manifest: &Manifest) -> Vec<String> {
    let class = vector.class.as_deref().map(|class| ContentClass::new(class).expect("class"));
    let session = Session {
        asn: vector.asn,
        class: class.as_ref(),
        device_class: vector.device_class.as_deref(),
        codec: vector.codec.as_deref(),
        drm: vector.drm.as_deref(),
        territory: vector.territory.as_deref(),
        address_family: vector
            .address_family
            .as_deref()
            .map(|family| if family == "v6" { AddressFamily::V6 } else { AddressFamily::V4 }),
        ..Session::new(&vector.session, TimestampMs(vector.started_ms))
    };
    let content = ContentId::new(&vector.content).expect("content");
    let ranked = rank(&session, &content, manifest);
    let (ranker, mut order) = (Ranker::new(manifest).expect("few pathways"), Order::default());
    ranker.rank(&session, &content, &mut order);
    let prepared: Vec<Ranked> =
        order.placed().iter().map(|p| Ranked { pathway: ranker.pathway(p.index).clone(), place: p.place }).collect();
    assert_eq!(prepared, ranked, "a prepared manifest gives the same order");
    ranked.iter().map(|ranked| format!("{} {}", ranked.pathway, ranked.place.as_str())).collect()
}

fn parsed(manifests: &BTreeMap<String, Value>) -> BTreeMap<String, Manifest> {
    let parse = |payload: &Value| manifest::parse(payload.to_string().as_bytes()).expect("a valid manifest");
    manifests.iter().map(|(name, payload)| (name.clone(), parse(payload))).collect()
}

#[test]
fn every_vector_gets_its_order() {
    let text = fs::read_to_string(path()).expect("crates/routing/golden/rank.json");
    let file: File = serde_json::from_str(&text).expect("json");
    assert_eq!(file.vectors.len(), 1_000);
    let manifests = parsed(&file.manifests);
    let mut wrong = Vec::new();
    for (index, vector) in file.vectors.iter().enumerate() {
        let order = order_of(vector, &manifests[&vector.manifest]);
        if order != vector.order {
            wrong.push(format!("{index} ({}): {order:?} instead of {:?}", vector.manifest, vector.order));
        }
    }
    assert!(wrong.is_empty(), "{} of 1,000 differ, as\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

#[test]
fn the_vectors_reach_every_place_and_every_manifest() {
    let file: File = serde_json::from_str(&fs::read_to_string(path()).expect("file")).expect("json");
    let mut places: BTreeMap<&str, u32> = BTreeMap::new();
    let mut firsts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut used: BTreeMap<&str, u32> = BTreeMap::new();
    for vector in &file.vectors {
        *used.entry(&vector.manifest).or_default() += 1;
        for (index, step) in vector.order.iter().enumerate() {
            let (pathway, place) = step.split_once(' ').expect("pathway place");
            *places.entry(place).or_default() += 1;
            if index == 0 {
                *firsts.entry(pathway).or_default() += 1;
            }
        }
    }
    assert_eq!(used.len(), file.manifests.len());
    assert!(["weight", "static", "spare", "leftover", "dead"].iter().all(|place| places[place] >= 50), "{places:?}");
    assert!(firsts.len() >= 8 && firsts.values().all(|count| *count >= 50), "{firsts:?}");
}

/// With `SPILLWAY_BLESS=1`: makes the file. Refuses to touch one that is there.
#[test]
fn vectors_are_made_once() {
    if std::env::var_os("SPILLWAY_BLESS").is_none() {
        return;
    }
    let manifests = vectors::manifests();
    let domain = parsed(&manifests);
    let mut vectors = vectors::questions(&manifests.keys().cloned().collect::<Vec<_>>());
    for vector in &mut vectors {
        vector.order = order_of(vector, &domain[&vector.manifest]);
    }
    // One vector a line, so that people can read it and tools can show a difference.
    let line = |vector: &Vector| serde_json::value::to_raw_value(vector).expect("json");
    let lines: Vec<Box<RawValue>> = vectors.iter().map(line).collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.get()).collect();
    let manifests = serde_json::to_string_pretty(&manifests).expect("json");
    let text = format!("{{\n\"manifests\": {manifests},\n\"vectors\": [\n{}\n]\n}}\n", lines.join(",\n"));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path()).expect("a new file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
}

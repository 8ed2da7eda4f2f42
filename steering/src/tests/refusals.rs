//! Which manifests are refused, and what is in force then.

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_model::{Millis, PathwayState, RegionId};
use spillway_routing::{Manifest, Place};
use spillway_wire::{envelope, manifest as wire};

use super::fixtures::{NOW, deployment, id, manifest, region, sealed, signing_key, weights};
use crate::asker::content_of;
use crate::decide;
use crate::manifests::{Manifests, Source};

fn manifests() -> Manifests {
    let out = Manifests::new(&deployment(), Arc::default()).expect("static plans");
    out.set_keys(BTreeMap::from([("k1".to_owned(), signing_key().verifying_key())]));
    out
}

fn good(epoch: u64) -> Manifest {
    manifest(epoch, &[("cdn-a", 1_000_000)])
}

/// What `change` does to the payload of a good manifest, signed all the same.
fn with_payload(change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(&wire::to_bytes(&good(9))).expect("json");
    change(&mut value);
    let payload = serde_json::to_vec(&value).expect("json");
    serde_json::to_vec(&envelope::seal("k1", &signing_key(), &payload)).expect("json")
}

#[test]
fn each_bad_manifest_is_refused_by_name_and_the_last_good_one_stays() {
    let mut forged: envelope::Envelope = serde_json::from_slice(&sealed(&good(9))).expect("json");
    forged.payload = serde_json::from_slice::<envelope::Envelope>(&sealed(&good(8))).expect("json").payload;
    let other_key = envelope::seal("k2", &signing_key(), &wire::to_bytes(&good(9)));
    let mut elsewhere = good(9);
    elsewhere.region = RegionId::new("eu-b").expect("id");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("unreadable", b"{".to_vec()),
        ("unreadable", vec![b' '; 5 << 20]),
        ("bad_signature", serde_json::to_vec(&forged).expect("json")),
        ("unknown_key", serde_json::to_vec(&other_key).expect("json")),
        ("older_epoch", sealed(&good(4))),
        ("older_epoch", sealed(&manifest(5, &[("cdn-b", 1_000_000)]))),
        ("wrong_region", sealed(&elsewhere)),
        ("unknown_version", with_payload(|value| value["v"] = 2.into())),
        ("unreadable", with_payload(|value| value["epoch"] = "five".into())),
        ("weight_sum", with_payload(|value| value["cohorts"][0]["weights_new"]["cdn-a"] = 999_999.into())),
        ("weight_sum", with_payload(|value| value["groups"]["own-x"]["nodes"]["own-x-1"] = 1.into())),
        ("unknown_pathway", with_payload(|value| value["cohorts"][0]["spare"]["cdn-z"] = 1.into())),
        ("no_default_cohort", with_payload(|value| value["cohorts"][0]["asn"] = 7.into())),
        ("ttl_out_of_range", with_payload(|value| value["ttl"]["live_s"] = 1.into())),
        ("bad_base_url", with_payload(|value| value["pathways"]["cdn-a"]["base_url"] = "/x".into())),
        ("unknown_word", with_payload(|value| value["pathways"]["cdn-a"]["state"] = "UP".into())),
        ("bad_id", with_payload(|value| value["region"] = "a b".into())),
        ("no_pathway", with_payload(|value| value["pathways"] = serde_json::json!({}))),
    ];
    let manifests = manifests();
    manifests.offer(&region(), &sealed(&good(5)), NOW).expect("good");
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, bytes) in cases {
        let refusal = manifests.offer(&region(), &bytes, NOW).expect_err(reason);
        assert_eq!(refusal.name(), reason, "{refusal}");
        *expected.entry(reason).or_default() += 1;
        assert_eq!(manifests.current(&region(), NOW).manifest.epoch, 5);
    }
    let status = manifests.status(NOW);
    assert_eq!(status[&region()].refusals.by_reason, expected);
    assert!(status[&RegionId::new("eu-b").expect("id")].refusals.by_reason.is_empty(), "that region alone");
}

#[test]
fn a_newer_manifest_swaps_and_the_same_again_is_no_refusal() {
    let manifests = manifests();
    for epoch in [1, 1, 2, 7] {
        manifests.offer(&region(), &sealed(&good(epoch)), NOW).expect("good");
        assert_eq!(manifests.current(&region(), NOW).manifest.epoch, epoch);
    }
    assert!(manifests.status(NOW)[&region()].refusals.by_reason.is_empty());
    let unknown = RegionId::new("mars").expect("id");
    assert_eq!(manifests.offer(&unknown, &sealed(&good(9)), NOW).expect_err("unknown").name(), "wrong_region");
}

#[test]
fn after_its_time_static_weights_hold_but_never_a_pathway_known_to_be_dead() {
    let manifests = manifests();
    let mut plan = good(3);
    plan.static_weights = weights(&[("cdn-b", 500_000), ("cdn-c", 500_000)]);
    plan.pathways.get_mut("cdn-b").expect("there").state = PathwayState::Down;
    manifests.offer(&region(), &sealed(&plan), NOW).expect("good");
    let later = NOW.after(Millis::from_secs(61));
    assert_eq!(manifests.current(&region(), NOW).source, Source::Manifest);
    let current = manifests.current(&region(), later);
    assert_eq!((current.source, current.manifest.epoch), (Source::Expired, 3));
    for n in 0..200 {
        let token = viewer(&format!("v{n}"));
        let first = decide::assign(&token, None, &current.manifest).ranked.remove(0);
        assert_eq!((first.pathway, first.place), (id("cdn-c"), Place::Static));
    }
}

#[test]
fn without_any_manifest_the_configuration_s_weights_hold() {
    let manifests = Arc::new(manifests());
    let current = manifests.current(&region(), NOW);
    assert_eq!((current.source, current.manifest.epoch), (Source::Static, 0));
    let plan = &current.manifest;
    assert_eq!(plan.static_weights, weights(&[("cdn-a", 250_000), ("own-x", 750_000)]));
    assert_eq!(plan.groups.values().next().expect("one").nodes.values().sum::<u32>(), 1_000_000);
    assert_eq!(plan.pathways[&id("cdn-a")].base_url, "http://cdn-a.example/p");
    let own = (0..1_000).filter(|n| {
        let first = decide::assign(&viewer(&format!("v{n}")), None, plan).ranked.remove(0);
        first.pathway.as_str().starts_with("own-")
    });
    assert!((700..800).contains(&own.count()));
    let other = manifests.current(&RegionId::new("eu-b").expect("id"), NOW).manifest;
    assert_eq!(other.pathways.len(), 3, "own nodes serve eu-a only");
}

fn viewer(view: &str) -> spillway_wire::token::Token {
    spillway_wire::token::Token {
        view: spillway_model::ViewId::new(view).expect("id"),
        region: region(),
        asn: None,
        class: None,
        started: NOW,
        content: content_of("vod/lake/master.m3u8"),
        pathways: vec![],
        first: None,
        needs: spillway_wire::token::Needs::default(),
    }
}

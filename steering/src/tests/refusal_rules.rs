//! One test per rule by which a manifest is refused: that region keeps what it has, the reason is counted, and the next
//! good one and the other regions go on.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spillway_model::RegionId;
use spillway_model::limits::MANIFEST_MAX_BYTES;
use spillway_wire::{envelope, manifest as wire};

use super::fixtures::{NOW, deployment, manifest, region, sealed, signing_key};
use crate::manifests::Manifests;

const HELD: u64 = 5;

fn other() -> RegionId {
    RegionId::new("eu-b").expect("id")
}

fn of_other(epoch: u64) -> Vec<u8> {
    let mut plan = manifest(epoch, &[("cdn-b", 1_000_000)]);
    plan.region = other();
    sealed(&plan)
}

fn good(epoch: u64) -> Vec<u8> {
    sealed(&manifest(epoch, &[("cdn-a", 1_000_000)]))
}

/// A newer manifest with what `change` does to its payload, well signed.
fn changed(change: impl Fn(&mut Value)) -> Vec<u8> {
    let plan = manifest(HELD + 1, &[("cdn-b", 1_000_000)]);
    let mut payload: Value = serde_json::from_slice(&wire::to_bytes(&plan)).expect("json");
    change(&mut payload);
    let sealed = envelope::seal("k1", &signing_key(), &serde_json::to_vec(&payload).expect("json"));
    serde_json::to_vec(&sealed).expect("json")
}

/// Offers `bad` twice to a node that has good plans of both regions.
fn refused(reason: &str, bad: &[u8]) {
    let manifests = Manifests::new(&deployment(), std::sync::Arc::default()).expect("static plans");
    manifests.set_keys(BTreeMap::from([("k1".to_owned(), signing_key().verifying_key())]));
    manifests.offer(&region(), &good(HELD), NOW).expect("good");
    manifests.offer(&other(), &of_other(1), NOW).expect("good");
    let before = manifests.current(&region(), NOW).manifest;
    for times in 1..=2 {
        let refusal = manifests.offer(&region(), bad, NOW).expect_err(reason);
        assert_eq!(refusal.name(), reason, "{refusal}");
        let status = manifests.status(NOW);
        let here = &status[&region()];
        assert_eq!(here.refusals.by_reason, BTreeMap::from([(refusal.name(), times)]));
        assert_eq!(here.refusals.last.as_deref(), Some(refusal.to_string().as_str()));
        assert!(**here.current.manifest == **before, "the last good one stays");
        assert!(status[&other()].refusals.by_reason.is_empty(), "that region alone");
    }
    assert!(manifests.offer(&other(), &of_other(2), NOW).expect("the other region goes on"));
    assert!(manifests.offer(&region(), &good(HELD + 2), NOW).expect("a good one is taken again"));
    assert_eq!(manifests.current(&region(), NOW).manifest.epoch, HELD + 2);
}

#[test]
fn a_signature_that_does_not_fit_is_refused() {
    let mut forged: envelope::Envelope = serde_json::from_slice(&good(HELD + 1)).expect("json");
    forged.sig = serde_json::from_slice::<envelope::Envelope>(&good(HELD + 3)).expect("json").sig;
    refused("bad_signature", &serde_json::to_vec(&forged).expect("json"));
}

#[test]
fn a_signature_of_another_length_is_refused() {
    let mut forged: envelope::Envelope = serde_json::from_slice(&good(HELD + 1)).expect("json");
    forged.sig = "AAAA".into();
    refused("bad_signature", &serde_json::to_vec(&forged).expect("json"));
}

#[test]
fn a_key_that_nobody_announced_is_refused() {
    let plan = wire::to_bytes(&manifest(HELD + 1, &[("cdn-b", 1_000_000)]));
    let sealed = envelope::seal("k9", &signing_key(), &plan);
    refused("unknown_key", &serde_json::to_vec(&sealed).expect("json"));
}

#[test]
fn an_older_epoch_is_refused() {
    refused("older_epoch", &good(HELD - 1));
}

#[test]
fn another_manifest_of_the_same_epoch_is_refused() {
    refused("older_epoch", &sealed(&manifest(HELD, &[("cdn-b", 1_000_000)])));
}

#[test]
fn the_manifest_of_another_region_is_refused() {
    refused("wrong_region", &of_other(HELD + 1));
}

#[test]
fn what_is_no_envelope_is_refused() {
    refused("unreadable", b"{\"kid\":");
}

#[test]
fn what_is_no_manifest_is_refused() {
    refused("unreadable", &changed(|payload| payload["cohorts"] = json!("none")));
}

#[test]
fn an_envelope_that_is_too_large_is_refused() {
    let mut large = good(HELD + 1);
    large.resize(MANIFEST_MAX_BYTES + 1, b' ');
    refused("unreadable", &large);
}

#[test]
fn a_version_of_tomorrow_is_refused() {
    refused("unknown_version", &changed(|payload| payload["v"] = 2.into()));
}

#[test]
fn weights_of_new_views_that_do_not_sum_are_refused() {
    refused("weight_sum", &changed(|payload| payload["cohorts"][0]["weights_new"]["cdn-b"] = 999_999.into()));
}

#[test]
fn weights_of_running_views_that_do_not_sum_are_refused() {
    refused("weight_sum", &changed(|payload| payload["cohorts"][0]["weights_running"]["cdn-a"] = 1.into()));
}

#[test]
fn static_weights_that_do_not_sum_are_refused() {
    refused("weight_sum", &changed(|payload| payload["static_weights"] = json!({})));
}

#[test]
fn nodes_of_a_group_that_do_not_sum_are_refused() {
    refused("weight_sum", &changed(|payload| payload["groups"]["own-x"]["nodes"]["own-x-1"] = 1.into()));
}

#[test]
fn weights_of_a_shadow_plan_that_do_not_sum_are_refused() {
    refused(
        "weight_sum",
        &changed(|payload| {
            payload["shadow"] = payload["cohorts"].clone();
            payload["shadow"][0]["weights_new"]["cdn-b"] = 0.into();
        }),
    );
}

#[test]
fn a_weight_for_an_unknown_pathway_is_refused() {
    refused("unknown_pathway", &changed(|payload| payload["cohorts"][0]["weights_new"] = json!({"cdn-z": 1_000_000})));
}

#[test]
fn a_probe_of_an_unknown_pathway_is_refused() {
    let probe = json!({"cdn-z": {"share_ppm": 10_000, "turn": "t"}});
    refused("unknown_pathway", &changed(|payload| payload["probes"] = probe.clone()));
}

#[test]
fn a_manifest_without_a_rule_for_everybody_is_refused() {
    refused("no_default_cohort", &changed(|payload| payload["cohorts"][0]["class"] = "kids".into()));
}

#[test]
fn a_ttl_outside_of_its_range_is_refused() {
    for (name, ttl_s) in [("vod_s", 301), ("live_s", 1), ("suspect_s", 0)] {
        refused("ttl_out_of_range", &changed(|payload| payload["ttl"][name] = ttl_s.into()));
    }
}

#[test]
fn a_manifest_without_pathways_is_refused() {
    refused("no_pathway", &changed(|payload| payload["pathways"] = json!({})));
}

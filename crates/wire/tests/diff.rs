//! What a difference of two manifests says.

use std::collections::BTreeMap;

use spillway_model::{ContentClass, Mode, PathwayId, PathwayState, Ppm};
use spillway_routing::{Manifest, ModeRule, OverrideNote, Target, Weights};
use spillway_wire::diff::{Change, diff, shadow_diff};
use spillway_wire::manifest::parse;

const MANIFEST: &str = r#"{"v":1,"region":"eu","epoch":7,"issued_ms":1,"valid_until_ms":2,"policy":"p-1",
  "modes":[{"class":null,"mode":"control","control_ppm":990000}],
  "pathways":{
    "cdn-a":{"kind":"commercial","state":"HEALTHY","reason":"","since_ms":0,"utilisation_ppm":100000,"capacity_bps":1000000000,
      "learned_capacity_bps":1000000000,"serves":{"classes":[],"codecs":[],"drm":[],"territories":[],"address_families":[]},
      "group":null,"origin_group":"o","failure_domains":["cdn-a"],"base_url":"https://a.example","signer":null},
    "own-x-1":{"kind":"own","state":"HEALTHY","reason":"","since_ms":0,"utilisation_ppm":100000,"capacity_bps":1000000000,
      "learned_capacity_bps":1000000000,"serves":{"classes":[],"codecs":[],"drm":[],"territories":[],"address_families":[]},
      "group":"own-x","origin_group":"o","failure_domains":["own-x-1"],"base_url":"https://x1.example","signer":null},
    "own-x-2":{"kind":"own","state":"HEALTHY","reason":"","since_ms":0,"utilisation_ppm":100000,"capacity_bps":1000000000,
      "learned_capacity_bps":1000000000,"serves":{"classes":[],"codecs":[],"drm":[],"territories":[],"address_families":[]},
      "group":"own-x","origin_group":"o","failure_domains":["own-x-2"],"base_url":"https://x2.example","signer":null}},
  "groups":{"own-x":{"nodes":{"own-x-1":500000,"own-x-2":500000}}},
  "cohorts":[{"asn":null,"class":null,"device_class":null,"weights_new":{"cdn-a":400000,"own-x-1":600000},
    "weights_running":{"cdn-a":400000,"own-x-1":600000},"running_before_ms":0,"spare":{"cdn-a":500000},"reason":"as planned"}],
  "max_bitrate_kbps":[],"hot_titles":{},"ttl":{"vod_s":30,"live_s":10,"suspect_s":5,"jitter_ppm":100000},
  "static_weights":{"cdn-a":200000,"own-x":800000},"shadow":[],"overrides":[],"drill":null}"#;

fn manifest() -> Manifest {
    parse(MANIFEST.as_bytes()).expect("valid")
}

fn id(name: &str) -> PathwayId {
    PathwayId::new(name).expect("id")
}

fn weights(of: &[(&str, u32)]) -> Weights {
    of.iter().map(|(name, ppm)| (Target::Pathway(id(name)), *ppm)).collect()
}

fn text(changes: &[Change]) -> Vec<String> {
    changes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_same_routing_at_another_time_is_no_difference() {
    let mut later = manifest();
    later.epoch = 8;
    later.issued = spillway_model::TimestampMs(99);
    later.pathways.get_mut(&id("cdn-a")).expect("there").utilisation = Ppm(900_000);
    later.cohorts[0].reason = "said otherwise".into();
    assert_eq!(diff(&manifest(), &later), []);
}

#[test]
fn a_dead_pathway_is_said_first_and_with_its_reason() {
    let mut later = manifest();
    let dead = later.pathways.get_mut(&id("cdn-a")).expect("there");
    (dead.state, dead.reason) = (PathwayState::Down, "42 of 60 sessions failed".into());
    let rule = &mut later.cohorts[0];
    (rule.weights_new, rule.reason) = (weights(&[("own-x-1", 1_000_000)]), "cdn-a is DOWN".into());
    rule.weights_running = rule.weights_new.clone();
    later.modes[0].mode = Mode::Shadow;
    later.max_bitrate_kbps = vec![(ContentClass::new("kids").ok(), 1_500)];
    later.ttl.live_s = 5;
    assert_eq!(
        text(&diff(&manifest(), &later)),
        [
            "state cdn-a: HEALTHY → DOWN (42 of 60 sessions failed)",
            "weight all: cdn-a: gone, was 40.0 % (cdn-a is DOWN)",
            "weight all: own-x-1: 60.0 % → 100.0 % (cdn-a is DOWN)",
            "mode all: control of 99.0 % → shadow of 99.0 %",
            "max bitrate kids: new, 1500 kbit/s",
            "ttl live: 10 s → 5 s",
        ]
    );
}

#[test]
fn running_views_that_go_elsewhere_than_new_ones_are_told_apart() {
    let mut later = manifest();
    later.cohorts[0].weights_new = weights(&[("own-x-1", 1_000_000)]);
    let what: Vec<&str> = diff(&manifest(), &later).iter().map(|change| change.what).collect();
    assert_eq!(what, ["weight", "weight"], "running ones stay");
    later.cohorts[0].weights_running = weights(&[("cdn-a", 1_000_000)]);
    let what: Vec<&str> = diff(&manifest(), &later).iter().map(|change| change.what).collect();
    assert_eq!(what, ["weight", "weight", "running_weight", "running_weight"]);
}

#[test]
fn rules_pathways_groups_and_orders_come_and_go() {
    let mut later = manifest();
    let mut of_network = later.cohorts[0].clone();
    (of_network.asn, of_network.reason) = (Some(64_500), "ill there".into());
    later.cohorts.push(of_network);
    let pathway = later.pathways[&id("own-x-2")].clone();
    later.pathways.insert(id("own-x-3"), pathway);
    later.groups.values_mut().next().expect("one").nodes = [(id("own-x-1"), 1_000_000)].into();
    later.overrides.push(OverrideNote {
        id: "o-1".into(),
        kind: "drain".into(),
        target: "cdn-a".into(),
        by: "ann".into(),
        reason: "work".into(),
        expires: spillway_model::TimestampMs(5),
    });
    let lines = text(&diff(&manifest(), &later));
    for expected in [
        "state own-x-3: new, HEALTHY",
        "rule AS64500: new, cdn-a 40.0 %, own-x-1 60.0 % (ill there)",
        "node weight own-x: own-x-2: gone, was 50.0 %",
        "override o-1 cdn-a: new, drain by ann: work",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {lines:#?}");
    }
    let back = text(&diff(&later, &manifest()));
    assert!(back.iter().any(|line| line.starts_with("pathway own-x-3: gone, was https://x2.example")), "{back:#?}");
}

#[test]
fn a_shadow_plan_is_compared_with_what_views_go_by() {
    let mut plan = manifest();
    assert_eq!(shadow_diff(&plan), None);
    plan.modes = vec![ModeRule { class: None, mode: Mode::Shadow, control: Ppm::ALL }];
    plan.shadow = plan.cohorts.clone();
    let found = shadow_diff(&plan).expect("a shadow plan");
    assert_eq!((found.len(), found[0].of.as_str()), (1, "all"));
    // Static: 20 % and 40 % on each node.
    assert_eq!(found[0].moved_ppm, 400_000);
    let expected = [("cdn-a", (200_000, 400_000)), ("own-x-1", (400_000, 600_000)), ("own-x-2", (400_000, 0))];
    let expected: BTreeMap<String, (u32, u32)> = expected.map(|(name, both)| (name.to_owned(), both)).into();
    assert_eq!(found[0].weights_ppm, expected);
}

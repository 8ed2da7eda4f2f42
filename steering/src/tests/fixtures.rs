//! Manifests, their key, and the configuration of a node under test.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use ed25519_dalek::SigningKey;
use spillway_model::{BitsPerSecond, ContentId, GroupId, Millis, Mode, PathwayState, Ppm, TimestampMs, ViewId};
use spillway_routing::{CohortRule, Group, Manifest, ModeRule, Pathway, Serves, Target, TtlPolicy, Weights};
use spillway_service::config::Secret;
use spillway_service::deployment::kind_of;
use spillway_wire::token::{Needs, Token};
use spillway_wire::{envelope, manifest};

pub(crate) use super::world::{NOW, StoppedClock, deployment, id, region};
use crate::SteerConfig;

impl StoppedClock {
    pub(crate) fn advance(&self, span: Millis) {
        self.0.fetch_add(span.0, Ordering::SeqCst);
    }
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// `manifest` signed by the known key.
pub(crate) fn sealed(manifest: &Manifest) -> Vec<u8> {
    let envelope = envelope::seal("k1", &signing_key(), &manifest::to_bytes(manifest));
    serde_json::to_vec(&envelope).expect("three strings")
}

pub(crate) fn config(origin: &str) -> SteerConfig {
    SteerConfig {
        id: "steer-test".into(),
        origins: BTreeMap::from([("default".into(), origin.into())]),
        allow_region_parameter: true,
        trusted_header: Some("x-test-client".into()),
        ..SteerConfig::of("http://steer.example", Secret("a-secret-of-32-characters-at-least".into()))
    }
}

pub(crate) fn weights(of: &[(&str, u32)]) -> Weights {
    let target = |name: &str| {
        if name == "own-x" { Target::Group(GroupId::new(name).expect("id")) } else { Target::Pathway(id(name)) }
    };
    of.iter().map(|(name, ppm)| (target(name), *ppm)).collect()
}

/// A session of `content` that began at [`NOW`] and has no playlist yet.
pub(crate) fn token(view: &str, content: &str) -> Token {
    Token {
        view: ViewId::new(view).expect("id"),
        region: region(),
        asn: None,
        class: None,
        started: NOW,
        content: ContentId::new(content).expect("id"),
        pathways: vec![],
        first: None,
        needs: Needs::default(),
    }
}

fn pathway(name: &str) -> Pathway {
    let group = name.starts_with("own-x-").then(|| GroupId::new("own-x").expect("id"));
    Pathway {
        kind: kind_of(&id(name)),
        state: PathwayState::Healthy,
        reason: String::new(),
        since: TimestampMs(0),
        utilisation: Ppm(0),
        capacity: BitsPerSecond(1),
        learned_capacity: BitsPerSecond(1),
        serves: Serves::default(),
        failure_domains: group.iter().map(ToString::to_string).chain([name.to_owned()]).collect(),
        group,
        origin_group: None,
        base_url: format!("http://{name}.example/p"),
        signer: None,
    }
}

/// A manifest of `eu-a` with these weights for all, valid for a minute from [`NOW`] on.
pub(crate) fn manifest(epoch: u64, of: &[(&str, u32)]) -> Manifest {
    let names = ["cdn-a", "cdn-b", "cdn-c", "own-x-1", "own-x-2", "own-x-3"];
    let nodes = [("own-x-1", 400_000), ("own-x-2", 300_000), ("own-x-3", 300_000)];
    Manifest {
        region: region(),
        epoch,
        issued: NOW,
        valid_until: NOW.after(Millis::from_secs(60)),
        policy: "test".into(),
        modes: vec![ModeRule { class: None, mode: Mode::Control, control: Ppm::ALL }],
        pathways: names.map(|name| (id(name), pathway(name))).into(),
        groups: BTreeMap::from([(
            GroupId::new("own-x").expect("id"),
            Group { nodes: nodes.map(|(name, ppm)| (id(name), ppm)).into() },
        )]),
        cohorts: vec![CohortRule {
            asn: None,
            class: None,
            device_class: None,
            weights_new: weights(of),
            weights_running: weights(of),
            running_before: TimestampMs(0),
            spare: weights(&[("cdn-a", 100_000), ("cdn-b", 300_000), ("own-x", 600_000)]),
            reason: "because".into(),
        }],
        max_bitrate_kbps: vec![],
        probes: BTreeMap::new(),
        hot_titles: BTreeMap::new(),
        ttl: TtlPolicy { vod_s: 30, live_s: 10, suspect_s: 5, jitter: Ppm(100_000) },
        static_weights: weights(&[("cdn-c", 1_000_000)]),
        shadow: vec![],
        overrides: vec![],
        drill: None,
    }
}

//! Deployment, manifests and a clock that tests set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ed25519_dalek::SigningKey;
use spillway_model::{
    BitsPerSecond, Clock, GroupId, Millis, Mode, PathwayId, PathwayState, Ppm, RegionId, TimestampMs,
};
use spillway_routing::{CohortRule, Group, Manifest, ModeRule, Pathway, Serves, Target, TtlPolicy, Weights};
use spillway_service::deployment::{Deployment, PathwayConfig, PrefixConfig, PropertyConfig, RegionConfig, kind_of};
use spillway_service::prices::PriceConfig;
use spillway_wire::{envelope, manifest};

use crate::steer::{Secret, SteerConfig};

/// A round moment, since tokens tell whole seconds.
pub(crate) const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct StoppedClock(pub(crate) AtomicU64);

impl StoppedClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW.0)))
    }

    pub(crate) fn advance(&self, span: Millis) {
        self.0.fetch_add(span.0, Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst) - NOW.0 + 1_000_000)
    }
}

pub(crate) fn id(name: &str) -> PathwayId {
    PathwayId::new(name).expect("id")
}

pub(crate) fn region() -> RegionId {
    RegionId::new("eu-a").expect("id")
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
        listen: "127.0.0.1:0".parse().expect("address"),
        id: "steer-test".into(),
        public_url: "http://steer.example".into(),
        origins: BTreeMap::from([("default".into(), origin.into())]),
        token_key: Secret("a-secret-of-32-characters-at-least".into()),
        previous_token_key: None,
        allow_region_parameter: true,
        trusted_header: Some("x-test-client".into()),
        class_of: BTreeMap::new(),
        poll_budget_per_s: 20_000,
        collectors: None,
        sample_share: 0.01,
    }
}

/// Two regions; three CDNs everywhere, a group of three own nodes in `eu-a`.
pub(crate) fn deployment() -> Arc<Deployment> {
    let region = |id: &str, weights: &[(&str, f64)]| RegionConfig {
        id: id.into(),
        mode: "control".into(),
        control_share: 1.0,
        static_weights: weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
        probe_from: None,
        countries: vec![],
        continents: vec![],
        classes: BTreeMap::new(),
    };
    let pathway = |id: &str, group: Option<&str>| PathwayConfig {
        id: id.into(),
        base_url: format!("http://{id}.example/p/"),
        regions: if group.is_some() { vec!["eu-a".into()] } else { vec![] },
        group: group.map(str::to_owned),
        capacity_mbps: 100.0,
        price_usd_per_gb: 0.0,
        price: PriceConfig::default(),
        pop: None,
        failure_domains: vec![],
        origin_group: "origin".into(),
        classes: vec![],
        capacity_feed: None,
    };
    let cdns = ["cdn-a", "cdn-b", "cdn-c"].map(|name| pathway(name, None));
    let own = ["own-x-1", "own-x-2", "own-x-3"].map(|name| pathway(name, Some("own-x")));
    let prefix = |prefix: &str, region: &str, asn| PrefixConfig {
        prefix: prefix.into(),
        region: region.into(),
        asn: Some(asn),
        country: None,
    };
    let property = PropertyConfig { id: "demo".into(), write_key: "write-key".into(), origins: vec![] };
    let deployment = Deployment::new(
        vec![property],
        vec![region("eu-a", &[("own-x", 3.0), ("cdn-a", 1.0)]), region("eu-b", &[("cdn-b", 2.0), ("cdn-c", 1.0)])],
        cdns.into_iter().chain(own).collect(),
        vec![prefix("127.11.0.0/16", "eu-a", 64_501), prefix("127.12.0.0/16", "eu-b", 64_502)],
    );
    Arc::new(deployment.expect("valid"))
}

pub(crate) fn weights(of: &[(&str, u32)]) -> Weights {
    let target = |name: &str| {
        if name == "own-x" { Target::Group(GroupId::new(name).expect("id")) } else { Target::Pathway(id(name)) }
    };
    of.iter().map(|(name, ppm)| (target(name), *ppm)).collect()
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

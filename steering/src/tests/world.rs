//! A deployment and a clock that tests set; the orchestrator's tests have the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spillway_model::{Clock, Millis, PathwayId, RegionId, TimestampMs};
use spillway_service::deployment::{Deployment, PathwayConfig, PrefixConfig, PropertyConfig, RegionConfig};
use spillway_service::prices::PriceConfig;

/// A round moment, since tokens tell whole seconds.
pub(crate) const NOW: TimestampMs = TimestampMs(1_800_000_000_000);

/// A clock that stands until it is moved.
#[derive(Debug)]
pub(crate) struct StoppedClock(pub(crate) AtomicU64);

impl StoppedClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW.0)))
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
        codecs: vec![],
        drm: vec![],
        territories: vec![],
        address_families: vec![],
        signer: None,
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

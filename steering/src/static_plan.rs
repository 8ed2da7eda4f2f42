//! Plans for when no manifest is there, or none that is still valid.

use std::collections::BTreeMap;

use spillway_model::limits::WEIGHT_TOTAL_PPM;
use spillway_model::{
    BitsPerSecond, ContentClass, GroupId, IdError, Mode, OriginGroupId, PathwayId, PathwayState, Ppm, RegionId,
    TimestampMs,
};
use spillway_routing::{
    AddressFamily, CohortRule, Group, Manifest, ModeRule, Pathway, Serves, Target, TtlPolicy, Weights,
};
use spillway_service::deployment::{Deployment, PathwayConfig, RegionConfig, kind_of};

/// Polling without a manifest: the defaults of the design.
const TTL: TtlPolicy = TtlPolicy { vod_s: 30, live_s: 10, suspect_s: 5, jitter: Ppm(100_000) };

/// The plan of `region` from configuration alone: epoch 0, static weights and no others, every state unknown.
///
/// # Errors
/// An id or a word of the configuration that is none.
pub fn of_deployment(deployment: &Deployment, region: &RegionId, config: &RegionConfig) -> anyhow::Result<Manifest> {
    let here: BTreeMap<&PathwayId, &PathwayConfig> =
        deployment.pathways.iter().filter(|(id, _)| deployment.serves(id, region)).collect();
    let mut groups = BTreeMap::new();
    for (group, nodes) in &deployment.groups {
        let nodes: Vec<&PathwayId> = nodes.iter().filter(|node| here.contains_key(node)).collect();
        let even = to_ppm(&nodes.iter().map(|node| ((*node).clone(), 1.0)).collect());
        if !even.is_empty() {
            groups.insert(group.clone(), Group { nodes: even });
        }
    }
    let targets = config.static_weights.iter().map(|(name, weight)| Ok((target(name, &groups)?, *weight)));
    let static_weights: Weights = to_ppm(&targets.collect::<Result<BTreeMap<Target, f64>, IdError>>()?).into();
    let mut pathways = BTreeMap::new();
    for (id, config) in here {
        pathways.insert(id.clone(), pathway(id, config)?);
    }
    let manifest = Manifest {
        region: region.clone(),
        epoch: 0,
        issued: TimestampMs(0),
        valid_until: TimestampMs(u64::MAX),
        policy: "static".into(),
        modes: vec![ModeRule {
            class: None,
            mode: config.mode.parse::<Mode>().map_err(|error| anyhow::anyhow!("mode of region {region}: {error}"))?,
            control: Ppm::from_fraction(config.control_share),
        }],
        pathways,
        groups,
        cohorts: vec![],
        max_bitrate_kbps: vec![],
        probes: BTreeMap::new(),
        hot_titles: BTreeMap::new(),
        ttl: TTL,
        static_weights: static_weights.clone(),
        shadow: vec![],
        overrides: vec![],
        drill: None,
    };
    Ok(expired(&Manifest { cohorts: vec![rule(&static_weights, "no manifest yet")], ..manifest }))
}

/// The same manifest after its time: its static weights, but never a pathway that it knew to be dead.
pub(crate) fn expired(manifest: &Manifest) -> Manifest {
    let reason = if manifest.epoch == 0 { "no manifest yet" } else { "the manifest's time is over" };
    Manifest {
        cohorts: vec![CohortRule {
            weights_new: Weights::new(),
            weights_running: Weights::new(),
            ..rule(&manifest.static_weights, reason)
        }],
        max_bitrate_kbps: vec![],
        probes: BTreeMap::new(),
        shadow: vec![],
        ..manifest.clone()
    }
}

fn rule(weights: &Weights, reason: &str) -> CohortRule {
    CohortRule {
        asn: None,
        class: None,
        device_class: None,
        weights_new: weights.clone(),
        weights_running: weights.clone(),
        running_before: TimestampMs(0),
        spare: weights.clone(),
        reason: format!("static weights: {reason}"),
    }
}

fn target(name: &str, groups: &BTreeMap<GroupId, Group>) -> Result<Target, IdError> {
    match groups.get_key_value(name) {
        Some((group, _)) => Ok(Target::Group(group.clone())),
        None => Ok(Target::Pathway(PathwayId::new(name)?)),
    }
}

fn pathway(id: &PathwayId, config: &PathwayConfig) -> anyhow::Result<Pathway> {
    let classes = config.classes.iter().map(|class| ContentClass::new(class));
    let capacity = BitsPerSecond((config.capacity_mbps * 1e6) as u64);
    let own = [Some(id.to_string()), config.group.clone()];
    Ok(Pathway {
        kind: kind_of(id),
        state: PathwayState::Unknown,
        reason: "no manifest yet".into(),
        since: TimestampMs(0),
        utilisation: Ppm::ZERO,
        capacity,
        learned_capacity: capacity,
        serves: Serves {
            classes: classes.collect::<Result<_, _>>().map_err(|error| anyhow::anyhow!("pathway {id}: {error}"))?,
            codecs: config.codecs.iter().cloned().collect(),
            drm: config.drm.iter().cloned().collect(),
            territories: config.territories.iter().cloned().collect(),
            address_families: config.address_families.iter().filter_map(|word| AddressFamily::named(word)).collect(),
        },
        group: config.group.as_deref().map(GroupId::new).transpose().map_err(|error| anyhow::anyhow!("{error}"))?,
        origin_group: OriginGroupId::new(&config.origin_group).ok(),
        failure_domains: config.failure_domains.iter().cloned().chain(own.into_iter().flatten()).collect(),
        base_url: config.base_url.trim_end_matches('/').to_owned(),
        signer: config.signer.clone(),
    })
}

/// Shares that sum to exactly 1,000,000; the first takes what rounding leaves. Empty if nothing has weight.
fn to_ppm<K: Ord + Clone>(weights: &BTreeMap<K, f64>) -> BTreeMap<K, u32> {
    let total: f64 = weights.values().sum();
    if total <= 0.0 {
        return BTreeMap::new();
    }
    let share = |weight: f64| (weight / total * f64::from(WEIGHT_TOTAL_PPM)) as u32;
    let mut out: BTreeMap<K, u32> = weights.iter().map(|(key, weight)| (key.clone(), share(*weight))).collect();
    let rest = WEIGHT_TOTAL_PPM.saturating_sub(out.values().sum());
    if let Some(first) = out.values_mut().find(|share| **share > 0) {
        *first += rest;
    }
    out
}

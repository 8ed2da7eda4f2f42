//! The deployment as the decision core takes it.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{BitsPerSecond, ContentClass, GroupId, OriginGroupId, PathwayId, Ppm, RegionId};
use spillway_orchestrator_core as core;
use spillway_routing::{Serves, Target, Weights};
use spillway_service::config::ConfigError;
use spillway_service::deployment::{Deployment, PathwayConfig, RegionConfig, kind_of};

/// Weights that an operator gives as any positive numbers, in millionths of the unit that they wrote.
const STATIC_SCALE: f64 = 1e6;

/// Brings a deployment and parameters into the core's setup.
///
/// # Errors
/// [`ConfigError::Invalid`] for an id or word that the deployment's own check does not see.
pub fn setup(deployment: &Deployment, parameters: core::Parameters) -> Result<core::Setup, ConfigError> {
    let mut regions = BTreeMap::new();
    for (id, region) in &deployment.regions {
        regions.insert(id.clone(), region_setup(id, region, deployment)?);
    }
    let mut pathways = BTreeMap::new();
    for (id, pathway) in &deployment.pathways {
        pathways.insert(id.clone(), pathway_setup(id, pathway)?);
    }
    Ok(core::Setup { regions, pathways, parameters, policy: "spillway-1".into(), ..core::Setup::default() })
}

fn region_setup(
    id: &RegionId,
    region: &RegionConfig,
    deployment: &Deployment,
) -> Result<core::RegionSetup, ConfigError> {
    let mode = region
        .mode
        .parse()
        .map_err(|error| ConfigError::invalid(format!("region[{id}].mode"), error, "observe, shadow, control"))?;
    let mut static_weights = Weights::new();
    for (name, weight) in &region.static_weights {
        let target = match deployment.groups.get_key_value(name.as_str()) {
            Some((group, _)) => Target::Group(group.clone()),
            None => Target::Pathway(
                PathwayId::new(name)
                    .map_err(|error| ConfigError::invalid(format!("region[{id}].static_weights"), error, "an id"))?,
            ),
        };
        static_weights.insert(target, (weight * STATIC_SCALE).min(f64::from(u32::MAX)) as u32);
    }
    Ok(core::RegionSetup {
        mode,
        control: Ppm::from_fraction(region.control_share),
        static_weights,
        ..core::RegionSetup::default()
    })
}

fn pathway_setup(id: &PathwayId, pathway: &PathwayConfig) -> Result<core::PathwaySetup, ConfigError> {
    let bad = |name: &str, error: spillway_model::IdError| {
        ConfigError::invalid(format!("pathway[{id}].{name}"), error, "an id")
    };
    let regions = pathway.regions.iter().map(|region| RegionId::new(region));
    let classes = pathway.classes.iter().map(|class| ContentClass::new(class));
    let origin_group = OriginGroupId::new(&pathway.origin_group).map_err(|e| bad("origin_group", e))?;
    Ok(core::PathwaySetup {
        group: pathway.group.as_ref().map(|group| GroupId::new(group)).transpose().map_err(|e| bad("group", e))?,
        regions: regions.collect::<Result<BTreeSet<_>, _>>().map_err(|e| bad("regions", e))?,
        capacity: BitsPerSecond((pathway.capacity_mbps * 1e6) as u64),
        price_usd_per_gb: pathway.price_usd_per_gb,
        failure_domains: pathway.failure_domains.iter().cloned().collect(),
        base_url: pathway.base_url.trim_end_matches('/').to_owned(),
        serves: Serves {
            classes: classes.collect::<Result<_, _>>().map_err(|e| bad("classes", e))?,
            ..Serves::default()
        },
        ..core::PathwaySetup::bare(kind_of(id), origin_group)
    })
}

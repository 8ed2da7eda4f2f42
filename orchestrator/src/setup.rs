//! The deployment as the decision core takes it.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{BitsPerSecond, ContentClass, GroupId, OriginGroupId, PathwayId, Ppm, RegionId};
use spillway_orchestrator_core as core;
use spillway_routing::{AddressFamily, Serves, Target};
use spillway_service::config::ConfigError;
use spillway_service::deployment::{Deployment, PathwayConfig, RegionConfig, kind_of};
use spillway_service::prices::PriceConfig;
use spillway_wire::load::PREWARM_MAX;

use crate::config::{CeilingsConfig, OrchestratorConfig};

/// Name of the policy in force, unless another one was tried and accepted.
const POLICY: &str = "spillway-1";
/// Weights that an operator gives as any positive numbers, in millionths of the unit that they wrote.
const STATIC_SCALE: f64 = 1e6;

/// Brings a deployment and parameters into the core's setup.
///
/// # Errors
/// [`ConfigError::Invalid`] for an id or word that the deployment's own check does not see.
pub fn setup(
    deployment: &Deployment,
    parameters: core::Parameters,
    config: &OrchestratorConfig,
) -> Result<core::Setup, ConfigError> {
    let mut regions = BTreeMap::new();
    for (id, region) in &deployment.regions {
        regions.insert(id.clone(), region_setup(id, region, deployment)?);
    }
    let mut pathways = BTreeMap::new();
    for (id, pathway) in &deployment.pathways {
        pathways.insert(id.clone(), pathway_setup(id, pathway)?);
    }
    if config.prewarm_top > PREWARM_MAX {
        let valid = format!("0 to {PREWARM_MAX}");
        return Err(ConfigError::invalid("orchestrator.prewarm_top", config.prewarm_top, valid));
    }
    if let Some(usd) = config.spill_usd_per_hour_max.filter(|usd| !(*usd >= 0.0 && usd.is_finite())) {
        return Err(ConfigError::invalid("orchestrator.spill_usd_per_hour_max", usd, "a number of 0 or more"));
    }
    let class = |name: &String| {
        ContentClass::new(name).map_err(|error| ConfigError::invalid("orchestrator.class_order", error, "an id"))
    };
    crate::mirror::targets(config)?;
    let canary = config.canary.as_ref().map(|canary| canary.check(deployment, (POLICY, &parameters))).transpose()?;
    Ok(core::Setup {
        regions,
        pathways,
        parameters,
        policy: POLICY.into(),
        canary,
        shared: shared(deployment, &config.ceilings)?,
        spill_usd_per_hour_max: config.spill_usd_per_hour_max,
        classes: config.class_order.iter().map(class).collect::<Result<_, _>>()?,
        ..core::Setup::default()
    })
}

fn shared(deployment: &Deployment, config: &CeilingsConfig) -> Result<core::SharedCeilings, ConfigError> {
    let pathways = || deployment.pathways.values();
    let pops: BTreeSet<&str> = pathways().filter_map(|pathway| pathway.pop.as_deref()).collect();
    let origins: BTreeSet<&str> = pathways().map(|pathway| pathway.origin_group.as_str()).collect();
    let groups: BTreeSet<&str> = deployment.groups.keys().map(GroupId::as_str).collect();
    let regions: BTreeSet<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
    let id = |key: &str, error: spillway_model::IdError| {
        ConfigError::invalid(format!("orchestrator.ceilings.{key}"), error, "an id")
    };
    Ok(core::SharedCeilings {
        pops: ceilings("pops", &config.pops, &pops, |name| Ok(name.to_owned()))?,
        groups: ceilings("groups", &config.groups, &groups, |name| GroupId::new(name).map_err(|e| id("groups", e)))?,
        regions: ceilings("regions", &config.regions, &regions, |name| {
            RegionId::new(name).map_err(|e| id("regions", e))
        })?,
        origins: ceilings("origin_groups", &config.origin_groups, &origins, |name| {
            OriginGroupId::new(name).map_err(|e| id("origin_groups", e))
        })?,
    })
}

fn ceilings<K: Ord>(
    key: &str,
    mbps_by_name: &BTreeMap<String, f64>,
    known: &BTreeSet<&str>,
    id: impl Fn(&str) -> Result<K, ConfigError>,
) -> Result<BTreeMap<K, BitsPerSecond>, ConfigError> {
    let one = |(name, mbps): (&String, &f64)| {
        let key = format!("orchestrator.ceilings.{key}");
        if !known.contains(name.as_str()) {
            let valid = known.iter().copied().collect::<Vec<_>>().join(", ");
            return Err(ConfigError::invalid(key, name, if valid.is_empty() { "none is declared" } else { &valid }));
        }
        if !(*mbps > 0.0 && mbps.is_finite()) {
            return Err(ConfigError::invalid(format!("{key}.{name}"), mbps, "a number above 0"));
        }
        Ok((id(name)?, BitsPerSecond((mbps * 1e6) as u64)))
    };
    mbps_by_name.iter().map(one).collect()
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
    let mut static_weights = BTreeMap::new();
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
    let class_modes = region.classes.iter().map(|(name, of_class)| {
        let key = |what: &str| format!("region[{id}].classes.{name}{what}");
        let class = ContentClass::new(name).map_err(|error| ConfigError::invalid(key(""), error, "an id"))?;
        let mode = of_class.mode.parse();
        let mode = mode.map_err(|error| ConfigError::invalid(key(".mode"), error, "observe, shadow, control"))?;
        Ok((class, (mode, Ppm::from_fraction(of_class.control_share))))
    });
    Ok(core::RegionSetup {
        mode,
        control: Ppm::from_fraction(region.control_share),
        static_weights,
        class_modes: class_modes.collect::<Result<_, ConfigError>>()?,
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
        price: price_sheet(&pathway.price),
        pop: pathway.pop.clone(),
        failure_domains: pathway.failure_domains.iter().cloned().collect(),
        base_url: pathway.base_url.trim_end_matches('/').to_owned(),
        signer: pathway.signer.clone(),
        serves: Serves {
            classes: classes.collect::<Result<_, _>>().map_err(|e| bad("classes", e))?,
            codecs: pathway.codecs.iter().cloned().collect(),
            drm: pathway.drm.iter().cloned().collect(),
            territories: pathway.territories.iter().cloned().collect(),
            address_families: pathway.address_families.iter().filter_map(|word| AddressFamily::named(word)).collect(),
        },
        ..core::PathwaySetup::bare(kind_of(id), origin_group)
    })
}

pub(crate) fn price_sheet(config: &PriceConfig) -> core::PriceSheet {
    let tier = |tier: &spillway_service::prices::TierConfig| core::PriceTier {
        from_gb: tier.from_gb,
        usd_per_gb: tier.usd_per_gb,
    };
    match (config.usd_per_mbps, config.commit_gb) {
        (Some(usd_per_mbps), _) => {
            core::PriceSheet::Percentile95 { usd_per_mbps, committed_mbps: config.committed_mbps.unwrap_or(0.0) }
        }
        (None, None) if config.tiers.is_empty() => core::PriceSheet::Flat,
        (None, committed_gb) => core::PriceSheet::Volume {
            committed_gb: committed_gb.unwrap_or(0.0),
            tiers: config.tiers.iter().map(tier).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str) -> Result<core::Setup, String> {
        let deployment = crate::fixtures::deployment();
        let config: OrchestratorConfig = toml::from_str(config).expect("shape");
        setup(&deployment, core::Parameters::default(), &config).map_err(|error| error.to_string())
    }

    #[test]
    fn ceilings_name_what_is_declared() {
        let good = of("class_order = [\"kids\"]\nspill_usd_per_hour_max = 5\n\
                       [ceilings]\ngroups = { own-x = 40 }\norigin_groups = { origin = 10 }");
        let good = good.expect("valid");
        assert_eq!(good.shared.groups.values().copied().collect::<Vec<_>>(), [BitsPerSecond(40_000_000)]);
        assert_eq!((good.classes.len(), good.spill_usd_per_hour_max), (1, Some(5.0)));
        for (bad, words) in [
            ("[ceilings]\npops = { fra1 = 40 }", ["ceilings.pops", "none is declared"]),
            ("[ceilings]\ngroups = { own-z = 40 }", ["own-z", "own-x"]),
            ("[ceilings]\ngroups = { own-x = 0 }", ["ceilings.groups.own-x", "above 0"]),
            ("prewarm_top = 65", ["orchestrator.prewarm_top", "0 to 64"]),
            ("spill_usd_per_hour_max = -1", ["spill_usd_per_hour_max", "0 or more"]),
        ] {
            let error = of(bad).expect_err(bad);
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn each_form_of_price_is_its_sheet() {
        let sheet = |text: &str| price_sheet(&toml::from_str(text).expect("price"));
        assert_eq!(sheet(""), core::PriceSheet::Flat);
        assert_eq!(sheet("commit_gb = 7"), core::PriceSheet::Volume { committed_gb: 7.0, tiers: vec![] });
        let by_level = core::PriceSheet::Percentile95 { usd_per_mbps: 2.0, committed_mbps: 0.0 };
        assert_eq!(sheet("usd_per_mbps = 2"), by_level);
        let tiers = vec![core::PriceTier { from_gb: 5.0, usd_per_gb: 0.01 }];
        let volume = |committed_gb| core::PriceSheet::Volume { committed_gb, tiers: tiers.clone() };
        assert_eq!(sheet("tiers = [{from_gb = 5, usd_per_gb = 0.01}]"), volume(0.0));
        assert_eq!(sheet("commit_gb = 7\ntiers = [{from_gb = 5, usd_per_gb = 0.01}]"), volume(7.0));
    }
}

//! A scenario as it is declared to the engine.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, GroupId, Mode, OriginGroupId, PathwayId, PathwayKind, Ppm, RegionId};
use spillway_orchestrator_core::{PathwaySetup, RegionSetup, Setup};
use spillway_routing::Target;

use crate::Scenario;

/// Share of sessions under control; the rest is the holdback.
const CONTROL: Ppm = Ppm(990_000);

pub(crate) fn pathway_id(id: &str) -> PathwayId {
    PathwayId::new(id).expect("ids were checked when the scenario was read")
}

pub(crate) fn region_id(id: &str) -> RegionId {
    RegionId::new(id).expect("ids were checked when the scenario was read")
}

/// Production parameters; `mode` for all regions.
pub(crate) fn setup(scenario: &Scenario, mode: Mode) -> Setup {
    let pathways: BTreeMap<PathwayId, PathwaySetup> = scenario
        .pathway
        .iter()
        .map(|pathway| {
            let own = pathway.id.starts_with("own-");
            let kind = if own { PathwayKind::Own } else { PathwayKind::Commercial };
            let declared = PathwaySetup {
                group: pathway.group.as_deref().map(|id| GroupId::new(id).expect("group ids were checked")),
                regions: pathway.regions.iter().map(|id| region_id(id)).collect(),
                capacity: BitsPerSecond((pathway.capacity_mbps * 1e6) as u64),
                price_usd_per_gb: pathway.price_usd_per_gb,
                base_url: format!("http://{}.example", pathway.id),
                ..PathwaySetup::bare(kind, OriginGroupId::new("origin").expect("a valid id"))
            };
            (pathway_id(&pathway.id), declared)
        })
        .collect();
    let regions = scenario
        .region
        .iter()
        .map(|region| {
            let total: f64 = region.static_weights.values().sum();
            let static_weights = region
                .static_weights
                .iter()
                .map(|(id, weight)| (Target::Pathway(pathway_id(id)), (weight / total.max(1e-9) * 1e6) as u32))
                .collect();
            (region_id(&region.id), RegionSetup { mode, control: CONTROL, static_weights, ..RegionSetup::default() })
        })
        .collect();
    Setup { regions, pathways, policy: "simulated".into(), ..Setup::default() }
}

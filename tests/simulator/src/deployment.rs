//! A world as it is declared to the engine.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, Mode, OriginGroupId, PathwayKind, Ppm, RegionId};
use spillway_orchestrator_core::{
    HitRatio, Learned, PathwaySetup, PriceSheet, PriceTier, RegionSetup, Setup, Switches,
};
use spillway_routing::Target;

use crate::bill::is_contract;
use crate::evidence::ORIGIN;
use crate::world::{Path, Region, World};

/// Share of sessions under control; the rest is the holdback.
const CONTROL: Ppm = Ppm(990_000);

/// Production parameters; `mode` for all regions.
pub(crate) fn setup(world: &World, mode: Mode, switches: Switches, origin_bits: f64) -> Setup {
    let mut setup = Setup {
        regions: world.regions.iter().map(|declared| (declared.id.clone(), region(world, declared, mode))).collect(),
        pathways: world.paths.iter().map(|path| (path.id.clone(), pathway(path, world.scale))).collect(),
        policy: "simulated".into(),
        switches,
        ..Setup::default()
    };
    if world.origin_ceiling_times > 0.0 {
        let ceiling = BitsPerSecond((origin_bits * world.origin_ceiling_times) as u64);
        setup.shared.origins.insert(origin(), ceiling);
    }
    setup
}

fn origin() -> OriginGroupId {
    OriginGroupId::new(ORIGIN).expect("a valid id")
}

fn pathway(path: &Path, scale: f64) -> PathwaySetup {
    let kind = if path.own { PathwayKind::Own } else { PathwayKind::Commercial };
    let sheet = &path.sheet;
    let tier =
        |(from_tb, usd_per_gb): &(f64, f64)| PriceTier { from_gb: from_tb * 1e3 * scale, usd_per_gb: *usd_per_gb };
    let price = if sheet.p95_usd_per_mbps > 0.0 {
        let committed_mbps = sheet.p95_commit_mbps * scale;
        PriceSheet::Percentile95 { usd_per_mbps: sheet.p95_usd_per_mbps, committed_mbps }
    } else if is_contract(sheet) {
        let committed_gb = sheet.commit_tb * 1e3 * scale;
        PriceSheet::Volume { committed_gb, tiers: sheet.tiers.iter().map(tier).collect() }
    } else {
        PriceSheet::Flat
    };
    PathwaySetup {
        group: path.group.clone(),
        regions: sheet.regions.iter().map(|id| RegionId::new(id).expect("ids were checked")).collect(),
        capacity: BitsPerSecond(path.claimed as u64),
        price_usd_per_gb: sheet.price_usd_per_gb,
        price,
        base_url: format!("http://{}.example", path.id.as_str()),
        ..PathwaySetup::bare(kind, origin())
    }
}

fn region(world: &World, region: &Region, mode: Mode) -> RegionSetup {
    let weight = |p: &usize| (Target::Pathway(world.paths[*p].id.clone()), (region.static_weights[*p] * 1e6) as u32);
    RegionSetup {
        mode,
        control: CONTROL,
        static_weights: region.pathways.iter().map(weight).filter(|(_, weight)| *weight > 0).collect(),
        ..RegionSetup::default()
    }
}

/// What the lake would have taught on the days before: bits per view, usual rates and hit ratios.
pub(crate) fn learned(world: &World) -> Learned {
    let mut out = Learned::default();
    for (r, region) in world.regions.iter().enumerate() {
        out.bits_per_view.insert(region.id.clone(), BitsPerSecond(world.bits_per_view as u64));
        for &p in &region.pathways {
            for hour in 0..168 {
                let key = (world.paths[p].id.clone(), region.id.clone(), hour);
                out.baselines.insert(key, world.learned_rate(r, p));
            }
        }
    }
    let warm = world.quality.hit_ratio;
    let ratio = HitRatio { warm, after_move: (warm - world.quality.cold_miss).max(0.0) };
    out.hit_ratios = world.paths.iter().map(|path| (path.id.clone(), ratio)).collect::<BTreeMap<_, _>>();
    out
}

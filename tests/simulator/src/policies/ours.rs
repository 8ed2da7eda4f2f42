//! The real engine, published as the orchestrator publishes.

use std::collections::BTreeMap;
use std::sync::Arc;

use spillway_model::{Mode, RegionId};
use spillway_orchestrator_core::{Engine, Learned, Switches, same_routing};
use spillway_routing::Manifest;

use super::{Decide, Round};
use crate::deployment::{learned, setup};
use crate::evidence::timestamp;
use crate::world::World;

pub(crate) struct Ours {
    engine: Engine,
    switches: Switches,
    origin_bits: f64,
    learned: Arc<Learned>,
    published: BTreeMap<RegionId, Manifest>,
}

impl Ours {
    pub(crate) fn new(world: &World, switches: Switches, origin_bits: f64) -> Self {
        Self {
            engine: Engine::new(setup(world, Mode::Control, switches, origin_bits)),
            switches,
            origin_bits,
            learned: learned(world).into(),
            published: BTreeMap::new(),
        }
    }
}

impl Decide for Ours {
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)> {
        let mut input = round.evidence.round_input(round.world);
        input.learned = Arc::clone(&self.learned);
        input.bills.clone_from(round.bills);
        let output = self.engine.round(timestamp(round.evidence.second), &input);
        let mut changed = Vec::new();
        for (r, region) in round.world.regions.iter().enumerate() {
            let Some(plan) = output.regions.get(&region.id) else { continue };
            let last = self.published.get(&region.id);
            if last.is_some_and(|last| same_routing(last, &plan.manifest)) {
                continue;
            }
            let mut manifest = plan.manifest.clone();
            manifest.epoch = last.map_or(1, |last| last.epoch + 1);
            self.published.insert(region.id.clone(), manifest.clone());
            changed.push((r, manifest));
        }
        changed
    }

    fn restart(&mut self, world: &World) {
        self.engine = Engine::new(setup(world, Mode::Control, self.switches, self.origin_bits));
        for manifest in self.published.values() {
            self.engine.adopt(manifest);
        }
    }
}

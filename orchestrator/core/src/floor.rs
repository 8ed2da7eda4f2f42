//! The quality floor: which pathways are good enough to go by cost.

use std::collections::BTreeSet;

use spillway_model::{Millis, PathwayId, RegionId, TimestampMs};

use crate::Parameters;
use crate::carried::Carried;
use crate::decide::Round;
use crate::engine::Engine;

/// The quality floor with a memory: what fell below it comes back after a while only, later each time. A pathway that
/// is left for a small difference becomes better by that, and would be chosen and left again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Floor {
    outside_until: Option<TimestampMs>,
    falls: u32,
    bad: bool,
}

impl Floor {
    pub(crate) fn holds(&self) -> bool {
        self.outside_until.is_none()
    }

    /// Below the floor now.
    pub(crate) fn is_bad(&self) -> bool {
        self.bad
    }

    /// What it fell for has been explained.
    pub(crate) fn forgive(&mut self) {
        self.outside_until = None;
    }

    /// `good`: above the floor now; `excused`: what is bad isn't the pathway's quality.
    pub(crate) fn judge(&mut self, now: TimestampMs, good: bool, excused: bool, p: &Parameters) {
        self.bad = !good;
        match self.outside_until {
            None if !good && !excused => {
                let hold_s = p.floor_hold_s * f64::from(1_u32 << self.falls.min(4));
                self.outside_until = Some(now.after(Millis((hold_s * 1000.0) as u64)));
                self.falls += 1;
            }
            Some(until) if good && now >= until => self.outside_until = None,
            _ => {}
        }
    }
}

impl Engine {
    /// Bad-window rate of a pathway in a region.
    pub(crate) fn rate_in(&self, round: &Round<'_>, region: &RegionId, id: &PathwayId) -> f64 {
        let own = &self.regions[region].cells[id].health;
        if self.setup.switches.shrinkage { own.estimate(round.parents[id], round.p_of(region)) } else { own.raw() }
    }

    /// Judges which pathways are good enough to go by cost: not those that are too full, whose caches are cold,
    /// or whose origin is at its ceiling.
    pub(crate) fn judge_floor(&mut self, round: &Round<'_>) {
        let origins = self.origins_full(round.tick.now, round.p);
        let too_full =
            |carried: &Carried| carried.settles(round.tick.now, round.p) || carried.strain(round.p).is_some();
        let excused: BTreeSet<PathwayId> = self
            .pathways
            .iter()
            .filter(|(id, pathway)| origins.contains(&self.origin_of[*id]) || too_full(&pathway.carried))
            .map(|(id, _)| id.clone())
            .collect();
        let regions: Vec<RegionId> = self.regions.keys().cloned().collect();
        for region in &regions {
            let p = round.p_of(region);
            let alive = self.regions[region].cells.iter().filter(|(_, cell)| cell.machine.factor(p) > 0.0);
            let best = alive.map(|(id, _)| self.rate_in(round, region, id)).fold(f64::INFINITY, f64::min);
            let floor = p.qoe_floor_rate.max(p.qoe_floor_times * best).max(best + p.qoe_floor_plus);
            let Some(memory) = self.regions.get_mut(region) else { continue };
            for (id, cell) in &mut memory.cells {
                let good = cell.health.at_least(round.parents[id], p) <= floor;
                cell.floor.judge(round.tick.now, good, excused.contains(id) || cell.is_cold(p), p);
            }
        }
    }
}

//! The way back: which running views try a DOWN pathway, and when a recovering one may take its next step.

use std::collections::BTreeMap;

use spillway_model::{OriginGroupId, PathwayId, PathwayState, Ppm, RegionId, TimestampMs, Verdict};
use spillway_routing::ProbeShare;

use crate::Parameters;
use crate::engine::Engine;

impl Engine {
    /// By recovering pathway: whether its step has brought enough evidence, and its origin has room for the misses of
    /// the next one.
    pub(crate) fn rooms_to_climb(&self, region: &RegionId, p: &Parameters) -> BTreeMap<PathwayId, bool> {
        let Some(memory) = self.regions.get(region) else { return BTreeMap::new() };
        let origin_ill =
            memory.findings.iter().any(|note| matches!(note.verdict, Verdict::Origin | Verdict::OriginSelf));
        let recovering = memory.cells.iter().filter(|(_, cell)| cell.machine.state == PathwayState::Recovering);
        recovering
            .map(|(id, cell)| {
                let share = memory.course.current.get(id).copied().unwrap_or(0.0);
                let wanted = p.recovery_windows.min(0.5 * share * cell.step.all);
                let factor = cell.machine.factor(p).max(1e-6);
                let more = share / factor * (cell.machine.next_factor(p) - factor).max(0.0);
                let misses =
                    more * memory.demand.views() * memory.demand.bits_per_view(p) * self.misses_after_move(id, p);
                let fits = self.origin_room(&self.origin_of[id]).is_none_or(|room| misses <= room);
                (id.clone(), cell.step.own >= wanted && fits && !origin_ill)
            })
            .collect()
    }

    /// Part of moved bits that a pathway's caches don't hold yet.
    pub(crate) fn misses_after_move(&self, id: &PathwayId, p: &Parameters) -> f64 {
        let learned = self.hit_ratios.get(id).map(|ratio| ratio.after_move).filter(|ratio| ratio.is_finite());
        1.0 - learned.unwrap_or(p.hit_after_move).clamp(0.0, 1.0)
    }

    /// Bit/s that an origin group can still answer; `None` if it has no ceiling or nobody reports its load.
    pub(crate) fn origin_room(&self, origin: &OriginGroupId) -> Option<f64> {
        let ceiling = self.setup.shared.origins.get(origin)?.0 as f64;
        let load = self.origins.get(origin)?.bits_out_10s.0 as f64;
        Some((ceiling * self.setup.parameters.ceiling - load).max(0.0))
    }

    /// Running views that try DOWN pathways now. Not while our own probes of it fail, and not in its first half of the
    /// hold; a turn is shorter than a buffer, and each takes other views.
    pub(crate) fn probes_now(
        &self,
        region: &RegionId,
        now: TimestampMs,
        p: &Parameters,
    ) -> BTreeMap<PathwayId, ProbeShare> {
        let memory = &self.regions[region];
        let views = self.observed.views(region) as f64;
        let turn = now.0 / 1000 / p.probe_turn_s.max(1);
        let resting = !turn.is_multiple_of(p.probe_turns.max(1));
        if resting || memory.telemetry_lost || views < 1.0 {
            return BTreeMap::new();
        }
        let share = (p.probe_sessions / views).max(p.probe_share).min(p.probe_share_max);
        let down = memory.cells.iter().filter(|(_, cell)| cell.machine.state == PathwayState::Down);
        down.filter(|(_, cell)| {
            let half = cell.machine.since.0.midpoint(cell.machine.hold_until().0);
            now.0 >= half && cell.probes.verdict(now, p) != Some(false)
        })
        .map(|(id, _)| (id.clone(), ProbeShare { share: Ppm::from_fraction(share), turn: format!("{id} {turn}") }))
        .collect()
    }
}

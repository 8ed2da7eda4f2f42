//! What the weights in force put onto each pathway, and which of them that would fill too much.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{PathwayId, PathwayKind, RegionId};

use crate::Parameters;
use crate::capacity::Rooms;
use crate::engine::Engine;
use crate::weights::Shares;
use crate::wish::Wish;

/// Share that a pathway above its ceiling must lose for a move to be worth an epoch.
pub(crate) const WORTH_RELIEF: f64 = 1e-4;

impl Engine {
    /// Bit/s that the weights in force put onto each pathway.
    pub(crate) fn planned(&self, wishes: &BTreeMap<RegionId, Wish>) -> BTreeMap<PathwayId, f64> {
        self.planned_if(wishes, &BTreeSet::new())
    }

    /// The same if the regions of `moved` were at their targets already.
    fn planned_if(&self, wishes: &BTreeMap<RegionId, Wish>, moved: &BTreeSet<&RegionId>) -> BTreeMap<PathwayId, f64> {
        let mut out: BTreeMap<PathwayId, f64> = BTreeMap::new();
        for (region, wish) in wishes {
            let memory = &self.regions[region];
            let mut add = |id: &PathwayId, bits: f64| {
                let own = self.setup.pathways.get(id).is_some_and(|declared| declared.kind == PathwayKind::Own);
                let placed = if own { memory.cells[id].placed * self.pathways[id].heavier } else { 1.0 };
                *out.entry(id.clone()).or_default() += bits * placed;
            };
            let shares = if moved.contains(region) { &wish.filled.shares } else { &memory.course.current };
            shares.iter().for_each(|(id, share)| add(id, share * wish.movable));
            wish.fixed.iter().for_each(|(id, bits)| add(id, *bits));
            for (class, of_class) in &wish.classes {
                let in_force = memory.class_courses.get(class).map(|course| &course.current);
                let shares = in_force.filter(|shares| !shares.is_empty()).unwrap_or(&of_class.filled.shares);
                shares.iter().for_each(|(id, share)| add(id, share * of_class.demand));
            }
        }
        out
    }

    /// Pathways that some region must be moved off at once: those that would be too full if nobody were moved, and
    /// those that become so by that very relief. Targets are one solution over all regions, and a region that goes
    /// ahead alone would take the room that another has not left yet.
    pub(crate) fn to_relieve(
        &self,
        wishes: &BTreeMap<RegionId, Wish>,
        rooms: &Rooms,
        p: &Parameters,
    ) -> BTreeSet<PathwayId> {
        let mut out = self.crowded(&self.planned(wishes), rooms, p);
        loop {
            let leaves = |region: &RegionId, wish: &Wish| {
                let current = &self.regions[region].course.current;
                let share = |shares: &Shares, id: &PathwayId| shares.get(id).copied().unwrap_or(0.0);
                wish.evacuates(current)
                    || out.iter().any(|id| share(&wish.filled.shares, id) < share(current, id) - WORTH_RELIEF)
            };
            let moved = wishes.iter().filter(|(region, wish)| leaves(region, wish)).map(|(region, _)| region).collect();
            let more = self.crowded(&self.planned_if(wishes, &moved), rooms, p);
            if more.is_subset(&out) {
                return out;
            }
            out.extend(more);
        }
    }

    /// Pathways that `planned` would fill too much.
    fn crowded(&self, planned: &BTreeMap<PathwayId, f64>, rooms: &Rooms, p: &Parameters) -> BTreeSet<PathwayId> {
        planned
            .iter()
            .filter(|(id, bits)| {
                let own = self.setup.pathways[*id].kind == PathwayKind::Own;
                let most = if own { p.own_urgent } else { p.ceiling };
                **bits > most * rooms[*id].learned
            })
            .map(|(id, _)| id.clone())
            .collect()
    }
}

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

/// What weights put onto a pathway, bit/s.
#[derive(Clone, Copy, Debug, Default)]
struct Planned {
    /// If all views were alike.
    by_weight: f64,
    /// As nodes were seen to get more or less than their weight.
    expected: f64,
}

type Plans = BTreeMap<PathwayId, Planned>;

impl Engine {
    /// Bit/s that the weights in force put onto each pathway.
    pub(crate) fn planned(&self, wishes: &BTreeMap<RegionId, Wish>) -> BTreeMap<PathwayId, f64> {
        self.planned_if(wishes, &BTreeSet::new()).into_iter().map(|(id, planned)| (id, planned.expected)).collect()
    }

    /// The same if the regions of `moved` were at their targets already.
    fn planned_if(&self, wishes: &BTreeMap<RegionId, Wish>, moved: &BTreeSet<&RegionId>) -> Plans {
        let mut out = Plans::new();
        for (region, wish) in wishes {
            let memory = &self.regions[region];
            let mut add = |id: &PathwayId, bits: f64| {
                let own = self.setup.pathways.get(id).is_some_and(|declared| declared.kind == PathwayKind::Own);
                let placed = if own { memory.cells[id].placed * self.pathways[id].heavier } else { 1.0 };
                let planned = out.entry(id.clone()).or_default();
                planned.by_weight += bits;
                planned.expected += bits * placed;
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
        let wanted = self.planned_if(wishes, &wishes.keys().collect());
        let mut out = self.crowded(&self.planned_if(wishes, &BTreeSet::new()), &wanted, rooms, p);
        loop {
            let leaves = |region: &RegionId, wish: &Wish| {
                let current = &self.regions[region].course.current;
                let share = |shares: &Shares, id: &PathwayId| shares.get(id).copied().unwrap_or(0.0);
                wish.evacuates(current)
                    || out.iter().any(|id| share(&wish.filled.shares, id) < share(current, id) - WORTH_RELIEF)
            };
            let moved = wishes.iter().filter(|(region, wish)| leaves(region, wish)).map(|(region, _)| region).collect();
            let more = self.crowded(&self.planned_if(wishes, &moved), &wanted, rooms, p);
            if more.is_subset(&out) {
                return out;
            }
            out.extend(more);
        }
    }

    /// Pathways that `planned` would fill too much. Where even the targets (`wanted`) do, for want of room elsewhere,
    /// only what is clearly above them counts: the last percent would be moved to and fro.
    fn crowded(&self, planned: &Plans, wanted: &Plans, rooms: &Rooms, p: &Parameters) -> BTreeSet<PathwayId> {
        let above = |bits: f64, wanted: f64, most: f64| {
            bits > if wanted > 1.01 * most { wanted * (1.0 + p.move_min) } else { most }
        };
        planned
            .iter()
            .filter(|(id, planned)| {
                let learned = rooms[*id].learned;
                let own = self.setup.pathways[*id].kind == PathwayKind::Own;
                let wanted = wanted.get(*id).copied().unwrap_or_default();
                let urgent = if own { p.own_urgent } else { p.ceiling };
                above(planned.expected, wanted.expected, urgent * learned)
                    || above(planned.by_weight, wanted.by_weight, p.ceiling * learned)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }
}

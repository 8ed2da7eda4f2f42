//! What the weights in force put onto each pathway, and which of them that would fill too much.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{PathwayId, PathwayKind, RegionId};

use crate::Parameters;
use crate::capacity::Rooms;
use crate::course::Course;
use crate::engine::Engine;
use crate::fill::Filled;
use crate::weights::{LEAST_SHARE, Shares};
use crate::wish::Wish;

/// Whether `target` takes so much of a region off `id`, which is above its ceiling, that the move is worth an epoch: a
/// thousandth of what `current` puts there. A part of the region's demand would be nothing to a large region and all
/// too much for a small pathway. So no pathway stays more than a thousandth above what the targets put onto it.
pub(crate) fn relieves(id: &PathwayId, current: &Shares, target: &Shares) -> bool {
    let share = |shares: &Shares| shares.get(id).copied().unwrap_or(0.0);
    let less = share(current) - share(target);
    less > (share(current) * 1e-3).max(LEAST_SHARE)
}

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
        let plans = self.plans(wishes, |course, _| &course.current);
        plans.into_iter().map(|(id, planned)| (id, planned.expected)).collect()
    }

    /// What `shares` of each region and of its classes put onto each pathway.
    fn plans<'a>(
        &'a self,
        wishes: &'a BTreeMap<RegionId, Wish>,
        shares: impl Fn(&'a Course, &'a Filled) -> &'a Shares,
    ) -> Plans {
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
            shares(&memory.course, &wish.filled).iter().for_each(|(id, share)| add(id, share * wish.movable));
            wish.fixed.iter().for_each(|(id, bits)| add(id, *bits));
            for (class, of_class) in &wish.classes {
                let in_force = memory.class_courses.get(class).filter(|course| !course.current.is_empty());
                let shares = in_force.map_or(&of_class.filled.shares, |course| shares(course, &of_class.filled));
                shares.iter().for_each(|(id, share)| add(id, share * of_class.demand));
            }
        }
        out
    }

    /// Pathways that the weights in force fill too much. Targets are one solution over all regions: a region that goes
    /// ahead alone takes the room that another has not left yet.
    pub(crate) fn crowded(
        &self,
        wishes: &BTreeMap<RegionId, Wish>,
        rooms: &Rooms,
        p: &Parameters,
    ) -> BTreeSet<PathwayId> {
        let in_force = self.plans(wishes, |course, _| &course.current);
        let wanted = self.plans(wishes, |_, filled| &filled.shares);
        // Where even the targets are too much, for want of room elsewhere, only what is clearly above them counts: the last
        // percent would be moved to and fro.
        let above = |bits: f64, wanted: f64, most: f64| {
            bits > if wanted > 1.01 * most { wanted * (1.0 + p.move_min) } else { most }
        };
        in_force
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

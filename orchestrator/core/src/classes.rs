//! Content classes: those that not every pathway serves are placed first, and when capacity is short the least
//! important give up bitrate first.

use std::collections::BTreeMap;

use spillway_model::{ContentClass, PathwayId, RegionId};
use spillway_routing::CohortRule;

use crate::engine::Engine;
use crate::fill::{Candidate, Filled, fill};
use crate::weights::to_weights;
use crate::wish::Wish;
use crate::{ClassEvidence, Parameters};

/// What the fill said about a class.
pub(crate) struct ClassWish {
    /// Bit/s.
    pub demand: f64,
    pub filled: Filled,
}

impl Engine {
    /// Remembers the newest counts; a class that nobody counts any more has no views.
    pub(crate) fn count_classes(&mut self, evidence: &[ClassEvidence]) {
        if evidence.is_empty() {
            return;
        }
        for memory in self.regions.values_mut() {
            memory.class_views.clear();
        }
        for class in evidence {
            if let Some(memory) = self.regions.get_mut(&class.region) {
                *memory.class_views.entry(class.class.clone()).or_default() += class.views_active;
            }
        }
    }

    fn serves_class(&self, id: &PathwayId, class: &ContentClass) -> bool {
        let classes = &self.setup.pathways[id].serves.classes;
        classes.is_empty() || classes.contains(class)
    }

    /// Places the classes that only some pathways serve, and takes their room from the candidates.
    pub(crate) fn class_wishes(
        &self,
        region: &RegionId,
        demand: f64,
        candidates: &mut [Candidate],
        p: &Parameters,
    ) -> BTreeMap<ContentClass, ClassWish> {
        let memory = &self.regions[region];
        let views = self.observed.views(region).max(memory.class_views.values().sum()).max(1) as f64;
        let mut out = BTreeMap::new();
        for (class, count) in &memory.class_views {
            let eligible: Vec<Candidate> =
                candidates.iter().filter(|candidate| self.serves_class(&candidate.id, class)).cloned().collect();
            if eligible.len() == candidates.len() || eligible.is_empty() || *count == 0 {
                continue;
            }
            let wanted = demand * *count as f64 / views;
            let filled = fill(wanted, &eligible, p);
            for candidate in candidates.iter_mut() {
                candidate.take(filled.shares.get(&candidate.id).copied().unwrap_or(0.0) * wanted);
            }
            out.insert(class.clone(), ClassWish { demand: wanted, filled });
        }
        out
    }

    /// Rules of those classes, like the one for everybody but for the weights.
    pub(crate) fn class_rules(&self, region: &RegionId, wish: &Wish, everyone: &CohortRule) -> Vec<CohortRule> {
        let memory = &self.regions[region];
        wish.classes
            .iter()
            .filter_map(|(class, of_class)| {
                let in_force = memory.class_courses.get(class).map(|course| &course.current);
                let shares = in_force.filter(|shares| !shares.is_empty()).unwrap_or(&of_class.filled.shares);
                let weights = to_weights(shares)?;
                Some(CohortRule {
                    class: Some(class.clone()),
                    weights_new: weights.clone(),
                    weights_running: weights,
                    reason: format!("only {} of its pathways serve {class}", shares.len()),
                    ..everyone.clone()
                })
            })
            .collect()
    }

    /// Highest bitrates when not everything fits, kbit/s by class, the least important class first; `None` stands for
    /// all others and comes last.
    pub(crate) fn max_bitrates(
        &self,
        region: &RegionId,
        wish: &Wish,
        p: &Parameters,
    ) -> Vec<(Option<ContentClass>, u32)> {
        let mut missing = (wish.unmet * wish.demand).max(wish.shortage);
        if missing <= 0.0 || wish.unmet >= 1.0 {
            return Vec::new();
        }
        let memory = &self.regions[region];
        let each = memory.demand.bits_per_view(p);
        let views = wish.demand / each.max(1.0);
        // Only views that start take it over; where none is seen to start, all are taken for such.
        let starting = self.starting(region) * p.shortage_reach_s / views.max(1.0);
        let part = if starting > 0.0 { starting.min(1.0) } else { 1.0 };
        let lowest = p.bitrate_floor_bps.min(each);
        let mut rest = views;
        let mut out = Vec::new();
        for class in &self.setup.classes {
            let views = memory.class_views.get(class).copied().unwrap_or(0) as f64;
            if views < 1.0 || missing <= 1e-3 * wish.demand {
                continue;
            }
            let fits = (each - missing / (views * part)).max(lowest);
            missing -= (each - fits) * views * part;
            rest -= views;
            out.push((Some(class.clone()), to_kbps(fits)));
        }
        if missing > 1e-3 * wish.demand && rest > 0.0 {
            out.push((None, to_kbps((each - missing / (rest * part)).max(lowest.min(each * 0.5)))));
        }
        out
    }

    /// Views that start, per second.
    fn starting(&self, region: &RegionId) -> f64 {
        let from = (self.observed.latest_s(region) + 1).saturating_sub(STARTS_S);
        let started: u64 = self.observed.region(region).map(|(_, seen)| seen.assigned_since(from).1).sum();
        started as f64 / STARTS_S as f64
    }
}

/// Starts are counted over this, s.
const STARTS_S: u64 = 30;

/// Steps of 50 kbit/s, at least 100.
fn to_kbps(bits: f64) -> u32 {
    ((bits.max(0.0) / 50_000.0) as u32).max(2) * 50
}

//! Content classes: those that not every pathway serves are placed first, and when capacity is short the least
//! important give up bitrate first.

use std::collections::BTreeMap;

use spillway_model::{ContentClass, PathwayId, RegionId, TimestampMs};
use spillway_routing::CohortRule;

use crate::decide::Round;
use crate::engine::Engine;
use crate::fill::{Candidate, Filled, fill};
use crate::weights::to_weights;
use crate::wish::Wish;
use crate::{ClassEvidence, Parameters};

/// Highest bitrates in force, kbit/s by class, and since when; the least important class first, `None` (all others) last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caps(Vec<(Option<ContentClass>, u32, TimestampMs)>);

impl Caps {
    /// As manifests carry them.
    pub(crate) fn in_force(&self) -> Vec<(Option<ContentClass>, u32)> {
        self.0.iter().map(|(class, kbps, _)| (class.clone(), *kbps)).collect()
    }

    /// Takes what a round wants: what is clearly lower at once, what is higher only after a while, since the shortage is
    /// measured with noise and nobody but views that start reads it.
    fn take(&mut self, now: TimestampMs, wanted: Vec<(Option<ContentClass>, u32)>, p: &Parameters) {
        let held = std::mem::take(&mut self.0);
        let fresh = |since: TimestampMs| now.since(since).as_secs_f64() < p.shortage_hold_s;
        let all = wanted.iter().map(|(class, _)| class).chain(held.iter().map(|(class, ..)| class));
        let mut classes: Vec<&Option<ContentClass>> = all.collect();
        // All others come last: the first that fits wins.
        classes.sort_by_key(|class| class.is_none());
        for class in classes {
            if self.0.iter().any(|(known, ..)| known == class) {
                continue;
            }
            let of_now = wanted.iter().find(|(wanted, _)| wanted == class).map(|(_, kbps)| *kbps);
            let before = held.iter().find(|(held, ..)| held == class).map(|(_, kbps, since)| (*kbps, *since));
            let next = match (of_now, before) {
                (Some(kbps), Some((known, _))) if f64::from(kbps) < f64::from(known) * (1.0 - p.shortage_step) => {
                    Some((kbps, now))
                }
                (Some(kbps), Some((known, _))) if kbps <= known => Some((known, now)),
                (_, Some((known, since))) if fresh(since) => Some((known, since)),
                (Some(kbps), _) => Some((kbps, now)),
                (None, _) => None,
            };
            self.0.extend(next.map(|(kbps, since)| (class.clone(), kbps, since)));
        }
    }
}

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

    /// Decides the highest bitrates of all regions.
    pub(crate) fn cap_bitrates(&mut self, round: &Round<'_>, wishes: &BTreeMap<RegionId, Wish>) {
        for (region, wish) in wishes {
            let p = round.p_of(region);
            let wanted = self.max_bitrates(region, wish, p);
            if let Some(memory) = self.regions.get_mut(region) {
                memory.caps.take(round.tick.now, wanted, p);
            }
        }
    }

    /// Highest bitrates when not everything fits, kbit/s by class, the least important class first; `None` stands for
    /// all others and comes last.
    fn max_bitrates(&self, region: &RegionId, wish: &Wish, p: &Parameters) -> Vec<(Option<ContentClass>, u32)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitrate_falls_at_once_and_rises_after_a_while() {
        let p = Parameters::default();
        let mut caps = Caps::default();
        let mut at = |second: u64, wanted: &[u32]| {
            let wanted = wanted.iter().map(|kbps| (None, *kbps)).collect();
            caps.take(TimestampMs(second * 1000), wanted, &p);
            caps.in_force().first().map(|(_, kbps)| *kbps)
        };
        assert_eq!(at(0, &[2000]), Some(2000));
        assert_eq!(at(2, &[1950]), Some(2000), "noise");
        assert_eq!(at(4, &[1500]), Some(1500), "at once");
        assert_eq!(at(6, &[2500]), Some(1500), "not yet");
        assert_eq!(at(20, &[1500]), Some(1500));
        assert_eq!(at(40, &[]), Some(1500), "wanted 20 s ago");
        assert_eq!(at(52, &[2500]), Some(2500));
        assert_eq!(at(90, &[]), None);
    }

    #[test]
    fn classes_stand_before_all_others() {
        let kids = Some(ContentClass::new("kids").expect("a class"));
        let mut caps = Caps::default();
        caps.take(TimestampMs(0), vec![(None, 1000)], &Parameters::default());
        caps.take(TimestampMs(2000), vec![(kids.clone(), 800)], &Parameters::default());
        assert_eq!(caps.in_force(), [(kids, 800), (None, 1000)]);
    }
}

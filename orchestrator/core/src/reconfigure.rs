//! Another setup between two rounds: what stays keeps everything that is known of it, what is new begins.
//!
//! A reload in the middle of an incident must not forget that a CDN is DOWN, nor begin holds and ramps again. A pathway
//! that is new in a region which has others comes in as one does that recovers: its caches are cold and nobody has seen
//! it serve. In a region that is new, or where nothing stays, all begin as at a start.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{OriginGroupId, PathwayId, RegionId, TimestampMs};

use crate::engine::{Engine, RegionMemory};
use crate::levels::Usual;
use crate::memory::{CellMemory, PathwayMemory};
use crate::weights::normalised;
use crate::{Parameters, PriceSheet, Setup};

/// What another setup brought and took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconfigured {
    /// Pathways that serve a region now and did not before.
    pub added: Vec<(RegionId, PathwayId)>,
    /// Pathways that serve a region no more, with the views that were on them.
    pub removed: Vec<(RegionId, PathwayId, u64)>,
}

/// Pathways by the region that they serve.
pub(crate) fn served(setup: &Setup) -> BTreeMap<RegionId, Vec<PathwayId>> {
    let one = |region: &RegionId| {
        let serves = |id: &&PathwayId| {
            let regions = &setup.pathways[*id].regions;
            regions.is_empty() || regions.contains(region)
        };
        (region.clone(), setup.pathways.keys().filter(serves).cloned().collect())
    };
    setup.regions.keys().map(one).collect()
}

/// By pathway: those that share no failure domain with it; all others, if each of them does.
pub(crate) fn apart(setup: &Setup) -> BTreeMap<PathwayId, BTreeSet<PathwayId>> {
    let domains = |id: &PathwayId| {
        let pathway = &setup.pathways[id];
        let mut domains = pathway.failure_domains.clone();
        domains.insert(id.as_str().to_owned());
        domains.extend(pathway.group.as_ref().map(|group| group.as_str().to_owned()));
        domains
    };
    let all: BTreeMap<&PathwayId, BTreeSet<String>> = setup.pathways.keys().map(|id| (id, domains(id))).collect();
    all.iter()
        .map(|(id, own)| {
            let others = || all.iter().filter(|(other, _)| *other != id);
            let apart: BTreeSet<PathwayId> =
                others().filter(|(_, domains)| domains.is_disjoint(own)).map(|(other, _)| (*other).clone()).collect();
            let all_others = || others().map(|(other, _)| (*other).clone()).collect();
            ((*id).clone(), if apart.is_empty() { all_others() } else { apart })
        })
        .collect()
}

/// Where each pathway's misses go.
pub(crate) fn origin_of(setup: &Setup) -> BTreeMap<PathwayId, OriginGroupId> {
    setup.pathways.iter().map(|(id, pathway)| (id.clone(), pathway.origin_group.clone())).collect()
}

/// Pathways with a contract.
pub(crate) fn contracts(setup: &Setup) -> impl Iterator<Item = &PathwayId> {
    setup.pathways.iter().filter(|(_, pathway)| pathway.price != PriceSheet::Flat).map(|(id, _)| id)
}

/// A region of which nothing is known.
pub(crate) fn fresh(ids: &[PathwayId], since: TimestampMs, p: &Parameters) -> RegionMemory {
    let cells = ids.iter().map(|id| (id.clone(), CellMemory::new(since, p))).collect();
    RegionMemory { cells, ..RegionMemory::default() }
}

impl Engine {
    /// Goes on under another setup: estimates, states and timers of the regions and pathways that stay are kept. Call it
    /// between two rounds; the next one publishes what follows from it.
    pub fn reconfigure(&mut self, setup: Setup) -> Reconfigured {
        let mut out = Reconfigured::default();
        let served = served(&setup);
        let since = self.last_round().unwrap_or(TimestampMs::ZERO);
        for (region, ids) in &self.served {
            let stays = |id: &PathwayId| served.get(region).is_some_and(|now| now.contains(id));
            for id in ids.iter().filter(|id| !stays(id)) {
                let views = self.observed.cell(region, id).map_or(0, |seen| seen.views);
                out.removed.push((region.clone(), id.clone(), views));
            }
        }
        let mut before = std::mem::take(&mut self.regions);
        for (region, ids) in &served {
            let known = before.remove(region);
            let had = |id: &PathwayId| known.as_ref().is_some_and(|memory| memory.cells.contains_key(id));
            out.added.extend(ids.iter().filter(|id| !had(id)).map(|id| (region.clone(), id.clone())));
            let memory = match known.filter(|memory| ids.iter().any(|id| memory.cells.contains_key(id))) {
                Some(mut memory) => {
                    memory.reshape(ids, self.last_round(), &setup.parameters);
                    memory
                }
                None => fresh(ids, since, &setup.parameters),
            };
            self.regions.insert(region.clone(), memory);
        }
        self.observed.reshape(&served);
        self.pathways.retain(|id, _| setup.pathways.contains_key(id));
        self.changes.retain(|(_, id)| setup.pathways.contains_key(id));
        for id in setup.pathways.keys() {
            self.pathways.entry(id.clone()).or_insert_with(PathwayMemory::new);
        }
        let mut levels = std::mem::take(&mut self.levels);
        let level = |id: &PathwayId| (id.clone(), levels.remove(id).unwrap_or_default());
        self.levels = contracts(&setup).map(level).collect::<BTreeMap<PathwayId, Usual>>();
        (self.apart, self.origin_of, self.served) = (apart(&setup), origin_of(&setup), served);
        if setup.canary != self.setup.canary {
            self.trial = None;
        }
        self.setup = setup;
        out
    }
}

impl RegionMemory {
    /// Goes on with the pathways `ids`, of which some were there before. `last`: the last round, if there was one.
    fn reshape(&mut self, ids: &[PathwayId], last: Option<TimestampMs>, p: &Parameters) {
        let stays = |id: &PathwayId| ids.contains(id);
        if self.course.current.iter().any(|(id, share)| *share > 0.0 && !stays(id)) {
            // A second reload before the next round: what was there first is what views leave.
            self.left.get_or_insert_with(|| self.course.current.clone());
        }
        self.cells.retain(|id, _| stays(id));
        self.course.keep(stays);
        self.class_courses.values_mut().for_each(|course| course.keep(stays));
        self.factors.retain(|id, _| stays(id));
        self.arrived.retain(|id, _| stays(id));
        self.networks.retain(|(_, id), _| stays(id));
        self.findings.retain(|note| note.pathway.as_ref().is_none_or(stays));
        if let Some(from) = &mut self.drift_from {
            from.retain(|id, _| stays(id));
            *from = normalised(from);
        }
        for id in ids {
            if self.cells.contains_key(id) {
                continue;
            }
            let mut cell = CellMemory::new(last.unwrap_or(TimestampMs::ZERO), p);
            if let Some(last) = last {
                cell.machine.ramp(last, "new here, takes its share in steps");
                // It is no worse than it was: nobody must be moved at once.
                self.factors.insert(id.clone(), cell.machine.factor(p));
            }
            self.cells.insert(id.clone(), cell);
        }
    }
}

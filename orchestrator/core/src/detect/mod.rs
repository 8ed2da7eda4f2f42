//! Third stage: which pathway is ill in a region, which only seems so, and why.

mod common;
mod fast;
mod networks;
mod reference;
mod silence;
mod slow;

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{ContentId, OriginGroupId, PathwayId, RegionId, TimestampMs, Verdict};

use crate::memory::CellMemory;
use crate::observe::{CellSeen, Failing, Observed};
use crate::{FindingNote, NetworkHealth, Parameters};
pub(crate) use reference::is_hard;

/// What a pathway's state machine is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// Nothing.
    #[default]
    None,
    /// Measurably worse than the others.
    Degraded,
    /// Dead.
    Down,
}

/// A pathway's finding, or that of a network on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finding {
    pub alarm: Alarm,
    /// Why, with numbers.
    pub text: String,
    /// No sign of a fault at all.
    pub quiet: bool,
}

/// What is found in a region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub pathways: BTreeMap<PathwayId, Finding>,
    /// Networks that are ill on a pathway which is otherwise well.
    pub networks: BTreeMap<(u32, PathwayId), Finding>,
    pub notes: Vec<FindingNote>,
}

/// What detection looks at.
pub(crate) struct Scene<'a> {
    pub now: TimestampMs,
    pub parameters: &'a Parameters,
    pub region: &'a RegionId,
    pub observed: &'a Observed,
    pub cells: &'a BTreeMap<PathwayId, CellMemory>,
    /// By pathway: those that don't die together with it.
    pub apart: &'a BTreeMap<PathwayId, BTreeSet<PathwayId>>,
    pub origin_of: &'a BTreeMap<PathwayId, OriginGroupId>,
    /// Bad-window rate by pathway over all regions.
    pub parents: &'a BTreeMap<PathwayId, f64>,
    /// Failing views by region and pathway.
    pub failing: &'a BTreeMap<RegionId, BTreeMap<PathwayId, Failing>>,
    /// Sessions that left by themselves by region and pathway.
    pub fled: &'a BTreeMap<RegionId, BTreeMap<PathwayId, Failing>>,
    /// Beacons can't be trusted here now.
    pub telemetry_lost: bool,
    /// Pathways whose illness would be taken for too much load, and why.
    pub strained: &'a BTreeMap<PathwayId, String>,
    /// Of them, those that are full whatever they have proven.
    pub full: &'a BTreeSet<PathwayId>,
    /// Own edges whose load reports stopped.
    pub reports_gone: &'a BTreeSet<PathwayId>,
    /// Origin groups that other evidence says are failing.
    pub origins_failing: &'a BTreeSet<OriginGroupId>,
    /// Origin groups at their ceiling.
    pub origins_full: &'a BTreeSet<OriginGroupId>,
    /// Titles that their origin can't serve.
    pub content_failing: &'a BTreeSet<ContentId>,
    /// How networks fare on pathways in the long run.
    pub learned: &'a BTreeMap<(PathwayId, RegionId, u32), NetworkHealth>,
    /// We moved views here a short while ago.
    pub moved_lately: bool,
    /// Pathways are compared with others.
    pub compares: bool,
}

/// A note on one pathway.
pub(crate) fn note(verdict: Verdict, pathway: &PathwayId, text: String) -> FindingNote {
    FindingNote { verdict, pathway: Some(pathway.clone()), asn: None, content: Vec::new(), text }
}

/// A note on the region as a whole.
pub(crate) fn general(verdict: Verdict, text: String) -> FindingNote {
    FindingNote { verdict, pathway: None, asn: None, content: Vec::new(), text }
}

/// Its name as people write it.
pub(crate) fn network_name(asn: Option<u32>) -> String {
    asn.map_or_else(|| "an unknown network".to_owned(), |asn| format!("AS{asn}"))
}

/// Findings by pathway and network, and the region's verdicts.
pub(crate) fn detect(scene: &Scene<'_>) -> Found {
    let mut found = Found::default();
    if scene.telemetry_lost {
        found.notes.push(general(Verdict::Telemetry, "beacons are missing here, weights stay as they are".to_owned()));
    }
    for (id, memory) in scene.cells {
        let Some(seen) = scene.observed.cell(scene.region, id) else { continue };
        let networks = scene.ill_networks(id, memory, seen);
        let finding = scene.finding(id, memory, seen, &networks, &mut found.notes);
        if finding.alarm == Alarm::None {
            for (asn, finding) in networks {
                found.notes.push(FindingNote { asn: Some(asn), ..note(Verdict::PathAsn, id, finding.text.clone()) });
                found.networks.insert((asn, id.clone()), finding);
            }
        }
        found.pathways.insert(id.clone(), finding);
    }
    scene.common_faults(&mut found);
    found
}

impl Scene<'_> {
    fn finding(
        &self,
        id: &PathwayId,
        memory: &CellMemory,
        seen: &CellSeen,
        networks: &BTreeMap<u32, Finding>,
        notes: &mut Vec<FindingNote>,
    ) -> Finding {
        let candidates = [
            self.gone(id, memory),
            self.fast_lane(&self.reports(), id, memory, networks, notes),
            self.fast_lane(&self.polls(), id, memory, networks, notes),
            self.slow_lane(id, memory, seen, networks, notes),
            self.silence(id, memory, seen),
            self.ghosts(id, memory, seen),
            self.probes_alone(id, memory, seen),
        ];
        let mut finding = Finding { quiet: self.quiet(id, memory), ..Finding::default() };
        for (alarm, text) in candidates.into_iter().flatten() {
            if alarm > finding.alarm {
                finding = Finding { alarm, text: format!("{}: {text}", Verdict::Path), quiet: false };
                notes.push(note(Verdict::Path, id, text));
            }
        }
        finding
    }

    fn someone_answers(&self, except: &CellMemory) -> bool {
        self.cells
            .values()
            .any(|cell| !std::ptr::eq(cell, except) && cell.probes.verdict(self.now, self.parameters) == Some(true))
    }

    fn shielded_by_origin(&self, id: &PathwayId, memory: &CellMemory) -> bool {
        self.origin_of.get(id).is_some_and(|origin| self.origins_failing.contains(origin))
            && !memory.probes.small_fails(self.now, self.parameters)
    }

    /// Bad-window rate over all regions: what a thin cell is pulled towards.
    fn parent(&self, id: &PathwayId, memory: &CellMemory) -> f64 {
        self.parents.get(id).copied().unwrap_or(memory.baseline)
    }

    /// Least rate that is called ill.
    fn ill_rate(&self, memory: &CellMemory) -> f64 {
        self.parameters.degraded_rate.max(self.parameters.degraded_times_baseline * memory.baseline)
    }

    fn quiet(&self, id: &PathwayId, memory: &CellMemory) -> bool {
        let parent = self.parent(id, memory);
        let share = |of: &BTreeMap<RegionId, BTreeMap<PathwayId, Failing>>| {
            of.get(self.region).and_then(|here| here.get(id)).map_or(0.0, Failing::share)
        };
        memory.cusum.sum < 1.0
            && memory.health.estimate(parent, self.parameters) < 2.0 * memory.baseline.max(parent)
            && share(self.failing).max(share(self.fled)) < self.parameters.fast_share / 2.0
            && memory.probes.bad_rounds(self.now, self.parameters) == 0
    }

    /// Other pathways of the region that are a fair comparison: they don't die together with this one, and aren't
    /// known to be ill themselves.
    fn comparable(&self, id: &PathwayId) -> impl Iterator<Item = (&PathwayId, &CellSeen)> {
        let apart = self.apart.get(id).filter(|_| self.compares);
        self.observed.region(self.region).filter(move |(other, _)| {
            apart.is_some_and(|apart| apart.contains(*other))
                && self.cells.get(*other).is_some_and(|cell| cell.machine.is_reference())
        })
    }
}

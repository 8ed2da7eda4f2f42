//! The fast lane: distinct views with a failed or late request in the last seconds, or sessions that left by themselves.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, RegionId, Verdict};

use crate::FindingNote;
use crate::detect::reference::{USUAL, is_hard, lone_network, reference};
use crate::detect::{Alarm, Finding, Scene, network_name, note};
use crate::memory::CellMemory;
use crate::observe::Failing;

/// Whose failing views are looked at.
pub(super) struct Lane<'a> {
    /// By region and pathway.
    failing: &'a BTreeMap<RegionId, BTreeMap<PathwayId, Failing>>,
    /// "5 of 9 …"
    what: &'static str,
    window_s: u64,
}

impl Scene<'_> {
    /// What players report.
    pub(super) fn reports(&self) -> Lane<'_> {
        Lane { failing: self.failing, what: "views failing", window_s: self.parameters.fast_window_s }
    }

    /// What polls say of players that report nothing: that they are not where they were told to stay.
    pub(super) fn polls(&self) -> Lane<'_> {
        Lane {
            failing: self.fled,
            what: "polling sessions gone by themselves",
            window_s: self.parameters.fled_window_s,
        }
    }

    pub(super) fn fast_lane(
        &self,
        lane: &Lane<'_>,
        id: &PathwayId,
        memory: &CellMemory,
        networks: &BTreeMap<u32, Finding>,
        notes: &mut Vec<FindingNote>,
    ) -> Option<(Alarm, String)> {
        let p = self.parameters;
        let here = lane.failing.get(self.region)?;
        let own = here.get(id)?;
        if !is_hard(own, p) || self.rest_is_well(own, networks) {
            return None;
        }
        let others = self.others(id, here);
        let reference = self.reference(lane, id, own, &others);
        let count = format!("{:.0} of {:.0} {} in {} s", own.failing, own.views, lane.what, lane.window_s);
        if let Some(asn) = lone_network(own, &others, p) {
            let text = format!("{count}, nearly all in {}, nobody to compare with", network_name(asn));
            notes.push(FindingNote { asn, ..note(Verdict::Access, id, text) });
            return None;
        }
        let others_text = match reference {
            Some(reference) if own.share() <= p.fast_times_reference * reference => return None,
            Some(reference) => format!("others {:.0} %", reference * 100.0),
            None if !self.alone_is_ill(id, memory, own) => {
                notes.push(note(Verdict::Path, id, format!("{count}, nobody to compare with, probes don't confirm")));
                return None;
            }
            None => "nobody to compare with".to_owned(),
        };
        if self.shielded_by_origin(id, memory) {
            notes.push(note(Verdict::Origin, id, format!("{count}, but its origin is failing")));
            return None;
        }
        let elsewhere = lane.elsewhere(self.region, id);
        let too_full = own.share() < p.capacity_fail_max
            && (elsewhere.views < p.elsewhere_share * own.views
                || elsewhere.share() > own.share() / p.fast_times_reference);
        if let Some(strain) = self.strained.get(id).filter(|_| too_full) {
            notes.push(note(Verdict::Capacity, id, format!("{count} {strain}")));
            return None;
        }
        Some((Alarm::Down, format!("{count}, {others_text}")))
    }

    pub(super) fn reference(&self, lane: &Lane<'_>, id: &PathwayId, own: &Failing, others: &[&Failing]) -> Option<f64> {
        if !self.compares {
            return Some(USUAL);
        }
        reference(own, others, &self.world(lane, id), self.parameters)
    }

    /// Whether the pathway is well apart from the networks that have a finding of their own.
    fn rest_is_well(&self, own: &Failing, networks: &BTreeMap<u32, Finding>) -> bool {
        if networks.is_empty() {
            return false;
        }
        let rest = networks.keys().fold(own.clone(), |rest, asn| rest.without(Some(*asn)));
        rest.views >= self.parameters.network_rest_views_min && rest.share() < self.parameters.fast_share / 2.0
    }

    /// Without any reference the probes decide; without probes half of the views failing is enough.
    fn alone_is_ill(&self, id: &PathwayId, memory: &CellMemory, own: &Failing) -> bool {
        match memory.probes.verdict(self.now, self.parameters) {
            Some(good) => !good && self.someone_answers(memory),
            // The last one standing is kept: there is nowhere to go.
            None => own.share() >= self.parameters.fast_small_share && self.comparable(id).next().is_some(),
        }
    }

    pub(super) fn others<'f>(&self, id: &PathwayId, here: &'f BTreeMap<PathwayId, Failing>) -> Vec<&'f Failing> {
        self.comparable(id).filter_map(|(other, _)| here.get(other)).filter(|other| other.views > 0.0).collect()
    }

    /// What shares the origin in other regions and doesn't die together with this pathway.
    fn world(&self, lane: &Lane<'_>, id: &PathwayId) -> Failing {
        let mut out = Failing::default();
        let origin = self.origin_of.get(id);
        let apart = self.apart.get(id);
        for cells in lane.other_regions(self.region) {
            for (other, failing) in cells {
                if apart.is_some_and(|apart| apart.contains(other)) && self.origin_of.get(other) == origin {
                    out.views += failing.views;
                    out.failing += failing.failing;
                }
            }
        }
        out
    }
}

impl Lane<'_> {
    fn other_regions(&self, region: &RegionId) -> impl Iterator<Item = &BTreeMap<PathwayId, Failing>> {
        self.failing.iter().filter(move |(other, _)| *other != region).map(|(_, cells)| cells)
    }

    /// The same pathway in other regions: what is too full is so everywhere.
    fn elsewhere(&self, region: &RegionId, id: &PathwayId) -> Failing {
        let mut out = Failing::default();
        self.other_regions(region).filter_map(|cells| cells.get(id)).for_each(|failing| {
            out.views += failing.views;
            out.failing += failing.failing;
        });
        out
    }
}

//! First stage: counters of frames by second, region, pathway and network.

mod network;
mod seen;

use std::collections::BTreeMap;

use spillway_model::{PathwayId, RegionId, TimestampMs};

use crate::{CellEvidence, Parameters, SourceKind};
pub(crate) use network::{Counted, Network, Windows, protocol_index};
pub(crate) use seen::{CellSeen, Failing, Fresh, SECONDS_KEPT, believed, without};

#[derive(Clone, Debug)]
struct Source {
    index: u32,
    at: TimestampMs,
}

/// One region's cells.
#[derive(Clone, Debug, Default)]
struct RegionSeen {
    cells: BTreeMap<PathwayId, CellSeen>,
    latest_s: u64,
}

/// All counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    regions: BTreeMap<RegionId, RegionSeen>,
    sources: BTreeMap<String, Source>,
    sources_seen: u32,
}

impl Observed {
    /// Room for the declared regions and pathways; others are ignored.
    pub(crate) fn new(served: &BTreeMap<RegionId, Vec<PathwayId>>) -> Self {
        let cells = |ids: &Vec<PathwayId>| ids.iter().map(|id| (id.clone(), CellSeen::default())).collect();
        let regions = served
            .iter()
            .map(|(region, ids)| (region.clone(), RegionSeen { cells: cells(ids), latest_s: 0 }))
            .collect();
        Self { regions, ..Self::default() }
    }

    /// Room for other regions and pathways; what stays keeps its counters.
    pub(crate) fn reshape(&mut self, served: &BTreeMap<RegionId, Vec<PathwayId>>) {
        self.regions.retain(|region, _| served.contains_key(region));
        for (region, ids) in served {
            let seen = self.regions.entry(region.clone()).or_default();
            seen.cells.retain(|id, _| ids.contains(id));
            for id in ids {
                seen.cells.entry(id.clone()).or_default();
            }
        }
    }

    /// Takes a round's cells. Cells that lie more than a minute ahead of `now` are ignored: a clock is wrong there.
    pub(crate) fn take(&mut self, now: TimestampMs, cells: &[CellEvidence], p: &Parameters) {
        for cell in self.regions.values_mut().flat_map(|region| region.cells.values_mut()) {
            cell.fresh = Fresh::default();
            for network in &mut cell.networks {
                network.fresh = Windows::default();
            }
        }
        let in_time = |cell: &&CellEvidence| cell.at.0 <= now.0.saturating_add(SECONDS_KEPT * 1000);
        for evidence in cells.iter().filter(in_time) {
            let source = self.source(evidence);
            let known = self.regions.get_mut(&evidence.region);
            let Some(region) = known.filter(|region| region.cells.contains_key(&evidence.pathway)) else { continue };
            region.latest_s = region.latest_s.max(second_of(evidence));
            if let Some(cell) = region.cells.get_mut(&evidence.pathway) {
                count(cell, evidence, source);
            }
        }
        self.settle(now, p);
    }

    /// The source's number, with its newest frame noted.
    fn source(&mut self, evidence: &CellEvidence) -> u32 {
        if let Some(source) = self.sources.get_mut(&evidence.source) {
            source.at = source.at.max(evidence.at);
            return source.index;
        }
        self.sources_seen += 1;
        let source = Source { index: self.sources_seen, at: evidence.at };
        self.sources.insert(evidence.source.clone(), source);
        self.sources_seen
    }

    /// Counts the views now and forgets what is old.
    fn settle(&mut self, now: TimestampMs, p: &Parameters) {
        let stale_ms = (p.gauge_stale_s * 1000.0) as u64;
        self.sources.retain(|_, source| now.since(source.at).0 <= stale_ms);
        let sources: Vec<(u32, TimestampMs)> = self.sources.values().map(|source| (source.index, source.at)).collect();
        for region in self.regions.values_mut() {
            for cell in region.cells.values_mut() {
                cell.age(region.latest_s, p.fast_window_s, p.fled_window_s);
                let mut all = Counted::default();
                for network in &mut cell.networks {
                    let counted = network.count(&sources);
                    all.views += counted.views;
                    all.fixed += counted.fixed;
                    all.bad += counted.bad;
                }
                (cell.views, cell.fixed, cell.views_bad) = (all.views, all.fixed, all.bad);
                cell.polling = cell.polls.count(&sources).views;
                cell.networks.retain(|network| !network.is_empty());
            }
        }
    }

    /// The region's cells; empty if it is not declared.
    pub(crate) fn region(&self, region: &RegionId) -> impl Iterator<Item = (&PathwayId, &CellSeen)> {
        self.regions.get(region).into_iter().flat_map(|region| &region.cells)
    }

    /// The same, to learn from.
    pub(crate) fn region_mut(&mut self, region: &RegionId) -> impl Iterator<Item = (&PathwayId, &mut CellSeen)> {
        self.regions.get_mut(region).into_iter().flat_map(|region| &mut region.cells)
    }

    /// One cell.
    pub(crate) fn cell_mut(&mut self, region: &RegionId, pathway: &PathwayId) -> Option<&mut CellSeen> {
        self.regions.get_mut(region)?.cells.get_mut(pathway)
    }

    pub(crate) fn cell(&self, region: &RegionId, pathway: &PathwayId) -> Option<&CellSeen> {
        self.regions.get(region)?.cells.get(pathway)
    }

    /// Views of the region now.
    pub(crate) fn views(&self, region: &RegionId) -> u64 {
        self.region(region).map(|(_, cell)| cell.views).sum()
    }

    /// The newest second heard of in the region.
    pub(crate) fn latest_s(&self, region: &RegionId) -> u64 {
        self.regions.get(region).map_or(0, |region| region.latest_s)
    }
}

const fn second_of(evidence: &CellEvidence) -> u64 {
    evidence.at.0.saturating_sub(1) / 1000
}

fn count(cell: &mut CellSeen, evidence: &CellEvidence, source: u32) {
    let windows = windows_of(evidence);
    cell.fresh.windows += windows.all;
    cell.fresh.bad += windows.bad;
    cell.fresh.weight_sq += windows.squares;
    cell.fresh.bits += evidence.bits as f64;
    cell.fresh.view_s += evidence.views_active as f64 * evidence.interval.as_secs_f64();
    if evidence.kind == SourceKind::Steer && evidence.sessions_polling > 0 {
        let polling = Counted { views: evidence.sessions_polling, ..Counted::default() };
        cell.polls.take(source, evidence.at, polling);
    }
    if evidence.kind == SourceKind::Collector && (evidence.views_active > 0 || windows.all > 0.0) {
        let network = cell.network(evidence.asn);
        let (fixed, bad) = (evidence.views_fixed, evidence.views_bad);
        network.gauges.take(source, evidence.at, Counted { views: evidence.views_active, fixed, bad });
        network.fresh.add(&windows);
        let protocol = &mut network.protocols[protocol_index(evidence.protocol)];
        protocol.0 += windows.all as f32;
        protocol.1 += windows.bad as f32;
    }
    let at_s = second_of(evidence);
    let failing = evidence.views_failing + evidence.views_late;
    if failing > 0 {
        cell.fail(evidence.asn, at_s, failing);
    }
    if evidence.sessions_settled > 0 {
        cell.settle(evidence.asn, at_s, evidence.sessions_settled, evidence.sessions_fled);
    }
    let Some(second) = cell.second(at_s) else { return };
    second.windows += windows.all;
    second.bad += windows.bad;
    second.due += evidence.heartbeats_due;
    second.received += evidence.heartbeats_received;
    second.assigned += evidence.sessions_assigned;
    second.started += evidence.views_new;
    second.ghosts += evidence.ghost_starts;
    second.untrusted += evidence.sessions_untrusted;
    second.ok += evidence.requests_ok;
    second.failed += evidence.requests_failed + evidence.requests_late;
}

fn windows_of(evidence: &CellEvidence) -> Windows {
    let (all, bad) = if evidence.weight_milli == 0 {
        (evidence.windows as f64, evidence.bad_windows as f64)
    } else {
        (evidence.weight_milli as f64 / 1e3, evidence.bad_weight_milli as f64 / 1e3)
    };
    let squares = if evidence.weight_sq_micro == 0 { all } else { evidence.weight_sq_micro as f64 / 1e6 };
    Windows { all, bad: bad.min(all), squares }
}

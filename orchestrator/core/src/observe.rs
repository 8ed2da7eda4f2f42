//! First stage: counters of frames by second, region, pathway and network.

use std::collections::{BTreeMap, VecDeque};

use spillway_model::{PathwayId, RegionId, TimestampMs};

use crate::{CellEvidence, Parameters, SourceKind};

/// Seconds that are kept: the longest look-back is the good share of the last minute.
const SECONDS_KEPT: u64 = 60;

/// Counters of one second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// Which second, since the epoch.
    pub at_s: u64,
    /// Weight of windows closed.
    pub windows: f64,
    /// Weight of the bad ones.
    pub bad: f64,
    /// Distinct views with a failed or late request, by network.
    pub failing: BTreeMap<Option<u32>, u64>,
    /// Heartbeats due.
    pub due: u64,
    /// Heartbeats that came.
    pub received: u64,
    /// Sessions assigned by steering nodes.
    pub assigned: u64,
    /// Views started.
    pub started: u64,
}

/// What came since the last round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fresh {
    pub windows: f64,
    pub bad: f64,
    pub weight_sq: f64,
    pub bits: f64,
    pub view_s: f64,
}

/// One pathway in one region.
#[derive(Clone, Debug, Default)]
pub(crate) struct CellSeen {
    /// Views now, by network.
    pub views: BTreeMap<Option<u32>, u64>,
    /// The last minute, oldest first.
    pub seconds: VecDeque<Second>,
    /// Since the last round.
    pub fresh: Fresh,
}

/// Distinct failing views of a few seconds, by network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failing {
    /// (views, failing) by network.
    pub networks: BTreeMap<Option<u32>, (f64, f64)>,
    /// Views of all networks.
    pub views: f64,
    /// Failing ones.
    pub failing: f64,
}

impl Failing {
    pub(crate) fn share(&self) -> f64 {
        if self.views > 0.0 { self.failing / self.views } else { 0.0 }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (asn, (views, failing)) in &other.networks {
            let entry = self.networks.entry(*asn).or_default();
            entry.0 += views;
            entry.1 += failing;
        }
        self.views += other.views;
        self.failing += other.failing;
    }
}

impl CellSeen {
    /// Views of all networks.
    pub(crate) fn views_active(&self) -> u64 {
        self.views.values().sum()
    }

    fn second(&mut self, at_s: u64) -> Option<&mut Second> {
        let newest = self.seconds.back().map_or(0, |second| second.at_s);
        if at_s + SECONDS_KEPT <= newest {
            return None;
        }
        let index = self.seconds.partition_point(|second| second.at_s < at_s);
        if self.seconds.get(index).is_none_or(|second| second.at_s != at_s) {
            self.seconds.insert(index, Second { at_s, ..Second::default() });
        }
        self.seconds.get_mut(index)
    }

    fn since(&self, from_s: u64) -> impl Iterator<Item = &Second> {
        self.seconds.iter().rev().take_while(move |second| second.at_s >= from_s)
    }

    /// Failing views from second `from_s` on. A frame counts distinct views of its own second only, so that over
    /// several seconds the truth lies between the fullest second and the sum: the middle is taken, or two players
    /// that retry every second would look like six.
    pub(crate) fn failing_since(&self, from_s: u64) -> Failing {
        let mut sums: BTreeMap<Option<u32>, (u64, u64)> = BTreeMap::new();
        for (asn, count) in self.since(from_s).flat_map(|second| &second.failing) {
            let entry = sums.entry(*asn).or_default();
            entry.0 = entry.0.max(*count);
            entry.1 += count;
        }
        let mut out = Failing::default();
        for asn in self.views.keys().chain(sums.keys()) {
            let (fullest, sum) = sums.get(asn).copied().unwrap_or_default();
            let views = self.views.get(asn).copied().unwrap_or(0).max(fullest) as f64;
            let failing = ((fullest as f64 + (sum as f64).min(views)) / 2.0).min(views);
            out.networks.insert(*asn, (views, failing));
        }
        out.views = out.networks.values().map(|(views, _)| views).sum();
        out.failing = out.networks.values().map(|(_, failing)| failing).sum();
        out
    }

    /// (windows, bad ones) from second `from_s` on, up to but without `to_s`.
    pub(crate) fn windows_between(&self, from_s: u64, to_s: u64) -> (f64, f64) {
        self.since(from_s)
            .filter(|second| second.at_s < to_s)
            .fold((0.0, 0.0), |(windows, bad), second| (windows + second.windows, bad + second.bad))
    }

    /// (due, received) heartbeats from second `from_s` on.
    pub(crate) fn heartbeats_since(&self, from_s: u64) -> (u64, u64) {
        self.since(from_s).fold((0, 0), |(due, received), second| (due + second.due, received + second.received))
    }

    /// Sessions assigned but not yet seen to start, from second `from_s` on.
    pub(crate) fn assigned_since(&self, from_s: u64) -> (u64, u64) {
        self.since(from_s)
            .fold((0, 0), |(assigned, started), second| (assigned + second.assigned, started + second.started))
    }
}

type GaugeKey = (RegionId, PathwayId, Option<u32>);

#[derive(Clone, Debug, Default)]
struct Gauge {
    at: TimestampMs,
    views: BTreeMap<GaugeKey, u64>,
}

/// All counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    gauges: BTreeMap<String, Gauge>,
    cells: BTreeMap<RegionId, BTreeMap<PathwayId, CellSeen>>,
    latest_s: BTreeMap<RegionId, u64>,
}

impl Observed {
    /// Room for the declared regions and pathways; others are ignored.
    pub(crate) fn new(served: &BTreeMap<RegionId, Vec<PathwayId>>) -> Self {
        let cells = served
            .iter()
            .map(|(region, ids)| (region.clone(), ids.iter().map(|id| (id.clone(), CellSeen::default())).collect()))
            .collect();
        Self { gauges: BTreeMap::new(), cells, latest_s: BTreeMap::new() }
    }

    /// Takes a round's cells. Cells that lie more than a minute ahead of `now` are ignored: a clock is wrong there.
    pub(crate) fn take(&mut self, now: TimestampMs, cells: &[CellEvidence], parameters: &Parameters) {
        for cell in self.cells.values_mut().flat_map(BTreeMap::values_mut) {
            cell.fresh = Fresh::default();
        }
        for evidence in cells {
            if evidence.at.0 <= now.0.saturating_add(SECONDS_KEPT * 1000) {
                self.count(evidence);
            }
        }
        self.take_gauges(now, cells, parameters);
    }

    fn count(&mut self, evidence: &CellEvidence) {
        let at_s = evidence.at.0.saturating_sub(1) / 1000;
        let Some(cell) = self.cells.get_mut(&evidence.region).and_then(|cells| cells.get_mut(&evidence.pathway)) else {
            return;
        };
        let latest = self.latest_s.entry(evidence.region.clone()).or_default();
        *latest = (*latest).max(at_s);
        let (windows, bad) = if evidence.weight_milli == 0 {
            (evidence.windows as f64, evidence.bad_windows as f64)
        } else {
            (evidence.weight_milli as f64 / 1e3, evidence.bad_weight_milli as f64 / 1e3)
        };
        let bad = bad.min(windows);
        cell.fresh.windows += windows;
        cell.fresh.bad += bad;
        cell.fresh.weight_sq +=
            if evidence.weight_sq_micro == 0 { windows } else { evidence.weight_sq_micro as f64 / 1e6 };
        cell.fresh.bits += evidence.bits as f64;
        cell.fresh.view_s += evidence.views_active as f64 * evidence.interval.as_secs_f64();
        let Some(second) = cell.second(at_s) else { return };
        second.windows += windows;
        second.bad += bad;
        second.due += evidence.heartbeats_due;
        second.received += evidence.heartbeats_received;
        second.assigned += evidence.sessions_assigned;
        second.started += evidence.views_new;
        let failing = evidence.views_failing + evidence.views_late;
        if failing > 0 {
            *second.failing.entry(evidence.asn).or_default() += failing;
        }
        while cell.seconds.front().is_some_and(|second| second.at_s + SECONDS_KEPT <= *latest) {
            cell.seconds.pop_front();
        }
    }

    fn take_gauges(&mut self, now: TimestampMs, cells: &[CellEvidence], parameters: &Parameters) {
        for evidence in cells.iter().filter(|evidence| evidence.kind == SourceKind::Collector) {
            let known = self.cells.get(&evidence.region).is_some_and(|cells| cells.contains_key(&evidence.pathway));
            if !known {
                continue;
            }
            let gauge = self.gauges.entry(evidence.source.clone()).or_default();
            if evidence.at > gauge.at {
                *gauge = Gauge { at: evidence.at, views: BTreeMap::new() };
            }
            if evidence.at == gauge.at && evidence.views_active > 0 {
                let key = (evidence.region.clone(), evidence.pathway.clone(), evidence.asn);
                *gauge.views.entry(key).or_default() += evidence.views_active;
            }
        }
        let stale_ms = (parameters.gauge_stale_s * 1000.0) as u64;
        self.gauges.retain(|_, gauge| now.since(gauge.at).0 <= stale_ms);
        for cell in self.cells.values_mut().flat_map(BTreeMap::values_mut) {
            cell.views.clear();
        }
        for ((region, pathway, asn), views) in self.gauges.values().flat_map(|gauge| &gauge.views) {
            if let Some(cell) = self.cells.get_mut(region).and_then(|cells| cells.get_mut(pathway)) {
                *cell.views.entry(*asn).or_default() += views;
            }
        }
    }

    /// The region's cells; empty if it is not declared.
    pub(crate) fn region(&self, region: &RegionId) -> impl Iterator<Item = (&PathwayId, &CellSeen)> {
        self.cells.get(region).into_iter().flatten()
    }

    /// One cell.
    pub(crate) fn cell(&self, region: &RegionId, pathway: &PathwayId) -> Option<&CellSeen> {
        self.cells.get(region)?.get(pathway)
    }

    /// Views of the region now.
    pub(crate) fn views(&self, region: &RegionId) -> u64 {
        self.region(region).map(|(_, cell)| cell.views_active()).sum()
    }

    /// The newest second heard of in the region.
    pub(crate) fn latest_s(&self, region: &RegionId) -> u64 {
        self.latest_s.get(region).copied().unwrap_or(0)
    }
}

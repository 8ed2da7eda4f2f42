//! What a collector, and probes, would send.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, RegionId, TimestampMs};
use spillway_orchestrator_core::{CellEvidence, ProbeEvidence, ProbeObject, SourceKind};

/// Counters of one second, by region, pathway and network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    cells: BTreeMap<(RegionId, PathwayId, Option<u32>), CellEvidence>,
}

impl Tally {
    /// The cell to count in; made if it isn't there.
    pub(crate) fn cell(&mut self, region: &RegionId, pathway: &PathwayId, asn: Option<u32>) -> &mut CellEvidence {
        self.cells.entry((region.clone(), pathway.clone(), asn)).or_insert_with(|| {
            let source = "collector-1";
            let mut cell =
                CellEvidence::empty(TimestampMs::ZERO, source, SourceKind::Collector, pathway.clone(), region.clone());
            cell.asn = asn;
            cell
        })
    }

    /// The frame of the second that ends at `at`.
    pub(crate) fn frame(self, at: TimestampMs) -> Vec<CellEvidence> {
        self.cells.into_values().map(|cell| CellEvidence { at, ..cell }).collect()
    }
}

/// Small object and segment of one pathway from one region.
pub(crate) fn probes(region: &RegionId, pathway: &PathwayId, at: TimestampMs, ok: bool) -> [ProbeEvidence; 2] {
    [ProbeObject::Small, ProbeObject::Segment].map(|object| ProbeEvidence {
        pathway: pathway.clone(),
        region: region.clone(),
        object,
        at,
        ok,
        total_ms: 30,
        detail: if ok { String::new() } else { "status 503".into() },
    })
}

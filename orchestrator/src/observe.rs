//! Observe: frames, probes and load reports since the last round, brought into domain types.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use spillway_bus::Subscription;
use spillway_model::{BitsPerSecond, ContentId, Millis, PathwayId, Ppm, Protocol, RegionId, TimestampMs};
use spillway_orchestrator_core as core;
use spillway_service::deployment::Deployment;
use spillway_wire::frame::{Cell, Frame};
use spillway_wire::load::LoadReport;
use spillway_wire::probe::ProbeResult;

use crate::classes::ClassViews;
use crate::coverage::Coverage;
use crate::origins::{self, Origins};

/// The newest load report of each edge, and those that no round has seen yet.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    reports: Mutex<BTreeMap<PathwayId, (LoadReport, TimestampMs, bool)>>,
    origins: Mutex<Origins>,
}

impl Loads {
    pub(crate) fn take(&self, pathway: PathwayId, report: LoadReport, at: TimestampMs) {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).take(&pathway, &report, at);
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(pathway, (report, at, true));
    }

    /// The newest report of each edge, and when it came.
    pub(crate) fn all(&self) -> BTreeMap<PathwayId, (LoadReport, TimestampMs)> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.iter().map(|(pathway, (report, at, _))| (pathway.clone(), (report.clone(), *at))).collect()
    }

    /// When `pathway` last reported.
    pub(crate) fn last(&self, pathway: &PathwayId) -> Option<TimestampMs> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).get(pathway).map(|(_, at, _)| *at)
    }

    fn origins(&self, now: TimestampMs, deployment: &Deployment) -> Vec<core::OriginEvidence> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner).evidence(now, deployment)
    }

    fn fresh(&self) -> Vec<core::LoadEvidence> {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports
            .iter_mut()
            .filter(|(_, (_, _, fresh))| *fresh)
            .map(|(pathway, (report, at, fresh))| {
                *fresh = false;
                evidence(pathway, report, *at)
            })
            .collect()
    }
}

fn evidence(pathway: &PathwayId, report: &LoadReport, at: TimestampMs) -> core::LoadEvidence {
    core::LoadEvidence {
        pathway: pathway.clone(),
        at,
        ceiling: BitsPerSecond(report.ceiling_bps),
        bits_out_10s: BitsPerSecond(report.bits_out_10s_bps),
        viewers: report.viewers,
        bits_per_viewer: BitsPerSecond(report.bits_per_viewer_bps),
        hit_ratio: report.hit_ratio_ppm.map(Ppm),
        origin: origins::seen(&report.origin.state),
        draining: report.draining,
    }
}

/// What a round listens to.
pub(crate) struct Ears {
    pub(crate) frames: Subscription,
    pub(crate) probes: Subscription,
    frame_sources: u32,
    last_round: Option<TimestampMs>,
    pub(crate) coverage: Coverage,
    pub(crate) classes: ClassViews,
}

impl Ears {
    pub(crate) fn new(frames: Subscription, probes: Subscription, frame_sources: u32, classes: ClassViews) -> Self {
        Self { frames, probes, frame_sources, last_round: None, coverage: Coverage::default(), classes }
    }

    /// Everything since the last call. What is not readable, or names what nobody configured, is left out and counted.
    pub(crate) fn hear(&mut self, now: TimestampMs, deployment: &Deployment, loads: &Loads) -> core::RoundInput {
        let origins = loads.origins(now, deployment);
        let mut input = core::RoundInput { loads: loads.fresh(), origins, ..core::RoundInput::default() };
        while let Some(message) = self.frames.try_next() {
            match serde_json::from_slice::<Frame>(&message) {
                Ok(frame) => {
                    input.frames_received += 1;
                    self.coverage.add(&frame, now);
                    self.classes.add(&frame, now);
                    add_frame(&frame, deployment, &mut input);
                }
                Err(_) => metrics::counter!("spillway_frames_unreadable_total").increment(1),
            }
        }
        while let Some(message) = self.probes.try_next() {
            match serde_json::from_slice::<ProbeResult>(&message) {
                Ok(result) => input.probes.extend(probe(&result)),
                Err(_) => metrics::counter!("spillway_probes_unreadable_total").increment(1),
            }
        }
        input.classes = self.classes.evidence(now);
        let since = self.last_round.map_or(Millis(0), |last| now.since(last));
        self.last_round = Some(now);
        let seconds = u32::try_from((since.0 + 500) / 1000).unwrap_or(0);
        input.frames_expected = self.frame_sources.saturating_mul(seconds.min(60));
        input
    }
}

fn add_frame(frame: &Frame, deployment: &Deployment, input: &mut core::RoundInput) {
    let kind = if frame.kind == "steer" { core::SourceKind::Steer } else { core::SourceKind::Collector };
    for cell in &frame.cells {
        let known = PathwayId::new(&cell.key.pathway)
            .ok()
            .filter(|id| deployment.pathways.contains_key(id))
            .zip(RegionId::new(&cell.key.region).ok().filter(|id| deployment.regions.contains_key(id)));
        match known {
            Some((pathway, region)) => input.cells.push(cell_evidence(frame, kind, cell, pathway, region)),
            // A view that reached no media yet has no pathway; anything else is not ours.
            None if cell.key.pathway.is_empty() => {}
            None => metrics::counter!("spillway_frame_cells_unknown_total").increment(1),
        }
    }
    for title in &frame.content {
        if let (Ok(content), Ok(region)) = (ContentId::new(&title.content), RegionId::new(&title.region)) {
            input.content.push(core::ContentEvidence { content, region, views_active: title.views_active });
        }
    }
}

fn cell_evidence(
    frame: &Frame,
    kind: core::SourceKind,
    cell: &Cell,
    pathway: PathwayId,
    region: RegionId,
) -> core::CellEvidence {
    core::CellEvidence {
        interval: Millis(frame.end_ms.saturating_sub(frame.start_ms)),
        asn: cell.key.asn,
        protocol: cell.key.protocol.parse().unwrap_or(Protocol::Other),
        views_active: cell.views_active,
        views_bad: cell.views_bad,
        views_new: cell.views_new,
        windows: cell.windows,
        bad_windows: cell.bad_windows(),
        weight_milli: cell.weight_milli,
        bad_weight_milli: cell.bad_weight_milli,
        weight_sq_micro: cell.weight_sq_micro,
        requests_ok: cell.requests_ok,
        requests_failed: cell.requests_failed,
        requests_late: cell.requests_late,
        views_failing: cell.views_failing,
        views_late: cell.views_late,
        bits: cell.bits,
        heartbeats_due: cell.heartbeats_due,
        heartbeats_received: cell.heartbeats_received,
        sessions_assigned: cell.sessions_assigned,
        sessions_polling: cell.sessions_polling,
        ghost_starts: cell.ghost_starts,
        sessions_untrusted: cell.sessions_untrusted,
        sessions_settled: cell.sessions_settled,
        sessions_fled: cell.sessions_fled,
        ..core::CellEvidence::empty(TimestampMs(frame.end_ms), &frame.source, kind, pathway, region)
    }
}

fn probe(result: &ProbeResult) -> Option<core::ProbeEvidence> {
    let object = match result.object.as_str() {
        "small" => core::ProbeObject::Small,
        "segment" => core::ProbeObject::Segment,
        "miss" => core::ProbeObject::Miss,
        _ => return None,
    };
    Some(core::ProbeEvidence {
        pathway: PathwayId::new(&result.pathway).ok()?,
        region: RegionId::new(&result.region).ok()?,
        object,
        at: TimestampMs(result.at_ms),
        ok: result.ok,
        total_ms: result.total_ms,
        detail: result.detail.clone(),
    })
}

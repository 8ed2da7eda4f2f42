//! What a round hears, and what it means for each pathway: stages one and two.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{PathwayId, RegionId, TimestampMs};

use crate::demand::Measured;
use crate::engine::Engine;
use crate::estimate::{Level, Others, learn_networks, shrunk};
use crate::memory::CellMemory;
use crate::observe::{CellSeen, Observed};
use crate::{HOURS_OF_WEEK, OriginEvidence, Parameters, RoundInput};

impl Engine {
    pub(crate) fn hear(&mut self, now: TimestampMs, dt_s: f64, input: &RoundInput, p: &Parameters) {
        self.observed.take(now, &input.cells, p);
        if input.frames_expected > 0 {
            let share = (f64::from(input.frames_received) / f64::from(input.frames_expected)).min(1.0);
            self.telemetry += (1.0 - (-dt_s / p.telemetry_tau_s).exp()) * (share - self.telemetry);
        }
        for load in &input.loads {
            if let Some(pathway) = self.pathways.get_mut(&load.pathway) {
                pathway.take(load);
            }
        }
        if !input.learned.hit_ratios.is_empty() {
            self.hit_ratios.clone_from(&input.learned.hit_ratios);
        }
        for origin in &input.origins {
            let known = self.origins.entry(origin.origin_group.clone()).or_insert_with(|| origin.clone());
            if origin.at > known.at {
                known.clone_from(origin);
            }
        }
        for probe in &input.probes {
            let cell = self.regions.get_mut(&probe.region).and_then(|region| region.cells.get_mut(&probe.pathway));
            if let Some(cell) = cell {
                cell.probes.take(probe);
            }
        }
        for (id, region) in &mut self.regions {
            let latest = self.observed.latest_s(id) + 1;
            let from = latest.saturating_sub(p.silence_window_s);
            let heard: Vec<(u64, u64)> = self
                .observed
                .region(id)
                .map(|(_, cell)| cell.heartbeats_since(from))
                .filter(|(due, _)| *due >= p.silence_due_min / 2)
                .collect();
            let mute = !heard.is_empty()
                && heard.iter().all(|(due, received)| (*received as f64) < p.telemetry_min * *due as f64);
            // An audience doesn't leave from one second to the next.
            let vanished = region.demand.views() >= 10.0 && self.observed.views(id) == 0;
            region.telemetry_lost = self.telemetry < p.telemetry_min || mute || vanished;
        }
    }

    pub(crate) fn estimate(&mut self, now: TimestampMs, dt_s: f64, input: &RoundInput, p: &Parameters) {
        let compares = self.setup.switches.leave_one_out;
        let settling: BTreeSet<&PathwayId> =
            self.pathways.iter().filter(|(_, pathway)| pathway.carried.settles(now, p)).map(|(id, _)| id).collect();
        for (region, memory) in &mut self.regions {
            let fresh_windows = self.observed.region(region).map(|(_, seen)| seen.fresh.windows).sum::<f64>();
            for (id, cell) in &mut memory.cells {
                if let Some(seen) = self.observed.cell(region, id) {
                    cell.goodput.take(&seen.fresh, dt_s);
                    if settling.contains(id) {
                        continue;
                    }
                    let usual = cell.cusum.sum < p.cusum_usual && cell.machine.is_reference();
                    cell.health.take(&seen.fresh, usual, dt_s, p);
                }
            }
            let usual = memory.cells.values().map(|cell| cell.health.usual_sums());
            let (windows, bad) = usual.fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
            let pooled = shrunk(bad, windows, p.baseline_default, p.usual_prior_windows);
            for (id, cell) in &mut memory.cells {
                let rate = usual_rate(input, id, region, now).unwrap_or(pooled);
                cell.baseline = rate.clamp(p.baseline_min, p.baseline_max);
            }
            let references: BTreeMap<PathwayId, Others> = memory
                .cells
                .keys()
                .map(|id| (id.clone(), others(&self.observed, region, id, &memory.cells, &self.apart)))
                .collect();
            for (id, cell) in &mut memory.cells {
                if let Some(seen) = self.observed.cell(region, id)
                    && !memory.telemetry_lost
                    && !settling.contains(id)
                {
                    let deff = cell.health.design_effect(p);
                    let others = if compares { references[id] } else { Others::default() };
                    cell.cusum.take(&seen.fresh, others, cell.baseline, deff, dt_s, p);
                    let since = cell.machine.step_since();
                    cell.step.take(since, seen.fresh.windows, fresh_windows);
                }
            }
            let level = |id: &PathwayId, cell: &CellMemory| Level {
                baseline: cell.baseline,
                reference: shrunk(
                    references[id].recent_bad,
                    references[id].recent_windows,
                    cell.baseline,
                    p.reference_prior_windows,
                ),
                fair: cell.machine.is_reference(),
            };
            let (levels, mut seen): (Vec<Level>, Vec<&mut CellSeen>) = self
                .observed
                .region_mut(region)
                .filter(|(id, _)| !settling.contains(id))
                .filter_map(|(id, seen)| Some((level(id, memory.cells.get(id)?), seen)))
                .unzip();
            if !memory.telemetry_lost {
                learn_networks(&mut seen, &levels, dt_s, p);
            }
        }
    }

    /// Origins that spoke lately.
    pub(crate) fn fresh_origins(&self, now: TimestampMs, p: &Parameters) -> impl Iterator<Item = &OriginEvidence> {
        let fresh_s = p.origin_wait_s;
        self.origins.values().filter(move |origin| now.since(origin.at).as_secs_f64() <= fresh_s)
    }

    pub(crate) fn measure_demand(&mut self, dt_s: f64, input: &RoundInput) {
        let p = &self.setup.parameters;
        for (region, memory) in &mut self.regions {
            if let Some(bits) = input.learned.bits_per_view.get(region) {
                memory.demand.expect(bits.0 as f64);
            }
            let mut measured = Measured { views: self.observed.views(region) as f64, ..Measured::default() };
            for (id, seen) in self.observed.region(region) {
                // A pathway with a fault delivers less than its viewers want.
                let fair = memory
                    .cells
                    .get(id)
                    .is_some_and(|cell| cell.machine.is_reference() && cell.cusum.sum < p.cusum_degraded / 2.0);
                if fair && seen.fresh.bits > 0.0 {
                    measured.bits += seen.fresh.bits;
                    measured.view_s += seen.fresh.view_s;
                }
            }
            if !memory.telemetry_lost {
                memory.demand.take(measured, memory.lost_since.is_none(), dt_s, p);
            }
        }
    }
}

/// The rate that the lake knows: of this hour of the week, else in general.
fn usual_rate(input: &RoundInput, id: &PathwayId, region: &RegionId, now: TimestampMs) -> Option<f64> {
    let hour = u8::try_from(hour_of_week(now)).unwrap_or(0);
    let of_hour = input.learned.baselines.get(&(id.clone(), region.clone(), hour));
    let rate = of_hour.or_else(|| input.baselines.get(&(id.clone(), region.clone())));
    rate.copied().filter(|rate| rate.is_finite())
}

/// 0 on Monday at 0:00 UTC; the epoch began on a Thursday.
const fn hour_of_week(now: TimestampMs) -> u64 {
    (now.0 / 3_600_000 + 3 * 24) % HOURS_OF_WEEK
}

fn others(
    observed: &Observed,
    region: &RegionId,
    id: &PathwayId,
    cells: &BTreeMap<PathwayId, CellMemory>,
    apart: &BTreeMap<PathwayId, BTreeSet<PathwayId>>,
) -> Others {
    let latest = observed.latest_s(region) + 1;
    let mut out = Others::default();
    for (other, seen) in observed.region(region) {
        let fair = apart.get(id).is_some_and(|apart| apart.contains(other))
            && cells.get(other).is_some_and(|cell| cell.machine.is_reference());
        if fair {
            let (windows, bad) = seen.windows_between(latest.saturating_sub(20), latest);
            out.windows += seen.fresh.windows;
            out.bad += seen.fresh.bad;
            out.recent_windows += windows;
            out.recent_bad += bad;
        }
    }
    out
}

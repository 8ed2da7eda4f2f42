//! Frames as evidence: counts drawn from the fluid numbers, with the same luck for every policy.

use super::delivery::Delivery;
use super::players::Crowd;
use crate::demand::Demand;
use crate::evidence::{Assigned, Counts, Evidence, Loaded, Probed};
use crate::faults::Broken;
use crate::format::Status;
use crate::measure::Flow;
use crate::random::{binomial, mix, unit};
use crate::world::World;

/// Seconds between probes, as in production.
pub(crate) const PROBE_S: u64 = 5;
/// Windows tell of the seconds before they closed.
const LAG_S: f64 = 5.0;
/// A view that says nothing counts as there for so long.
const UNHEARD_S: f64 = 15.0;

pub(crate) struct Ear {
    seed: u64,
    /// Bad share as windows tell it, by cell.
    told: Vec<f64>,
    /// Views that can't report and are no longer counted, as a part of those on the cell.
    forgotten: Vec<f64>,
    luck: Vec<u64>,
}

impl Ear {
    pub(crate) fn new(world: &World, seed: u64) -> Self {
        let luck = (0..world.cells()).map(|i| mix(&[seed, i as u64, 11])).collect();
        Self { seed, told: world.usual.clone(), forgotten: vec![0.0; world.cells()], luck }
    }

    /// Nothing heard.
    pub(crate) fn silence(&self, world: &World, second: u64, dt: u64) -> Evidence {
        let mut out = Evidence::new(world, second, dt);
        out.frames.iter_mut().for_each(|came| *came = second == 0);
        out
    }

    #[expect(clippy::too_many_arguments, reason = "all that a step leaves behind is heard")]
    pub(crate) fn hear(
        &mut self,
        world: &World,
        broken: &Broken,
        crowd: &Crowd,
        flow: &Flow,
        delivery: &Delivery,
        (second, dt, frames): (u64, u64, Vec<bool>),
        demand: &Demand<'_>,
    ) -> Evidence {
        let mut out = Evidence::new(world, second + dt, dt);
        out.frames = frames;
        let n = world.paths.len();
        for i in 0..world.cells() {
            let region = world.cohorts[i / n].region;
            self.told[i] += (dt as f64 / LAG_S).min(1.0) * (flow.bad[i] - self.told[i]);
            if world.serves[i] && out.frames[region] {
                out.cells[i] = self.count(world, broken, crowd, flow, delivery, i, (second, dt));
            }
            let assigned = &mut out.assigned[region * n + i % n];
            assigned.sessions += crowd.new[i].round() as u64;
            assigned.polling += crowd.sent[i].round() as u64;
        }
        for (r, region) in world.regions.iter().enumerate() {
            out.one_title[r] = demand.one_title(r, second as f64);
            self.lies(world, broken, crowd, &mut out, r, dt);
            self.bots(broken, region, &mut out.assigned[r * n..(r + 1) * n], r, dt);
        }
        out.origin_bits = delivery.origin_bits;
        out.origin_up = delivery.origin_fails < 0.2;
        if (second + dt).is_multiple_of(PROBE_S) || dt > PROBE_S {
            probe(world, broken, delivery, &mut out, (self.seed, second));
        }
        report(world, broken, delivery, &crowd.here, &mut out);
        out
    }

    #[expect(clippy::too_many_arguments, reason = "a cell is counted out of everything")]
    fn count(
        &mut self,
        world: &World,
        broken: &Broken,
        crowd: &Crowd,
        flow: &Flow,
        delivery: &Delivery,
        i: usize,
        (second, dt): (u64, u64),
    ) -> Counts {
        let players = &world.players;
        let luck = |purpose: u64| unit(&[self.luck[i], second, purpose]);
        let views = crowd.here[i];
        let region = world.cohorts[i / world.paths.len()].region;
        let mute = broken.silent[i] * crowd.failing[i] / views.max(1e-9);
        self.forgotten[i] += (1.0 - (-(dt as f64) / UNHEARD_S).exp()) * (mute - self.forgotten[i]);
        let heard = views * (1.0 - self.forgotten[i]);
        let due = binomial(heard, (dt as f64 / players.heartbeat_s as f64).min(1.0), luck(1));
        let per_view = (dt as f64 / players.heartbeat_s as f64).max(1.0);
        let silent_part = ((mute - self.forgotten[i]) / (1.0 - self.forgotten[i]).max(1e-9)).clamp(0.0, 1.0);
        let received = binomial(due as f64, (1.0 - players.beacons_lost) * (1.0 - silent_part), luck(2));
        let windows = (received as f64 * per_view) as u64;
        let bad = self.told[i] * (1.0 - 2.0 * players.beacons_wrong) + players.beacons_wrong;
        let requests = views * dt as f64 / players.segment_s as f64;
        let asks = 1.0 - (-(dt as f64) / players.segment_s as f64).exp();
        let failing = crowd.failing[i] * (1.0 - broken.silent[i]);
        let hangs = broken.status[i] == Status::Hang;
        // A hanging request is late after 4 s: those that are low already.
        let hung = if hangs { crowd.dry[i].max(failing * 0.5) * (1.0 - broken.silent[i]) } else { 0.0 };
        // What a full pathway can't carry comes late.
        let share = (flow.capacity[i % world.paths.len()] / flow.load[i % world.paths.len()].max(1.0)).min(1.0);
        let late = hung + binomial((views - crowd.failing[i]).max(0.0) * asks, 1.0 - share, luck(6)) as f64;
        let miss = delivery.miss[region * world.paths.len() + i % world.paths.len()];
        let usual = players.usual_failures + miss * delivery.origin_fails;
        let hard = if hangs { 0.0 } else { failing };
        let scattered =
            binomial((views - crowd.failing[i]).max(0.0), 1.0 - (1.0 - usual).powf(dt as f64 / 4.0), luck(4));
        let struck = binomial(hard, asks, luck(5));
        let failed = struck + scattered;
        let good = (requests - failed as f64 - crowd.failing[i]).max(0.0);
        Counts {
            views: heard.round() as u64,
            fixed: crowd.fixed_here[i].round() as u64,
            views_bad: views_bad(self.told[i], crowd.dry[i] / views.max(1e-9), heard, 60 / players.heartbeat_s.max(1)),
            new: crowd.new[i].round() as u64,
            windows,
            bad: binomial(windows as f64, bad, luck(3)).min(windows),
            ok: good as u64,
            failed,
            failing: failed,
            late: late.round() as u64,
            bits: ((views - crowd.failing[i]).max(0.0) * delivery.bitrate(region) * share * dt as f64) as u64,
            due,
            received,
        }
    }

    /// Hostile clients say of the accused pathway that they are on it and that nothing works, wherever they are.
    fn lies(&self, world: &World, broken: &Broken, crowd: &Crowd, out: &mut Evidence, r: usize, dt: u64) {
        let Some((share, accused)) = broken.forged[r].filter(|_| out.frames[r]) else { return };
        for c in world.regions[r].cohorts.clone() {
            let liars = crowd.views[c] * share;
            for p in 0..world.paths.len() {
                let cell = &mut out.cells[world.cell(c, p)];
                for count in [
                    &mut cell.views,
                    &mut cell.views_bad,
                    &mut cell.windows,
                    &mut cell.bad,
                    &mut cell.due,
                    &mut cell.received,
                ] {
                    *count = (*count as f64 * (1.0 - share)).round() as u64;
                }
            }
            let cell = &mut out.cells[world.cell(c, accused)];
            let windows = (liars * dt as f64 / world.players.heartbeat_s as f64).round() as u64;
            cell.views += liars.round() as u64;
            cell.views_bad += liars.round() as u64;
            cell.windows += windows;
            cell.bad += windows;
            cell.due += windows;
            cell.received += windows;
            cell.failing += liars.round() as u64;
            cell.failed += liars.round() as u64;
        }
    }

    /// Bots ask for playlists and are never heard of again.
    fn bots(&self, broken: &Broken, region: &crate::world::Region, assigned: &mut [Assigned], r: usize, dt: u64) {
        let bots = broken.bots[r] * dt as f64;
        if bots > 0.0 {
            for &p in &region.pathways {
                let count = (bots * region.static_weights[p]).round() as u64;
                assigned[p].sessions += count;
                assigned[p].ghosts += count;
            }
        }
    }
}

/// Views with a bad window among their last `windows`: those that stand still have nothing else, the others share the rest
/// of the bad `rate` evenly.
fn views_bad(rate: f64, still: f64, views: f64, windows: u64) -> u64 {
    let still = still.clamp(0.0, 1.0);
    let rest = ((rate - still) / (1.0 - still).max(1e-9)).clamp(0.0, 1.0);
    let any = 1.0 - (1.0 - rest).powi(i32::try_from(windows).unwrap_or(6));
    (views * (still + (1.0 - still) * any)).round() as u64
}

/// Probes of every pathway from every region that it serves.
pub(crate) fn probe(
    world: &World,
    broken: &Broken,
    delivery: &Delivery,
    out: &mut Evidence,
    (seed, second): (u64, u64),
) {
    for (r, region) in world.regions.iter().enumerate() {
        for &p in &region.pathways {
            // Our probes run in data centres: a fault of one viewers' network isn't seen from there.
            let cells = region.cohorts.clone().map(|c| broken.hard[world.cell(c, p)]);
            let everywhere = cells.fold(1.0, f64::min);
            let luck = |purpose: u64| unit(&[seed, second, (r * 1000 + p) as u64, purpose]);
            let cached_ok = luck(31) >= everywhere;
            let miss_ok = cached_ok && luck(32) >= delivery.origin_fails;
            out.probes.push(Probed { region: r, path: p, cached_ok, miss_ok });
        }
    }
}

/// What own nodes report; `here`: views by cell.
pub(crate) fn report(world: &World, broken: &Broken, delivery: &Delivery, here: &[f64], out: &mut Evidence) {
    let n = world.paths.len();
    for p in (0..n).filter(|p| world.paths[*p].own && !broken.mute[*p]) {
        out.loads.push(Loaded {
            path: p,
            bits_out: delivery.bits_out[p],
            viewers: (0..world.cohorts.len()).map(|c| here[c * n + p]).sum(),
            hit_ratio: delivery.hit_ratio(world, p),
            origin_up: delivery.origin_fails < 0.2,
        });
    }
}

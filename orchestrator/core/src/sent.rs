//! Whom steering sent where, against who says where they are.
//!
//! A few percent of a region's clients can be more than the viewers of a small pathway: if they all say that they are on
//! it and that nothing works, they would bring it down. But steering nodes know how many sessions they sent there. Views
//! beyond that, if they are ill, are not believed.

use std::collections::VecDeque;

use spillway_model::{PathwayState, RegionId};

use crate::engine::Engine;
use crate::observe::{CellSeen, SECONDS_KEPT};
use crate::{Parameters, observe::Observed};

/// What steering nodes and collectors say of a pathway in a region.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    /// Share of the polling sessions that were sent here, by second; the largest of a minute counts, since views take
    /// some time to follow.
    recent: VecDeque<(u64, f64)>,
    /// Share of the region's views that is here beside those: players that nobody steers.
    unsteered: Option<f64>,
}

/// A region's sums.
#[derive(Clone, Copy, Debug)]
struct Region {
    at_s: u64,
    views: f64,
    polling: f64,
}

/// What is made of a pathway's reports.
#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// Views that steering didn't send here, that usually aren't here, and that are ill.
    unsent: f64,
    /// Its own views fail: they may flee by themselves, to where nobody sent them.
    is_left: bool,
}

impl Sent {
    fn doubt(&mut self, seen: &CellSeen, region: Region, dt_s: f64, p: &Parameters) -> Doubt {
        let share = seen.polling as f64 / region.polling;
        self.recent.push_back((region.at_s, share));
        self.recent.retain(|(at_s, _)| at_s + SECONDS_KEPT > region.at_s);
        let share = self.recent.iter().map(|(_, share)| *share).fold(0.0, f64::max);
        let views = seen.views as f64;
        let failing = seen.failing_since((region.at_s + 1).saturating_sub(p.fast_window_s)).failing;
        let ill = (seen.views_bad as f64).max(failing);
        let beside = (views / region.views - share).max(0.0);
        // Who was never steered is well most of the time; who lies is ill.
        if ill < 0.5 * beside * region.views || views < p.sent_views_min {
            let keep = (-dt_s / p.unsteered_tau_s).exp();
            let known = self.unsteered.unwrap_or(beside);
            self.unsteered = Some(beside + keep * (known - beside));
        }
        let expected = (share + self.unsteered.unwrap_or(0.0)) * region.views;
        let excess = (views - expected).max(0.0);
        // Sessions that were sent here and haven't polled yet.
        let (assigned, _) = seen.assigned_since((region.at_s + 1).saturating_sub(SECONDS_KEPT));
        let most = expected * (1.0 + p.sent_margin) + assigned as f64 + 3.0 * expected.sqrt();
        let strange = views > most.max(p.sent_views_min) && ill > 0.5 * excess;
        Doubt {
            unsent: if strange { excess.min(ill) } else { 0.0 },
            is_left: failing - excess > p.fast_share * (views - excess).max(1.0),
        }
    }
}

impl Engine {
    /// Decides which reports to believe, before anything is made of them.
    pub(crate) fn doubt(&mut self, dt_s: f64, p: &Parameters) {
        for (id, memory) in &mut self.regions {
            let region = region(&self.observed, id);
            // Without polls of at least a part of the audience nothing is known of where it was sent.
            let known = region.polling >= p.sent_views_min && region.polling >= p.sent_coverage_min * region.views;
            // Who flees from an ill pathway by itself is where nobody sent it, and who doesn't follow stays there.
            // A slow network is left by nobody.
            let calm = memory.cells.values().all(|cell| cell.machine.state == PathwayState::Healthy)
                && memory.networks.values().all(|machine| machine.state != PathwayState::Down);
            let mut doubts: Vec<Doubt> = Vec::new();
            if known && calm {
                let cells = self.observed.region(id).zip(memory.cells.values_mut());
                doubts.extend(cells.map(|((_, seen), cell)| cell.sent.doubt(seen, region, dt_s, p)));
            } else {
                memory.cells.values_mut().for_each(|cell| cell.sent.recent.clear());
            }
            let left = doubts.iter().filter(|doubt| doubt.is_left).count();
            for (i, (_, seen)) in self.observed.region_mut(id).enumerate() {
                let doubt = doubts.get(i).copied().unwrap_or_default();
                let fled = left > usize::from(doubt.is_left);
                seen.unsent = if fled { 0.0 } else { doubt.unsent };
                seen.weigh();
            }
        }
    }
}

fn region(observed: &Observed, id: &RegionId) -> Region {
    let (mut views, mut polling) = (0, 0);
    for (_, seen) in observed.region(id) {
        views += seen.views;
        polling += seen.polling;
    }
    Region { at_s: observed.latest_s(id), views: (views as f64).max(1.0), polling: (polling as f64).max(1.0) }
}

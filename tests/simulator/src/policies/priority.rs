//! Priorities as in Envoy: load goes down the priorities by `min(100 %, 1.4 × healthy part)`; a host whose success
//! rate is poor is ejected for a time that grows with each ejection. Own nodes first, then CDNs from the cheapest on.

use spillway_routing::Manifest;

use super::{Decide, Round};
use crate::bill::average;
use crate::routing::manifest;
use crate::world::World;

/// Over-provisioning factor.
const OVERPROVISION: f64 = 1.4;
/// Interval, base ejection time, longest ejection, s; success rate below which a host is ejected; least requests.
const EVERY_S: u64 = 10;
const EJECT_S: u64 = 30;
const EJECT_MAX_S: u64 = 300;
const SUCCESS: f64 = 0.85;
const REQUESTS_MIN: u64 = 100;

#[derive(Clone, Copy, Default)]
struct Host {
    good: u64,
    all: u64,
    ejected_until: u64,
    times: u64,
}

pub(crate) struct Priority {
    /// By region and pathway.
    hosts: Vec<Vec<Host>>,
    levels: Vec<Vec<Vec<usize>>>,
}

impl Priority {
    pub(crate) fn new(world: &World) -> Self {
        let levels = |region: &crate::world::Region| {
            let (own, mut cdns): (Vec<usize>, Vec<usize>) = region.pathways.iter().partition(|p| world.paths[**p].own);
            let price = |p: &usize| average(&world.paths[*p].sheet);
            cdns.sort_by(|a, b| price(a).total_cmp(&price(b)));
            let mut levels: Vec<Vec<usize>> = Vec::new();
            if !own.is_empty() {
                levels.push(own);
            }
            levels.extend(cdns.into_iter().map(|p| vec![p]));
            levels
        };
        Self {
            hosts: vec![vec![Host::default(); world.paths.len()]; world.regions.len()],
            levels: world.regions.iter().map(levels).collect(),
        }
    }

    fn hear(&mut self, round: &Round<'_>) {
        let world = round.world;
        for (c, cohort) in world.cohorts.iter().enumerate().filter(|(_, c)| round.evidence.frames[c.region]) {
            for (p, counts) in round.evidence.row(world, c).iter().enumerate() {
                let host = &mut self.hosts[cohort.region][p];
                host.good += counts.ok;
                host.all += counts.ok + counts.failed + counts.late;
            }
        }
    }

    fn judge(&mut self, second: u64) {
        for host in self.hosts.iter_mut().flatten() {
            let poor = host.all >= REQUESTS_MIN && (host.good as f64) < SUCCESS * host.all as f64;
            if poor && second >= host.ejected_until {
                host.times += 1;
                host.ejected_until = second + (EJECT_S * host.times).min(EJECT_MAX_S);
            } else if second >= host.ejected_until + EJECT_MAX_S {
                host.times = host.times.saturating_sub(1);
            }
            (host.good, host.all) = (0, 0);
        }
    }

    fn shares(&self, world: &World, region: usize, second: u64) -> Vec<f64> {
        let healthy = |p: &usize| second >= self.hosts[region][*p].ejected_until;
        let mut out = vec![0.0; world.paths.len()];
        let mut left = 1.0_f64;
        for level in &self.levels[region] {
            let alive: Vec<usize> = level.iter().copied().filter(healthy).collect();
            let health = (OVERPROVISION * alive.len() as f64 / level.len() as f64).min(1.0);
            let take = health.min(left);
            let all: f64 = alive.iter().map(|p| world.paths[*p].claimed).sum();
            alive.iter().for_each(|p| out[*p] += take * world.paths[*p].claimed / all);
            left -= take;
        }
        if left > 1e-9 {
            let panic: Vec<f64> = world.regions[region].static_weights.clone();
            out.iter_mut().zip(panic).for_each(|(share, weight)| *share += left * weight);
        }
        out
    }
}

impl Decide for Priority {
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)> {
        self.hear(round);
        let second = round.evidence.second;
        if !second.is_multiple_of(EVERY_S) {
            return Vec::new();
        }
        self.judge(second);
        let world = round.world;
        let of = |r: usize| {
            let shares = self.shares(world, r, second);
            (r, manifest(world, r, &[shares], &world.regions[r].static_weights, 10, None))
        };
        (0..world.regions.len()).map(of).collect()
    }
}

//! Policies that never change their mind.

use spillway_routing::Manifest;

use super::{Decide, Round};
use crate::routing::manifest;
use crate::world::World;

/// How full own nodes are planned.
const OWN_FULL: f64 = 0.8;

pub(crate) struct Fixed {
    shares: Vec<Vec<f64>>,
    told: bool,
}

impl Fixed {
    /// Static weights.
    pub(crate) fn weights(world: &World) -> Self {
        Self { shares: world.regions.iter().map(|region| region.static_weights.clone()).collect(), told: false }
    }

    /// By location: own nodes as far as they are meant to carry the region's usual views, and the CDN with the largest
    /// static weight for all others.
    pub(crate) fn nearest(world: &World) -> Self {
        let nearest = |region: &crate::world::Region| {
            let own: Vec<usize> = region.pathways.iter().copied().filter(|p| world.paths[*p].own).collect();
            let weight = |p: &usize| region.static_weights[*p];
            let cdns = region.pathways.iter().copied().filter(|p| !world.paths[*p].own);
            let largest = cdns.max_by(|a, b| weight(a).total_cmp(&weight(b)));
            let usual = region.views * world.bits_per_view;
            let mut shares = vec![0.0; world.paths.len()];
            own.iter().for_each(|p| shares[*p] = world.paths[*p].claimed * OWN_FULL / usual);
            let all: f64 = shares.iter().sum();
            match largest {
                Some(cdn) if all < 1.0 => shares[cdn] = 1.0 - all,
                _ => shares.iter_mut().for_each(|share| *share /= all),
            }
            shares
        };
        Self { shares: world.regions.iter().map(nearest).collect(), told: false }
    }
}

impl Decide for Fixed {
    fn round(&mut self, round: &Round<'_>) -> Vec<(usize, Manifest)> {
        if std::mem::replace(&mut self.told, true) {
            return Vec::new();
        }
        let of = |(r, shares): (usize, &Vec<f64>)| {
            let spare = &round.world.regions[r].static_weights;
            (r, manifest(round.world, r, std::slice::from_ref(shares), spare, 300, None))
        };
        self.shares.iter().enumerate().map(of).collect()
    }
}

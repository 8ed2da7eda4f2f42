//! What each pathway can carry: declared, reported, published by the CDN, ordered, shared, learned.

use std::collections::BTreeMap;

use spillway_model::{BitsPerSecond, PathwayId, RegionId};

use crate::decide::OrdersByRegion;
use crate::engine::{Engine, Tick};
use crate::{CapacityLimit, RoundInput};

/// More than anything carries; without a capacity model every pathway has this.
const ENDLESS: u64 = 1 << 60;

/// What a pathway can carry now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The lowest of all ceilings but the learned one, bit/s.
    pub capacity: BitsPerSecond,
    /// The same as learned.
    pub learned: f64,
    /// What its CDN asks to stay below, if it says so.
    pub soft: Option<f64>,
}

pub(crate) type Rooms = BTreeMap<PathwayId, Room>;

impl Engine {
    pub(crate) fn rooms(&self, tick: Tick, orders: &OrdersByRegion, input: &RoundInput) -> Rooms {
        let fresh = |limit: &&CapacityLimit| tick.now < limit.until && limit.region.is_none();
        let mut rooms: Rooms = self
            .setup
            .pathways
            .iter()
            .map(|(id, declared)| {
                let mut capacity = self.pathways[id].capacity(declared);
                capacity = orders.values().filter_map(|orders| orders.get(id)?.cap).fold(capacity, std::cmp::min);
                let mut soft: Option<f64> = None;
                for limit in input.limits.iter().filter(fresh).filter(|limit| limit.pathway == *id) {
                    capacity = capacity.min(limit.hard);
                    soft = limit.soft.map(|soft| soft.0 as f64).or(soft);
                }
                if !self.setup.switches.capacity {
                    capacity = BitsPerSecond(ENDLESS);
                }
                (id.clone(), Room { capacity, learned: 0.0, soft })
            })
            .collect();
        if self.setup.switches.capacity {
            self.share_ceilings(&mut rooms);
        }
        for (id, room) in &mut rooms {
            let learned = if self.setup.switches.capacity { self.pathways[id].carried.learned() } else { 1.0 };
            room.learned = room.capacity.0 as f64 * learned;
        }
        rooms
    }

    /// Members of a PoP or group whose ceilings add up to more than its own get equal parts of theirs.
    fn share_ceilings(&self, rooms: &mut Rooms) {
        let shared = &self.setup.shared;
        let pops = shared.pops.iter().map(|(name, most)| (self.members(|p| p.pop.as_ref() == Some(name)), most));
        let groups = shared.groups.iter().map(|(id, most)| (self.members(|p| p.group.as_ref() == Some(id)), most));
        for (members, most) in pops.chain(groups) {
            let all: u64 = members.iter().map(|id| rooms[*id].capacity.0).sum();
            if all <= most.0 {
                continue;
            }
            for id in members {
                if let Some(room) = rooms.get_mut(id) {
                    room.capacity = BitsPerSecond((room.capacity.0 as f64 * most.0 as f64 / all as f64) as u64);
                }
            }
        }
    }

    fn members(&self, belongs: impl Fn(&crate::PathwaySetup) -> bool) -> Vec<&PathwayId> {
        self.setup.pathways.iter().filter(|(_, declared)| belongs(declared)).map(|(id, _)| id).collect()
    }
}

/// The lowest limit that a CDN publishes of itself for one region.
pub(crate) fn limit_in(region: &RegionId, id: &PathwayId, tick: Tick, input: &RoundInput) -> f64 {
    let of = |limit: &&CapacityLimit| {
        limit.pathway == *id && limit.region.as_ref() == Some(region) && tick.now < limit.until
    };
    input.limits.iter().filter(of).map(|limit| limit.hard.0 as f64).fold(f64::INFINITY, f64::min)
}

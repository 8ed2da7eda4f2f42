//! What delivery costs: flat, tiered, with a commit, by the 95th percentile of 5-minute means.

use std::collections::BTreeMap;

use spillway_model::PathwayId;

use crate::format::Pathway;
use crate::outcome::Billed;
use crate::world::World;

pub(crate) const SLOT_S: u64 = 300;
/// One slot of so many may lie above the billed level.
const FREE_ONE_OF: usize = 20;
/// GB of a month at 1 Mbit/s.
const GB_PER_MBPS: f64 = 324.0;
/// Part of the time in which a level is used on a usual day.
const USUAL_USE: f64 = 0.5;

/// Of so many slots, those that may lie above the billed level.
pub(crate) const fn free_slots(slots: usize) -> usize {
    slots / FREE_ONE_OF
}

/// USD of a period for a volume and a billed level.
pub(crate) fn usd(sheet: &Pathway, gb: f64, level_mbps: f64) -> f64 {
    tiered(sheet, gb.max(sheet.commit_tb * 1e3)) + level_mbps.max(sheet.p95_commit_mbps) * sheet.p95_usd_per_mbps
}

/// Whether the next GB's price depends on what was used.
pub(crate) fn is_contract(sheet: &Pathway) -> bool {
    !sheet.tiers.is_empty() || sheet.commit_tb > 0.0 || sheet.p95_usd_per_mbps > 0.0
}

/// USD per GB as somebody would reckon who knows no more of a sheet: with all that is committed used, and a level half
/// of the time.
pub(crate) fn average(sheet: &Pathway) -> f64 {
    let volume = if sheet.commit_tb > 0.0 {
        tiered(sheet, sheet.commit_tb * 1e3) / (sheet.commit_tb * 1e3)
    } else {
        sheet.price_usd_per_gb
    };
    volume + sheet.p95_usd_per_mbps / GB_PER_MBPS / USUAL_USE
}

pub(crate) struct Bill {
    ids: Vec<PathwayId>,
    sheets: Vec<Pathway>,
    /// Views of the world per simulated view.
    scale: f64,
    bits: Vec<f64>,
    slot: Vec<f64>,
    /// Means of slots, bit/s, rising.
    slots: Vec<Vec<f64>>,
}

impl Bill {
    pub(crate) fn new(world: &World) -> Self {
        let n = world.paths.len();
        Self {
            ids: world.paths.iter().map(|path| path.id.clone()).collect(),
            sheets: world.paths.iter().map(|path| path.sheet.clone()).collect(),
            scale: world.scale,
            bits: vec![0.0; n],
            slot: vec![0.0; n],
            slots: vec![Vec::new(); n],
        }
    }

    /// Adds a step of bit/s; returns what it costs per hour at list prices.
    pub(crate) fn add(&mut self, rates: &[f64], second: u64, dt: u64) -> f64 {
        for (p, rate) in rates.iter().enumerate() {
            self.bits[p] += rate * dt as f64;
            self.slot[p] += rate * dt as f64;
        }
        if (second + dt) % SLOT_S < dt {
            for (slot, slots) in self.slot.iter_mut().zip(&mut self.slots) {
                let mean = std::mem::take(slot) / SLOT_S.max(dt) as f64;
                slots.insert(slots.partition_point(|other| *other < mean), mean);
            }
        }
        rates.iter().zip(&self.sheets).map(|(rate, sheet)| rate / 8e9 * sheet.price_usd_per_gb * 3600.0).sum()
    }

    fn gb(&self, p: usize) -> f64 {
        self.bits[p] / 8e9 / self.scale
    }

    /// Mbit/s that all but `free` slots stay below.
    fn level_mbps(&self, p: usize, free: usize) -> f64 {
        self.slots[p].iter().rev().nth(free).copied().unwrap_or(0.0) / 1e6 / self.scale
    }

    /// What the lake would tell of contracts: `profile`, the part of the period's volume that is usually used by now;
    /// `seconds`, the period.
    pub(crate) fn so_far(&self, profile: f64, seconds: u64) -> BTreeMap<PathwayId, spillway_orchestrator_core::Bill> {
        let all = free_slots((seconds / SLOT_S) as usize);
        let contracts = (0..self.sheets.len()).filter(|p| is_contract(&self.sheets[*p]));
        let bill = |p: usize| {
            let level_mbps = self.level_mbps(p, all).max(self.sheets[p].p95_commit_mbps);
            let level = level_mbps * 1e6 * self.scale;
            let above = self.slots[p].len() - self.slots[p].partition_point(|slot| *slot <= level);
            let free_slots = u32::try_from(all.saturating_sub(above)).unwrap_or(u32::MAX);
            let bill = spillway_orchestrator_core::Bill {
                used_gb: self.gb(p) * self.scale,
                profile,
                level_mbps: level_mbps * self.scale,
                free_slots,
            };
            (self.ids[p].clone(), bill)
        };
        contracts.map(bill).collect()
    }

    /// What is billed, by pathway that costs anything: of the simulated part of the world's views.
    pub(crate) fn billed(&self) -> BTreeMap<String, Billed> {
        let of = |(p, sheet): (usize, &Pathway)| {
            let (gb, p95_mbps) = (self.gb(p), self.level_mbps(p, free_slots(self.slots[p].len())));
            let usd = usd(sheet, gb, p95_mbps) * self.scale;
            (self.ids[p].to_string(), Billed { tb: gb / 1e3 * self.scale, p95_mbps: p95_mbps * self.scale, usd })
        };
        self.sheets.iter().enumerate().map(of).filter(|(_, billed)| billed.usd > 0.0).collect()
    }
}

fn tiered(sheet: &Pathway, gb: f64) -> f64 {
    let mut steps = vec![(0.0, sheet.price_usd_per_gb)];
    steps.extend(sheet.tiers.iter().map(|(tb, price)| (tb * 1e3, *price)));
    let ends = steps.iter().skip(1).map(|(from, _)| *from).chain([f64::INFINITY]);
    steps.iter().zip(ends).map(|((from, price), end)| (gb.min(end) - from).max(0.0) * price).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Pathway {
        Pathway {
            price_usd_per_gb: 0.01,
            tiers: vec![(1.0, 0.008), (10.0, 0.005)],
            commit_tb: 2.0,
            p95_usd_per_mbps: 2.0,
            p95_commit_mbps: 100.0,
            ..Pathway::default()
        }
    }

    #[test]
    fn a_volume_is_paid_by_tiers_and_what_is_committed_in_any_case() {
        let at = |gb| usd(&sheet(), gb, 0.0) - 200.0;
        assert!((at(0.0) - 18.0).abs() < 1e-9 && (at(2000.0) - 18.0).abs() < 1e-9);
        assert!((at(12_000.0) - (10.0 + 72.0 + 10.0)).abs() < 1e-9, "{}", at(12_000.0));
        assert!((average(&sheet()) - (0.009 + 2.0 / 162.0)).abs() < 1e-9);
    }

    #[test]
    fn one_slot_of_twenty_may_lie_above_the_billed_level() {
        let mut bill = Bill {
            ids: vec![PathwayId::new("cdn-a").expect("id")],
            sheets: vec![Pathway { p95_usd_per_mbps: 1.0, p95_commit_mbps: 30.0, ..Pathway::default() }],
            scale: 0.5,
            bits: vec![0.0],
            slot: vec![0.0],
            slots: vec![vec![]],
        };
        for slot in 0..40 {
            bill.add(&[if slot % 20 == 7 { 90e6 } else { 20e6 }], slot * 300, 300);
            let so_far = bill.so_far(0.5, 40 * 300)["cdn-a"];
            let above = if slot < 7 { 0 } else { 1 + u32::from(slot >= 27) };
            // 40 Mbit/s of the world are more than the commitment, once they are the third highest slot.
            let level = if slot < 2 { 30.0 } else { 40.0 };
            assert!((so_far.level_mbps * 2.0 - level).abs() < 1e-6, "{slot}: {so_far:?}");
            if slot >= 2 {
                assert_eq!(so_far.free_slots, 2 - above, "{slot}");
            }
        }
        let billed = bill.billed()["cdn-a"];
        assert!((billed.usd - 20.0).abs() < 1e-6, "40 USD of the world, of which half is simulated: {billed:?}");
    }
}

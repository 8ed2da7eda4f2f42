//! What delivery costs: flat, tiered, with a commit, by the 95th percentile of 5-minute means.

use crate::world::World;

const SLOT_S: u64 = 300;

pub(crate) struct Bill {
    sheets: Vec<crate::format::Pathway>,
    /// Views of the world per simulated view.
    scale: f64,
    bits: Vec<f64>,
    slot: Vec<f64>,
    slots: Vec<Vec<f64>>,
}

impl Bill {
    pub(crate) fn new(world: &World) -> Self {
        let n = world.paths.len();
        Self {
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
                slots.push(std::mem::take(slot) / SLOT_S.max(dt) as f64);
            }
        }
        rates.iter().zip(&self.sheets).map(|(rate, sheet)| rate / 8e9 * sheet.price_usd_per_gb * 3600.0).sum()
    }

    /// USD. Volumes and levels are those of the world, whatever part of its views is simulated; the sum is of the
    /// simulated part.
    pub(crate) fn total(mut self) -> f64 {
        let mut sum = 0.0;
        for (p, sheet) in self.sheets.iter().enumerate() {
            let gb = self.bits[p] / 8e9 / self.scale;
            let volume = tiered(sheet, gb.max(sheet.commit_tb * 1e3));
            let slots = &mut self.slots[p];
            slots.sort_by(f64::total_cmp);
            let level = slots.get((slots.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
            sum += volume + level / 1e6 / self.scale * sheet.p95_usd_per_mbps;
        }
        sum * self.scale
    }
}

fn tiered(sheet: &crate::format::Pathway, gb: f64) -> f64 {
    let mut steps = vec![(0.0, sheet.price_usd_per_gb)];
    steps.extend(sheet.tiers.iter().map(|(tb, price)| (tb * 1e3, *price)));
    let ends = steps.iter().skip(1).map(|(from, _)| *from).chain([f64::INFINITY]);
    steps.iter().zip(ends).map(|((from, price), end)| (gb.min(end) - from).max(0.0) * price).sum()
}

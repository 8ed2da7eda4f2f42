//! What to make of contracts if all demand of the period were known: how far each billed level should be used, in which
//! slots it may be exceeded for free, and which part of the demand should go where a volume is committed or becomes
//! cheaper. Searched for the least J of the whole period, with the same exact solution in every moment as the oracle's.

use super::solver::{Problem, solve};
use crate::bill::{SLOT_S, free_slots, is_contract, usd};
use crate::demand::Demand;
use crate::format::Pathway;
use crate::world::World;

/// Moments that stand for the whole period: one of each so many slots of alike demand.
const SAMPLES: usize = 200;
/// Steps of the search, as parts of a capacity or of the demand.
const STEPS: [f64; 6] = [0.1, 0.05, 0.025, 0.0125, 0.006, 0.003];
/// Parts that the search begins with.
const STARTS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Free slots that are left alone, so that a level isn't exceeded by chance.
const SPARE_SLOTS: usize = 4;
/// J of what fits nowhere, per part of the demand.
const UNMET: f64 = 1000.0;
/// USD per GB of what is paid for already: not more than anything, but after what is free without end.
const PREPAID: f64 = 1e-6;

/// A period with contracts.
pub(super) struct Period {
    pub sheets: Vec<Pathway>,
    /// Most that each pathway carries, bit/s.
    pub room: Vec<f64>,
    /// Bad share, source × pathway; infinite where it can't go.
    pub bad: Vec<f64>,
    /// Bit/s wanted by source, in moments of rising demand.
    pub moments: Vec<Vec<f64>>,
    /// Seconds that each moment stands for.
    pub seconds: f64,
    /// Moments that may lie above a billed level.
    pub free: usize,
    /// Views of the world per simulated view.
    pub scale: f64,
}

/// How contracts are used.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// USD per GB that decides, by pathway.
    pub price: Vec<f64>,
    /// By pathway: part of its room (billed by level) or of the demand (by volume) that it carries at most.
    pub most: Vec<f64>,
    /// Mean USD per GB of everything.
    pub usual: f64,
}

/// What a plan comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub j: f64,
    pub usd: f64,
    gb: f64,
}

impl Judged {
    fn mean_price(&self) -> f64 {
        (self.usd / self.gb.max(1e-9)).max(1e-9)
    }
}

/// How good a plan is.
pub(super) type Judge<'a> = &'a dyn Fn(&Plan) -> Judged;

pub(super) fn by_level(sheet: &Pathway) -> bool {
    sheet.p95_usd_per_mbps > 0.0
}

impl Plan {
    /// Most that each pathway carries of `wanted` bit/s in all. What is free isn't held back.
    pub(super) fn held(&self, sheets: &[Pathway], room: &[f64], wanted: f64, free: bool) -> Vec<f64> {
        let most = |(p, room): (usize, &f64)| match &sheets[p] {
            sheet if !is_contract(sheet) || (free && by_level(sheet)) => *room,
            sheet if by_level(sheet) => room * self.most[p],
            _ => room.min(wanted * self.most[p]),
        };
        room.iter().enumerate().map(most).collect()
    }

    /// The same; nothing is held back if the rest would be full.
    pub(super) fn room(&self, sheets: &[Pathway], room: &[f64], wanted: f64, free: bool) -> Vec<f64> {
        let held = self.held(sheets, room, wanted, free);
        if held.iter().sum::<f64>() < wanted { room.to_vec() } else { held }
    }
}

impl Period {
    /// The world's demand in hindsight; `None` without contracts. `room`: most that each pathway carries.
    pub(super) fn of(world: &World, demand: &Demand<'_>, room: Vec<f64>) -> Option<(Self, Vec<bool>)> {
        let sheets: Vec<Pathway> = world.paths.iter().map(|path| path.sheet.clone()).collect();
        if !sheets.iter().any(is_contract) {
            return None;
        }
        let slots = (demand.seconds() / SLOT_S).max(1) as usize;
        let wanted = |slot: usize| -> Vec<f64> {
            let at = |minute: u64| (slot as u64 * SLOT_S + minute * 60 + 30) as f64;
            let mean = |r: usize| (0..5).map(|minute| demand.region(r, at(minute))).sum::<f64>() / 5.0;
            let regions: Vec<f64> = (0..world.regions.len()).map(mean).collect();
            world.cohorts.iter().map(|c| regions[c.region] * c.part * world.bits_per_view).collect()
        };
        let all: Vec<Vec<f64>> = (0..slots).map(wanted).collect();
        let totals: Vec<f64> = all.iter().map(|wanted| wanted.iter().sum()).collect();
        let mut order: Vec<usize> = (0..slots).collect();
        order.sort_by(|a, b| totals[*a].total_cmp(&totals[*b]));
        let mut free = vec![false; slots];
        order.iter().rev().take(free_slots(slots).saturating_sub(SPARE_SLOTS)).for_each(|slot| free[*slot] = true);
        let count = slots.min(SAMPLES);
        let middle = |k: usize| order[(2 * k + 1) * slots / (2 * count)];
        let bad = |i: usize| if world.serves[i] { world.usual[i] } else { f64::INFINITY };
        let period = Self {
            sheets,
            room,
            bad: (0..world.cells()).map(bad).collect(),
            moments: (0..count).map(|k| all[middle(k)].clone()).collect(),
            seconds: demand.seconds() as f64 / count as f64,
            free: free_slots(count),
            scale: world.scale,
        };
        Some((period, free))
    }

    /// The plan with the least J that the search finds.
    pub(super) fn plan(&self) -> Plan {
        self.search(&|plan| self.judge(plan)).0
    }

    /// The best plan that is found, and what it comes to.
    pub(super) fn search(&self, judge: Judge<'_>) -> (Plan, Judged) {
        let bound: Vec<usize> = (0..self.sheets.len()).filter(|p| is_contract(&self.sheets[*p])).collect();
        let price = |sheet: &Pathway| if sheet.commit_tb > 0.0 { PREPAID } else { sheet.price_usd_per_gb };
        let mut best = Plan {
            price: self.sheets.iter().map(price).collect(),
            most: vec![1.0; self.sheets.len()],
            usual: self.sheets.iter().map(crate::bill::average).sum::<f64>() / self.sheets.len() as f64,
        };
        best.usual = judge(&best).mean_price();
        let mut starts = vec![best.clone()];
        for at in 0..STARTS.len().pow(bound.len().min(2) as u32) {
            let mut plan = best.clone();
            // Two contracts begin with every pair of parts; more than that go together with the second.
            for (k, p) in bound.iter().enumerate() {
                plan.most[*p] = STARTS[if k == 0 { at % STARTS.len() } else { at / STARTS.len() }];
            }
            starts.push(plan);
        }
        let judged = starts.into_iter().map(|plan| (judge(&plan).j, plan));
        best = judged.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(best, |(_, plan)| plan);
        // What a point of bad windows is worth depends on what all costs, and the other way round.
        for _ in 0..2 {
            best.usual = judge(&best).mean_price();
            self.improve(&mut best, &bound, judge);
        }
        best.usual = judge(&best).mean_price();
        let judged = judge(&best);
        (best, judged)
    }

    /// Goes downhill, one number at a time.
    fn improve(&self, best: &mut Plan, bound: &[usize], judge: Judge<'_>) {
        let mut least = judge(best).j;
        for step in STEPS {
            let mut again = true;
            while again {
                again = false;
                for &p in bound {
                    for plan in self.next_to(best, p, step) {
                        let j = judge(&plan).j;
                        if j < least - 1e-7 {
                            (least, *best, again) = (j, plan, true);
                        }
                    }
                }
            }
        }
    }

    fn next_to(&self, plan: &Plan, p: usize, step: f64) -> Vec<Plan> {
        let with = |most: f64, price: f64| {
            let mut next = plan.clone();
            (next.most[p], next.price[p]) = (most, price);
            next
        };
        let most = plan.most[p];
        let mut out = vec![with((most + step).min(1.0), plan.price[p]), with((most - step).max(0.0), plan.price[p])];
        let sheet = &self.sheets[p];
        if !by_level(sheet) {
            let prices = sheet.tiers.iter().map(|tier| tier.1).chain([PREPAID, sheet.price_usd_per_gb]);
            out.extend(prices.map(|price| with(most, price)));
        }
        out
    }

    /// Bad windows and the bill of the whole period.
    pub(super) fn judge(&self, plan: &Plan) -> Judged {
        let n = self.sheets.len();
        let cost: Vec<f64> =
            (0..self.bad.len()).map(|i| 100.0 * self.bad[i] + plan.price[i % n] / plan.usual).collect();
        let mut loads = Vec::with_capacity(self.moments.len());
        let (mut bad, mut placed, mut wanted) = (0.0, 0.0, 0.0);
        for (k, demand) in self.moments.iter().enumerate() {
            let all: f64 = demand.iter().sum();
            let room = plan.room(&self.sheets, &self.room, all, k + self.free >= self.moments.len());
            let flow = solve(&Problem { demand, room: &room, cost: &cost });
            loads.push((0..n).map(|p| flow.iter().skip(p).step_by(n).sum::<f64>()).collect());
            bad +=
                flow.iter().zip(&self.bad).filter(|(flow, _)| **flow > 0.0).map(|(flow, bad)| flow * bad).sum::<f64>();
            placed += flow.iter().sum::<f64>();
            wanted += all;
        }
        self.bill_of(&loads, bad, placed, wanted, plan.usual)
    }

    /// What loads (bit/s by moment and pathway) come to, of which `bad` bit/s are bad, and of `wanted` all are `placed`.
    pub(super) fn bill_of(&self, loads: &[Vec<f64>], bad: f64, placed: f64, wanted: f64, usual: f64) -> Judged {
        let of = |(p, sheet)| self.bill(loads.iter().map(|loads| loads[p]).collect(), sheet);
        let usd = self.sheets.iter().enumerate().map(of).sum::<f64>();
        let gb = placed * self.seconds / 8e9;
        let unmet = 1.0 - placed / wanted.max(1.0);
        Judged { j: 100.0 * bad / placed.max(1.0) + usd / (usual * gb.max(1e-9)) + UNMET * unmet, usd, gb }
    }

    /// USD for a pathway's loads, bit/s.
    fn bill(&self, mut loads: Vec<f64>, sheet: &Pathway) -> f64 {
        loads.sort_by(|a, b| b.total_cmp(a));
        let level = loads.get(self.free).copied().unwrap_or(0.0);
        let gb = loads.iter().sum::<f64>() * self.seconds / 8e9;
        usd(sheet, gb / self.scale, level / 1e6 / self.scale) * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    const FLAT: usize = 0;
    const VOLUME: usize = 1;
    const LEVEL: usize = 2;

    /// Four hours of one source with as many contracts as there are kinds, one of the hours free.
    fn period(seed: u64) -> Period {
        let luck = |purpose: u64| unit(&[seed, purpose]);
        let flat = Pathway { price_usd_per_gb: 0.004 + 0.004 * luck(1), ..Pathway::default() };
        let volume = Pathway {
            price_usd_per_gb: 0.008,
            tiers: vec![(4.0 * luck(2), 0.004 + 0.004 * luck(3)), (4.0 + 4.0 * luck(4), 0.002 + 0.004 * luck(5))],
            commit_tb: 4.0 * luck(6),
            ..Pathway::default()
        };
        // Of 4 hours instead of a month: 1.8 GB at 1 Mbit/s.
        let price = 1.8 * (0.001 + 0.006 * luck(7));
        let level = Pathway { p95_usd_per_mbps: price, p95_commit_mbps: 2000.0 * luck(8), ..Pathway::default() };
        let mut moments: Vec<Vec<f64>> = (0..4).map(|k| vec![6e9 * (0.2 + luck(10 + k))]).collect();
        moments.sort_by(|a, b| a[0].total_cmp(&b[0]));
        Period {
            sheets: vec![flat, volume, level],
            room: vec![8e9, 8e9, 2e9 + 6e9 * luck(9)],
            bad: vec![0.0; 3],
            moments,
            seconds: 3600.0,
            free: 1,
            scale: 1.0,
        }
    }

    /// The least bill of all ways to split each hour's demand in eighths.
    fn brute_force(period: &Period) -> f64 {
        const PARTS: usize = 8;
        let mut splits = Vec::new();
        for a in 0..=PARTS {
            splits.extend((0..=PARTS - a).map(|b| [a, b, PARTS - a - b].map(|part| part as f64 / PARTS as f64)));
        }
        let fits =
            |hour: usize, split: &&[f64; 3]| (0..3).all(|p| split[p] * period.moments[hour][0] <= period.room[p] + 1.0);
        let by_hour: Vec<Vec<[f64; 3]>> = (0..4)
            .map(|hour| {
                let scaled = |split: &[f64; 3]| split.map(|part| part * period.moments[hour][0]);
                splits.iter().filter(|split| fits(hour, split)).map(scaled).collect()
            })
            .collect();
        let mut least = f64::INFINITY;
        for w in &by_hour[0] {
            for x in &by_hour[1] {
                for y in &by_hour[2] {
                    for z in &by_hour[3] {
                        let gb = |p: usize| (w[p] + x[p] + y[p] + z[p]) * 3600.0 / 8e9;
                        let (low, high) = (w[LEVEL].min(x[LEVEL]), w[LEVEL].max(x[LEVEL]));
                        let (low2, high2) = (y[LEVEL].min(z[LEVEL]), y[LEVEL].max(z[LEVEL]));
                        // The second highest of four.
                        let level = high.min(high2).max(if high > high2 { low } else { low2 });
                        let sum = usd(&period.sheets[FLAT], gb(FLAT), 0.0)
                            + usd(&period.sheets[VOLUME], gb(VOLUME), 0.0)
                            + usd(&period.sheets[LEVEL], gb(LEVEL), level / 1e6);
                        least = least.min(sum);
                    }
                }
            }
        }
        least
    }

    #[test]
    fn no_way_to_split_the_demand_of_a_small_world_is_cheaper_than_the_plan() {
        for seed in 0..8 {
            let period = period(seed);
            let plan = period.plan();
            let found = period.judge(&plan);
            let least = brute_force(&period);
            assert!(found.usd <= least * 1.002, "seed {seed}: {} of {least}, {plan:?}", found.usd);
            assert!(found.usd > 0.5 * least, "seed {seed}: {} of {least}: not all is carried", found.usd);
        }
    }

    #[test]
    fn a_level_is_exceeded_in_free_moments_only() {
        let mut period = period(1);
        period.sheets[LEVEL].p95_usd_per_mbps = 1e-3;
        period.sheets[LEVEL].p95_commit_mbps = 1000.0;
        let plan = Plan { price: vec![0.006, PREPAID, 0.0], most: vec![1.0, 0.5, 0.25], usual: 0.006 };
        let room = |free| plan.room(&period.sheets, &[8e9, 8e9, 8e9], 6e9, free);
        assert_eq!((room(false), room(true)), (vec![8e9, 3e9, 2e9], vec![8e9, 3e9, 8e9]));
        let scarce = plan.room(&period.sheets, &[1e9, 8e9, 8e9], 6.5e9, false);
        assert_eq!(scarce, [1e9, 8e9, 8e9], "6.25 of 6.5 Gbit/s: nothing is held back");
    }
}

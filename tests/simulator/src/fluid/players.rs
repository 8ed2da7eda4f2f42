//! Players as numbers: they come and go, poll, leave a failing pathway by themselves, and run dry.

use crate::demand::Demand;
use crate::faults::Broken;
use crate::format::{PlayerKind, Status};
use crate::policies::Policy;
use crate::routing::Shares;
use crate::world::World;

/// Sessions that poll at the same time move at the same time: so many parts of the audience take turns.
const TURNS: usize = 30;
/// Seconds in which a view that was moved or healed plays again.
const RESUME_S: f64 = 2.0;

/// Hit views of one kind on one cell: parts of them that went elsewhere, are on their way to run dry, are dry.
#[derive(Clone, Copy, Debug, Default)]
struct Plight {
    away: f64,
    low: f64,
    lower: f64,
    dry: f64,
}

/// The audience.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    kinds: Vec<PlayerKind>,
    parts: Vec<f64>,
    /// Views wanted, by cohort.
    pub views: Vec<f64>,
    /// First places of those that follow, by turn: shares by cohort × pathway.
    turns: Vec<Vec<f64>>,
    /// First places of those that don't.
    fixed: Vec<f64>,
    next: Vec<usize>,
    credit: Vec<f64>,
    /// By cell and kind, the last kind is that of the fixed.
    plights: Vec<Plight>,
    troubled: Vec<bool>,
    fails_over: bool,
    steers: bool,
    /// Views on each cell now.
    pub here: Vec<f64>,
    /// Of them, fixed.
    pub fixed_here: Vec<f64>,
    /// Of the views on each cell, those that are dry.
    pub dry: Vec<f64>,
    /// Of the views on each cell, those whose requests fail.
    pub failing: Vec<f64>,
    /// Views that came in this step, by cell.
    pub new: Vec<f64>,
    /// Views whose last steering answer names the cell first.
    pub sent: Vec<f64>,
}

impl Crowd {
    pub(crate) fn new(world: &World, policy: Policy, shares: &[Shares], demand: &Demand<'_>) -> Self {
        let first = assemble(world, shares, |s| &s.new);
        let kinds = world.players.kind.clone();
        let all: f64 = kinds.iter().map(|kind| kind.part).sum();
        let cells = vec![0.0; world.cells()];
        Self {
            parts: kinds.iter().map(|kind| kind.part / all).collect(),
            views: wanted(world, demand, 0.0),
            turns: vec![first.clone(); TURNS],
            fixed: first,
            next: vec![0; world.regions.len()],
            credit: vec![0.0; world.regions.len()],
            plights: vec![Plight::default(); world.cells() * (kinds.len() + 1)],
            troubled: vec![false; world.cells()],
            fails_over: policy.fails_over(),
            steers: policy.steers(),
            here: cells.clone(),
            fixed_here: cells.clone(),
            dry: cells.clone(),
            failing: cells.clone(),
            new: cells.clone(),
            sent: cells,
            kinds,
        }
    }

    /// One step; returns the views that were moved to each pathway.
    pub(crate) fn step(
        &mut self,
        world: &World,
        broken: &Broken,
        shares: &[Shares],
        demand: &Demand<'_>,
        (second, dt): (u64, u64),
    ) -> Vec<f64> {
        let before = std::mem::replace(&mut self.views, wanted(world, demand, second as f64));
        let mut moved = vec![0.0; world.paths.len()];
        for (r, region) in world.regions.iter().enumerate() {
            for (k, c) in region.cohorts.clone().enumerate() {
                // Who goes is replaced at once; who comes in addition is new too.
                let grown = (self.views[c] - before[c]).max(0.0) / self.views[c].max(1e-9);
                let new = (dt as f64 / world.view_s + grown).min(1.0);
                self.arrive(world, broken, region, &shares[r], (k, c), new);
            }
            if self.steers && !broken.no_steering {
                self.poll(world, r, &shares[r], dt as f64, &mut moved);
            }
        }
        for cell in 0..world.cells() {
            if broken.hard[cell] > 0.0 || self.troubled[cell] {
                self.suffer(world, broken, shares, cell, dt as f64);
            }
        }
        self.place(world, broken, shares);
        moved
    }

    fn arrive(
        &mut self,
        world: &World,
        broken: &Broken,
        region: &crate::world::Region,
        shares: &Shares,
        (k, c): (usize, usize),
        new: f64,
    ) {
        let n = world.paths.len();
        for &p in &region.pathways {
            let cell = c * n + p;
            let to = if broken.no_steering { region.static_weights[p] } else { shares.new[k * n + p] };
            self.turns.iter_mut().for_each(|turn| turn[cell] += new * (to - turn[cell]));
            self.fixed[cell] += new * (to - self.fixed[cell]);
            self.new[cell] = self.views[c] * new * to;
        }
    }

    /// As many turns poll as the interval says.
    fn poll(&mut self, world: &World, r: usize, shares: &Shares, dt: f64, moved: &mut [f64]) {
        let region = &world.regions[r];
        let n = world.paths.len();
        self.credit[r] += if shares.ttl_s <= 0.0 { TURNS as f64 } else { TURNS as f64 * dt / shares.ttl_s };
        let count = (self.credit[r].floor() as usize).min(TURNS);
        self.credit[r] -= self.credit[r].floor();
        let follow = (1.0 - world.players.ignore_steering) / TURNS as f64;
        for _ in 0..count {
            let turn = &mut self.turns[self.next[r]];
            self.next[r] = (self.next[r] + 1) % TURNS;
            for (k, c) in region.cohorts.clone().enumerate() {
                for &p in &region.pathways {
                    let share = &mut turn[c * n + p];
                    let to = shares.running[k * n + p];
                    moved[p] += (to - *share).max(0.0) * follow * self.views[c];
                    *share = to;
                }
            }
        }
    }

    /// One cell with failing requests, or on its way back from them.
    fn suffer(&mut self, world: &World, broken: &Broken, shares: &[Shares], cell: usize, dt: f64) {
        let c = cell / world.paths.len();
        let region = world.cohorts[c].region;
        let hit = broken.hard[cell] > 0.0;
        let part = |seconds: f64| 1.0 - (-dt / seconds.max(0.01)).exp();
        let stage = part(world.players.buffer_s as f64 / 3.0);
        let on_cell = (self.first(world, cell) * self.views[c]).max(1e-9);
        let fresh = (self.new[cell] / on_cell).min(1.0);
        let mut left = 0.0;
        for k in 0..=self.kinds.len() {
            let leaves = if hit && self.fails_over && k < self.kinds.len() {
                leaves_s(&self.kinds[k], broken.status[cell]).map_or(0.0, part)
            } else {
                0.0
            };
            let returns = self.returns(k, shares[region].ttl_s, hit).map_or(0.0, part);
            let plight = &mut self.plights[cell * (self.kinds.len() + 1) + k];
            if hit {
                plight.dry += stage * plight.lower;
                plight.lower += stage * (plight.low - plight.lower);
                let full = (1.0 - plight.away - plight.low - plight.lower - plight.dry).max(0.0);
                plight.low += stage * (full - plight.low);
                for part in [&mut plight.low, &mut plight.lower, &mut plight.dry] {
                    *part *= 1.0 - leaves;
                }
                plight.away += leaves * (1.0 - plight.away) - returns * plight.away;
                // A new view has no buffer to live on.
                for part in [&mut plight.away, &mut plight.low, &mut plight.lower] {
                    *part *= 1.0 - fresh;
                }
                plight.dry += fresh * (1.0 - plight.dry);
            } else {
                let resumed = part(RESUME_S);
                for part in [&mut plight.low, &mut plight.lower, &mut plight.dry] {
                    *part *= 1.0 - resumed;
                }
                plight.away *= (1.0 - returns) * (1.0 - fresh);
            }
            plight.away = plight.away.clamp(0.0, 1.0);
            left += plight.away + plight.low + plight.lower + plight.dry;
        }
        self.troubled[cell] = left > 1e-6;
    }

    /// When a kind of player comes back; 0 s of its own: with the next poll, and without polls not while it is hit.
    fn returns(&self, kind: usize, ttl_s: f64, hit: bool) -> Option<f64> {
        let own = self.kinds.get(kind)?.returns_s;
        match own {
            0.0 if self.steers => Some(ttl_s.max(1.0)),
            0.0 if hit => None,
            0.0 => Some(60.0),
            seconds => Some(seconds),
        }
    }

    /// Share of the cohort's followers whose first place this is.
    fn first(&self, world: &World, cell: usize) -> f64 {
        let follow = 1.0 - world.players.ignore_steering;
        let turns = self.turns.iter().map(|turn| turn[cell]).sum::<f64>() / TURNS as f64;
        follow * turns + world.players.ignore_steering * self.fixed[cell]
    }

    /// Who is where, with those that went elsewhere by themselves.
    fn place(&mut self, world: &World, broken: &Broken, shares: &[Shares]) {
        let n = world.paths.len();
        let follow = 1.0 - world.players.ignore_steering;
        self.here.iter_mut().for_each(|views| *views = 0.0);
        let mut turns = vec![0.0; world.cells()];
        for turn in &self.turns {
            turns.iter_mut().zip(turn).for_each(|(sum, share)| *sum += share);
        }
        for (cell, turns) in turns.into_iter().enumerate() {
            let (c, p) = (cell / n, cell % n);
            let views = self.views[c];
            let following = views * follow * turns / TURNS as f64;
            self.sent[cell] = if broken.no_steering { 0.0 } else { following };
            let fixed = views * world.players.ignore_steering * self.fixed[cell];
            self.fixed_here[cell] = fixed;
            let (mut away, mut dry, mut stay) = (0.0, 0.0, 0.0);
            if self.troubled[cell] {
                let hit = broken.hard[cell];
                for k in 0..=self.kinds.len() {
                    let plight = self.plights[cell * (self.kinds.len() + 1) + k];
                    let count = if k < self.kinds.len() { following * self.parts[k] } else { fixed };
                    // Once healed, the parts still are of those that had been hit: take them as all.
                    let count = count * if hit > 0.0 { hit } else { 1.0 };
                    away += count * plight.away;
                    dry += count * plight.dry;
                    if hit > 0.0 {
                        stay += count * (1.0 - plight.away);
                    }
                }
            }
            self.here[cell] += (following + fixed - away).max(0.0);
            self.dry[cell] = dry;
            self.failing[cell] = stay;
            if away > 0.0 {
                self.flee(world, broken, &shares[world.cohorts[c].region], (c, p), away);
            }
        }
    }

    /// To the second places, but not to where it fails too.
    fn flee(&mut self, world: &World, broken: &Broken, shares: &Shares, (c, p): (usize, usize), away: f64) {
        let n = world.paths.len();
        let good = |q: &usize| broken.hard[c * n + q] < 0.5 && *q != p;
        let pathways = || world.regions[world.cohorts[c].region].pathways.iter().copied();
        let weight = |q: usize| shares.second[p * n + q];
        let all: f64 = pathways().filter(good).map(weight).sum();
        let count = pathways().filter(good).count() as f64;
        for q in pathways().filter(good) {
            let part = if all > 1e-9 { weight(q) / all } else { 1.0 / count };
            self.here[c * n + q] += away * part;
        }
        if count == 0.0 {
            self.here[c * n + p] += away;
            self.dry[c * n + p] += away;
        }
    }

    /// Followers with each first place, by cell: what steering could still move.
    pub(crate) fn following(&self, world: &World) -> impl Fn(usize) -> f64 {
        let n = world.paths.len();
        let follow = (1.0 - world.players.ignore_steering) / TURNS as f64;
        move |cell| self.turns.iter().map(|turn| turn[cell]).sum::<f64>() * follow * self.views[cell / n]
    }
}

fn wanted(world: &World, demand: &Demand<'_>, second: f64) -> Vec<f64> {
    let by_region: Vec<f64> = (0..world.regions.len()).map(|r| demand.region(r, second)).collect();
    world.cohorts.iter().map(|cohort| cohort.part * by_region[cohort.region]).collect()
}

/// A table over cohort × pathway out of the regions' tables.
fn assemble(world: &World, shares: &[Shares], of: impl Fn(&Shares) -> &Vec<f64>) -> Vec<f64> {
    shares
        .iter()
        .flat_map(|shares| of(shares).iter().copied())
        .collect::<Vec<f64>>()
        .into_iter()
        .take(world.cells())
        .collect()
}

/// First failed request → leaves by itself.
pub(crate) fn leaves_s(kind: &PlayerKind, status: Status) -> Option<f64> {
    match status {
        Status::NotFound => kind.leaves_404_s,
        Status::Unavailable => kind.leaves_503_s,
        Status::Reset => kind.leaves_reset_s,
        Status::Hang => kind.leaves_hang_s,
    }
}

//! One policy: an engine, what it published, and what it did to each pathway.

use std::collections::BTreeMap;

use spillway_model::{PathwayId, PathwayState, RegionId, TimestampMs};
use spillway_orchestrator_core::{self as core, Engine, RoundInput, RoundOutput, Setup};

use super::report::StateChange;
use crate::record::Manifests;
use crate::round::weights_by_pathway;

/// Changes of one pathway's state that are told of.
const CHANGES_MAX: usize = 100;

/// Windows are heard when they end: a bad one so long after it began to be bad, on average, s.
const HEARD_LATE_S: f64 = 5.0;

/// Planned shares of a region, 0 to 1.
pub(super) type Shares = BTreeMap<PathwayId, f64>;

/// A policy under replay.
pub(super) struct Arm {
    setup: Setup,
    engine: Engine,
    in_force: Manifests,
    shares: BTreeMap<RegionId, Shares>,
    /// In force since the round before: what the evidence of a round is of.
    held: BTreeMap<RegionId, Shares>,
    /// Where views were, that follow the plan at their next poll, in the windows that are heard now.
    followed: BTreeMap<RegionId, Shares>,
    /// The same, mean over the time since the round before.
    lately: BTreeMap<RegionId, Shares>,
    output: Option<RoundOutput>,
    regions: BTreeMap<RegionId, Moves>,
    pathways: BTreeMap<(RegionId, PathwayId), Course>,
}

/// What was published in a region.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moves {
    pub epochs: u64,
    /// Sum of moved shares.
    pub moved: f64,
}

/// What a policy did with a pathway in a region.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    state: Option<PathwayState>,
    pub changes: Vec<StateChange>,
    pub first_degraded_ms: Option<u64>,
    pub first_down_ms: Option<u64>,
    pub degraded_s: f64,
    pub down_s: f64,
    /// Sum of share × s.
    pub share_s: f64,
}

impl Arm {
    /// Starts as an orchestrator does that finds `in_force`.
    pub fn start(setup: Setup, in_force: &Manifests) -> Self {
        let empty = Self {
            engine: Engine::new(setup.clone()),
            setup,
            in_force: Manifests::new(),
            shares: BTreeMap::new(),
            held: BTreeMap::new(),
            followed: BTreeMap::new(),
            lately: BTreeMap::new(),
            output: None,
            regions: BTreeMap::new(),
            pathways: BTreeMap::new(),
        };
        let setup = empty.setup.clone();
        empty.restart(setup, in_force.clone())
    }

    /// The same after a restart of the process; what was added up stays.
    pub fn restart(mut self, setup: Setup, mut in_force: Manifests) -> Self {
        in_force.retain(|region, _| setup.regions.contains_key(region));
        self.engine = Engine::new(setup.clone());
        in_force.values().for_each(|manifest| self.engine.adopt(manifest));
        self.shares = in_force.iter().map(|(region, manifest)| (region.clone(), planned(manifest))).collect();
        (self.setup, self.in_force) = (setup, in_force);
        self
    }

    /// The same under another configuration, read between two rounds; `in_force` tells of regions that it brings.
    pub fn reload(&mut self, setup: Setup, in_force: &Manifests) {
        let mut next = setup.clone();
        if (&setup.parameters, &setup.canary) == (&self.setup.parameters, &self.setup.canary) {
            // What a trial has brought about goes on.
            let now = self.engine.setup();
            (next.policy, next.parameters) = (now.policy.clone(), now.parameters.clone());
            next.canary = now.canary.clone();
        }
        self.engine.reconfigure(next);
        self.in_force.retain(|region, _| setup.regions.contains_key(region));
        self.shares.retain(|region, _| setup.regions.contains_key(region));
        let is_new = |region: &RegionId| setup.regions.contains_key(region) && !self.setup.regions.contains_key(region);
        for (region, manifest) in in_force.iter().filter(|(region, _)| is_new(region)) {
            self.engine.adopt(manifest);
            self.shares.insert(region.clone(), planned(manifest));
            self.in_force.insert(region.clone(), manifest.clone());
        }
        self.setup = setup;
    }

    /// A restart that finds what this policy itself had published.
    pub fn restart_on_its_own(mut self, setup: Setup) -> Self {
        let in_force = std::mem::take(&mut self.in_force);
        self.restart(setup, in_force)
    }

    /// Decides and publishes. `seconds` have passed since the round before.
    pub fn round(&mut self, now: TimestampMs, seconds: Option<f64>, input: &RoundInput) {
        self.held.clone_from(&self.shares);
        self.follow(seconds.unwrap_or(0.0));
        let output = self.engine.round(now, input);
        for (region, plan) in &output.regions {
            for (id, pathway) in &plan.manifest.pathways {
                let share = self.held.get(region).and_then(|shares| shares.get(id)).copied().unwrap_or(0.0);
                let course = self.pathways.entry((region.clone(), id.clone())).or_default();
                course.pass(seconds.unwrap_or(0.0), share);
                course.enter(now, pathway.state, &pathway.reason);
            }
            let current = self.in_force.get(region);
            if current.is_some_and(|current| core::same_routing(current, &plan.manifest)) {
                continue;
            }
            let shares = planned(&plan.manifest);
            let moves = self.regions.entry(region.clone()).or_default();
            moves.epochs += 1;
            moves.moved += self.shares.get(region).map_or(0.0, |before| distance(before, &shares));
            self.shares.insert(region.clone(), shares);
            self.in_force.insert(region.clone(), plan.manifest.clone());
        }
        self.output = Some(output);
    }

    /// Lets views follow what was in force for `seconds`: each polls once per TTL, half of one later on average, and is heard
    /// at the end of its window.
    fn follow(&mut self, seconds: f64) {
        for (region, held) in &self.held {
            let ttl_s = self.in_force.get(region).map_or(1.0, |manifest| f64::from(manifest.ttl.live_s));
            let turns = seconds / (ttl_s / 2.0 + HEARD_LATE_S);
            // Of those who are not there yet: at the end, and on average.
            let (left, mean) = ((-turns).exp(), if turns > 0.0 { (1.0 - (-turns).exp()) / turns } else { 1.0 });
            let followed = self.followed.entry(region.clone()).or_insert_with(|| held.clone());
            self.lately.insert(region.clone(), mixed(held, followed, mean));
            *followed = mixed(held, followed, left);
        }
    }

    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    pub const fn in_force(&self) -> &Manifests {
        &self.in_force
    }

    pub fn regions(&self) -> impl Iterator<Item = &RegionId> {
        self.setup.regions.keys()
    }

    /// Epochs of all regions.
    pub fn epochs(&self) -> u64 {
        self.regions.values().map(|moves| moves.epochs).sum()
    }

    pub fn moves(&self, region: &RegionId) -> Moves {
        self.regions.get(region).copied().unwrap_or_default()
    }

    /// Shares that were planned while the evidence of the last round came in.
    pub fn held(&self, region: &RegionId) -> Option<&Shares> {
        self.held.get(region)
    }

    /// Where views were on average in the windows that the last round heard of, if all follow.
    pub fn followed(&self, region: &RegionId) -> Option<&Shares> {
        self.lately.get(region)
    }

    /// What the last round said of a region.
    pub fn plan(&self, region: &RegionId) -> Option<&core::RegionPlan> {
        self.output.as_ref()?.regions.get(region)
    }

    /// Ceiling of a pathway by the last round, bit/s.
    pub fn capacity(&self, pathway: &PathwayId) -> Option<f64> {
        let totals = self.output.as_ref()?.pathways.get(pathway)?;
        Some(totals.capacity.0 as f64)
    }

    pub fn courses(&self) -> impl Iterator<Item = (&RegionId, &PathwayId, &Course)> {
        self.pathways.iter().map(|((region, pathway), course)| (region, pathway, course))
    }
}

impl Course {
    fn pass(&mut self, seconds: f64, share: f64) {
        self.share_s += share * seconds;
        match self.state {
            Some(PathwayState::Down) => self.down_s += seconds,
            Some(PathwayState::Degraded) => self.degraded_s += seconds,
            _ => {}
        }
    }

    fn enter(&mut self, now: TimestampMs, state: PathwayState, reason: &str) {
        // A HEALTHY pathway is where it is taken to be from.
        let was = self.state.replace(state).unwrap_or(PathwayState::Healthy);
        match state {
            PathwayState::Down => self.first_down_ms = self.first_down_ms.or(Some(now.0)),
            PathwayState::Degraded => self.first_degraded_ms = self.first_degraded_ms.or(Some(now.0)),
            _ => {}
        }
        if was != state && self.changes.len() < CHANGES_MAX {
            self.changes.push(StateChange { at_ms: now.0, state: state.to_string(), reason: reason.to_owned() });
        }
    }
}

fn planned(manifest: &spillway_routing::Manifest) -> Shares {
    weights_by_pathway(manifest).into_iter().map(|(id, ppm)| (id, f64::from(ppm) / 1e6)).collect()
}

/// `to`, but for the part `rest` that is still `from`.
fn mixed(to: &Shares, from: &Shares, rest: f64) -> Shares {
    let share = |of: &Shares, id: &PathwayId| of.get(id).copied().unwrap_or(0.0);
    let ids = to.keys().chain(from.keys().filter(|id| !to.contains_key(*id)));
    ids.map(|id| (id.clone(), share(to, id) * (1.0 - rest) + share(from, id) * rest)).collect()
}

/// Half the sum of differences: the share that moved.
fn distance(a: &Shares, b: &Shares) -> f64 {
    let share = |of: &Shares, id: &PathwayId| of.get(id).copied().unwrap_or(0.0);
    let only_b = b.iter().filter(|(id, _)| !a.contains_key(*id)).map(|(_, share)| *share);
    a.iter().map(|(id, before)| (before - share(b, id)).abs()).chain(only_b).sum::<f64>() / 2.0
}

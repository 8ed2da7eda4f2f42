//! Fluid mode: views as numbers per cohort × pathway, in steps of a round.

pub(crate) mod delivery;
pub(crate) mod hear;
pub(crate) mod players;

use std::collections::BTreeMap;

use spillway_routing::Manifest;

use crate::Outcome;
use crate::demand::Demand;
use crate::faults::Broken;
use crate::format::{Events, Mode, Scenario};
use crate::measure::{Flow, Meter};
use crate::policies::{Policy, Round, Truth, cheapest_within_rules};
use crate::random::unit;
use crate::routing::Shares;
use crate::world::World;
use delivery::Delivery;
use hear::Ear;
use players::Crowd;

/// A run begins with short steps, however long the others are: nobody has decided yet, and static weights may overfill.
const BEGIN_S: u64 = 600;
/// Noise of a region's audience from minute to minute.
const NOISE: f64 = 0.01;
/// Seconds that an oracle looks ahead at demand: a poll interval and a round.
const AHEAD_S: [f64; 3] = [0.0, 6.0, 12.0];

/// Plays a scenario. The same arguments give the same outcome.
pub(crate) fn play(scenario: &Scenario, policy: Policy, seed: u64) -> Outcome {
    let world = World::new(scenario, seed, false);
    let events = &scenario.events;
    let demand = Demand::new(&world, events, seed, NOISE);
    let mut published: Vec<Option<Manifest>> = vec![None; world.regions.len()];
    let mut delivery = Delivery::new(&world, &demand);
    let mut decide = policy.start(&world, Mode::Fluid, delivery.usual_origin, &demand);
    let mut ear = Ear::new(&world, seed);
    let mut meter = Meter::new(&world, scenario, policy, Mode::Fluid, seed);
    let mut broken = Broken::at(&world, events, 0);
    let mut truth = truth(&world, &broken, &demand, 0);
    let mut evidence = ear.silence(&world, 0, step(events, 0));
    let mut shares: Vec<Shares> = Vec::new();
    let mut crowd: Option<Crowd> = None;
    let mut bills = BTreeMap::new();
    let mut dead = false;
    let mut second = 0;
    while second < events.seconds {
        let dt = step(events, second);
        let stopped = broken.no_orchestrator && !policy.knows_all();
        if dead && !stopped {
            decide.restart(&world);
        }
        dead = stopped;
        let told = if stopped {
            Vec::new()
        } else {
            decide.round(&Round { world: &world, evidence: &evidence, truth: &truth, bills: &bills })
        };
        for (r, manifest) in told {
            let of = Shares::of(&manifest, &world, &world.regions[r], demand.one_title(r, second as f64));
            meter.publish(second, r, published[r].as_ref(), &manifest, &of);
            match shares.get_mut(r) {
                Some(old) => *old = of,
                None => shares.push(of),
            }
            published[r] = Some(manifest);
        }
        meter.published(second, &shares);
        let crowd = crowd.get_or_insert_with(|| Crowd::new(&world, policy, &shares, &demand));
        let moved = crowd.step(&world, &broken, &shares, &demand, (second, dt));
        for (r, region) in world.regions.iter().enumerate() {
            let sum = |of: &dyn Fn(usize) -> f64| region.cohorts.clone().map(of).sum::<f64>();
            let new = sum(&|c| (0..world.paths.len()).map(|p| crowd.new[world.cell(c, p)]).sum());
            delivery.cap(&world, r, shares[r].max_bitrate, new / sum(&|c| crowd.views[c]).max(1e-9));
        }
        let flow: Flow = delivery.step(&world, &broken, crowd, &moved, &demand, (second, dt));
        meter.step(second, dt, &flow, crowd.following(&world), &broken);
        if bills_are_due(second, dt) {
            bills = meter.bills(demand.profile(second + dt));
        }
        let frames = |r: usize| unit(&[seed, second, r as u64, 17]) >= broken.frames_lost[r];
        let frames: Vec<bool> = (0..world.regions.len()).map(frames).collect();
        evidence = if policy.listens() {
            ear.hear(&world, &broken, crowd, &flow, &delivery, (second, dt, frames), &demand)
        } else {
            ear.silence(&world, second + dt, dt)
        };
        let next = second + dt;
        let changed = Broken::changes(events, second, next);
        if changed {
            broken = Broken::at(&world, events, next);
            if next == meter.fault_start() {
                meter.fault_begins(&shares);
            }
        }
        if policy.knows_all() {
            truth = self::truth(&world, &broken, &demand, next);
            truth.changed = changed;
        }
        second = next;
    }
    let mut out = meter.finish();
    if policy == Policy::Oracle {
        out.within_rules_usd = cheapest_within_rules(&world, &demand);
    }
    out
}

/// Length of the step that begins at `second`.
fn step(events: &Events, second: u64) -> u64 {
    let short = if events.step_s.is_multiple_of(2) { 2 } else { 1 };
    if second < BEGIN_S.next_multiple_of(events.step_s) { short } else { events.step_s }
}

/// Once a minute, as the lake is asked.
pub(crate) const fn bills_are_due(second: u64, dt: u64) -> bool {
    (second + dt) % 60 < dt
}

/// The most that is wanted in the time in which most of an audience is replaced, bit/s: a lower bitrate needs as long.
fn peak(world: &World, demand: &Demand<'_>, second: u64) -> f64 {
    let at = |part: u32| second as f64 + world.view_s * 1.5 * f64::from(part) / 8.0;
    let all = |s: f64| (0..world.regions.len()).map(|r| demand.region(r, s)).sum::<f64>();
    (0..=8).map(|part| all(at(part))).fold(0.0, f64::max) * world.bits_per_view
}

/// What an oracle sees.
pub(crate) fn truth(world: &World, broken: &Broken, demand: &Demand<'_>, second: u64) -> Truth {
    let bad = |i: usize| 1.0 - (1.0 - world.usual[i]) * (1.0 - broken.bad[i]) * (1.0 - broken.hard[i]);
    let wanted = |r: usize| AHEAD_S.map(|s| demand.region(r, second as f64 + s)).into_iter().fold(0.0, f64::max);
    let by_region: Vec<f64> = (0..world.regions.len()).map(wanted).collect();
    Truth {
        bad: (0..world.cells()).map(bad).collect(),
        capacity: world.paths.iter().zip(&broken.capacity).map(|(path, part)| path.claimed * part).collect(),
        peak: peak(world, demand, second),
        demand: world.cohorts.iter().map(|c| by_region[c.region] * c.part * world.bits_per_view).collect(),
        changed: true,
        broken: broken.any,
    }
}

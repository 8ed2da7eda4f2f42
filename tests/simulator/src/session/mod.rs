//! Session mode: every player by itself, the real `rank()` for each.

mod events;
mod net;
mod player;
mod stage;

pub use net::Traces;

use std::collections::{BTreeMap, VecDeque};

use spillway_routing::Manifest;

use crate::Outcome;
use crate::demand::Demand;
use crate::evidence::Evidence;
use crate::faults::{Broken, in_cohort, of_path};
use crate::fluid::bills_are_due;
use crate::fluid::delivery::Delivery;
use crate::fluid::hear::{PROBE_S, probe, report};
use crate::format::{Fault, Mode, Scenario};
use crate::measure::{Flow, Meter};
use crate::outcome::percentile;
use crate::policies::{Policy, Round, Truth};
use crate::random::unit;
use crate::routing::Shares;
use crate::world::World;
use player::MovedBy;
use stage::Stage;

/// Seconds between rounds, as in production.
const ROUND_S: u64 = 2;
/// Load is a mean of so many seconds.
const MEAN_S: usize = 10;

/// A view that was on the pathway when it broke.
#[derive(Clone, Debug, Default)]
struct Affected {
    follows: bool,
    left_s: Option<f64>,
    by_steering: bool,
    ended: bool,
}

/// Plays a scenario. The same arguments give the same outcome.
pub(crate) fn play(scenario: &Scenario, policy: Policy, seed: u64, traces: &Traces) -> Outcome {
    let world = World::new(scenario, seed, true);
    let events = &scenario.events;
    let demand = Demand::new(&world, events, seed, 0.0);
    let mut delivery = Delivery::new(&world, &demand);
    let mut decide = policy.start(&world, Mode::Session, delivery.usual_origin, &demand);
    let mut meter = Meter::new(&world, scenario, policy, Mode::Session, seed);
    let mut published: Vec<Option<Manifest>> = vec![None; world.regions.len()];
    let mut shares: Vec<Shares> = Vec::new();
    let mut stage: Option<Stage<'_>> = None;
    let mut affected: BTreeMap<u64, Affected> = BTreeMap::new();
    let mut broken = Broken::at(&world, events, 0);
    let mut truth = Truth::default();
    let mut evidence = Evidence::new(&world, 0, ROUND_S);
    let mut load = vec![0.0; world.paths.len()];
    let mut recent: Vec<VecDeque<f64>> = vec![VecDeque::new(); world.paths.len()];
    let fault = events.fault.iter().find(|fault| fault.kind.is_of_pathway());
    let mut bills = BTreeMap::new();
    let mut dead = false;
    for second in 0..events.seconds {
        let now_broken = Broken::changes(events, second.saturating_sub(1), second);
        if now_broken {
            broken = Broken::at(&world, events, second);
            if second == meter.fault_start() {
                meter.fault_begins(&shares);
            }
        }
        if second.is_multiple_of(ROUND_S) {
            if policy.knows_all() {
                truth = crate::fluid::truth(&world, &broken, &demand, second);
                truth.changed = second == 0 || Broken::changes(events, second.saturating_sub(ROUND_S), second);
            }
            let stopped = broken.no_orchestrator && !policy.knows_all();
            if dead && !stopped {
                decide.restart(&world);
            }
            dead = stopped;
            evidence.frames = frames(&world, &broken, seed, second);
            let round = Round { world: &world, evidence: &evidence, truth: &truth, bills: &bills };
            let told = if stopped { Vec::new() } else { decide.round(&round) };
            for (r, mut manifest) in told {
                let of = Shares::of(&manifest, &world, &world.regions[r], 0.0);
                meter.publish(second, r, published[r].as_ref(), &manifest, &of);
                match shares.get_mut(r) {
                    Some(old) => *old = of,
                    None => shares.push(of),
                }
                // Epochs tell players whether to ask `rank()` again.
                manifest.epoch = second + 1;
                published[r] = Some(manifest);
            }
            meter.published(second, &shares);
            evidence = Evidence::new(&world, second + ROUND_S, ROUND_S);
        }
        let manifests: Vec<&Manifest> = published.iter().flatten().collect();
        let stage = stage.get_or_insert_with(|| Stage::new(&world, policy, seed, traces));
        stage.fill(&demand, second, &manifests, &broken, &mut evidence);
        if let Some(fault) = fault.filter(|fault| fault.start_s == second) {
            mark(&world, stage, fault, &mut affected, meter.out());
        }
        let moment = stage::Moment { second, broken: &broken, delivery: &delivery, load: &load, manifests: &manifests };
        let done = stage.second(&moment, &mut evidence);
        for (number, path, by) in &done.requests {
            note(&world, fault, &mut affected, *number, *path, *by, second);
        }
        done.ended.iter().for_each(|number| {
            if let Some(view) = affected.get_mut(number) {
                view.ended = true;
            }
        });
        let served: Vec<f64> = stage.here.iter().map(|views| *views as f64).collect();
        delivery.caches(&world, &broken, &served, 1.0);
        for (p, bits) in done.bits.iter().enumerate() {
            recent[p].push_back(*bits);
            if recent[p].len() > MEAN_S {
                recent[p].pop_front();
            }
            load[p] = recent[p].iter().sum::<f64>() / recent[p].len() as f64;
            delivery.bits_out[p] = load[p];
        }
        let flow = flow(&world, &broken, &done, &delivery, &load);
        meter.step(second, 1, &flow, |_| 0.0, &broken);
        if bills_are_due(second, 1) {
            bills = meter.bills(demand.profile(second + 1));
        }
        if (second + 1).is_multiple_of(PROBE_S) {
            probe(&world, &broken, &delivery, &mut evidence, (seed, second));
        }
        if second % ROUND_S == ROUND_S - 1 {
            stage.gauges(&demand, second, &broken, &mut evidence);
            evidence.origin_bits = delivery.origin_bits;
            evidence.origin_up = delivery.origin_fails < 0.2;
            report(&world, &broken, &delivery, &served, &mut evidence);
        }
    }
    let started = stage.map_or(0, |stage| stage.started);
    finish(meter, &affected, started)
}

fn frames(world: &World, broken: &Broken, seed: u64, second: u64) -> Vec<bool> {
    (0..world.regions.len()).map(|r| unit(&[seed, second, r as u64, 17]) >= broken.frames_lost[r]).collect()
}

/// Windows of a second as view-seconds.
fn flow(world: &World, broken: &Broken, done: &stage::Done, delivery: &Delivery, load: &[f64]) -> Flow {
    let window_s = world.players.heartbeat_s as f64;
    let part = |count: &[u64], i: usize| count[i] as f64 / (done.windows[i].max(1)) as f64;
    Flow {
        views: done.windows.iter().map(|count| *count as f64 * window_s).collect(),
        bad: (0..world.cells()).map(|i| part(&done.bad, i)).collect(),
        excess: (0..world.cells()).map(|i| part(&done.excess, i)).collect(),
        blameless: broken.blameless.clone(),
        load: load.to_vec(),
        capacity: world.paths.iter().zip(&broken.capacity).map(|(path, part)| path.claimed * part).collect(),
        origin: delivery.origin_bits,
        bitrate_share: done.bitrate_share,
    }
}

fn hits(world: &World, fault: &Fault, cohort: usize, path: usize) -> bool {
    in_cohort(world, fault, cohort) && of_path(world, fault, path)
}

fn mark(world: &World, stage: &Stage<'_>, fault: &Fault, affected: &mut BTreeMap<u64, Affected>, out: &mut Outcome) {
    for view in stage.players().filter(|view| hits(world, fault, view.cohort, view.path)) {
        if view.luck(stage::HIT, 0) < fault.share || fault.kind != crate::FaultKind::Outage {
            out.ttl_s = out.ttl_s.max(view.ttl_s);
            affected.insert(view.number, Affected { follows: view.kind.is_some(), ..Affected::default() });
        }
    }
}

/// A request elsewhere is a leave until one to the broken pathway follows it, as long as the fault lasts.
fn note(
    world: &World,
    fault: Option<&Fault>,
    affected: &mut BTreeMap<u64, Affected>,
    number: u64,
    path: usize,
    by: MovedBy,
    second: u64,
) {
    let Some(fault) = fault.filter(|fault| (fault.start_s..fault.end_s).contains(&second)) else { return };
    let Some(view) = affected.get_mut(&number) else { return };
    if of_path(world, fault, path) {
        view.left_s = None;
    } else if view.left_s.is_none() {
        view.left_s = Some((second - fault.start_s) as f64);
        view.by_steering = by == MovedBy::Steering;
    }
}

fn finish(mut meter: Meter<'_>, affected: &BTreeMap<u64, Affected>, started: u64) -> Outcome {
    let counted: Vec<&Affected> = affected.values().filter(|view| view.left_s.is_some() || !view.ended).collect();
    let steerable: Vec<&&Affected> = counted.iter().filter(|view| view.follows).collect();
    let mut left: Vec<f64> = steerable.iter().filter_map(|view| view.left_s).collect();
    left.sort_unstable_by(f64::total_cmp);
    let count = |wanted: &dyn Fn(&Affected) -> bool| counted.iter().filter(|view| wanted(view)).count() as u64;
    let out = meter.out();
    out.views_started = started;
    out.views_affected = counted.len() as u64;
    out.left_by_steering = count(&|view| view.left_s.is_some() && view.by_steering);
    out.left_by_player = count(&|view| view.left_s.is_some() && !view.by_steering);
    out.stayed = count(&|view| view.left_s.is_none() && view.follows);
    out.stayed_ignoring = count(&|view| view.left_s.is_none() && !view.follows);
    out.leave_s_p50 = percentile(&left, left.len(), 0.5);
    out.leave_s_p95 = percentile(&left, steerable.len(), 0.95);
    meter.finish()
}

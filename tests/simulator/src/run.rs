//! Seconds, rounds and publishing.

use std::collections::{BTreeMap, VecDeque};

use spillway_model::{BitsPerSecond, Mode, PathwayId, PathwayState, RegionId, TimestampMs};
use spillway_orchestrator_core::{Engine, LoadEvidence, OriginSeen, RoundInput, RoundOutput, same_routing};
use spillway_routing::{Manifest, Target, hash_pair};

use crate::deployment::{pathway_id, region_id, setup};
use crate::evidence::{Tally, probes};
use crate::outcome::percentile;
use crate::random::Random;
use crate::session::{Moment, MovedBy, View};
use crate::{Comparison, Outcome, Scenario, StateChange, WeightChange};

/// Seconds between rounds, as in production.
const ROUND_S: u64 = 2;
/// Seconds between probes, as in production.
const PROBE_S: u64 = 5;
/// At the beginning the whole audience is there at once and nothing has been measured: peaks count from here on.
const SETTLED_S: u64 = 30;
/// When simulated time begins, s since the epoch; any number would do.
const BEGIN_S: u64 = 1_700_000_000;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The engine.
    Spillway,
    /// Static weights; players are alone with a fault.
    Static,
}

impl Policy {
    /// Word for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spillway => "spillway",
            Self::Static => "static",
        }
    }
}

/// Plays a scenario. The same arguments give the same outcome.
#[must_use]
pub fn run(scenario: &Scenario, policy: Policy, seed: u64) -> Outcome {
    let mut play = Play::new(scenario, policy, seed);
    for second in 0..scenario.seconds {
        play.second(second);
    }
    play.finish()
}

/// Plays a scenario with the engine and with static weights on the same seed.
#[must_use]
pub fn compare(scenario: &Scenario, seed: u64) -> Comparison {
    Comparison { spillway: run(scenario, Policy::Spillway, seed), r#static: run(scenario, Policy::Static, seed) }
}

struct Play<'a> {
    scenario: &'a Scenario,
    engine: Engine,
    random: Random,
    published: BTreeMap<RegionId, Manifest>,
    views: Vec<View>,
    affected: BTreeMap<String, Affected>,
    pending: RoundInput,
    out: Outcome,
    windows: u64,
    bad_windows: u64,
    heartbeat_s: u64,
    bits: BTreeMap<PathwayId, (VecDeque<u64>, u64)>,
    next_view: u64,
}

/// A view that was on the pathway when it broke.
#[derive(Clone, Debug, Default)]
struct Affected {
    follows: bool,
    left_s: Option<u64>,
    by_steering: bool,
    ended: bool,
}

fn timestamp(second: u64) -> TimestampMs {
    TimestampMs((BEGIN_S + second) * 1000)
}

fn luck_of(seed: u64, second: u64, view: &str, purpose: &str) -> Random {
    Random::new(seed ^ (second << 32) ^ u64::from(hash_pair(view, purpose)))
}

fn moment<'m>(scenario: &'m Scenario, second: u64, manifest: &'m Manifest) -> Moment<'m> {
    Moment { second, at: timestamp(second), manifest, players: &scenario.players, bitrate_kbps: scenario.bitrate_kbps }
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, policy: Policy, seed: u64) -> Self {
        let mode = if policy == Policy::Spillway { Mode::Control } else { Mode::Observe };
        let mut play = Self {
            scenario,
            engine: Engine::new(setup(scenario, mode)),
            random: Random::new(seed),
            published: BTreeMap::new(),
            views: Vec::new(),
            affected: BTreeMap::new(),
            pending: RoundInput::default(),
            out: Outcome {
                scenario: scenario.name.clone(),
                policy: policy.as_str().into(),
                seed,
                ..Outcome::default()
            },
            windows: 0,
            bad_windows: 0,
            heartbeat_s: scenario.players.heartbeat_s,
            bits: BTreeMap::new(),
            next_view: 0,
        };
        play.round(0);
        for region in &scenario.region {
            for _ in 0..region.views {
                play.arrive(0, region);
            }
        }
        play
    }

    fn arrive(&mut self, second: u64, region: &crate::Region) {
        let id = format!("view-{}-{}", self.out.seed, self.next_view);
        self.next_view += 1;
        let asn = region.networks.get(self.random.below(region.networks.len() as u64) as usize).copied();
        let ends_s = second + 1 + self.random.exponential(self.scenario.view_s) as u64;
        let region = region_id(&region.id);
        let moment = moment(self.scenario, second, &self.published[&region]);
        let view = View::start(id, (region.clone(), asn), ends_s, moment, &mut self.random);
        self.views.push(view);
        self.out.views_started += 1;
    }

    /// Share of requests to `pathway` that a fault hits in `region`.
    fn fault(scenario: &Scenario, second: u64, pathway: &PathwayId, region: &RegionId) -> f64 {
        scenario
            .fault
            .iter()
            .filter(|fault| (fault.start_s..fault.end_s).contains(&second))
            .filter(|fault| fault.pathway == pathway.as_str())
            .filter(|fault| fault.region.as_deref().is_none_or(|id| id == region.as_str()))
            .map(|fault| fault.share)
            .fold(0.0, f64::max)
    }

    fn second(&mut self, second: u64) {
        self.mark_affected(second);
        self.replace_the_gone(second);
        let scenario = self.scenario;
        let mut tally = Tally::default();
        let mut views = std::mem::take(&mut self.views);
        let mut sent: BTreeMap<PathwayId, u64> = BTreeMap::new();
        for view in &mut views {
            let region = view.region.clone();
            // Each view and second has numbers of its own, so that both policies have the same luck.
            let mut luck = luck_of(self.out.seed, second, &view.id, "request");
            let mut fails = |pathway: &PathwayId| {
                let broken = Self::fault(scenario, second, pathway, &region);
                luck.chance(broken) || luck.chance(scenario.players.usual_failures)
            };
            let moment = moment(scenario, second, &self.published[&region]);
            let mut windows = luck_of(self.out.seed, second, &view.id, "window");
            let result = view.second(moment, &mut fails, &mut windows, &mut tally);
            if let Some(bad) = result.window {
                self.windows += 1;
                self.bad_windows += u64::from(bad);
            }
            if let Some(pathway) = &result.requested {
                *sent.entry(pathway.clone()).or_default() += result.bits;
                note_request(&mut self.affected, scenario, second, view, pathway);
            }
        }
        self.views = views;
        self.measure_load(second, &sent);
        self.report(second, tally);
        if second % ROUND_S == 1 {
            self.load_reports(second);
            self.round(second + 1);
        }
    }

    fn mark_affected(&mut self, second: u64) {
        let Some(fault) = self.scenario.fault.first().filter(|fault| fault.start_s == second) else { return };
        for view in &self.views {
            let here = fault.region.as_deref().is_none_or(|id| id == view.region.as_str());
            if here && view.pathway.as_str() == fault.pathway {
                let affected = Affected { follows: view.follows(), ..Affected::default() };
                self.affected.insert(view.id.clone(), affected);
                self.out.ttl_s = self.out.ttl_s.max(view.ttl_s);
            }
        }
    }

    fn replace_the_gone(&mut self, second: u64) {
        let mut gone: BTreeMap<RegionId, u64> = BTreeMap::new();
        let affected = &mut self.affected;
        self.views.retain(|view| {
            if second < view.ends_s {
                return true;
            }
            *gone.entry(view.region.clone()).or_default() += 1;
            if let Some(affected) = affected.get_mut(&view.id) {
                affected.ended = true;
            }
            false
        });
        let scenario = self.scenario;
        for region in &scenario.region {
            let surges = scenario.surge.iter().filter(|surge| surge.region == region.id);
            let more: u64 = surges.map(|surge| surge.arrivals(second)).sum();
            for _ in 0..gone.get(region.id.as_str()).copied().unwrap_or(0) + more {
                self.arrive(second, region);
            }
        }
    }

    fn measure_load(&mut self, second: u64, sent: &BTreeMap<PathwayId, u64>) {
        for pathway in &self.scenario.pathway {
            let id = pathway_id(&pathway.id);
            let bits = sent.get(&id).copied().unwrap_or(0);
            let (recent, total) = self.bits.entry(id).or_default();
            *total += bits;
            recent.push_back(bits);
            if recent.len() > 10 {
                recent.pop_front();
            }
            let mean = recent.iter().sum::<u64>() as f64 / 10.0;
            let utilisation = mean / (pathway.capacity_mbps * 1e6);
            let peak = self.out.peak_utilisation.entry(pathway.id.clone()).or_default();
            if second >= SETTLED_S {
                *peak = peak.max(utilisation);
            }
        }
    }

    fn report(&mut self, second: u64, tally: Tally) {
        let at = timestamp(second + 1);
        self.pending.cells.extend(tally.frame(at));
        self.pending.frames_expected += 1;
        self.pending.frames_received += 1;
        if (second + 1).is_multiple_of(PROBE_S) {
            for (region, manifest) in &self.published {
                for pathway in manifest.pathways.keys() {
                    let ok = Self::fault(self.scenario, second, pathway, region) < 0.5;
                    self.pending.probes.extend(probes(region, pathway, at, ok));
                }
            }
        }
    }

    /// Own edges report before each round.
    fn load_reports(&mut self, second: u64) {
        for pathway in self.scenario.pathway.iter().filter(|pathway| pathway.id.starts_with("own-")) {
            let id = pathway_id(&pathway.id);
            let viewers = self.views.iter().filter(|view| view.pathway == id).count() as u64;
            let bits_out = self.bits.get(&id).map_or(0, |(recent, _)| recent.iter().sum::<u64>() / 10);
            self.pending.loads.push(LoadEvidence {
                pathway: id,
                at: timestamp(second + 1),
                ceiling: BitsPerSecond((pathway.capacity_mbps * 1e6) as u64),
                bits_out_10s: BitsPerSecond(bits_out),
                viewers,
                bits_per_viewer: BitsPerSecond(bits_out / viewers.max(1)),
                hit_ratio: None,
                origin: OriginSeen::Up,
                draining: false,
            });
        }
    }

    fn round(&mut self, second: u64) {
        let input = std::mem::take(&mut self.pending);
        let output = self.engine.round(timestamp(second), &input);
        self.publish(second, output);
    }

    fn publish(&mut self, second: u64, output: RoundOutput) {
        for (region, plan) in output.regions {
            let mut manifest = plan.manifest;
            let last = self.published.get(&region);
            if last.is_some_and(|last| same_routing(last, &manifest)) {
                continue;
            }
            manifest.epoch = last.map_or(1, |last| last.epoch + 1);
            self.out.epochs += 1;
            self.note_states(second, &region, self.published.get(&region).cloned().as_ref(), &manifest);
            self.note_weight(second, &region, &manifest);
            self.published.insert(region, manifest);
        }
    }

    fn note_states(&mut self, second: u64, region: &RegionId, last: Option<&Manifest>, next: &Manifest) {
        for (id, pathway) in &next.pathways {
            let before = last.and_then(|last| last.pathways.get(id)).map_or(PathwayState::Healthy, |p| p.state);
            if before == pathway.state {
                continue;
            }
            let first = self.scenario.fault.first();
            let detected = pathway.state == PathwayState::Down
                && first.is_some_and(|fault| {
                    fault.pathway == id.as_str()
                        && second >= fault.start_s
                        && fault.region.as_deref().is_none_or(|at| at == region.as_str())
                });
            if let Some(fault) = first.filter(|_| detected && self.out.detect_s.is_none()) {
                self.out.detect_s = Some(second - fault.start_s);
            }
            self.out.state_changes.push(StateChange {
                at_s: second,
                region: region.to_string(),
                pathway: id.to_string(),
                state: pathway.state.to_string(),
                reason: pathway.reason.clone(),
            });
        }
    }

    fn note_weight(&mut self, second: u64, region: &RegionId, next: &Manifest) {
        let Some(fault) = self.scenario.fault.first() else { return };
        let wanted = fault.region.as_deref().or(self.scenario.region.first().map(|first| first.id.as_str()));
        if wanted != Some(region.as_str()) {
            return;
        }
        let target = Target::Pathway(pathway_id(&fault.pathway));
        let weight_ppm = next.cohorts.first().and_then(|rule| rule.weights_new.get(&target)).copied().unwrap_or(0);
        if self.out.faulty_weight.last().is_none_or(|last| last.weight_ppm != weight_ppm) {
            self.out.faulty_weight.push(WeightChange { at_s: second, weight_ppm });
        }
    }

    fn finish(mut self) -> Outcome {
        let counted: Vec<&Affected> =
            self.affected.values().filter(|view| view.left_s.is_some() || !view.ended).collect();
        let steerable: Vec<&&Affected> = counted.iter().filter(|view| view.follows).collect();
        let mut left: Vec<u64> = steerable.iter().filter_map(|view| view.left_s).collect();
        left.sort_unstable();
        let count = |wanted: &dyn Fn(&Affected) -> bool| counted.iter().filter(|view| wanted(view)).count() as u64;
        self.out.views_affected = counted.len() as u64;
        self.out.left_by_steering = count(&|view| view.left_s.is_some() && view.by_steering);
        self.out.left_by_player = count(&|view| view.left_s.is_some() && !view.by_steering);
        self.out.stayed = count(&|view| view.left_s.is_none() && view.follows);
        self.out.stayed_ignoring = count(&|view| view.left_s.is_none() && !view.follows);
        self.out.leave_s_p50 = percentile(&left, left.len(), 0.5);
        self.out.leave_s_p95 = percentile(&left, steerable.len(), 0.95);
        self.out.harmed_view_minutes = (self.bad_windows * self.heartbeat_s) as f64 / 60.0;
        self.out.good_share = 1.0 - self.bad_windows as f64 / self.windows.max(1) as f64;
        self.out.cost_usd = self
            .scenario
            .pathway
            .iter()
            .map(|pathway| {
                let bits = self.bits.get(pathway.id.as_str()).map_or(0, |(_, total)| *total);
                bits as f64 / 8e9 * pathway.price_usd_per_gb
            })
            .sum();
        self.out
    }
}

/// A request elsewhere is a leave until one to the broken pathway follows it, as long as the fault lasts.
fn note_request(
    affected: &mut BTreeMap<String, Affected>,
    scenario: &Scenario,
    second: u64,
    view: &View,
    pathway: &PathwayId,
) {
    let Some(fault) = scenario.fault.first().filter(|fault| (fault.start_s..fault.end_s).contains(&second)) else {
        return;
    };
    let Some(affected) = affected.get_mut(&view.id) else { return };
    if pathway.as_str() == fault.pathway {
        affected.left_s = None;
    } else if affected.left_s.is_none() {
        affected.left_s = Some(second - fault.start_s);
        affected.by_steering = view.moved_by == MovedBy::Steering;
    }
}

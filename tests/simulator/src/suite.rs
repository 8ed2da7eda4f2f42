//! Many runs side by side: which ones, and what they come to per scenario and policy.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::estimate::Estimate;
use crate::policies::{Part, Policy};
use crate::{Mode, Outcome, Scenario, ScenarioError, Traces, play};

macro_rules! files {
    ($dir:literal: $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../scenarios/", $dir, "/", $name, ".toml")))),+]
    };
}

/// Worlds that several scenarios share.
const WORLDS: &[(&str, &str)] = files!("worlds": "six-regions", "month", "validation-four-regions", "validation-thin");
const CORE: &[(&str, &str)] = files!("core":
    "s01-outage", "s02-brownout", "s03-flash-crowd", "s04-cluster-loss", "s05-origin", "s06-telemetry-loss",
    "s07-isp-cdn", "s08-isp", "s09-drift", "s10-flapping", "s11-cold-cache", "s12-capacity-lie",
    "s13-orchestrator-death", "s14-forged", "s15-month", "s16-two-at-once", "s17-steering-loss", "s18-quiet",
    "s19-global-outage", "s20-silent-outage", "s21-large-cdn-loss", "s22-one-title", "s23-overload",
    "s24-cold-failover", "s25-licence", "s26-bot-flood", "s27-industry",
    "d1-hard-50", "d2-half-10", "d3-half-200", "d4-brownout-50",
);
const VALIDATION: &[(&str, &str)] = files!("validation": "v1-outage", "v2-brownout", "v3-quiet", "v4-crowd");

/// Policies that are played in session mode.
const SESSION: [Policy; 5] = [Policy::Static, Policy::Geo, Policy::PlayerOnly, Policy::Spillway, Policy::Oracle];
/// Scenarios in which the engine is also played without its guards.
const UNGUARDED: [&str; 3] = ["S19", "S20", "S21"];
/// Seeds that a 95th percentile of detection needs at least.
const DETECTION_SEEDS: u64 = 20;

/// The text of a world that comes with the program.
///
/// # Errors
/// Names the worlds that there are.
pub fn world(name: &str) -> Result<String, String> {
    let found = WORLDS.iter().find(|(known, _)| *known == name);
    let known: Vec<&str> = WORLDS.iter().map(|(known, _)| *known).collect();
    found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| format!("known worlds: {}", known.join(", ")))
}

/// Scenarios that are judged together.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Its scenarios.
    pub scenarios: Vec<Scenario>,
}

/// What of a suite is played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// Seeds 1 to this.
    pub seeds: u64,
    /// Only this policy, beside the oracle that it is measured against.
    pub policy: Option<Policy>,
    /// Also the engine without each of its parts.
    pub ablations: bool,
}

/// One run of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Job {
    /// Index of the scenario.
    pub scenario: usize,
    /// Mode.
    pub mode: Mode,
    /// Policy.
    pub policy: Policy,
    /// Seed.
    pub seed: u64,
}

/// One scenario × mode × policy over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Scenario.
    pub scenario: String,
    /// Policy.
    pub policy: String,
    /// Mode.
    pub mode: String,
    /// How many seeds.
    pub seeds: usize,
    /// Bad windows ÷ windows.
    pub bad_share: Estimate,
    /// Minutes of views in bad windows.
    pub harmed_view_minutes: Estimate,
    /// Of them, those that any day would not have had.
    pub excess_view_minutes: Estimate,
    /// Bad share above the oracle's at the same poll interval, points.
    pub regret: Option<Estimate>,
    /// Bits above ceilings ÷ bits.
    pub overload_share: Estimate,
    /// Cost ÷ the oracle's.
    pub cost_ratio: Option<Estimate>,
    /// Cost ÷ that of the cheapest plan that keeps the engine's own rules (worlds with contracts).
    pub cost_ratio_within_rules: Option<Estimate>,
    /// Pathway states that changed (engine only).
    pub state_changes: Option<Estimate>,
    /// Fault → manifest that leaves it, 95th percentile over seeds, s; absent if it never was.
    pub detect_s_p95: Option<Estimate>,
    /// Fault → 95 % of the steerable views have left, 95th percentile over seeds, s; absent if they never had.
    pub leave_s_p95: Option<Estimate>,
    /// Shares moved ÷ least needed.
    pub oscillation: Option<Estimate>,
    /// Highest bits from the origin ÷ before.
    pub origin_peak: Estimate,
    /// Bits delivered ÷ wanted.
    pub bitrate_share: Estimate,
    /// Headline: bad % + 0.1 × overload % + cost ÷ the oracle's − 1.
    pub j: Option<Estimate>,
}

impl Suite {
    /// A suite that comes with the program.
    ///
    /// # Errors
    /// A name that isn't one, with those that are.
    pub fn named(name: &str) -> Result<Self, ScenarioError> {
        let files = match name {
            "core" => CORE,
            "validation" => VALIDATION,
            _ => return Err(crate::format::invalid("suite", name, "core, validation")),
        };
        let scenarios = files.iter().map(|(_, text)| Scenario::parse(text, &world)).collect::<Result<_, _>>()?;
        Ok(Self { name: name.into(), scenarios })
    }

    /// One scenario as a suite.
    #[must_use]
    pub fn of(scenario: Scenario) -> Self {
        Self { name: scenario.events.name.clone(), scenarios: vec![scenario] }
    }

    /// All runs, in order. They don't depend on each other.
    #[must_use]
    pub fn jobs(&self, plan: &Plan) -> Vec<Job> {
        let mut out = Vec::new();
        for (index, scenario) in self.scenarios.iter().enumerate() {
            let name = scenario.events.name.as_str();
            // Detection is measured of the engine alone, in small worlds and over many seeds.
            let detection = name.starts_with('D');
            for mode in &scenario.events.modes {
                let policies = policies(name, *mode, plan, detection);
                let seeds = if detection { plan.seeds.max(DETECTION_SEEDS) } else { plan.seeds };
                for policy in policies {
                    out.extend((1..=seeds).map(|seed| Job { scenario: index, mode: *mode, policy, seed }));
                }
            }
        }
        out
    }

    /// Plays one run.
    #[must_use]
    pub fn run(&self, job: &Job, traces: &Traces) -> Outcome {
        play(&self.scenarios[job.scenario], job.policy, job.mode, job.seed, traces)
    }

    /// A line per scenario, mode and policy, in the order of the jobs.
    #[must_use]
    pub fn lines(&self, runs: &BTreeMap<Job, Outcome>) -> Vec<Line> {
        let mut out = Vec::new();
        let mut cells: Vec<(usize, Mode, Policy)> =
            runs.keys().map(|job| (job.scenario, job.mode, job.policy)).collect();
        cells.dedup();
        for (scenario, mode, policy) in cells {
            out.push(self.line(runs, scenario, mode, policy));
        }
        out
    }

    fn line(&self, runs: &BTreeMap<Job, Outcome>, scenario: usize, mode: Mode, policy: Policy) -> Line {
        let of = |policy: Policy| -> Vec<&Outcome> {
            let same = |job: &&Job| job.scenario == scenario && job.mode == mode && job.policy == policy;
            runs.iter().filter(|(job, _)| same(job)).map(|(_, outcome)| outcome).collect()
        };
        let own = of(policy);
        let oracle = of(Policy::Oracle);
        let median = |f: &dyn Fn(&Outcome) -> f64| Estimate::median(&own.iter().map(|run| f(run)).collect::<Vec<_>>());
        let paired = |f: &dyn Fn(&Outcome, &Outcome) -> f64| {
            let values: Vec<f64> = own.iter().zip(&oracle).map(|(run, oracle)| f(run, oracle)).collect();
            (oracle.len() == own.len()).then(|| Estimate::median(&values))
        };
        let late =
            |f: &dyn Fn(&Outcome) -> Option<f64>| Estimate::p95(&own.iter().map(|run| f(run)).collect::<Vec<_>>());
        Line {
            scenario: self.scenarios[scenario].events.name.clone(),
            policy: policy.as_str().into(),
            mode: mode.as_str().into(),
            seeds: own.len(),
            bad_share: median(&|run| run.bad_share),
            harmed_view_minutes: median(&|run| run.harmed_view_minutes),
            excess_view_minutes: median(&|run| run.excess_view_minutes),
            regret: paired(&|run, oracle| 100.0 * (run.bad_share - oracle.bad_share)),
            overload_share: median(&|run| run.overload_share),
            cost_ratio: paired(&|run, oracle| run.cost_usd / oracle.cost_usd.max(1e-9)),
            cost_ratio_within_rules: oracle
                .iter()
                .all(|run| run.within_rules_usd.is_some())
                .then(|| paired(&|run, oracle| run.cost_usd / oracle.within_rules_usd.unwrap_or(f64::NAN)))
                .flatten(),
            state_changes: policy.is_engine().then(|| median(&|run| run.state_changes.len() as f64)),
            detect_s_p95: late(&|run| run.detect_s),
            leave_s_p95: late(&|run| run.leave_s_p95),
            oscillation: paired(&|run, oracle| run.moved / least_moved(&self.scenarios[scenario], oracle)),
            origin_peak: median(&|run| run.origin_peak),
            bitrate_share: median(&|run| run.bitrate_share),
            j: paired(&headline),
        }
    }
}

/// J of a run beside the oracle's.
pub(crate) fn headline(run: &Outcome, oracle: &Outcome) -> f64 {
    100.0 * run.bad_share + 10.0 * run.overload_share + run.cost_usd / oracle.cost_usd.max(1e-9) - 1.0
}

fn policies(name: &str, mode: Mode, plan: &Plan, detection: bool) -> Vec<Policy> {
    if detection {
        return vec![plan.policy.unwrap_or(Policy::Spillway)];
    }
    let mut out: Vec<Policy> = match (plan.policy, mode) {
        (Some(policy), _) => vec![policy, Policy::Oracle],
        (None, Mode::Session) => SESSION.to_vec(),
        (None, Mode::Fluid) => Policy::ALL.to_vec(),
    };
    if mode == Mode::Fluid && plan.ablations {
        out.extend(Part::ALL.map(Policy::Without));
    } else if mode == Mode::Fluid && plan.policy.is_none() && UNGUARDED.contains(&name) {
        out.push(Policy::Without(Part::Guards));
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// The least that must be moved: from what the oracle has before anything happens to what it has in the middle of it,
/// and to what it has at the end. Below 5 % of the views nothing is called an oscillation.
fn least_moved(scenario: &Scenario, oracle: &Outcome) -> f64 {
    let events = &scenario.events;
    let spans =
        events.fault.iter().map(|f| (f.start_s, f.end_s)).chain(events.surge.iter().map(|s| (s.start_s, s.end_s)));
    let (start, end) = spans.fold((u64::MAX, 0), |(a, b), (start, end)| (a.min(start), b.max(end)));
    let at = |second: u64| oracle.timeline.samples.iter().rev().find(|sample| sample.at_s <= second);
    let samples = [at(start.min(events.seconds)), at(start.min(events.seconds) / 2 + end / 2), at(events.seconds)];
    let [Some(before), Some(during), Some(after)] = samples else { return 0.05 };
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0;
    (distance(&before.shares, &during.shares) + distance(&during.shares, &after.shares)).max(0.05)
}

//! What was promised, and whether it is so; and whether the world is hard enough to show it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::policies::{Part, Policy};
use crate::suite::{Job, Line, Suite, headline};
use crate::{Mode, Outcome};

/// One promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Its name; validity gates begin with `gate_`.
    pub name: String,
    /// What is promised.
    pub target: String,
    /// What was measured; absent if it was not.
    pub value: Option<f64>,
    /// Whether it holds.
    pub ok: bool,
    /// Where it is worst, or where it fails.
    pub detail: String,
}

impl Verdict {
    fn at_most(name: &str, target: &str, most: f64, worst: Option<(f64, String)>) -> Self {
        let (value, detail) = worst.map_or((None, "not measured".into()), |(value, detail)| (Some(value), detail));
        let ok = value.is_some_and(|value| value <= most);
        Self { name: name.into(), target: target.into(), value, ok, detail }
    }

    fn at_least(name: &str, target: &str, least: f64, worst: Option<(f64, String)>) -> Self {
        let turned = worst.map(|(value, detail)| (-value, detail));
        let out = Self::at_most(name, target, -least, turned);
        Self { value: out.value.map(|value| -value), ..out }
    }
}

/// Runs by scenario name.
struct Table<'a> {
    suite: &'a Suite,
    runs: &'a BTreeMap<Job, Outcome>,
    lines: &'a [Line],
}

/// All verdicts of a suite, the gates last; of other suites than `core` those that could be measured.
#[must_use]
pub fn verdicts(suite: &Suite, runs: &BTreeMap<Job, Outcome>, lines: &[Line]) -> Vec<Verdict> {
    let table = Table { suite, runs, lines };
    let mut out = vec![
        table.regret(),
        table.false_moves(),
        table.crowd(),
        table.oscillation(),
        table.evacuation(),
        table.hot_title(),
        table.origin_peak(),
        table.forged(),
        table.harm(),
    ];
    out.extend(table.detection());
    out.push(table.cost());
    out.push(table.beats_baselines());
    out.extend(table.gates());
    out.retain(|verdict| verdict.value.is_some() || suite.name == "core");
    out
}

fn worst(values: impl Iterator<Item = (f64, String)>) -> Option<(f64, String)> {
    values.max_by(|a, b| a.0.total_cmp(&b.0))
}

impl Table<'_> {
    fn line(&self, scenario: &str, policy: Policy, mode: Mode) -> Option<&Line> {
        self.lines
            .iter()
            .find(|line| line.scenario == scenario && line.policy == policy.as_str() && line.mode == mode.as_str())
    }

    fn ours(&self, scenario: &str) -> Option<&Line> {
        self.line(scenario, Policy::Spillway, Mode::Fluid)
    }

    fn runs(&self, scenario: &str, policy: Policy, mode: Mode) -> Vec<&Outcome> {
        let name = |job: &Job| self.suite.scenarios[job.scenario].events.name.as_str();
        let wanted = |job: &Job| job.policy == policy && job.mode == mode && name(job) == scenario;
        self.runs.iter().filter(|(job, _)| wanted(job)).map(|(_, run)| run).collect()
    }

    fn regret(&self) -> Verdict {
        let names = (1..=12).map(|k| format!("S{k}")).chain(["V1", "V2", "V4"].map(str::to_owned));
        let values = names.filter_map(|name| Some((self.ours(&name)?.regret?.value, name)));
        Verdict::at_most(
            "regret",
            "≤ 0.3 points of bad windows above the oracle, S1–S12, V1, V2, V4",
            0.3,
            worst(values),
        )
    }

    /// The least share of seeds without any change of state, where nothing is any pathway's fault.
    fn false_moves(&self) -> Verdict {
        let quiet = |name: &str| {
            let runs = self.runs(name, Policy::Spillway, Mode::Fluid);
            let still = runs.iter().filter(|run| run.state_changes.is_empty()).count();
            (!runs.is_empty())
                .then(|| (still as f64 / runs.len() as f64, format!("{name}: {still} of {} seeds", runs.len())))
        };
        let values: Vec<(f64, String)> = ["S5", "S8", "S18", "S25", "V3"].into_iter().filter_map(quiet).collect();
        let least = values.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        Verdict::at_least("false_moves", "no state change in ≥ 95 % of seeds, S5, S8, S18, S25, V3", 0.95, least)
    }

    fn crowd(&self) -> Verdict {
        let name = if self.ours("S3").is_some() { "S3" } else { "V4" };
        let line = self.ours(name);
        let runs = self.runs(name, Policy::Spillway, Mode::Fluid);
        let false_path = runs.iter().map(|run| run.state_changes.len()).sum::<usize>();
        let value = line.map(|line| (100.0 * line.overload_share.value, format!("{false_path} state changes")));
        let mut out =
            Verdict::at_most("crowd", "< 0.5 % of bits above ceilings and no false PATH, S3 or V4", 0.5, value);
        out.ok &= false_path == 0;
        out
    }

    fn oscillation(&self) -> Verdict {
        let values = self.lines.iter().filter(|line| line.policy == "spillway" && line.mode == "fluid");
        let values = values.filter(|line| line.scenario != "S15" && !line.scenario.starts_with('D'));
        let values = values.filter_map(|line| Some((line.oscillation?.value, line.scenario.clone())));
        Verdict::at_most("oscillation", "≤ 2 × the least needed, all but the month", 2.0, worst(values))
    }

    fn evacuation(&self) -> Verdict {
        let slower = |name: &str| {
            let own = self.ours(name)?.leave_s_p95.map_or(f64::MAX, |time| time.value);
            let free = self.line(name, Policy::Without(Part::Guards), Mode::Fluid)?;
            let free = free.leave_s_p95.map_or(f64::MAX, |time| time.value);
            Some((own - free, name.to_owned()))
        };
        let values = ["S19", "S20", "S21"].into_iter().filter_map(slower);
        Verdict::at_most("evacuation", "guards never make leaving slower, S19–S21, s", 0.0, worst(values))
    }

    fn hot_title(&self) -> Verdict {
        let runs = self.runs("S22", Policy::Spillway, Mode::Fluid);
        let nodes = runs.iter().flat_map(|run| &run.peak_utilisation).filter(|(id, _)| id.starts_with("own-"));
        let values = nodes.map(|(id, peak)| (100.0 * peak, id.clone()));
        Verdict::at_most("hot_title", "no node above 100 %, S22", 100.0, worst(values))
    }

    fn origin_peak(&self) -> Verdict {
        let values =
            ["S1", "S24"].into_iter().filter_map(|name| Some((self.ours(name)?.origin_peak.value, name.into())));
        Verdict::at_most("origin_peak", "≤ 1.5 × before, S1 and S24", 1.5, worst(values))
    }

    /// How far any pathway's share of all views is from where it is without the lies: on the quiet day S18, which is the
    /// same world with the same luck.
    fn forged(&self) -> Verdict {
        let mut values = Vec::new();
        let quiet = self.runs("S18", Policy::Spillway, Mode::Fluid);
        for run in self.runs("S14", Policy::Spillway, Mode::Fluid) {
            let Some(honest) = quiet.iter().find(|honest| honest.seed == run.seed) else { continue };
            for (lied, sample) in run.timeline.samples.iter().zip(&honest.timeline.samples) {
                let far = lied.shares.iter().zip(&sample.shares).zip(&run.timeline.lines);
                values.extend(far.map(|((a, b), line)| (100.0 * (a - b).abs(), format!("{line} seed {}", run.seed))));
            }
        }
        Verdict::at_most("forged", "5 % of clients move ≤ 1 point of the views, S14", 1.0, worst(values.into_iter()))
    }

    /// Harm beyond any day's, in session mode.
    fn harm(&self) -> Verdict {
        let mut values = Vec::new();
        for name in ["S1", "S2", "S19"] {
            let own = self.line(name, Policy::Spillway, Mode::Session);
            for other in [Policy::PlayerOnly, Policy::Geo] {
                if let (Some(own), Some(other)) = (own, self.line(name, other, Mode::Session)) {
                    let times = other.excess_view_minutes.value / own.excess_view_minutes.value.max(0.1);
                    values.push((times, format!("{name} against {}", other.policy)));
                }
            }
        }
        let least = values.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        Verdict::at_least("harm", "≥ 10 × fewer harmed view-minutes than player-only and geo, S1, S2, S19", 10.0, least)
    }

    fn detection(&self) -> Vec<Verdict> {
        let verdict = |scenario: &str, what: &str, most: f64| {
            let line = self.lines.iter().find(|line| line.scenario == scenario);
            let value = line.map(|line| {
                let time = line.detect_s_p95.map_or(f64::MAX, |time| time.value);
                (time, format!("{} seeds{}", line.seeds, if time == f64::MAX { ", not always detected" } else { "" }))
            });
            let target = format!("{what}: ≤ {most} s p95");
            let name = format!("detection_{}", scenario.to_lowercase());
            Verdict::at_most(&name, &target, most, value)
        };
        vec![
            verdict("D1", "hard failure at 50 views", 5.0),
            verdict("D2", "50 % outage at 10 windows a tick", 30.0),
            verdict("D3", "50 % outage at 200 windows a tick", 10.0),
            verdict("D4", "8 % brownout at 50 windows a tick", 120.0),
        ]
    }

    fn cost(&self) -> Verdict {
        let value = self.ours("S15").and_then(|line| {
            let within = line.cost_ratio_within_rules;
            let within = within.map(|ratio| format!(", {:.2} × the cheapest plan that keeps our rules", ratio.value));
            Some((line.cost_ratio?.value, format!("S15{}", within.unwrap_or_default())))
        });
        Verdict::at_most("cost", "≤ 1.05 × the oracle's, S15", 1.05, value)
    }

    /// Pairs of a scenario with a fault or crowd and a baseline in which the engine's J is not lower.
    fn beats_baselines(&self) -> Verdict {
        let mut lost = Vec::new();
        let mut all = 0;
        let happens = |name: &str| {
            let named = |scenario: &&crate::Scenario| scenario.events.name == name;
            let events = self.suite.scenarios.iter().find(named).map(|scenario| &scenario.events);
            !name.starts_with('D') && events.is_some_and(|e| !e.fault.is_empty() || !e.surge.is_empty())
        };
        for line in self.lines.iter().filter(|line| line.mode == "fluid" && happens(&line.scenario)) {
            let policy = Policy::named(&line.policy);
            let baseline = policy.is_some_and(|p| !p.is_engine() && !p.knows_all());
            if let (true, Some(theirs), Some(ours)) = (baseline, line.j, self.ours(&line.scenario).and_then(|o| o.j)) {
                all += 1;
                if ours.value >= theirs.value {
                    lost.push(format!("{} {}", line.scenario, line.policy));
                }
            }
        }
        let detail = if lost.is_empty() { format!("of {all} pairs") } else { format!("not: {}", lost.join(", ")) };
        let value = (all > 0).then_some((lost.len() as f64, detail));
        Verdict::at_most("beats_baselines", "J below every baseline's where anything happens", 0.0, value)
    }

    fn gates(&self) -> Vec<Verdict> {
        let above =
            |policy: Policy, name: &str| Some((self.line(name, policy, Mode::Fluid)?.regret?.value, name.to_owned()));
        let least = |values: Vec<(f64, String)>| values.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let fixed = ["S1", "S2", "S3", "S4"].into_iter().filter_map(|name| above(Policy::Static, name)).collect();
        let alone = ["S2"].into_iter().filter_map(|name| above(Policy::PlayerOnly, name)).collect();
        let mut beaten = Vec::new();
        for (job, run) in self.runs.iter().filter(|(job, _)| !job.policy.knows_all()) {
            let oracle = Job { policy: Policy::Oracle, ..*job };
            if let Some(oracle) = self.runs.get(&oracle) {
                let margin = headline(run, oracle) - headline(oracle, oracle);
                let name = &self.suite.scenarios[job.scenario].events.name;
                beaten
                    .push((margin, format!("{name} {} {} seed {}", job.mode.as_str(), job.policy.as_str(), job.seed)));
            }
        }
        vec![
            Verdict::at_least("gate_static", "static loses ≥ 2 points to the oracle, S1–S4", 2.0, least(fixed)),
            Verdict::at_least(
                "gate_player_only",
                "player-only loses ≥ 0.5 points to the oracle, S2",
                0.5,
                least(alone),
            ),
            Verdict::at_least("gate_oracle", "no policy has a lower J than the oracle", -0.02, least(beaten)),
        ]
    }
}

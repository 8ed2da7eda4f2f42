//! What a replay says, as data (`spillway backtest --json`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spillway_orchestrator_core::{PathwaySetup, RegionSetup, Setup};

/// What such figures can't say. It stands in every report.
pub const LIMITS: [&str; 8] = [
    "The evidence was gathered under the policy of that time. It does not answer to the new weights: views that would have \
     been elsewhere, and what they would have met there, are not in it.",
    "Load is not simulated. A pathway that would have had more viewers might have been slower, and its ceiling might have \
     been learned lower.",
    "Caches are not simulated. Views that are moved meet cold caches and cost the origin misses; here they meet what the \
     views saw that were there.",
    "A pathway that nobody was on was not observed. Its rate is then what the engine believed of it; the coverage figure \
     says how much of the new policy's traffic rests on that.",
    "Players also leave a dead pathway by themselves, and some ignore steering. What they did was heard under the old \
     weights, and both estimates take everybody to follow the plan at the next poll, half a TTL later on average.",
    "Estimates go by the weights for everybody. Rules for single networks and content classes, tries of DOWN pathways and \
     the holdback are decided as usual and not in the figures.",
    "Costs are planned shares × the base's planned demand × the price of the next GB under each policy; no bill.",
    "Both policies start at the first round as an orchestrator does that was restarted then: they adopt what was in force \
     and know nothing else. Begin some minutes before what is of interest.",
];

/// The same of both policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Both<T> {
    /// Under the policy of that time.
    pub base: T,
    /// Under the new one.
    pub new: T,
}

/// Everything that a replay says.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// First replayed round, ms since epoch.
    pub first_ms: u64,
    /// Last one, ms since epoch.
    pub last_ms: u64,
    /// Replayed rounds.
    pub rounds: u64,
    /// Rounds that were decided and not recorded.
    pub rounds_missing: u64,
    /// Recorded rounds that could not be replayed: what was in force then is not known.
    pub rounds_skipped: u64,
    /// Starts of the orchestrator's process, the beginning of the replay among them.
    pub runs: u64,
    /// How far the base does what was really done.
    pub fidelity: Fidelity,
    /// What the new configuration changes.
    pub changed: Vec<Change>,
    /// Evidence that a configuration has no place for.
    pub left_out: Vec<LeftOut>,
    /// All regions.
    pub total: RegionReport,
    /// By region.
    pub regions: BTreeMap<String, RegionReport>,
    /// Planned load ÷ ceiling at its highest, by pathway; absent: not declared.
    pub planned_peak_utilisation: BTreeMap<String, Both<Option<f64>>>,
    /// Bad windows over time.
    pub timeline: Vec<Sample>,
}

/// How far the base does what was really done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Fidelity {
    /// Rounds compared.
    pub rounds: u64,
    /// Rounds after which every region routes as it really did.
    pub alike: u64,
    /// The latter ÷ the former.
    pub share: f64,
    /// Epochs that were really published.
    pub epochs_recorded: u64,
    /// Epochs that the base publishes.
    pub epochs_replayed: u64,
    /// Where they first part.
    pub first_difference: Option<Difference>,
}

/// A round after which the base routes differently from what was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which round, ms since epoch.
    pub at_ms: u64,
    /// Region.
    pub region: String,
    /// Weights and states of the base.
    pub replayed: String,
    /// What was really in force.
    pub recorded: String,
}

/// A number or declaration that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What.
    pub what: String,
    /// In the base.
    pub base: String,
    /// In the new configuration.
    pub new: String,
}

/// Evidence of a pathway in a region that a configuration doesn't have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// `base` or `new`: whose configuration doesn't have it.
    pub of: String,
    /// Part of all windows, 0 to 1.
    pub windows_share: f64,
}

/// One region, or all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegionReport {
    /// Windows heard, by weight.
    pub windows: f64,
    /// Bad ones among them, as they really were.
    pub bad_windows_observed: f64,
    /// Demand planned for, GB.
    pub planned_gb: f64,
    /// Under the policy of that time.
    pub base: PolicyFigures,
    /// Under the new one.
    pub new: PolicyFigures,
    /// By pathway; empty for all regions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pathways: BTreeMap<String, PathwayReport>,
}

/// One policy in one region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PolicyFigures {
    /// Epochs published.
    pub epochs: u64,
    /// Sum of shares moved by them; 1 is everybody once.
    pub shares_moved: f64,
    /// Bad windows, estimated.
    pub bad_windows: f64,
    /// Of all windows.
    pub bad_share: f64,
    /// Part of the windows on pathways of which hardly anything was observed at the time.
    pub hardly_observed_share: f64,
    /// Planned cost of the span.
    pub cost_usd: f64,
    /// The same per hour.
    pub cost_usd_per_hour: f64,
}

/// One pathway in one region; `None`: not declared there.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PathwayReport {
    /// Under the policy of that time.
    pub base: Option<PathwayFigures>,
    /// Under the new one.
    pub new: Option<PathwayFigures>,
    /// First DEGRADED under the new policy after that under the base; negative: earlier; `None`: not in both.
    pub degraded_later_s: Option<f64>,
    /// The same of DOWN.
    pub down_later_s: Option<f64>,
}

/// What a policy did with a pathway.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PathwayFigures {
    /// Planned share of new views, mean over time.
    pub mean_share: f64,
    /// First DEGRADED, ms since epoch.
    pub first_degraded_ms: Option<u64>,
    /// First DOWN, ms since epoch.
    pub first_down_ms: Option<u64>,
    /// Time DEGRADED.
    pub degraded_s: f64,
    /// Time DOWN.
    pub down_s: f64,
    /// State changes, the first 100.
    pub changes: Vec<StateChange>,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// When, ms since epoch.
    pub at_ms: u64,
    /// To which.
    pub state: String,
    /// Why, for people.
    pub reason: String,
}

/// Some rounds of the timeline, over all regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// End, ms since epoch.
    pub at_ms: u64,
    /// Rounds in it.
    pub rounds: u64,
    /// Windows.
    pub windows: f64,
    /// Bad ones as they really were.
    pub observed_bad: f64,
    /// Estimated under the policy of that time.
    pub base_bad: f64,
    /// Estimated under the new one.
    pub new_bad: f64,
}

impl Sample {
    /// With a round more.
    pub(super) fn add(&mut self, more: &Self) {
        self.at_ms = more.at_ms;
        self.rounds += more.rounds.max(1);
        self.windows += more.windows;
        self.observed_bad += more.observed_bad;
        self.base_bad += more.base_bad;
        self.new_bad += more.new_bad;
    }

    pub(super) fn sum(samples: &[Self]) -> Self {
        samples.iter().fold(Self::default(), |mut sum, sample| {
            sum.add(sample);
            sum
        })
    }
}

impl RegionReport {
    pub(super) fn add(&mut self, region: &Self) {
        self.windows += region.windows;
        self.bad_windows_observed += region.bad_windows_observed;
        self.planned_gb += region.planned_gb;
        self.base.add(&region.base, region.windows);
        self.new.add(&region.new, region.windows);
    }

    /// Brings sums to shares.
    pub(super) fn close(&mut self) {
        for figures in [&mut self.base, &mut self.new] {
            figures.bad_share = figures.bad_windows / self.windows.max(1e-9);
            figures.hardly_observed_share /= self.windows.max(1e-9);
        }
    }
}

impl PolicyFigures {
    fn add(&mut self, more: &Self, windows: f64) {
        self.epochs += more.epochs;
        self.shares_moved += more.shares_moved;
        self.bad_windows += more.bad_windows;
        self.hardly_observed_share += more.hardly_observed_share * windows;
        self.cost_usd += more.cost_usd;
        self.cost_usd_per_hour += more.cost_usd_per_hour;
    }
}

/// What `new` has that `base` hasn't, and the other way round.
pub(super) fn changed(base: &Setup, new: &Setup) -> Vec<Change> {
    let mut out = Vec::new();
    let mut note = |what: String, base: String, new: String| {
        if base != new {
            out.push(Change { what, base, new });
        }
    };
    for (before, after) in base.parameters.describe().into_iter().zip(new.parameters.describe()) {
        note(before.0.to_owned(), format!("{} {}", before.1, before.2), format!("{} {}", after.1, after.2));
    }
    let ids: BTreeSet<_> = base.pathways.keys().chain(new.pathways.keys()).collect();
    for id in ids {
        let parts = [base, new].map(|setup| setup.pathways.get(id).map(pathway_parts));
        compare(&format!("pathway {id}"), parts, &mut note);
    }
    let ids: BTreeSet<_> = base.regions.keys().chain(new.regions.keys()).collect();
    for id in ids {
        let parts = [base, new].map(|setup| setup.regions.get(id).map(region_parts));
        compare(&format!("region {id}"), parts, &mut note);
    }
    let rest = |setup: &Setup| {
        [
            ("ceilings", format!("{:?}", setup.shared)),
            ("spill_usd_per_hour_max", format!("{:?}", setup.spill_usd_per_hour_max)),
            ("class_order", format!("{:?}", setup.classes)),
            ("canary", format!("{:?}", setup.canary)),
        ]
    };
    for ((what, before), (_, after)) in rest(base).into_iter().zip(rest(new)) {
        note(what.to_owned(), before, after);
    }
    out
}

type Parts = Vec<(&'static str, String)>;

/// Notes what differs of two declarations, part by part.
fn compare(what: &str, [base, new]: [Option<Parts>; 2], note: &mut impl FnMut(String, String, String)) {
    let there = |parts: &Option<Parts>| if parts.is_some() { "declared" } else { "not declared" }.to_owned();
    match (base, new) {
        (Some(base), Some(new)) => {
            for ((part, before), (_, after)) in base.into_iter().zip(new) {
                note(format!("{what}, {part}"), before, after);
            }
        }
        (base, new) => note(what.to_owned(), there(&base), there(&new)),
    }
}

fn pathway_parts(pathway: &PathwaySetup) -> Parts {
    let PathwaySetup {
        kind,
        group,
        regions,
        capacity,
        price_usd_per_gb,
        price,
        pop,
        failure_domains,
        origin_group,
        base_url,
        signer,
        serves,
    } = pathway;
    vec![
        ("kind", kind.to_string()),
        ("group", format!("{group:?}")),
        ("regions", format!("{regions:?}")),
        ("capacity", capacity.to_string()),
        ("price_usd_per_gb", price_usd_per_gb.to_string()),
        ("price", format!("{price:?}")),
        ("pop", format!("{pop:?}")),
        ("failure_domains", format!("{failure_domains:?}")),
        ("origin_group", origin_group.to_string()),
        ("base_url", base_url.clone()),
        ("signer", format!("{signer:?}")),
        ("serves", format!("{serves:?}")),
    ]
}

fn region_parts(region: &RegionSetup) -> Parts {
    let RegionSetup { mode, control, static_weights, class_modes } = region;
    vec![
        ("mode", mode.to_string()),
        ("control", control.to_string()),
        ("static_weights", format!("{static_weights:?}")),
        ("class modes", format!("{class_modes:?}")),
    ]
}

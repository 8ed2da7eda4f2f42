//! A scenario file: TOML, unknown keys refused. Documented in `tests/scenarios/README.md`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use spillway_model::{GroupId, PathwayId, RegionId};

/// A day in short: who is there, what carries it, what breaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, for people.
    #[serde(default)]
    pub about: String,
    /// Length, s.
    pub seconds: u64,
    /// Bitrate of each view, kbit/s.
    pub bitrate_kbps: u64,
    /// Mean length of a view, s; lengths are exponential. Default 1200.
    #[serde(default = "default_view_s")]
    pub view_s: f64,
    /// Player behaviour.
    #[serde(default)]
    pub players: Players,
    /// Regions.
    pub region: Vec<Region>,
    /// Pathways.
    pub pathway: Vec<Pathway>,
    /// Crowds that come in addition.
    #[serde(default)]
    pub surge: Vec<Surge>,
    /// Faults.
    #[serde(default)]
    pub fault: Vec<Fault>,
}

/// How players behave.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Players {
    /// Length of a media segment, s. Default 4.
    pub segment_s: u64,
    /// Buffer that players hold, s. Default 12.
    pub buffer_s: u64,
    /// Time between heartbeats, s. Default 10.
    pub heartbeat_s: u64,
    /// Share of views that ignore steering. Default 0.03.
    pub ignore_steering: f64,
    /// Share of views that leave a failing pathway by themselves after 3 s and flap back with the next poll (as dash.js
    /// was measured to); the others retry where they are (as hls.js). Default 0.15.
    pub leave_by_themselves: f64,
    /// Share of requests that fail on any day. Default 0.001.
    pub usual_failures: f64,
    /// Share of windows that are bad on any day. Default 0.009.
    pub usual_bad_windows: f64,
}

impl Default for Players {
    fn default() -> Self {
        Self {
            segment_s: 4,
            buffer_s: 12,
            heartbeat_s: 10,
            ignore_steering: 0.03,
            leave_by_themselves: 0.15,
            usual_failures: 0.001,
            usual_bad_windows: 0.009,
        }
    }
}

/// A region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its id.
    pub id: String,
    /// Views at any time.
    pub views: u64,
    /// Networks, each with an equal part of the views.
    #[serde(default)]
    pub networks: Vec<u32>,
    /// Weights of the policy `static` and of the holdback, by pathway.
    pub static_weights: BTreeMap<String, f64>,
}

/// A pathway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pathway {
    /// Its id; own nodes begin with `own-`.
    pub id: String,
    /// Own cluster that it is a node of.
    pub group: Option<String>,
    /// Regions that it serves; empty: all.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Ceiling, Mbit/s.
    pub capacity_mbps: f64,
    /// Price, USD per GB.
    #[serde(default)]
    pub price_usd_per_gb: f64,
}

/// A crowd that comes in addition and stays.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surge {
    /// Where.
    pub region: String,
    /// How many views.
    pub views: u64,
    /// The first comes, s after the start.
    pub start_s: u64,
    /// The last has come, s after the start.
    pub end_s: u64,
}

impl Surge {
    /// Views that come in this second: evenly from start to end.
    pub(crate) fn arrivals(&self, second: u64) -> u64 {
        if !(self.start_s..self.end_s).contains(&second) {
            return 0;
        }
        let until = |seconds: u64| self.views * seconds / (self.end_s - self.start_s);
        until(second + 1 - self.start_s) - until(second - self.start_s)
    }
}

/// Something that breaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What breaks.
    pub pathway: String,
    /// Where; absent: everywhere.
    pub region: Option<String>,
    /// How.
    pub kind: FaultKind,
    /// From, s after the start.
    pub start_s: u64,
    /// Until, s after the start.
    pub end_s: u64,
    /// Share of requests that it hits. Default 1.
    #[serde(default = "all")]
    pub share: f64,
}

/// How a pathway breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum FaultKind {
    /// Requests are answered with 503 at once.
    #[serde(rename = "503")]
    Status503,
}

const fn default_view_s() -> f64 {
    1200.0
}

const fn all() -> f64 {
    1.0
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not of this shape.
    #[error("read scenario: {0}")]
    Shape(#[from] toml::de::Error),
    /// A value that is not valid.
    #[error("scenario key `{key}`: value {value:?} is not valid (valid: {valid})")]
    Invalid {
        /// Which key.
        key: String,
        /// Its value.
        value: String,
        /// What would be valid.
        valid: String,
    },
}

fn invalid(key: &str, value: impl ToString, valid: impl ToString) -> ScenarioError {
    ScenarioError::Invalid { key: key.into(), value: value.to_string(), valid: valid.to_string() }
}

impl Scenario {
    /// Reads and checks a scenario file's text.
    ///
    /// # Errors
    /// [`ScenarioError`] names key, value and what is valid.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        if !(1..=86_400).contains(&self.seconds) {
            return Err(invalid("seconds", self.seconds, "1 to 86400"));
        }
        if self.bitrate_kbps == 0 {
            return Err(invalid("bitrate_kbps", 0, "1 or more"));
        }
        if !(self.view_s >= 1.0 && self.view_s.is_finite()) {
            return Err(invalid("view_s", self.view_s, "1 or more"));
        }
        self.check_players()?;
        let pathways = self.check_pathways()?;
        let regions = self.check_regions(&pathways)?;
        for surge in &self.surge {
            if !regions.contains(surge.region.as_str()) {
                return Err(invalid("surge.region", &surge.region, names(&regions)));
            }
            if surge.start_s >= surge.end_s {
                return Err(invalid("surge.end_s", surge.end_s, format!("more than start_s ({})", surge.start_s)));
            }
        }
        for fault in &self.fault {
            if !pathways.contains(fault.pathway.as_str()) {
                return Err(invalid("fault.pathway", &fault.pathway, names(&pathways)));
            }
            if let Some(region) = fault.region.as_ref().filter(|region| !regions.contains(region.as_str())) {
                return Err(invalid("fault.region", region, names(&regions)));
            }
            if fault.start_s >= fault.end_s {
                return Err(invalid("fault.end_s", fault.end_s, format!("more than start_s ({})", fault.start_s)));
            }
            check_share("fault.share", fault.share)?;
        }
        Ok(())
    }

    fn check_players(&self) -> Result<(), ScenarioError> {
        let players = &self.players;
        for (key, value) in [("segment_s", players.segment_s), ("heartbeat_s", players.heartbeat_s)] {
            if !(1..=600).contains(&value) {
                return Err(invalid(&format!("players.{key}"), value, "1 to 600"));
            }
        }
        if players.buffer_s < players.segment_s {
            return Err(invalid("players.buffer_s", players.buffer_s, "segment_s or more"));
        }
        for (key, share) in [
            ("players.ignore_steering", players.ignore_steering),
            ("players.leave_by_themselves", players.leave_by_themselves),
            ("players.usual_failures", players.usual_failures),
            ("players.usual_bad_windows", players.usual_bad_windows),
        ] {
            check_share(key, share)?;
        }
        Ok(())
    }

    fn check_pathways(&self) -> Result<BTreeSet<&str>, ScenarioError> {
        let mut seen = BTreeSet::new();
        for pathway in &self.pathway {
            PathwayId::new(&pathway.id).map_err(|error| invalid("pathway.id", error, "an id"))?;
            if let Some(group) = &pathway.group {
                GroupId::new(group).map_err(|error| invalid("pathway.group", error, "an id"))?;
            }
            if !seen.insert(pathway.id.as_str()) {
                return Err(invalid("pathway.id", &pathway.id, "an id that no other pathway has"));
            }
            if !(pathway.capacity_mbps > 0.0 && pathway.capacity_mbps.is_finite()) {
                return Err(invalid("pathway.capacity_mbps", pathway.capacity_mbps, "a number above 0"));
            }
            if !(pathway.price_usd_per_gb >= 0.0 && pathway.price_usd_per_gb.is_finite()) {
                return Err(invalid("pathway.price_usd_per_gb", pathway.price_usd_per_gb, "0 or more"));
            }
            let declared: BTreeSet<&str> = self.region.iter().map(|region| region.id.as_str()).collect();
            if let Some(unknown) = pathway.regions.iter().find(|region| !declared.contains(region.as_str())) {
                return Err(invalid("pathway.regions", unknown, names(&declared)));
            }
        }
        Ok(seen)
    }

    fn check_regions(&self, pathways: &BTreeSet<&str>) -> Result<BTreeSet<&str>, ScenarioError> {
        let mut seen = BTreeSet::new();
        for region in &self.region {
            RegionId::new(&region.id).map_err(|error| invalid("region.id", error, "an id"))?;
            if !seen.insert(region.id.as_str()) {
                return Err(invalid("region.id", &region.id, "an id that no other region has"));
            }
            for (name, weight) in &region.static_weights {
                if !pathways.contains(name.as_str()) {
                    return Err(invalid("region.static_weights", name, names(pathways)));
                }
                if !(*weight >= 0.0 && weight.is_finite()) {
                    return Err(invalid("region.static_weights", weight, "numbers of 0 or more"));
                }
            }
            let serves = |pathway: &&Pathway| pathway.regions.is_empty() || pathway.regions.contains(&region.id);
            if self.pathway.iter().filter(serves).count() == 0 {
                return Err(invalid("region.id", &region.id, "a region that some pathway serves"));
            }
        }
        if seen.is_empty() {
            return Err(invalid("region", "none", "at least one [[region]]"));
        }
        Ok(seen)
    }
}

fn check_share(key: &str, share: f64) -> Result<(), ScenarioError> {
    if (0.0..=1.0).contains(&share) { Ok(()) } else { Err(invalid(key, share, "0 to 1")) }
}

fn names(set: &BTreeSet<&str>) -> String {
    set.iter().copied().collect::<Vec<_>>().join(", ")
}

//! Scenario and world files: TOML, unknown keys refused, documented in `tests/scenarios/README.md`.

mod check;
mod fault;
mod world;

pub use fault::{Fault, FaultKind, Status};
pub use world::{Origin, Pathway, PlayerKind, Players, Quality, Region, WorldFile};

use serde::Deserialize;

/// What happens in a world: how long, who comes, what breaks.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The world that it happens in.
    pub world: WorldFile,
    /// What happens.
    pub events: Events,
}

/// How a scenario is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Views as numbers per cohort and pathway.
    Fluid,
    /// Every player by itself.
    Session,
}

impl Mode {
    /// Word for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fluid => "fluid",
            Self::Session => "session",
        }
    }
}

/// A scenario file without its world.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Its name.
    pub name: String,
    /// What it shows, for people.
    #[serde(default)]
    pub about: String,
    /// Length, s.
    pub seconds: u64,
    /// Length of a fluid step, s. Default 2: a round.
    #[serde(default = "two")]
    pub step_s: u64,
    /// How it is played in a suite; the first one alone otherwise. Default fluid.
    #[serde(default = "fluid")]
    pub modes: Vec<Mode>,
    /// Views at the beginning in session mode: the world is scaled to them, capacities too. Absent: as the world says.
    pub session_views: Option<u64>,
    /// Local hour at the start, for the diurnal curve; absent: demand stays level.
    pub start_hour: Option<f64>,
    /// Instead of the world's `quality.cold_miss`.
    pub cold_miss: Option<f64>,
    /// Instead of the world's `origin.ceiling_times`.
    pub origin_ceiling_times: Option<f64>,
    /// Crowds that come in addition.
    #[serde(default)]
    pub surge: Vec<Surge>,
    /// Faults.
    #[serde(default)]
    pub fault: Vec<Fault>,
}

/// A crowd that comes in addition.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surge {
    /// Where; absent: everywhere, each region in proportion.
    pub region: Option<String>,
    /// How many views; or
    pub views: Option<u64>,
    /// how many times the region's own views (1: as many again).
    pub times: Option<f64>,
    /// The first comes, s after the start.
    pub start_s: u64,
    /// The last has come, s after the start.
    pub end_s: u64,
    /// They begin to leave, s after the start, as fast as they came. Default: they stay.
    pub leave_s: Option<u64>,
    /// All of them watch one and the same title.
    #[serde(default)]
    pub one_title: bool,
}

impl Surge {
    /// Part of the crowd that is there, 0 to 1.
    pub(crate) fn part(&self, second: f64) -> f64 {
        let length = (self.end_s - self.start_s).max(1) as f64;
        let come = ((second - self.start_s as f64) / length).clamp(0.0, 1.0);
        let gone = self.leave_s.map_or(0.0, |leave| ((second - leave as f64) / length).clamp(0.0, 1.0));
        (come - gone).max(0.0)
    }
}

const fn two() -> u64 {
    2
}

fn fluid() -> Vec<Mode> {
    vec![Mode::Fluid]
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not of this shape.
    #[error("read {what}: {error}")]
    Shape {
        /// Scenario or world.
        what: String,
        /// What is wrong.
        error: Box<toml::de::Error>,
    },
    /// The world's file can't be had.
    #[error("world {name:?} can't be read: {reason}")]
    World {
        /// As the scenario names it.
        name: String,
        /// Why not.
        reason: String,
    },
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

pub(crate) fn invalid(key: &str, value: impl ToString, valid: impl ToString) -> ScenarioError {
    ScenarioError::Invalid { key: key.into(), value: value.to_string(), valid: valid.to_string() }
}

impl Scenario {
    /// Reads and checks a scenario file's text. A world that it names is asked of `load` (name → text of the file).
    ///
    /// # Errors
    /// [`ScenarioError`] names key, value and what is valid.
    pub fn parse(text: &str, load: &dyn Fn(&str) -> Result<String, String>) -> Result<Self, ScenarioError> {
        let shape = |what: &str| {
            let what = what.to_owned();
            move |error: toml::de::Error| ScenarioError::Shape { what, error: Box::new(error) }
        };
        let mut table: toml::Table = toml::from_str(text).map_err(shape("scenario"))?;
        let world: WorldFile = match table.remove("world") {
            Some(toml::Value::String(name)) => {
                let text = load(&name).map_err(|reason| ScenarioError::World { name: name.clone(), reason })?;
                toml::from_str(&text).map_err(shape(&format!("world {name:?}")))?
            }
            Some(toml::Value::Table(world)) => world.try_into().map_err(shape("world"))?,
            Some(other) => return Err(invalid("world", other, "a name (string) or a table [world]")),
            None => return Err(invalid("world", "none", "a name (string) or a table [world]")),
        };
        let events: Events = table.try_into().map_err(shape("scenario"))?;
        let mut scenario = Self { world, events };
        if let Some(share) = scenario.events.cold_miss {
            scenario.world.quality.cold_miss = share;
        }
        if let Some(times) = scenario.events.origin_ceiling_times {
            scenario.world.origin.ceiling_times = times;
        }
        scenario.check()?;
        Ok(scenario)
    }
}

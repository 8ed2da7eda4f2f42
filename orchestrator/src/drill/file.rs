//! The drill file.

use serde::{Deserialize, Serialize};
use spillway_model::{PathwayId, RegionId};
use spillway_service::deployment::{Deployment, host_of};

/// Longest drill, s.
const DURATION_MAX_S: u64 = 3_600;

/// A drill, as the file (TOML) and the admin API (JSON) have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Its id: letters, digits, `.`, `_`, `-`.
    pub id: String,
    /// `fail`: steps break something from outside. (Drain, brownout, blackout and others are not there yet.)
    pub kind: String,
    /// Pathway that is broken.
    pub pathway: String,
    /// Region in which.
    pub region: String,
    /// Time from the first step to the restore, s.
    pub duration_s: u64,
    /// Longest wait after the restore for the pathway to be HEALTHY again, s. Default 120.
    #[serde(default = "default_recovery_s")]
    pub recovery_s: u64,
    /// What breaks it, in time order.
    pub inject: Vec<Step>,
    /// What mends it; also run when the drill is aborted.
    pub restore: Vec<Step>,
    /// When to stop early.
    #[serde(default)]
    pub abort: Abort,
    /// What should hold; the verdict is FAILED where it does not.
    #[serde(default)]
    pub hypothesis: Hypothesis,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Time since the drill began, s. Default 0; unused in `restore`.
    #[serde(default)]
    pub at_s: u64,
    /// `PUT`, `POST` or `DELETE`.
    pub method: String,
    /// Absolute URL on a host of `orchestrator.drill_hosts`.
    pub url: String,
    /// Body, sent as JSON.
    #[serde(default)]
    pub body: Option<String>,
    /// Sends the secret between roles along, which an own edge's `/v1/faults` asks for. Default false.
    #[serde(default)]
    pub service_token: bool,
}

/// Abort rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Abort {
    /// Another pathway's utilisation above this, 0 to 2. Default 1.0.
    pub utilisation_above: f64,
    /// The region's views fall by more than this share, 0 to 1. Default 0.5.
    pub views_lost_above: f64,
}

/// What should hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hypothesis {
    /// Injection → published DOWN or DEGRADED, s. Default 10.
    pub detect_s_max: f64,
    /// Injection → 95 % of the pathway's views off it, s. Default 60.
    pub leave_s_p95_max: f64,
}

const fn default_recovery_s() -> u64 {
    120
}

impl Default for Abort {
    fn default() -> Self {
        Self { utilisation_above: 1.0, views_lost_above: 0.5 }
    }
}

impl Default for Hypothesis {
    fn default() -> Self {
        Self { detect_s_max: 10.0, leave_s_p95_max: 60.0 }
    }
}

/// Why a drill does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrillError {
    /// A value that is not valid.
    #[error("drill {field}: value {value:?} is not valid (valid: {valid})")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// One at a time.
    #[error("drill {0:?} is running; one at a time")]
    Busy(String),
    /// There is an incident: no drill on top of it.
    #[error("{pathway} is {state} in {region}: no drill on top of an incident")]
    Incident {
        /// Pathway.
        pathway: String,
        /// Its state.
        state: String,
        /// Region.
        region: String,
    },
}

impl Drill {
    /// Checks every value.
    ///
    /// # Errors
    /// [`DrillError::Invalid`] names field, value and what is valid.
    pub fn check(&self, deployment: &Deployment, hosts: &[String]) -> Result<(PathwayId, RegionId), DrillError> {
        let invalid = |field, value: &dyn ToString, valid: String| {
            Err(DrillError::Invalid { field, value: value.to_string(), valid })
        };
        if spillway_model::NodeId::new(&self.id).is_err() {
            return invalid("id", &self.id, "1 to 64 characters of [A-Za-z0-9._-]".into());
        }
        if self.kind != "fail" {
            return invalid("kind", &self.kind, "fail; other kinds are not there yet".into());
        }
        let Some((pathway, _)) = deployment.pathways.get_key_value(self.pathway.as_str()) else {
            let names: Vec<&str> = deployment.pathways.keys().map(PathwayId::as_str).collect();
            return invalid("pathway", &self.pathway, names.join(", "));
        };
        let Some((region, _)) = deployment.regions.get_key_value(self.region.as_str()) else {
            let names: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
            return invalid("region", &self.region, names.join(", "));
        };
        if !(1..=DURATION_MAX_S).contains(&self.duration_s) {
            return invalid("duration_s", &self.duration_s, format!("1 to {DURATION_MAX_S}"));
        }
        if self.inject.is_empty() || self.restore.is_empty() {
            return invalid("inject and restore", &"empty", "at least one step each".into());
        }
        for step in self.inject.iter().chain(&self.restore) {
            if !["PUT", "POST", "DELETE"].contains(&step.method.as_str()) {
                return invalid("method", &step.method, "PUT, POST, DELETE".into());
            }
            if !host_of(&step.url).is_some_and(|host| hosts.iter().any(|allowed| allowed == host)) {
                let valid = format!("an absolute URL on a host of orchestrator.drill_hosts ({})", hosts.join(", "));
                return invalid("url", &step.url, valid);
            }
            if step.at_s > self.duration_s {
                return invalid("at_s", &step.at_s, format!("0 to duration_s ({})", self.duration_s));
            }
        }
        Ok((pathway.clone(), region.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drill_of_an_own_edge_bears_the_token_to_it_and_to_nobody_else() {
        let drill: Drill =
            toml::from_str(include_str!("../../../deploy/drills/own-edge.toml")).expect("the file is a drill");
        assert!(drill.inject.iter().chain(&drill.restore).all(|step| step.service_token));
        let plain: Step = toml::from_str("method = \"PUT\"\nurl = \"http://cdn.example/\"").expect("a step");
        assert!(!plain.service_token);
    }
}

//! A policy on trial: declared in the configuration, begun once the regions have been measured for a while, and judged
//! once. The judgement is kept in the store, so that a restart neither forgets an accepted policy nor tries one again
//! that was rolled back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use spillway_bus::{Store, StoreError};
use spillway_lake::records::Change;
use spillway_model::{Millis, RegionId, TimestampMs};
use spillway_orchestrator_core as core;
use spillway_service::config::ConfigError;
use spillway_service::deployment::Deployment;
use spillway_wire::overview::Note;

/// Characters of a policy's name: it is part of a store key.
const NAME_MAX: usize = 64;
/// Hex digits of the digest in a store key.
const DIGEST_CHARS: usize = 16;
/// The trial begins after so many times the memory of health: by then health is that of the policy in force.
const MEASURE_TAUS: f64 = 2.0;

/// `[orchestrator.canary]`: a change of policy that is tried in one region before it holds everywhere.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryConfig {
    /// Its name, written into the manifests that it decides.
    pub policy: String,
    /// Where it is tried.
    pub region: String,
    /// What it changes: any number that `spillway check-config --explain` prints.
    pub parameters: BTreeMap<String, f64>,
}

/// `base` with `changes`, each checked; `key` is their place in the file.
///
/// # Errors
/// [`ConfigError::Invalid`] names key, value and what is valid.
pub fn changed(
    base: &core::Parameters,
    key: &str,
    changes: &BTreeMap<String, f64>,
) -> Result<core::Parameters, ConfigError> {
    let mut out = base.clone();
    for (name, value) in changes {
        out.set(name, *value).map_err(|valid| ConfigError::invalid(format!("{key}.{name}"), value, valid))?;
    }
    Ok(out)
}

impl CanaryConfig {
    /// As the decision core takes it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid.
    pub(crate) fn check(
        &self,
        deployment: &Deployment,
        (policy, base): (&str, &core::Parameters),
    ) -> Result<core::Canary, ConfigError> {
        let key = |name: &str| format!("orchestrator.canary.{name}");
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=NAME_MAX).contains(&self.policy.len()) && self.policy.bytes().all(fits);
        if !is_name || self.policy.starts_with('.') || self.policy == policy {
            let valid = format!("1 to {NAME_MAX} of A-Z, a-z, 0-9, . _ -, beginning with none of dots, not {policy}");
            return Err(ConfigError::invalid(key("policy"), &self.policy, valid));
        }
        let Some((region, _)) = deployment.regions.get_key_value(self.region.as_str()) else {
            let names: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
            return Err(ConfigError::invalid(key("region"), &self.region, names.join(", ")));
        };
        if deployment.regions.len() < 2 {
            return Err(ConfigError::invalid(key("region"), &self.region, "another region beside it, to compare with"));
        }
        let parameters = changed(base, &key("parameters"), &self.parameters)?;
        if parameters == *base {
            let shown = format!("{:?}", self.parameters);
            return Err(ConfigError::invalid(key("parameters"), shown, "a change of what is in force"));
        }
        Ok(core::Canary { policy: self.policy.clone(), parameters, region: region.clone() })
    }

    /// Where its judgement is kept: another name or other numbers are another policy.
    fn store_key(&self) -> String {
        let numbers = self.parameters.iter().map(|(name, value)| format!("{name}={value}\n"));
        let digest = Sha256::digest(numbers.collect::<String>());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("canary/{}-{}", self.policy, &hex[..DIGEST_CHARS])
    }
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Outcome {
    policy: String,
    region: String,
    parameters: BTreeMap<String, f64>,
    /// Else it was rolled back.
    accepted: bool,
    /// Why, with numbers.
    text: String,
    at_ms: u64,
}

/// Where the declared policy stands.
#[derive(Debug)]
enum Stage {
    /// The regions are measured under the policy in force.
    Measuring { canary: Box<core::Canary>, since: Option<TimestampMs>, wait: Millis },
    /// On trial; how it fares.
    Running(String),
    /// Judged; `stored` once the store has it.
    Judged { outcome: Outcome, stored: bool },
}

/// The declared policy, if there is one.
#[derive(Default)]
pub(crate) struct Trial(Option<Declared>);

struct Declared {
    config: CanaryConfig,
    stage: Stage,
}

impl Trial {
    /// Takes the canary out of `setup`. One that was accepted is in force from the start, one that was rolled back is
    /// not tried again.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        config: Option<&CanaryConfig>,
        setup: &mut core::Setup,
    ) -> Result<Self, StoreError> {
        let Some((config, canary)) = config.zip(setup.canary.take()) else { return Ok(Self(None)) };
        let stage = match store.get(&config.store_key()).await? {
            None => {
                let wait = Millis((MEASURE_TAUS * setup.parameters.health_tau_s * 1e3) as u64);
                Stage::Measuring { canary: Box::new(canary), since: None, wait }
            }
            Some(found) => {
                let outcome = serde_json::from_slice(&found.value).unwrap_or_else(|error| {
                    tracing::error!(policy = config.policy, %error, "the judgement on a policy does not read");
                    config.outcome(false, format!("its judgement in the store does not read: {error}"), 0)
                });
                if outcome.accepted {
                    (setup.policy, setup.parameters) = (canary.policy, canary.parameters);
                }
                tracing::info!(policy = config.policy, accepted = outcome.accepted, "policy was judged before");
                Stage::Judged { outcome, stored: true }
            }
        };
        Ok(Self(Some(Declared { config: config.clone(), stage })))
    }

    /// Before a round: begins the trial once enough was measured.
    pub(crate) fn begin(&mut self, now: TimestampMs, engine: &mut core::Engine) {
        let Some(declared) = &mut self.0 else { return };
        if let Stage::Measuring { canary, since, wait } = &mut declared.stage
            && now.since(*since.get_or_insert(now)).0 >= wait.0
        {
            engine.declare((**canary).clone());
            tracing::info!(policy = declared.config.policy, region = declared.config.region, "policy goes on trial");
            declared.stage = Stage::Running(String::new());
        }
    }

    /// After a round: `heard` are the regions whose views were measured lately. While the one of the trial is not among
    /// them, or no other is, the wait does not begin: a night without viewers proves nothing.
    pub(crate) fn measure(&mut self, heard: &BTreeSet<&RegionId>) {
        if let Some(Declared { config, stage: Stage::Measuring { since, .. } }) = &mut self.0
            && (heard.len() < 2 || !heard.iter().any(|region| region.as_str() == config.region))
        {
            *since = None;
        }
    }

    /// After a round: takes how it fares. Returns the change for the audit when it has just been judged.
    pub(crate) fn take(&mut self, now: TimestampMs, note: Option<&core::CanaryNote>) -> Option<Change> {
        let declared = self.0.as_mut()?;
        let (Stage::Running(text), Some(note)) = (&mut declared.stage, note) else { return None };
        text.clone_from(&note.text);
        let accepted = match note.state {
            core::CanaryState::OnTrial => return None,
            core::CanaryState::Accepted => true,
            core::CanaryState::RolledBack => false,
        };
        let outcome = declared.config.outcome(accepted, note.text.clone(), now.0);
        let change = Change {
            at_ms: now.0,
            actor: "spillway".into(),
            role: "orchestrator".into(),
            action: if accepted { "canary.accept" } else { "canary.roll_back" }.into(),
            object: outcome.policy.clone(),
            reason: outcome.text.clone(),
            detail_json: json!(outcome).to_string(),
            ..Change::default()
        };
        declared.stage = Stage::Judged { outcome, stored: false };
        Some(change)
    }

    /// Keeps a judgement that the store does not have yet; tried again with the next round if it fails.
    pub(crate) async fn save(&mut self, store: &Arc<dyn Store>) {
        let Some(Declared { config, stage: Stage::Judged { outcome, stored: stored @ false } }) = &mut self.0 else {
            return;
        };
        let value = serde_json::to_vec(outcome).expect("string keys only");
        match store.compare_and_set(&config.store_key(), 0, value.into()).await {
            Ok(_) => *stored = true,
            Err(StoreError::Conflict { .. }) => {
                tracing::warn!(policy = config.policy, "another orchestrator judged the policy first");
                *stored = true;
            }
            Err(error) => tracing::warn!(policy = config.policy, %error, "judgement on a policy not kept yet"),
        }
    }

    /// Where it stands, for pages and metrics.
    pub(crate) fn note(&self) -> Option<Note> {
        let Declared { config, stage } = self.0.as_ref()?;
        let CanaryConfig { policy, region, .. } = config;
        let mut until_ms = None;
        let (state, text) = match stage {
            Stage::Measuring { since, wait, .. } => {
                until_ms = since.map(|since| since.after(*wait).0);
                ("waiting", format!("policy {policy}: the regions are measured without it first"))
            }
            Stage::Running(text) if text.is_empty() => ("trial", format!("policy {policy} on trial in {region}")),
            Stage::Running(text) => ("trial", format!("policy {policy} on trial in {region}: {text}")),
            Stage::Judged { outcome, .. } if outcome.accepted => {
                ("accepted", format!("policy {policy} accepted everywhere: {}", outcome.text))
            }
            Stage::Judged { outcome, .. } => ("rolled_back", format!("policy {policy} rolled back: {}", outcome.text)),
        };
        for each in ["waiting", "trial", "accepted", "rolled_back"] {
            metrics::gauge!("spillway_canary_state", "policy" => policy.clone(), "state" => each)
                .set(f64::from(u8::from(each == state)));
        }
        let region = if state == "accepted" { String::new() } else { region.clone() };
        Some(Note { kind: "canary".into(), region, text, until_ms })
    }
}

impl CanaryConfig {
    fn outcome(&self, accepted: bool, text: String, at_ms: u64) -> Outcome {
        Outcome {
            policy: self.policy.clone(),
            region: self.region.clone(),
            parameters: self.parameters.clone(),
            accepted,
            text,
            at_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_bus::DirStore;

    use super::*;
    use crate::fixtures::{NOW, deployment};
    use crate::{OrchestratorConfig, setup};

    fn config(move_max: f64) -> OrchestratorConfig {
        let canary = CanaryConfig {
            policy: "bold".into(),
            region: "eu-a".into(),
            parameters: BTreeMap::from([("move_max".into(), move_max)]),
        };
        OrchestratorConfig { canary: Some(canary), ..OrchestratorConfig::default() }
    }

    async fn opened(store: &Arc<dyn Store>, config: &OrchestratorConfig) -> (Trial, core::Setup) {
        let mut setup = setup(&deployment(), core::Parameters::default(), config).expect("valid");
        let trial = Trial::open(store, config.canary.as_ref(), &mut setup).await.expect("store");
        (trial, setup)
    }

    fn note(state: core::CanaryState) -> core::CanaryNote {
        core::CanaryNote { policy: "bold".into(), state, text: "+0.10 points".into() }
    }

    fn said(trial: &Trial) -> String {
        trial.note().expect("a canary").text
    }

    #[tokio::test]
    async fn a_judgement_is_final_until_another_policy_is_declared() {
        for (state, action, in_force) in [
            (core::CanaryState::Accepted, "canary.accept", "bold"),
            (core::CanaryState::RolledBack, "canary.roll_back", "spillway-1"),
        ] {
            let dir = tempfile::tempdir().expect("dir");
            let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
            let (mut trial, setup) = opened(&store, &config(0.2)).await;
            let mut engine = core::Engine::new(setup);
            let measured = NOW.after(Millis::from_secs(240));
            trial.begin(NOW, &mut engine);
            trial.begin(TimestampMs(measured.0 - 1), &mut engine);
            assert!(engine.setup().canary.is_none() && said(&trial).contains("measured without it"));
            trial.begin(measured, &mut engine);
            assert_eq!(engine.setup().canary.as_ref().expect("declared").parameters.move_max, 0.2);

            assert_eq!(trial.take(measured, Some(&note(core::CanaryState::OnTrial))), None);
            assert_eq!(said(&trial), "policy bold on trial in eu-a: +0.10 points");
            let change = trial.take(measured, Some(&note(state))).expect("judged");
            assert_eq!((change.action.as_str(), change.object.as_str()), (action, "bold"));
            assert_eq!(trial.take(measured, Some(&note(state))), None, "once");
            trial.save(&store).await;

            let (mut again, setup) = opened(&store, &config(0.2)).await;
            assert_eq!((setup.policy.as_str(), setup.canary.is_none()), (in_force, true));
            assert_eq!(setup.parameters.move_max == 0.2, in_force == "bold");
            let mut engine = core::Engine::new(setup);
            again.begin(NOW, &mut engine);
            again.begin(measured, &mut engine);
            assert!(engine.setup().canary.is_none(), "not tried again");
            assert!(said(&again).ends_with("+0.10 points"), "{}", said(&again));

            let (other, setup) = opened(&store, &config(0.3)).await;
            assert_eq!(setup.policy, "spillway-1");
            assert!(said(&other).contains("measured without it"), "other numbers are another policy");
        }
    }

    #[tokio::test]
    async fn a_trial_waits_until_its_region_and_another_one_are_measured() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let (mut trial, setup) = opened(&store, &config(0.2)).await;
        let [here, there] = ["eu-a", "eu-b"].map(|name| RegionId::new(name).expect("id"));
        let mut engine = core::Engine::new(setup);
        let mut begun_at = |s: u64, heard: &[&RegionId]| {
            trial.begin(NOW.after(Millis::from_secs(s)), &mut engine);
            trial.measure(&heard.iter().copied().collect());
            engine.setup().canary.is_some()
        };
        assert!(!begun_at(0, &[&here]) && !begun_at(300, &[&there]), "one region alone is compared with nothing");
        assert!(!begun_at(600, &[&here, &there]) && !begun_at(839, &[&here, &there]));
        assert!(begun_at(840, &[&here, &there]));
    }

    #[tokio::test]
    async fn a_judgement_that_does_not_read_is_no_licence_to_try_again() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let config = config(0.2);
        let key = config.canary.as_ref().expect("there").store_key();
        store.compare_and_set(&key, 0, "{".into()).await.expect("set");
        let (trial, setup) = opened(&store, &config).await;
        assert_eq!(setup.policy, "spillway-1");
        assert!(said(&trial).contains("rolled back: its judgement in the store does not read"), "{}", said(&trial));
    }

    #[test]
    fn what_is_wrong_with_a_declared_policy_is_named() {
        let good = "policy = \"bold\"\nregion = \"eu-a\"\nparameters = { move_max = 0.2, hold_s = 60 }";
        let of = |text: &str| {
            let canary: CanaryConfig = toml::from_str(text).map_err(|error| error.to_string())?;
            let config = OrchestratorConfig { canary: Some(canary), ..OrchestratorConfig::default() };
            setup(&deployment(), core::Parameters::default(), &config).map_err(|error| error.to_string())
        };
        let canary = of(good).expect("valid").canary.expect("there");
        assert_eq!((canary.parameters.move_max, canary.parameters.hold_s), (0.2, 60.0));
        for (from, to, words) in [
            ("bold", "spillway-1", ["canary.policy", "not spillway-1"]),
            ("bold", "../x", ["canary.policy", "../x"]),
            ("eu-a", "us", ["canary.region", "eu-a, eu-b"]),
            ("move_max", "move_most", ["canary.parameters.move_most", "check-config --explain"]),
            ("0.2", "2", ["canary.parameters.move_max", "0 to 1"]),
            ("hold_s = 60", "hold_s = 0", ["canary.parameters.hold_s", "1 to 86400"]),
            ("move_max = 0.2, hold_s = 60", "move_max = 0.1", ["canary.parameters", "a change of what is in force"]),
            ("parameters", "numbers", ["numbers", "unknown field"]),
        ] {
            let error = of(&good.replacen(from, to, 1)).expect_err(to);
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}

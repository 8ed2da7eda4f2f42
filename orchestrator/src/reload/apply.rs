//! Between two rounds: another configuration is refused, tried on a copy of the engine, or put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use spillway_model::{RegionId, TimestampMs};
use spillway_orchestrator_core::{self as core, Engine, RoundInput};
use spillway_routing::Manifest;
use spillway_service::deployment::Deployment;
use spillway_wire::overview::LogLine;
use tokio::sync::oneshot;

use super::told::{APPLIED, DRY_RUN, Difference, Told};
use super::{Ask, Configured, KeyChange, ReloadError, Reread};
use crate::canary::Trial;
use crate::orders::Gone;
use crate::publish::PublishError;
use crate::round::Rounds;
use crate::setup::setup;

/// An answer that waits until the round that publishes it is over.
pub(crate) struct Answer {
    told: Told,
    to: oneshot::Sender<Result<Told, ReloadError>>,
}

impl Answer {
    /// Who asked may be gone.
    pub(crate) fn send(self) {
        drop(self.to.send(Ok(self.told)));
    }
}

/// What would be in force.
struct Next {
    setup: core::Setup,
    /// Another trial, where the policy or its trial changes.
    trial: Option<Trial>,
    /// What is in force of regions that are new.
    adopted: BTreeMap<RegionId, Manifest>,
}

impl Rounds {
    /// Answers an ask. With an answer that waits a round must follow: something changed.
    pub(crate) async fn reload(&mut self, ask: Ask) -> Option<Answer> {
        let Ask { reread, dry_run, answer } = ask;
        let told = match self.try_on(&reread).await {
            Ok((told, Some(next))) if !dry_run => {
                self.put(reread, next);
                return Some(Answer { told: Told { outcome: APPLIED, ..told }, to: answer });
            }
            Ok((told, _)) if dry_run => Ok(Told { outcome: DRY_RUN, ..told }),
            Ok((told, _)) => Ok(told),
            Err(error) => Err(error),
        };
        drop(answer.send(told));
        None
    }

    /// What it would change; without a `Next` nothing.
    async fn try_on(&mut self, reread: &Reread) -> Result<(Told, Option<Next>), ReloadError> {
        let mut told = Told::new(reread.changed.clone(), reread.needs_restart.clone());
        if reread.changed.is_empty() {
            return Ok((told, None));
        }
        let now = self.shell.clock.now();
        self.standing.read(&self.shell.store, now).await;
        told.orders = self.free(&reread.configured.deployment)?;
        let next = self.next(&reread.configured).await?;
        let mut with = self.engine.clone();
        told.reshaped(&with.reconfigure(next.setup.clone()));
        next.adopted.values().for_each(|manifest| with.adopt(manifest));
        let mut without = self.engine.clone();
        let same = self.ahead(&mut without, now, &self.configured.deployment);
        let tried = self.ahead(&mut with, now, &reread.configured.deployment);
        let regions: BTreeSet<&RegionId> = self.published.keys().chain(tried.regions.keys()).collect();
        for region in regions {
            let in_force = self.published.get(region).or_else(|| next.adopted.get(region));
            let difference = Difference::of(in_force, same.regions.get(region), tried.regions.get(region));
            told.regions.insert(region.to_string(), difference);
        }
        Ok((told, Some(next)))
    }

    /// The next round on a copy of the engine, without new evidence.
    fn ahead(&self, engine: &mut Engine, now: TimestampMs, deployment: &Deployment) -> core::RoundOutput {
        let mut input =
            RoundInput { limits: self.feeds.limits(), drill: self.shell.drills.note(), ..RoundInput::default() };
        self.standing.order(now, deployment, &mut input);
        self.learner.teach(&mut input);
        engine.round(now, &input)
    }

    /// Orders that would come to nothing. What sends viewers to a pathway must not end so: it is refused.
    fn free(&self, deployment: &Deployment) -> Result<Vec<String>, ReloadError> {
        let gone = Gone { before: &self.configured.deployment, after: deployment };
        if let Some(drill) = self.shell.drills.note()
            && self.configured.deployment.regions.keys().any(|region| gone.is(drill.pathway.as_str(), region))
        {
            let why = format!("drill {:?} runs on {}: abort it or wait for its end", drill.id, drill.pathway);
            return Err(ReloadError::InUse(why));
        }
        self.standing.naming(&gone).map_err(|order| {
            ReloadError::InUse(format!(
                "{order} sends viewers to what the new configuration does not have: end it first"
            ))
        })
    }

    async fn next(&self, configured: &Configured) -> Result<Next, ReloadError> {
        let mut setup = setup(&configured.deployment, configured.parameters.clone(), &configured.config)?;
        let policy = |of: &Configured| (of.parameters.clone(), of.config.canary.clone());
        let trial = if policy(configured) == policy(&self.configured) {
            // What a trial has brought about goes on.
            let now = self.engine.setup();
            (setup.policy, setup.parameters) = (now.policy.clone(), now.parameters.clone());
            setup.canary = now.canary.clone();
            None
        } else {
            Some(Trial::open(&self.shell.store, configured.config.canary.as_ref(), &mut setup).await?)
        };
        let mut adopted = BTreeMap::new();
        for region in setup.regions.keys().filter(|region| !self.configured.deployment.regions.contains_key(*region)) {
            match self.publisher.current(region).await {
                Ok(found) => adopted.extend(found.map(|manifest| (region.clone(), manifest))),
                Err(PublishError::Store(error)) => return Err(error.into()),
                // What does not read is published anew.
                Err(error) => tracing::warn!(%region, %error, "starting afresh"),
            }
        }
        Ok(Next { setup, trial, adopted })
    }

    fn put(&mut self, reread: Reread, next: Next) {
        let Reread { configured, changed, taken, .. } = reread;
        self.engine.reconfigure(next.setup);
        let regions = &configured.deployment.regions;
        self.published.retain(|region, _| regions.contains_key(region));
        for (region, manifest) in next.adopted {
            self.engine.adopt(&manifest);
            self.published.insert(region, manifest);
        }
        if let Some(trial) = next.trial {
            self.trial = trial;
        }
        self.ears.classes.deploy(&configured.deployment);
        self.feeds.deploy(&configured.deployment, &self.shell.clock);
        if let Some(recorder) = &mut self.recorder {
            recorder.configured(configured.recorded.clone());
        }
        self.deploys.put(Arc::clone(&configured.deployment));
        self.configured = configured;
        taken();
        let text = format!("configuration reloaded: {}", keys(&changed));
        tracing::info!(text, "decision");
        self.log.push_back(LogLine { at_ms: self.shell.clock.now().0, region: String::new(), text });
    }
}

/// The first keys, and how many there are beside them.
fn keys(changed: &[KeyChange]) -> String {
    let named: Vec<&str> = changed.iter().take(5).map(|change| change.key.as_str()).collect();
    match changed.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

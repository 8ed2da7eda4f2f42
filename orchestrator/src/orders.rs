//! What operators order, with an end: kept in the store, so that it outlives a restart and reaches every orchestrator.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use spillway_bus::{Store, StoreError};
use spillway_model::limits::OVERRIDE_MAX_MS;
use spillway_model::{RegionId, TimestampMs};
use spillway_orchestrator_core::RoundInput;
use spillway_service::deployment::Deployment;
use spillway_wire::overview::Note;

use crate::calm::{self, StoredCalm};
use crate::overrides::{self, StoredOverride};
use crate::prewarm::{self, StoredPrewarm};
use crate::rollback::{self, StoredRollback};

/// An order as it is kept, in JSON.
pub(crate) trait Order: Serialize + DeserializeOwned {
    /// Where in the store.
    const PREFIX: &'static str;
    /// What it is called.
    const WORD: &'static str;
    /// Names of its begin and its early end in the audit.
    const ADDED: &'static str;
    const ENDED: &'static str;
    /// Its id.
    fn id(&self) -> &str;
    /// Why.
    fn reason(&self) -> &str;
    /// When it ends by itself, ms since epoch.
    fn expires_ms(&self) -> u64;
}

/// An order that follows from what its caller asks for, and from nothing else.
pub(crate) trait Requested: Order {
    /// What is asked for, in JSON.
    type Request: DeserializeOwned;

    /// The order that `by` gives, checked against the deployment.
    ///
    /// # Errors
    /// [`OrderError::Invalid`] names field, value and what is valid.
    fn of(request: Self::Request, by: &str, now: TimestampMs, deployment: &Deployment) -> Result<Self, OrderError>;
}

/// Why an order is refused: for people.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// A value that is not valid.
    #[error("{field} {value:?} is not valid (valid: {valid})")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) fn invalid(field: &'static str, value: impl ToString, valid: impl Into<String>) -> OrderError {
    OrderError::Invalid { field, value: value.to_string(), valid: valid.into() }
}

/// Checks what every order has: a reason and an end.
///
/// # Errors
/// [`OrderError::Invalid`].
pub(crate) fn check(reason: &str, expires_s: u64) -> Result<(), OrderError> {
    let max_s = OVERRIDE_MAX_MS / 1000;
    if expires_s == 0 || expires_s > max_s {
        return Err(invalid("expires_s", expires_s, format!("1 to {max_s}")));
    }
    if reason.trim().is_empty() || reason.len() > 500 {
        return Err(invalid("reason", reason, "1 to 500 characters"));
    }
    Ok(())
}

/// The region of that name; `None` stands for all.
///
/// # Errors
/// [`OrderError::Invalid`] for one that is not declared.
pub(crate) fn region(name: Option<&str>, deployment: &Deployment) -> Result<Option<RegionId>, OrderError> {
    let Some(name) = name else { return Ok(None) };
    match deployment.regions.get_key_value(name) {
        Some((id, _)) => Ok(Some(id.clone())),
        None => {
            let names: Vec<&str> = deployment.regions.keys().map(RegionId::as_str).collect();
            Err(invalid("region", name, names.join(", ")))
        }
    }
}

/// Keeps a new order.
///
/// # Errors
/// The store's.
pub(crate) async fn keep<O: Order>(store: &Arc<dyn Store>, order: &O) -> Result<(), StoreError> {
    let value = serde_json::to_vec(order).expect("plain fields");
    store.compare_and_set(&format!("{}{}", O::PREFIX, order.id()), 0, Bytes::from(value)).await?;
    Ok(())
}

/// Ends an order early; false if there is none of that id.
///
/// # Errors
/// The store's.
pub(crate) async fn remove<O: Order>(store: &Arc<dyn Store>, id: &str) -> Result<bool, StoreError> {
    let key = format!("{}{id}", O::PREFIX);
    if store.get(&key).await?.is_none() {
        return Ok(false);
    }
    store.remove(&key).await?;
    Ok(true)
}

/// Every order that has not ended at `now`, by id; ended ones are removed.
///
/// # Errors
/// The store's.
pub(crate) async fn in_force<O: Order>(
    store: &Arc<dyn Store>,
    now: TimestampMs,
) -> Result<BTreeMap<String, O>, StoreError> {
    let mut out = BTreeMap::new();
    for key in store.list(O::PREFIX).await? {
        let Some(found) = store.get(&key).await? else { continue };
        match serde_json::from_slice::<O>(&found.value) {
            Ok(stored) if stored.expires_ms() > now.0 => {
                out.insert(stored.id().to_owned(), stored);
            }
            Ok(_) => store.remove(&key).await?,
            Err(error) => tracing::warn!(key, %error, "an order does not read and is left out"),
        }
    }
    Ok(out)
}

async fn renew<O: Order>(known: &mut BTreeMap<String, O>, store: &Arc<dyn Store>, now: TimestampMs) {
    match in_force(store, now).await {
        Ok(stored) => *known = stored,
        Err(error) => tracing::warn!(kind = O::WORD, %error, "orders cannot be read"),
    }
}

/// What another deployment takes away.
pub(crate) struct Gone<'a> {
    pub(crate) before: &'a Deployment,
    pub(crate) after: &'a Deployment,
}

impl Gone<'_> {
    /// Whether a pathway or group served `region`, and does not any more.
    pub(crate) fn is(&self, target: &str, region: &RegionId) -> bool {
        serves(self.before, target, region) && !serves(self.after, target, region)
    }
}

fn serves(deployment: &Deployment, target: &str, region: &RegionId) -> bool {
    let group = deployment.groups.get(target).into_iter().flatten();
    let pathway = deployment.pathways.get_key_value(target).map(|(id, _)| id);
    deployment.regions.contains_key(region) && group.chain(pathway).any(|id| deployment.serves(id, region))
}

/// The orders that rounds go by. When the store fails, the last known ones stay: an order must not end by accident.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    overrides: BTreeMap<String, StoredOverride>,
    calm: BTreeMap<String, StoredCalm>,
    rollbacks: BTreeMap<String, StoredRollback>,
    prewarm: BTreeMap<String, StoredPrewarm>,
}

impl Standing {
    /// Reads what stands at `now`.
    pub(crate) async fn read(&mut self, store: &Arc<dyn Store>, now: TimestampMs) {
        renew(&mut self.overrides, store, now).await;
        renew(&mut self.calm, store, now).await;
        renew(&mut self.rollbacks, store, now).await;
        renew(&mut self.prewarm, store, now).await;
    }

    /// Adds them to a round's input. What the deployment no longer knows is left out and logged.
    pub(crate) fn order(&self, now: TimestampMs, deployment: &Deployment, input: &mut RoundInput) {
        let left_out = |id: &str, error: &OrderError| tracing::warn!(id, %error, "order left out");
        for stored in self.overrides.values() {
            let order = overrides::to_core(stored, deployment).inspect_err(|error| left_out(&stored.id, error));
            input.overrides.extend(order.ok());
        }
        for stored in self.rollbacks.values() {
            let order = rollback::to_core(stored, deployment).inspect_err(|error| left_out(&stored.id, error));
            input.overrides.extend(order.into_iter().flatten());
        }
        for stored in self.calm.values().filter(|stored| stored.begins_ms <= now.0) {
            let calm = calm::to_core(stored, deployment).inspect_err(|error| left_out(&stored.id, error));
            input.calm.extend(calm.ok());
        }
    }

    /// Titles that edges should fetch; no round goes by these.
    pub(crate) fn prewarm(&self) -> impl Iterator<Item = &StoredPrewarm> {
        self.prewarm.values()
    }

    /// Orders that name what is gone, and do nothing then. One that sends viewers there, in a region that stays, is an
    /// error: a configuration must not end it by the way.
    pub(crate) fn naming(&self, gone: &Gone<'_>) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        for StoredOverride { id, by, what, .. } in self.overrides.values() {
            let here = |region: &&RegionId| what.region.as_deref().is_none_or(|wanted| wanted == region.as_str());
            let regions = || gone.before.regions.keys().filter(here);
            let order = || format!("override {id} ({} {} by {by})", what.kind, what.target);
            let sends = what.kind == "pin" || (what.kind == "weight" && what.value.is_some_and(|value| value > 0.0));
            let stays = |region: &RegionId| gone.after.regions.contains_key(region);
            if sends && regions().any(|region| stays(region) && gone.is(&what.target, region)) {
                return Err(order());
            }
            let nowhere = regions().all(|region| !serves(gone.after, &what.target, region));
            if nowhere && regions().any(|region| gone.is(&what.target, region)) {
                out.push(order());
            }
        }
        for stored in self.rollbacks.values() {
            let order =
                || format!("rollback {} (epoch {} in {} by {})", stored.id, stored.epoch, stored.region, stored.by);
            let weights = stored.weights_ppm.iter().filter(|(_, ppm)| **ppm > 0);
            match gone.after.regions.get_key_value(stored.region.as_str()) {
                None => out.push(order()),
                Some((region, _)) if weights.into_iter().any(|(id, _)| gone.is(id, region)) => return Err(order()),
                Some(_) => {}
            }
        }
        for StoredPrewarm { id, target, region, .. } in self.prewarm.values() {
            let names = |name: &String, known: &Deployment| {
                known.pathways.contains_key(name.as_str())
                    || known.groups.contains_key(name.as_str())
                    || known.regions.contains_key(name.as_str())
            };
            if let Some(name) = target.iter().chain(region).find(|name| !names(name, gone.after)) {
                out.push(format!("order to prewarm {id} for {name}"));
            }
        }
        for StoredCalm { id, kind, region, .. } in self.calm.values() {
            if let Some(region) = region.as_deref().filter(|name| !gone.after.regions.contains_key(*name)) {
                out.push(format!("{kind} {id} in {region}"));
            }
        }
        Ok(out)
    }

    /// The same for pages.
    pub(crate) fn notes(&self, now: TimestampMs) -> impl Iterator<Item = Note> {
        let overrides = self.overrides.values().map(overrides::note);
        overrides
            .chain(self.rollbacks.values().map(rollback::note))
            .chain(self.calm.values().map(move |stored| calm::note(stored, now)))
            .chain(self.prewarm.values().map(prewarm::note))
    }
}

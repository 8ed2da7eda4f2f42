//! Publishing: allocate the epoch by compare-and-set, sign, swap, keep the last hundred.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use spillway_bus::{Store, StoreError};
use spillway_model::limits::MANIFEST_HISTORY;
use spillway_model::{Millis, RegionId, TimestampMs};
use spillway_routing::Manifest;
use spillway_wire::envelope::{self, Envelope, manifest_file, manifest_key};
use spillway_wire::manifest;

use crate::keys::KeyRing;

/// Epochs that a store is moved on at most.
const CATCH_UP_MAX: u64 = 100_000;

/// Why a manifest was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest contradicts itself: a bug of ours, which must not reach a consumer.
    #[error("the plan for {region} is not a valid manifest: {source}")]
    Invalid {
        /// Region.
        region: RegionId,
        /// What is wrong.
        source: spillway_routing::Invalid,
    },
    /// The key file can't be read or made.
    #[error("signing key {path}: {detail}")]
    Key {
        /// Which file.
        path: String,
        /// What is wrong.
        detail: String,
    },
}

/// Signs and publishes.
pub struct Publisher {
    store: Arc<dyn Store>,
    keys: KeyRing,
    valid: Millis,
    /// A key that has not signed for longer than this is taken back.
    keep_keys: Millis,
}

impl Publisher {
    /// Reads the signing key from `key_file` (32 bytes, base64), makes it if the file does not exist, and announces
    /// its public half in the store.
    ///
    /// # Errors
    /// [`PublishError::Key`] and [`PublishError::Store`].
    pub async fn open(store: Arc<dyn Store>, key_file: &Path, valid: Millis) -> Result<Self, PublishError> {
        let keys = KeyRing::open(&store, key_file).await?;
        Ok(Self { store, keys, valid, keep_keys: valid })
    }

    /// Also announces the key in `next_file`, which signs once it has been announced for `lead`.
    ///
    /// # Errors
    /// As [`Publisher::open`]; also if there is no such file.
    pub async fn follow_with(&mut self, next_file: &Path, lead: Millis, now: TimestampMs) -> Result<(), PublishError> {
        self.keep_keys = Millis(self.valid.0 + lead.0);
        self.keys.follow_with(&self.store, next_file, lead, now).await
    }

    /// Looks after the announced keys; call it often, it does something rarely.
    pub(crate) async fn tend_keys(&mut self, now: TimestampMs) {
        if let Err(error) = self.keys.tend(&self.store, self.keep_keys, now).await {
            tracing::warn!(%error, "manifest keys not looked after");
        }
    }

    /// Publishes `manifest` under the next epoch and returns it as published. The epoch is the store's version of the
    /// key, so that it survives fail-over and rollback and never goes back.
    ///
    /// # Errors
    /// [`PublishError`]; the last good manifest then stays in force.
    pub async fn publish(&self, mut manifest: Manifest) -> Result<Manifest, PublishError> {
        manifest.check().map_err(|source| PublishError::Invalid { region: manifest.region.clone(), source })?;
        manifest.valid_until = manifest.issued.after(self.valid);
        let key = manifest_key(&manifest.region);
        loop {
            let version = self.store.get(&key).await?.map_or(0, |current| current.version);
            manifest.epoch = version + 1;
            let bytes = self.seal(&manifest);
            match self.store.compare_and_set(&key, version, bytes.clone()).await {
                Ok(_) => {
                    self.keep(&manifest, bytes).await?;
                    return Ok(manifest);
                }
                // Another orchestrator was faster: the next epoch is ours.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes up a manifest that was made by hand while nothing else ran, out of the folder that manifests are published
    /// to, so that epochs go on from it: nodes have it, and would refuse what is older. Also after the store was lost.
    ///
    /// # Errors
    /// [`PublishError::Store`]. A file that is not there or not good is none.
    pub(crate) async fn catch_up(&self, region: &RegionId, folder: &Path) -> Result<(), PublishError> {
        let file = folder.join(manifest_file(region));
        let Ok(Ok(bytes)) = tokio::task::spawn_blocking(move || std::fs::read(file)).await else { return Ok(()) };
        // Not the keys beside it: who may write there need not be who may sign.
        let keys = self.keys.known(&self.store).await?;
        let payload = envelope::open(&bytes, &keys).ok().and_then(|payload| manifest::parse(&payload).ok());
        let Some(found) = payload.filter(|found| found.region == *region) else { return Ok(()) };
        let key = manifest_key(region);
        let mut version = self.store.get(&key).await?.map_or(0, |current| current.version);
        if version >= found.epoch {
            return Ok(());
        }
        if found.epoch - version > CATCH_UP_MAX {
            tracing::error!(%region, epoch = found.epoch, version, "the folder's manifest is too far ahead to go on from");
            return Ok(());
        }
        tracing::warn!(%region, epoch = found.epoch, version, "going on from a newer manifest in the folder");
        let bytes = Bytes::from(bytes);
        while version < found.epoch {
            version = match self.store.compare_and_set(&key, version, bytes.clone()).await {
                Ok(version) => version,
                Err(StoreError::Conflict { found, .. }) => found,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(self.keep(&found, bytes).await?)
    }

    fn seal(&self, manifest: &Manifest) -> Bytes {
        let signer = self.keys.signer(manifest.issued);
        let sealed: Envelope = envelope::seal(&signer.kid, &signer.key, &manifest::to_bytes(manifest));
        serde_json::to_vec(&sealed).expect("three strings").into()
    }

    async fn keep(&self, manifest: &Manifest, bytes: Bytes) -> Result<(), StoreError> {
        match self.store.compare_and_set(&history_key(&manifest.region, manifest.epoch), 0, bytes).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(old) = manifest.epoch.checked_sub(MANIFEST_HISTORY as u64) {
            self.store.remove(&history_key(&manifest.region, old)).await?;
        }
        Ok(())
    }

    /// The manifest in force, if there is one that reads: what a restarted orchestrator goes on from.
    ///
    /// # Errors
    /// [`PublishError::Store`].
    pub async fn current(&self, region: &RegionId) -> Result<Option<Manifest>, PublishError> {
        let Some(found) = self.store.get(&manifest_key(region)).await? else { return Ok(None) };
        let keys = self.keys.known(&self.store).await?;
        let read = envelope::open(&found.value, &keys)
            .map_err(|error| error.to_string())
            .and_then(|payload| manifest::parse(&payload).map_err(|error| error.to_string()));
        match read {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => {
                tracing::warn!(%region, error, "the manifest in force does not read; starting afresh");
                Ok(None)
            }
        }
    }
}

/// Store key of a manifest of earlier.
pub(crate) fn history_key(region: &RegionId, epoch: u64) -> String {
    format!("{}.history/{epoch}", manifest_key(region))
}

/// Epochs of the manifests that are kept, in order.
///
/// # Errors
/// The store's.
pub(crate) async fn epochs_kept(store: &dyn Store, region: &RegionId) -> Result<Vec<u64>, StoreError> {
    let prefix = format!("{}.history/", manifest_key(region));
    let keys = store.list(&prefix).await?;
    let mut epochs: Vec<u64> = keys.iter().filter_map(|key| key.strip_prefix(&prefix)?.parse().ok()).collect();
    epochs.sort_unstable();
    Ok(epochs)
}

/// A manifest out of our own store, whoever signed it: for what is shown of it.
pub(crate) fn read(envelope: &[u8]) -> Result<Manifest, String> {
    let payload = envelope::peek(envelope).map_err(|error| error.to_string())?;
    manifest::parse(&payload).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use spillway_bus::DirStore;
    use spillway_model::{BitsPerSecond, Mode, OriginGroupId, PathwayId, PathwayKind, PathwayState, Ppm};
    use spillway_routing::{CohortRule, ModeRule, Pathway, Serves, Target, TtlPolicy, Weights};

    fn manifest() -> Manifest {
        let id = PathwayId::new("cdn-a").expect("id");
        let all = Weights::from([(Target::Pathway(id.clone()), 1_000_000)]);
        let pathway = Pathway {
            kind: PathwayKind::Commercial,
            state: PathwayState::Healthy,
            reason: String::new(),
            since: TimestampMs(0),
            utilisation: Ppm(0),
            capacity: BitsPerSecond(1),
            learned_capacity: BitsPerSecond(1),
            serves: Serves::default(),
            group: None,
            origin_group: OriginGroupId::new("origin").ok(),
            failure_domains: std::iter::once("cdn-a".to_owned()).collect(),
            base_url: "http://a.example".into(),
            signer: None,
        };
        Manifest {
            region: RegionId::new("eu").expect("id"),
            epoch: 0,
            issued: TimestampMs(1_000),
            valid_until: TimestampMs(0),
            policy: "p".into(),
            modes: vec![ModeRule { class: None, mode: Mode::Control, control: Ppm::ALL }],
            pathways: BTreeMap::from([(id, pathway)]),
            groups: BTreeMap::new(),
            cohorts: vec![CohortRule {
                asn: None,
                class: None,
                device_class: None,
                weights_new: all.clone(),
                weights_running: all.clone(),
                running_before: TimestampMs(0),
                spare: Weights::new(),
                reason: String::new(),
            }],
            max_bitrate_kbps: vec![],
            probes: BTreeMap::new(),
            hot_titles: BTreeMap::new(),
            ttl: TtlPolicy { vod_s: 30, live_s: 10, suspect_s: 5, jitter: Ppm(100_000) },
            static_weights: all,
            shadow: vec![],
            overrides: vec![],
            drill: None,
        }
    }

    #[tokio::test]
    async fn epochs_grow_over_restarts_and_two_writers_never_share_one() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(&dir.path().join("store")).expect("store"));
        let key = dir.path().join("key");
        let first = Publisher::open(Arc::clone(&store), &key, Millis(10)).await.expect("open");
        assert_eq!(first.publish(manifest()).await.expect("publish").epoch, 1);
        let second = Publisher::open(Arc::clone(&store), &key, Millis(10)).await.expect("open again");
        let (a, b) = tokio::join!(first.publish(manifest()), second.publish(manifest()));
        let mut epochs = [a.expect("a").epoch, b.expect("b").epoch];
        epochs.sort_unstable();
        assert_eq!(epochs, [2, 3]);
        assert_eq!(second.current(&manifest().region).await.expect("current").map(|m| m.epoch), Some(3));
    }

    #[tokio::test]
    async fn only_the_last_hundred_are_kept() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let publisher = Publisher::open(Arc::clone(&store), &dir.path().join("key"), Millis(10)).await.expect("open");
        for _ in 0..MANIFEST_HISTORY + 5 {
            publisher.publish(manifest()).await.expect("publish");
        }
        assert_eq!(store.list("manifests/eu.history/").await.expect("list").len(), MANIFEST_HISTORY);
    }

    #[tokio::test]
    async fn a_plan_that_contradicts_itself_is_not_published() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let publisher = Publisher::open(store, &dir.path().join("key"), Millis(10)).await.expect("open");
        let mut bad = manifest();
        bad.static_weights = Weights::new();
        let error = publisher.publish(bad).await.expect_err("refused").to_string();
        assert!(error.contains("static_weights sum to 0"), "{error}");
        assert!(publisher.current(&manifest().region).await.expect("read").is_none());
    }
}

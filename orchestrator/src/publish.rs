//! Publishing: allocate the epoch by compare-and-set, sign, swap, keep the last hundred.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use spillway_bus::{Store, StoreError};
use spillway_model::limits::MANIFEST_HISTORY;
use spillway_model::{Millis, RegionId};
use spillway_routing::Manifest;
use spillway_wire::envelope::{self, Envelope, KEYS_KEY, manifest_key};
use spillway_wire::manifest;

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
    key: SigningKey,
    kid: String,
    valid: Millis,
}

impl Publisher {
    /// Reads the signing key from `key_file` (32 bytes, base64), makes it if the file does not exist, and announces
    /// its public half in the store.
    ///
    /// # Errors
    /// [`PublishError::Key`] and [`PublishError::Store`].
    pub async fn open(store: Arc<dyn Store>, key_file: &Path, valid: Millis) -> Result<Self, PublishError> {
        let key = read_or_make_key(key_file)?;
        let public = BASE64.encode(key.verifying_key().to_bytes());
        let kid: String = spillway_service::auth::token_hash(&public).chars().take(8).collect();
        loop {
            let current = store.get(KEYS_KEY).await?;
            let (version, mut keys) = match current {
                Some(found) => (found.version, serde_json::from_slice(&found.value).unwrap_or_default()),
                None => (0, BTreeMap::<String, String>::new()),
            };
            if keys.get(&kid) == Some(&public) {
                break;
            }
            keys.insert(kid.clone(), public.clone());
            let value = serde_json::to_vec(&keys).expect("string map");
            match store.compare_and_set(KEYS_KEY, version, value.into()).await {
                Ok(_) => break,
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { store, key, kid, valid })
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

    fn seal(&self, manifest: &Manifest) -> Bytes {
        let sealed: Envelope = envelope::seal(&self.kid, &self.key, &manifest::to_bytes(manifest));
        serde_json::to_vec(&sealed).expect("three strings").into()
    }

    async fn keep(&self, manifest: &Manifest, bytes: Bytes) -> Result<(), StoreError> {
        let history = |epoch: u64| format!("{}.history/{epoch}", manifest_key(&manifest.region));
        match self.store.compare_and_set(&history(manifest.epoch), 0, bytes).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(old) = manifest.epoch.checked_sub(MANIFEST_HISTORY as u64) {
            self.store.remove(&history(old)).await?;
        }
        Ok(())
    }

    /// The manifest in force, if there is one that reads: what a restarted orchestrator goes on from.
    ///
    /// # Errors
    /// [`PublishError::Store`].
    pub async fn current(&self, region: &RegionId) -> Result<Option<Manifest>, PublishError> {
        let Some(found) = self.store.get(&manifest_key(region)).await? else { return Ok(None) };
        let keys = BTreeMap::from([(self.kid.clone(), self.key.verifying_key())]);
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

fn read_or_make_key(path: &Path) -> Result<SigningKey, PublishError> {
    let bad = |detail: String| PublishError::Key { path: path.display().to_string(), detail };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let bytes = BASE64.decode(text.trim()).map_err(|error| bad(error.to_string()))?;
            let bytes: [u8; 32] =
                bytes.try_into().map_err(|_| bad("it is not base64 of 32 bytes (spillway keygen makes one)".into()))?;
            Ok(SigningKey::from_bytes(&bytes))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed: [u8; 32] = spillway_service::random::bytes();
            write_private(path, &BASE64.encode(seed)).map_err(|error| bad(error.to_string()))?;
            Ok(SigningKey::from_bytes(&seed))
        }
        Err(error) => Err(bad(error.to_string())),
    }
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spillway_bus::DirStore;
    use spillway_model::{BitsPerSecond, Mode, OriginGroupId, PathwayId, PathwayKind, PathwayState, Ppm, TimestampMs};
    use spillway_routing::{CohortRule, ModeRule, Pathway, Serves, Target, TtlPolicy, Weights};

    fn manifest() -> Manifest {
        let id = PathwayId::new("cdn-a").expect("id");
        let all: Weights = BTreeMap::from([(Target::Pathway(id.clone()), 1_000_000)]);
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
        bad.static_weights.clear();
        let error = publisher.publish(bad).await.expect_err("refused").to_string();
        assert!(error.contains("static_weights sum to 0"), "{error}");
        assert!(publisher.current(&manifest().region).await.expect("read").is_none());
    }
}

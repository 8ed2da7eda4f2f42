//! The lease of the lake's jobs, kept in the store of the control rooms.

use std::sync::Arc;

use anyhow::Context as _;
use spillway_bus::{Store, StoreError};
use spillway_lake::LakeError;
use spillway_lake::jobs::lease::{LEASE_KEY, Lease, LeaseStore};

/// [`LeaseStore`] over a [`Store`]: one JSON record under one key.
pub struct StoredLease(pub Arc<dyn Store>);

fn failed(error: impl std::fmt::Display) -> LakeError {
    LakeError::Lease(error.to_string())
}

#[async_trait::async_trait]
impl LeaseStore for StoredLease {
    async fn read(&self) -> Result<(u64, Lease), LakeError> {
        match self.0.get(LEASE_KEY).await.map_err(failed)? {
            None => Ok((0, Lease::default())),
            Some(found) => {
                let lease = serde_json::from_slice(&found.value).with_context(|| format!("read {LEASE_KEY}"));
                Ok((found.version, lease.map_err(|error| failed(format!("{error:#}")))?))
            }
        }
    }

    async fn write(&self, expected: u64, lease: &Lease) -> Result<Option<u64>, LakeError> {
        let value = serde_json::to_vec(lease).map_err(failed)?;
        match self.0.compare_and_set(LEASE_KEY, expected, value.into()).await {
            Ok(version) => Ok(Some(version)),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use spillway_bus::DirStore;

    use super::*;

    #[tokio::test]
    async fn the_record_is_read_back_and_only_the_newest_version_may_be_replaced() {
        let dir = std::env::temp_dir().join(format!("spillway-lease-{}", std::process::id()));
        let store = StoredLease(Arc::new(DirStore::open(&dir).expect("store")));
        assert_eq!(store.read().await.expect("read"), (0, Lease::default()));
        let lease = Lease { holder: "a".into(), until_ms: 9, last_ms: [("compact".to_owned(), 3)].into() };
        assert_eq!(store.write(0, &lease).await.expect("write"), Some(1));
        assert_eq!(store.write(0, &Lease::default()).await.expect("refused"), None);
        assert_eq!(store.read().await.expect("read"), (1, lease));
        std::fs::remove_dir_all(dir).expect("remove");
    }
}

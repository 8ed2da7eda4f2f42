//! Tables on S3-compatible storage: `s3://bucket/prefix`.
//!
//! Commits of many writers are safe by conditional put alone (`If-None-Match: *` on the next file of the Delta log);
//! no lock table is needed. A store that ignores the condition would lose commits, so it is not supported.
//!
//! Everything but bucket and prefix comes from the environment, as for every S3 tool: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL` (requests then name the bucket in the path),
//! `AWS_ALLOW_HTTP=true` for an endpoint without TLS, and the web identity and container variables.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use deltalake::logstore::{
    LogStore, LogStoreFactory, ObjectStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories,
    object_store_factories,
};
use deltalake::{DeltaResult, DeltaTableError};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use url::Url;

/// The scheme of roots on S3.
pub(crate) const SCHEME: &str = "s3";

/// A request is tried so often; after that the commit fails, its rows stay in the WAL, and it is tried as a whole.
const RETRIES_MAX: usize = 5;
/// No try begins later than this after the first.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes `s3://` known to deltalake; cheap when it is already.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(scheme) = Url::parse("s3://") else { return };
        let factory = Arc::new(Factory::default());
        object_store_factories().insert(scheme.clone(), Arc::clone(&factory) as Arc<dyn ObjectStoreFactory>);
        logstore_factories().insert(scheme, factory);
    });
}

/// One client per bucket: a client has a pool of connections and reads the machine's root certificates.
#[derive(Default)]
struct Factory {
    clients: Mutex<BTreeMap<String, ObjectStoreRef>>,
}

impl ObjectStoreFactory for Factory {
    fn parse_url_opts(&self, url: &Url, _config: &StorageConfig) -> DeltaResult<(ObjectStoreRef, Path)> {
        let bucket = url.host_str().ok_or_else(|| DeltaTableError::InvalidTableLocation(url.to_string()))?;
        let path = Path::from_url_path(url.path()).map_err(object_store::Error::from)?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(bucket) {
            return Ok((Arc::clone(client), path));
        }
        let client: ObjectStoreRef = Arc::new(builder(bucket).build()?);
        clients.insert(bucket.to_owned(), Arc::clone(&client));
        Ok((client, path))
    }
}

fn builder(bucket: &str) -> AmazonS3Builder {
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
}

impl LogStoreFactory for Factory {
    fn with_options(
        &self,
        prefixed_store: ObjectStoreRef,
        root_store: ObjectStoreRef,
        location: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(prefixed_store, root_store, location, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableName;
    use crate::{lake_root, table};

    #[test]
    fn a_root_on_s3_names_a_bucket() {
        assert_eq!(lake_root("s3://bucket/a/b").expect("a root").as_str(), "s3://bucket/a/b");
        for wrong in ["s3://", "s3:///a", "gs://bucket/a", "relative/path", "file://host/a"] {
            assert!(lake_root(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_tables_of_a_bucket_share_one_client() {
        let root = lake_root("s3://bucket/prefix").expect("a root");
        let factory = Factory::default();
        let (events, path) = factory
            .parse_url_opts(&table::location(&root, TableName::Events).expect("a location"), &StorageConfig::default())
            .expect("a client");
        let (decisions, _) = factory
            .parse_url_opts(&table::location(&root, TableName::Decisions).expect("one"), &StorageConfig::default())
            .expect("a client");
        assert_eq!(path.as_ref(), "prefix/events");
        assert!(Arc::ptr_eq(&events, &decisions));
    }

    #[test]
    fn deltalake_knows_the_scheme_once_a_table_is_located() {
        let root = lake_root("s3://bucket/prefix").expect("a root");
        let url = table::location(&root, TableName::Events).expect("a location");
        let built = deltalake::DeltaTableBuilder::from_url(url).and_then(deltalake::DeltaTableBuilder::build);
        assert!(built.is_ok(), "{built:?}");
    }
}

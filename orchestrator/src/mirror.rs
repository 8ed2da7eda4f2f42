//! Manifests and keys as plain files elsewhere: in a directory, in a bucket. For nodes that reach no orchestrator, and
//! for the night when nobody else runs.
//!
//! A mirror follows the store at its own pace, so it never delays a publishing and never makes one fail. What it could
//! not write it tries again, always with the newest; what is newer there than in the store it leaves, and says so.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use spillway_bus::{Store, StoreError};
use spillway_model::RegionId;
use spillway_service::config::ConfigError;
use spillway_service::{CancellationToken, Deployed};
use spillway_wire::envelope::{KEYS_FILE, KEYS_KEY, manifest_file, manifest_key};
use tokio::sync::watch;
use url::Url;

use crate::config::OrchestratorConfig;
use crate::publish::read;

/// The store is looked at so often also without word from a round: somebody else may have published.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The first pause after a failure; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A single file takes no longer, or it failed.
const FILE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a file was not mirrored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    There(#[from] object_store::Error),
    #[error("{0}")]
    Folder(#[from] std::io::Error),
    #[error("no answer within {} s", FILE_TIMEOUT.as_secs())]
    Slow,
}

/// Where files go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Folder(std::path::PathBuf),
    Bucket { bucket: String, prefix: Path },
}

/// The targets that the configuration names.
///
/// # Errors
/// [`ConfigError::Invalid`] for what is none.
pub(crate) fn targets(config: &OrchestratorConfig) -> Result<Vec<Target>, ConfigError> {
    let folder = config.publish_dir.iter().map(|dir| Target::Folder(dir.clone()));
    let mut out: Vec<Target> = folder.collect();
    if let Some(text) = &config.publish_url {
        let bad = || ConfigError::invalid("orchestrator.publish_url", text, "s3://bucket or s3://bucket/prefix");
        let url = Url::parse(text).map_err(|_| bad())?;
        let bucket = url.host_str().filter(|bucket| url.scheme() == "s3" && !bucket.is_empty()).ok_or_else(bad)?;
        let prefix = Path::from_url_path(url.path()).map_err(|_| bad())?;
        out.push(Target::Bucket { bucket: bucket.to_owned(), prefix });
    }
    Ok(out)
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Folder(dir) => dir.display().to_string(),
            Self::Bucket { bucket, prefix } => format!("s3://{bucket}/{prefix}"),
        }
    }

    /// Opened anew after a failure: a folder may be mounted late, and credentials may change.
    fn open(&self) -> Result<(Arc<dyn ObjectStore>, Path), MirrorError> {
        Ok(match self {
            Self::Folder(dir) => (folder(dir)?, Path::default()),
            Self::Bucket { bucket, prefix } => {
                let client = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
                (Arc::new(client), prefix.clone())
            }
        })
    }
}

fn folder(dir: &FilePath) -> Result<Arc<dyn ObjectStore>, MirrorError> {
    std::fs::create_dir_all(dir)?;
    Ok(Arc::new(LocalFileSystem::new_with_prefix(dir)?))
}

/// Mirrors everything to every target until shutdown; a change of `published` is a reason to look at once.
pub(crate) async fn run(
    targets: Vec<Target>,
    store: Arc<dyn Store>,
    deployed: Deployed,
    published: watch::Receiver<u64>,
    shutdown: CancellationToken,
) {
    let one = |target: Target| {
        let name = target.name();
        follow(name, move || target.open(), Arc::clone(&store), deployed.clone(), published.clone(), shutdown.clone())
    };
    futures::future::join_all(targets.into_iter().map(one)).await;
}

async fn follow(
    name: String,
    open: impl Fn() -> Result<(Arc<dyn ObjectStore>, Path), MirrorError>,
    store: Arc<dyn Store>,
    deployed: Deployed,
    mut published: watch::Receiver<u64>,
    shutdown: CancellationToken,
) {
    let mut there = None;
    let mut done = BTreeMap::new();
    let mut pause = PAUSE_MIN;
    loop {
        published.mark_unchanged();
        let pass = async {
            let (files, prefix) = match &mut there {
                Some(there) => there,
                None => there.insert(open()?),
            };
            let regions: Vec<RegionId> = deployed.now().regions.keys().cloned().collect();
            pass(&name, files.as_ref(), prefix, store.as_ref(), &regions, &mut done).await
        };
        let passed = tokio::select! {
            passed = pass => passed,
            () = shutdown.cancelled() => return,
        };
        let wait = match passed {
            Ok(()) => {
                if pause > PAUSE_MIN {
                    tracing::warn!(mirror = name, "mirror of manifests back");
                }
                pause = PAUSE_MIN;
                LOOK_EVERY
            }
            Err(error) => {
                metrics::counter!("spillway_manifest_mirror_failed_total", "mirror" => name.clone()).increment(1);
                if pause == PAUSE_MIN {
                    tracing::warn!(mirror = name, %error, "mirror of manifests fails; it is tried again");
                }
                there = None;
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                wait
            }
        };
        let failed = there.is_none();
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // After a failure a new manifest is no reason for haste.
            changed = published.changed(), if !failed => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Writes what the store has newer than what was written. Keys come first: a manifest without its key is refused.
async fn pass(
    name: &str,
    files: &dyn ObjectStore,
    prefix: &Path,
    store: &dyn Store,
    regions: &[RegionId],
    done: &mut BTreeMap<String, u64>,
) -> Result<(), MirrorError> {
    let keys = std::iter::once((KEYS_KEY.to_owned(), KEYS_FILE.to_owned()));
    let manifests = regions.iter().map(|region| (manifest_key(region), manifest_file(region)));
    for (key, file) in keys.chain(manifests) {
        let Some(found) = store.get(&key).await? else { continue };
        if done.get(&key) == Some(&found.version) {
            continue;
        }
        let path = prefix.clone().join(file);
        let write = write(name, files, &path, &found.value);
        tokio::time::timeout(FILE_TIMEOUT, write).await.map_err(|_| MirrorError::Slow)??;
        done.insert(key, found.version);
    }
    Ok(())
}

async fn write(name: &str, files: &dyn ObjectStore, path: &Path, value: &Bytes) -> Result<(), MirrorError> {
    let there = match files.get(path).await {
        Ok(there) => Some(there.bytes().await?),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if there.as_ref() == Some(value) {
        return Ok(());
    }
    let epoch = |bytes: &Bytes| read(bytes).map(|manifest| manifest.epoch).ok();
    if let (Some(theirs), Some(ours)) = (there.as_ref().and_then(epoch), epoch(value))
        && theirs > ours
    {
        metrics::counter!("spillway_manifest_mirror_ahead_total", "mirror" => name.to_owned()).increment(1);
        tracing::warn!(mirror = name, file = %path, theirs, ours, "a newer manifest is in the mirror and stays");
        return Ok(());
    }
    files.put(path, value.clone().into()).await?;
    metrics::counter!("spillway_manifest_mirror_written_total", "mirror" => name.to_owned()).increment(1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use spillway_bus::DirStore;

    use super::*;
    use crate::fixtures::{deployment, region};

    fn config(text: &str) -> OrchestratorConfig {
        toml::from_str(text).expect("shape")
    }

    #[test]
    fn targets_are_a_folder_and_a_bucket() {
        let both = config("publish_dir = \"/m\"\npublish_url = \"s3://b/a/c\"");
        let bucket = Target::Bucket { bucket: "b".into(), prefix: Path::from("a/c") };
        assert_eq!(targets(&both).expect("valid"), [Target::Folder("/m".into()), bucket.clone()]);
        assert_eq!(bucket.name(), "s3://b/a/c");
        assert!(targets(&OrchestratorConfig::default()).expect("none").is_empty());
        for bad in ["b/a", "gs://b", "s3://"] {
            let error = targets(&config(&format!("publish_url = \"{bad}\""))).expect_err(bad).to_string();
            assert!(error.contains("publish_url") && error.contains("s3://bucket/prefix"), "{error}");
        }
    }

    async fn wait_for(what: &str, holds: impl AsyncFn() -> bool) {
        for _ in 0..500 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{what}");
    }

    #[tokio::test]
    async fn a_folder_that_fails_gets_the_newest_once_it_is_back_and_a_bucket_is_not_held_up_by_it() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(&dir.path().join("store")).expect("store"));
        let set = async |key: &str, version, value: &'static [u8]| {
            store.compare_and_set(key, version, Bytes::from_static(value)).await.expect("set");
        };
        let key = manifest_key(&region());
        set(KEYS_KEY, 0, b"{\"k\":\"v\"}").await;
        set(&key, 0, b"one").await;
        let blocked = dir.path().join("out");
        std::fs::write(&blocked, "in the way").expect("write");
        let bucket: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (tell, published) = watch::channel(0);
        let shutdown = CancellationToken::new();
        let target = Target::Folder(blocked.clone());
        let to_folder = follow(
            "folder".into(),
            move || target.open(),
            Arc::clone(&store),
            deployment().into(),
            published.clone(),
            shutdown.clone(),
        );
        let there = Arc::clone(&bucket);
        let open = move || Ok((Arc::clone(&there), Path::from("m")));
        let to_bucket =
            follow("bucket".into(), open, Arc::clone(&store), deployment().into(), published, shutdown.clone());
        let tasks = [tokio::spawn(to_folder), tokio::spawn(to_bucket)];

        let in_bucket = async |file: &str| match bucket.get(&Path::from(file)).await {
            Ok(found) => found.bytes().await.expect("bytes"),
            Err(_) => Bytes::new(),
        };
        wait_for("the bucket has the first", async || in_bucket("m/eu-a.json").await == "one").await;
        assert_eq!(in_bucket("m/keys.json").await, "{\"k\":\"v\"}");
        set(&key, 1, b"two").await;
        tell.send_replace(1);
        wait_for("the bucket has the second", async || in_bucket("m/eu-a.json").await == "two").await;
        std::fs::remove_file(&blocked).expect("out of the way");
        let in_folder = async || std::fs::read(blocked.join("eu-a.json")).is_ok_and(|found| found == b"two");
        wait_for("the folder has the newest", in_folder).await;
        shutdown.cancel();
        for task in tasks {
            task.await.expect("ended");
        }
    }
}

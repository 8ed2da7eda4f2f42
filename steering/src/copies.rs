//! The last good manifest of each region on the node's own disk, with the public keys: a node that starts while nothing
//! else runs steers by them. What is read is checked like what comes over the network.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use spillway_model::RegionId;
use spillway_model::limits::MANIFEST_MAX_BYTES;
use spillway_service::CancellationToken;
use spillway_wire::envelope::{KEYS_FILE, manifest_file};
use tokio::sync::Notify;

/// Between two rounds of writing: a region that changes every second is written as it was last.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// The copies in a directory.
#[derive(Clone)]
pub(crate) struct Copies {
    dir: PathBuf,
    /// By file name: the newest that was not written yet.
    pending: Arc<Mutex<BTreeMap<String, Bytes>>>,
    wake: Arc<Notify>,
}

impl Copies {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), pending: Arc::default(), wake: Arc::default() }
    }

    /// Remembers an accepted envelope.
    pub(crate) fn keep(&self, region: &RegionId, envelope: Bytes) {
        self.push(manifest_file(region), envelope);
    }

    /// Remembers the keys.
    pub(crate) fn keep_keys(&self, keys: Bytes) {
        self.push(KEYS_FILE.to_owned(), keys);
    }

    fn push(&self, name: String, bytes: Bytes) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(name, bytes);
        self.wake.notify_one();
    }

    /// The keys, if there are any.
    pub(crate) fn read_keys(&self) -> Option<Vec<u8>> {
        self.read(KEYS_FILE)
    }

    /// The copy of `region`, if there is one.
    pub(crate) fn read_manifest(&self, region: &RegionId) -> Option<Vec<u8>> {
        self.read(&manifest_file(region))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.dir.join(name);
        let mut bytes = Vec::new();
        let read =
            fs::File::open(&path).and_then(|file| file.take(MANIFEST_MAX_BYTES as u64 + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "copy of a manifest not read");
                None
            }
        }
    }

    /// Writes what is remembered, until shutdown and once more at the end. A disk that fails costs the copy only.
    pub(crate) async fn write_until(&self, shutdown: &CancellationToken) {
        let mut well = true;
        loop {
            let last = tokio::select! {
                () = self.wake.notified() => false,
                () = shutdown.cancelled() => true,
            };
            let copies = self.clone();
            let written = tokio::task::spawn_blocking(move || copies.write()).await;
            match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(()) => well = true,
                Err(error) => {
                    metrics::counter!("spillway_steer_manifest_copies_failed_total").increment(1);
                    if std::mem::replace(&mut well, false) {
                        tracing::warn!(dir = %self.dir.display(), %error, "copies of manifests not written");
                    }
                }
            }
            if last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Writes everything that waits; what fails waits on, unless a newer one has come.
    fn write(&self) -> io::Result<()> {
        let taken = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = None;
        for (name, bytes) in taken {
            if let Err(error) = self.replace(&name, &bytes) {
                self.pending.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(bytes);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Either the old or the new one is there, also after a power cut.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let temporary = self.dir.join(format!("{name}.tmp"));
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(name))?;
        fs::File::open(&self.dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_is_written_and_a_failing_disk_is_tried_again() {
        let dir = tempfile::tempdir().expect("dir");
        let region = RegionId::new("eu").expect("id");
        let blocked = dir.path().join("copies");
        fs::write(&blocked, "a file where a folder should be").expect("write");
        let copies = Copies::new(&blocked);
        copies.keep(&region, Bytes::from_static(b"one"));
        copies.write().expect_err("no folder");
        copies.keep(&region, Bytes::from_static(b"two"));
        fs::remove_file(&blocked).expect("remove");
        copies.keep_keys(Bytes::from_static(b"{}"));
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        copies.write_until(&shutdown).await;
        assert_eq!(copies.read_manifest(&region).as_deref(), Some(&b"two"[..]));
        assert_eq!(copies.read_keys().as_deref(), Some(&b"{}"[..]));
        assert_eq!(fs::read_dir(&blocked).expect("list").count(), 2, "nothing half done is left");
        assert!(copies.read_manifest(&RegionId::new("us").expect("id")).is_none());
    }
}

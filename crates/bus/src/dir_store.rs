//! The store of one machine: a directory, one file per key, replaced by rename.
//!
//! A file is its version (8 bytes, little endian) and the value. Writers of one process are serialised by a mutex,
//! writers of several by an exclusive lock file beside the data.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::{Store, StoreError, Versioned};

/// How often `changed` looks for what another process wrote.
const POLL: Duration = Duration::from_millis(200);

/// Key-value store in a directory.
#[derive(Clone, Debug)]
pub struct DirStore {
    root: Arc<PathBuf>,
    write: Arc<Mutex<()>>,
    changed: Arc<Notify>,
}

impl DirStore {
    /// Opens, and creates where needed, the directory.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", root.display())))?;
        Ok(Self { root: Arc::new(root.to_owned()), write: Arc::default(), changed: Arc::default() })
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        let part_ok = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if key.len() > 512 || !key.split('/').all(part_ok) {
            return Err(StoreError::BadKey(key.chars().take(80).collect()));
        }
        Ok(self.root.join(format!("{key}.v")))
    }

    fn read(path: &Path) -> io::Result<Option<Versioned>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some((version, value)) = bytes.split_first_chunk::<8>() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: shorter than its version", path.display()),
            ));
        };
        Ok(Some(Versioned { version: u64::from_le_bytes(*version), value: Bytes::copy_from_slice(value) }))
    }

    /// Only the version; 0 if there is no value. Watchers ask often, and values may be large.
    fn read_version(path: &Path) -> io::Result<u64> {
        let mut version = [0; 8];
        match fs::File::open(path).and_then(|mut file| file.read_exact(&mut version)) {
            Ok(()) => Ok(u64::from_le_bytes(version)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn set(&self, key: &str, expected: u64, value: &[u8]) -> Result<u64, StoreError> {
        let path = self.path(key)?;
        let io = |source| StoreError::Io { key: key.into(), source };
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(io)?;
        let _in_process = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join(".lock"))
            .map_err(io)?;
        lock.lock().map_err(io)?;
        let found = Self::read(&path).map_err(io)?.map_or(0, |current| current.version);
        if found != expected {
            return Err(StoreError::Conflict { key: key.into(), expected, found });
        }
        let temporary = path.with_extension("tmp");
        let mut file = fs::File::create(&temporary).map_err(io)?;
        file.write_all(&(expected + 1).to_le_bytes()).and_then(|()| file.write_all(value)).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&temporary, &path).map_err(io)?;
        // The rename itself must survive a power cut: an epoch must never go back.
        fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
        drop(lock);
        self.changed.notify_waiters();
        Ok(expected + 1)
    }
}

async fn blocking<T: Send + 'static>(
    key: &str,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Io { key: key.into(), source: io::Error::other(error) }))
}

#[async_trait]
impl Store for DirStore {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let (path, name) = (self.path(key)?, key.to_owned());
        blocking(key, move || Self::read(&path).map_err(|source| StoreError::Io { key: name, source })).await
    }

    async fn compare_and_set(&self, key: &str, expected: u64, value: Bytes) -> Result<u64, StoreError> {
        let (store, name) = (self.clone(), key.to_owned());
        blocking(key, move || store.set(&name, expected, &value)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        let name = prefix.clone();
        blocking(&name, move || {
            let mut keys = Vec::new();
            let mut open = vec![root.as_ref().clone()];
            while let Some(dir) = open.pop() {
                let entries = match fs::read_dir(&dir) {
                    Ok(entries) => entries,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(StoreError::Io { key: prefix, source }),
                };
                for path in entries.flatten().map(|entry| entry.path()) {
                    if path.is_dir() {
                        open.push(path);
                    } else if path.extension().is_some_and(|extension| extension == "v")
                        && let Ok(relative) = path.with_extension("").strip_prefix(root.as_ref())
                        && let Some(key) = relative.to_str()
                        && key.starts_with(&prefix)
                    {
                        keys.push(key.to_owned());
                    }
                }
            }
            keys.sort();
            Ok(keys)
        })
        .await
    }

    async fn changed(&self, key: &str, seen: u64) -> Result<Versioned, StoreError> {
        loop {
            let notified = self.changed.notified();
            let (path, name) = (self.path(key)?, key.to_owned());
            let peek = move || Self::read_version(&path).map_err(|source| StoreError::Io { key: name, source });
            if blocking(key, peek).await? > seen
                && let Some(current) = self.get(key).await?
            {
                return Ok(current);
            }
            // Another process's write has no notification here.
            let _ = tokio::time::timeout(POLL, notified).await;
        }
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        let (path, name) = (self.path(key)?, key.to_owned());
        blocking(key, move || match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::Io { key: name, source }),
            _ => Ok(()),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn compare_and_set_lets_one_of_two_writers_win() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (DirStore::open(dir.path()).expect("open"), DirStore::open(dir.path()).expect("open"));
        assert_eq!(a.compare_and_set("manifests/x", 0, Bytes::from_static(b"1")).await.expect("first"), 1);
        let error = b.compare_and_set("manifests/x", 0, Bytes::from_static(b"2")).await.expect_err("late");
        assert_eq!(error.to_string(), "key \"manifests/x\" has version 1 instead of 0");
        assert_eq!(b.compare_and_set("manifests/x", 1, Bytes::from_static(b"2")).await.expect("second"), 2);
        assert_eq!(a.get("manifests/x").await.expect("get").expect("there").value.as_ref(), b"2");
        assert_eq!(a.list("manifests/").await.expect("list"), ["manifests/x"]);
    }

    #[tokio::test]
    async fn a_watcher_sees_what_another_process_wrote() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (DirStore::open(dir.path()).expect("open"), DirStore::open(dir.path()).expect("open"));
        let waits = tokio::spawn(async move { a.changed("k", 0).await });
        b.compare_and_set("k", 0, Bytes::from_static(b"v")).await.expect("set");
        assert_eq!(waits.await.expect("task").expect("changed").value.as_ref(), b"v");
    }

    #[tokio::test]
    async fn a_key_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().expect("dir");
        let store = DirStore::open(dir.path()).expect("open");
        for key in ["../x", "a//b", "/etc", "", "a/.lock"] {
            assert!(matches!(store.get(key).await, Err(StoreError::BadKey(_))), "{key}");
        }
    }
}

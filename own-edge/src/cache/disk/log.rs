//! Purges that a crash must not undo: those that the files of an earlier process may not know of yet.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cache::object::Key;
use crate::cache::purge::{Purge, PurgeV1};

/// A longer log is begun anew, once all that it says is on the disk.
const LOG_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// When so many URLs have changed while files wait to be looked into, all count as changed.
const CHANGED_MAX: usize = 100_000;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// Files of this number and above were written after the purge.
    before: u64,
    purge: PurgeV1,
}

/// The log.
pub(super) struct Log(Mutex<State>);

struct State {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// What files that nobody has looked into yet must be held against; `None` when all have been.
    pending: Option<Vec<(u64, Arc<Purge>)>>,
    /// URLs that have changed meanwhile; a crash forgets them.
    changed: HashSet<Key>,
    newest: u64,
}

impl Log {
    /// Reads the log of an earlier process.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        // The last line may have been cut by a crash: nobody was told that its purge was carried out.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let pending: Vec<_> = lines.map(|line| (line.before, Arc::new(Purge::noted(line.purge)))).collect();
        let newest = pending.iter().map(|(before, _)| *before).filter(|before| *before != u64::MAX).max();
        let mut file = File::options().create(true).append(true).open(path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n")?;
        }
        let state = State {
            path: path.to_owned(),
            file,
            bytes: text.len() as u64,
            pending: Some(pending),
            changed: HashSet::new(),
            newest: newest.unwrap_or(0),
        };
        Ok(Self(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No file of an earlier process that a purge names has this number or a higher one.
    pub(super) fn newest(&self) -> u64 {
        self.lock().newest
    }

    /// Notes purges of what was written so far, and waits until the disk has them.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn add(&self, before: u64, batch: &[Arc<Purge>]) -> io::Result<()> {
        let mut state = self.lock();
        let mut lines = Vec::new();
        for purge in batch {
            let line = Line { before, purge: purge.as_v1() };
            serde_json::to_writer(&mut lines, &line).map_err(io::Error::other)?;
            lines.push(b'\n');
        }
        if let Some(pending) = &mut state.pending {
            pending.extend(batch.iter().map(|purge| (before, purge.clone())));
        }
        if !state.path.exists() {
            // Somebody has removed the folder.
            state.path.parent().map_or(Ok(()), fs::create_dir_all)?;
            state.file = File::options().create(true).append(true).open(&state.path)?;
        }
        state.bytes += lines.len() as u64;
        state.file.write_all(&lines)?;
        state.file.sync_data()
    }

    /// Purges that a file of an earlier process is held against.
    pub(super) fn since(&self, number: u64) -> Vec<Arc<Purge>> {
        let state = self.lock();
        let pending = state.pending.iter().flatten();
        pending.filter(|(before, _)| number < *before).map(|(_, purge)| purge.clone()).collect()
    }

    /// Notes that what a file of an earlier process has of `url` is not to be used any more.
    pub(super) fn note_changed(&self, url: &Key) {
        let mut state = self.lock();
        if state.pending.is_some() && state.changed.len() < CHANGED_MAX {
            state.changed.insert(url.clone());
        }
    }

    /// Whether that was noted of `url`.
    pub(super) fn has_changed(&self, url: &Key) -> bool {
        let state = self.lock();
        state.changed.contains(url) || state.changed.len() >= CHANGED_MAX
    }

    /// Every file of an earlier process was held against every purge.
    pub(super) fn everything_was_applied(&self, folder: &Path) {
        let mut state = self.lock();
        (state.pending, state.changed) = (None, HashSet::new());
        drop(state);
        self.begin_anew(folder, 1);
    }

    /// Begins anew where it became long.
    pub(super) fn shorten(&self, folder: &Path) {
        self.begin_anew(folder, LOG_MAX_BYTES);
    }

    fn begin_anew(&self, folder: &Path, from_bytes: u64) {
        let mut state = self.lock();
        if state.bytes < from_bytes || state.pending.is_some() {
            return;
        }
        // First what it says, then the log.
        let emptied = File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
        match emptied.and_then(|()| state.file.set_len(0)) {
            Ok(()) => state.bytes = 0,
            Err(error) => tracing::warn!(%error, "the log of purges can't be begun anew"),
        }
    }
}

//! Moments to kill at, seen from outside: files that come, grow and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::storage::Storage;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    /// Any.
    Random,
    /// A WAL segment has grown: written, perhaps not synced, not acknowledged.
    WalWrite,
    /// A WAL segment has just been begun.
    WalSegment,
    /// A Parquet file has come: not yet part of the table.
    Parquet,
    /// An entry of the Delta log has come: committed, the WAL not yet trimmed.
    DeltaLog,
    /// A WAL segment is gone: in the middle of the trim.
    Trim,
    /// Any, and once more while the WAL is read after the restart.
    Start,
}

impl Point {
    pub(super) const ALL: [Self; 7] =
        [Self::Random, Self::WalWrite, Self::WalSegment, Self::Parquet, Self::DeltaLog, Self::Trim, Self::Start];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::WalWrite => "wal_write",
            Self::WalSegment => "wal_segment",
            Self::Parquet => "parquet",
            Self::DeltaLog => "delta_log",
            Self::Trim => "trim",
            Self::Start => "start",
        }
    }
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// Length by name.
    pub(super) wal: BTreeMap<String, u64>,
    pub(super) parquet: BTreeSet<String>,
    pub(super) log: BTreeSet<String>,
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: u64 = self.wal.values().sum();
        let (segments, files, commits) = (self.wal.len(), self.parquet.len(), self.log.len());
        write!(f, "wal {segments} segments {bytes} bytes, table {files} files {commits} commits")
    }
}

/// Waits for a moment.
pub(super) struct Watch<'a> {
    storage: &'a Storage,
    wal: &'a Path,
    point: Point,
}

impl<'a> Watch<'a> {
    pub(super) fn new(storage: &'a Storage, wal: &'a Path, point: Point) -> Self {
        Self { storage, wal, point }
    }

    fn look(&self) -> Look {
        match self.point {
            Point::Parquet | Point::DeltaLog => self.storage.look(self.wal),
            _ => Look { wal: wal_files(self.wal), ..Look::default() },
        }
    }

    /// Whether the moment came within `patience`.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        const STEP: Duration = Duration::from_micros(200);
        let mut before = self.look();
        // Steps, not a clock: each takes at least its sleep, so this is a bound from below.
        for _ in 0..patience.as_micros() / STEP.as_micros() {
            std::thread::sleep(STEP);
            let now = self.look();
            if self.reached(&before, &now) {
                return true;
            }
            before = now;
        }
        false
    }

    fn reached(&self, before: &Look, now: &Look) -> bool {
        match self.point {
            Point::Random | Point::Start => true,
            Point::WalWrite => now.wal.iter().any(|(name, len)| before.wal.get(name).is_some_and(|was| len > was)),
            Point::WalSegment => now.wal.keys().any(|name| !before.wal.contains_key(name)),
            Point::Trim => before.wal.keys().any(|name| !now.wal.contains_key(name)),
            Point::Parquet => now.parquet.difference(&before.parquet).next().is_some(),
            Point::DeltaLog => now.log.difference(&before.log).next().is_some(),
        }
    }
}

/// WAL segments of `dir` with their lengths.
pub(super) fn wal_files(dir: &Path) -> BTreeMap<String, u64> {
    entries(dir)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .filter_map(|path| Some((super::text(&path), std::fs::metadata(&path).ok()?.len())))
        .collect()
}

/// What `dir` holds; nothing if it is not there.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

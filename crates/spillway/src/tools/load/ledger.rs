//! What was acknowledged, in a file: a line `view_id first_seq count` for each beacon. A checker knows from it what
//! must be in the table.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

/// An open ledger.
pub(super) struct Ledger(Mutex<BufWriter<File>>);

impl Ledger {
    /// Opens `path` for appending.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).open(path);
        let file = opened.with_context(|| format!("open ledger {}", path.display()))?;
        Ok(Self(Mutex::new(BufWriter::new(file))))
    }

    /// Notes `count` events of `view_id` from `first_seq` on.
    pub(super) fn note(&self, view_id: &str, first_seq: u64, count: u64) -> anyhow::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(file, "{view_id} {first_seq} {count}").context("write the ledger")
    }

    /// Writes what is buffered.
    pub(super) fn flush(&self) -> anyhow::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush().context("write the ledger")
    }
}

//! The file operations of the WAL, so that a test can have a full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// An open segment.
pub(crate) trait SegmentFile: Send {
    /// Appends all of `bytes`, or fails with any part of them written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was appended survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `len` bytes and makes that durable.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

/// Where segments are.
pub(crate) trait Files: Send {
    /// Opens `path` for appending, creating it (and its directory entry, durably) if it is not there.
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
}

/// The real disk.
pub(crate) struct Disk;

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.sync_all()
    }
}

impl Files for Disk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let new = !path.exists();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        if new && let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Box::new(file))
    }
}

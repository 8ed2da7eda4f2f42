//! Segments being written: append, rotate, trim, and the way back after a write error.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Durability;
use super::files::{Disk, Files, SegmentFile};
use super::recovery::{OnRecord, Recovery, scan_segments, segment_path};
use crate::LakeError;

struct Current {
    path: PathBuf,
    file: Box<dyn SegmentFile>,
    /// Bytes of good records; what lies behind is of a write that failed.
    len: u64,
}

/// A full segment.
struct Closed {
    path: PathBuf,
    last_seq: u64,
    len: u64,
}

/// The WAL's directory, open for one writer.
pub(crate) struct Segments {
    dir: PathBuf,
    files: Box<dyn Files>,
    durability: Durability,
    segment_max_bytes: u64,
    current: Option<Current>,
    /// Full segments with their last sequence.
    closed: VecDeque<Closed>,
    next_seq: u64,
    /// The last write failed: the end of the file is unknown until it is cut.
    dirty: bool,
    /// Held as long as the WAL is open.
    _lock: fs::File,
}

impl Segments {
    /// Opens `dir`, creating it where needed. Sequences go on above what is there and above `committed`,
    /// the highest that any table has. Nothing is trimmed yet.
    pub(crate) fn open(
        dir: &Path,
        durability: Durability,
        segment_max_bytes: u64,
        committed: u64,
        skip_corrupt: bool,
        on_record: OnRecord<'_>,
    ) -> Result<(Self, Recovery), LakeError> {
        fs::create_dir_all(dir).map_err(LakeError::io(dir))?;
        let lock_path = dir.join("lock");
        let lock = fs::File::create(&lock_path).map_err(LakeError::io(&lock_path))?;
        lock.try_lock().map_err(|_| LakeError::Locked(dir.to_owned()))?;
        let (recovery, found) = scan_segments(dir, skip_corrupt, on_record)?;
        for path in &recovery.set_aside {
            let aside = path.with_extension("corrupt");
            fs::copy(path, &aside).map_err(LakeError::io(&aside))?;
        }
        let mut segments = Self {
            dir: dir.to_owned(),
            files: Box::new(Disk),
            durability,
            segment_max_bytes,
            current: None,
            closed: VecDeque::new(),
            next_seq: committed + 1,
            dirty: false,
            _lock: lock,
        };
        for segment in found {
            let actual = fs::metadata(&segment.path).map_err(LakeError::io(&segment.path))?.len();
            if actual > segment.len {
                let mut file = Disk.open(&segment.path).map_err(LakeError::io(&segment.path))?;
                file.cut(segment.len).map_err(LakeError::io(&segment.path))?;
            }
            match segment.last_seq {
                // Appending only ever goes to a new segment: an old one may have been left by another version.
                Some(last) => {
                    segments.next_seq = segments.next_seq.max(last + 1);
                    segments.closed.push_back(Closed { path: segment.path, last_seq: last, len: segment.len });
                }
                None => fs::remove_file(&segment.path).map_err(LakeError::io(&segment.path))?,
            }
        }
        Ok((segments, recovery))
    }

    /// Appends `count` records, encoded with the sequences behind [`Segments::last_seq`], and makes them durable with one
    /// sync. After an error nothing of them is in the WAL, or what is will be cut before the next record.
    pub(crate) fn write(&mut self, records: &[u8], count: u64) -> io::Result<()> {
        self.repair()?;
        self.rotate_if_full();
        if self.current.is_none() {
            let path = segment_path(&self.dir, self.next_seq);
            self.current = Some(Current { file: self.files.open(&path)?, path, len: 0 });
        }
        let Some(current) = &mut self.current else { return Err(io::Error::other("no segment is open")) };
        let written = current.file.append(records).and_then(|()| match self.durability {
            Durability::Fsync => current.file.sync(),
            Durability::Os => Ok(()),
        });
        if let Err(error) = written {
            self.dirty = true;
            // Gives the space back at once if the disk lets us; else `repair` tries again.
            let _ = self.repair();
            return Err(error);
        }
        current.len += records.len() as u64;
        self.next_seq += count;
        Ok(())
    }

    /// After a failed write the file is opened anew (a failed sync says nothing about what a second one would do) and
    /// cut back to the last good record.
    fn repair(&mut self) -> io::Result<()> {
        if !self.dirty {
            return Ok(());
        }
        if let Some(current) = &mut self.current {
            let mut file = self.files.open(&current.path)?;
            file.cut(current.len)?;
            current.file = file;
        }
        self.dirty = false;
        Ok(())
    }

    fn rotate_if_full(&mut self) {
        if self.current.as_ref().is_some_and(|current| current.len >= self.segment_max_bytes)
            && let Some(full) = self.current.take()
        {
            self.closed.push_back(Closed { path: full.path, last_seq: self.next_seq - 1, len: full.len });
        }
    }

    /// Removes segments whose records are all at or below `committed`, but never the newest one: it knows where
    /// sequences go on if the table can't be asked. A failure is only logged: the next start reads a little more.
    pub(crate) fn trim(&mut self, committed: u64) {
        while let Some(Closed { path, last_seq, .. }) = self.closed.front() {
            let newest = self.current.is_none() && self.closed.len() == 1;
            if *last_seq > committed || newest {
                break;
            }
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a committed wal segment could not be removed");
                break;
            }
            self.closed.pop_front();
        }
    }

    /// Bytes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.closed.iter().map(|segment| segment.len).sum::<u64>() + self.current.as_ref().map_or(0, |open| open.len)
    }

    /// Sequence of the last record.
    pub(crate) const fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::wal::codec::encode;

    fn written(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), LakeError> {
        out.extend_from_slice(payload);
        Ok(())
    }

    impl Segments {
        /// Appends a record for each payload; the first one's sequence.
        fn append(&mut self, payloads: &[&[u8]]) -> io::Result<u64> {
            let first = self.last_seq() + 1;
            let mut records = Vec::new();
            for (seq, payload) in (first..).zip(payloads) {
                encode(seq, &mut records, |out| written(out, payload)).expect("encode");
            }
            self.write(&records, payloads.len() as u64)?;
            Ok(first)
        }
    }

    /// A disk with so many bytes left.
    struct SmallDisk(Arc<AtomicU64>);

    struct SmallFile(Box<dyn SegmentFile>, Arc<AtomicU64>);

    impl Files for SmallDisk {
        fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
            Ok(Box::new(SmallFile(Disk.open(path)?, Arc::clone(&self.0))))
        }
    }

    impl SegmentFile for SmallFile {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let space = self.1.load(Ordering::SeqCst);
            let fits = usize::try_from(space).unwrap_or(usize::MAX).min(bytes.len());
            self.0.append(&bytes[..fits])?;
            self.1.store(space - fits as u64, Ordering::SeqCst);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn sync(&mut self) -> io::Result<()> {
            self.0.sync()
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.0.cut(len)
        }
    }

    fn open(dir: &Path, committed: u64) -> (Segments, Vec<(u64, Vec<u8>)>, Recovery) {
        let mut records = Vec::new();
        let (segments, recovery) = try_open(dir, committed, false, &mut records).expect("open");
        (segments, records, recovery)
    }

    fn try_open(
        dir: &Path,
        committed: u64,
        skip_corrupt: bool,
        records: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(Segments, Recovery), LakeError> {
        Segments::open(dir, Durability::Fsync, 200, committed, skip_corrupt, &mut |seq, payload| {
            records.push((seq, payload.to_vec()));
            Ok(())
        })
    }

    #[test]
    fn records_come_back_in_order_and_only_the_committed_are_trimmed() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut wal, ..) = open(dir.path(), 0);
        for n in 0..20_u8 {
            assert_eq!(wal.append(&[&[n; 50]]).expect("append"), u64::from(n) + 1);
        }
        wal.trim(10);
        drop(wal);
        let (wal, records, recovery) = open(dir.path(), 10);
        assert_eq!(wal.last_seq(), 20);
        assert_eq!(records.last().expect("records"), &(20, vec![19; 50]));
        assert!(records[0].0 > 1 && records[0].0 <= 11, "trimmed by segments, from {}", records[0].0);
        assert_eq!((recovery.torn_tails, recovery.gaps), (0, 0));
    }

    #[test]
    fn a_torn_tail_is_cut_and_counted() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut wal, ..) = open(dir.path(), 0);
        wal.append(&[b"one"]).expect("append");
        wal.append(&[b"two"]).expect("append");
        let path = wal.current.as_ref().expect("segment").path.clone();
        drop(wal);
        let mut half = Vec::new();
        encode(3, &mut half, |out| written(out, b"three")).expect("encode");
        half.truncate(18);
        OpenOptions::new().append(true).open(&path).expect("open").write_all(&half).expect("write");
        let (mut wal, records, recovery) = open(dir.path(), 0);
        assert_eq!(records.len(), 2);
        assert_eq!((recovery.torn_tails, recovery.torn_bytes), (1, 18));
        assert_eq!(wal.append(&[b"three"]).expect("append"), 3);
        drop(wal);
        assert_eq!(open(dir.path(), 0).2, Recovery { records: 3, ..Recovery::default() });
    }

    #[test]
    fn a_corrupt_middle_is_refused_with_path_and_offset_or_set_aside_by_wish() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut wal, ..) = open(dir.path(), 0);
        for payload in [b"one", b"two", b"six"] {
            wal.append(&[payload]).expect("append");
        }
        let path = wal.current.as_ref().expect("segment").path.clone();
        drop(wal);
        let mut bytes = fs::read(&path).expect("read");
        bytes[19 + 17] ^= 1;
        fs::write(&path, &bytes).expect("write");

        let error = try_open(dir.path(), 0, false, &mut Vec::new()).err().expect("refused").to_string();
        assert!(error.contains(path.to_str().expect("path")) && error.contains("byte 19"), "{error}");
        assert_eq!(fs::read(&path).expect("read"), bytes, "a refusal changes nothing");

        let mut records = Vec::new();
        let (wal, recovery) = try_open(dir.path(), 0, true, &mut records).expect("set aside");
        assert_eq!(records, [(1, b"one".to_vec())]);
        assert_eq!(recovery.set_aside, std::slice::from_ref(&path));
        assert_eq!(fs::read(path.with_extension("corrupt")).expect("aside"), bytes);
        drop(wal);
        assert_eq!(open(dir.path(), 0).1.len(), 1, "the next start needs no wish");
    }

    #[test]
    fn a_full_disk_loses_only_what_was_not_acknowledged_and_heals_by_itself() {
        let dir = tempfile::tempdir().expect("dir");
        let (mut wal, ..) = open(dir.path(), 0);
        let space = Arc::new(AtomicU64::new(30));
        wal.files = Box::new(SmallDisk(Arc::clone(&space)));
        assert_eq!(wal.append(&[b"fits"]).expect("append"), 1);
        for _ in 0..3 {
            assert_eq!(wal.append(&[b"does not fit"]).expect_err("full").kind(), io::ErrorKind::StorageFull);
        }
        space.store(1_000, Ordering::SeqCst);
        assert_eq!(wal.append(&[b"fits again"]).expect("append"), 2);
        drop(wal);
        let (_wal, records, recovery) = open(dir.path(), 0);
        assert_eq!(records, [(1, b"fits".to_vec()), (2, b"fits again".to_vec())]);
        assert_eq!(recovery.torn_tails, 0);
    }

    #[test]
    fn two_processes_cannot_write_one_wal() {
        let dir = tempfile::tempdir().expect("dir");
        let _first = open(dir.path(), 0);
        let second = try_open(dir.path(), 0, false, &mut Vec::new());
        assert!(matches!(second, Err(LakeError::Locked(_))));
    }
}

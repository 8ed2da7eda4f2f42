//! Reading segments at start: good records in order, a torn end cut, damage refused.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::codec::{Decoded, HEADER_BYTES, decode};
use crate::LakeError;

/// Hears each good record's sequence and payload, in order.
pub type OnRecord<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), LakeError>;

/// What the start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Good records read.
    pub records: u64,
    /// Torn ends cut off.
    pub torn_tails: u64,
    /// Bytes of them.
    pub torn_bytes: u64,
    /// Damaged segments set aside, by explicit wish only.
    pub set_aside: Vec<PathBuf>,
    /// Missing sequences inside the WAL.
    pub gaps: u64,
}

/// One segment as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Good bytes.
    pub(crate) len: u64,
    /// Last good sequence; `None` if it holds no record.
    pub(crate) last_seq: Option<u64>,
}

/// Segments of `dir` in order of their first sequence.
pub(crate) fn segment_paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    // Names are sequences with leading zeros.
    paths.sort();
    Ok(paths)
}

pub(crate) fn segment_path(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{first_seq:020}.wal"))
}

/// Whether a good record begins anywhere in `bytes`.
fn holds_a_record(bytes: &[u8], after_seq: u64) -> bool {
    (0..bytes.len().saturating_sub(HEADER_BYTES))
        .any(|at| matches!(decode(&bytes[at..]), Decoded::Record { seq, .. } if seq > after_seq))
}

/// Reads the segments of `dir` without changing them, and hands each good record's sequence and payload to `on_record`.
///
/// # Errors
/// [`LakeError::Corrupt`] for damage (with `skip_corrupt` it is counted and passed instead), and what `on_record` says.
pub fn scan(dir: &Path, skip_corrupt: bool, on_record: OnRecord<'_>) -> Result<Recovery, LakeError> {
    Ok(scan_segments(dir, skip_corrupt, on_record)?.0)
}

pub(crate) fn scan_segments(
    dir: &Path,
    skip_corrupt: bool,
    on_record: OnRecord<'_>,
) -> Result<(Recovery, Vec<Found>), LakeError> {
    let mut recovery = Recovery::default();
    let mut found = Vec::new();
    let mut last: Option<u64> = None;
    let paths = segment_paths(dir).map_err(LakeError::io(dir))?;
    let count = paths.len();
    for (index, path) in paths.into_iter().enumerate() {
        let mut bytes = Vec::new();
        fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(LakeError::io(&path))?;
        let mut at = 0;
        let mut last_here = None;
        let bad = loop {
            match decode(&bytes[at..]) {
                Decoded::End => break None,
                Decoded::Bad(detail) => break Some(detail),
                Decoded::Record { seq, .. } if last.is_some_and(|last| seq <= last) => {
                    break Some("the sequence goes back");
                }
                Decoded::Record { seq, payload, next } => {
                    recovery.gaps += last.map_or(0, |last| seq - last - 1);
                    recovery.records += 1;
                    on_record(seq, payload)?;
                    (last, last_here) = (Some(seq), Some(seq));
                    at += next;
                }
            }
        };
        if let Some(detail) = bad {
            // Only the newest segment was being written: a bad end of another one is damage too.
            let torn = index + 1 == count && !holds_a_record(&bytes[at + 1..], last.unwrap_or(0));
            if torn {
                recovery.torn_tails += 1;
                recovery.torn_bytes += (bytes.len() - at) as u64;
            } else if skip_corrupt {
                recovery.set_aside.push(path.clone());
            } else {
                return Err(LakeError::Corrupt { path, offset: at as u64, detail: detail.into() });
            }
        }
        found.push(Found { path, len: at as u64, last_seq: last_here });
    }
    Ok((recovery, found))
}

//! A kept answer as a file: a fixed start, what it is, its head, its body.
//!
//! A file is written under a passing name and gets its own when it is whole, so one that is found was written to its end;
//! whether the disk kept all of it is what the checksums tell. Its body is checked whole when it is opened, which also
//! brings it into the system's page cache, where `sendfile` takes it from.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rustix::buffer::spare_capacity;
use rustix::fs::{Stat, fstat};
use serde::{Deserialize, Serialize};

use crate::cache::object::{Head, Key, PIECE_BYTES};
use crate::rules::freshness::Saved;

const MAGIC: &[u8; 8] = b"spwedge1";
/// Magic, softened, three zeros, lengths of description, head and body, checksums of the first two and of the body.
const START_BYTES: usize = 8 + 4 + 4 + 4 + 8 + 4 + 4;
/// Place of the byte that says that it must be validated before it serves.
const SOFT_AT: u64 = 8;
/// Longer descriptions and heads are none of ours.
const DESCRIPTION_MAX_BYTES: usize = 1024 * 1024;

/// What a file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Description {
    pub key: String,
    status: u16,
    pub freshness: Saved,
}

/// The start of a file and what it describes.
#[derive(Debug)]
pub(super) struct Found {
    pub description: Description,
    pub headers: HeaderMap,
    pub softened: bool,
    pub body_bytes: u64,
    body_at: u64,
    body_crc: u32,
}

/// An open body that was found right.
#[derive(Debug)]
pub(crate) struct StoredFile {
    file: File,
    body_at: u64,
    body_bytes: u64,
    /// Absent where nobody can write to it.
    as_opened: Option<Stamp>,
}

/// What changes when somebody else writes to a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: i64,
    modified: (i64, u64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let Stat { st_size, st_mtime, st_mtime_nsec, .. } = fstat(file)?;
        Ok(Self { bytes: st_size, modified: (st_mtime, st_mtime_nsec) })
    }
}

/// Writes an answer to `path`, which must not exist, by way of `passing`; the file's length.
pub(super) fn write(
    path: &Path,
    passing: &Path,
    key: &Key,
    head: &Head,
    freshness: Saved,
    body: &[Bytes],
) -> io::Result<u64> {
    let description = Description { key: key.to_string(), status: head.status.as_u16(), freshness };
    let description = serde_json::to_vec(&description).map_err(io::Error::other)?;
    let lines = [head.rendered(), b"\r\n"].concat();
    let crc = |parts: &[&[u8]]| {
        let mut crc = crc32fast::Hasher::new();
        parts.iter().for_each(|part| crc.update(part));
        crc.finalize()
    };
    let body_bytes: u64 = body.iter().map(|part| part.len() as u64).sum();
    let parts: Vec<&[u8]> = body.iter().map(|part| &part[..]).collect();
    let mut out = Vec::with_capacity(START_BYTES + description.len() + lines.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(description.len() as u32).to_le_bytes());
    out.extend_from_slice(&(lines.len() as u32).to_le_bytes());
    out.extend_from_slice(&body_bytes.to_le_bytes());
    out.extend_from_slice(&crc(&[&description, &lines]).to_le_bytes());
    out.extend_from_slice(&crc(&parts).to_le_bytes());
    out.extend_from_slice(&description);
    out.extend_from_slice(&lines);
    let written = File::create(passing).and_then(|mut file| {
        file.write_all(&out)?;
        body.iter().try_for_each(|part| file.write_all(part))
    });
    written.and_then(|()| fs::rename(passing, path)).inspect_err(|_| drop(fs::remove_file(passing)))?;
    Ok(out.len() as u64 + body_bytes)
}

/// Reads the start of a file.
///
/// # Errors
/// What the system says; `InvalidData` for a file that is none of ours, or was damaged.
pub(super) fn read_start(file: &mut impl Read) -> io::Result<Found> {
    let mut start = [0; START_BYTES];
    file.read_exact(&mut start)?;
    let number = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
    let (description_bytes, head_bytes) = (number(12) as usize, number(16) as usize);
    let body_bytes = u64::from(number(20)) | u64::from(number(24)) << 32;
    if start[..8] != *MAGIC || description_bytes > DESCRIPTION_MAX_BYTES || head_bytes > DESCRIPTION_MAX_BYTES {
        return Err(damaged("it does not begin as a kept answer does"));
    }
    let mut rest = vec![0; description_bytes + head_bytes];
    file.read_exact(&mut rest)?;
    if crc32fast::hash(&rest) != number(28) {
        return Err(damaged("its description is not what was written"));
    }
    let (description, lines) = rest.split_at(description_bytes);
    Ok(Found {
        description: serde_json::from_slice(description).map_err(|error| damaged(&error.to_string()))?,
        headers: headers(lines).ok_or_else(|| damaged("its head can't be read"))?,
        softened: start[SOFT_AT as usize] != 0,
        body_bytes,
        body_at: (START_BYTES + rest.len()) as u64,
        body_crc: number(32),
    })
}

fn headers(lines: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut rest = lines;
    while rest != b"\r\n" {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        let colon = memchr::memmem::find(line, b": ")?;
        headers.append(HeaderName::from_bytes(&line[..colon]).ok()?, HeaderValue::from_bytes(&line[colon + 2..]).ok()?);
        rest = after;
    }
    Some(headers)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Opens a file, and looks through all of it.
///
/// # Errors
/// As [`read_start`].
pub(super) fn open(path: &Path) -> io::Result<(Found, StoredFile)> {
    let file = File::open(path)?;
    let mut reader = BufReader::with_capacity(PIECE_BYTES, &file);
    let found = read_start(&mut reader)?;
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = found.body_bytes;
    while left > 0 {
        let wanted = left.min(PIECE_BYTES as u64) as usize;
        reader.read_exact(&mut buffer[..wanted])?;
        crc.update(&buffer[..wanted]);
        left -= wanted as u64;
    }
    if crc.finalize() != found.body_crc || reader.read(&mut buffer[..1])? > 0 {
        return Err(damaged("its body is not what was written"));
    }
    drop(reader);
    let as_opened = Stamp::of(&file)?;
    let stored = StoredFile { file, body_at: found.body_at, body_bytes: found.body_bytes, as_opened: Some(as_opened) };
    Ok((found, stored))
}

/// Notes in a file that it must be validated before it serves. Who has it open goes on with it.
pub(super) fn soften(path: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    let modified = file.metadata()?.modified()?;
    file.seek(SeekFrom::Start(SOFT_AT))?;
    file.write_all(&[1])?;
    file.set_modified(modified)
}

impl Found {
    pub(super) fn head(&self) -> Option<Head> {
        let status = StatusCode::from_u16(self.description.status).ok()?;
        Some(Head::of(status, self.headers.clone()))
    }
}

impl StoredFile {
    /// A body alone, in a file that nobody can write to.
    pub(crate) fn sealed(file: File, body_bytes: u64) -> Self {
        Self { file, body_at: 0, body_bytes, as_opened: None }
    }

    pub(crate) fn len(&self) -> u64 {
        self.body_bytes
    }

    /// The file, and where in it a place of the body is.
    pub(crate) fn place(&self, at: u64) -> (&File, u64) {
        (&self.file, self.body_at + at)
    }

    /// Whether nobody wrote to it since it was checked.
    pub(crate) fn is_as_opened(&self) -> bool {
        self.as_opened.as_ref().is_none_or(|as_opened| Stamp::of(&self.file).is_ok_and(|stamp| stamp == *as_opened))
    }

    /// Bytes `at..at + bytes` of the body; they are in the page cache as a rule, so nothing is waited for.
    ///
    /// # Errors
    /// What the system says; `UnexpectedEof` for a body that became shorter.
    pub(crate) fn read(&self, at: u64, bytes: usize) -> io::Result<Bytes> {
        // Not filled with zeros first: that costs as much again.
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            let place = self.body_at + at + out.len() as u64;
            match rustix::io::retry_on_intr(|| rustix::io::pread(&self.file, spare_capacity(&mut out), place))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => out.truncate(bytes),
            }
        }
        Ok(out.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn saved() -> Saved {
        serde_json::from_str(
            r#"{"lifetime_s":60,"age_s":1,"stale_while_revalidate_s":0,"no_cache":false,"never_stale":false,"wall_ms":5}"#,
        )
        .expect("saved")
    }

    fn written(dir: &Path, body: &[u8]) -> std::path::PathBuf {
        let path = dir.join("1");
        let mut headers = HeaderMap::new();
        for (name, value) in [("x", "a: b"), ("x", ""), ("etag", "\"1\"")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.append("odd", HeaderValue::from_bytes(b"\xff\xfe").expect("a value"));
        let head = Head::of(StatusCode::from_u16(599).expect("status"), headers);
        let parts: Vec<Bytes> = body.chunks(1_000).map(Bytes::copy_from_slice).collect();
        let bytes = write(&path, &dir.join("passing"), &Key::from("/a?b"), &head, saved(), &parts).expect("written");
        assert_eq!(bytes, fs::metadata(&path).expect("file").len());
        path
    }

    #[test]
    fn what_is_written_is_found() {
        let dir = tempfile::tempdir().expect("dir");
        for bytes in [0, 1, PIECE_BYTES, 3 * PIECE_BYTES + 7] {
            let body: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let path = written(dir.path(), &body);
            let (found, file) = open(&path).expect("right");
            assert_eq!((found.description.key.as_str(), &found.description.freshness), ("/a?b", &saved()));
            let head = found.head().expect("a status");
            assert_eq!((head.status.as_u16(), head.headers.get_all("x").iter().count()), (599, 2));
            assert_eq!(head.headers["odd"].as_bytes(), b"\xff\xfe");
            assert_eq!((file.len(), &file.read(0, bytes).expect("read")[..]), (bytes as u64, &body[..]));
            assert!(file.is_as_opened() && !found.softened);
            soften(&path).expect("noted");
            assert!(open(&path).expect("right").0.softened && file.is_as_opened());
            fs::remove_file(&path).expect("removed");
        }
    }

    #[test]
    fn whatever_byte_is_changed_or_missing_the_file_is_not_served() {
        let dir = tempfile::tempdir().expect("dir");
        let path = written(dir.path(), &[7; 3_000]);
        let right = fs::read(&path).expect("file");
        for at in (0..right.len()).filter(|at| !(8..12).contains(at)) {
            let mut wrong = right.clone();
            wrong[at] ^= 0x20;
            fs::write(&path, &wrong).expect("written");
            assert!(open(&path).is_err(), "byte {at}");
        }
        for end in [0, 1, START_BYTES, right.len() / 2, right.len() - 1] {
            fs::write(&path, &right[..end]).expect("written");
            assert!(open(&path).is_err(), "{end} bytes");
        }
        fs::write(&path, [&right[..], b"x"].concat()).expect("written");
        assert!(open(&path).is_err(), "longer");
        fs::write(&path, &right).expect("written");
        open(&path).expect("right");
    }

    #[test]
    fn a_change_while_it_is_open_is_seen() {
        let dir = tempfile::tempdir().expect("dir");
        let path = written(dir.path(), &[7; 3_000]);
        let (_, file) = open(&path).expect("right");
        std::thread::sleep(std::time::Duration::from_millis(20));
        File::options().write(true).open(&path).expect("file").write_all_at(b"x", 2_000).expect("written");
        assert!(!file.is_as_opened());
        assert!(file.read(2_999, 2).is_err());
    }
}

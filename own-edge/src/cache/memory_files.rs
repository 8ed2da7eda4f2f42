//! Large bodies in memory as files of the system's (memfd), from which plain HTTP sends without copying. What is sent
//! through TLS or HTTP/2 must be read, and is better where it can be read in place: a body goes where it is wanted more
//! often. An edge with a disk tier has files of its own.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI8, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::cache::disk::{FILE_MIN_BYTES, Place, StoredFile};
use crate::cache::held::{Bodies, Held};
use crate::cache::object::{Object, Pieces, Stored};

/// Of the system's memory.
const PAGE_BYTES: u64 = 4_096;
/// Of the files that the process may have open, one in so many.
const OF_OPEN_FILES: u64 = 4;
/// A body that leans so far to files is moved to one; so far to memory, back.
const LEANS: i8 = 2;
const NOT_LEANS: i8 = -2;
/// So many of its last answers tell where a body should be, and so many of all large ones where a new body should.
const OF_ONE_MAX: i8 = 8;
const OF_ALL_MAX: i8 = 64;
/// What leaves the heap may stay the process's, so no more than this is moved between two looks at its memory.
const MOVED_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Answers that a file is best for, less those that memory is best for, as far as a limit goes.
#[derive(Debug, Default)]
pub(crate) struct Leaning(AtomicI8);

impl Leaning {
    /// One more answer, within `most` to either side; what it leans to by now, files above 0.
    fn lean(&self, to_file: bool, most: i8) -> i8 {
        let step = if to_file { 1 } else { -1 };
        // Two at once may count as one.
        let leaning = (self.get() + step).clamp(-most, most);
        self.0.store(leaning, Ordering::Relaxed);
        leaning
    }

    fn get(&self) -> i8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The files.
pub(crate) struct MemoryFiles {
    open: Arc<AtomicUsize>,
    files: Bodies,
    /// Bodies in plain memory.
    bodies: Bodies,
    most: usize,
    /// A body is being moved; or none can be.
    busy: Arc<AtomicBool>,
    /// Of all large answers.
    leaning: Leaning,
    /// Bytes that may still be moved.
    room: AtomicU64,
}

impl MemoryFiles {
    /// `plain`: there is no door but for plain HTTP.
    pub(crate) fn new(plain: bool, bodies: Bodies) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let most = usize::try_from(files / OF_OPEN_FILES).unwrap_or(usize::MAX);
        Self {
            open: Arc::default(),
            files: Bodies::default(),
            bodies,
            most,
            busy: Arc::default(),
            leaning: Leaning(AtomicI8::new(if plain { OF_ALL_MAX } else { 0 })),
            room: AtomicU64::new(MOVED_MAX_BYTES),
        }
    }

    /// The process and the files together may take so many bytes more.
    pub(crate) fn allow(&self, bytes: u64) {
        self.room.store(bytes.min(MOVED_MAX_BYTES), Ordering::Relaxed);
    }

    /// A new body, where most are wanted now.
    pub(crate) async fn place(&self, parts: Vec<Bytes>) -> Stored {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        let to_file = bytes >= FILE_MIN_BYTES && self.leaning.get() > 0;
        if let Some(place) = to_file.then(|| Place::free(&self.open, self.most)).flatten() {
            let copies = parts.clone();
            if let Ok(Ok(file)) = tokio::task::spawn_blocking(move || written(&copies)).await {
                let place = place.holding(self.hold(bytes));
                return Stored::File(Arc::new((StoredFile::sealed(file, bytes), place)));
            }
        }
        Stored::Memory(Pieces::copy(parts, &self.bodies).await)
    }

    /// Bytes in them, which the system doesn't count as the process's own.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.bytes()
    }

    /// Counts a file, which takes whole pages.
    fn hold(&self, bytes: u64) -> Held {
        self.files.hold(bytes.next_multiple_of(PAGE_BYTES))
    }

    /// A kept object is sent, from a file at best (plain HTTP/1) or from memory. Its body is moved where that is better
    /// for most, if it is large, and no other one is being moved.
    pub(crate) fn sent(&self, object: &Arc<Object>, from_file: bool) {
        if object.body.len() < FILE_MIN_BYTES {
            return;
        }
        self.leaning.lean(from_file, OF_ALL_MAX);
        match object.body.leaning.lean(from_file, OF_ONE_MAX) {
            LEANS.. => self.lay_out(object),
            ..=NOT_LEANS => self.take_back(object),
            _ => {}
        }
    }

    fn lay_out(&self, object: &Arc<Object>) {
        let Stored::Memory(body) = object.body.stored() else { return };
        if self.room.load(Ordering::Relaxed) < body.len() {
            return;
        }
        let Some(turn) = self.turn() else { return };
        let Some(place) = Place::free(&self.open, self.most) else { return };
        // Whoever has the turn is alone.
        self.room.fetch_sub(body.len(), Ordering::Relaxed);
        let place = place.holding(self.hold(body.len()));
        let object = object.clone();
        tokio::task::spawn_blocking(move || match written(body.all()) {
            Ok(file) => {
                object.body.settle(Stored::File(Arc::new((StoredFile::sealed(file, body.len()), place))));
                drop(turn);
            }
            // Nothing is lost but speed.
            Err(error) if is_passing(&error) => drop(turn),
            Err(error) => {
                tracing::warn!(%error, "the system gives no files in memory; large bodies are copied from now on");
                std::mem::forget(turn);
            }
        });
    }

    fn take_back(&self, object: &Arc<Object>) {
        let Stored::File(file) = object.body.stored() else { return };
        let Some(turn) = self.turn() else { return };
        let (object, bodies) = (object.clone(), self.bodies.clone());
        tokio::task::spawn_blocking(move || {
            if let Ok(pieces) = Pieces::of_file(&file.0, &bodies) {
                object.body.settle(Stored::Memory(pieces));
            }
            drop(turn);
        });
    }

    /// The right to move a body, if nobody has it.
    fn turn(&self) -> Option<Turn> {
        (!self.busy.swap(true, Ordering::AcqRel)).then(|| Turn(self.busy.clone()))
    }
}

/// One body is moved at a time, so that not many are there twice.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether there may be room another time: for files, or for their bytes.
fn is_passing(error: &io::Error) -> bool {
    let numbers = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOSPC];
    numbers.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A file of these parts that nobody can change.
fn written(parts: &[Bytes]) -> io::Result<File> {
    let mut file = File::from(memfd_create("spillway-body", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    parts.iter().try_for_each(|part| file.write_all(part))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::time::Duration;

    use http::header::CACHE_CONTROL;
    use http::{HeaderMap, StatusCode};
    use spillway_model::{Millis, TimestampMs};

    use super::*;
    use crate::cache::object::Head;
    use crate::rules::cache_control::CacheControl;
    use crate::rules::freshness::{Freshness, Times};

    const BYTES: usize = 600_000;
    const PAGES_BYTES: u64 = 602_112;

    async fn object(bytes: usize) -> Arc<Object> {
        let body: Bytes = (0..bytes).map(|at| (at % 251) as u8).collect();
        let body = Stored::Memory(Pieces::copy(vec![body], &Bodies::default()).await);
        let headers = HeaderMap::from_iter([(CACHE_CONTROL, "max-age=60".parse().expect("value"))]);
        let times = Times { asked: Millis(0), received: Millis(0), wall: TimestampMs(0) };
        let freshness = Freshness::said(&headers, &CacheControl::of(&headers), times).expect("said");
        Arc::new(Object::new(Arc::new(Head::of(StatusCode::OK, headers)), freshness, body))
    }

    fn is_in_file(object: &Object) -> bool {
        matches!(object.body.stored(), Stored::File(_))
    }

    /// Sends until the body is where it should be; every one of the bytes is right.
    async fn sent_until(files: &MemoryFiles, object: &Arc<Object>, from_file: bool) -> u32 {
        for sent in 1..200 {
            files.sent(object, from_file);
            tokio::time::sleep(Duration::from_millis(10)).await;
            let (stored, mut at) = (object.body.stored(), 0);
            while let Some(part) = stored.part(at as u64, u64::MAX).expect("read") {
                assert!(part.iter().zip(at..).all(|(byte, at)| *byte == (at % 251) as u8));
                at += part.len();
            }
            assert_eq!(at, BYTES);
            if is_in_file(object) == from_file {
                return sent;
            }
        }
        panic!("it stays where it is");
    }

    #[tokio::test]
    async fn a_body_goes_where_most_want_it_and_counts_while_it_is_in_a_file() {
        let (files, object) = (MemoryFiles::new(false, Bodies::default()), object(BYTES).await);
        assert!(sent_until(&files, &object, true).await >= 2, "once is nothing");
        assert_eq!(files.bytes(), PAGES_BYTES);
        // It was sent so a few times, and now the other way.
        assert!(sent_until(&files, &object, false).await >= 4);
        assert_eq!((files.bytes(), files.open.load(Ordering::Relaxed)), (0, 0));
        sent_until(&files, &object, true).await;
        drop(object);
        assert_eq!((files.bytes(), files.open.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn small_ones_and_those_beyond_the_limit_stay() {
        let (small, large) = (object(1_000).await, object(BYTES).await);
        let none = MemoryFiles { most: 0, ..MemoryFiles::new(true, Bodies::default()) };
        let full = MemoryFiles::new(true, Bodies::default());
        full.allow(BYTES as u64 - 1);
        for _ in 0..20 {
            MemoryFiles::new(true, Bodies::default()).sent(&small, true);
            none.sent(&large, true);
            full.sent(&large, true);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!is_in_file(&small) && !is_in_file(&large));
        assert!(none.turn().is_some(), "nobody holds it");
    }

    #[tokio::test]
    async fn a_new_body_goes_where_most_are_wanted() {
        let (plain, any) = (MemoryFiles::new(true, Bodies::default()), MemoryFiles::new(false, Bodies::default()));
        let parts = || vec![Bytes::from(vec![7; BYTES / 2]), Bytes::from(vec![8; BYTES / 2])];
        let is_file = |stored: &Stored| matches!(stored, Stored::File(_));
        let placed = plain.place(parts()).await;
        assert!(is_file(&placed) && plain.bytes() == PAGES_BYTES);
        let (last, next) = (BYTES as u64 / 2 - 1, BYTES as u64 / 2 + 1);
        assert_eq!(placed.part(last, next).expect("read").as_deref(), Some(&[7, 8][..]));
        drop(placed);
        assert_eq!(plain.bytes(), 0);
        assert!(!is_file(&plain.place(vec![Bytes::from_static(b"short")]).await));
        assert!(!is_file(&any.place(parts()).await), "nothing is known yet");
        any.sent(&object(BYTES).await, true);
        assert!(is_file(&any.place(parts()).await));
        any.sent(&object(BYTES).await, false);
        assert!(!is_file(&any.place(parts()).await));
    }

    #[test]
    fn a_written_file_has_the_bytes_and_keeps_them() {
        let file = written(&[Bytes::from_static(b"media "), Bytes::from_static(b"segment")]).expect("a file");
        let mut read = [0; 13];
        file.read_exact_at(&mut read, 0).expect("all of it");
        assert_eq!(&read, b"media segment");
        assert!((&file).write_all(b"x").is_err() && file.set_len(0).is_err());
    }
}

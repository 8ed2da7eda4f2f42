//! The disk tier: what was asked for more than once outlives its place in memory, and the process.
//!
//! One file for each object ([`file`]), found through an index in memory that is read from the files at the start
//! ([`scan`]). A request never waits for a write, and for a read only as a fill does. Whatever is wrong with the disk
//! costs the disk tier, and nothing else: writes that fail are left out, files that are missing or damaged are fetched
//! anew.
//!
//! Answers that differ by request (`Vary`) stay in memory: their keys mean something to this process only.

mod file;
mod log;
mod scan;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use spillway_model::{Clock, Millis};
use spillway_service::config::ConfigError;
use tokio::sync::{mpsc, watch};

use crate::cache::held::{Bodies, Held};
use crate::cache::object::{Key, Object, Pieces, Stored};
use crate::cache::purge::Purge;
use crate::cache::store::Store;
use crate::rules::freshness::Freshness;

pub(crate) use file::StoredFile;

/// Smaller bodies are copied out of memory, which costs less than a system call more.
pub(crate) const FILE_MIN_BYTES: u64 = 32 * 1024;
/// Objects that are expected on average; sizes tables only.
const USUAL_OBJECT_BYTES: u64 = 512 * 1024;
/// Objects that wait to be written, and their bytes; more are left out.
const WRITES_MAX: usize = 1_024;
const WAITING_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// After a failed write the disk is left alone for so long.
const REST_MS: u64 = 5_000;

/// `[edge.disk]`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskPlan {
    pub path: PathBuf,
    pub bytes: u64,
    /// Files that may be open at once.
    pub open_files: usize,
}

/// The disk tier.
pub(crate) struct Disk {
    inner: Arc<Inner>,
    writes: mpsc::Sender<(Key, Arc<Object>)>,
}

struct Inner {
    plan: DiskPlan,
    clock: Arc<dyn Clock>,
    store: Arc<Store>,
    bodies: Bodies,
    index: Index,
    log: log::Log,
    /// Number of the next file; set when the folder has been looked through.
    next: OnceLock<AtomicU64>,
    waiting_bytes: AtomicU64,
    /// Monotonic ms before which nothing is written.
    rests_until_ms: AtomicU64,
    open: Arc<AtomicUsize>,
    looked_through: watch::Sender<bool>,
    /// Another process has the folder.
    paused: AtomicBool,
    metrics: Metrics,
}

struct Metrics {
    written: Counter,
    left_out: Counter,
    failed: Counter,
    read: Counter,
    damaged: Counter,
    bytes: Gauge,
}

type Index = Cache<Key, Arc<Entry>, BySize, DefaultHashBuilder, Remove>;

/// A file.
struct Entry {
    number: u64,
    bytes: u64,
    /// Hashes of its tags.
    tags: Box<[u64]>,
    softened: AtomicBool,
}

#[derive(Clone)]
struct BySize;

impl Weighter<Key, Arc<Entry>> for BySize {
    fn weight(&self, _: &Key, entry: &Arc<Entry>) -> u64 {
        entry.bytes.max(1)
    }
}

/// Removes the file of what is evicted.
#[derive(Clone)]
struct Remove {
    folder: PathBuf,
    evicted: Counter,
}

impl Lifecycle<Key, Arc<Entry>> for Remove {
    type RequestState = <DefaultLifecycle<Key, Arc<Entry>> as Lifecycle<Key, Arc<Entry>>>::RequestState;

    fn on_evict(&self, _: &mut Self::RequestState, _: Key, entry: Arc<Entry>) {
        self.evicted.increment(1);
        remove(&path_of(&self.folder, entry.number));
    }
}

/// A file that bodies are sent from, and its place among the open files.
pub(crate) type OpenFile = (StoredFile, Place);

/// A place among the open files.
#[derive(Debug)]
pub(crate) struct Place {
    open: Arc<AtomicUsize>,
    /// Of a file that lies in memory.
    _held: Option<Held>,
}

impl Place {
    /// One of `most`, if `open` are fewer.
    pub(crate) fn free(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self { open: open.clone(), _held: None };
        (open.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }

    /// The same, for a file whose bytes lie in memory.
    pub(crate) fn holding(mut self, held: Held) -> Self {
        self._held = Some(held);
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{:02x}", number % 256)).join(format!("{number:016x}"))
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a file of the cache can't be removed");
    }
}

fn tag_hash(tag: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    tag.hash(&mut hasher);
    hasher.finish()
}

impl Disk {
    /// A tier in `plan.path`. What is there already is found in the course of time.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a folder that can't be made or written to.
    pub(crate) fn open(
        plan: DiskPlan,
        clock: Arc<dyn Clock>,
        store: Arc<Store>,
        bodies: Bodies,
    ) -> Result<Self, ConfigError> {
        let unusable = |error: io::Error| {
            ConfigError::invalid("edge.disk.path", plan.path.display(), format!("a folder to write to; {error}"))
        };
        std::fs::create_dir_all(&plan.path).map_err(unusable)?;
        let log = log::Log::open(&plan.path.join("purges")).map_err(unusable)?;
        let items = usize::try_from(plan.bytes / USUAL_OBJECT_BYTES).unwrap_or(usize::MAX).max(1_024);
        let options = OptionsBuilder::new()
            // One shard: each evicts by itself, and files are large beside a shard of a small tier.
            .shards(1)
            .estimated_items_capacity(items)
            .weight_capacity(plan.bytes)
            .build()
            .expect("both capacities are set");
        let removing = Remove { folder: plan.path.clone(), evicted: counter!("spillway_edge_disk_evictions_total") };
        let written = |result| counter!("spillway_edge_disk_writes_total", "result" => result);
        let read = |result| counter!("spillway_edge_disk_reads_total", "result" => result);
        let inner = Arc::new(Inner {
            index: Cache::with_options(options, BySize, DefaultHashBuilder::default(), removing),
            log,
            next: OnceLock::new(),
            waiting_bytes: AtomicU64::new(0),
            rests_until_ms: AtomicU64::new(0),
            open: Arc::default(),
            looked_through: watch::Sender::new(false),
            paused: AtomicBool::new(false),
            metrics: Metrics {
                written: written("written"),
                left_out: written("left_out"),
                failed: written("failed"),
                read: read("read"),
                damaged: read("damaged"),
                bytes: gauge!("spillway_edge_disk_bytes"),
            },
            plan,
            clock,
            store,
            bodies,
        });
        let (writes, waiting) = mpsc::channel(WRITES_MAX);
        tokio::task::spawn_blocking({
            let inner = inner.clone();
            move || scan::scan(&inner)
        });
        tokio::spawn(write_all(inner.clone(), waiting));
        Ok(Self { inner, writes })
    }

    /// Takes an object for writing, if there is room for one more; nobody waits. Whether there was, or the object is none
    /// for us.
    pub(crate) fn offer(&self, key: &Key, object: &Arc<Object>) -> bool {
        let Inner { plan, waiting_bytes, metrics, .. } = &*self.inner;
        let bytes = object.body.len();
        if key.contains('\n') || bytes > plan.bytes / 4 {
            return true;
        }
        let paused = self.inner.paused.load(Ordering::Relaxed);
        let resting = self.inner.clock.monotonic().0 < self.inner.rests_until_ms.load(Ordering::Relaxed);
        let full = waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_MAX_BYTES;
        if paused || resting || full || self.writes.try_send((key.clone(), object.clone())).is_err() {
            waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            metrics.left_out.increment(1);
            return false;
        }
        true
    }

    /// Writes nothing more, since another process has the folder now; or does so again.
    pub(crate) fn pause(&self, paused: bool) {
        self.inner.paused.store(paused, Ordering::Relaxed);
    }

    /// Waits until what an earlier process left has been found.
    pub(crate) async fn looked_through(&self) {
        let _ = self.inner.looked_through.subscribe().wait_for(|looked| *looked).await;
    }

    /// Whether something is there for `key`, as far as is known without looking.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.inner.index.contains_key(key)
    }

    /// What is there for `key`, looked through and found right.
    pub(crate) async fn load(&self, key: &Key) -> Option<Object> {
        let entry = self.inner.index.get(key)?;
        let (inner, key) = (self.inner.clone(), key.clone());
        let loading = tokio::task::spawn_blocking(move || match inner.read(&key, &entry) {
            Ok(object) => {
                inner.metrics.read.increment(1);
                Some(object)
            }
            Err(error) => {
                inner.metrics.damaged.increment(1);
                tracing::warn!(%key, %error, "a file of the cache is fetched anew");
                inner.forget(&key, &entry);
                None
            }
        });
        loading.await.ok().flatten()
    }

    /// Forgets what is kept for `key`, because it is no longer what was written, or because its URL was changed.
    pub(crate) fn forget(&self, key: &Key) {
        // First this: its file may be about to be found.
        self.inner.log.note_changed(key);
        if let Some((_, entry)) = self.inner.index.remove(key) {
            remove(&path_of(&self.inner.plan.path, entry.number));
        }
    }

    /// Carries out purges, for good: nothing of what they name comes back after a crash. May wait for the disk.
    ///
    /// # Errors
    /// What the system says of the log; the purge is in force for this process all the same.
    pub(crate) fn purge(&self, batch: &[Arc<Purge>]) -> io::Result<()> {
        let before = self.inner.next.get().map_or(u64::MAX, |next| next.load(Ordering::Relaxed));
        let logged = self.inner.log.add(before, batch);
        let sets: Vec<Hashed> = batch.iter().map(|purge| Hashed::of(purge)).collect();
        self.inner.index.retain(|key, entry| self.inner.stays(&sets, key, entry));
        self.inner.log.shorten(&self.inner.plan.path);
        logged
    }

    /// Bytes on disk, and how many there may be.
    pub(crate) fn used(&self) -> (u64, u64) {
        let used = self.inner.index.weight();
        self.inner.metrics.bytes.set(used as f64);
        (used, self.inner.plan.bytes)
    }
}

/// A purge, with its tags as entries know them.
struct Hashed<'a> {
    purge: &'a Purge,
    tags: HashSet<u64>,
}

impl<'a> Hashed<'a> {
    fn of(purge: &'a Purge) -> Self {
        Self { purge, tags: purge.tags().map(tag_hash).collect() }
    }

    fn names(&self, key: &Key, entry: &Entry) -> bool {
        self.purge.names_url(key) || entry.tags.iter().any(|tag| self.tags.contains(tag))
    }
}

impl Inner {
    /// Whether an entry stays after purges; its file goes with it.
    fn stays(&self, purges: &[Hashed], key: &Key, entry: &Entry) -> bool {
        let path = || path_of(&self.plan.path, entry.number);
        for hashed in purges.iter().filter(|hashed| hashed.names(key, entry)) {
            if !hashed.purge.is_soft() {
                remove(&path());
                return false;
            }
            if !entry.softened.swap(true, Ordering::Relaxed)
                && let Err(error) = file::soften(&path())
            {
                // What can't be noted must not come back as if nothing were.
                tracing::warn!(%key, %error, "a soft purge removes a file");
                remove(&path());
                return false;
            }
        }
        true
    }

    fn read(&self, key: &Key, entry: &Arc<Entry>) -> io::Result<Object> {
        let (found, stored) = file::open(&path_of(&self.plan.path, entry.number))?;
        let head = found.head().filter(|_| found.description.key == **key);
        let head = head.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is another answer"))?;
        let freshness = Freshness::restored(found.description.freshness, self.clock.monotonic(), self.clock.now());
        let body = match (stored.len() >= FILE_MIN_BYTES).then(|| self.place()).flatten() {
            Some(place) => Stored::File(Arc::new((stored, place))),
            None => Stored::Memory(Pieces::of_file(&stored, &self.bodies)?),
        };
        let object = Object::new(Arc::new(head), freshness, body);
        object.note_on_disk(true);
        if found.softened || entry.softened.load(Ordering::Relaxed) {
            object.soften();
        }
        Ok(object)
    }

    /// A place among the open files, if one is free.
    fn place(&self) -> Option<Place> {
        Place::free(&self.open, self.plan.open_files)
    }

    fn forget(&self, key: &Key, entry: &Arc<Entry>) {
        self.index.remove_if(key, |known| Arc::ptr_eq(known, entry));
        remove(&path_of(&self.plan.path, entry.number));
    }

    /// Writes an object, and lets it be served from there. Whether it is there now.
    fn write(&self, key: &Key, object: &Arc<Object>) -> io::Result<bool> {
        let is_kept = || self.store.get(key).is_some_and(|kept| Arc::ptr_eq(&kept, object));
        // A file is one of ours.
        let Stored::Memory(body) = object.body.stored() else { return Ok(true) };
        let Some(next) = self.next.get() else { return Ok(false) };
        if !is_kept() || object.is_softened() || self.paused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        let path = path_of(&self.plan.path, number);
        let passing = self.plan.path.join(format!("passing-{number:016x}"));
        let saved = object.freshness.saved(self.clock.monotonic(), self.clock.now());
        let write = || file::write(&path, &passing, key, &object.head, saved, body.all());
        let bytes = match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody has removed a folder.
                std::fs::create_dir_all(path.parent().unwrap_or(&self.plan.path))?;
                write()?
            }
            written => written?,
        };
        let tags = object.tags().map(tag_hash).collect();
        let entry = Arc::new(Entry { number, bytes, tags, softened: AtomicBool::new(false) });
        if let Some(before) = self.index.get(key) {
            self.forget(key, &before);
        }
        self.index.insert(key.clone(), entry.clone());
        // Whoever forgot it in between, or has it validated, has looked through the index before it was there.
        if !is_kept() || object.is_softened() {
            self.forget(key, &entry);
            return Ok(false);
        }
        if body.len() >= FILE_MIN_BYTES
            && let Some(place) = self.place()
        {
            object.body.settle(Stored::File(Arc::new((file::open(&path)?.1, place))));
        }
        Ok(true)
    }
}

/// Writes what is offered, one after the other, until nobody offers any more.
async fn write_all(inner: Arc<Inner>, mut waiting: mpsc::Receiver<(Key, Arc<Object>)>) {
    while inner.next.get().is_none() && !waiting.is_closed() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some((key, object)) = waiting.recv().await {
        let bytes = object.body.len();
        let (writing, offered) = (inner.clone(), object.clone());
        let written = tokio::task::spawn_blocking(move || writing.write(&key, &offered)).await;
        inner.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        if !matches!(written, Ok(true)) {
            // It may be offered again.
            object.note_on_disk(false);
        }
        match written {
            Ok(true) => inner.metrics.written.increment(1),
            Ok(false) => {}
            Err(error) => {
                inner.metrics.failed.increment(1);
                inner.rests_until_ms.store((inner.clock.monotonic() + Millis(REST_MS)).0, Ordering::Relaxed);
                tracing::warn!(%error, path = %inner.plan.path.display(), "the disk tier can't be written to");
            }
        }
    }
}

//! What one running edge consists of.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::HeaderValue;
use metrics::{Counter, Gauge, counter, gauge};
use spillway_model::{Clock, Millis};
use spillway_service::Readiness;
use spillway_service::config::ConfigError;

use crate::access::AccessLog;
use crate::cache::disk::Disk;
use crate::cache::fetch::FillResult;
use crate::cache::fill::FillTable;
use crate::cache::held::Bodies;
use crate::cache::memory_files::MemoryFiles;
use crate::cache::object::{Key, Object};
use crate::cache::purge::Purges;
use crate::cache::store::Store;
use crate::load::account::Meter;
use crate::operate::faults::Faults;
use crate::operate::terms::Terms;
use crate::origin::Origins;
use crate::plan::Plan;
use crate::respond::body::EdgeBody;
use crate::respond::cmsd::Advice;
use crate::rules::policy::Choices;
use crate::serve::admit::{Admission, Orders, SessionKey, Sessions, admit};
use crate::serve::receive::Asked;
use crate::serve::reply::Dress;
use crate::serve::tcp_info::SockDiag;
use crate::video::Catalog;
use crate::video::prefetch::Prefetches;
use crate::video::prewarm::Prewarming;

/// One running edge.
pub(crate) struct Edge {
    pub plan: Plan,
    terms: RwLock<Arc<Terms>>,
    pub clock: Arc<dyn Clock>,
    pub store: Arc<Store>,
    /// Where there is one.
    pub disk: Option<Disk>,
    /// What bodies take in plain memory.
    pub bodies: Bodies,
    /// In place of a disk tier.
    pub memory_files: Option<MemoryFiles>,
    pub fills: Arc<FillTable>,
    /// Held by who lays out a large body that has come.
    pub laying_out: tokio::sync::Mutex<()>,
    pub origins: Origins,
    pub sessions: Sessions,
    pub orders: Orders,
    pub meter: Arc<Meter>,
    /// Where there is a collector for it.
    pub access: Option<AccessLog>,
    /// What is broken on purpose, where that is allowed.
    pub faults: Option<Faults>,
    pub metrics: Exported,
    /// What players are told while the node is near its ceiling.
    pub advice: Advice,
    /// What the system knows of connections.
    pub tcp: SockDiag,
    pub purges: Purges,
    pub prefetches: Prefetches,
    /// What the playlists say that were served.
    pub video: Catalog,
    pub readiness: Readiness,
    /// `Via` of requests.
    pub via: HeaderValue,
    /// What every answer carries.
    pub dress: Dress,
    /// Set while the process ends.
    stopping: AtomicBool,
    /// Another process serves in this one's place.
    retired: AtomicBool,
    pub prewarming: Prewarming,
}

/// Metrics that no other part holds.
pub(crate) struct Exported {
    pub fills: FillCounters,
    pub purges: Counter,
    pub let_go: Counter,
    pub store_bytes: Gauge,
    pub memory_files: Gauge,
    pub viewers: Gauge,
}

/// Fills by how they ended.
pub(crate) struct FillCounters([Counter; 7]);

const FILL_RESULTS: [(FillResult, &str); 7] = [
    (FillResult::Kept, "kept"),
    (FillResult::Shared, "shared"),
    (FillResult::Loaded, "loaded"),
    (FillResult::Revalidated, "revalidated"),
    (FillResult::Passed, "passed"),
    (FillResult::Failed, "failed"),
    (FillResult::Aborted, "aborted"),
];

impl FillCounters {
    pub(crate) fn count(&self, result: FillResult) {
        if let Some(at) = FILL_RESULTS.iter().position(|(known, _)| *known == result) {
            self.0[at].increment(1);
        }
    }
}

impl Edge {
    /// # Errors
    /// [`ConfigError`] where the disk tier can't be.
    pub(crate) fn new(
        plan: Plan,
        clock: Arc<dyn Clock>,
        readiness: Readiness,
        access: Option<AccessLog>,
        faults: Option<Faults>,
    ) -> Result<Self, ConfigError> {
        let evictions = counter!("spillway_edge_evictions_total");
        let header = |text: &str| HeaderValue::from_str(text).expect("an id is a header value");
        let via = header(&format!("1.1 {}", plan.pathway));
        let store = Arc::new(Store::new(plan.memory_bytes, plan.terms.choices.max_object_bytes, evictions));
        let bodies = Bodies::default();
        let disk =
            plan.disk.clone().map(|disk| Disk::open(disk, clock.clone(), store.clone(), bodies.clone())).transpose()?;
        Ok(Self {
            terms: RwLock::new(plan.terms.clone()),
            store,
            memory_files: disk.is_none().then(|| MemoryFiles::new(plan.plain_only, bodies.clone())),
            bodies,
            disk,
            fills: FillTable::new(plan.fill_bytes),
            laying_out: tokio::sync::Mutex::default(),
            origins: Origins::new(&plan, &clock),
            sessions: Sessions::new(),
            orders: Orders::new(),
            meter: Arc::new(Meter::new(clock.clone())),
            access,
            faults,
            metrics: Exported {
                fills: FillCounters(
                    FILL_RESULTS.map(|(_, result)| counter!("spillway_edge_fills_total", "result" => result)),
                ),
                purges: counter!("spillway_edge_purges_total"),
                let_go: counter!("spillway_edge_let_go_total"),
                store_bytes: gauge!("spillway_edge_store_bytes"),
                memory_files: gauge!("spillway_edge_memory_files_bytes"),
                viewers: gauge!("spillway_edge_viewers"),
            },
            dress: Dress::new(&via, &header(plan.pathway.as_str())),
            via,
            advice: Advice::default(),
            tcp: SockDiag::open(),
            purges: Purges::default(),
            prefetches: Prefetches::new(plan.origin_requests),
            video: Catalog::new(),
            readiness,
            stopping: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            prewarming: Prewarming::default(),
            clock,
            plan,
        })
    }

    /// `object` is not what was kept under `key` any more.
    pub(crate) fn drop_damaged(&self, key: &Key, object: &Arc<Object>) {
        tracing::warn!(%key, "a file of the cache was changed; it is fetched anew");
        self.store.take_back(key, object);
        if let Some(disk) = &self.disk {
            disk.forget(key);
            // What has come in its place may have been written by now.
            if let Some(newer) = self.store.get(key) {
                newer.note_on_disk(false);
            }
        }
    }

    /// `object` was asked for once more: the disk tier may have it.
    pub(crate) fn used_again(&self, key: &Key, object: &Arc<Object>) {
        if let Some(disk) = &self.disk
            && !object.is_on_disk()
            && !object.note_on_disk(true)
            && !disk.offer(key, object)
        {
            object.note_on_disk(false);
        }
    }

    /// Bodies that are not kept any more and are still being sent take memory from fills. Whether there is some for one
    /// more that will be kept.
    pub(crate) fn make_room(&self) -> bool {
        let files = self.memory_files.as_ref().map_or(0, MemoryFiles::bytes);
        self.fills.lend((self.bodies.bytes() + files).saturating_sub(self.plan.memory_bytes))
    }

    /// A body is about to be sent, from a file at best or from memory.
    pub(crate) fn sent(&self, body: &EdgeBody, from_file: bool) {
        if let Some((files, object)) = self.memory_files.as_ref().zip(body.kept()) {
            files.sent(object, from_file);
        }
    }

    /// Forgets what is kept of these URLs; what is being fetched of them is not kept.
    pub(crate) fn forget(&self, urls: &[Key]) {
        let above_disk = || {
            self.fills.outdate_where(|key| urls.iter().any(|url| key.split('\n').next() == Some(url)));
            self.video.forget(|key| urls.contains(key));
            urls.iter().for_each(|url| self.store.forget(url));
        };
        self.in_all_tiers(above_disk, |disk| urls.iter().for_each(|url| disk.forget(url)));
    }

    /// Has something forgotten in fills and memory, and on disk, so that none of them hands it to another in the
    /// meantime. `above_disk` names fills before memory: a fill keeps first, and then looks whether it is outdated. It
    /// is called once more after the disk, since a fill that began in between may have taken from there, or from
    /// memory, what was about to go.
    pub(crate) fn in_all_tiers<T>(&self, above_disk: impl Fn(), disk: impl FnOnce(&Disk) -> T) -> Option<T> {
        above_disk();
        let forgotten = self.disk.as_ref().map(disk);
        above_disk();
        forgotten
    }

    /// Makes room: nobody will ask for these any more. Live segments were asked for so often that they would stay long.
    pub(crate) fn let_go(self: &Arc<Self>, urls: Vec<Key>) {
        let there = |url: &Key| self.store.has(url) || self.disk.as_ref().is_some_and(|disk| disk.has(url));
        let urls: Vec<Key> = urls.into_iter().filter(there).collect();
        if urls.is_empty() {
            return;
        }
        self.metrics.let_go.increment(urls.len() as u64);
        urls.iter().for_each(|url| self.store.forget(url));
        if self.disk.is_some() {
            let edge = self.clone();
            tokio::task::spawn_blocking(move || {
                edge.disk.iter().for_each(|disk| urls.iter().for_each(|url| disk.forget(url)));
            });
        }
    }

    /// What holds now.
    pub(crate) fn terms(&self) -> Arc<Terms> {
        self.terms.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on `terms` hold, but for the largest object, which memory was laid out for.
    pub(crate) fn change(&self, terms: Terms) {
        let before = self.terms();
        let choices = Choices { max_object_bytes: before.choices.max_object_bytes, ..terms.choices };
        let terms = Terms { choices, ..terms };
        *self.terms.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(terms);
    }

    /// Monotonic time.
    pub(crate) fn now(&self) -> Millis {
        self.clock.monotonic()
    }

    /// Takes no new sessions from now on.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.readiness.set(false);
    }

    /// Whether no new sessions are taken because of an order or because the process ends.
    pub(crate) fn is_draining(&self) -> bool {
        self.stopping.load(Ordering::Relaxed) || self.orders.current(self.now()).drain
    }

    /// Whether the session of `asked` is served; if so, it runs from now on. An edge that asks has admitted its own.
    pub(crate) fn admission(&self, asked: &Asked, terms: &Terms) -> Admission {
        if asked.session == SessionKey::NONE {
            return Admission::Served;
        }
        let stopping = self.is_stopping() && !self.is_retired();
        let has_room = || self.meter.bits_out_10s_bps() < terms.ceiling_bps;
        admit(&self.sessions, asked.session, &self.orders.current(asked.at), stopping, has_room, asked.at)
    }

    /// Whether the process is about to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Another process serves in this one's place: viewers on open connections are viewers of that one.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

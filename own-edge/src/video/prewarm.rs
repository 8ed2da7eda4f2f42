//! Orders to prewarm: what an orchestrator names is fetched before anybody asks for it. Where that is a playlist, what
//! a player that begins with it asks for is fetched, too: a title's URL is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::HeaderMap;
use metrics::counter;
use spillway_model::Millis;
use spillway_wire::load::PREWARM_MAX;

use crate::cache::fetch::Wanted;
use crate::cache::fill::{Outcome, Reader};
use crate::cache::lookup::{Found, begin};
use crate::cache::object::{Key, Object};
use crate::edge::Edge;
use crate::rules::freshness::State;
use crate::serve::receive::path_is_plain;
use crate::video::{Base, Passing, Playlist, read};

/// Objects that are fetched at once, and of one order.
const AT_ONCE: usize = 4;
const OBJECTS_MAX: usize = 4_096;
/// Of the memory for objects, what one order may fill: what is watched now must stay.
const MEMORY_SHARE: u64 = 4;
/// One order takes no longer; what is left out is what players would have asked for last.
const ORDER_MAX: Duration = Duration::from_secs(120);
/// What every answer to a report names again is looked at no more often.
const AGAIN_MS: u64 = 20_000;

/// One order at a time.
#[derive(Default)]
pub(crate) struct Prewarming {
    runs: AtomicBool,
    /// Paths of the last orders, and when each was looked at.
    looked_at: Mutex<BTreeMap<String, Millis>>,
}

/// Begins to fetch what is named and was not looked at just now, unless an order is being worked through.
pub(crate) fn obey(edge: &Arc<Edge>, mut paths: Vec<String>) {
    paths.truncate(PREWARM_MAX);
    let now = edge.now();
    let mut looked_at = edge.prewarming.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
    looked_at.retain(|_, at| now.saturating_sub(*at).0 < AGAIN_MS);
    paths.retain(|path| !looked_at.contains_key(path));
    if paths.is_empty() || edge.prewarming.runs.swap(true, Ordering::AcqRel) {
        return;
    }
    looked_at.extend(paths.iter().map(|path| (path.clone(), now)));
    drop(looked_at);
    let edge = edge.clone();
    tokio::spawn(async move {
        let order = Order::new(&edge);
        if tokio::time::timeout(ORDER_MAX, order.work_through(&paths)).await.is_err() {
            tracing::warn!(paths = paths.len(), "an order to prewarm took too long");
        }
        edge.prewarming.runs.store(false, Ordering::Release);
    });
}

/// An order that is worked through.
struct Order<'a> {
    edge: &'a Arc<Edge>,
    /// Bytes that it may still fetch.
    left: AtomicU64,
}

/// What one object turned out to say.
#[derive(Default)]
struct Said {
    /// Media playlists.
    playlists: Vec<Key>,
    /// Of each rendition, what a player asks for first.
    openings: Vec<Vec<Key>>,
}

impl<'a> Order<'a> {
    fn new(edge: &'a Arc<Edge>) -> Self {
        Self { edge, left: AtomicU64::new(edge.plan.memory_bytes / MEMORY_SHARE) }
    }

    /// In rounds: what is named, the playlists that it names, and of all renditions first the first object.
    async fn work_through(&self, paths: &[String]) {
        let mut done = BTreeSet::new();
        let named = paths.iter().filter_map(|path| self.key(path)).collect();
        let Said { playlists, mut openings } = self.fetch_all(named, &mut done).await;
        openings.extend(self.fetch_all(playlists, &mut done).await.openings);
        let longest = openings.iter().map(Vec::len).max().unwrap_or(0);
        for at in 0..longest {
            let round = openings.iter().filter_map(|opening| opening.get(at).cloned()).collect();
            self.fetch_all(round, &mut done).await;
        }
    }

    fn key(&self, target: &str) -> Option<Key> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        if !path_is_plain(path) || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            tracing::warn!(target, "a path to prewarm is not plain");
            return None;
        }
        Some(self.edge.terms().paths.key(path, query))
    }

    async fn fetch_all(&self, keys: Vec<Key>, done: &mut BTreeSet<Key>) -> Said {
        let new: Vec<Key> =
            keys.into_iter().filter(|key| done.len() < OBJECTS_MAX && done.insert(key.clone())).collect();
        let fetches = new.into_iter().map(|key| self.fetch(key));
        let all: Vec<Said> = futures::stream::iter(fetches).buffer_unordered(AT_ONCE).collect().await;
        all.into_iter().fold(Said::default(), |mut all, one| {
            all.playlists.extend(one.playlists);
            all.openings.extend(one.openings);
            all
        })
    }

    async fn fetch(&self, key: Key) -> Said {
        let count = |result| counter!("spillway_edge_prewarmed_total", "result" => result).increment(1);
        let edge = self.edge;
        if edge.is_stopping() || self.left.load(Ordering::Relaxed) == 0 || !edge.origins.is_well(&key) {
            count("left_out");
            return Said::default();
        }
        let (kept_as, kept) = edge.store.find(&key, &HeaderMap::new());
        let fresh = kept.as_ref().filter(|object| matches!(object.state(edge.now()), State::Fresh(_)));
        let playlist = if let Some(object) = fresh {
            count("kept");
            Passing::kept(&key, object)
        } else {
            match begin(edge, &kept_as, kept.is_some(), || Wanted::ahead(edge, key.clone())) {
                Found::Filling { reader, first, .. } => {
                    count(if first { "begun" } else { "under_way" });
                    self.follow(&key, reader).await
                }
                Found::Fresh(object, _) | Found::Stale(object, _) => Passing::kept(&key, &object),
                Found::Pass(_) => None,
            }
        };
        match playlist {
            Some(playlist) => self.understand(key, playlist).await.unwrap_or_default(),
            None => Said::default(),
        }
    }

    /// Reads to the end what comes, as far as the order's bytes go: the rest is fetched all the same.
    async fn follow(&self, key: &Key, mut reader: Reader) -> Option<Passing> {
        let mut playlist = match reader.outcome().await {
            Outcome::Stream { head, .. } => Passing::of(key, head.status, &head.headers),
            Outcome::Object(object, _) | Outcome::Loaded(object) => return self.took(key, &object),
            Outcome::Pass(_) | Outcome::Failed(_) => return None,
        };
        while let Some(part) = reader.next().await {
            let part: Bytes = part.ok()?;
            self.spend(part.len() as u64);
            if let Some(playlist) = &mut playlist {
                playlist.push(&part);
            }
            if self.left.load(Ordering::Relaxed) == 0 {
                return None;
            }
        }
        playlist
    }

    fn took(&self, key: &Key, object: &Object) -> Option<Passing> {
        self.spend(object.body.len());
        Passing::kept(key, object)
    }

    fn spend(&self, bytes: u64) {
        let less = |left: u64| Some(left.saturating_sub(bytes));
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Beside the others' work, since it may be long.
    async fn understand(&self, key: Key, playlist: Passing) -> Option<Said> {
        let text = playlist.text()?;
        let edge = self.edge.clone();
        let read = tokio::task::spawn_blocking(move || {
            let terms = edge.terms();
            let playlist = read(&text, &Base::new(&key, &terms.paths)?)?;
            Some(match playlist {
                Playlist::Multivariant(playlists) => Said { playlists, openings: Vec::new() },
                Playlist::Media(renditions) => {
                    let wall_ms = edge.clock.now().0;
                    let openings = renditions.iter().map(|rendition| rendition.opening(wall_ms)).collect();
                    Said { playlists: Vec::new(), openings }
                }
            })
        });
        read.await.ok().flatten()
    }
}

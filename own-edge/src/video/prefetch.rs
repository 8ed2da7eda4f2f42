//! What players will ask for next is fetched before they do: what they announce (CMCD `nor`), or else what their playlist
//! says; and at a live edge what is new, for all who watch it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use metrics::counter;
use quick_cache::sync::Cache;
use serde::Deserialize;
use spillway_model::Millis;
use spillway_wire::cmcd;
use tokio::sync::Semaphore;
use url::{Url, form_urlencoded};

use crate::cache::fetch::Wanted;
use crate::cache::lookup::{Found, begin};
use crate::cache::object::Key;
use crate::edge::Edge;
use crate::operate::terms::Terms;
use crate::rules::paths::PathRules;
use crate::serve::admit::SessionKey;
use crate::serve::receive::{Asked, path_is_plain};
use crate::serve::request::CMCD_REQUEST;
use crate::video::{Base, Passing, read};

/// Fetched ahead at once, and of the requests that an origin may get; more are left out, since whoever waits goes first.
const AT_ONCE: usize = 32;
const REQUESTS_SHARE: usize = 4;
/// Announced objects of one request that are fetched.
const OBJECTS_MAX: usize = 2;
/// From this share of its ceiling on a node fetches nothing ahead, in tenths.
const CEILING_TENTHS: u64 = 9;
/// What nobody asked for within was fetched in vain.
const WASTED_MS: u64 = 120_000;
/// Objects that are watched for being asked for.
const UNUSED_MAX: usize = 8_192;
/// A longer playlist is read beside the others' work, few at once: what is not read is learned with its next version.
const READ_AT_ONCE_BYTES: usize = 64 * 1024;
const LONG_READS: usize = 2;

/// What is fetched before anybody asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefetch {
    /// Nothing.
    Off,
    /// What players announce (CMCD `nor`).
    Announced,
    /// That, or else the segment that comes next in the playlist; and what is new at a live edge that is watched.
    #[default]
    Next,
}

/// The places of fetches ahead, and what came of them.
pub(crate) struct Prefetches {
    places: Arc<Semaphore>,
    /// Fetched ahead, and not asked for yet.
    unused: Cache<Key, ()>,
    /// The same in their order, with those that were asked for in the meantime.
    begun: Mutex<VecDeque<(Key, Millis)>>,
    waiting: AtomicUsize,
    long_reads: Arc<Semaphore>,
}

impl Prefetches {
    pub(crate) fn new(origin_requests: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new((origin_requests / REQUESTS_SHARE).clamp(1, AT_ONCE))),
            unused: Cache::new(2 * UNUSED_MAX),
            begun: Mutex::default(),
            waiting: AtomicUsize::new(0),
            long_reads: Arc::new(Semaphore::new(LONG_READS)),
        }
    }

    fn note_begun(&self, key: &Key, now: Millis) {
        self.unused.insert(key.clone(), ());
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push_back((key.clone(), now));
        self.forget_old(&mut begun, now);
        self.waiting.store(begun.len(), Ordering::Relaxed);
    }

    fn forget_old(&self, begun: &mut VecDeque<(Key, Millis)>, now: Millis) {
        while begun.len() > UNUSED_MAX || begun.front().is_some_and(|(_, at)| now.saturating_sub(*at).0 >= WASTED_MS) {
            if let Some((key, _)) = begun.pop_front() {
                self.settle(&key, "wasted");
            }
        }
    }

    /// Counts those that nobody asked for in time.
    pub(crate) fn sweep(&self, now: Millis) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_old(&mut begun, now);
        self.waiting.store(begun.len(), Ordering::Relaxed);
    }

    fn was_asked(&self, key: &Key) {
        if self.waiting.load(Ordering::Relaxed) > 0 && self.unused.peek(key).is_some() {
            self.settle(key, "used");
        }
    }

    fn settle(&self, key: &Key, outcome: &'static str) {
        if self.unused.remove(key).is_some() {
            counter!("spillway_edge_prefetched_total", "outcome" => outcome).increment(1);
        }
    }
}

/// Why something is fetched ahead; for counters.
type Cause = &'static str;

/// Begins to fetch what the client of `asked` will ask for next, where it is not kept.
pub(crate) fn ahead(edge: &Arc<Edge>, asked: &Asked, terms: &Terms) {
    // Edges that ask have viewers of their own, and fetch ahead themselves.
    if asked.session == SessionKey::NONE || terms.prefetch == Prefetch::Off {
        return;
    }
    edge.prefetches.was_asked(&asked.key);
    let next = match terms.prefetch {
        Prefetch::Next => edge.video.asked(&asked.key, asked.at, || edge.clock.now().0),
        _ => None,
    };
    let announced = announced(asked, &terms.paths);
    let cause = if announced.is_empty() { "next" } else { "announced" };
    let urls = if announced.is_empty() { next.into_iter().collect() } else { announced };
    for url in urls {
        fetch(edge, url, cause);
    }
}

/// Takes what a playlist says that was asked for as `url`, and begins to fetch what is new in it and watched. Nobody
/// waits for that.
pub(crate) fn learn(edge: &Arc<Edge>, url: &Key, playlist: Passing) {
    let Some(text) = playlist.text() else { return };
    let (edge, url) = (edge.clone(), url.clone());
    if is_read_at_once(&text) {
        return take(&edge, &url, &text);
    }
    let Ok(place) = edge.prefetches.long_reads.clone().try_acquire_owned() else { return };
    tokio::task::spawn_blocking(move || {
        take(&edge, &url, &text);
        drop(place);
    });
}

/// Short text may say much (an MPD's one line for a thousand segments).
fn is_read_at_once(text: &str) -> bool {
    text.len() <= READ_AT_ONCE_BYTES && !text.contains('<')
}

fn take(edge: &Arc<Edge>, url: &Key, text: &str) {
    let terms = edge.terms();
    let read = Base::new(url, &terms.paths).and_then(|base| read(text, &base));
    let Some(news) = read.and_then(|playlist| edge.video.learn(url, playlist)) else { return };
    if terms.prefetch == Prefetch::Next {
        for url in news.wanted(edge.now()) {
            fetch(edge, url, "live");
        }
    }
    edge.let_go(news.left);
}

fn fetch(edge: &Arc<Edge>, url: Key, cause: Cause) {
    let count = |result: &'static str| {
        counter!("spillway_edge_prefetches_total", "cause" => cause, "result" => result).increment(1);
    };
    // What can't be kept would be fetched again for who asks.
    let kept = || edge.store.find(&url, &HeaderMap::new()).1.is_some();
    if kept() || edge.store.is_marked(&url, edge.now()) || edge.disk.as_ref().is_some_and(|disk| disk.has(&url)) {
        return;
    }
    let near_ceiling = edge.meter.bits_out_10s_bps() >= edge.terms().ceiling_bps / 10 * CEILING_TENTHS;
    if near_ceiling || edge.is_stopping() || !edge.origins.is_well(&url) {
        return count("left_out");
    }
    let Ok(place) = edge.prefetches.places.clone().try_acquire_owned() else { return count("left_out") };
    // Somebody who asks for it joins this fetch; one that is under way already needs no other.
    let Found::Filling { mut reader, first: true, .. } = begin(edge, &url, false, || Wanted::ahead(edge, url.clone()))
    else {
        return count("under_way");
    };
    count("begun");
    edge.prefetches.note_begun(&url, edge.now());
    let edge = edge.clone();
    tokio::spawn(async move {
        reader.ended().await;
        drop(place);
        if edge.store.find(&url, &HeaderMap::new()).1.is_none() {
            edge.prefetches.settle(&url, "not_kept");
        }
    });
}

/// A path as CMCD has it in its text: encoded as a whole (`..%2F2.m4s`).
fn decoded(path: &str) -> String {
    // A plus is a plus, and an ampersand ends nothing.
    let query = format!("path={}", path.replace('+', "%2B").replace('&', "%26"));
    form_urlencoded::parse(query.as_bytes()).next().map_or_else(String::new, |(_, path)| path.into_owned())
}

/// Keys of the objects that a request announces, of this host. Who asks for them needs a token of their own, if any.
fn announced(asked: &Asked, paths: &PathRules) -> Vec<Key> {
    let query = asked.target().split_once('?').map(|(_, query)| query);
    if query.is_none() && !asked.fields.has_cmcd {
        return Vec::new();
    }
    let headers = &asked.fields.headers;
    // Most requests announce nothing, and reading all of a record costs more than looking for the word.
    let says = |text: &[u8]| text.windows(4).any(|four| four == b"nor=") || text.windows(6).any(|six| six == b"nor%3D");
    if !query.is_some_and(|query| says(query.as_bytes()))
        && !headers.get(CMCD_REQUEST).is_some_and(|line| says(line.as_bytes()))
    {
        return Vec::new();
    }
    let Ok(Some(record)) = cmcd::parse_request(query, |name| headers.get(name).map(http::HeaderValue::as_bytes)) else {
        return Vec::new();
    };
    let Ok(base) = Url::parse(&format!("http://edge.invalid{}", asked.target())) else { return Vec::new() };
    let objects = record.nor.iter().flatten().take(OBJECTS_MAX).filter(|next| next.range.is_none());
    objects
        .filter_map(|next| base.join(&decoded(&next.path)).ok())
        .filter(|url| url.host_str() == base.host_str() && url.scheme() == "http" && url.port().is_none())
        .filter(|url| path_is_plain(url.path()))
        .map(|url| paths.key(url.path(), url.query()))
        .collect()
}

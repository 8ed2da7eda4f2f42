//! The memory tier: objects by key, bounded in bytes, the least useful evicted first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName};
use metrics::Counter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use spillway_model::Millis;

use crate::cache::object::{Key, Object};
use crate::rules::vary::selection;

/// Objects that are expected at most; sizes tables only.
const USUAL_OBJECT_BYTES: u64 = 64 * 1024;
/// Keys that are known to be uncacheable.
const MARKS_MAX: usize = 16_384;
/// How long a key counts as uncacheable: requests for it don't wait for each other.
const MARK_MS: u64 = 10_000;

/// Objects in memory, and marks of keys that are not worth waiting for.
pub(crate) struct Store {
    entries: Cache<Key, Entry, ByBytes, DefaultHashBuilder, CountEvictions>,
    marks: Cache<Key, u64>,
    /// Number of the next [`Variants`].
    variants: AtomicU64,
}

/// What is kept under a key.
#[derive(Clone)]
enum Entry {
    Object(Arc<Object>),
    /// The objects of this URL are kept under keys of their own.
    Variants(Arc<Variants>),
}

/// How the answers of a URL differ.
pub(crate) struct Variants {
    /// Never used twice: whoever forgets this forgets all objects below it, since nothing finds them any more.
    number: u64,
    /// Fields of the request that they differ by.
    fields: Vec<HeaderName>,
}

impl Variants {
    /// The key of the object for `request`.
    fn key(&self, url: &Key, request: &HeaderMap) -> Key {
        Key::from(format!("{url}\n{}\n{}", self.number, selection(&self.fields, request)))
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Entry> for ByBytes {
    fn weight(&self, key: &Key, entry: &Entry) -> u64 {
        match entry {
            Entry::Object(object) => object.weight(key),
            Entry::Variants(variants) => (key.len() + 64 * variants.fields.len()) as u64 + 256,
        }
    }
}

#[derive(Clone)]
struct CountEvictions(Counter);

impl Lifecycle<Key, Entry> for CountEvictions {
    type RequestState = <DefaultLifecycle<Key, Entry> as Lifecycle<Key, Entry>>::RequestState;

    fn on_evict(&self, _state: &mut Self::RequestState, _key: Key, _entry: Entry) {
        self.0.increment(1);
    }
}

impl Store {
    /// A store of `memory_bytes`, any object of which may have `max_object_bytes`.
    pub(crate) fn new(memory_bytes: u64, max_object_bytes: u64, evictions: Counter) -> Self {
        // A shard evicts by itself, so each must hold two of the largest objects.
        let shards = (memory_bytes / (2 * max_object_bytes.max(1))).clamp(1, 16);
        let shards = usize::try_from(shards).unwrap_or(1);
        let shards = if shards.is_power_of_two() { shards } else { shards.next_power_of_two() / 2 };
        let items = usize::try_from(memory_bytes / USUAL_OBJECT_BYTES).unwrap_or(usize::MAX).max(64 * shards);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(items)
            .weight_capacity(memory_bytes)
            .build()
            .expect("both capacities are set");
        Self {
            entries: Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), CountEvictions(evictions)),
            marks: Cache::new(MARKS_MAX),
            variants: AtomicU64::new(0),
        }
    }

    /// The key that answers `request` of `url`, and the object that is kept under it.
    pub(crate) fn find(&self, url: &Key, request: &HeaderMap) -> (Key, Option<Arc<Object>>) {
        match self.entries.get(url) {
            Some(Entry::Object(object)) => (url.clone(), Some(object)),
            Some(Entry::Variants(variants)) => {
                let key = variants.key(url, request);
                let object = self.get(&key);
                (key, object)
            }
            None => (url.clone(), None),
        }
    }

    /// The object under exactly this key.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        match self.entries.get(key)? {
            Entry::Object(object) => Some(object),
            Entry::Variants(_) => None,
        }
    }

    pub(crate) fn put(&self, key: &Key, object: Arc<Object>) {
        self.marks.remove(key);
        self.entries.insert(key.clone(), Entry::Object(object));
    }

    /// Forgets `object`, but nothing that has come in its place.
    pub(crate) fn take_back(&self, key: &Key, object: &Arc<Object>) {
        self.entries.remove_if(key, |entry| matches!(entry, Entry::Object(kept) if Arc::ptr_eq(kept, object)));
    }

    /// The key for an answer to `request` of `url` that differs by `fields`. Where answers of the URL differ by other
    /// fields so far, they differ by all of them from now on.
    pub(crate) fn variant(&self, url: &Key, fields: &[HeaderName], request: &HeaderMap) -> Key {
        let known = match self.entries.get(url) {
            Some(Entry::Variants(known)) => Some(known),
            _ => None,
        };
        if let Some(known) = known.as_ref().filter(|known| fields.iter().all(|field| known.fields.contains(field))) {
            return known.key(url, request);
        }
        let mut all: Vec<HeaderName> = known.map_or_else(Vec::new, |known| known.fields.clone());
        all.extend(fields.iter().cloned());
        all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        all.dedup();
        let variants = Variants { number: self.variants.fetch_add(1, Ordering::Relaxed), fields: all };
        let key = variants.key(url, request);
        self.entries.insert(url.clone(), Entry::Variants(Arc::new(variants)));
        key
    }

    /// Whether something is kept of `url`.
    pub(crate) fn has(&self, url: &Key) -> bool {
        self.entries.contains_key(url)
    }

    /// Forgets every object of `url`.
    pub(crate) fn forget(&self, url: &Key) {
        self.entries.remove(url);
        self.marks.remove(url);
    }

    /// Keeps of all objects those that `stays` lets stay, and of the records of how URLs differ those of `url_stays`.
    pub(crate) fn retain(&self, url_stays: impl Fn(&Key) -> bool, stays: impl Fn(&Key, &Object) -> bool) {
        self.entries.retain(|key, entry| match entry {
            Entry::Object(object) => stays(key, object),
            Entry::Variants(_) => url_stays(key),
        });
    }

    /// Forgets `key` and lets its requests go to the origin side by side for a while.
    pub(crate) fn mark_uncacheable(&self, key: &Key, now: Millis) {
        self.entries.remove(key);
        self.marks.insert(key.clone(), now.0 + MARK_MS);
    }

    pub(crate) fn is_marked(&self, key: &Key, now: Millis) -> bool {
        match self.marks.get(key) {
            Some(until_ms) if now.0 < until_ms => true,
            Some(_) => {
                self.marks.remove(key);
                false
            }
            None => false,
        }
    }

    /// Bytes that the kept objects take.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.entries.weight()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::held::Bodies;
    use crate::cache::object::{Head, Pieces, Stored};
    use crate::rules::cache_control::CacheControl;
    use crate::rules::freshness::{Freshness, Times};
    use bytes::Bytes;
    use http::StatusCode;
    use spillway_model::TimestampMs;

    const MIB: u64 = 1024 * 1024;

    async fn object(bytes: usize) -> Arc<Object> {
        let headers = HeaderMap::from_iter([(http::header::CACHE_CONTROL, "max-age=60".parse().expect("value"))]);
        let times = Times { asked: Millis(0), received: Millis(0), wall: TimestampMs(0) };
        let freshness = Freshness::said(&headers, &CacheControl::of(&headers), times).expect("said");
        let body = Pieces::copy(vec![Bytes::from(vec![7; bytes])], &Bodies::default()).await;
        Arc::new(Object::new(Arc::new(Head::new(StatusCode::OK, headers)), freshness, Stored::Memory(body)))
    }

    #[tokio::test]
    async fn ten_times_the_memory_never_takes_more_than_the_memory() {
        let store = Store::new(8 * MIB, MIB, Counter::noop());
        for n in 0..320_u32 {
            let size = if n % 7 == 0 { MIB as usize - 4096 } else { 200_000 };
            store.put(&Key::from(format!("/{n}")), object(size).await);
            assert!(store.used_bytes() <= 8 * MIB, "{} bytes after {n}", store.used_bytes());
        }
        assert!(store.used_bytes() > 4 * MIB, "{} bytes kept", store.used_bytes());
        assert!(store.len() < 120);
    }

    #[tokio::test]
    async fn an_object_of_the_largest_size_is_kept() {
        let store = Store::new(8 * MIB, 4 * MIB, Counter::noop());
        store.put(&Key::from("/large"), object(4 * MIB as usize - 4096).await);
        assert!(store.get(&Key::from("/large")).is_some());
    }

    #[tokio::test]
    async fn a_mark_ends_by_time_or_by_something_kept() {
        let store = Store::new(8 * MIB, MIB, Counter::noop());
        let key = Key::from("/a");
        store.mark_uncacheable(&key, Millis(0));
        assert!(store.is_marked(&key, Millis(MARK_MS - 1)) && !store.is_marked(&key, Millis(MARK_MS)));
        store.mark_uncacheable(&key, Millis(0));
        store.put(&key, object(1).await);
        assert!(!store.is_marked(&key, Millis(1)));
    }

    #[tokio::test]
    async fn each_variant_has_its_object_and_all_are_forgotten_together() {
        let store = Store::new(8 * MIB, MIB, Counter::noop());
        let url = Key::from("/a");
        let request = |lines: &[(&'static str, &'static str)]| {
            HeaderMap::from_iter(
                lines
                    .iter()
                    .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value))),
            )
        };
        let (one, other) = (request(&[("foo", "1")]), request(&[("foo", "2")]));
        let foo = [HeaderName::from_static("foo")];
        let key = store.variant(&url, &foo, &one);
        store.put(&key, object(1).await);
        assert!(store.find(&url, &one).1.is_some() && store.find(&url, &other).1.is_none());
        assert_eq!(store.find(&url, &request(&[("foo", "1"), ("bar", "9")])).0, key, "bar makes no difference");
        assert_eq!(store.variant(&url, &foo, &one), key);
        // Another answer differs by more: what was kept is found no more, rather than given to the wrong one.
        let bar = [HeaderName::from_static("bar")];
        let both = store.variant(&url, &bar, &one);
        store.put(&both, object(2).await);
        assert!(store.find(&url, &one).1.is_some_and(|object| object.body.len() == 2));
        assert!(store.find(&url, &request(&[("foo", "1"), ("bar", "9")])).1.is_none());
        store.forget(&url);
        assert_eq!(store.find(&url, &one).0, url);
        assert_ne!(store.variant(&url, &foo, &one), key, "a forgotten object must not come back");
    }
}

//! The memory tier: objects by key, bounded in bytes, the least useful evicted first.

use std::sync::Arc;

use metrics::Counter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use spillway_model::Millis;

use crate::object::{Key, Object};

/// Objects that are expected at most; sizes tables only.
const USUAL_OBJECT_BYTES: u64 = 64 * 1024;
/// Keys that are known to be uncacheable.
const MARKS_MAX: usize = 16_384;
/// How long a key counts as uncacheable: requests for it don't wait for each other.
const MARK_MS: u64 = 10_000;

/// Objects in memory, and marks of keys that are not worth waiting for.
pub(crate) struct Store {
    objects: Cache<Key, Arc<Object>, ByBytes, DefaultHashBuilder, CountEvictions>,
    marks: Cache<Key, u64>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Object>> for ByBytes {
    fn weight(&self, key: &Key, object: &Arc<Object>) -> u64 {
        object.weight(key)
    }
}

#[derive(Clone)]
struct CountEvictions(Counter);

impl Lifecycle<Key, Arc<Object>> for CountEvictions {
    type RequestState = <DefaultLifecycle<Key, Arc<Object>> as Lifecycle<Key, Arc<Object>>>::RequestState;

    fn on_evict(&self, _state: &mut Self::RequestState, _key: Key, _object: Arc<Object>) {
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
            objects: Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), CountEvictions(evictions)),
            marks: Cache::new(MARKS_MAX),
        }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.objects.get(key)
    }

    pub(crate) fn put(&self, key: &Key, object: Arc<Object>) {
        self.marks.remove(key);
        self.objects.insert(key.clone(), object);
    }

    /// Forgets `key` and lets its requests go to the origin side by side for a while.
    pub(crate) fn mark_uncacheable(&self, key: &Key, now: Millis) {
        self.objects.remove(key);
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
        self.objects.weight()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Head, Pieces};
    use crate::policy::{Framing, Keep, Times, keep};
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use spillway_model::TimestampMs;

    const MIB: u64 = 1024 * 1024;

    async fn object(bytes: usize) -> Arc<Object> {
        let headers = HeaderMap::from_iter([(http::header::CACHE_CONTROL, "max-age=60".parse().expect("value"))]);
        let times = Times { asked: Millis(0), received: Millis(0), wall: TimestampMs(0) };
        let Keep::Store(freshness) = keep(StatusCode::OK, &headers, Framing::Chunked, times, MIB) else {
            panic!("stored")
        };
        let body = Pieces::copy(vec![Bytes::from(vec![7; bytes])]).await;
        Arc::new(Object::new(Arc::new(Head::new(StatusCode::OK, headers)), freshness, body))
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
}

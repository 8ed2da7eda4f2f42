//! A cache in memory, bounded by bytes, with one fetch per key however many wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::CdnError;

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_OBJECT_BYTES: usize = 16 * 1024 * 1024;
const KEPT_HEADERS: [HeaderName; 2] = [CONTENT_TYPE, CACHE_CONTROL];

/// One answer of the origin.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    fetched_at: Instant,
    max_age: Duration,
}

impl Object {
    fn is_fresh(&self) -> bool {
        self.age() < self.max_age
    }

    pub(crate) fn age(&self) -> Duration {
        self.fetched_at.elapsed()
    }

    /// How long it stays fresh.
    pub(crate) fn ttl(&self) -> Duration {
        self.max_age.saturating_sub(self.age())
    }

    fn bad_gateway(why: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self {
            status: StatusCode::BAD_GATEWAY,
            headers,
            body: Bytes::from(format!("the origin gave no answer: {why}\n")),
            fetched_at: Instant::now(),
            max_age: Duration::ZERO,
        }
    }
}

/// How a request was satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Hit,
    Miss,
    /// Waited for another request's fetch.
    Collapsed,
}

type Fetch = Shared<BoxFuture<'static, Arc<Object>>>;

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, (u64, Arc<Object>)>,
    /// Last use → key; the first is evicted first.
    uses: BTreeMap<u64, String>,
    fetches: BTreeMap<String, Fetch>,
    bytes: u64,
    clock: u64,
}

pub(crate) struct Cache {
    inner: Mutex<Inner>,
    max_bytes: u64,
    origin: Url,
    client: reqwest::Client,
    fetched: AtomicU64,
    hits: AtomicU64,
}

impl Cache {
    pub(crate) fn new(origin: Url, max_bytes: u64) -> Result<Arc<Self>, CdnError> {
        let client = reqwest::Client::builder().no_proxy().timeout(FETCH_TIMEOUT).build()?;
        let (fetched, hits) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Arc::new(Self { inner: Mutex::default(), max_bytes, origin, client, fetched, hits }))
    }

    /// Requests sent to the origin so far.
    pub(crate) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Requests answered out of the cache so far.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The object at this path, from memory or from the origin.
    pub(crate) async fn get(self: &Arc<Self>, path: &str) -> (Arc<Object>, Found) {
        let (fetch, found) = match self.look_up(path) {
            Ok(object) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return (object, Found::Hit);
            }
            Err(waiting) => waiting,
        };
        (fetch.await, found)
    }

    fn look_up(self: &Arc<Self>, path: &str) -> Result<Arc<Object>, (Fetch, Found)> {
        let mut inner = self.lock();
        if let Some(object) = inner.fresh(path) {
            return Ok(object);
        }
        if let Some(fetch) = inner.fetches.get(path) {
            return Err((fetch.clone(), Found::Collapsed));
        }
        let (cache, key) = (Arc::clone(self), path.to_owned());
        // A task of its own: the first client may leave while others wait.
        let task = tokio::spawn(async move { cache.fill(key).await });
        let fetch = task
            .map(|joined| joined.unwrap_or_else(|_| Arc::new(Object::bad_gateway("it was cut off"))))
            .boxed()
            .shared();
        inner.fetches.insert(path.to_owned(), fetch.clone());
        Err((fetch, Found::Miss))
    }

    async fn fill(&self, path: String) -> Arc<Object> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let fetched = self.fetch(&path).await;
        let object = Arc::new(fetched.unwrap_or_else(|why| Object::bad_gateway(&why)));
        let mut inner = self.lock();
        inner.fetches.remove(&path);
        if !object.max_age.is_zero() {
            inner.store(path, Arc::clone(&object), self.max_bytes);
        }
        object
    }

    async fn fetch(&self, path: &str) -> Result<Object, String> {
        let mut url = self.origin.clone();
        url.set_path(path);
        let mut response = self.client.get(url).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        let mut headers = HeaderMap::new();
        for name in KEPT_HEADERS {
            if let Some(value) = response.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            if body.len() + chunk.len() > MAX_OBJECT_BYTES {
                return Err(format!("`{path}` is above {MAX_OBJECT_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let max_age = max_age(&headers);
        Ok(Object { status, headers, body: body.freeze(), fetched_at: Instant::now(), max_age })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while holding the cache")
    }
}

impl Inner {
    fn fresh(&mut self, path: &str) -> Option<Arc<Object>> {
        let (used, object) = self.objects.get_mut(path)?;
        if !object.is_fresh() {
            return None;
        }
        self.clock += 1;
        self.uses.remove(used);
        self.uses.insert(self.clock, path.to_owned());
        *used = self.clock;
        Some(Arc::clone(object))
    }

    fn store(&mut self, path: String, object: Arc<Object>, max_bytes: u64) {
        self.remove(&path);
        self.clock += 1;
        self.bytes += object.body.len() as u64;
        self.uses.insert(self.clock, path.clone());
        self.objects.insert(path, (self.clock, object));
        while self.bytes > max_bytes
            && let Some((_, least_used)) = self.uses.pop_first()
        {
            self.remove(&least_used);
        }
    }

    fn remove(&mut self, path: &str) {
        if let Some((used, object)) = self.objects.remove(path) {
            self.uses.remove(&used);
            self.bytes -= object.body.len() as u64;
        }
    }
}

fn max_age(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(CACHE_CONTROL)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(',').find_map(|part| part.trim().strip_prefix("max-age=")?.parse().ok()));
    Duration::from_secs(seconds.unwrap_or(0))
}

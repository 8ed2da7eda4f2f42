//! Playlists from configured origins: bounded, cached by the origin's own rules (at most 10 s fresh; `freshness`), asked
//! for again by their validators, stale while the origin fails, and one fetch however many wait.

mod freshness;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use spillway_model::limits::PLAYLIST_MAX_BYTES;
use spillway_model::{Clock, Millis};
use url::Url;

use self::freshness::Rules;
use crate::params::percent_decode;
use crate::playlists::space::Space;

const TIMEOUT: Duration = Duration::from_secs(3);
/// Redirects within the origin's host.
const REDIRECTS_MAX: usize = 3;
/// Playlists kept. One is usually 5 KB.
const ENTRIES_MAX: usize = 2_048;
/// Bytes kept.
const CACHE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Fetches at once; more is a flood of different paths.
const FETCHES_MAX: usize = 256;
const PATH_MAX_BYTES: usize = 1_024;

/// A configured origin.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    base: Url,
}

impl Origin {
    pub(crate) fn new(base_url: &str) -> Option<Self> {
        let base = Url::parse(base_url.trim_end_matches('/')).ok()?;
        (matches!(base.scheme(), "http" | "https")
            && base.has_host()
            && base.query().is_none()
            && base.fragment().is_none())
        .then_some(Self { base })
    }

    fn url_of(&self, path: &str) -> Option<Url> {
        Url::parse(&format!("{}/{path}", self.base.as_str().trim_end_matches('/'))).ok()
    }
}

/// A playlist as its origin gave it.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) body: Bytes,
    pub(crate) space: Space,
    /// Older than it says, because the origin fails.
    pub(crate) stale: bool,
}

/// Why there is no playlist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("path {0:?} is not a plain relative path of at most {PATH_MAX_BYTES} bytes")]
    BadPath(String),
    #[error("no origin for {0:?} (steer.origins has neither its first segment nor default)")]
    NoOrigin(String),
    #[error("the origin answers {0}")]
    Status(u16),
    #[error("the origin's playlist is larger than {PLAYLIST_MAX_BYTES} bytes")]
    TooLarge,
    #[error("the origin does not answer: {0}")]
    Unreachable(String),
    #[error("too many different playlists are being fetched")]
    Busy,
}

impl FetchError {
    /// Stable name.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::BadPath(_) => "bad_path",
            Self::NoOrigin(_) => "no_origin",
            Self::Status(_) => "origin_status",
            Self::TooLarge => "too_large",
            Self::Unreachable(_) => "origin_unreachable",
            Self::Busy => "origin_busy",
        }
    }

    /// What a player is told. The origin's own 4xx is its answer; everything else is a bad gateway.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadPath(_) => StatusCode::BAD_REQUEST,
            Self::NoOrigin(_) => StatusCode::NOT_FOUND,
            Self::Status(code @ 400..=499) => StatusCode::from_u16(*code).unwrap_or(StatusCode::BAD_GATEWAY),
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether an old copy is better than this.
    fn allows_stale(&self) -> bool {
        matches!(self, Self::Status(500..) | Self::Unreachable(_) | Self::Busy)
    }
}

type Fetching = Shared<BoxFuture<'static, Result<Entry, FetchError>>>;

#[derive(Clone)]
struct Entry {
    body: Bytes,
    space: Space,
    fetched: Millis,
    rules: Rules,
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<String, Entry>,
    bytes: usize,
    fetching: HashMap<String, Fetching>,
}

/// All origins with their common cache.
pub(crate) struct Origins {
    origins: BTreeMap<String, Origin>,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    cache: Arc<Mutex<Cache>>,
}

impl Origins {
    pub(crate) fn new(origins: BTreeMap<String, Origin>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let policy = reqwest::redirect::Policy::custom(|attempt| {
            let home = attempt.previous().first().map(Url::origin);
            if attempt.previous().len() > REDIRECTS_MAX || home != Some(attempt.url().origin()) {
                attempt.error("redirect to another host, or too many")
            } else {
                attempt.follow()
            }
        });
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(policy).build()?;
        Ok(Self { origins, client, clock, cache: Arc::default() })
    }

    /// Where `path`'s playlist lies, without fetching it.
    pub(crate) fn space_of(&self, path: &str) -> Result<Space, FetchError> {
        let (origin, url) = self.locate(path)?;
        Ok(Space::new(&origin.base, &url))
    }

    /// The playlist at `path` (percent-encoded, without leading slash).
    pub(crate) async fn get(&self, path: &str) -> Result<Fetched, FetchError> {
        let (origin, url) = self.locate(path)?;
        let key = url.to_string();
        let now = self.clock.monotonic();
        let waiting = {
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            match cache.entries.get(&key) {
                Some(entry) if age(entry, now) < entry.rules.fresh_for => return Ok(entry.fetched(false)),
                _ => cache.fetching.get(&key).cloned().or_else(|| self.begin(&mut cache, &key, origin, url)),
            }
        };
        let outcome = match waiting {
            Some(fetching) => fetching.await,
            None => Err(FetchError::Busy),
        };
        outcome.map(|entry| entry.fetched(false)).or_else(|error| {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let usable = |entry: &&Entry| error.allows_stale() && age(entry, now) < entry.rules.usable_for;
            cache.entries.get(&key).filter(usable).map(|entry| entry.fetched(true)).ok_or(error)
        })
    }

    fn locate(&self, path: &str) -> Result<(&Origin, Url), FetchError> {
        let shown = || path.chars().take(80).collect::<String>();
        if !is_plain(path) {
            return Err(FetchError::BadPath(shown()));
        }
        let name = path.split('/').next().unwrap_or_default();
        let origin = self.origins.get(name).or_else(|| self.origins.get("default"));
        let origin = origin.ok_or_else(|| FetchError::NoOrigin(shown()))?;
        let url = origin.url_of(path).ok_or_else(|| FetchError::BadPath(shown()))?;
        Ok((origin, url))
    }

    /// Starts the one fetch of `key` in a task of its own, so that a viewer who leaves does not end it for the others.
    fn begin(&self, cache: &mut Cache, key: &str, origin: &Origin, url: Url) -> Option<Fetching> {
        if cache.fetching.len() >= FETCHES_MAX {
            return None;
        }
        let (client, clock, base) = (self.client.clone(), Arc::clone(&self.clock), origin.base.clone());
        let (shared, name) = (Arc::clone(&self.cache), key.to_owned());
        let old = cache.entries.get(key).cloned();
        let task = tokio::spawn(async move {
            let outcome = fetch(&client, &base, url, old, clock.as_ref()).await;
            let mut cache = shared.lock().unwrap_or_else(PoisonError::into_inner);
            cache.fetching.remove(&name);
            match &outcome {
                Ok(entry) if entry.rules.keep => cache.insert(name, entry.clone()),
                Ok(_) => cache.remove(&name),
                Err(error) if !error.allows_stale() => cache.remove(&name),
                Err(_) => {}
            }
            outcome
        });
        let fetching = task
            .map(|joined| joined.unwrap_or_else(|error| Err(FetchError::Unreachable(error.to_string()))))
            .boxed()
            .shared();
        cache.fetching.insert(key.to_owned(), fetching.clone());
        Some(fetching)
    }
}

impl Entry {
    fn fetched(&self, stale: bool) -> Fetched {
        Fetched { body: self.body.clone(), space: self.space.clone(), stale }
    }
}

impl Cache {
    fn insert(&mut self, key: String, entry: Entry) {
        self.remove(&key);
        while self.entries.len() >= ENTRIES_MAX || self.bytes + entry.body.len() > CACHE_MAX_BYTES {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.fetched).map(|(key, _)| key.clone())
            else {
                break;
            };
            self.remove(&oldest);
        }
        self.bytes += entry.body.len();
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &str) {
        if let Some(old) = self.entries.remove(key) {
            self.bytes -= old.body.len();
        }
    }
}

fn age(entry: &Entry, now: Millis) -> Millis {
    now.saturating_sub(entry.fetched)
}

/// A path that can't leave its origin: no empty, `.` or `..` part (also encoded), no backslash, no control character.
pub(crate) fn is_plain(path: &str) -> bool {
    let decoded = percent_decode(path);
    path.len() <= PATH_MAX_BYTES
        && !decoded.chars().any(|c| c.is_control() || c == '\\')
        && path.is_ascii()
        && !path.contains(['?', '#'])
        && decoded.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Asks for `url`; of `old`, if there is one, only whether it still holds.
async fn fetch(
    client: &reqwest::Client,
    base: &Url,
    url: Url,
    old: Option<Entry>,
    clock: &dyn Clock,
) -> Result<Entry, FetchError> {
    let unreachable = |error: reqwest::Error| FetchError::Unreachable(words(&error));
    let mut request = client.get(url);
    if let Some(old) = &old {
        let validators = [(header::IF_NONE_MATCH, &old.etag), (header::IF_MODIFIED_SINCE, &old.last_modified)];
        for (name, value) in validators {
            request = value.iter().fold(request, |request, value| request.header(&name, value));
        }
    }
    let mut response = request.send().await.map_err(unreachable)?;
    let headers = response.headers();
    let mut rules = Rules::of(headers);
    if response.status() == StatusCode::NOT_MODIFIED
        && let Some(old) = old
    {
        if !freshness::says_so(headers) {
            rules = old.rules;
        }
        return Ok(Entry { fetched: clock.monotonic(), rules, ..old });
    }
    if !response.status().is_success() {
        return Err(FetchError::Status(response.status().as_u16()));
    }
    let validator = |name| -> Option<HeaderValue> { HeaderMap::get(headers, name).cloned() };
    let (etag, last_modified) = (validator(header::ETAG), validator(header::LAST_MODIFIED));
    let space = Space::new(base, response.url());
    let too_large = |bytes: u64| bytes > PLAYLIST_MAX_BYTES as u64;
    if response.content_length().is_some_and(too_large) {
        return Err(FetchError::TooLarge);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > PLAYLIST_MAX_BYTES {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Entry { body: body.freeze(), space, fetched: clock.monotonic(), rules, etag, last_modified })
}

/// The error's causes without its URL, which may carry a secret.
fn words(error: &reqwest::Error) -> String {
    let mut out = if error.is_timeout() { "timeout".to_owned() } else { String::new() };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        out.push_str(if out.is_empty() { "" } else { ": " });
        out.push_str(&cause.to_string());
        source = cause.source();
    }
    if out.is_empty() { "no answer".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_not_leave_its_origin() {
        for good in ["live/river/master.m3u8", "a%20b/x.mpd", "x"] {
            assert!(is_plain(good), "{good}");
        }
        let long = "x".repeat(PATH_MAX_BYTES + 1);
        for bad in ["", "/x", "a//b", "../x", "a/%2e%2e/x", "a%2f..%2fx", "a\\b", "a%5cb", "x%0d%0a", "x?y", &long] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}

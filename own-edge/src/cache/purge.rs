//! Purges: by URL, by prefix, by tag; hard (gone at once) or soft (must be validated first, may help out while the
//! origin is gone). In force when they are answered, also for what is being fetched.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;

use crate::cache::object::{Key, Object};
use crate::edge::Edge;
use crate::rules::paths::PathRules;
use crate::serve::receive::path_is_plain;

/// Items of one request.
const ITEMS_MAX: usize = 10_000;
/// Bytes of one request.
pub(crate) const PURGE_MAX_BYTES: usize = 1024 * 1024;

/// `POST /v1/purge`: what is to go.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PurgeV1 {
    /// Paths with their queries, or absolute URLs, whose host does not matter.
    #[serde(default)]
    urls: Vec<String>,
    /// Beginnings of paths: `/vod/film-7/`.
    #[serde(default)]
    prefixes: Vec<String>,
    /// As the origin's `Surrogate-Key` or `Cache-Tag` names them.
    #[serde(default)]
    tags: Vec<String>,
    /// Keep it, but have it validated before it is served again.
    #[serde(default)]
    soft: bool,
}

/// What is to go, checked.
#[derive(Debug, Default)]
pub(crate) struct Purge {
    urls: HashSet<Key>,
    prefixes: Vec<String>,
    tags: HashSet<String>,
    soft: bool,
}

impl Purge {
    /// # Errors
    /// A sentence that names what is not valid, and what would be.
    fn read(bytes: &[u8], paths: &PathRules) -> Result<Self, String> {
        let asked: PurgeV1 = serde_json::from_slice(bytes).map_err(|error| {
            format!("{error} (valid: {{\"urls\": […], \"prefixes\": […], \"tags\": […], \"soft\": false}})")
        })?;
        let items = asked.urls.len() + asked.prefixes.len() + asked.tags.len();
        if items == 0 || items > ITEMS_MAX {
            return Err(format!("{items} urls, prefixes and tags (valid: 1 to {ITEMS_MAX})"));
        }
        let url = |text: &String| {
            let target = path_of(text);
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            let plain = path_is_plain(path) && target.bytes().all(|byte| byte.is_ascii_graphic());
            plain
                .then(|| paths.key(path, query))
                .ok_or_else(|| format!("url {text:?} (valid: a path like /vod/1.m4s, or an absolute URL)"))
        };
        let prefix = |text: &String| {
            let path = path_of(text);
            let plain = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
            plain.then(|| path.to_owned()).ok_or_else(|| format!("prefix {text:?} (valid: the beginning of a path)"))
        };
        let tag = |text: &String| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
            plain.then(|| text.clone()).ok_or_else(|| format!("tag {text:?} (valid: letters without space or comma)"))
        };
        Ok(Self {
            urls: asked.urls.iter().map(url).collect::<Result<_, _>>()?,
            prefixes: asked.prefixes.iter().map(prefix).collect::<Result<_, _>>()?,
            tags: asked.tags.iter().map(tag).collect::<Result<_, _>>()?,
            soft: asked.soft,
        })
    }

    /// One that was checked, of [`Purge::as_v1`].
    pub(crate) fn noted(purge: PurgeV1) -> Self {
        let PurgeV1 { urls, prefixes, tags, soft } = purge;
        let urls = urls.iter().map(|url| Key::from(url.as_str())).collect();
        Self { urls, prefixes, tags: tags.into_iter().collect(), soft }
    }

    /// For the log: keys, not URLs.
    pub(crate) fn as_v1(&self) -> PurgeV1 {
        PurgeV1 {
            urls: self.urls.iter().map(|url| url.to_string()).collect(),
            prefixes: self.prefixes.clone(),
            tags: self.tags.iter().cloned().collect(),
            soft: self.soft,
        }
    }

    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(String::as_str)
    }

    pub(crate) fn is_soft(&self) -> bool {
        self.soft
    }

    pub(crate) fn names_url(&self, key: &Key) -> bool {
        let url = key.split('\n').next().unwrap_or_default();
        self.urls.contains(url) || self.prefixes.iter().any(|prefix| url.starts_with(&**prefix))
    }

    fn names(&self, key: &Key, object: &Object) -> bool {
        self.names_url(key) || object.tags().any(|tag| self.tags.contains(tag))
    }
}

/// What stands behind scheme and host.
fn path_of(text: &str) -> &str {
    match text.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => text,
    }
}

/// Purges that wait for their turn: one walk through the store does all of them, so that a storm of purges costs no
/// more than a walk after the other.
#[derive(Default)]
pub(crate) struct Purges {
    waiting: Mutex<Vec<(Arc<Purge>, oneshot::Sender<Carried>)>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What came of a walk; a sentence if it failed.
type Carried = Result<(), String>;

/// Answers a purge: status and JSON.
pub(crate) async fn purge(edge: &Arc<Edge>, bytes: &[u8]) -> (StatusCode, String) {
    let asked = match Purge::read(bytes, &edge.terms().paths) {
        Ok(asked) => Arc::new(asked),
        Err(detail) => {
            return (StatusCode::BAD_REQUEST, json!({"error": "bad_value", "detail": detail}).to_string());
        }
    };
    let (told, carried) = oneshot::channel();
    let lock = || edge.purges.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    lock().push((asked.clone(), told));
    let turn = edge.purges.turn.clone().lock_owned().await;
    let batch = std::mem::take(&mut *lock());
    // Nothing is left where the one before took ours along.
    if !batch.is_empty() {
        let edge = edge.clone();
        // Whoever asked may leave; the others' purges, and the turn, are the walk's until its end.
        tokio::task::spawn_blocking(move || {
            let (purges, told): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let carried = sweep(&edge, &purges).map_err(|error| {
                let detail = format!("the purge is in force, but a crash may undo it: its log says {error}");
                tracing::error!(detail, "a purge failed");
                detail
            });
            told.into_iter().for_each(|told| drop(told.send(carried.clone())));
            drop(turn);
        });
    } else {
        drop(turn);
    }
    let died = || Err("the purge was not carried out; ask again".to_owned());
    if let Err(detail) = carried.await.unwrap_or_else(|_| died()) {
        let answer = json!({"error": "failed", "detail": detail});
        return (StatusCode::INTERNAL_SERVER_ERROR, answer.to_string());
    }
    edge.metrics.purges.increment(1);
    let counts = json!({"urls": asked.urls.len(), "prefixes": asked.prefixes.len(), "tags": asked.tags.len()});
    (StatusCode::OK, json!({"purged": counts, "soft": asked.soft}).to_string())
}

fn sweep(edge: &Edge, batch: &[Arc<Purge>]) -> std::io::Result<()> {
    let above_disk = || {
        // Which tags a fill will have is not known, so each may have the one that goes.
        edge.fills.outdate_where(|key| batch.iter().any(|purge| !purge.tags.is_empty() || purge.names_url(key)));
        edge.video.forget(|key| batch.iter().any(|purge| !purge.soft && purge.names_url(key)));
        edge.store.retain(
            |key| !batch.iter().any(|purge| !purge.soft && purge.names_url(key)),
            |key, object| {
                let mut stays = true;
                for purge in batch.iter().filter(|purge| purge.names(key, object)) {
                    match purge.soft {
                        true => object.soften(),
                        false => stays = false,
                    }
                }
                stays
            },
        );
    };
    edge.in_all_tiers(above_disk, |disk| disk.purge(batch)).unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> PathRules {
        PathRules::new(&[], &["CMCD".to_owned()]).expect("valid")
    }

    #[test]
    fn a_purge_says_what_is_wrong_with_it() {
        for (body, word) in [
            ("", "valid"),
            ("[]", "valid"),
            ("{}", "0 urls"),
            (r#"{"url": ["/a"]}"#, "unknown field `url`"),
            (r#"{"urls": ["a"]}"#, "\"a\""),
            (r#"{"urls": ["/a b"]}"#, "/a b"),
            (r#"{"urls": ["/../a"]}"#, "/../a"),
            (r#"{"prefixes": [""]}"#, "prefix"),
            (r#"{"tags": ["a,b"]}"#, "a,b"),
        ] {
            let error = Purge::read(body.as_bytes(), &rules()).expect_err(body);
            assert!(error.contains(word), "{body}: {error}");
        }
    }

    #[test]
    fn urls_are_named_with_or_without_a_host_and_as_requests_are() {
        let body = br#"{"urls": ["https://a.example/1?CMCD=x&q=1", "/2", "http://a.example"], "prefixes": ["/vod/"]}"#;
        let purge = Purge::read(body, &rules()).expect("valid");
        for (key, named) in
            [("/1?q=1", true), ("/1", false), ("/2\n7\n=1:x", true), ("/22", false), ("/", true), ("/vod/a", true)]
        {
            assert_eq!(purge.names_url(&Key::from(key)), named, "{key}");
        }
    }
}

//! Where manifests come from: the store beside the node, orchestrators over HTTP, or files that somebody put there.
//!
//! The first source that answers is followed. After a failure the next one is asked, and soon the first again. Whatever
//! a source gives is checked like any other manifest, so a source can be late, but it can't lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use spillway_bus::{Store, StoreError};
use spillway_model::RegionId;
use spillway_model::limits::MANIFEST_MAX_BYTES;
use spillway_service::config::ConfigError;
use spillway_wire::envelope::{KEYS_FILE, KEYS_KEY, manifest_file, manifest_key};

/// A question waits so long for a newer manifest.
const WAIT: Duration = Duration::from_secs(20);
/// The same as an orchestrator is asked.
const WAIT_QUERY: &str = "wait_s=20";
/// An answer that is later than the wait by this is none.
const ANSWER_SLACK: Duration = Duration::from_secs(10);
/// An orchestrator that does not take the connection by then is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at a file.
const FILE_POLL: Duration = Duration::from_millis(500);
/// Between two looks at a file on a web server, which can't wait.
const STATIC_POLL: Duration = Duration::from_secs(2);
/// A server that answers "nothing new" at once is not asked faster than that.
const QUIET_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read: one more than is valid, so that a larger one is refused and counted as such.
const READ_MAX_BYTES: usize = MANIFEST_MAX_BYTES + 1;

/// What was last seen of a region at a source, in the source's own words; `None`: nothing yet.
pub(crate) type Mark = Option<String>;

/// Why a source has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{url}: {detail}")]
    Http { url: String, detail: String },
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
}

enum Kind {
    Store(Arc<dyn Store>),
    /// URLs of a region's envelope (with `{region}`) and of the keys.
    Web {
        client: reqwest::Client,
        manifest: String,
        keys: String,
        /// Of the registry of players; an orchestrator alone has it.
        players: Option<String>,
        waits: bool,
    },
    Folder(PathBuf),
}

/// One place that manifests come from.
pub(crate) struct Source {
    kind: Kind,
    /// As operators see it.
    pub(crate) name: String,
    reachable: AtomicBool,
}

/// Checks the words of `[steer] manifests_from`.
///
/// # Errors
/// [`ConfigError::Invalid`] names the one that is none.
pub(crate) fn check(key: &str, from: &[String]) -> Result<(), ConfigError> {
    let holds = |text: &&String| {
        let web = url::Url::parse(&text.replace("{region}", "r"))
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none());
        web || Path::new(text.strip_prefix("file://").unwrap_or(text)).is_absolute()
    };
    match from.iter().find(|text| !holds(text)) {
        Some(text) => {
            let valid = "http(s)://orchestrator, http(s)://host/path/{region}.json, or an absolute folder";
            Err(ConfigError::invalid(key, text, valid))
        }
        None => Ok(()),
    }
}

impl Source {
    fn new(kind: Kind, name: String) -> Self {
        Self { kind, name, reachable: AtomicBool::new(true) }
    }

    /// The sources that `from` names, else the store.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub(crate) fn all(from: &[String], store: &Arc<dyn Store>) -> anyhow::Result<Vec<Self>> {
        if from.is_empty() {
            return Ok(vec![Self::new(Kind::Store(Arc::clone(store)), "store".into())]);
        }
        let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
        let one = |text: &String| {
            let kind = if !text.starts_with("http") {
                Kind::Folder(text.strip_prefix("file://").unwrap_or(text).into())
            } else if text.contains("{region}") {
                let keys = match text.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/{KEYS_FILE}"),
                    None => text.clone(),
                };
                Kind::Web { client: client.clone(), manifest: text.clone(), keys, players: None, waits: false }
            } else {
                let base = text.trim_end_matches('/');
                Kind::Web {
                    client: client.clone(),
                    manifest: format!("{base}/v1/manifests/{{region}}?{WAIT_QUERY}"),
                    keys: format!("{base}/v1/keys"),
                    players: Some(format!("{base}/v1/players")),
                    waits: true,
                }
            };
            Self::new(kind, text.clone())
        };
        Ok(from.iter().map(one).collect())
    }

    /// The envelope of `region`, once it is another one than at `mark`; `None` if it stayed the same for a while. Cancel
    /// by dropping.
    pub(crate) async fn next(&self, region: &RegionId, mark: &mut Mark) -> Result<Option<Bytes>, SourceError> {
        let found = match &self.kind {
            Kind::Store(store) => from_store(store.as_ref(), region, mark).await,
            Kind::Folder(folder) => from_file(&folder.join(manifest_file(region)), mark).await,
            Kind::Web { client, manifest, waits, .. } => {
                if !waits && mark.is_some() {
                    tokio::time::sleep(STATIC_POLL).await;
                }
                from_web(client, &manifest.replace("{region}", region.as_str()), mark).await
            }
        };
        self.note(found.as_ref().err());
        found
    }

    /// The public keys, as JSON; `None` if there are none.
    pub(crate) async fn keys(&self) -> Result<Option<Bytes>, SourceError> {
        match &self.kind {
            Kind::Store(store) => Ok(store.get(KEYS_KEY).await?.map(|found| found.value)),
            Kind::Folder(folder) => from_file(&folder.join(KEYS_FILE), &mut None).await,
            Kind::Web { client, keys, .. } => from_web(client, keys, &mut None).await,
        }
    }

    /// The registry of players, from an orchestrator; `None` elsewhere. A node beside the store watches it there.
    pub(crate) async fn players(&self) -> Result<Option<Bytes>, SourceError> {
        match &self.kind {
            Kind::Web { client, players: Some(players), .. } => from_web(client, players, &mut None).await,
            _ => Ok(None),
        }
    }

    /// Says once that it went, and once that it is back, however many regions ask.
    fn note(&self, error: Option<&SourceError>) {
        if let Some(error) = error {
            metrics::counter!("spillway_steer_manifest_source_failures_total", "source" => self.name.clone())
                .increment(1);
            if self.reachable.swap(false, Ordering::Relaxed) {
                tracing::warn!(source = self.name, %error, "source of manifests lost");
            }
        } else if !self.reachable.swap(true, Ordering::Relaxed) {
            tracing::warn!(source = self.name, "source of manifests back");
        }
    }
}

async fn from_store(store: &dyn Store, region: &RegionId, mark: &mut Mark) -> Result<Option<Bytes>, SourceError> {
    let seen = mark.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
    let Ok(changed) = tokio::time::timeout(WAIT, store.changed(&manifest_key(region), seen)).await else {
        return Ok(None);
    };
    let changed = changed?;
    *mark = Some(changed.version.to_string());
    Ok(Some(changed.value))
}

async fn from_web(client: &reqwest::Client, url: &str, mark: &mut Mark) -> Result<Option<Bytes>, SourceError> {
    let failed = |detail: String| SourceError::Http { url: url.to_owned(), detail };
    let asked = tokio::time::Instant::now();
    let mut request = client.get(url).timeout(WAIT + ANSWER_SLACK);
    if let Some(mark) = mark {
        request = request.header(IF_NONE_MATCH, mark.as_str());
    }
    let answer = request.send().await.map_err(|error| failed(error.without_url().to_string()))?;
    let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let same = answer.status() == StatusCode::NOT_MODIFIED || (tag.is_some() && tag == *mark);
    if same {
        tokio::time::sleep(QUIET_PAUSE.saturating_sub(asked.elapsed())).await;
        return Ok(None);
    }
    if answer.status() != StatusCode::OK {
        return Err(failed(format!("status {}", answer.status().as_u16())));
    }
    let mut body = Vec::new();
    let mut parts = answer.bytes_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| failed(error.without_url().to_string()))?;
        body.extend_from_slice(&part[..part.len().min(READ_MAX_BYTES - body.len())]);
        if body.len() == READ_MAX_BYTES {
            break;
        }
    }
    // A server without entity tags is asked for the whole each time; the node knows a manifest that it has.
    *mark = tag.or_else(|| Some(String::new()));
    Ok(Some(body.into()))
}

/// A file that is new or was replaced since `mark`, within [`WAIT`].
async fn from_file(path: &Path, mark: &mut Mark) -> Result<Option<Bytes>, SourceError> {
    let until = tokio::time::Instant::now() + WAIT;
    loop {
        let (path, seen) = (path.to_owned(), mark.clone());
        let failed = |error| SourceError::File { path: path.display().to_string(), error };
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || read_if_changed(&file, seen.as_deref())).await;
        if let Some((tag, bytes)) = read.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(failed)? {
            *mark = Some(tag);
            return Ok(Some(bytes));
        }
        if tokio::time::Instant::now() >= until {
            return Ok(None);
        }
        tokio::time::sleep(FILE_POLL).await;
    }
}

fn read_if_changed(path: &Path, seen: Option<&str>) -> std::io::Result<Option<(String, Bytes)>> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::File::open(path)?;
    let about = file.metadata()?;
    // What is written by rename has another inode; what is written in place, another time or length.
    let tag = format!("{}-{}-{}-{}", about.ino(), about.mtime(), about.mtime_nsec(), about.len());
    if seen == Some(tag.as_str()) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(READ_MAX_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(Some((tag, bytes.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_orchestrator_a_web_server_or_a_folder() {
        let good = ["http://o-1:4302", "https://b.example/m/{region}.json", "/var/lib/m", "file:///var/lib/m"];
        check("k", &good.map(str::to_owned)).expect("valid");
        for bad in ["o-1:4302", "manifests", "http://", "ftp://x/{region}", "http://o/?x"] {
            let error = check("steer.manifests_from", &[bad.to_owned()]).expect_err(bad).to_string();
            assert!(error.contains("steer.manifests_from") && error.contains(bad), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_was_replaced() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("eu.json");
        let mut mark = None;
        from_file(&path, &mut mark).await.expect_err("not there");
        std::fs::write(&path, "one").expect("write");
        assert_eq!(from_file(&path, &mut mark).await.expect("read").as_deref(), Some(&b"one"[..]));
        let (file, next) = (path.clone(), dir.path().join("next"));
        let waits = tokio::spawn(async move { from_file(&file, &mut mark).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        std::fs::write(&next, "two").expect("write");
        std::fs::rename(&next, &path).expect("rename");
        assert_eq!(waits.await.expect("task").expect("read").as_deref(), Some(&b"two"[..]));
    }
}

//! What is asked: a pathway of the configuration, or any base URL.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use spillway_model::TimestampMs;
use spillway_service::config::ConfigError;
use spillway_service::deployment::Deployment;
use url::Url;

use super::client::Place;
use crate::SteerConfig;
use crate::playlists::origin::is_plain;
use crate::signers::{Grant, Signers, title_folder};

/// The connection and the head of each answer must be there within this; of a body each further piece.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A page that no rule of a CDN knows.
const PAGE: &str = "https://player.example";

/// What somebody wants to know.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// A pathway's id, or a base URL.
    pub what: &'a str,
    /// A title's playlist or a segment, below the base URL. Default: as the orchestrator probes.
    pub path: Option<&'a str>,
    /// Paths that the orchestrator probes: a playlist, then a segment.
    pub probed: [&'a str; 2],
    /// Base URL of the origin. Default: the one that the configuration has for the path.
    pub origin: Option<&'a str>,
    /// `Origin` of the page that is asked as. Default: the first of the configuration's properties.
    pub page: Option<&'a str>,
    /// Certificates (PEM) that vouch for the pathway and the origin. Default: the system's.
    pub authorities: Option<&'a [u8]>,
    /// Addresses to ask instead of those that the name stands for: a pathway that is in no zone yet.
    pub at: &'a [SocketAddr],
}

/// What is configured.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Pathways.
    pub deployment: &'a Deployment,
    /// Origins and signers.
    pub steer: Option<&'a SteerConfig>,
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// An argument that means nothing.
    #[error("{0}")]
    Argument(String),
    /// A signer that can't be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A checked target.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) name: Option<String>,
    /// Without a trailing slash.
    pub(super) base_url: String,
    /// Below the base URL, without a leading slash: where to begin, and what else is a segment.
    pub(super) paths: Vec<String>,
    pub(super) origin: Option<String>,
    pub(super) page: String,
    pub(super) signing: Option<Signing>,
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) at: Vec<SocketAddr>,
    pub(super) timeout: Duration,
}

/// The pathway's signer.
#[derive(Clone, Debug)]
pub(super) struct Signing {
    pub(super) name: String,
    pub(super) ttl_s: u64,
    pub(super) by_cookie: bool,
    signers: Arc<Signers>,
}

impl Signing {
    /// URLs of the title that `path` is of, signed at `now`.
    pub(super) fn grant(&self, base_url: &str, path: &str, now: TimestampMs) -> Grant {
        self.signers.grant_by(Some(&self.name), base_url, &title_folder(path), now)
    }
}

impl Target {
    /// Finds out what to ask. Reads key files, asks nothing.
    ///
    /// # Errors
    /// [`TargetError`] names the argument and what is valid.
    pub fn new(wanted: &Wanted<'_>, known: Option<Known<'_>>) -> Result<Self, TargetError> {
        let is_url = wanted.what.contains("://");
        let pathways = known.map(|known| &known.deployment.pathways);
        let found = match (is_url, known) {
            (true, _) => {
                let host = spillway_service::deployment::host_of(wanted.what);
                let id = known.zip(host).and_then(|(known, host)| known.deployment.pathway_of_host(host));
                id.and_then(|id| pathways?.get_key_value(id))
            }
            (false, Some(known)) => Some(known.deployment.pathways.get_key_value(wanted.what).ok_or_else(|| {
                let names: Vec<&str> = known.deployment.pathways.keys().map(|id| id.as_str()).collect();
                let names = if names.is_empty() { "none is configured".into() } else { names.join(", ") };
                TargetError::Argument(format!("pathway {:?} is not declared (valid: {names}, or a URL)", wanted.what))
            })?),
            (false, None) => {
                let text = format!("pathway {:?} needs --config FILE (or give its base URL)", wanted.what);
                return Err(TargetError::Argument(text));
            }
        };
        let base_url = match found {
            Some((_, pathway)) if !is_url => pathway.base_url.as_str(),
            _ => wanted.what,
        };
        let base_url = base(base_url, "URL")?;
        let paths = match wanted.path {
            Some(path) => vec![path],
            None => wanted.probed.to_vec(),
        };
        let paths = paths.into_iter().map(plain).collect::<Result<Vec<_>, _>>()?;
        let steer = known.and_then(|known| known.steer);
        let origin = match wanted.origin {
            Some(origin) => Some(base(origin, "--origin")?),
            None => steer.and_then(|steer| origin_of(steer, &paths[0])),
        };
        let signer = found.and_then(|(_, pathway)| pathway.signer.clone());
        let signing = match (signer, steer) {
            (Some(name), Some(steer)) => Some(signing(name, steer)?),
            (Some(name), None) => {
                let valid = format!("a [steer] section with signers.{name}");
                return Err(ConfigError::invalid("steer", "missing", valid).into());
            }
            (None, _) => None,
        };
        let configured = known.and_then(|known| {
            known.deployment.properties.values().flat_map(|(_, origins)| origins).next().map(String::as_str)
        });
        let page = wanted.page.or(configured).unwrap_or(PAGE);
        let is_origin = Url::parse(page).is_ok_and(|url| url.origin().ascii_serialization() == page);
        if !is_origin {
            return Err(TargetError::Argument(format!(
                "--page {page:?} is not an origin (valid: https://host[:port])"
            )));
        }
        Ok(Self {
            name: found.map(|(id, _)| id.to_string()),
            base_url,
            paths,
            origin,
            page: page.to_owned(),
            signing,
            authorities: wanted.authorities.map(<[u8]>::to_vec),
            at: wanted.at.to_vec(),
            timeout: TIMEOUT,
        })
    }

    /// A path's URL at the pathway, unsigned.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base_url)
    }
}

/// An absolute URL without query, without its trailing slash.
fn base(url: &str, what: &str) -> Result<String, TargetError> {
    let bare = Place::of(url).is_some() && !url.contains(['?', '#', '@']);
    let valid = "an absolute http:// or https:// URL without query";
    let shown = url.split(['?', '@']).next().unwrap_or_default();
    if bare {
        Ok(url.trim_end_matches('/').to_owned())
    } else {
        Err(TargetError::Argument(format!("{what} {shown:?} is not valid (valid: {valid})")))
    }
}

fn plain(path: &str) -> Result<String, TargetError> {
    let path = path.trim_start_matches('/');
    if is_plain(path) {
        return Ok(path.to_owned());
    }
    let valid = "a path below the base URL, percent-encoded, without . and .. and query";
    Err(TargetError::Argument(format!("--path {path:?} is not valid (valid: {valid})")))
}

/// Where the steering node gets `path` from.
fn origin_of(steer: &SteerConfig, path: &str) -> Option<String> {
    let first = path.split('/').next().unwrap_or_default();
    let origin = steer.origins.get(first).or_else(|| steer.origins.get("default"))?;
    Some(origin.trim_end_matches('/').to_owned())
}

fn signing(name: String, steer: &SteerConfig) -> Result<Signing, TargetError> {
    let signers = steer.check()?.signers;
    let Some(ttl_s) = signers.ttl_s(&name) else {
        let known: Vec<&str> = steer.signers.keys().map(String::as_str).collect();
        let valid = format!("a name of [steer.signers]: {}", known.join(", "));
        return Err(ConfigError::invalid("pathway.signer", name, valid).into());
    };
    Ok(Signing { ttl_s, by_cookie: signers.by_cookie(&name), name, signers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fixtures::{config, deployment};

    fn wanted(what: &str) -> Wanted<'_> {
        Wanted { what, probed: ["/vod/master.m3u8", "/vod/1.m4s"], ..Wanted::default() }
    }

    #[test]
    fn a_name_brings_its_url_origin_and_paths_and_an_argument_wins() {
        let (deployment, steer) = (deployment(), config("http://origin.example/"));
        let known = Some(Known { deployment: &deployment, steer: Some(&steer) });
        let target = Target::new(&wanted("cdn-a"), known).expect("a target");
        assert_eq!(target.url(&target.paths[0]), "http://cdn-a.example/p/vod/master.m3u8");
        assert_eq!((target.origin.as_deref(), target.page.as_str()), (Some("http://origin.example"), PAGE));
        assert_eq!(target.paths, ["vod/master.m3u8", "vod/1.m4s"]);
        let more =
            Wanted { path: Some("/live/x.mpd"), origin: Some("http://o/"), page: Some("https://p"), ..wanted("cdn-a") };
        let target = Target::new(&more, known).expect("a target");
        assert_eq!(
            (target.paths, target.origin, target.page),
            (vec!["live/x.mpd".into()], Some("http://o".into()), "https://p".into())
        );
        let target = Target::new(&wanted("http://cdn-b.example/q/"), known).expect("a target");
        assert_eq!((target.name.as_deref(), target.base_url.as_str()), (Some("cdn-b"), "http://cdn-b.example/q"));
    }

    #[test]
    fn what_means_nothing_is_named_with_what_is_valid() {
        let deployment = deployment();
        let known = Some(Known { deployment: &deployment, steer: None });
        let fails = |wanted: &Wanted<'_>, known| Target::new(wanted, known).expect_err("refused").to_string();
        let unknown = fails(&wanted("cdn-x"), known);
        assert!(unknown.contains("cdn-x") && unknown.contains("cdn-a, cdn-b"), "{unknown}");
        assert!(fails(&wanted("cdn-a"), None).contains("--config"));
        for bad in ["ftp://x", "https://u:secret@h", "http://h/?t=secret", "http://"] {
            let error = fails(&wanted(bad), None);
            assert!(
                error.contains("URL without query") && !error.contains("secret@") && !error.contains("t=secret"),
                "{error}"
            );
        }
        let path = Wanted { path: Some("../x"), ..wanted("http://h") };
        assert!(fails(&path, None).contains("--path \"../x\""));
        let page = Wanted { page: Some("https://h/x"), ..wanted("http://h") };
        assert!(fails(&page, None).contains("--page"));
    }
}

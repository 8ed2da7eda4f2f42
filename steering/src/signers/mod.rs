//! Signs the URLs of pathways, as each one's CDN checks them.
//!
//! A signature is about a pathway, a title and an end of validity on a grid of ten minutes, and about no session: all who
//! watch a title share its URLs, caches keep them, and a playlist that is read again says the same. Every pathway of a
//! playlist is signed when the playlist is written, so a session moves between them without asking anybody.

mod config;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use spillway_model::TimestampMs;
use spillway_routing::Pathway;
use spillway_service::config::ConfigError;
use spillway_service::deployment::{Deployment, host_of};
use spillway_wire::signed_url::{Place, Resource, Signed, Signer, without_meaning};

pub use config::SignerConfig;

/// Ends of validity are rounded up to whole ten minutes, so that URLs repeat and caches keep them.
const GRID_S: u64 = 600;
/// Signatures by RSA that are kept (half a millisecond each); beyond it all are made anew.
const KEPT_MAX: usize = 4_096;

/// A configured signer.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    signer: Signer,
    place: Place,
    ttl_s: u64,
    folders: Option<usize>,
    domain: Option<String>,
}

/// What a kept signature is for: signer, host, folder.
type Subject = (String, String, String);

/// The configured signers by name.
#[derive(Debug, Default)]
pub(crate) struct Signers {
    by_name: BTreeMap<String, Arc<Entry>>,
    kept: Mutex<BTreeMap<Subject, (u64, Signed)>>,
}

/// URLs of one pathway for one title.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// `https://host`.
    host: String,
    /// Path of the base URL, without trailing slash.
    base: String,
    /// Path that the token covers, from the host's root; with both slashes.
    folder: String,
    expires_s: u64,
    signed: Signed,
    /// `None`: the pathway's URLs are not signed.
    entry: Option<Arc<Entry>>,
}

impl Signers {
    /// Checks `[steer.signers]` and reads the keys.
    ///
    /// # Errors
    /// [`ConfigError`] names key, value (of no secret) and what is valid.
    pub(crate) fn new(config: &BTreeMap<String, SignerConfig>) -> Result<Self, ConfigError> {
        let entry = |(name, config): (&String, &SignerConfig)| Ok((name.clone(), Arc::new(config.entry(name)?)));
        Ok(Self { by_name: config.iter().map(entry).collect::<Result<_, ConfigError>>()?, kept: Mutex::default() })
    }

    /// Checks that every pathway's signer is there, and that cookies reach the hosts that they are for.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names the pathway and the signers that there are.
    pub(crate) fn check(&self, deployment: &Deployment, public_url: &str) -> Result<(), ConfigError> {
        for (id, pathway) in &deployment.pathways {
            let Some(name) = &pathway.signer else { continue };
            let key = format!("pathway[{id}].signer");
            let Some(entry) = self.by_name.get(name) else {
                let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
                let known = if names.is_empty() { "none is configured".into() } else { names.join(", ") };
                return Err(ConfigError::invalid(key, name, format!("a name of [steer.signers]: {known}")));
            };
            for (url, what) in [(public_url, "steer.public_url"), (pathway.base_url.as_str(), "the pathway's base_url")]
            {
                if let Some(domain) = entry.domain.as_ref().filter(|domain| !is_within(url, domain)) {
                    let valid = format!("a signer without cookies, or {what} within {domain}");
                    return Err(ConfigError::invalid(key, name, valid));
                }
            }
        }
        Ok(())
    }

    /// How long URLs of `name` hold at least, s.
    pub(crate) fn ttl_s(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).map(|entry| entry.ttl_s)
    }

    /// Whether tokens of `name` stand in cookies.
    pub(crate) fn by_cookie(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|entry| entry.place == Place::Cookie)
    }

    /// Whether this node has the key of `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Signs for `pathway` and the title in `folder` (a path below the base URL, as [`title_folder`] makes it). What can't
    /// be signed is left unsigned, and counted: the CDN will say so, and another pathway may play.
    pub(crate) fn grant(&self, pathway: &Pathway, folder: &str, now: TimestampMs) -> Grant {
        self.grant_by(pathway.signer.as_deref(), &pathway.base_url, folder, now)
    }

    /// As [`Signers::grant`], by the signer's name.
    pub(crate) fn grant_by(&self, signer: Option<&str>, base_url: &str, folder: &str, now: TimestampMs) -> Grant {
        let (host, base) = split(base_url);
        let entry = signer.and_then(|name| self.by_name.get(name)).map(Arc::clone);
        if let (Some(name), None) = (signer, &entry) {
            count_unsigned(name, "no_key");
        }
        let mut grant = Grant {
            host: host.to_owned(),
            base: base.to_owned(),
            folder: String::new(),
            expires_s: 0,
            signed: Signed::default(),
            entry,
        };
        if let Some(entry) = grant.entry.clone() {
            let path = format!("{base}{folder}");
            grant.folder = entry.covered(&path);
            grant.expires_s = entry.expires_s(now);
            grant.signed = self.signed(&entry, host, &path, &grant.folder, grant.expires_s);
        }
        grant
    }

    fn signed(&self, entry: &Entry, host: &str, path: &str, folder: &str, expires_s: u64) -> Signed {
        if !matches!(entry.signer, Signer::CloudFront(_)) {
            return entry.sign(&Resource { host, path, folder, expires_s });
        }
        let subject = (entry.name.clone(), host.to_owned(), folder.to_owned());
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&subject).cloned();
        if let Some((_, signed)) = kept.filter(|(until, _)| *until == expires_s) {
            return signed;
        }
        let signed = entry.sign(&Resource { host, path, folder, expires_s });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(subject, (expires_s, signed.clone()));
        signed
    }
}

impl Entry {
    fn expires_s(&self, now: TimestampMs) -> u64 {
        (now.0 / 1_000 + self.ttl_s).div_ceil(GRID_S) * GRID_S
    }

    /// The folder that a token for `path` covers: that of `path`, or as many parts of it as configured.
    fn covered(&self, path: &str) -> String {
        let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
        let end = self.folders.and_then(|folders| folder.match_indices('/').nth(folders)).map(|(at, _)| at);
        end.map_or(folder, |at| &folder[..=at]).to_owned()
    }

    fn sign(&self, resource: &Resource<'_>) -> Signed {
        self.signer.sign(self.place, resource).unwrap_or_else(|error| {
            tracing::error!(signer = self.name, %error, "URL not signed");
            count_unsigned(&self.name, "refused");
            Signed::default()
        })
    }
}

impl Grant {
    /// The URL of `path_and_query` (below the base URL, with leading slash), every byte kept.
    pub(crate) fn url(&self, path_and_query: &str) -> String {
        let whole = format!("{}{path_and_query}", self.base);
        self.token(&whole).url(&self.host, &whole)
    }

    /// The token for `whole`, a path from the host's root (a query is not looked at).
    pub(crate) fn token(&self, whole: &str) -> Cow<'_, Signed> {
        let path = &whole[..whole.find(['?', '#']).unwrap_or(whole.len())];
        let inside = self.signed.covers_folder && path.starts_with(&self.folder);
        match &self.entry {
            Some(entry) if !inside => {
                // Outside the title's folder (shared audio, say), or of a kind whose token is for one URL.
                let folder = entry.covered(path);
                let resource = Resource { host: &self.host, path, folder: &folder, expires_s: self.expires_s };
                Cow::Owned(entry.sign(&resource))
            }
            _ => Cow::Borrowed(&self.signed),
        }
    }

    /// The folder that the token covers, from the host's root.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// The base URL that the title's paths are appended to, with the token if that stands in the path.
    pub(crate) fn base_url(&self) -> String {
        let slash = if self.signed.path.is_empty() { "" } else { "/" };
        [&self.host, slash, &self.signed.path, &self.base].concat()
    }

    /// Whether there is a signer for it here.
    pub(crate) const fn is_signed(&self) -> bool {
        self.entry.is_some()
    }

    /// What the query of every URL of the title needs; `None` if nothing, or for each URL something else.
    pub(crate) fn query(&self) -> Option<&str> {
        Some(self.signed.query.as_str()).filter(|query| self.signed.covers_folder && !query.is_empty())
    }

    /// Values of `Set-Cookie`.
    pub(crate) fn cookies(&self) -> Vec<String> {
        let Some(domain) = self.entry.as_ref().and_then(|entry| entry.domain.as_ref()) else { return vec![] };
        let rest = format!("Domain={domain}; Path={}; Secure; HttpOnly; SameSite=None", without_meaning(&self.folder));
        self.signed.cookies.iter().map(|(name, value)| format!("{name}={value}; {rest}")).collect()
    }
}

/// The folder of a title's path, encoded as it is: a playlist's own folder, else the whole path.
pub(crate) fn title_folder(path: &str) -> String {
    let path = path.trim_matches('/');
    let is_playlist = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.ends_with(".m3u8") || name.ends_with(".mpd")
    };
    let folder = match path.rsplit_once('/') {
        Some((folder, name)) if is_playlist(name) => folder,
        None if is_playlist(path) => "",
        _ => path,
    };
    if folder.is_empty() { "/".into() } else { ["/", folder, "/"].concat() }
}

/// `https://host` and the path behind it, without trailing slash.
pub(crate) fn split(base_url: &str) -> (&str, &str) {
    let after = base_url.as_bytes().windows(3).position(|bytes| bytes == b"://").map_or(0, |at| at + 3);
    let end = base_url[after..].find('/').map_or(base_url.len(), |at| after + at);
    let (host, path) = base_url.split_at(end);
    (host, path.trim_end_matches('/'))
}

/// Whether the host of `url` is `domain` or below it.
fn is_within(url: &str, domain: &str) -> bool {
    let host = host_of(url).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let domain = domain.to_ascii_lowercase();
    name == domain || name.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.'))
}

fn count_unsigned(signer: &str, reason: &'static str) {
    metrics::counter!("spillway_steer_unsigned_total", "signer" => signer.to_owned(), "reason" => reason).increment(1);
}

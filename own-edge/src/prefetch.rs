//! What players will ask for next, by their own word (CMCD `nor`), is fetched before they do.

use std::sync::Arc;

use http::HeaderMap;
use metrics::counter;
use spillway_wire::cmcd;
use tokio::sync::Semaphore;
use url::{Url, form_urlencoded};

use crate::edge::Edge;
use crate::fetch::Wanted;
use crate::lookup::{Found, begin};
use crate::object::Key;
use crate::receive::{Asked, path_is_plain};
use crate::rules::paths::PathRules;

/// Fetched ahead at once; more are left out, since whoever waits goes first.
const AT_ONCE: usize = 32;
/// Announced objects of one request that are fetched.
const OBJECTS_MAX: usize = 2;

/// The places of fetches ahead.
pub(crate) struct Prefetches(Arc<Semaphore>);

impl Prefetches {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// Begins to fetch what the client of `asked` says that it will ask for, where it is not kept.
pub(crate) fn ahead(edge: &Arc<Edge>, asked: &Asked) {
    for url in announced(asked, &edge.terms().paths) {
        // What can't be kept would be fetched again for who asks.
        if edge.store.find(&url, &HeaderMap::new()).1.is_some() || edge.store.is_marked(&url, edge.now()) {
            continue;
        }
        let Ok(place) = edge.prefetches.0.clone().try_acquire_owned() else {
            counter!("spillway_edge_prefetches_total", "result" => "left_out").increment(1);
            return;
        };
        // Somebody who asks for it joins this fetch; one that is under way already is joined here.
        if let Found::Filling { mut reader, first, .. } = begin(edge, &url, None, || Wanted::ahead(edge, url.clone())) {
            let result = if first { "begun" } else { "under_way" };
            counter!("spillway_edge_prefetches_total", "result" => result).increment(1);
            tokio::spawn(async move {
                reader.ended().await;
                drop(place);
            });
        }
    }
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
    let header = |name: &str| asked.headers.get(name).map(http::HeaderValue::as_bytes);
    // Most requests announce nothing, and reading all of a record costs more than looking for the word.
    let says = |text: &[u8]| text.windows(4).any(|four| four == b"nor=") || text.windows(6).any(|six| six == b"nor%3D");
    if !query.is_some_and(|query| says(query.as_bytes())) && !header("cmcd-request").is_some_and(says) {
        return Vec::new();
    }
    let Ok(Some(record)) = cmcd::parse_request(query, header) else { return Vec::new() };
    let Ok(base) = Url::parse(&format!("http://edge.invalid{}", asked.target())) else { return Vec::new() };
    let objects = record.nor.iter().flatten().take(OBJECTS_MAX).filter(|next| next.range.is_none());
    objects
        .filter_map(|next| base.join(&decoded(&next.path)).ok())
        .filter(|url| url.host_str() == base.host_str() && url.scheme() == "http" && url.port().is_none())
        .filter(|url| path_is_plain(url.path()))
        .map(|url| paths.key(url.path(), url.query()))
        .collect()
}

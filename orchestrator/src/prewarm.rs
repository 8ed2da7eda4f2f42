//! Orders to fetch titles into own edges before their viewers come: a list, or what is watched most somewhere.

use serde::{Deserialize, Serialize};
use spillway_model::{PathwayId, PathwayKind, RegionId, TimestampMs};
use spillway_service::deployment::{Deployment, kind_of};
use spillway_service::random;
use spillway_wire::load::PREWARM_MAX;
use spillway_wire::overview::Note;

use crate::orders::{self, Order, OrderError, Requested, invalid};

/// A longer path is not taken.
const PATH_MAX_BYTES: usize = 512;

/// What an operator, or a system that knows the programme, asks for (`POST /v1/admin/prewarm`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrewarmRequest {
    /// Own pathway or group; absent = all.
    #[serde(default)]
    pub target: Option<String>,
    /// Those that serve this region; absent = all.
    #[serde(default)]
    pub region: Option<String>,
    /// Paths of multivariant playlists, MPDs or single objects, as viewers ask for them.
    #[serde(default)]
    pub titles: Vec<String>,
    /// So many of the titles that are watched most, 1 to 64.
    #[serde(default)]
    pub top: Option<usize>,
    /// Where they are watched; absent = the region that each edge stands in.
    #[serde(default)]
    pub top_of_region: Option<String>,
    /// Why.
    pub reason: String,
    /// Ends by itself after so many seconds, at most 72 h.
    pub expires_s: u64,
}

/// The same as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPrewarm {
    /// Its id.
    pub id: String,
    /// Who asked for it.
    pub by: String,
    /// Own pathway or group; absent = all.
    pub target: Option<String>,
    /// Those that serve this region; absent = all.
    pub region: Option<String>,
    /// Paths.
    pub titles: Vec<String>,
    /// So many of the titles that are watched most.
    pub top: Option<usize>,
    /// Where; absent = the region that each edge stands in.
    pub top_of_region: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when, ms since epoch.
    pub since_ms: u64,
    /// Until when, ms since epoch.
    pub expires_ms: u64,
}

impl Order for StoredPrewarm {
    const PREFIX: &'static str = "prewarm/";
    const WORD: &'static str = "order to prewarm";
    const ADDED: &'static str = "prewarm.add";
    const ENDED: &'static str = "prewarm.end";

    fn id(&self) -> &str {
        &self.id
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

impl StoredPrewarm {
    /// Whether `pathway` should obey.
    pub(crate) fn is_for(&self, pathway: &PathwayId, deployment: &Deployment) -> bool {
        let named = |target: &str| {
            target == pathway.as_str()
                || deployment.groups.get(target).is_some_and(|nodes| nodes.contains(pathway.as_str()))
        };
        let here = |region: &str| RegionId::new(region).is_ok_and(|region| deployment.serves(pathway, &region));
        self.target.as_deref().is_none_or(named) && self.region.as_deref().is_none_or(here)
    }
}

impl Requested for StoredPrewarm {
    type Request = PrewarmRequest;

    fn of(request: PrewarmRequest, by: &str, now: TimestampMs, deployment: &Deployment) -> Result<Self, OrderError> {
        check(&request, deployment)?;
        let PrewarmRequest { target, region, titles, top, top_of_region, reason, expires_s } = request;
        Ok(Self {
            id: format!("p-{}", random::id(8)),
            by: by.to_owned(),
            target,
            region,
            titles,
            top,
            top_of_region,
            reason,
            since_ms: now.0,
            expires_ms: now.0 + expires_s * 1000,
        })
    }
}

fn check(request: &PrewarmRequest, deployment: &Deployment) -> Result<(), OrderError> {
    orders::check(&request.reason, request.expires_s)?;
    orders::region(request.region.as_deref(), deployment)?;
    orders::region(request.top_of_region.as_deref(), deployment)?;
    let own: Vec<&str> = deployment.pathways.keys().filter(|id| is_own(id)).map(PathwayId::as_str).collect();
    if let Some(target) = request.target.as_deref()
        && !own.contains(&target)
        && !deployment.groups.contains_key(target)
    {
        let groups = deployment.groups.keys().map(|id| id.as_str());
        let names: Vec<&str> = own.into_iter().chain(groups).collect();
        return Err(invalid("target", target, names.join(", ")));
    }
    if request.titles.is_empty() && request.top.is_none() {
        return Err(invalid("titles", "none", "paths, or a number in top"));
    }
    if request.titles.len() > PREWARM_MAX {
        return Err(invalid("titles", request.titles.len(), format!("{PREWARM_MAX} paths at most")));
    }
    if let Some(path) = request.titles.iter().find(|path| !is_path(path)) {
        let valid = format!("a path as viewers ask for it, from / on, encoded, at most {PATH_MAX_BYTES} bytes");
        return Err(invalid("titles", path, valid));
    }
    match request.top {
        Some(top) if !(1..=PREWARM_MAX).contains(&top) => Err(invalid("top", top, format!("1 to {PREWARM_MAX}"))),
        None if request.top_of_region.is_some() => Err(invalid("top", "none", "a number, for top_of_region")),
        _ => Ok(()),
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= PATH_MAX_BYTES && path.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a pathway is an own node.
pub(crate) fn is_own(id: &PathwayId) -> bool {
    kind_of(id) == PathwayKind::Own
}

/// As pages show it.
pub(crate) fn note(stored: &StoredPrewarm) -> Note {
    let top = stored.top.map(|top| {
        let region = stored.top_of_region.as_deref().unwrap_or("each edge's region");
        format!("the {top} most watched of {region}")
    });
    let titles = (!stored.titles.is_empty()).then(|| stored.titles.join(", "));
    let what: Vec<String> = titles.into_iter().chain(top).collect();
    let target = stored.target.as_deref().unwrap_or("all own edges");
    Note {
        kind: "prewarm".into(),
        region: stored.region.clone().unwrap_or_default(),
        text: format!("{target}: {}: {} ({})", what.join("; "), stored.reason, stored.by),
        until_ms: Some(stored.expires_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{deployment, id};

    fn request() -> PrewarmRequest {
        PrewarmRequest {
            target: None,
            region: None,
            titles: vec!["/film/master.m3u8".into()],
            top: None,
            top_of_region: None,
            reason: "premiere".into(),
            expires_s: 60,
        }
    }

    #[test]
    fn what_is_not_valid_is_named_with_what_is() {
        let titles = |titles: &[&str]| titles.iter().map(|title| (*title).to_owned()).collect::<Vec<_>>();
        for good in [
            request(),
            PrewarmRequest { titles: vec![], top: Some(64), top_of_region: Some("eu-b".into()), ..request() },
            PrewarmRequest { target: Some("own-x".into()), region: Some("eu-a".into()), ..request() },
        ] {
            check(&good, &deployment()).expect("valid");
        }
        for (bad, words) in [
            (PrewarmRequest { target: Some("cdn-a".into()), ..request() }, ["target \"cdn-a\"", "own-x-1"]),
            (PrewarmRequest { region: Some("us".into()), ..request() }, ["region \"us\"", "eu-a, eu-b"]),
            (PrewarmRequest { top_of_region: Some("us".into()), ..request() }, ["region \"us\"", "eu-a, eu-b"]),
            (PrewarmRequest { top_of_region: Some("eu-a".into()), ..request() }, ["top \"none\"", "a number"]),
            (PrewarmRequest { titles: vec![], ..request() }, ["titles \"none\"", "top"]),
            (PrewarmRequest { titles: titles(&["film"]), ..request() }, ["\"film\"", "from / on"]),
            (PrewarmRequest { titles: titles(&["/a b"]), ..request() }, ["\"/a b\"", "encoded"]),
            (PrewarmRequest { titles: vec!["/a".into(); 65], ..request() }, ["titles \"65\"", "64 paths"]),
            (PrewarmRequest { top: Some(0), ..request() }, ["top \"0\"", "1 to 64"]),
            (PrewarmRequest { top: Some(65), ..request() }, ["top \"65\"", "1 to 64"]),
            (PrewarmRequest { expires_s: 0, ..request() }, ["expires_s \"0\"", "1 to"]),
        ] {
            let error = check(&bad, &deployment()).expect_err("refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn an_order_is_for_whom_it_names() {
        let of = |target: Option<&str>, region: Option<&str>| StoredPrewarm {
            id: "p-1".into(),
            by: "ann".into(),
            target: target.map(str::to_owned),
            region: region.map(str::to_owned),
            titles: vec![],
            top: Some(3),
            top_of_region: None,
            reason: "premiere".into(),
            since_ms: 0,
            expires_ms: 1,
        };
        for (order, expected) in [
            (of(None, None), true),
            (of(Some("own-x"), None), true),
            (of(Some("own-x-1"), Some("eu-a")), true),
            (of(Some("own-x-2"), None), false),
            (of(None, Some("eu-b")), false),
        ] {
            assert_eq!(order.is_for(&id("own-x-1"), &deployment()), expected, "{order:?}");
        }
        assert_eq!(
            note(&of(Some("own-x"), None)).text,
            "own-x: the 3 most watched of each edge's region: premiere (ann)"
        );
    }
}

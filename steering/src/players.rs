//! Players that don't follow steering, as the orchestrator has learned: they get a playlist with a single pathway.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use spillway_bus::Store;
use spillway_model::{PathwayKind, PathwayState};
use spillway_routing::Ranked;
use spillway_service::CancellationToken;
use spillway_wire::follow::{FOLLOW_KEY, FOLLOW_VERSION, FollowRegistry};

use crate::SteerState;
use crate::params::Query;
use crate::prepared::Prepared;

/// User agents of players that are no web page: (how it begins, the player's name in beacons).
const NATIVE: [(&str, &str); 5] = [
    ("AppleCoreMedia/", "avplayer"),
    ("AndroidXMedia3/", "media3"),
    ("ExoPlayerLib/", "exoplayer"),
    ("Roku/", "roku"),
    ("VLC/", "vlc"),
];

/// After a failure of the store.
const STORE_RETRY: Duration = Duration::from_secs(2);
/// Longer names are not asked for.
const NAME_MAX_BYTES: usize = 64;

/// Who is not steered, by player and version.
#[derive(Debug, Default)]
pub(crate) struct Unsteered(RwLock<BTreeSet<(String, String)>>);

impl Unsteered {
    /// Takes the registry; false if it does not read.
    pub(crate) fn take(&self, bytes: &[u8]) -> bool {
        let Ok(registry) = serde_json::from_slice::<FollowRegistry>(bytes) else { return false };
        if registry.v != FOLLOW_VERSION {
            return false;
        }
        let left = registry.players.into_iter().filter(|player| !player.follows);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            left.map(|player| (player.player, player.version)).collect();
        true
    }

    /// Whether the player that asks is one of them: as the page names it (`player=`, `player_version=`), else by its user
    /// agent if it is no browser's. Who says nothing is steered.
    pub(crate) fn asks(&self, query: &Query<'_>, headers: &HeaderMap) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return false;
        }
        let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let named = query.first("player").map(|player| (player, query.first("player_version").unwrap_or_default()));
        let Some((player, version)) = named.or_else(|| native(agent)) else { return false };
        player.len() <= NAME_MAX_BYTES
            && version.len() <= NAME_MAX_BYTES
            && known.contains(&(player.to_owned(), version.to_owned()))
    }
}

fn native(agent: &str) -> Option<(&'static str, &str)> {
    NATIVE.iter().find_map(|(begin, name)| {
        let version = agent.strip_prefix(begin)?.split([' ', '(', ';']).next()?;
        Some((*name, version))
    })
}

/// The index in `ranked` of the safest for who will never leave it: the best-ranked CDN that is well, else anything that is
/// well, else the best. A CDN outlives a node of ours, which one day is drained.
pub(crate) fn safest(ranked: &[Ranked], manifest: &Prepared) -> usize {
    let find = |fits: fn(PathwayKind, PathwayState) -> bool| {
        let of = |ranked: &Ranked| manifest.pathways.get(&ranked.pathway);
        ranked.iter().position(|ranked| of(ranked).is_some_and(|pathway| fits(pathway.kind, pathway.state)))
    };
    find(|kind, state| kind == PathwayKind::Commercial && state == PathwayState::Healthy)
        .or_else(|| find(|_, state| state == PathwayState::Healthy))
        .unwrap_or(0)
}

/// Reads the registry whenever it changes, until shutdown.
pub(crate) async fn watch(state: Arc<SteerState>, store: Arc<dyn Store>, shutdown: CancellationToken) {
    let mut seen = 0;
    let reading = async {
        loop {
            match store.changed(FOLLOW_KEY, seen).await {
                Ok(changed) => {
                    seen = changed.version;
                    if !state.unsteered.take(&changed.value) {
                        tracing::warn!(
                            version = changed.version,
                            "the registry of players does not read; kept the last"
                        );
                    }
                }
                // Manifests tell that the store is gone.
                Err(_) => tokio::time::sleep(STORE_RETRY).await,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = reading => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(agent: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::USER_AGENT, agent.parse().expect("value"))])
    }

    #[test]
    fn a_player_is_known_by_what_the_page_says_or_by_its_agent() {
        let unsteered = Unsteered::default();
        let registry = r#"{"v":1,"at_ms":1,"players":[
            {"player":"oldtv","version":"","moves":60,"followed":0,"follows":false},
            {"player":"avplayer","version":"1.0.0.19A","moves":60,"followed":0,"follows":false},
            {"player":"hls.js","version":"1.7.4","moves":60,"followed":60,"follows":true}]}"#;
        assert!(unsteered.take(registry.as_bytes()));
        let asks = |query: &str, agent: &str| unsteered.asks(&Query::parse(Some(query)), &headers(agent));
        assert!(asks("player=oldtv", "Mozilla/5.0"));
        assert!(asks("", "AppleCoreMedia/1.0.0.19A (Apple TV; U; CPU OS 15_0 like Mac OS X)"));
        assert!(!asks("", "AppleCoreMedia/1.0.0.21F (iPhone)"), "another version");
        assert!(!asks("player=hls.js&player_version=1.7.4", "AppleCoreMedia/1.0.0.19A"), "the page knows best");
        assert!(!asks("", "Mozilla/5.0 (X11; Linux x86_64)"));
    }

    #[test]
    fn what_does_not_read_changes_nothing() {
        let unsteered = Unsteered::default();
        let one =
            br#"{"v":1,"at_ms":1,"players":[{"player":"p","version":"1","moves":60,"followed":0,"follows":false}]}"#;
        assert!(unsteered.take(one));
        for bad in [&b"{}"[..], b"[", br#"{"v":2,"at_ms":1,"players":[]}"#] {
            assert!(!unsteered.take(bad));
        }
        let query = Query::parse(Some("player=p&player_version=1"));
        assert!(unsteered.asks(&query, &headers("x")));
    }
}

//! Players that don't follow steering: who they are, where they watch now, and the registry that steering nodes read.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use spillway_bus::{Store, StoreError};
use spillway_lake::learned::{FollowRate, PlayerViews};
use spillway_model::{PathwayId, RegionId};
use spillway_wire::follow::{FOLLOW_KEY, FOLLOW_VERSION, FollowRegistry, PlayerFollows};

/// Fewer moves say nothing of a player.
const MOVES_MIN: u64 = 30;
/// A player that surely makes fewer of its moves than this is not steered: it would leave a dead pathway no sooner, and
/// a playlist with one good pathway serves it better.
const FOLLOWED_MIN: f64 = 0.25;
/// Two-sided 95 %.
const Z: f64 = 1.96;
/// Players that are told of; a platform has a few hundred versions in use.
const PLAYERS_MAX: usize = 2_000;

/// What was learned, with a verdict on each.
pub(crate) fn registry(rates: Vec<FollowRate>, at_ms: u64) -> FollowRegistry {
    let judged = rates.into_iter().take(PLAYERS_MAX).map(|rate| PlayerFollows {
        follows: follows(rate.moves, rate.followed),
        player: rate.player,
        version: rate.version,
        moves: rate.moves,
        followed: rate.followed,
    });
    FollowRegistry { v: FOLLOW_VERSION, at_ms, players: judged.collect() }
}

/// False only for who surely doesn't: the upper end of Wilson's interval (E. B. Wilson 1927) lies below the limit.
fn follows(moves: u64, followed: u64) -> bool {
    if moves < MOVES_MIN {
        return true;
    }
    let (n, share) = (moves as f64, followed as f64 / moves as f64);
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (middle + spread) / (1.0 + Z * Z / n) >= FOLLOWED_MIN
}

/// Share of each pathway's views, by region, whose player is not steered: a ratio of sums.
pub(crate) fn fixed_shares(
    registry: &FollowRegistry,
    watching: &[PlayerViews],
) -> BTreeMap<(PathwayId, RegionId), f64> {
    let left = registry.players.iter().filter(|player| !player.follows);
    let left: BTreeSet<(&str, &str)> = left.map(|of| (of.player.as_str(), of.version.as_str())).collect();
    let mut sums: BTreeMap<(PathwayId, RegionId), (u64, u64)> = BTreeMap::new();
    for row in watching {
        let Some(cell) = PathwayId::new(&row.pathway).ok().zip(RegionId::new(&row.region).ok()) else { continue };
        let (fixed, all) = sums.entry(cell).or_default();
        *all += row.views;
        *fixed += if left.contains(&(row.player.as_str(), row.version.as_str())) { row.views } else { 0 };
    }
    let share = |(cell, (fixed, all)): (_, (u64, u64))| (fixed > 0).then(|| (cell, fixed as f64 / all as f64));
    sums.into_iter().filter_map(share).collect()
}

/// Puts the registry into the store, where its verdicts differ from what is there.
///
/// # Errors
/// The store's.
pub(crate) async fn publish(store: &dyn Store, registry: &FollowRegistry) -> Result<(), StoreError> {
    let found = store.get(FOLLOW_KEY).await?;
    let known = found.as_ref().and_then(|found| serde_json::from_slice::<FollowRegistry>(&found.value).ok());
    if known.is_some_and(|known| known.players == registry.players) || (found.is_none() && registry.players.is_empty())
    {
        return Ok(());
    }
    let bytes = Bytes::from(serde_json::to_vec(registry).expect("texts and numbers"));
    match store.compare_and_set(FOLLOW_KEY, found.map_or(0, |found| found.version), bytes).await {
        // Another orchestrator learned the same lake.
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use spillway_bus::DirStore;

    use super::*;

    fn rate(player: &str, moves: u64, followed: u64) -> FollowRate {
        FollowRate { player: player.into(), version: "1".into(), moves, followed }
    }

    #[test]
    fn only_who_surely_stays_is_not_steered() {
        for (moves, followed, steered) in [
            (0, 0, true),
            (29, 0, true),
            (30, 0, false),
            (40, 4, false),
            (40, 6, true),
            (400, 60, false),
            (400, 100, true),
            (50, 50, true),
        ] {
            assert_eq!(follows(moves, followed), steered, "{followed} of {moves}");
        }
    }

    #[test]
    fn the_fixed_share_is_a_ratio_of_sums_over_players() {
        let registry = registry(vec![rate("tv", 50, 0), rate("hls.js", 50, 49)], 1);
        let views = |pathway: &str, player: &str, views| PlayerViews {
            pathway: pathway.into(),
            region: "eu-a".into(),
            player: player.into(),
            version: "1".into(),
            views,
        };
        let watching = [
            views("cdn-a", "tv", 10),
            views("cdn-a", "hls.js", 20),
            views("cdn-a", "", 10),
            views("cdn-b", "hls.js", 5),
        ];
        let shares = fixed_shares(&registry, &watching);
        let told: Vec<_> =
            shares.iter().map(|((pathway, region), share)| (pathway.as_str(), region.as_str(), *share)).collect();
        assert_eq!(told, [("cdn-a", "eu-a", 0.25)]);
    }

    #[tokio::test]
    async fn the_registry_is_written_once_for_the_same_verdicts() {
        let dir = tempfile::tempdir().expect("dir");
        let store = DirStore::open(dir.path()).expect("store");
        let version = async || store.get(FOLLOW_KEY).await.expect("get").map(|found| found.version);
        publish(&store, &registry(vec![], 1)).await.expect("nothing");
        assert_eq!(version().await, None);
        publish(&store, &registry(vec![rate("tv", 50, 0)], 1)).await.expect("first");
        publish(&store, &registry(vec![rate("tv", 50, 0)], 2)).await.expect("the same");
        assert_eq!(version().await, Some(1));
        publish(&store, &registry(vec![], 3)).await.expect("forgotten");
        assert_eq!(version().await, Some(2), "who is forgotten is tried again");
    }
}

//! Which players follow steering: moves that sampled answers asked for, and where the views' beacons then came from.

use serde::Deserialize;

use super::{MINUTE_MS, between, rows};
use crate::time::DAY_MS;
use crate::{LakeError, LakeSession};

/// Evidence is forgotten after so long, so that a player that was given up is tried again.
const MEMORY_MS: u64 = 7 * DAY_MS;
/// A player that follows is where it was sent after so long: what is in flight, and the segment after it.
const SETTLED_MS: u64 = 10_000;
/// What a view does later than this after a move says nothing of it.
const WATCHED_MS: u64 = MINUTE_MS;
/// Views that were heard within this are watching now.
const ACTIVE_MS: u64 = 2 * MINUTE_MS;

/// How a player, in one version, took the moves that it was told to make.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FollowRate {
    /// Player, as beacons name it.
    pub player: String,
    /// Its version.
    pub version: String,
    /// Answers that put another pathway first than the one before, to views that reported afterwards.
    pub moves: u64,
    /// Of them, those after which the view was served by that pathway.
    pub followed: u64,
}

/// Follow rates of the last week: a move is an answer to a view whose first pathway differs from that of the answer before;
/// it was followed if an event of 10 to 60 s after it (and before the next move) names the new pathway. Views that report
/// nothing in that time count as nothing.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn follow_rates(session: &LakeSession, now_ms: u64) -> Result<Vec<FollowRate>, LakeError> {
    let from_ms = now_ms.saturating_sub(MEMORY_MS);
    let (told, heard) = (between("issued_ms", from_ms, now_ms), between("event_ms", from_ms, now_ms));
    let sql = format!(
        "WITH answers AS (
           SELECT view_id, issued_ms, first_pathway,
                  lag(first_pathway) OVER (PARTITION BY view_id ORDER BY issued_ms, batch_seq, \"row\") AS before
           FROM steers WHERE {told} AND view_id IS NOT NULL AND protocol IN ('hls', 'dash')
         ), moves AS (
           SELECT view_id, issued_ms, first_pathway,
                  lead(issued_ms) OVER (PARTITION BY view_id ORDER BY issued_ms) AS next_ms
           FROM answers WHERE before IS NOT NULL AND before <> first_pathway
         ), taken AS (
           SELECT moves.view_id, moves.issued_ms, min(events.player) AS player, min(events.player_version) AS version,
                  max(CASE WHEN events.pathway = moves.first_pathway THEN 1 ELSE 0 END) AS followed
           FROM moves JOIN events ON events.view_id = moves.view_id
           WHERE {heard} AND events.pathway IS NOT NULL AND events.player IS NOT NULL
             AND events.event_ms >= moves.issued_ms + {SETTLED_MS} AND events.event_ms < moves.issued_ms + {WATCHED_MS}
             AND (moves.next_ms IS NULL OR events.event_ms < moves.next_ms)
           GROUP BY moves.view_id, moves.issued_ms
         )
         SELECT player, coalesce(version, '') AS version, count(*) AS moves, sum(followed) AS followed
         FROM taken GROUP BY 1, 2 ORDER BY 1, 2"
    );
    rows(session, &sql).await
}

/// Views of a player on a pathway.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PlayerViews {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Player; empty if it does not say.
    pub player: String,
    /// Its version; empty if it does not say.
    pub version: String,
    /// Views that reported within two minutes.
    pub views: u64,
}

/// Who watches where now, by player.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn players_by_pathway(session: &LakeSession, now_ms: u64) -> Result<Vec<PlayerViews>, LakeError> {
    let when = between("event_ms", now_ms.saturating_sub(ACTIVE_MS), now_ms.saturating_add(1));
    let sql = format!(
        "SELECT pathway, region, coalesce(player, '') AS player, coalesce(player_version, '') AS version,
                count(DISTINCT view_id) AS views
         FROM events WHERE {when} AND pathway IS NOT NULL AND region IS NOT NULL
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    );
    rows(session, &sql).await
}

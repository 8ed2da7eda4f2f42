//! How many bytes caches keep from the origin, warm and right after a move.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{MINUTE_MS, between, rows};
use crate::time::DAY_MS;
use crate::{LakeError, LakeSession};

/// Traffic counts as just moved so long after its epoch, ms.
const AFTER_MOVE_MS: u64 = 10 * MINUTE_MS;
/// A share that rises by so much at once is a move, ppm.
const MOVE_MIN_PPM: u64 = 50_000;
/// Moves that are looked at, the newest.
const MOVES_MAX: usize = 200;
/// Bytes from which a ratio is told.
const BYTES_MIN: u64 = 10_000_000;

/// What a pathway's caches hold.
#[derive(Clone, Debug, PartialEq)]
pub struct HitRatio {
    /// Pathway.
    pub pathway: String,
    /// Bytes out of caches ÷ bytes, 0 to 1.
    pub warm: f64,
    /// The same in the ten minutes after a move onto it; absent if none was seen.
    pub after_move: Option<f64>,
}

#[derive(Deserialize)]
struct Ratio {
    pathway: String,
    ratio: f64,
}

/// Hit ratios of the last day by pathway; what followed a move within ten minutes is told apart, and the moves of the
/// last week are looked at for it. From `deliveries`, so only of pathways whose logs come.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn hit_ratios(session: &LakeSession, now_ms: u64) -> Result<Vec<HitRatio>, LakeError> {
    let moves = moves(session, now_ms).await?;
    let moved = moved(&moves);
    let day = between("delivered_ms", now_ms.saturating_sub(DAY_MS), now_ms);
    let mut out: BTreeMap<String, HitRatio> = ratios(session, &day, &format!("NOT ({moved})"))
        .await?
        .into_iter()
        .map(|row| (row.pathway.clone(), HitRatio { pathway: row.pathway, warm: row.ratio, after_move: None }))
        .collect();
    let week = between("delivered_ms", now_ms.saturating_sub(7 * DAY_MS), now_ms);
    for row in ratios(session, &week, &moved).await? {
        if let Some(known) = out.get_mut(&row.pathway) {
            known.after_move = Some(row.ratio);
        }
    }
    Ok(out.into_values().collect())
}

/// What was stale came out of a cache too; what passed it says nothing of it.
async fn ratios(session: &LakeSession, when: &str, which: &str) -> Result<Vec<Ratio>, LakeError> {
    let sql = format!(
        "SELECT pathway, CAST(sum(CASE WHEN cache_status IN ('hit', 'stale') THEN bytes ELSE 0 END) AS DOUBLE)
                         / sum(bytes) AS ratio
         FROM deliveries
         WHERE {when} AND ({which}) AND pathway IS NOT NULL AND cache_status IN ('hit', 'stale', 'miss')
         GROUP BY 1 HAVING sum(bytes) >= {BYTES_MIN}"
    );
    rows(session, &sql).await
}

/// Traffic came onto a pathway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Move {
    at_ms: u64,
    region: String,
    pathway: String,
}

#[derive(Deserialize)]
struct Epoch {
    region: String,
    issued_ms: u64,
    shares_json: Option<String>,
}

async fn moves(session: &LakeSession, now_ms: u64) -> Result<Vec<Move>, LakeError> {
    let when = between("issued_ms", now_ms.saturating_sub(7 * DAY_MS), now_ms);
    let sql = format!("SELECT region, issued_ms, shares_json FROM decisions WHERE {when} ORDER BY region, epoch");
    Ok(moves_of(&rows::<Epoch>(session, &sql).await?))
}

/// The newest moves of epochs in order.
fn moves_of(epochs: &[Epoch]) -> Vec<Move> {
    let mut out = Vec::new();
    let mut before: Option<(&str, BTreeMap<String, u64>)> = None;
    for epoch in epochs {
        let shares = epoch.shares_json.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let shares: BTreeMap<String, u64> = shares.unwrap_or_default();
        if let Some((region, known)) = &before
            && *region == epoch.region
        {
            let rose = |(pathway, share): &(&String, &u64)| {
                **share >= known.get(*pathway).copied().unwrap_or(0) + MOVE_MIN_PPM
            };
            out.extend(shares.iter().filter(rose).map(|(pathway, _)| Move {
                at_ms: epoch.issued_ms,
                region: epoch.region.clone(),
                pathway: pathway.clone(),
            }));
        }
        before = Some((&epoch.region, shares));
    }
    out.sort_by_key(|one| std::cmp::Reverse(one.at_ms));
    out.truncate(MOVES_MAX);
    out
}

/// The condition that a delivery came right after a move; a log that tells no region counts for all.
fn moved(moves: &[Move]) -> String {
    let one = |one: &Move| {
        let quoted = |text: &str| text.replace('\'', "''");
        format!(
            "(pathway = '{}' AND coalesce(region, '{region}') = '{region}' AND delivered_ms >= {} AND delivered_ms < {})",
            quoted(&one.pathway),
            one.at_ms,
            one.at_ms + AFTER_MOVE_MS,
            region = quoted(&one.region),
        )
    };
    if moves.is_empty() { "false".to_owned() } else { moves.iter().map(one).collect::<Vec<_>>().join(" OR ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_rises_is_a_move_and_the_first_epoch_of_a_region_is_none() {
        let epoch = |region: &str, issued_ms, shares: &str| Epoch {
            region: region.into(),
            issued_ms,
            shares_json: Some(shares.into()),
        };
        let epochs = [
            epoch("eu", 1_000, r#"{"cdn-a": 900000, "cdn-b": 100000}"#),
            epoch("eu", 2_000, r#"{"cdn-a": 860000, "cdn-b": 140000}"#),
            epoch("eu", 3_000, r#"{"cdn-b": 1000000}"#),
            epoch("us", 4_000, r#"{"cdn-a": 1000000}"#),
        ];
        let expected = Move { at_ms: 3_000, region: "eu".into(), pathway: "cdn-b".into() };
        assert_eq!(moves_of(&epochs), [expected], "4 points are none");
    }
}

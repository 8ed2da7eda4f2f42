//! What viewers will want: bits per view, the profile of the week, how long views last.

use serde::Deserialize;

use super::{HOUR_MS, MINUTE_MS, WEEK_MS, between, rows};
use crate::time::DAY_MS;
use crate::{LakeError, LakeSession};

/// Watched time from which a region's bits per view are told, ms.
const WATCHED_MIN_MS: u64 = 10 * MINUTE_MS;
/// Weeks whose profile is taken.
const WEEKS: u64 = 4;
/// A profile tells of habits; what grows faster is an event, which is measured, not learned.
const GROWTH_MAX: f64 = 4.0;

/// What a view takes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BitsPerView {
    /// Region.
    pub region: String,
    /// Bits per second of watching.
    pub bits_per_s: f64,
}

/// Bits per view by region, of the last two hours: bits delivered (where players don't tell them, shown) ÷ time watched.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn bits_per_view(session: &LakeSession, now_ms: u64) -> Result<Vec<BitsPerView>, LakeError> {
    let when = between("minute_ms", now_ms.saturating_sub(2 * HOUR_MS), now_ms);
    let sql = format!(
        "SELECT region, sum(coalesce(bytes * 8, bits_played)) * 1000.0 / sum(watched_ms) AS bits_per_s
         FROM rollup_1m
         WHERE {when} AND region IS NOT NULL AND watched_ms IS NOT NULL AND coalesce(bytes, bits_played) IS NOT NULL
         GROUP BY 1 HAVING sum(watched_ms) >= {WATCHED_MIN_MS} ORDER BY 1"
    );
    rows(session, &sql).await
}

/// How an audience usually grows at this time of the week.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Growth {
    /// Region.
    pub region: String,
    /// Audience in ten minutes ÷ audience now; 0.25 to 4.
    pub factor: f64,
}

/// Growth over the next ten minutes by region, as in the last four weeks at this time: time watched in the ten minutes
/// around then ÷ in the ten minutes around now, as a ratio of sums over the weeks.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn growth_10min(session: &LakeSession, now_ms: u64) -> Result<Vec<Growth>, LakeError> {
    let weeks: Vec<u64> = (1..=WEEKS).filter_map(|week| now_ms.checked_sub(week * WEEK_MS)).collect();
    if weeks.is_empty() {
        return Ok(Vec::new());
    }
    let any = |from_min: i64, until_min: i64| {
        let at = |then: &u64, offset_min: i64| then.saturating_add_signed(offset_min * MINUTE_MS as i64);
        let one = |then: &u64| format!("({})", between("minute_ms", at(then, from_min), at(then, until_min)));
        weeks.iter().map(one).collect::<Vec<_>>().join(" OR ")
    };
    let (around, now, then) = (any(-5, 15), any(-5, 5), any(5, 15));
    let least = WATCHED_MIN_MS;
    let sql = format!(
        "WITH sums AS (
           SELECT region, sum(CASE WHEN {now} THEN watched_ms ELSE 0 END) AS before,
                  sum(CASE WHEN {then} THEN watched_ms ELSE 0 END) AS after
           FROM rollup_1m WHERE ({around}) AND region IS NOT NULL AND watched_ms IS NOT NULL GROUP BY 1
         )
         SELECT region, least({GROWTH_MAX}, greatest(1.0 / {GROWTH_MAX}, CAST(after AS DOUBLE) / before)) AS factor
         FROM sums WHERE before >= {least} ORDER BY 1"
    );
    rows(session, &sql).await
}

/// How long views last.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ViewLength {
    /// Region.
    pub region: String,
    /// vod, live or ll; null: not known.
    pub stream_type: Option<String>,
    /// Views that it rests on.
    pub views: u64,
    /// Mean time watched, ms.
    pub mean_ms: f64,
    /// Median time watched, ms.
    pub median_ms: f64,
}

/// Lengths of the views that began in the last week and have started.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn view_lengths(session: &LakeSession, now_ms: u64) -> Result<Vec<ViewLength>, LakeError> {
    let when = between("started_ms", now_ms.saturating_sub(7 * DAY_MS), now_ms);
    let sql = format!(
        "SELECT region, stream_type, count(*) AS views, avg(CAST(watched_ms AS DOUBLE)) AS mean_ms,
                CAST(median(watched_ms) AS DOUBLE) AS median_ms
         FROM views WHERE {when} AND region IS NOT NULL AND started AND watched_ms IS NOT NULL
         GROUP BY 1, 2 ORDER BY 1, 2"
    );
    rows(session, &sql).await
}

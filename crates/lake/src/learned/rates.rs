//! How pathways usually do, and how networks fare on them.

use serde::Deserialize;

use super::{HOUR_MS, WEEK_MS, between, rows};
use crate::time::DAY_MS;
use crate::{LakeError, LakeSession};

/// Weeks that the usual rate of an hour is taken from.
const WEEKS: u64 = 4;
/// Windows of an hour that say something of it: at a usual rate of 1 % a standard error of 0.7 points.
const HOUR_WINDOWS_MIN: u64 = 200;
/// What a network did so long ago counts 1/e of what it does now.
const NETWORK_TAU_MS: u64 = DAY_MS;
/// Windows (weighted) from which a network is told of; below it decisions use the region's rate anyway.
const NETWORK_WINDOWS_MIN: u64 = 20;
/// Networks × pathways at most, the largest first.
const NETWORKS_MAX: usize = 100_000;

/// The usual rate of bad windows in an hour of the week.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct HourlyRate {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// 0 to 167, in UTC; 0 is Monday from 0:00 to 1:00.
    pub hour_of_week: u8,
    /// Share of bad windows, 0 to 1: the median of the weeks.
    pub bad_rate: f64,
    /// Weeks that it rests on.
    pub weeks: u64,
}

/// Usual rates by hour of the week, of the last four weeks. The median of weeks is taken, so that one week's outage
/// doesn't become what is usual.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn hourly_rates(session: &LakeSession, now_ms: u64) -> Result<Vec<HourlyRate>, LakeError> {
    let when = between("minute_ms", now_ms.saturating_sub(WEEKS * WEEK_MS), now_ms);
    // Hour 0 since the epoch is a Thursday's: three days after Monday.
    let sql = format!(
        "WITH hours AS (
           SELECT pathway, region, minute_ms / {HOUR_MS} AS hour,
                  CAST(sum(windows_bad) AS DOUBLE) / sum(windows) AS bad_rate
           FROM rollup_1m WHERE {when} AND pathway IS NOT NULL AND region IS NOT NULL
           GROUP BY 1, 2, 3 HAVING sum(windows) >= {HOUR_WINDOWS_MIN}
         )
         SELECT pathway, region, (hour + 72) % 168 AS hour_of_week, median(bad_rate) AS bad_rate, count(*) AS weeks
         FROM hours GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    );
    rows(session, &sql).await
}

/// Windows of a network on a pathway, the older the less.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NetworkWindows {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Network.
    pub asn: u32,
    /// Windows, weighted by exp(-age / 1 day).
    pub windows: f64,
    /// Bad ones, weighted alike.
    pub bad_windows: f64,
}

/// Windows of networks in the last three days: the sums of a Beta posterior over (pathway, region, network).
///
/// # Errors
/// [`LakeError::Query`].
pub async fn network_windows(session: &LakeSession, now_ms: u64) -> Result<Vec<NetworkWindows>, LakeError> {
    let when = between("minute_ms", now_ms.saturating_sub(3 * DAY_MS), now_ms);
    let weight = format!("exp((minute_ms - {now_ms}.0) / {NETWORK_TAU_MS}.0)");
    let sql = format!(
        "SELECT pathway, region, asn, sum({weight} * windows) AS windows, sum({weight} * windows_bad) AS bad_windows
         FROM rollup_1m
         WHERE {when} AND pathway IS NOT NULL AND region IS NOT NULL AND asn IS NOT NULL
         GROUP BY 1, 2, 3 HAVING sum({weight} * windows) >= {NETWORK_WINDOWS_MIN}
         ORDER BY windows DESC, 1, 2, 3 LIMIT {NETWORKS_MAX}"
    );
    rows(session, &sql).await
}

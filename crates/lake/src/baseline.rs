//! What is normal: rates of bad windows, learned from the lake.

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Float64Type, Int64Type};

use crate::{LakeError, LakeSession};

/// How a pathway did in a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Pathway.
    pub pathway: String,
    /// Region.
    pub region: String,
    /// Share of bad windows, 0 to 1.
    pub bad_rate: f64,
    /// Windows that it rests on.
    pub windows: u64,
}

/// A window is a view's time between two heartbeats (at most 60 s) on one pathway; bad if more than 2 % of it was
/// stalled, if the view failed in it for a reason of the path, or if the start took more than 8 s. Windows across a
/// switch are left out, as in the live rollups.
fn sql(since_ms: u64, until_ms: u64) -> String {
    format!(
        "WITH marks AS (
           SELECT pathway, region, watched_ms, stall_ms, startup_ms,
                  CASE WHEN \"type\" = 'error' THEN 1 ELSE 0 END AS failed,
                  lag(pathway) OVER view AS pathway_before,
                  lag(watched_ms) OVER view AS watched_before,
                  lag(stall_ms) OVER view AS stall_before,
                  lag(startup_ms) OVER view AS startup_before
           FROM events
           WHERE received_ms >= {since_ms} AND received_ms < {until_ms} AND pathway IS NOT NULL
             AND (\"type\" IN ('heartbeat', 'view_end', 'view_start')
                  OR (\"type\" = 'error' AND error_severity = 'fatal' AND error_class = 'path'))
           WINDOW view AS (PARTITION BY property, view_id, source ORDER BY seq)
         ), windows AS (
           SELECT pathway, region,
                  CASE WHEN failed = 1
                         OR (startup_ms > 8000 AND startup_before IS NULL)
                         OR (stall_ms - stall_before) * 50 > watched_ms - watched_before THEN 1 ELSE 0 END AS bad
           FROM marks
           WHERE failed = 1
              OR (pathway = pathway_before AND watched_ms > watched_before AND watched_ms - watched_before <= 60000)
         )
         SELECT pathway, region, avg(CAST(bad AS DOUBLE)) AS bad_rate, count(*) AS windows
         FROM windows GROUP BY pathway, region ORDER BY pathway, region"
    )
}

/// Rates of bad windows by pathway and region, of events received from `since_ms` until before `until_ms`.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn baselines(session: &LakeSession, since_ms: u64, until_ms: u64) -> Result<Vec<Baseline>, LakeError> {
    let mut out = Vec::new();
    for batch in session.query(&sql(since_ms, until_ms)).await? {
        let (pathways, regions) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let (rates, windows) =
            (batch.column(2).as_primitive::<Float64Type>(), batch.column(3).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            out.push(Baseline {
                pathway: pathways.value(row).to_owned(),
                region: if regions.is_null(row) { String::new() } else { regions.value(row).to_owned() },
                bad_rate: rates.value(row),
                windows: u64::try_from(windows.value(row)).unwrap_or(0),
            });
        }
    }
    Ok(out)
}

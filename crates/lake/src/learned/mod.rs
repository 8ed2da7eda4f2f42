//! What the lake teaches decisions: usual rates, networks, demand, caches and bills. Asked once a minute, off the path of
//! decisions, which go on with what was learned last.
//!
//! All of it is built on `rollup_1m`, `views`, `deliveries`, `decisions`, and for players `steers` and `events`; ratios are ratios of sums, and what is
//! not known (null) is in neither sum.

mod bills;
mod caches;
mod demand;
mod follows;
mod rates;

use serde::de::DeserializeOwned;

pub use bills::{Bill, bills};
pub use caches::{HitRatio, hit_ratios};
pub use demand::{BitsPerView, Growth, ViewLength, bits_per_view, growth_10min, view_lengths};
pub use follows::{FollowRate, PlayerViews, follow_rates, players_by_pathway};
pub use rates::{HourlyRate, NetworkWindows, hourly_rates, network_windows};

use crate::{LakeError, LakeSession, format};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const WEEK_MS: u64 = 7 * crate::time::DAY_MS;

/// Rows of a query as structs, whose fields are named as its columns.
pub(crate) async fn rows<T: DeserializeOwned>(session: &LakeSession, sql: &str) -> Result<Vec<T>, LakeError> {
    let lines = format::json_lines(&session.query(sql).await?)?;
    let row = |line: &str| {
        serde_json::from_str(line)
            .map_err(|error| LakeError::Arrow(arrow::error::ArrowError::JsonError(error.to_string())))
    };
    lines.lines().map(row).collect()
}

/// The condition that rows lie in `[from_ms, until_ms)`; days first, because they are the partition.
pub(crate) fn between(column: &str, from_ms: u64, until_ms: u64) -> String {
    let (first, last) = (crate::time::day_of(from_ms), crate::time::day_of(until_ms));
    format!("dt >= '{first}' AND dt <= '{last}' AND {column} >= {from_ms} AND {column} < {until_ms}")
}

//! What has been used of each contract in its billing period, the calendar month in UTC.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{MINUTE_MS, between, rows};
use crate::time::{DAY_MS, day_of, ms_of_day};
use crate::{LakeError, LakeSession};

/// Months whose profile is taken.
const MONTHS: usize = 3;
/// A level is the mean of so long.
const SLOT_MS: u64 = 5 * MINUTE_MS;
/// One slot of so many may lie above the billed level: 95/5.
const FREE_ONE_OF: u64 = 20;

/// One pathway's month.
#[derive(Clone, Debug, PartialEq)]
pub struct Bill {
    /// Pathway.
    pub pathway: String,
    /// Volume so far, GB (10^9 bytes).
    pub used_gb: f64,
    /// Part of a month's volume that is usually used by now, 0 to 1: the cumulative profile of the last months; without
    /// one, the part of the month that is over.
    pub profile: f64,
    /// 5-minute levels of the month so far, Mbit/s, highest first, at most as many as decide: those that are free and
    /// one more.
    pub highest_mbps: Vec<f64>,
    /// 5-minute slots of the month that may lie above the billed level.
    pub free_slots: usize,
}

impl Bill {
    /// The 95/5 level so far, Mbit/s, when `committed_mbps` is paid anyway, and the slots that may still lie above it.
    #[must_use]
    pub fn level(&self, committed_mbps: f64) -> (f64, usize) {
        let level = self.highest_mbps.get(self.free_slots).copied().unwrap_or(0.0).max(committed_mbps);
        let above = self.highest_mbps.iter().filter(|slot| **slot > level).count();
        (level, self.free_slots.saturating_sub(above))
    }
}

/// Begin of the month of `ms`, and of those before it, newest first.
fn months(ms: u64, count: usize) -> Vec<u64> {
    let mut out: Vec<u64> = Vec::with_capacity(count);
    let mut at = ms;
    while out.len() < count {
        let Some(begin) = ms_of_day(&format!("{}-01", &day_of(at)[..7])) else { break };
        out.push(begin);
        let Some(before) = begin.checked_sub(1) else { break };
        at = before;
    }
    out
}

fn end_of_month(begin_ms: u64) -> u64 {
    let next = day_of(begin_ms + 31 * DAY_MS);
    ms_of_day(&format!("{}-01", &next[..7])).unwrap_or(begin_ms + 31 * DAY_MS)
}

/// Bytes by pathway and slot. Logs are the truth, and come late or not at all; players miss those that don't report.
/// Each knows too little, never too much, so the larger counts.
fn slots(from_ms: u64, until_ms: u64) -> String {
    // The engine refuses a union of which it can't tell whether its slots may be null; a CASE without ELSE may.
    let slot = |column: &str| format!("CASE WHEN {column} >= 0 THEN {column} / {SLOT_MS} END AS slot");
    let (delivered_slot, reported_slot) = (slot("delivered_ms"), slot("minute_ms"));
    let (delivered, reported) = (between("delivered_ms", from_ms, until_ms), between("minute_ms", from_ms, until_ms));
    format!(
        "SELECT pathway, slot, max(bytes) AS bytes FROM (
           SELECT pathway, {delivered_slot}, sum(bytes) AS bytes FROM deliveries
           WHERE {delivered} AND pathway IS NOT NULL AND bytes IS NOT NULL GROUP BY 1, 2
           UNION ALL
           SELECT pathway, {reported_slot}, sum(coalesce(bytes, bits_played / 8)) AS bytes FROM rollup_1m
           WHERE {reported} AND pathway IS NOT NULL AND coalesce(bytes, bits_played) IS NOT NULL GROUP BY 1, 2
         ) GROUP BY 1, 2"
    )
}

#[derive(Deserialize)]
struct Used {
    pathway: String,
    used_gb: f64,
}

#[derive(Deserialize)]
struct Level {
    pathway: String,
    mbps: f64,
}

#[derive(Deserialize)]
struct Part {
    by_now: Option<f64>,
    all: Option<f64>,
}

/// The month so far of each pathway that carried anything in it.
///
/// # Errors
/// [`LakeError::Query`].
pub async fn bills(session: &LakeSession, now_ms: u64) -> Result<Vec<Bill>, LakeError> {
    let months = months(now_ms, MONTHS + 1);
    let Some((&begin, past)) = months.split_first() else { return Ok(Vec::new()) };
    let month_slots = (end_of_month(begin) - begin) / SLOT_MS;
    let free_slots = (month_slots / FREE_ONE_OF) as usize;
    let slots_now = slots(begin, now_ms);
    let sql = format!("SELECT pathway, sum(bytes) / 1e9 AS used_gb FROM ({slots_now}) GROUP BY 1 ORDER BY 1");
    let used: Vec<Used> = rows(session, &sql).await?;
    let seconds = SLOT_MS / 1_000;
    let sql = format!(
        "SELECT pathway, mbps FROM (
           SELECT pathway, bytes * 8 / 1e6 / {seconds} AS mbps,
                  row_number() OVER (PARTITION BY pathway ORDER BY bytes DESC) AS nth FROM ({slots_now})
         ) WHERE nth <= {free_slots} + 1 ORDER BY pathway, mbps DESC"
    );
    let mut levels: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows::<Level>(session, &sql).await? {
        levels.entry(row.pathway).or_default().push(row.mbps);
    }
    let profile = profile(session, past, begin, now_ms).await?;
    let bill = |row: Used| Bill {
        highest_mbps: levels.remove(&row.pathway).unwrap_or_default(),
        pathway: row.pathway,
        used_gb: row.used_gb,
        profile,
        free_slots,
    };
    Ok(used.into_iter().map(bill).collect())
}

/// Part of a month that is usually used by now, over all pathways: which one carries it is what decisions change.
async fn profile(session: &LakeSession, past: &[u64], begin_ms: u64, now_ms: u64) -> Result<f64, LakeError> {
    let linear = (now_ms - begin_ms) as f64 / (end_of_month(begin_ms) - begin_ms) as f64;
    let (mut by_now, mut all) = (0.0, 0.0);
    for &begin in past {
        let end = end_of_month(begin);
        // Months differ in length: the same part of it, not the same date.
        let now_slot = (begin + (linear * (end - begin) as f64) as u64) / SLOT_MS;
        let sql = format!(
            "SELECT CAST(sum(CASE WHEN slot < {now_slot} THEN bytes ELSE 0 END) AS DOUBLE) AS by_now,
                    CAST(sum(bytes) AS DOUBLE) AS all FROM ({})",
            slots(begin, end)
        );
        for part in rows::<Part>(session, &sql).await? {
            by_now += part.by_now.unwrap_or(0.0);
            all += part.all.unwrap_or(0.0);
        }
    }
    Ok(if all > 0.0 { by_now / all } else { linear })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let at = |day: &str| ms_of_day(day).expect("a day");
        assert_eq!(months(at("2026-03-15") + 5, 3), [at("2026-03-01"), at("2026-02-01"), at("2026-01-01")]);
        assert_eq!(months(at("1970-01-15"), 3), [0], "nothing before the epoch");
        assert_eq!(end_of_month(at("2028-02-01")), at("2028-03-01"));
        assert_eq!(end_of_month(at("2026-12-01")), at("2027-01-01"));
    }

    #[test]
    fn the_billed_level_is_the_highest_slot_that_is_not_free() {
        let bill = |highest_mbps: &[f64]| Bill {
            pathway: "cdn-a".into(),
            used_gb: 1.0,
            profile: 0.5,
            highest_mbps: highest_mbps.to_vec(),
            free_slots: 2,
        };
        assert_eq!(bill(&[]).level(0.0), (0.0, 2));
        assert_eq!(bill(&[90.0]).level(0.0), (0.0, 1));
        assert_eq!(bill(&[90.0, 80.0, 30.0]).level(0.0), (30.0, 0));
        assert_eq!(bill(&[90.0, 80.0, 30.0]).level(85.0), (85.0, 1), "the commitment is above it");
        assert_eq!(bill(&[90.0, 90.0, 90.0]).level(0.0), (90.0, 2), "equal slots are not above it");
    }
}

//! The last line of `--json`.

use std::collections::BTreeMap;

use serde::Serialize;

/// What one call of the demo showed. A value that could not be measured is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// POSTs to the collector, repeated ones included.
    pub beacons_sent: u64,
    /// Events that the collector accepted, by its own count.
    pub events_accepted: Option<u64>,
    /// Events that it discarded, by reason.
    pub events_discarded: BTreeMap<String, u64>,
    /// Rows of the table.
    pub events_stored: Option<u64>,
    /// Events that a viewer was told are durable and that are not in the table.
    pub lost: Option<u64>,
    /// Manifests published over all regions.
    pub epochs: u64,
    /// Views that showed a picture.
    pub views_started: u64,
    /// Views that never did, or broke off.
    pub views_failed: u64,
    /// Largest TTL that an affected view had been handed by the detection, s.
    pub ttl_s: Option<u32>,
    /// The outage.
    pub outage: OutageReport,
    /// Highest 10 s mean of bits out ÷ ceiling, by pathway.
    pub peak_utilisation: BTreeMap<String, f64>,
    /// Share of all media bytes, by pathway.
    pub bytes_share: BTreeMap<String, f64>,
    /// Bytes × price.
    pub cost_usd: f64,
    /// Share of watched time in good windows.
    pub good_share: GoodShare,
    /// What should have held and did not; empty if all is well.
    pub invariants_broken: Vec<String>,
}

/// One outage.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OutageReport {
    /// Injection → epoch that demotes the pathway.
    pub detect_s: Option<f64>,
    /// Median time of affected views to leave.
    pub leave_s_p50: Option<f64>,
    /// 95 % of those that left had left by then.
    pub leave_s_p95: Option<f64>,
    /// Steerable views on the pathway at the injection.
    pub views_affected: u64,
    /// Left because a steering answer said so.
    pub left_by_steering: u64,
    /// Left by themselves.
    pub left_by_player: u64,
    /// Minutes of views in bad windows, from the injection until the last window that the outage can harm.
    pub harmed_view_minutes: Option<f64>,
    /// The same without steering.
    pub harmed_view_minutes_static: Option<f64>,
}

/// Share of watched time in good windows, over all regions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GoodShare {
    /// From the end of the joining to the injection.
    pub before: Option<f64>,
    /// The windows of the outage.
    pub during: Option<f64>,
    /// After them, until the end.
    pub after: Option<f64>,
    /// The windows of the outage, without steering.
    pub during_static: Option<f64>,
}

/// `value` with three decimals.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_that_were_agreed() {
        let value = serde_json::to_value(Report::default()).expect("plain fields");
        let keys =
            |value: &serde_json::Value| -> Vec<String> { value.as_object().expect("object").keys().cloned().collect() };
        let mut expected = [
            "beacons_sent",
            "events_accepted",
            "events_discarded",
            "events_stored",
            "lost",
            "epochs",
            "views_started",
            "views_failed",
            "ttl_s",
            "outage",
            "peak_utilisation",
            "bytes_share",
            "cost_usd",
            "good_share",
            "invariants_broken",
        ];
        expected.sort_unstable();
        let mut found = keys(&value);
        found.sort();
        assert_eq!(found, expected);
        let mut outage = keys(&value["outage"]);
        outage.sort();
        let expected = [
            "detect_s",
            "harmed_view_minutes",
            "harmed_view_minutes_static",
            "leave_s_p50",
            "leave_s_p95",
            "left_by_player",
            "left_by_steering",
            "views_affected",
        ];
        assert_eq!(outage, expected);
        let mut good = keys(&value["good_share"]);
        good.sort();
        assert_eq!(good, ["after", "before", "during", "during_static"]);
    }
}

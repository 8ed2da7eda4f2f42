//! What the next GB costs: flat, tiered, committed, and by the 95th percentile.

use crate::{Bill, Parameters, PriceSheet};

/// GB of a billing period of 30 days at 1 Mbit/s: 1e6 / 8 × 2,592,000 s ÷ 1e9.
const GB_PER_MBPS_MONTH: f64 = 324.0;

/// Price of a pathway's next traffic: one price up to a level, another above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Price {
    /// USD per GB.
    pub usd_per_gb: f64,
    /// USD per GB below `level_bps`, where it is paid for already.
    pub below_usd_per_gb: f64,
    /// All regions together, bit/s; 0: one price for all.
    pub level_bps: f64,
}

impl Price {
    const fn flat(usd_per_gb: f64) -> Self {
        Self { usd_per_gb, below_usd_per_gb: usd_per_gb, level_bps: 0.0 }
    }
}

/// Volume that the billing period will end with, GB: what was used ÷ the part of a period's volume that is usually used
/// by now.
#[must_use]
pub fn projected_gb(bill: &Bill, p: &Parameters) -> f64 {
    bill.used_gb.max(0.0) / bill.profile.clamp(p.profile_min, 1.0)
}

/// What the next GB costs under `sheet` with `list` USD per GB beyond it, after what `bill` says was used.
///
/// A volume is projected by the historical cumulative profile F(t), not by linear time: projected = used ÷ F(t).
/// Below `commit_low` of a committed volume the next GB is paid for already, above `commit_high` it costs the list
/// price, and in between the price rises evenly, so that it doesn't flap.
pub(crate) fn price_of(sheet: &PriceSheet, list: f64, bill: Option<&Bill>, p: &Parameters) -> Price {
    let projected = |bill: &Bill| projected_gb(bill, p);
    match (sheet, bill) {
        (PriceSheet::Tiered(tiers), Some(bill)) => {
            let volume = projected(bill);
            let tier = tiers.iter().rev().find(|tier| volume >= tier.from_gb);
            Price::flat(tier.map_or(list, |tier| tier.usd_per_gb))
        }
        (PriceSheet::Commit { committed_gb }, Some(bill)) if *committed_gb > 0.0 => {
            let used = projected(bill) / committed_gb;
            let part = (used - p.commit_low) / (p.commit_high - p.commit_low).max(1e-9);
            Price::flat(list * part.clamp(0.0, 1.0))
        }
        (PriceSheet::Percentile95 { usd_per_mbps, committed_mbps }, bill) => {
            let level = bill.map_or(0.0, |bill| bill.level_mbps).max(*committed_mbps);
            // A higher level is paid for the whole period, of which only the rest can use it.
            let left = (1.0 - bill.map_or(0.0, |bill| bill.profile)).clamp(p.profile_min, 1.0);
            let free = bill.is_some_and(|bill| bill.free_slots >= p.free_slots_min);
            let above = if free { list } else { usd_per_mbps / (GB_PER_MBPS_MONTH * left) + list };
            Price { usd_per_gb: above, below_usd_per_gb: list, level_bps: level * 1e6 }
        }
        _ => Price::flat(list),
    }
}

/// USD per hour for `bits` bit/s at `usd_per_gb`.
pub(crate) fn usd_per_hour(bits: f64, usd_per_gb: f64) -> f64 {
    bits / 8e9 * 3600.0 * usd_per_gb
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PriceTier;

    fn price(sheet: &PriceSheet, used_gb: f64, profile: f64) -> f64 {
        let bill = Bill { used_gb, profile, ..Bill::default() };
        price_of(sheet, 0.02, Some(&bill), &Parameters::default()).usd_per_gb
    }

    #[test]
    fn a_commit_is_free_until_its_pace_is_kept_and_its_price_rises_without_a_step() {
        let commit = PriceSheet::Commit { committed_gb: 1000.0 };
        assert_eq!(price(&commit, 300.0, 0.5), 0.0, "at 600 of 1,000");
        let middle = price(&commit, 500.0, 0.5);
        assert!((middle - 0.01).abs() < 1e-9, "{middle}");
        assert_eq!(price(&commit, 600.0, 0.5), 0.02);
        assert_eq!(price(&commit, 600.0, 0.7), 0.0, "evenings and weekends are still to come: the profile knows");
    }

    #[test]
    fn a_tier_is_chosen_by_the_projected_volume() {
        let tier = |from_gb, usd_per_gb| PriceTier { from_gb, usd_per_gb };
        let tiers = PriceSheet::Tiered(vec![tier(100.0, 0.01), tier(1000.0, 0.005)]);
        assert_eq!([30.0, 60.0, 600.0].map(|used| price(&tiers, used, 0.5)), [0.02, 0.01, 0.005]);
    }

    #[test]
    fn below_the_billed_level_the_95th_percentile_costs_nothing_more() {
        let sheet = PriceSheet::Percentile95 { usd_per_mbps: 3.24, committed_mbps: 200.0 };
        let bill = Bill { level_mbps: 500.0, profile: 0.5, ..Bill::default() };
        let price = |bill: &Bill| price_of(&sheet, 0.0, Some(bill), &Parameters::default());
        assert_eq!(price(&bill), Price { usd_per_gb: 0.02, below_usd_per_gb: 0.0, level_bps: 5e8 });
        assert_eq!(price(&Bill { level_mbps: 100.0, ..bill }).level_bps, 2e8, "what is committed is paid anyway");
        assert_eq!(price(&Bill { free_slots: 50, ..bill }).usd_per_gb, 0.0);
    }

    #[test]
    fn one_gigabit_for_an_hour_is_450_gigabytes() {
        assert!((usd_per_hour(1e9, 0.01) - 4.5).abs() < 1e-9);
    }
}

//! What the next GB costs: flat, by volume with tiers and a commit, and by the 95th percentile.

use crate::levels::Usual;
use crate::{Bill, Parameters, PriceSheet, PriceTier};

/// GB of a billing period of 30 days at 1 Mbit/s: 1e6 / 8 × 2,592,000 s ÷ 1e9.
const GB_PER_MBPS_MONTH: f64 = 324.0;
/// 5-minute slots of such a period, and its seconds.
const SLOTS_MONTH: f64 = 8640.0;
const SECONDS_MONTH: f64 = 2_592_000.0;

/// Price of a pathway's next traffic: one price up to a level, another above it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Price {
    /// USD per GB.
    pub usd_per_gb: f64,
    /// USD per GB below `level_bps`, where it is paid for already or worth to be.
    pub below_usd_per_gb: f64,
    /// All regions together, bit/s; 0: one price for all.
    pub level_bps: f64,
}

impl Price {
    const fn flat(usd_per_gb: f64) -> Self {
        Self { usd_per_gb, below_usd_per_gb: usd_per_gb, level_bps: 0.0 }
    }
}

/// What a contract is weighed against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peers<'a> {
    /// USD per GB that another commercial pathway takes for what it isn't committed to; infinite: there is none.
    pub usd_per_gb: f64,
    /// What the pathway would be asked for if it were the cheapest.
    pub usual: Option<&'a Usual>,
}

/// Volume that the billing period will end with, GB: what was used ÷ the part of a period's volume that is usually used
/// by now.
#[must_use]
pub fn projected_gb(bill: &Bill, p: &Parameters) -> f64 {
    bill.used_gb.max(0.0) / bill.profile.clamp(p.profile_min, 1.0)
}

/// USD per GB at a volume of the period.
fn tier(tiers: &[PriceTier], list: f64, gb: f64) -> f64 {
    tiers.iter().rev().find(|tier| gb >= tier.from_gb).map_or(list, |tier| tier.usd_per_gb)
}

/// USD for a volume of the period.
fn total(tiers: &[PriceTier], list: f64, gb: f64) -> f64 {
    let ends = tiers.iter().map(|tier| tier.from_gb).chain([f64::INFINITY]);
    let from = [0.0].into_iter().chain(tiers.iter().map(|tier| tier.from_gb));
    let price = [list].into_iter().chain(tiers.iter().map(|tier| tier.usd_per_gb));
    from.zip(ends).zip(price).map(|((from, end), price)| (gb.min(end) - from).max(0.0) * price).sum()
}

/// USD per GB beyond what is projected and committed, on average up to the volume that it would reach if it carried all
/// that it may from now on: a tier that lies ahead makes the way to it worth while. Without that knowledge, of the tier
/// that is projected.
fn next_gb(
    (committed_gb, tiers): (f64, &[PriceTier]),
    list: f64,
    bill: &Bill,
    usual: Option<&Usual>,
    p: &Parameters,
) -> f64 {
    let from = projected_gb(bill, p).max(committed_gb);
    let reach = usual
        .filter(|usual| usual.is_known(p))
        .map_or(0.0, |usual| bill.used_gb + usual.carried() / 8e9 * SECONDS_MONTH * (1.0 - bill.profile).max(0.0));
    if reach <= from {
        return tier(tiers, list, from);
    }
    (total(tiers, list, reach) - total(tiers, list, from)) / (reach - from)
}

/// What a GB beyond all commitments costs; `None` where levels are billed.
pub(crate) fn beyond(
    sheet: &PriceSheet,
    list: f64,
    bill: Option<&Bill>,
    usual: Option<&Usual>,
    p: &Parameters,
) -> Option<f64> {
    match sheet {
        PriceSheet::Flat => Some(list),
        PriceSheet::Volume { committed_gb, tiers } => {
            let bill = bill.copied().unwrap_or_default();
            Some(next_gb((*committed_gb, tiers), list, &bill, usual, p))
        }
        PriceSheet::Percentile95 { .. } => None,
    }
}

/// What the next GB costs under `sheet` with `list` USD per GB beyond it, after what `bill` says was used.
///
/// A volume is projected by the historical cumulative profile F(t), not by linear time: projected = used ÷ F(t).
/// Below `commit_low` of a committed volume the next GB is paid for already, above `commit_high` it costs what
/// a GB beyond it does, and in between the price rises evenly, so that it doesn't flap.
pub(crate) fn price_of(sheet: &PriceSheet, list: f64, bill: Option<&Bill>, peers: Peers<'_>, p: &Parameters) -> Price {
    match (sheet, bill) {
        (PriceSheet::Volume { committed_gb, tiers }, Some(bill)) => {
            let projected = projected_gb(bill, p);
            let next = next_gb((*committed_gb, tiers), list, bill, peers.usual, p);
            if *committed_gb <= 0.0 {
                return Price::flat(next);
            }
            let part = (projected / committed_gb - p.commit_low) / (p.commit_high - p.commit_low).max(1e-9);
            Price::flat(next * part.clamp(0.0, 1.0))
        }
        (PriceSheet::Percentile95 { usd_per_mbps, committed_mbps }, bill) => {
            by_level((*usd_per_mbps, *committed_mbps), list, bill, peers, p)
        }
        _ => Price::flat(list),
    }
}

/// A higher level is paid for the whole period, of which only the rest can use it, and of that only the time in which
/// there is so much to carry. So it is raised as far as a GB of it costs less than elsewhere; what exceeds that is a peak,
/// and priced as one. Free slots are kept for the highest demand: as much of the time as there are free ones among the slots to come.
fn by_level(
    (usd_per_mbps, committed_mbps): (f64, f64),
    list: f64,
    bill: Option<&Bill>,
    peers: Peers<'_>,
    p: &Parameters,
) -> Price {
    let paid = bill.map_or(0.0, |bill| bill.level_mbps).max(committed_mbps) * 1e6;
    let left = (1.0 - bill.map_or(0.0, |bill| bill.profile)).clamp(p.profile_min, 1.0);
    let full = usd_per_mbps / (GB_PER_MBPS_MONTH * left);
    let Some(usual) = peers.usual.filter(|usual| usual.is_known(p)) else {
        let usd_per_gb = full / p.level_use.max(1e-3) + list;
        return Price { usd_per_gb, below_usd_per_gb: list, level_bps: paid };
    };
    let worth = full / (peers.usd_per_gb - list).max(1e-9);
    let level_bps = paid.max(usual.used(worth).min(usual.most()));
    let free = bill.map_or(0, |bill| bill.free_slots);
    let bursts = free >= p.free_slots_min && usual.above(usual.last()) * left * SLOTS_MONTH <= f64::from(free);
    let more = full / p.level_peak_use.max(1e-3) + list;
    Price { usd_per_gb: if bursts { list } else { more }, below_usd_per_gb: list, level_bps }
}

/// USD per hour for `bits` bit/s at `usd_per_gb`.
pub(crate) fn usd_per_hour(bits: f64, usd_per_gb: f64) -> f64 {
    bits / 8e9 * 3600.0 * usd_per_gb
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: Peers<'static> = Peers { usd_per_gb: f64::INFINITY, usual: None };

    fn price(sheet: &PriceSheet, used_gb: f64, profile: f64) -> f64 {
        let bill = Bill { used_gb, profile, ..Bill::default() };
        price_of(sheet, 0.02, Some(&bill), ALONE, &Parameters::default()).usd_per_gb
    }

    fn volume(committed_gb: f64) -> PriceSheet {
        let tier = |from_gb, usd_per_gb| PriceTier { from_gb, usd_per_gb };
        PriceSheet::Volume { committed_gb, tiers: vec![tier(100.0, 0.01), tier(1000.0, 0.005)] }
    }

    #[test]
    fn a_commit_is_free_until_its_pace_is_kept_and_its_price_rises_without_a_step() {
        let commit = PriceSheet::Volume { committed_gb: 1000.0, tiers: vec![] };
        assert_eq!(price(&commit, 300.0, 0.5), 0.0, "at 600 of 1,000");
        let middle = price(&commit, 500.0, 0.5);
        assert!((middle - 0.01).abs() < 1e-9, "{middle}");
        assert_eq!(price(&commit, 600.0, 0.5), 0.02);
        assert_eq!(price(&commit, 600.0, 0.7), 0.0, "evenings and weekends are still to come: the profile knows");
    }

    #[test]
    fn a_tier_is_chosen_by_the_projected_volume() {
        assert_eq!([30.0, 60.0, 600.0].map(|used| price(&volume(0.0), used, 0.5)), [0.02, 0.01, 0.005]);
    }

    #[test]
    fn beyond_a_commit_its_tier_holds() {
        assert_eq!([300.0, 400.0, 600.0].map(|used| price(&volume(700.0), used, 0.5)), [0.0, 0.01, 0.005]);
        let bill = Bill { used_gb: 30.0, profile: 0.5, ..Bill::default() };
        let next = beyond(&volume(700.0), 0.02, Some(&bill), None, &Parameters::default());
        assert_eq!(next, Some(0.01), "what is committed will be used up, so that isn't what a GB more costs");
    }

    #[test]
    fn a_cheaper_tier_within_reach_is_worth_the_way_to_it() {
        // Half a period at 12.35 Mbit/s: 2,000 GB beside the 100 that were used.
        let mut usual = Usual::default();
        usual.take(20e6, 12.35e6, 100_000.0, &Parameters::default());
        let bill = Bill { used_gb: 100.0, profile: 0.5, ..Bill::default() };
        let peers = Peers { usd_per_gb: f64::INFINITY, usual: Some(&usual) };
        let price = price_of(&volume(0.0), 0.02, Some(&bill), peers, &Parameters::default()).usd_per_gb;
        // From 200 GB on: 800 at 0.01, 1,100 at 0.005.
        assert!((price - 13.5 / 1900.0).abs() < 0.0001, "{price}");
        let late = Bill { used_gb: 100.0, profile: 0.99, ..Bill::default() };
        let price = price_of(&volume(0.0), 0.02, Some(&late), peers, &Parameters::default()).usd_per_gb;
        assert!((price - 0.01).abs() < 1e-9, "too late: {price}");
    }

    fn sheet() -> PriceSheet {
        PriceSheet::Percentile95 { usd_per_mbps: 3.24, committed_mbps: 200.0 }
    }

    const HALF: Bill = Bill { used_gb: 0.0, profile: 0.5, level_mbps: 500.0, free_slots: 0 };

    /// Days of 100 to 1,000 Mbit/s in ten equal steps, now at `last` Mbit/s.
    fn days(last: f64) -> Usual {
        let mut usual = Usual::default();
        for hour in 0..240 {
            usual.take(1e8 * f64::from(hour % 10 + 1), 1e10, 3600.0, &Parameters::default());
        }
        usual.take(last * 1e6, 1e10, 0.001, &Parameters::default());
        usual
    }

    fn against(usd_per_gb: f64, last: f64, bill: &Bill) -> Price {
        let usual = days(last);
        let peers = Peers { usd_per_gb, usual: Some(&usual) };
        price_of(&sheet(), 0.0, Some(bill), peers, &Parameters::default())
    }

    #[test]
    fn below_the_billed_level_the_95th_percentile_costs_nothing_more() {
        let price = |bill: &Bill| price_of(&sheet(), 0.0, Some(bill), ALONE, &Parameters::default());
        // Used half of the time, as long as nobody knows how often it is.
        assert_eq!(price(&HALF), Price { usd_per_gb: 0.04, below_usd_per_gb: 0.0, level_bps: 5e8 });
        assert_eq!(price(&Bill { level_mbps: 100.0, ..HALF }).level_bps, 2e8, "what is committed is paid anyway");
        // Nor how high demand still rises: free slots are kept.
        assert_eq!(price(&Bill { free_slots: 50, ..HALF }).usd_per_gb, 0.04);
    }

    #[test]
    fn a_level_is_raised_as_far_as_it_is_used_often_enough_to_be_cheaper_than_elsewhere() {
        let low = Bill { level_mbps: 100.0, ..HALF };
        // 0.02 USD/GB if it were always used: worth it at 0.05 where it is used 40 % of the time.
        let price = against(0.05, 500.0, &low);
        assert!((6.9e8..=7.1e8).contains(&price.level_bps), "{price:?}");
        assert!(price.usd_per_gb > 0.05, "{price:?}");
        assert_eq!(against(0.015, 500.0, &low).level_bps, 2e8, "never worth it: as committed");
        assert_eq!(against(0.05, 500.0, &Bill { level_mbps: 900.0, ..HALF }).level_bps, 9e8, "paid already");
    }

    #[test]
    fn free_slots_are_for_the_highest_demand() {
        let free = Bill { free_slots: 500, ..HALF };
        assert_eq!(against(0.05, 1000.0, &free).usd_per_gb, 0.0, "a tenth of 4,320 slots to come");
        assert!(against(0.05, 900.0, &free).usd_per_gb > 0.0, "a fifth is more than there are");
        assert!(against(0.05, 1000.0, &Bill { free_slots: 300, ..HALF }).usd_per_gb > 0.0);
    }

    #[test]
    fn one_gigabit_for_an_hour_is_450_gigabytes() {
        assert!((usd_per_hour(1e9, 0.01) - 4.5).abs() < 1e-9);
    }
}

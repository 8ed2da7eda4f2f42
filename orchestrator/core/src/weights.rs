//! Fractions to parts per million that sum to exactly 1,000,000.

use std::collections::BTreeMap;

use spillway_model::PathwayId;
use spillway_model::limits::WEIGHT_TOTAL_PPM;
use spillway_routing::{Target, Weights};

/// Shares by pathway; sum 1 when complete.
pub(crate) type Shares = BTreeMap<PathwayId, f64>;

/// The least that a manifest can tell from nothing.
pub(crate) const LEAST_SHARE: f64 = 1.0 / WEIGHT_TOTAL_PPM as f64;

/// Parts per million in the proportion of `parts`, by largest remainder, ties by name. What is not above zero gets
/// nothing. Empty if nothing is above zero.
pub(crate) fn apportion<K: Ord + Clone>(parts: &BTreeMap<K, f64>) -> BTreeMap<K, u32> {
    let total: f64 = parts.values().filter(|part| **part > 0.0 && part.is_finite()).sum();
    if total <= 0.0 {
        return BTreeMap::new();
    }
    let mut out = BTreeMap::new();
    let mut remainders: Vec<(f64, &K)> = Vec::new();
    let mut given = 0_u32;
    for (key, part) in parts.iter().filter(|(_, part)| **part > 0.0 && part.is_finite()) {
        let exact = part / total * f64::from(WEIGHT_TOTAL_PPM);
        let whole = exact.floor() as u32;
        given += whole;
        out.insert(key.clone(), whole);
        remainders.push((exact - exact.floor(), key));
    }
    remainders.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let missing = WEIGHT_TOTAL_PPM.saturating_sub(given) as usize;
    for (_, key) in remainders.into_iter().cycle().take(missing) {
        *out.get_mut(key).expect("every remainder has its entry") += 1;
    }
    out.retain(|_, weight| *weight > 0);
    out
}

/// Weights by pathway; `None` if nothing is above zero.
pub(crate) fn to_weights(shares: &Shares) -> Option<Weights> {
    let weights: Weights = apportion(shares).into_iter().map(|(id, weight)| (Target::Pathway(id), weight)).collect();
    (!weights.is_empty()).then_some(weights)
}

/// The same shares, brought to the sum of 1; empty if nothing is above zero.
pub(crate) fn normalised(shares: &Shares) -> Shares {
    let total: f64 = shares.values().filter(|share| **share > 0.0).sum();
    if total <= 0.0 {
        return Shares::new();
    }
    shares.iter().filter(|(_, share)| **share > 0.0).map(|(id, share)| (id.clone(), share / total)).collect()
}

/// Half the sum of differences: the share of views that two sets of shares place differently.
pub(crate) fn distance(a: &Shares, b: &Shares) -> f64 {
    let share = |of: &Shares, id: &PathwayId| of.get(id).copied().unwrap_or(0.0);
    let keys: std::collections::BTreeSet<&PathwayId> = a.keys().chain(b.keys()).collect();
    keys.into_iter().map(|id| (share(a, id) - share(b, id)).abs()).sum::<f64>() / 2.0
}

/// `from` moved towards `to` by the fraction `part` of the way.
pub(crate) fn towards(from: &Shares, to: &Shares, part: f64) -> Shares {
    let mut out = Shares::new();
    for (id, share) in from {
        *out.entry(id.clone()).or_default() += share * (1.0 - part);
    }
    for (id, share) in to {
        *out.entry(id.clone()).or_default() += share * part;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_sum_to_a_million() {
        let parts = BTreeMap::from([("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 0.0)]);
        let weights = apportion(&parts);
        assert_eq!(weights.values().sum::<u32>(), 1_000_000);
        assert_eq!(weights.get("a"), Some(&333_334));
        assert!(!weights.contains_key("d"));
    }
}

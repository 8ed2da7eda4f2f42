//! Sixth stage: who should carry what, if everybody could be moved at once. Own edges first up to their target, a warm
//! share for each commercial CDN, the rest by cost inside the quality floor, within capacities.

#[cfg(test)]
mod oracle;
mod pour;

use spillway_model::PathwayId;

use crate::Parameters;
use crate::fill::pour::Pour;
use crate::weights::Shares;

/// A pathway that could carry a part of a region's demand.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub id: PathwayId,
    /// Own node.
    pub own: bool,
    /// Bit/s of the region's demand that it is planned up to.
    pub target: f64,
    /// Bit/s that nothing but a panic exceeds.
    pub ceiling: f64,
    /// 0 (DOWN, draining, excluded) to 1: part of its usual share.
    pub factor: f64,
    /// Bit/s up to which it takes views in an emergency without harm to itself; beyond it only if nobody else can.
    pub gentle: f64,
    /// USD per GB of the next traffic.
    pub price: f64,
    /// The same below `level`, which is paid for.
    pub price_below: f64,
    /// Bit/s of the region's demand that are paid for; 0: none.
    pub level: f64,
    /// Least share that keeps evidence coming.
    pub explore: f64,
    /// Good enough to go by cost.
    pub in_floor: bool,
    /// Bad-window rate, for the panic.
    pub rate: f64,
    /// May carry something when nothing else can: 0 first, 1 next; `None` never.
    pub last_resort: Option<u8>,
}

impl Candidate {
    /// Takes away room for `bits` bit/s that are there already.
    pub(crate) fn take(&mut self, bits: f64) {
        self.target = (self.target - bits).max(0.0);
        self.ceiling = (self.ceiling - bits).max(0.0);
        self.gentle = (self.gentle - bits).max(0.0);
        self.level = (self.level - bits).max(0.0);
    }

    /// Mean USD per GB of `bits` bit/s.
    pub(crate) fn price_at(&self, bits: f64) -> f64 {
        let below = (self.level / bits.max(1.0)).clamp(0.0, 1.0);
        self.price_below * below + self.price * (1.0 - below)
    }
}

/// What keeps all eggs out of one basket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Share of the demand that each commercial CDN keeps.
    pub warm: f64,
    /// Largest part of the commercial traffic on one CDN.
    pub concentration: f64,
}

impl Limits {
    /// Of a region with these pathways, dead ones too: what a region is doesn't change with a fault.
    pub(crate) fn of(candidates: &[Candidate], p: &Parameters) -> Self {
        if candidates.iter().any(|candidate| candidate.own) {
            Self { warm: p.warm_share, concentration: p.concentration }
        } else {
            Self { warm: p.warm_share_small, concentration: p.concentration_small }
        }
    }
}

/// A region's plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filled {
    /// Sum 1, unless there is no pathway at all.
    pub shares: Shares,
    /// Part of the demand that fits nowhere.
    pub unmet: f64,
    /// Everything is dead or full.
    pub panic: bool,
}

/// Plans `demand` bit/s over the candidates (in name order).
pub(crate) fn fill(demand: f64, candidates: &[Candidate], p: &Parameters) -> Filled {
    let demand = demand.max(1.0);
    let usable: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.factor > 0.0).collect();
    if usable.is_empty() {
        return panic_over(candidates);
    }
    let limits = Limits::of(candidates, p);
    let uncapped = vec![1.0; usable.len()];
    let usual = Pour::new(demand, &usable, &uncapped, limits).run();
    let caps: Vec<f64> = usable
        .iter()
        .zip(&usual.shares)
        .map(|(candidate, share)| if candidate.factor < 1.0 { candidate.factor * share } else { 1.0 })
        .collect();
    let mut pour = Pour::new(demand, &usable, &caps, limits).run();
    if pour.left > 1e-9 {
        // Ill but alive is better than overloaded.
        pour.caps = &uncapped;
        pour.overflow();
    }
    let unmet = pour.left;
    if unmet > 1e-9 {
        pour.spread();
    }
    let shares = usable.iter().zip(&pour.shares).map(|(candidate, share)| (candidate.id.clone(), *share)).collect();
    Filled { shares, unmet: if unmet > 1e-9 { unmet } else { 0.0 }, panic: unmet > 1e-9 }
}

/// Part of the demand that own edges would take: what the commercial CDNs' capacity is shared out by.
pub(crate) fn own_part(demand: f64, candidates: &[Candidate], p: &Parameters) -> f64 {
    let demand = demand.max(1.0);
    let own: f64 = candidates.iter().filter(|c| c.own).map(|c| c.target * c.factor).sum();
    let warm = candidates.iter().filter(|c| !c.own && c.factor > 0.0).count() as f64 * Limits::of(candidates, p).warm;
    (own / demand).min((1.0 - warm).max(0.0))
}

/// Everything is dead: what is least bad, by capacity.
fn panic_over(candidates: &[Candidate]) -> Filled {
    let Some(first) = candidates.iter().filter_map(|candidate| candidate.last_resort).min() else {
        return Filled { panic: true, unmet: 1.0, ..Filled::default() };
    };
    let these = || candidates.iter().filter(|candidate| candidate.last_resort == Some(first));
    let least = these().map(|candidate| candidate.rate).fold(f64::INFINITY, f64::min);
    let parts: Shares = these()
        .filter(|candidate| candidate.rate <= least * 1.3 + 0.01)
        .map(|candidate| (candidate.id.clone(), candidate.ceiling.max(1.0)))
        .collect();
    Filled { shares: crate::weights::normalised(&parts), unmet: 0.0, panic: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, target: f64, price: f64) -> Candidate {
        Candidate {
            id: PathwayId::new(id).expect("id"),
            own: id.starts_with("own"),
            target,
            ceiling: target / 0.85 * 0.95,
            factor: 1.0,
            gentle: f64::INFINITY,
            price,
            price_below: price,
            level: 0.0,
            explore: 0.0,
            in_floor: true,
            rate: 0.01,
            last_resort: None,
        }
    }

    /// Three CDNs beside an own edge without room.
    fn three(cheapest: f64) -> [Candidate; 4] {
        [
            candidate("cdn-a", 500.0, cheapest),
            candidate("cdn-b", 500.0, 0.02),
            candidate("cdn-c", 500.0, 0.03),
            candidate("own-1", 0.0, 0.0),
        ]
    }

    fn shares(demand: f64, candidates: &[Candidate]) -> Vec<f64> {
        let filled = fill(demand, candidates, &Parameters::default());
        assert!((filled.shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
        filled.shares.values().map(|share| (share * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn own_edges_come_first_until_their_target_then_the_cheapest() {
        let world = [candidate("cdn-a", 500.0, 0.02), candidate("cdn-b", 500.0, 0.01), candidate("own-1", 80.0, 0.0)];
        assert_eq!(shares(50.0, &world), [0.05, 0.05, 0.9], "all but the warm shares");
        assert_eq!(shares(200.0, &world), [0.18, 0.42, 0.4], "40 % own, 70 % of the rest on the cheapest");
    }

    #[test]
    fn a_full_cdn_overflows_to_the_next_and_then_beyond_the_concentration_limit() {
        let world = [
            candidate("cdn-a", 30.0, 0.01),
            candidate("cdn-b", 500.0, 0.02),
            candidate("cdn-c", 10.0, 0.03),
            candidate("own-1", 0.0, 0.0),
        ];
        assert_eq!(shares(100.0, &world), [0.3, 0.65, 0.05, 0.0]);
        assert_eq!(shares(200.0, &world), [0.15, 0.8, 0.05, 0.0], "nobody else has room");
    }

    #[test]
    fn without_own_edges_two_cdns_carry_a_region_and_the_others_keep_evidence_coming() {
        let mut world =
            [candidate("cdn-a", 500.0, 0.01), candidate("cdn-b", 500.0, 0.02), candidate("cdn-c", 500.0, 0.03)];
        assert_eq!(shares(100.0, &world), [0.7, 0.28, 0.02]);
        let two = Parameters { warm_share_small: 0.005, concentration_small: 0.85, ..Parameters::default() };
        let filled = fill(100.0, &world, &two);
        assert!((filled.shares["cdn-a"] - 0.85).abs() < 1e-9 && (filled.shares["cdn-c"] - 0.005).abs() < 1e-9);
        world[0] = candidate("own-1", 500.0, 0.0);
        world[0].factor = 0.0;
        let filled = fill(100.0, &world, &two);
        assert!((filled.shares["cdn-b"] - 0.7).abs() < 1e-9, "own edges that are down don't make a region small");
    }

    #[test]
    fn a_pathway_outside_the_floor_gets_its_warm_share_only() {
        let mut world = three(0.001);
        world[0].in_floor = false;
        assert_eq!(shares(100.0, &world), [0.05, 0.7, 0.25, 0.0]);
    }

    #[test]
    fn a_degraded_pathway_keeps_a_tenth_and_a_dead_one_nothing() {
        let mut world = three(0.01);
        world[0].factor = 0.10;
        assert_eq!(shares(100.0, &world), [0.07, 0.7, 0.23, 0.0]);
        world[0].factor = 0.0;
        let filled = fill(100.0, &world, &Parameters::default());
        assert!(!filled.shares.contains_key("cdn-a") && !filled.panic);
    }

    #[test]
    fn demand_beyond_everything_is_told_and_fills_own_edges_to_their_ceiling_only() {
        let world = [candidate("cdn-a", 85.0, 0.01), candidate("own-1", 80.0, 0.0)];
        let filled = fill(350.0, &world, &Parameters::default());
        let room = world[0].ceiling + world[1].ceiling;
        assert!((filled.unmet - (1.0 - room / 350.0)).abs() < 1e-6, "{}", filled.unmet);
        assert!(filled.shares["own-1"] * 350.0 <= world[1].ceiling + 0.001);
    }
}

//! Sixth stage: who should carry what, if everybody could be moved at once. Own edges first up to their target, a warm
//! share for each commercial CDN, the rest by cost inside the quality floor, within capacities.

use spillway_model::PathwayId;

use crate::Parameters;
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
    /// USD per GB.
    pub price: f64,
    /// Good enough to go by cost.
    pub in_floor: bool,
    /// Bad-window rate, for the panic.
    pub rate: f64,
    /// May carry something when nothing else can: 0 first, 1 next; `None` never.
    pub last_resort: Option<u8>,
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
    let uncapped = vec![1.0; usable.len()];
    let usual = Pour::new(demand, &usable, &uncapped, p).run();
    let caps: Vec<f64> = usable
        .iter()
        .zip(&usual.shares)
        .map(|(candidate, share)| if candidate.factor < 1.0 { candidate.factor * share } else { 1.0 })
        .collect();
    let mut pour = Pour::new(demand, &usable, &caps, p).run();
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
    let warm = candidates.iter().filter(|c| !c.own && c.factor > 0.0).count() as f64 * p.warm_share;
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

struct Pour<'a> {
    demand: f64,
    candidates: &'a [&'a Candidate],
    caps: &'a [f64],
    p: &'a Parameters,
    shares: Vec<f64>,
    left: f64,
}

impl<'a> Pour<'a> {
    fn new(demand: f64, candidates: &'a [&'a Candidate], caps: &'a [f64], p: &'a Parameters) -> Self {
        Self { demand, candidates, caps, p, shares: vec![0.0; candidates.len()], left: 1.0 }
    }

    fn run(mut self) -> Self {
        self.own_and_warm();
        self.overflow();
        self
    }

    fn limit(&self, index: usize, bits: f64) -> f64 {
        (bits / self.demand).min(self.caps[index]).max(0.0)
    }

    fn own_and_warm(&mut self) {
        for index in 0..self.candidates.len() {
            if !self.candidates[index].own {
                self.shares[index] = self.limit(index, self.candidates[index].target).min(self.p.warm_share);
            }
        }
        let warm: f64 = self.shares.iter().sum();
        let limits: Vec<f64> = self
            .candidates
            .iter()
            .enumerate()
            .map(|(index, candidate)| if candidate.own { self.limit(index, candidate.target) } else { 0.0 })
            .collect();
        let all: f64 = limits.iter().sum();
        if all > 0.0 {
            let part = ((1.0 - warm).max(0.0) / all).min(1.0);
            for (share, limit) in self.shares.iter_mut().zip(&limits) {
                *share += limit * part;
            }
        }
        self.left = (1.0 - self.shares.iter().sum::<f64>()).max(0.0);
    }

    /// By cost: inside the floor and the concentration limit, then outside the floor, then beyond the limit, then up to
    /// the ceiling.
    fn overflow(&mut self) {
        let mut order: Vec<usize> = (0..self.candidates.len()).filter(|index| !self.candidates[*index].own).collect();
        order.sort_by(|a, b| self.candidates[*a].price.total_cmp(&self.candidates[*b].price));
        let own: f64 = self.candidates.iter().zip(&self.shares).filter(|(c, _)| c.own).map(|(_, share)| share).sum();
        let most = self.p.concentration * (1.0 - own).max(0.0);
        let floor: Vec<usize> = order.iter().copied().filter(|index| self.candidates[*index].in_floor).collect();
        self.pour_into(&floor, most, |candidate| candidate.target);
        self.pour_into(&order, most, |candidate| candidate.target);
        self.pour_into(&order, 1.0, |candidate| candidate.target);
        self.pour_into(&order, 1.0, |candidate| candidate.ceiling);
        let nodes: Vec<usize> = (0..self.candidates.len()).filter(|index| self.candidates[*index].own).collect();
        self.pour_into(&nodes, 1.0, |candidate| candidate.target);
    }

    fn pour_into(&mut self, order: &[usize], most: f64, bits: impl Fn(&Candidate) -> f64) {
        for &index in order {
            let room = self.limit(index, bits(self.candidates[index])).min(most) - self.shares[index];
            let take = room.clamp(0.0, self.left);
            self.shares[index] += take;
            self.left -= take;
        }
    }

    /// What fits nowhere goes where there is most capacity; onto own edges only if there is nothing else.
    fn spread(&mut self) {
        let commercial = self.candidates.iter().any(|candidate| !candidate.own && candidate.ceiling > 0.0);
        let parts: Vec<f64> = self
            .candidates
            .iter()
            .map(
                |candidate| {
                    if commercial && candidate.own { 0.0 } else { candidate.ceiling.max(1e-6) * candidate.factor }
                },
            )
            .collect();
        let all: f64 = parts.iter().sum();
        for (share, part) in self.shares.iter_mut().zip(&parts) {
            *share += self.left * part / all;
        }
        self.left = 0.0;
    }
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
            price,
            in_floor: true,
            rate: 0.01,
            last_resort: None,
        }
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
        let world = [candidate("cdn-a", 30.0, 0.01), candidate("cdn-b", 500.0, 0.02), candidate("cdn-c", 10.0, 0.03)];
        assert_eq!(shares(100.0, &world), [0.3, 0.65, 0.05]);
        assert_eq!(shares(200.0, &world), [0.15, 0.8, 0.05], "nobody else has room");
    }

    #[test]
    fn a_pathway_outside_the_floor_gets_its_warm_share_only() {
        let mut world =
            [candidate("cdn-a", 500.0, 0.001), candidate("cdn-b", 500.0, 0.02), candidate("cdn-c", 500.0, 0.03)];
        world[0].in_floor = false;
        assert_eq!(shares(100.0, &world), [0.05, 0.7, 0.25]);
    }

    #[test]
    fn a_degraded_pathway_keeps_a_tenth_and_a_dead_one_nothing() {
        let mut world =
            [candidate("cdn-a", 500.0, 0.01), candidate("cdn-b", 500.0, 0.02), candidate("cdn-c", 500.0, 0.03)];
        world[0].factor = 0.10;
        assert_eq!(shares(100.0, &world), [0.07, 0.7, 0.23]);
        world[0].factor = 0.0;
        let filled = fill(100.0, &world, &Parameters::default());
        assert!(!filled.shares.contains_key("cdn-a") && !filled.panic);
    }

    #[test]
    fn demand_beyond_everything_is_told_and_stays_off_own_edges() {
        let world = [candidate("cdn-a", 85.0, 0.01), candidate("own-1", 80.0, 0.0)];
        let filled = fill(350.0, &world, &Parameters::default());
        assert!((filled.unmet - 0.5).abs() < 0.01, "{}", filled.unmet);
        assert!(filled.shares["own-1"] * 350.0 <= 80.001);
    }
}

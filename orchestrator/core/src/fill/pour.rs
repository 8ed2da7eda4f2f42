//! The greedy fill itself.

use crate::fill::{Candidate, Limits};

pub(super) struct Pour<'a> {
    demand: f64,
    candidates: &'a [&'a Candidate],
    pub caps: &'a [f64],
    limits: Limits,
    pub shares: Vec<f64>,
    pub left: f64,
}

/// A part of a commercial candidate's room with one price.
#[derive(Clone, Copy)]
struct Slice {
    index: usize,
    /// Bit/s up to which this price holds.
    upto: f64,
    price: f64,
}

impl<'a> Pour<'a> {
    pub(super) fn new(demand: f64, candidates: &'a [&'a Candidate], caps: &'a [f64], limits: Limits) -> Self {
        Self { demand, candidates, caps, limits, shares: vec![0.0; candidates.len()], left: 1.0 }
    }

    pub(super) fn run(mut self) -> Self {
        self.own_and_warm();
        self.overflow();
        self
    }

    fn limit(&self, index: usize, bits: f64) -> f64 {
        (bits / self.demand).min(self.caps[index]).max(0.0)
    }

    /// Own edges share what the least shares of the others leave, in proportion to their room.
    fn own_and_warm(&mut self) {
        for (index, candidate) in self.candidates.iter().enumerate() {
            let least = if candidate.own { candidate.explore } else { candidate.explore.max(self.limits.warm) };
            if !candidate.own {
                self.shares[index] = self.limit(index, candidate.target).min(least);
            }
        }
        let warm: f64 = self.shares.iter().sum();
        let limits: Vec<f64> = self
            .candidates
            .iter()
            .enumerate()
            .map(|(index, c)| if c.own { self.limit(index, c.target.min(c.gentle)) } else { 0.0 })
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

    /// Commercial room by price; what is paid for already comes first. At the same price a level comes before a volume:
    /// what isn't used of it now is lost, a volume can be used later.
    fn slices(&self) -> Vec<Slice> {
        let mut out = Vec::with_capacity(self.candidates.len() * 2);
        for (index, candidate) in self.candidates.iter().enumerate().filter(|(_, candidate)| !candidate.own) {
            if candidate.level > 0.0 {
                out.push(Slice { index, upto: candidate.level, price: candidate.price_below });
            }
            out.push(Slice { index, upto: f64::INFINITY, price: candidate.price });
        }
        out.sort_by(|a, b| a.price.total_cmp(&b.price).then(a.upto.is_infinite().cmp(&b.upto.is_infinite())));
        out
    }

    /// By cost: inside the floor and the concentration limit, then outside the floor, then beyond the limit, then up to
    /// the ceiling. In an emergency all of it first as far as it is gentle.
    pub(super) fn overflow(&mut self) {
        let order = self.slices();
        let own: f64 = self.candidates.iter().zip(&self.shares).filter(|(c, _)| c.own).map(|(_, share)| share).sum();
        let most = self.limits.concentration * (1.0 - own).max(0.0);
        let floor: Vec<Slice> = order.iter().copied().filter(|slice| self.candidates[slice.index].in_floor).collect();
        let gentle = |candidate: &Candidate| candidate.target.min(candidate.gentle);
        self.pour_into(&floor, most, gentle);
        self.pour_into(&order, most, gentle);
        self.pour_into(&order, 1.0, gentle);
        let hasty = self.candidates.iter().any(|candidate| candidate.gentle < candidate.target);
        if hasty {
            self.pour_into(&self.nodes(), 1.0, |candidate| candidate.target);
            self.pour_into(&floor, most, |candidate| candidate.target);
            self.pour_into(&order, 1.0, |candidate| candidate.target);
        }
        self.pour_into(&order, 1.0, |candidate| candidate.ceiling);
        self.pour_into(&self.nodes(), 1.0, |candidate| candidate.ceiling);
    }

    fn nodes(&self) -> Vec<Slice> {
        let own = self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.own);
        own.map(|(index, _)| Slice { index, upto: f64::INFINITY, price: 0.0 }).collect()
    }

    fn pour_into(&mut self, order: &[Slice], most: f64, bits: impl Fn(&Candidate) -> f64) {
        for slice in order {
            let index = slice.index;
            let upto = bits(self.candidates[index]).min(slice.upto);
            let room = self.limit(index, upto).min(most) - self.shares[index];
            let take = room.clamp(0.0, self.left);
            self.shares[index] += take;
            self.left -= take;
        }
    }

    /// What fits nowhere goes where there is most capacity; onto own edges only if there is nothing else.
    pub(super) fn spread(&mut self) {
        let commercial = self.candidates.iter().any(|candidate| !candidate.own && candidate.ceiling > 0.0);
        let parts: Vec<f64> = self
            .candidates
            .iter()
            .map(|c| if commercial && c.own { 0.0 } else { c.ceiling.max(1e-6) * c.factor })
            .collect();
        let all: f64 = parts.iter().sum();
        for (share, part) in self.shares.iter_mut().zip(&parts) {
            *share += self.left * part / all;
        }
        self.left = 0.0;
    }
}

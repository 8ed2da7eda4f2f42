//! The cheapest way to carry all demand within ceilings, exactly: a transportation problem with few sinks, solved by
//! successive shortest paths over the sinks (Ahuja, Magnanti, Orlin: Network Flows, chapter 9).

/// Sources are cohorts, sinks pathways. `cost` is flat, source × sink, per unit; infinite where it can't go.
pub(crate) struct Problem<'a> {
    pub demand: &'a [f64],
    pub room: &'a [f64],
    pub cost: &'a [f64],
}

/// Flow, source × sink; what fits nowhere is left out.
pub(crate) fn solve(problem: &Problem<'_>) -> Vec<f64> {
    let mut state = State {
        problem,
        n: problem.room.len(),
        flow: vec![0.0; problem.cost.len()],
        room: problem.room.to_vec(),
        step: vec![(f64::INFINITY, 0); problem.room.len() * problem.room.len()],
    };
    for source in 0..problem.demand.len() {
        state.place(source);
    }
    state.flow
}

struct State<'a> {
    problem: &'a Problem<'a>,
    n: usize,
    flow: Vec<f64>,
    room: Vec<f64>,
    /// Cheapest way to push a unit from sink to sink: its cost and the source that is moved.
    step: Vec<(f64, usize)>,
}

impl State<'_> {
    fn place(&mut self, source: usize) {
        let mut left = self.problem.demand[source];
        let least = 1e-9 * self.problem.demand[source].max(1.0);
        // Each turn fills a sink or empties a source's share of one; the bound is for rounding only.
        for _ in 0..64 * self.n {
            if left <= least {
                return;
            }
            let Some(path) = self.cheapest(source) else { return };
            let moved = path.windows(2).map(|pair| {
                let (_, other) = self.step[pair[0] * self.n + pair[1]];
                self.flow[other * self.n + pair[0]]
            });
            let amount = moved.fold(left.min(self.room[path[path.len() - 1]]), f64::min);
            for pair in path.windows(2) {
                let (_, other) = self.step[pair[0] * self.n + pair[1]];
                self.flow[other * self.n + pair[0]] -= amount;
                self.flow[other * self.n + pair[1]] += amount;
            }
            self.flow[source * self.n + path[0]] += amount;
            self.room[path[path.len() - 1]] -= amount;
            left -= amount;
            path.iter().for_each(|sink| self.refresh(*sink));
        }
    }

    /// Sinks from the first one to one with room, cheapest in total (Bellman and Ford: steps may have negative costs).
    fn cheapest(&self, source: usize) -> Option<Vec<usize>> {
        let cost = &self.problem.cost[source * self.n..(source + 1) * self.n];
        let mut total = cost.to_vec();
        let mut from: Vec<Option<usize>> = vec![None; self.n];
        for _ in 0..self.n {
            let mut changed = false;
            for a in 0..self.n {
                for b in 0..self.n {
                    let through = total[a] + self.step[a * self.n + b].0;
                    if through < total[b] - 1e-9 {
                        (total[b], from[b]) = (through, Some(a));
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        let open = (0..self.n).filter(|sink| self.room[*sink] > 1e-6 && total[*sink].is_finite());
        let mut at = open.min_by(|a, b| total[*a].total_cmp(&total[*b]))?;
        let mut path = vec![at];
        while let Some(before) = from[at].filter(|_| path.len() <= self.n) {
            path.push(before);
            at = before;
        }
        path.reverse();
        Some(path)
    }

    fn refresh(&mut self, sink: usize) {
        for to in 0..self.n {
            let mut best = (f64::INFINITY, 0);
            for source in (0..self.problem.demand.len()).filter(|_| to != sink) {
                if self.flow[source * self.n + sink] > 1e-6 {
                    let cost = self.problem.cost[source * self.n + to] - self.problem.cost[source * self.n + sink];
                    if cost < best.0 {
                        best = (cost, source);
                    }
                }
            }
            self.step[sink * self.n + to] = best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    fn total(cost: &[f64], flow: &[f64]) -> f64 {
        cost.iter().zip(flow).filter(|(_, flow)| **flow > 0.0).map(|(cost, flow)| cost * flow).sum()
    }

    #[test]
    fn no_pair_of_sources_could_swap_to_its_gain() {
        let (sources, sinks) = (12, 5);
        for seed in 0..20 {
            let cost: Vec<f64> = (0..sources * sinks).map(|i| unit(&[seed, i as u64])).collect();
            let demand: Vec<f64> = (0..sources).map(|i| 1e6 * (1.0 + 9.0 * unit(&[seed, 99, i as u64]))).collect();
            let all: f64 = demand.iter().sum();
            let room: Vec<f64> = (0..sinks).map(|i| all * (0.15 + 0.3 * unit(&[seed, 98, i as u64]))).collect();
            let flow = solve(&Problem { demand: &demand, room: &room, cost: &cost });
            let placed: f64 = flow.iter().sum();
            assert!((placed - all.min(room.iter().sum())).abs() < 1.0, "{placed} of {all}");
            for sink in 0..sinks {
                let load: f64 = (0..sources).map(|s| flow[s * sinks + sink]).sum();
                assert!(load <= room[sink] + 1.0);
            }
            for (a, b) in (0..sources).flat_map(|a| (0..sources).map(move |b| (a, b))) {
                for (p, q) in (0..sinks).flat_map(|p| (0..sinks).map(move |q| (p, q))) {
                    let part = flow[a * sinks + p].min(flow[b * sinks + q]);
                    if part > 1.0 {
                        let gain =
                            cost[a * sinks + p] + cost[b * sinks + q] - cost[a * sinks + q] - cost[b * sinks + p];
                        assert!(gain < 1e-6, "seed {seed}: swapping saves {gain}, of {}", total(&cost, &flow));
                    }
                }
            }
        }
    }
}

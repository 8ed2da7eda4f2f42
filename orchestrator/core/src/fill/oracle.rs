//! The exact optimum of one region by linear programming, to know what the greedy fill gives away: nothing, within
//! rounding. With one price per pathway, or a lower one below a level, own edges at no cost and these limits, cheapest
//! first is optimal.

use proptest::prelude::*;
use spillway_model::PathwayId;

use crate::Parameters;
use crate::fill::{Candidate, Limits, fill};

/// Least `cost · y` with `rows · y ≤ limits` and `y ≥ 0`, for costs of 0 or more: the dual simplex on a dense tableau.
/// `None` if nothing fits. (A solver crate would pull other features of the query engine's dependencies into every
/// test build; microlp 0.7 gave the same optimum in 3,000 such worlds.)
fn least_cost(cost: &[f64], rows: &[Vec<f64>], limits: &[f64]) -> Option<f64> {
    let count = cost.len();
    let mut tableau: Vec<Vec<f64>> = rows
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let slack = (0..rows.len()).map(|other| f64::from(u8::from(other == at)));
            row.iter().copied().chain(slack).chain([limits[at]]).collect()
        })
        .collect();
    let width = count + rows.len();
    let mut reduced: Vec<f64> = cost.iter().copied().chain(std::iter::repeat_n(0.0, rows.len() + 1)).collect();
    for _ in 0..10_000 {
        let lowest = (0..tableau.len()).min_by(|a, b| tableau[*a][width].total_cmp(&tableau[*b][width]))?;
        if tableau[lowest][width] >= -1e-7 {
            return Some(-reduced[width]);
        }
        let ratio = |column: &usize| reduced[*column] / -tableau[lowest][*column];
        let column = (0..width)
            .filter(|column| tableau[lowest][*column] < -1e-12)
            .min_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
        let pivot = tableau[lowest][column];
        tableau[lowest].iter_mut().for_each(|value| *value /= pivot);
        let row = tableau[lowest].clone();
        for (at, other) in tableau.iter_mut().enumerate() {
            let factor = other[column];
            if at != lowest && factor != 0.0 {
                other.iter_mut().zip(&row).for_each(|(value, base)| *value -= factor * base);
            }
        }
        let factor = reduced[column];
        reduced.iter_mut().zip(&row).for_each(|(value, base)| *value -= factor * base);
    }
    None
}

/// USD per GB × bit/s of the cheapest plan; `None` if the demand doesn't fit under the targets and the limits.
///
/// min Σ price x, subject to Σ x ≥ demand; x ≤ target; a commercial x ≥ warm × demand, as far as its target allows, and
/// ≤ concentration × all commercial x.
fn cheapest(demand: f64, candidates: &[Candidate], p: &Parameters) -> Option<f64> {
    let Limits { warm, concentration } = Limits::of(candidates, p);
    let least: Vec<f64> = candidates.iter().map(|c| if c.own { 0.0 } else { (warm * demand).min(c.target) }).collect();
    let mut rows = vec![vec![-1.0; candidates.len()]];
    let mut limits = vec![least.iter().sum::<f64>() - demand];
    let kept: f64 = candidates.iter().zip(&least).filter(|(c, _)| !c.own).map(|(_, least)| least).sum();
    for (index, c) in candidates.iter().enumerate() {
        rows.push((0..candidates.len()).map(|other| f64::from(u8::from(other == index))).collect());
        limits.push(c.target - least[index]);
        if !c.own {
            let part = |(other, c): (usize, &Candidate)| {
                if c.own { 0.0 } else { f64::from(u8::from(other == index)) - concentration }
            };
            rows.push(candidates.iter().enumerate().map(part).collect());
            limits.push(concentration * kept - least[index]);
        }
    }
    let cost: Vec<f64> = candidates.iter().map(|c| c.price).collect();
    let fixed: f64 = cost.iter().zip(&least).map(|(cost, least)| cost * least).sum();
    Some(fixed + least_cost(&cost, &rows, &limits)?)
}

#[test]
fn the_oracle_solves_a_problem_with_a_known_answer() {
    // min 2a + 3b with a + b ≥ 10, a ≤ 4, b ≤ 8: a = 4, b = 6.
    let rows = [vec![-1.0, -1.0], vec![1.0, 0.0], vec![0.0, 1.0]];
    let least = least_cost(&[2.0, 3.0], &rows, &[-10.0, 4.0, 8.0]).expect("it fits");
    assert!((least - 26.0).abs() < 1e-9, "{least}");
    assert_eq!(least_cost(&[2.0, 3.0], &rows, &[-13.0, 4.0, 8.0]), None);
}

fn candidate(index: usize, own: bool, target: f64, price: f64) -> Candidate {
    let id = format!("{}-{index}", if own { "own" } else { "cdn" });
    Candidate {
        id: PathwayId::new(&id).expect("an id"),
        own,
        target,
        ceiling: target / 0.85 * 0.95,
        gentle: f64::INFINITY,
        factor: 1.0,
        price,
        price_below: price,
        level: 0.0,
        explore: 0.0,
        in_floor: true,
        rate: 0.01,
        last_resort: Some(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_greedy_fill_costs_what_the_exact_optimum_costs(
        cdns in prop::collection::vec((50.0_f64..1000.0, 1_u32..50), 2..6),
        nodes in prop::collection::vec(10.0_f64..300.0, 0..4),
        load in 0.05_f64..0.95,
    ) {
        let p = Parameters::default();
        let commercial = cdns.iter().enumerate().map(|(i, (target, price))| candidate(i, false, *target, f64::from(*price) / 1e3));
        let own = nodes.iter().enumerate().map(|(i, target)| candidate(i, true, *target, 0.0));
        let world: Vec<Candidate> = commercial.chain(own).collect();
        let demand = load * world.iter().map(|c| c.target).sum::<f64>();
        let filled = fill(demand, &world, &p);
        let Some(best) = cheapest(demand, &world, &p) else { return Ok(()) };
        let cost: f64 = world.iter().map(|c| filled.shares.get(&c.id).copied().unwrap_or(0.0) * demand * c.price).sum();
        let over: f64 = world.iter().map(|c| filled.shares.get(&c.id).copied().unwrap_or(0.0) * demand - c.target).fold(0.0, f64::max);
        prop_assert!(over <= 1e-6 * demand, "{over} above a target");
        prop_assert!((cost - best).abs() <= best * 1e-6 + 1e-6, "{} of {}", cost, best);
    }
}

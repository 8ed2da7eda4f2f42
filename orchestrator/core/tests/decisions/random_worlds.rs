use proptest::prelude::*;
use spillway_model::PathwayState;
use spillway_orchestrator_core::{OverrideKind, RoundOutput};
use spillway_routing::Target;

use crate::world::{World, setup};

const IDS: [&str; 5] = ["cdn-a", "cdn-b", "cdn-c", "own-1", "own-2"];

#[derive(Clone, Debug)]
struct Random {
    mbps: Vec<u64>,
    price: Vec<u32>,
    views: Vec<u64>,
    failing: Vec<bool>,
    probes: Vec<bool>,
    excluded: Option<usize>,
    rounds: u64,
}

fn random_world() -> impl Strategy<Value = Random> {
    let per_pathway = |range: std::ops::Range<u64>| prop::collection::vec(range, IDS.len());
    (
        per_pathway(50..2000),
        prop::collection::vec(0_u32..50, IDS.len()),
        prop::collection::vec(0_u64..400, IDS.len() * 2),
        prop::collection::vec(prop::bool::weighted(0.2), IDS.len()),
        prop::collection::vec(prop::bool::weighted(0.9), IDS.len()),
        prop::option::of(0..IDS.len()),
        1_u64..12,
    )
        .prop_map(|(mbps, price, views, failing, probes, excluded, rounds)| Random {
            mbps,
            price,
            views,
            failing,
            probes,
            excluded,
            rounds,
        })
}

fn build(random: &Random) -> World {
    let pathways: Vec<(&str, u64, f64)> =
        IDS.iter().enumerate().map(|(i, id)| (*id, random.mbps[i], f64::from(random.price[i]) / 1000.0)).collect();
    let mut world = World::new(setup(&["eu", "us"], &pathways));
    for (j, at) in ["eu", "us"].iter().enumerate() {
        for (i, id) in IDS.iter().enumerate() {
            let crowd = world.crowd(at, id, 1);
            crowd.views = random.views[i + j * IDS.len()];
            crowd.failing = if random.failing[i] { 0.5 } else { 0.0 };
            world.probes.insert(((*at).to_owned(), (*id).to_owned()), random.probes[i]);
        }
    }
    if let Some(index) = random.excluded {
        world.order("o-1", OverrideKind::Exclude, IDS[index], 3600);
    }
    world
}

fn run(random: &Random) -> RoundOutput {
    build(random).rounds(random.rounds)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn plans_are_exact_bounded_and_reproducible(random in random_world()) {
        let output = run(&random);
        let again = run(&random);
        let mut planned = [0.0; IDS.len()];
        let mut panic = false;
        for (region, plan) in &output.regions {
            prop_assert_eq!(&plan.manifest, &again.regions[region].manifest);
            let rule = &plan.manifest.cohorts[0];
            prop_assert_eq!(rule.weights_new.values().sum::<u32>(), 1_000_000);
            prop_assert_eq!(rule.weights_running.values().sum::<u32>(), 1_000_000);
            let desperate = plan.verdicts.iter().any(|verdict| verdict.starts_with("PANIC: no pathway"));
            panic |= plan.verdicts.iter().any(|verdict| verdict.starts_with("PANIC"));
            for (target, weight) in &rule.weights_new {
                let Target::Pathway(id) = target else { panic!("{target:?} is a group") };
                let index = IDS.iter().position(|name| *name == id.as_str()).expect("known");
                planned[index] += f64::from(*weight) / 1e6 * plan.demand.0 as f64;
                prop_assert!(Some(index) != random.excluded, "{} is excluded", id);
                let dead = plan.manifest.pathways[id].state == PathwayState::Down;
                prop_assert!(!dead || desperate, "{} is DOWN", id);
            }
        }
        for (index, bits) in planned.iter().enumerate() {
            let ceiling = random.mbps[index] as f64 * 1e6;
            prop_assert!(panic || *bits <= 0.951 * ceiling, "{} at {} of {}", IDS[index], bits, ceiling);
        }
    }
}

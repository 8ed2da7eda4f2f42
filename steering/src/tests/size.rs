//! How much memory manifests take.

use spillway_model::PathwayState;
use spillway_routing::Manifest;

use super::fixtures::{manifest, weights};
use crate::prepared::Prepared;

const REGIONS: usize = 1_000;
const COHORTS: u32 = 100;
/// The design's bound for all of them.
const MB_MAX: f64 = 64.0;

/// Memory of this process that is really there.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1e3
}

/// A region in which each of a hundred networks has weights of its own, as it comes over the wire.
fn with_many_cohorts(number: usize) -> Vec<u8> {
    let mut out = manifest(1, &[("own-x", 600_000), ("cdn-a", 300_000), ("cdn-b", 100_000)]);
    let everyone = out.cohorts[0].clone();
    out.pathways.values_mut().for_each(|pathway| pathway.reason = format!("well in region {number}"));
    out.pathways.get_mut("cdn-c").expect("there").state = PathwayState::Degraded;
    out.cohorts.extend((1..COHORTS).map(|network| {
        let mut rule = everyone.clone();
        rule.asn = Some(64_000 + network);
        rule.weights_new = weights(&[("own-x", 500_000 + network), ("cdn-a", 300_000), ("cdn-b", 200_000 - network)]);
        rule.weights_running = rule.weights_new.clone();
        rule.reason = format!("AS{} is ill on cdn-c", 64_000 + network);
        rule
    }));
    spillway_wire::manifest::to_bytes(&out)
}

#[test]
fn a_thousand_regions_of_a_hundred_cohorts_take_64_mb() {
    let read = |bytes: &[u8]| -> Manifest { spillway_wire::manifest::parse(bytes).expect("a manifest") };
    // What the first one needs of libraries is not counted.
    drop(Prepared::new(read(&with_many_cohorts(0))));
    let before = resident_mb();
    let all: Vec<Prepared> = (0..REGIONS).map(|number| Prepared::new(read(&with_many_cohorts(number)))).collect();
    let taken = resident_mb() - before;
    assert_eq!(all.iter().map(|one| one.cohorts.len()).sum::<usize>(), REGIONS * COHORTS as usize);
    println!("{taken:.1} MB");
    assert!(taken <= MB_MAX, "{taken:.1} MB, more than {MB_MAX}");
}

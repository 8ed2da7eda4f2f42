//! The short form of `cargo xtask crash`.

use spillway_system_tests::crash::{Campaign, run};
use spillway_system_tests::spillway;

fn short(seed: u64, collectors: usize) -> Campaign {
    Campaign {
        spillway: spillway(),
        dir: std::path::PathBuf::new(),
        rounds: 3,
        seed,
        collectors,
        moto_server: None,
        beacons_per_s: 200,
        talk: false,
    }
}

#[test]
fn three_kills_lose_nothing_and_store_nothing_twice() {
    let dir = tempfile::tempdir().expect("dir");
    let outcome = run(&Campaign { dir: dir.path().to_owned(), ..short(7, 1) }).expect("a campaign");
    assert!(outcome.good, "{}", outcome.json);
    assert!(outcome.acknowledged > 2_000, "hardly any load: {}", outcome.json);
    assert_eq!((outcome.lost, outcome.duplicated, outcome.raw_duplicates), (0, 0, 0), "{}", outcome.json);
}

#[test]
fn views_that_move_between_two_killed_collectors_are_whole_and_read_once() {
    let dir = tempfile::tempdir().expect("dir");
    let outcome = run(&Campaign { dir: dir.path().to_owned(), ..short(8, 2) }).expect("a campaign");
    assert!(outcome.good, "{}", outcome.json);
    assert_eq!((outcome.lost, outcome.duplicated), (0, 0), "{}", outcome.json);
}

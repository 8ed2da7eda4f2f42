//! Kinds of evidence beside bad windows and failed requests.

use std::collections::BTreeMap;

use spillway_model::PathwayState::{Degraded, Down, Healthy, Recovering, Unknown};
use spillway_model::{BitsPerSecond, ContentId, OriginGroupId, PathwayId, Verdict};
use spillway_orchestrator_core::{CellEvidence, OriginEvidence, OriginSeen, RoundOutput, SourceKind};

use crate::world::{Crowd, World, pathway, region, state_of, weight};

fn has(output: &RoundOutput, verdict: Verdict) -> bool {
    output.regions["eu"].findings.iter().any(|note| note.verdict == verdict)
}

/// A round with a steering node's counters by pathway: (assigned, started elsewhere counted, ghosts, untrusted).
fn steered(world: &mut World, cells: &[(&str, u64, u64, u64)]) -> RoundOutput {
    world.extra = cells
        .iter()
        .map(|(id, assigned, ghosts, untrusted)| {
            let empty = CellEvidence::empty(world.now, "steer-1", SourceKind::Steer, pathway(id), region("eu"));
            CellEvidence {
                sessions_assigned: *assigned,
                ghost_starts: *ghosts,
                sessions_untrusted: *untrusted,
                ..empty
            }
        })
        .collect();
    world.round()
}

#[test]
fn playlists_after_which_nothing_is_heard_are_evidence_against_their_pathway() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100)]);
    world.rounds(30);
    for id in ["cdn-a", "cdn-b"] {
        world.crowd("eu", id, 1).starting = 5;
    }
    let mut output = steered(&mut world, &[("cdn-a", 20, 6, 0), ("cdn-b", 20, 0, 0)]);
    assert_eq!(state_of(&output, "cdn-a"), Healthy, "one in two seconds proves little");
    for _ in 0..5 {
        output = steered(&mut world, &[("cdn-a", 20, 20, 0), ("cdn-b", 20, 0, 0)]);
    }
    assert_eq!(state_of(&output, "cdn-a"), Degraded, "{:?}", world.changes());
    let note = output.regions["eu"].findings.iter().find(|note| note.verdict == Verdict::Path).expect("a finding");
    assert!(note.text.contains("starts of which nothing was heard again"), "{}", note.text);
}

#[test]
fn a_flood_without_tokens_is_abuse_and_no_audience() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100)]);
    let before = world.rounds(30);
    let mut output = steered(&mut world, &[("cdn-a", 5, 0, 500)]);
    assert!(has(&output, Verdict::Abuse), "{:?}", output.regions["eu"].verdicts);
    for _ in 0..10 {
        output = steered(&mut world, &[("cdn-a", 5, 0, 500)]);
    }
    let (was, is) = (before.regions["eu"].demand.0, output.regions["eu"].demand.0);
    assert!(is < was * 13 / 10, "{was} to {is}");
}

#[test]
fn one_in_twenty_that_lies_about_one_pathway_moves_less_than_a_point() {
    let honest = |lies: bool| {
        let mut world = World::one_region(&[("cdn-a", 400), ("cdn-b", 400), ("cdn-c", 400)]);
        world.counts_bad_views = true;
        world.noise = Some(11);
        world.rounds(60);
        if lies {
            world.crowd("eu", "cdn-a", 1).liars = 20;
        }
        let output = world.rounds(300);
        assert_eq!(world.changes(), Vec::<&str>::new());
        ["cdn-a", "cdn-b", "cdn-c"].map(|id| weight(&output, id))
    };
    for (with, without) in honest(true).into_iter().zip(honest(false)) {
        assert!(with.abs_diff(without) <= 10_000, "{with} instead of {without}");
    }
}

/// A steering node's gauges: sessions that poll, by the pathway that they were sent to.
fn polled(world: &mut World, cells: &[(&str, u64)]) -> RoundOutput {
    world.extra = cells
        .iter()
        .map(|(id, polling)| {
            let empty = CellEvidence::empty(world.now, "steer-1", SourceKind::Steer, pathway(id), region("eu"));
            CellEvidence { sessions_polling: *polling, ..empty }
        })
        .collect();
    world.round()
}

/// 1,500 views on `cdn-a` and 300 on `cdn-b`, and steering that knows it.
fn large_and_small() -> World {
    let mut world = World::one_region(&[("cdn-a", 1500), ("cdn-b", 300)]);
    world.counts_bad_views = true;
    for _ in 0..30 {
        polled(&mut world, &SENT);
    }
    world
}

const SENT: [(&str, u64); 2] = [("cdn-a", 1400), ("cdn-b", 280)];

#[test]
fn clients_that_accuse_a_pathway_to_which_nobody_sent_them_are_not_believed() {
    let run = |known: bool| {
        let mut world = large_and_small();
        world.crowd("eu", "cdn-a", 1).views = 1310;
        *world.crowd("eu", "cdn-b", 1) =
            Crowd { views: 490, liars: 190, failing: 190.0 / 490.0, bad: 0.009, ..Crowd::default() };
        let mut accused = false;
        for _ in 0..100 {
            let output = if known { polled(&mut world, &SENT) } else { world.round() };
            accused |= has(&output, Verdict::Abuse);
        }
        // When the lies end, what was told of the last minute isn't believed either.
        *world.crowd("eu", "cdn-b", 1) = Crowd { views: 300, bad: 0.009, ..Crowd::default() };
        for _ in 0..30 {
            polled(&mut world, &SENT);
        }
        (accused, world.changes().len())
    };
    assert_eq!(run(true), (true, 0));
    assert!(run(false).1 > 0, "without steering's counts nobody can tell");
}

#[test]
fn views_that_fled_from_a_dead_pathway_are_believed_where_nobody_sent_them() {
    let mut world = large_and_small();
    let crowd = |views, failing| Crowd { views, failing, bad: 0.3, ..Crowd::default() };
    *world.crowd("eu", "cdn-a", 1) = crowd(800, 0.5);
    *world.crowd("eu", "cdn-b", 1) = crowd(1000, 0.6);
    for _ in 0..5 {
        assert!(!has(&polled(&mut world, &SENT), Verdict::Abuse));
    }
}

#[test]
fn players_that_nobody_steers_are_believed_when_their_pathway_dies() {
    let mut world = World::one_region(&[("cdn-a", 1500), ("cdn-b", 900)]);
    world.counts_bad_views = true;
    for _ in 0..60 {
        polled(&mut world, &SENT);
    }
    world.crowd("eu", "cdn-b", 1).failing = 0.6;
    let down = (0..5).any(|_| state_of(&polled(&mut world, &SENT), "cdn-b") == Down);
    assert!(down, "{:?}", world.changes());
}

#[test]
fn a_brownout_counts_in_full_where_bad_views_are_counted() {
    let mut world = World::one_region(&[("cdn-a", 50), ("cdn-b", 50)]);
    world.counts_bad_views = true;
    world.rounds(100);
    world.crowd("eu", "cdn-a", 1).bad = 0.08;
    assert!(world.rounds_until("cdn-a", Degraded, 60).is_some(), "{:?}", world.changes());
}

#[test]
fn without_measurements_states_are_unknown_until_they_have_been_back_for_two_minutes() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 40)]);
    let before = world.rounds(30);
    world.deaf = true;
    let dark = world.rounds(20);
    assert_eq!(state_of(&dark, "cdn-a"), Unknown);
    assert_eq!(weight(&dark, "cdn-a"), weight(&before, "cdn-a"));
    world.deaf = false;
    assert_eq!(state_of(&world.rounds(20), "cdn-a"), Unknown);
    assert_eq!(state_of(&world.rounds(60), "cdn-a"), Healthy);
}

#[test]
fn after_long_blindness_weights_go_back_to_the_static_ones() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 40)]);
    let before = weight(&world.rounds(30), "cdn-a");
    world.deaf = true;
    assert_eq!(weight(&world.rounds(440), "cdn-a"), before, "15 minutes nothing");
    let halfway = weight(&world.rounds(450), "cdn-a");
    let end = weight(&world.rounds(600), "cdn-a");
    assert!(before > halfway && halfway > end, "{before} {halfway} {end}");
    assert_eq!(end, 500_000);
}

#[test]
fn an_hour_of_the_week_that_is_usually_worse_is_no_brownout() {
    let hour = u8::try_from((crate::world::START_S / 3600 + 72) % 168).expect("below 168");
    let run = |usual: f64| {
        let mut world = World::one_region(&[("cdn-a", 50), ("cdn-b", 50)]);
        let key = |id: &str| (pathway(id), region("eu"), hour);
        world.learned.baselines = BTreeMap::from([(key("cdn-a"), usual), (key("cdn-b"), 0.01)]);
        world.crowd("eu", "cdn-a", 1).bad = 0.035;
        world.rounds(120);
        world.changes().len()
    };
    assert_eq!(run(0.03), 0);
    assert!(run(0.005) > 0);
}

fn origin(world: &World, state: OriginSeen, content: &[&str]) -> OriginEvidence {
    OriginEvidence {
        origin_group: OriginGroupId::new("origin").expect("id"),
        at: world.now,
        bits_out_10s: BitsPerSecond(1_000_000),
        state,
        failing_content: content.iter().map(|id| ContentId::new(id).expect("id")).collect(),
    }
}

#[test]
fn an_origin_that_says_it_fails_protects_pathways_and_names_its_titles() {
    let mut world = World::one_region(&[("cdn-a", 110), ("cdn-b", 40)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.4;
    world.origins = vec![origin(&world, OriginSeen::Failing, &["vod/one"])];
    let output = world.round();
    assert_eq!(state_of(&output, "cdn-a"), Healthy);
    let titles = |note: &spillway_orchestrator_core::FindingNote| note.content.len();
    assert!(output.regions["eu"].findings.iter().any(|note| titles(note) == 1), "{:?}", output.regions["eu"].verdicts);
}

#[test]
fn running_views_try_a_down_pathway_in_turns_and_bring_it_back() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 400)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.rounds_until("cdn-a", Down, 3).expect("down");
    let dead: PathwayId = pathway("cdn-a");
    let crowd = world.crowd("eu", "cdn-a", 1);
    (crowd.failing, crowd.views, crowd.asking) = (0.0, 20, 4);
    let mut turns: Vec<String> = Vec::new();
    let mut back = None;
    for round in 0..90 {
        let output = world.round();
        for (id, probe) in &output.regions["eu"].manifest.probes {
            assert_eq!(*id, dead);
            assert!((0.035..=0.05).contains(&probe.share.as_fraction()), "20 of 420 views: {}", probe.share);
            if !turns.contains(&probe.turn) {
                turns.push(probe.turn.clone());
            }
        }
        if state_of(&output, "cdn-a") == Recovering && back.is_none() {
            back = Some(round);
        }
    }
    assert!(!turns.is_empty(), "tried in the second half of the hold");
    assert!(back.is_some_and(|round| (58..70).contains(&round)), "after the hold, without our own probes: {back:?}");
}

#[test]
fn views_that_try_in_vain_keep_a_pathway_down_though_our_own_probes_are_well() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 400)]);
    world.probe_all(&["eu"], &["cdn-a", "cdn-b"]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    world.rounds_until("cdn-a", Down, 3).expect("down");
    world.rounds(200);
    assert_eq!(world.changes().len(), 1, "{:?}", world.changes());
}

#[test]
fn an_origin_that_suffers_from_our_move_gets_it_back() {
    let pathways = [("cdn-a", 10_000, 0.01), ("cdn-b", 10_000, 0.02), ("own-1", 400, 0.0)];
    let mut world = World::new(crate::world::setup(&["eu"], &pathways));
    for (id, views) in [("cdn-a", 600), ("own-1", 100)] {
        world.crowd("eu", id, 1).views = views;
    }
    let before = weight(&world.rounds(60), "own-1");
    // Fewer views: a larger part fits onto the edge, which is an optimisation.
    world.crowd("eu", "cdn-a", 1).views = 60;
    let mut moved = before;
    for _ in 0..120 {
        moved = weight(&world.round(), "own-1");
        if moved > before + 200_000 {
            break;
        }
    }
    assert!(moved > before + 200_000, "{before} to {moved}");
    for id in ["cdn-a", "own-1"] {
        let crowd = world.crowd("eu", id, 1);
        crowd.failing = 0.4;
    }
    assert!((0..4).any(|_| has(&world.round(), Verdict::OriginSelf)), "{:?}", world.log);
    let output = world.round();
    assert!(weight(&output, "own-1") < moved, "taken back: {:?}", world.log);
    assert_eq!(world.changes(), Vec::<&str>::new());
}

/// A round with polls of sessions that were told to stay, by pathway and network: (settled, of them gone).
fn told_to_stay(world: &mut World, cells: &[(&str, u32, u64, u64)]) -> RoundOutput {
    world.extra = cells
        .iter()
        .map(|(id, asn, settled, fled)| CellEvidence {
            asn: Some(*asn),
            sessions_settled: *settled,
            sessions_fled: *fled,
            ..CellEvidence::empty(world.now, "steer-1", SourceKind::Steer, pathway(id), region("eu"))
        })
        .collect();
    world.round()
}

#[test]
fn players_that_leave_a_pathway_by_themselves_take_it_down_without_a_beacon() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100)]);
    world.rounds(30);
    let output = told_to_stay(&mut world, &[("cdn-a", 1, 4, 4), ("cdn-b", 1, 4, 0)]);
    assert_eq!(state_of(&output, "cdn-a"), Healthy, "four players are not enough");
    let output = told_to_stay(&mut world, &[("cdn-a", 1, 4, 4), ("cdn-b", 1, 4, 0)]);
    assert_eq!(state_of(&output, "cdn-a"), Down, "{:?}", world.changes());
    let note = output.regions["eu"].findings.iter().find(|note| note.verdict == Verdict::Path).expect("a finding");
    assert_eq!(note.text, "8 of 8 polling sessions gone by themselves in 10 s, others 0 %");
}

#[test]
fn players_that_leave_everything_or_leave_in_one_network_alone_blame_no_pathway() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 100)]);
    world.rounds(30);
    for _ in 0..5 {
        let output = told_to_stay(&mut world, &[("cdn-a", 1, 10, 6), ("cdn-b", 1, 10, 5)]);
        assert_eq!([state_of(&output, "cdn-a"), state_of(&output, "cdn-b")], [Healthy; 2], "{:?}", world.changes());
    }
    world.rounds(30);
    for _ in 0..5 {
        let cells = [("cdn-a", 1, 20, 0), ("cdn-a", 2, 10, 10), ("cdn-b", 1, 20, 0), ("cdn-b", 2, 10, 10)];
        let output = told_to_stay(&mut world, &cells);
        assert_eq!([state_of(&output, "cdn-a"), state_of(&output, "cdn-b")], [Healthy; 2], "{:?}", world.changes());
    }
}

//! Do sessions follow the weights, do they stay where they are, and is the second place somewhere else?

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use spillway_model::{
    BitsPerSecond, ContentId, GroupId, Mode, PathwayId, PathwayKind, PathwayState, Ppm, RegionId, TimestampMs,
};
use spillway_routing::{
    CohortRule, Group, Manifest, ModeRule, Order, Pathway, Place, ProbeShare, Ranked, Ranker, Serves, Session, Target,
    TtlPolicy, Weights, playlist_pathways, rank, share_of,
};

const SESSIONS: u32 = 100_000;

fn id(name: &str) -> PathwayId {
    PathwayId::new(name).expect("id")
}

fn pathway(name: &str, group: Option<&str>) -> Pathway {
    Pathway {
        kind: if name.starts_with("own-") { PathwayKind::Own } else { PathwayKind::Commercial },
        state: PathwayState::Healthy,
        reason: String::new(),
        since: TimestampMs(0),
        utilisation: Ppm(0),
        capacity: BitsPerSecond(1_000_000_000),
        learned_capacity: BitsPerSecond(1_000_000_000),
        serves: Serves::default(),
        group: group.map(|group| GroupId::new(group).expect("id")),
        origin_group: None,
        failure_domains: group.into_iter().chain([name]).map(str::to_owned).collect(),
        base_url: format!("http://{name}.example"),
        signer: None,
    }
}

fn weights(of: &[(&str, u32)]) -> Weights {
    of.iter()
        .map(|(name, ppm)| {
            let target = if name.starts_with("group") {
                Target::Group(GroupId::new(name).expect("id"))
            } else {
                Target::Pathway(id(name))
            };
            (target, *ppm)
        })
        .collect()
}

/// Three CDNs and two groups of three nodes; `new` are the weights of the one cohort.
fn manifest(new: &[(&str, u32)]) -> Manifest {
    let mut pathways: BTreeMap<PathwayId, Pathway> =
        ["cdn-a", "cdn-b", "cdn-c"].map(|name| (id(name), pathway(name, None))).into();
    let mut groups = BTreeMap::new();
    for group in ["group-x", "group-y"] {
        let mut nodes = BTreeMap::new();
        for (index, ppm) in [500_000, 300_000, 200_000].into_iter().enumerate() {
            let name = format!("own-{}-{index}", &group[6..]);
            pathways.insert(id(&name), pathway(&name, Some(group)));
            nodes.insert(id(&name), ppm);
        }
        groups.insert(GroupId::new(group).expect("id"), Group { nodes });
    }
    let even = weights(&[("cdn-a", 1_000_000)]);
    Manifest {
        region: RegionId::new("eu").expect("id"),
        epoch: 1,
        issued: TimestampMs(0),
        valid_until: TimestampMs(u64::MAX),
        policy: "test".into(),
        modes: vec![ModeRule { class: None, mode: Mode::Control, control: Ppm::ALL }],
        pathways,
        groups,
        cohorts: vec![CohortRule {
            asn: None,
            class: None,
            device_class: None,
            weights_new: weights(new),
            weights_running: weights(new),
            running_before: TimestampMs(0),
            spare: weights(&[("cdn-a", 100_000), ("cdn-b", 300_000), ("group-x", 600_000)]),
            reason: String::new(),
        }],
        max_bitrate_kbps: vec![],
        probes: BTreeMap::new(),
        hot_titles: BTreeMap::new(),
        ttl: TtlPolicy { vod_s: 30, live_s: 10, suspect_s: 5, jitter: Ppm(100_000) },
        static_weights: even,
        shadow: vec![],
        overrides: vec![],
        drill: None,
    }
}

fn content() -> ContentId {
    ContentId::new("live/river").expect("id")
}

/// Three ways to name sessions: counted, like random ids, like UUIDs.
fn session_ids(style: u32) -> impl Iterator<Item = String> {
    (0..SESSIONS).map(move |n| match style {
        0 => format!("v-{n}"),
        1 => format!("{:08x}{:08x}", n.wrapping_mul(0x9e37_79b9), n.wrapping_mul(0x85eb_ca6b)),
        _ => format!("{:08x}-0000-4000-8000-{n:012x}", n.wrapping_mul(0x27d4_eb2f)),
    })
}

fn place_of(manifest: &Manifest, session: &str, place: usize) -> PathwayId {
    rank(&Session::new(session, TimestampMs(1)), &content(), manifest)[place].pathway.clone()
}

fn target_of(manifest: &Manifest, pathway: &PathwayId) -> String {
    manifest.pathways[pathway].group.as_ref().map_or_else(|| pathway.to_string(), ToString::to_string)
}

fn assert_near(what: &str, counted: u32, of: u32, expected: f64) {
    let share = f64::from(counted) / f64::from(of);
    assert!((share - expected).abs() < 0.01, "{what}: {share:.4} instead of {expected:.4}");
}

#[test]
fn sessions_follow_the_weights_within_a_percent() {
    let tables: [&[(&str, u32)]; 4] = [
        &[("cdn-a", 500_000), ("cdn-b", 300_000), ("cdn-c", 200_000)],
        &[("cdn-a", 333_334), ("cdn-b", 333_333), ("cdn-c", 333_333)],
        &[("cdn-a", 20_000), ("cdn-b", 10_000), ("group-x", 700_000), ("group-y", 270_000)],
        &[("cdn-c", 990_000), ("group-y", 10_000)],
    ];
    for table in tables {
        let manifest = manifest(table);
        for style in 0..3 {
            let mut counted: BTreeMap<String, u32> = BTreeMap::new();
            for session in session_ids(style) {
                *counted.entry(target_of(&manifest, &place_of(&manifest, &session, 0))).or_default() += 1;
            }
            for (name, ppm) in table {
                let expected = f64::from(*ppm) / 1e6;
                assert_near(name, counted.get(*name).copied().unwrap_or(0), SESSIONS, expected);
            }
        }
    }
}

#[test]
fn the_holdback_has_the_same_mixture_as_the_rest() {
    let table: &[(&str, u32)] = &[("cdn-a", 400_000), ("cdn-b", 400_000), ("group-x", 200_000)];
    let manifest = manifest(table);
    let held: Vec<String> = session_ids(0).filter(|id| share_of(id, "control") >= 700_000).collect();
    assert_near("holdback", held.len() as u32, SESSIONS, 0.3);
    for (name, ppm) in table {
        let here = held.iter().filter(|id| target_of(&manifest, &place_of(&manifest, id, 0)) == *name).count();
        assert_near(name, here as u32, held.len() as u32, f64::from(*ppm) / 1e6);
    }
}

#[test]
fn moving_ten_points_of_weight_moves_at_most_twelve_percent_of_sessions() {
    let before = manifest(&[("cdn-a", 500_000), ("cdn-b", 300_000), ("group-x", 200_000)]);
    let after = manifest(&[("cdn-a", 400_000), ("cdn-b", 400_000), ("group-x", 200_000)]);
    let moved = session_ids(1).filter(|id| place_of(&before, id, 0) != place_of(&after, id, 0)).count();
    let share = moved as f64 / f64::from(SESSIONS);
    assert!((0.09..=0.12).contains(&share), "{share}");
}

#[test]
fn a_pathway_that_loses_all_weight_moves_nobody_else() {
    let before = manifest(&[("cdn-a", 500_000), ("cdn-b", 300_000), ("group-x", 200_000)]);
    let after = manifest(&[("cdn-b", 600_000), ("group-x", 400_000)]);
    for session in session_ids(2).take(20_000) {
        let was = place_of(&before, &session, 0);
        if was.as_str() != "cdn-a" {
            assert_eq!(was, place_of(&after, &session, 0));
        }
    }
}

#[test]
fn second_places_follow_the_spare_weights_and_one_title_does_not_fill_one_node() {
    let manifest = manifest(&[("cdn-c", 1_000_000)]);
    let mut counted: BTreeMap<String, u32> = BTreeMap::new();
    for session in session_ids(0) {
        *counted.entry(target_of(&manifest, &place_of(&manifest, &session, 1))).or_default() += 1;
    }
    for (name, expected) in [("cdn-a", 0.1), ("cdn-b", 0.3), ("group-x", 0.6)] {
        assert_near(name, counted.get(name).copied().unwrap_or(0), SESSIONS, expected);
    }
}

#[test]
fn a_title_stays_on_one_node_and_a_hot_one_on_as_many_as_it_has_replicas() {
    let mut manifest = manifest(&[("group-x", 1_000_000)]);
    let nodes = |manifest: &Manifest| -> BTreeMap<PathwayId, u32> {
        let mut out = BTreeMap::new();
        for session in session_ids(0) {
            *out.entry(place_of(manifest, &session, 0)).or_default() += 1;
        }
        out
    };
    assert_eq!(nodes(&manifest).len(), 1);
    manifest.hot_titles.insert(content(), 2);
    assert_eq!(nodes(&manifest).len(), 2);
    manifest.hot_titles.insert(content(), 3);
    let spread = nodes(&manifest);
    for (node, expected) in [("own-x-0", 0.5), ("own-x-1", 0.3), ("own-x-2", 0.2)] {
        assert_near(node, spread[&id(node)], SESSIONS, expected);
    }
}

#[test]
fn a_group_spreads_its_titles_by_node_weight() {
    let manifest = manifest(&[("group-x", 1_000_000)]);
    let mut counted: BTreeMap<PathwayId, u32> = BTreeMap::new();
    for title in 0..SESSIONS {
        let title = ContentId::new(&format!("vod/{title}")).expect("id");
        let order = rank(&Session::new("one", TimestampMs(1)), &title, &manifest);
        *counted.entry(order[0].pathway.clone()).or_default() += 1;
    }
    for (node, expected) in [("own-x-0", 0.5), ("own-x-1", 0.3), ("own-x-2", 0.2)] {
        assert_near(node, counted[&id(node)], SESSIONS, expected);
    }
}

#[test]
fn a_dead_pathway_with_weight_left_is_last_unless_it_is_pinned() {
    let mut manifest = manifest(&[("cdn-a", 900_000), ("cdn-b", 100_000)]);
    manifest.pathways.get_mut("cdn-a").expect("there").state = PathwayState::Down;
    for session in session_ids(0).take(1_000) {
        let order = rank(&Session::new(&session, TimestampMs(1)), &content(), &manifest);
        assert_eq!((order[0].pathway.as_str(), order[0].place), ("cdn-b", Place::Weight));
        let last = order.last().expect("some");
        assert_eq!((last.pathway.as_str(), last.place), ("cdn-a", Place::Dead));
    }
    manifest.cohorts[0].weights_new = weights(&[("cdn-a", 1_000_000)]);
    assert_eq!(place_of(&manifest, "s", 0).as_str(), "cdn-a");
}

#[test]
fn a_holdback_stays_on_static_weights_until_its_pathway_is_dead() {
    let mut manifest = manifest(&[("cdn-b", 1_000_000)]);
    manifest.modes[0].control = Ppm(500_000);
    let held = session_ids(0).find(|id| share_of(id, "control") >= 500_000).expect("half of them");
    let first = |manifest: &Manifest| {
        let order = rank(&Session::new(&held, TimestampMs(1)), &content(), manifest);
        (order[0].pathway.to_string(), order[0].place)
    };
    assert_eq!(first(&manifest), ("cdn-a".into(), Place::Static));
    manifest.pathways.get_mut("cdn-a").expect("there").state = PathwayState::Down;
    assert_eq!(first(&manifest), ("cdn-b".into(), Place::Weight));
    manifest.modes[0].mode = Mode::Shadow;
    assert_eq!(first(&manifest), ("cdn-a".into(), Place::Static), "shadow never moves anyone");
}

#[test]
fn a_playlist_of_many_groups_still_holds_every_cdn() {
    let mut manifest = manifest(&[("group-x", 1_000_000)]);
    for group in ["group-z", "group-w"] {
        let mut nodes = BTreeMap::new();
        for index in 0..2 {
            let name = format!("own-{}-{index}", &group[6..]);
            manifest.pathways.insert(id(&name), pathway(&name, Some(group)));
            nodes.insert(id(&name), 500_000);
        }
        manifest.groups.insert(GroupId::new(group).expect("id"), Group { nodes });
    }
    manifest.pathways.remove("cdn-c");
    for session in session_ids(1).take(500) {
        let order = rank(&Session::new(&session, TimestampMs(1)), &content(), &manifest);
        let declared = playlist_pathways(&order, &manifest);
        assert_eq!(declared.len(), 6);
        assert_eq!(declared[0], order[0].pathway);
        assert!(declared.contains(&id("cdn-a")) && declared.contains(&id("cdn-b")), "{declared:?}");
    }
}

proptest! {
    #[test]
    fn an_order_names_every_eligible_pathway_once_the_dead_last_and_the_second_apart(
        session in "[a-z0-9]{1,24}",
        dead in proptest::collection::btree_set(0_usize..9, 0..8),
        draining in proptest::collection::btree_set(0_usize..9, 0..3),
        split in 0_u32..=1_000_000,
        spare in proptest::collection::vec(0_u32..=u32::MAX, 3),
    ) {
        let mut manifest = manifest(&[("cdn-a", split), ("group-x", 1_000_000 - split)]);
        manifest.cohorts[0].spare =
            weights(&[("cdn-a", spare[0]), ("cdn-b", spare[1]), ("group-y", spare[2]), ("own-x-1", spare[2])]);
        for (index, pathway) in manifest.pathways.values_mut().enumerate() {
            if dead.contains(&index) {
                pathway.state = PathwayState::Down;
            } else if draining.contains(&index) {
                pathway.state = PathwayState::Draining;
            }
        }
        let order = rank(&Session::new(&session, TimestampMs(1)), &content(), &manifest);
        let names: BTreeSet<&PathwayId> = order.iter().map(|ranked| &ranked.pathway).collect();
        prop_assert_eq!(names.len(), order.len());
        prop_assert_eq!(order.len(), manifest.pathways.len());
        let down = |id: &PathwayId| manifest.pathways[id].state == PathwayState::Down;
        let first_dead = order.iter().skip(1).position(|ranked| ranked.place == Place::Dead);
        if let Some(index) = first_dead {
            prop_assert!(order[index + 1..].iter().all(|ranked| ranked.place == Place::Dead));
        }
        prop_assert!(order[1..].iter().all(|ranked| (ranked.place == Place::Dead) == down(&ranked.pathway)));
        let domains = &manifest.pathways[&order[0].pathway].failure_domains;
        let apart = |id: &PathwayId| manifest.pathways[id].failure_domains.is_disjoint(domains);
        if order[1..].iter().any(|ranked| ranked.place != Place::Dead && apart(&ranked.pathway)) {
            prop_assert!(apart(&order[1].pathway));
        }
        let declared = playlist_pathways(&order, &manifest);
        prop_assert_eq!(&declared[0], &order[0].pathway);
        prop_assert!((2..=6).contains(&declared.len()));
        for cdn in ["cdn-a", "cdn-b", "cdn-c"] {
            prop_assert!(declared.contains(&id(cdn)));
        }
        prop_assert_eq!(rank(&Session::new(&session, TimestampMs(1)), &content(), &manifest), order);
    }
}

#[test]
fn only_running_views_try_a_dead_pathway_and_each_turn_others() {
    let mut manifest = manifest(&[("cdn-b", 1_000_000)]);
    manifest.issued = TimestampMs(100_000);
    manifest.pathways.get_mut("cdn-a").expect("cdn-a").state = PathwayState::Down;
    let tried = |manifest: &Manifest, started: u64| -> Vec<String> {
        let first = |session: &String| {
            let order = rank(&Session::new(session, TimestampMs(started)), &content(), manifest);
            order[0].pathway.as_str() == "cdn-a" && order[0].place == Place::Probe
        };
        session_ids(0).filter(first).collect()
    };
    assert!(tried(&manifest, 0).is_empty(), "nobody asked for it");
    let share = |turn: &str| ProbeShare { share: Ppm(5_000), turn: turn.into() };
    manifest.probes = [(id("cdn-a"), share("cdn-a 1"))].into();
    let first = tried(&manifest, 0);
    assert_near("probes", first.len() as u32, session_ids(0).count() as u32, 0.005);
    assert!(tried(&manifest, 90_000).is_empty(), "ten seconds are no buffer");
    manifest.probes = [(id("cdn-a"), share("cdn-a 2"))].into();
    let both = tried(&manifest, 0).iter().filter(|session| first.contains(session)).count();
    assert!(both * 20 < first.len(), "{both} of {}", first.len());
    manifest.pathways.get_mut("cdn-a").expect("cdn-a").state = PathwayState::Recovering;
    assert!(tried(&manifest, 0).is_empty(), "only while it is DOWN");
}

/// The order of the prepared manifest, in the words of the plain one.
fn prepared(manifest: &Manifest, session: &Session<'_>, content: &ContentId) -> Vec<Ranked> {
    let ranker = Ranker::new(manifest).expect("few pathways");
    let mut out = Order::default();
    ranker.rank(session, content, &mut out);
    out.placed()
        .iter()
        .map(|placed| Ranked { pathway: ranker.pathway(placed.index).clone(), place: placed.place })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_prepared_manifest_gives_the_same_order(
        weights_of in prop::collection::vec((0_usize..8, 0_u32..5), 1..6),
        spare_of in prop::collection::vec((0_usize..11, 0_u32..400_000), 0..6),
        states in prop::collection::vec(0_usize..6, 9),
        served in prop::collection::vec(prop::bool::weighted(0.2), 9),
        (hot, probes, control, running) in (0_u32..4, prop::bool::ANY, 0_u32..1_000_001, 0_u64..3),
        asns in prop::collection::vec(prop::option::of(0_u32..4), 0..4),
        session in "[a-z0-9-]{1,40}",
        asn in prop::option::of(0_u32..4),
    ) {
        let names = ["cdn-a", "cdn-b", "cdn-c", "group-x", "group-y", "own-x-0", "own-y-1", "own-y-2", "own-x-1", "own-x-2", "own-y-0"];
        let mut manifest = manifest(&[("cdn-a", 1_000_000)]);
        manifest.issued = TimestampMs(100_000);
        manifest.modes[0].control = Ppm(control);
        let states_of = [PathwayState::Healthy, PathwayState::Down, PathwayState::Draining, PathwayState::Degraded, PathwayState::Recovering, PathwayState::Unknown];
        for ((pathway, state), served) in manifest.pathways.values_mut().zip(&states).zip(&served) {
            pathway.state = states_of[*state];
            if *served {
                pathway.serves.codecs = ["hev1".to_owned()].into();
            }
        }
        let table: Vec<(&str, u32)> = weights_of.iter().map(|(index, weight)| (names[*index], *weight)).collect();
        manifest.cohorts[0].weights_new = weights(&table);
        manifest.cohorts[0].running_before = TimestampMs(running);
        let table: Vec<(&str, u32)> = spare_of.iter().map(|(index, weight)| (names[*index], *weight)).collect();
        manifest.cohorts[0].spare = weights(&table);
        for (index, asn) in asns.iter().enumerate() {
            let mut rule = manifest.cohorts[0].clone();
            rule.asn = *asn;
            rule.weights_new = weights(&[(names[index], 1_000_000)]);
            manifest.cohorts.push(rule);
        }
        if hot > 0 {
            manifest.hot_titles = [(content(), hot)].into();
        }
        if probes {
            manifest.probes = [(id("cdn-b"), ProbeShare { share: Ppm(400_000), turn: "cdn-b 1".into() })].into();
        }
        for codec in [None, Some("avc1")] {
            let asked = Session { asn, codec, ..Session::new(&session, TimestampMs(1)) };
            prop_assert_eq!(prepared(&manifest, &asked, &content()), rank(&asked, &content(), &manifest));
        }
    }
}

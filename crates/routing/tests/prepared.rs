//! Does a prepared manifest give the order of `rank()`, however odd the manifest?

use std::collections::BTreeMap;

use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, GroupId, Mode, PathwayId, PathwayKind, PathwayState, Ppm, RegionId,
    TimestampMs,
};
use spillway_routing::{
    CohortRule, Group, Manifest, ModeRule, Order, Pathway, ProbeShare, Ranked, Ranker, Serves, Session, Target,
    TtlPolicy, Weights, hash_pair, rank,
};

const STATES: [PathwayState; 6] = [
    PathwayState::Healthy,
    PathwayState::Down,
    PathwayState::Draining,
    PathwayState::Degraded,
    PathwayState::Recovering,
    PathwayState::Unknown,
];

/// Numbers of one case, each by what it is for.
#[derive(Clone)]
struct Case(String);

impl Case {
    fn draw(&self, what: &str, below: u32) -> u32 {
        hash_pair(&self.0, what) % below
    }

    fn of<T: Clone>(&self, what: &str, choices: &[T]) -> T {
        choices[self.draw(what, choices.len() as u32) as usize].clone()
    }

    fn one_in(&self, what: &str, of: u32) -> bool {
        self.draw(what, of) == 0
    }

    fn about(&self, what: impl std::fmt::Display) -> Self {
        Self(format!("{}/{what}", self.0))
    }
}

fn pathway_id(name: &str) -> PathwayId {
    PathwayId::new(name).expect("id")
}

fn target(group: bool, name: &str) -> Target {
    if group { Target::Group(GroupId::new(name).expect("id")) } else { Target::Pathway(pathway_id(name)) }
}

/// Names of pathways, and of groups; the last group is not in the manifest, though pathways may say that they are of it.
fn names(case: &Case) -> (Vec<String>, Vec<String>) {
    let name = |kind: &str, starts: &[&str], n: u32| format!("{}{n}", case.of(&format!("{kind} {n}"), starts));
    let pathways =
        (0..1 + case.draw("pathways", 10)).map(|n| name("pathway", &["own-", "cdn-", "own-of-long-name-"], n));
    let groups = (0..1 + case.draw("groups", 4)).map(|n| name("group", &["own-g", "grp", "a"], n));
    (pathways.collect(), groups.collect())
}

fn pathway(case: &Case, groups: &[String], usual: PathwayState) -> Pathway {
    let mut serves = Serves::default();
    if case.one_in("restricted", 6) {
        serves.codecs = ["hev1".to_owned()].into();
    }
    let group = case.one_in("grouped", 2).then(|| GroupId::new(&case.of("group", groups)).expect("id"));
    Pathway {
        kind: PathwayKind::Own,
        state: if case.one_in("usual", 2) { usual } else { case.of("state", &STATES) },
        reason: String::new(),
        since: TimestampMs(0),
        utilisation: Ppm(0),
        capacity: BitsPerSecond(1),
        learned_capacity: BitsPerSecond(1),
        serves,
        group,
        origin_group: None,
        failure_domains: [format!("domain-{}", case.draw("domain", 5))].into(),
        base_url: String::new(),
        signer: None,
    }
}

/// Up to five weights of pathways and groups; they needn't sum to anything.
fn weights(case: &Case, (pathways, groups): (&[String], &[String]), most: u32) -> Weights {
    let entry = |n: u32| {
        let case = case.about(n);
        let group = !groups.is_empty() && case.one_in("group", 2);
        let name = case.of("name", if group { groups } else { pathways });
        (target(group, &name), case.of("weight", &[0, 1, 500_000, case.draw("any", most)]))
    };
    (0..case.draw("entries", 6)).map(entry).collect()
}

/// Nodes that say that they belong to it, mostly, and a few that don't.
fn group(case: &Case, name: &str, pathways: &BTreeMap<PathwayId, Pathway>) -> Group {
    let node = |(id, pathway): (&PathwayId, &Pathway)| {
        let case = case.about(id.as_str());
        let own = pathway.group.as_ref().is_some_and(|group| group.as_str() == name);
        let weight = case.of("weight", &[0, 1, 5, 400_000, 1_000_000, case.draw("any", 1_000_000)]);
        case.one_in("listed", if own { 1 } else { 9 }).then(|| (id.clone(), weight))
    };
    let some = |(id, _): &(PathwayId, u32)| !case.one_in(id.as_str(), 6);
    Group { nodes: pathways.iter().filter_map(node).filter(some).collect() }
}

fn manifest(case: &Case) -> Manifest {
    let (names, groups) = names(case);
    let known = &groups[..groups.len() - 1];
    let usual = case.of("usual state", &STATES);
    let pathways: BTreeMap<PathwayId, Pathway> =
        names.iter().map(|name| (pathway_id(name), pathway(&case.about(name), &groups, usual))).collect();
    let table = |what: String, most: u32| weights(&case.about(what), (&names, known), most);
    let cohort = |n: u32| {
        let of = case.about(n);
        CohortRule {
            asn: of.one_in("by asn", 2).then(|| of.draw("asn", 3)),
            class: of.one_in("by class", 3).then(|| class(&of)),
            device_class: of.one_in("by device", 3).then(|| of.of("device", &["tv", "phone"]).to_owned()),
            weights_new: table(format!("new {n}"), 1_000_000),
            weights_running: table(format!("running {n}"), 1_000_000),
            running_before: TimestampMs(of.draw("running before", 3).into()),
            spare: table(format!("spare {n}"), 3_000_000),
            reason: String::new(),
        }
    };
    let mode = ModeRule {
        class: None,
        mode: case.of("mode", &[Mode::Control, Mode::Control, Mode::Shadow, Mode::Observe]),
        control: Ppm(case.of("control", &[0, 500_000, 1_000_000])),
    };
    let probe = || (pathway_id(&case.of("probed", &names)), ProbeShare { share: Ppm(400_000), turn: "turn 1".into() });
    Manifest {
        region: RegionId::new("eu").expect("id"),
        epoch: 1,
        issued: TimestampMs(100_000),
        valid_until: TimestampMs(u64::MAX),
        policy: "test".into(),
        modes: vec![mode],
        groups: known
            .iter()
            .map(|name| (GroupId::new(name).expect("id"), group(&case.about(name), name, &pathways)))
            .collect(),
        pathways,
        cohorts: (0..case.draw("cohorts", 6)).map(cohort).collect(),
        max_bitrate_kbps: vec![],
        probes: case.one_in("probes", 3).then(probe).into_iter().collect(),
        hot_titles: case.one_in("hot", 3).then(|| (content(), case.draw("replicas", 6))).into_iter().collect(),
        ttl: TtlPolicy { vod_s: 30, live_s: 10, suspect_s: 5, jitter: Ppm(100_000) },
        static_weights: table("static".into(), 1_000_000),
        shadow: vec![],
        overrides: vec![],
        drill: None,
    }
}

fn class(case: &Case) -> ContentClass {
    ContentClass::new(case.of("class", &["live", "vod"])).expect("class")
}

fn content() -> ContentId {
    ContentId::new("live/river").expect("id")
}

fn order(ranker: &Ranker<&Manifest>, session: &Session<'_>, out: &mut Order) -> Vec<Ranked> {
    ranker.rank(session, &content(), out);
    let named = out.placed().iter().map(|placed| (ranker.pathway(placed.index).clone(), placed.place));
    named.map(|(pathway, place)| Ranked { pathway, place }).collect()
}

#[test]
fn the_order_is_the_same_with_nodes_of_no_group_of_two_groups_and_of_unknown_ones() {
    let mut out = Order::default();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for n in 0..5000 {
        let case = Case(format!("case {n}"));
        let manifest = manifest(&case);
        let ranker = Ranker::new(&manifest).expect("few pathways");
        for view in 0..8 {
            let of = case.about(format!("view {view}"));
            let class = class(&of);
            let session = Session {
                asn: (!of.one_in("no asn", 3)).then(|| of.draw("asn", 4)),
                class: of.one_in("classed", 2).then_some(&class),
                device_class: of.one_in("device known", 2).then(|| of.of("device", &["tv", "phone", "car"])),
                codec: of.one_in("codec known", 2).then_some("avc1"),
                ..Session::new(&of.0, TimestampMs(of.draw("started", 3).into()))
            };
            let expected = rank(&session, &content(), &manifest);
            expected.iter().for_each(|ranked| *seen.entry(ranked.place.as_str()).or_default() += 1);
            assert_eq!(order(&ranker, &session, &mut out), expected, "{session:?} {manifest:#?}");
        }
    }
    assert!(seen.len() == 6 && seen.values().all(|count| *count > 100), "places too seldom seen: {seen:?}");
}

#[test]
fn more_names_than_fit_and_a_group_called_like_a_pathway_are_left_to_rank() {
    let mut manifest = manifest(&Case("case 1".into()));
    let (first, like) = manifest.pathways.first_key_value().expect("a pathway");
    let (taken, like) = (GroupId::new(first.as_str()).expect("id"), like.clone());
    assert!(Ranker::new(&manifest).is_some());
    manifest.groups.insert(taken.clone(), Group { nodes: BTreeMap::new() });
    assert!(Ranker::new(&manifest).is_none(), "a group called like a pathway");
    manifest.groups.remove(&taken);
    manifest.pathways.extend((0..60).map(|n| (pathway_id(&format!("more-{n}")), like.clone())));
    assert!(Ranker::new(&manifest).is_none(), "{} pathways", manifest.pathways.len());
}

use spillway_model::{ContentId, TimestampMs};
use spillway_routing::Session;

use crate::world::{World, pathway, setup};

#[test]
fn an_order_is_explained_in_numbers_rules_and_at_most_five_lines() {
    let mut world = World::one_region(&[("cdn-a", 100), ("cdn-b", 60), ("own-1", 60)]);
    world.rounds(30);
    world.crowd("eu", "cdn-a", 1).failing = 0.5;
    let output = world.rounds(5);
    let plan = &output.regions["eu"];
    let content = ContentId::new("live/match").expect("id");
    let session = Session { asn: Some(1), ..Session::new("view-1", TimestampMs(world.now.0)) };
    let why = world.engine.explain(plan, &session, &content);
    assert_eq!(why.order.len(), 3);
    assert_eq!(why.order[2].pathway.as_str(), "cdn-a", "the dead one is last");
    let fact = |id: &str, name: &str| {
        let of = |fact: &&spillway_orchestrator_core::Fact| {
            fact.pathway.as_ref().is_some_and(|pathway| pathway.as_str() == id) && fact.name == name
        };
        why.facts.iter().find(of).map(|fact| fact.value)
    };
    assert_eq!(fact("cdn-a", "state_factor"), Some(0.0));
    assert!(fact("own-1", "target").is_some_and(|bits| bits > 1e9));
    assert!(fact("own-1", "network_hls_bad_rate").is_some_and(|rate| rate < 0.05));
    assert!(why.rules.iter().any(|rule| rule.contains("cdn-a DOWN: PATH: ")), "{:?}", why.rules);
    assert!((3..=5).contains(&why.words.len()), "{:?}", why.words);
    assert!(why.words[0].contains("own-1") || why.words[0].contains("cdn-b"), "{:?}", why.words);
    assert_eq!(why, world.engine.explain(plan, &session, &content));
}

#[test]
fn a_manifest_names_the_signer_of_each_pathway() {
    let mut setup = setup(&["eu"], &[("cdn-a", 1_000, 0.01), ("cdn-b", 1_000, 0.01)]);
    setup.pathways.get_mut(&pathway("cdn-a")).expect("there").signer = Some("akamai-eu".into());
    let output = World::new(setup).round();
    let manifest = &output.regions["eu"].manifest;
    let signer = |id: &str| manifest.pathways[&pathway(id)].signer.as_deref();
    assert_eq!((signer("cdn-a"), signer("cdn-b")), (Some("akamai-eu"), None));
}

//! The playlist and the first steering answer come from one decision, whatever happens between them.

use proptest::prelude::*;
use spillway_model::{ContentId, Millis, PathwayState, Ppm, TimestampMs, ViewId};
use spillway_routing::{Manifest, rank, share_of};
use spillway_wire::token::{Needs, Token, TokenKeys};

use super::fixtures::{NOW, id, manifest, region, weights};
use crate::decide::{self, STRETCH_NONE_MILLI};
use crate::prepared::Prepared;

fn keys() -> TokenKeys {
    TokenKeys::new(("k".into(), b"secret".to_vec()), vec![])
}

fn token(view: &str, content: &str) -> Token {
    Token {
        view: ViewId::new(view).expect("id"),
        region: region(),
        asn: None,
        class: None,
        started: NOW,
        content: ContentId::new(content).expect("id"),
        pathways: vec![],
        first: None,
        needs: Needs::default(),
    }
}

/// A manifest drawn from `seed`: weights, states, node weights, running line, holdback, hot titles.
fn random_manifest(epoch: u64, seed: u32) -> Prepared {
    let draw =
        |salt: &str, below: u32| (u64::from(share_of(&seed.to_string(), salt)) * u64::from(below) / 1_000_000) as u32;
    let cut = [draw("cut-1", 1_000_001), draw("cut-2", 1_000_001)];
    let (low, high) = (cut[0].min(cut[1]), cut[0].max(cut[1]));
    let mut out = manifest(epoch, &[("cdn-a", low), ("cdn-b", high - low), ("own-x", 1_000_000 - high)]);
    out.cohorts[0].weights_running = weights(&[("cdn-c", draw("run", 1_000_001)), ("own-x", 0)]);
    let rest = 1_000_000 - out.cohorts[0].weights_running.values().sum::<u32>();
    out.cohorts[0].weights_running.extend(weights(&[("cdn-b", rest)]));
    out.cohorts[0].running_before = TimestampMs(NOW.0 - 5_000 + u64::from(draw("line", 10_000)));
    for (name, pathway) in &mut out.pathways {
        let states = PathwayState::ALL;
        let index = draw(name.as_str(), 2 * states.len() as u32) as usize;
        pathway.state = states.get(index).copied().unwrap_or(PathwayState::Healthy);
    }
    let nodes = out.groups.values_mut().next().expect("one group");
    let one = draw("node", 1_000_001);
    nodes.nodes = [("own-x-1", one), ("own-x-2", 1_000_000 - one), ("own-x-3", 0)].map(|(n, w)| (id(n), w)).into();
    out.modes[0].control = Ppm(draw("control", 1_200_000).min(1_000_000));
    if draw("hot", 2) == 1 {
        out.hot_titles.insert(ContentId::new("live/river").expect("id"), 1 + draw("replicas", 4));
    }
    out.check().expect("a valid manifest");
    Prepared::new(out)
}

#[test]
fn the_first_answer_repeats_the_playlist_over_twenty_thousand_swaps() {
    let keys = keys();
    let (mut moved, mut short) = (0, 0);
    for seed in 0..20_000_u32 {
        let before = random_manifest(1, seed);
        let after = random_manifest(2, seed.wrapping_mul(31).wrapping_add(7));
        let viewer = token(&format!("view-{seed}"), if seed % 2 == 0 { "live/river" } else { "vod/lake" });

        let playlist = decide::assign(&viewer, None, &before);
        let first = playlist.declared.first().expect("some pathway").clone();
        assert!((2..=6).contains(&playlist.declared.len()));
        let signed =
            keys.sign(&Token { pathways: playlist.declared.clone(), first: Some(first.clone()), ..viewer.clone() });

        let asked = keys.verify(&signed).expect("our own");
        let now = NOW.after(Millis(u64::from(seed % 4_000)));
        let one = decide::answer(&asked, None, &after, now, STRETCH_NONE_MILLI);
        assert!(one.first_answer);
        assert_eq!(one.order.first(), Some(&first), "seed {seed}");
        assert_eq!(one.order.len(), playlist.declared.len(), "every pathway of the playlist, once");
        assert!(playlist.declared.iter().all(|id| one.order.contains(id)));

        let again = Token { first: None, ..asked };
        let two = decide::answer(&again, None, &after, now, STRETCH_NONE_MILLI);
        assert!(!two.first_answer);
        assert!(playlist.declared.iter().all(|id| two.order.contains(id)) && two.order.len() == one.order.len());
        let unsettled = two.order.first() != Some(&first) || after.pathways[&first].state != PathwayState::Healthy;
        if unsettled {
            assert!((2..=5).contains(&one.ttl_s), "{}", one.ttl_s);
            short += 1;
        }
        moved += u32::from(two.order.first() != Some(&first));
        // What is dead is never in front while the playlist has something alive that has weight.
        assert!((2..=300).contains(&two.ttl_s));
    }
    assert!(moved > 5_000 && short > moved, "the swaps must matter: {moved} moved, {short} short");
}

#[test]
fn a_prepared_manifest_orders_as_the_plain_one() {
    for seed in 0..2_000_u32 {
        let manifest = random_manifest(1, seed);
        let viewer = token(&format!("view-{seed}"), if seed % 2 == 0 { "live/river" } else { "vod/lake" });
        let session = decide::session(&viewer, None);
        assert_eq!(manifest.rank(&session, &viewer.content), rank(&session, &viewer.content, &manifest), "{seed}");
    }
}

#[test]
fn without_a_swap_the_second_answer_stays() {
    for seed in 0..2_000_u32 {
        let manifest = random_manifest(1, seed);
        let viewer = token(&format!("view-{seed}"), "vod/lake");
        let declared = decide::assign(&viewer, None, &manifest).declared;
        let again = Token { pathways: declared.clone(), ..viewer };
        let answer = decide::answer(&again, None, &manifest, NOW, STRETCH_NONE_MILLI);
        assert_eq!(answer.order, declared);
    }
}

#[test]
fn a_player_that_ignores_reload_uri_is_not_kept_for_ever() {
    let viewer = token("view", "vod/lake");
    let before = Prepared::new(manifest(1, &[("cdn-a", 1_000_000)]));
    let mut after = manifest(2, &[("cdn-b", 1_000_000)]);
    after.pathways.get_mut("cdn-a").expect("there").state = PathwayState::Down;
    let after = Prepared::new(after);
    let declared = decide::assign(&viewer, None, &before).declared;
    let token = Token { first: declared.first().cloned(), pathways: declared, ..viewer };
    let first = |seconds| {
        let now = NOW.after(Millis::from_secs(seconds));
        decide::answer(&token, None, &after, now, STRETCH_NONE_MILLI).order[0].to_string()
    };
    assert_eq!((first(300), first(301)), ("cdn-a".into(), "cdn-b".into()));
}

#[test]
fn a_group_that_wants_a_third_node_gets_a_sister_that_the_playlist_has() {
    let mut manifest = manifest(1, &[("own-x", 1_000_000)]);
    let viewer = token("view", "vod/lake");
    let order = decide::assign(&viewer, None, &Prepared::new(manifest.clone()));
    let mut others = vec![id("own-x-1"), id("own-x-2"), id("own-x-3")];
    others.retain(|node| *node != order.ranked[0].pathway);
    let token = Token { pathways: vec![id("cdn-a"), others[0].clone(), others[1].clone()], ..viewer };
    let first = |manifest: &Manifest| {
        let prepared = Prepared::new(manifest.clone());
        decide::answer(&token, None, &prepared, NOW, STRETCH_NONE_MILLI).order[0].clone()
    };
    assert!(others.contains(&first(&manifest)), "a sister, not the CDN");
    for sister in &others {
        manifest.pathways.get_mut(sister).expect("there").state = PathwayState::Down;
    }
    assert_eq!(first(&manifest), id("cdn-a"));
}

#[test]
fn ttls_spread_by_session_around_the_policy_and_stretch_only_under_load() {
    let mut manifest = manifest(1, &[("cdn-a", 1_000_000)]);
    let spread = |manifest: &Manifest, content: &str, stretch| {
        let prepared = Prepared::new(manifest.clone());
        let ttls: std::collections::BTreeSet<u32> =
            (0..500).map(|n| decide::ttl_s(&token(&format!("v{n}"), content), &prepared, stretch)).collect();
        (*ttls.first().expect("some"), *ttls.last().expect("some"))
    };
    assert_eq!(spread(&manifest, "live/river", STRETCH_NONE_MILLI), (9, 11));
    assert_eq!(spread(&manifest, "vod/lake", STRETCH_NONE_MILLI), (27, 33));
    assert_eq!(spread(&manifest, "live/river", 3_000), (27, 33));
    assert_eq!(spread(&manifest, "vod/lake", u64::MAX), (300, 300));
    manifest.pathways.get_mut("cdn-b").expect("there").state = PathwayState::Degraded;
    assert_eq!(spread(&manifest, "vod/lake", STRETCH_NONE_MILLI), (5, 5));
    manifest.pathways.get_mut("cdn-b").expect("there").state = PathwayState::Unknown;
    assert_eq!(spread(&manifest, "live/river", STRETCH_NONE_MILLI), (9, 11));
}

proptest! {
    #[test]
    fn a_session_asks_the_same_and_hears_the_same(view in "[a-z0-9-]{1,40}", seed in 0_u32..100_000) {
        let manifest = random_manifest(1, seed);
        let token = token(&view, "vod/lake");
        let answer = || decide::answer(&token, None, &manifest, NOW, STRETCH_NONE_MILLI);
        prop_assert_eq!(answer(), answer());
        prop_assert_eq!(answer().order.len(), manifest.pathways.len());
    }
}

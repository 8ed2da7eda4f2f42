//! The playlist and the first steering answer come from one decision, whatever happens between them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, RawQuery, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use proptest::prelude::*;
use spillway_model::{ContentId, Millis, PathwayId, PathwayState, Ppm, Protocol, TimestampMs};
use spillway_routing::{Manifest, Target, Weights, rank, share_of};
use spillway_wire::steering::SteeringAnswer;
use spillway_wire::token::{Token, TokenKeys};
use url::Url;

use super::fixtures::{
    NOW, StoppedClock, config, deployment, id, manifest, region, sealed, signing_key, token, weights,
};
use crate::decide::{self, STRETCH_NONE_MILLI};
use crate::manifests::Manifests;
use crate::playlists::space::Space;
use crate::playlists::writer::{Offer, Steering};
use crate::playlists::{self, dash, hls};
use crate::prepared::Prepared;
use crate::trail::Trail;
use crate::{SteerState, answers, static_plan};

const PLAYLIST: &[u8] = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n";
const MPD: &[u8] = b"<MPD><Period/></MPD>";

fn keys() -> TokenKeys {
    TokenKeys::new(("k".into(), b"secret".to_vec()), vec![])
}

/// A manifest drawn from `seed`: weights, states, node weights, running line, holdback, hot titles.
fn random_manifest(epoch: u64, seed: u32) -> Prepared {
    let draw =
        |salt: &str, below: u32| (u64::from(share_of(&seed.to_string(), salt)) * u64::from(below) / 1_000_000) as u32;
    let cut = [draw("cut-1", 1_000_001), draw("cut-2", 1_000_001)];
    let (low, high) = (cut[0].min(cut[1]), cut[0].max(cut[1]));
    let mut out = manifest(epoch, &[("cdn-a", low), ("cdn-b", high - low), ("own-x", 1_000_000 - high)]);
    let run = draw("run", 1_000_001);
    out.cohorts[0].weights_running = weights(&[("cdn-c", run), ("own-x", 0), ("cdn-b", 1_000_000 - run)]);
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

/// `manifest` without `gone`: what it carried goes to others.
fn without(manifest: &Manifest, gone: &PathwayId) -> Manifest {
    let mut out = manifest.clone();
    out.pathways.remove(gone);
    for group in out.groups.values_mut() {
        let freed = group.nodes.remove(gone).unwrap_or(0);
        *group.nodes.values_mut().next().expect("other nodes") += freed;
    }
    let other = ["cdn-a", "cdn-b"].map(id).into_iter().find(|other| other != gone).expect("one of two");
    let target = Target::Pathway(gone.clone());
    let give_up = |weights: &mut Weights| {
        let mut left: BTreeMap<Target, u32> = weights.iter().map(|(target, ppm)| (target.clone(), *ppm)).collect();
        if let Some(freed) = left.remove(&target) {
            *left.entry(Target::Pathway(other.clone())).or_default() += freed;
        }
        *weights = left.into();
    };
    for rule in &mut out.cohorts {
        [&mut rule.weights_new, &mut rule.weights_running, &mut rule.spare].into_iter().for_each(give_up);
    }
    give_up(&mut out.static_weights);
    out.check().expect("a valid manifest");
    out
}

/// What a node steers by when the first poll comes, `how` the time between has treated it.
fn swapped(how: u32, seed: u32, before: &Prepared, first: &PathwayId, fixed: &Prepared) -> Prepared {
    let drawn = || random_manifest(2, seed.wrapping_mul(31).wrapping_add(7));
    match how {
        0 => Prepared::new(static_plan::expired(before)),
        1 => Prepared::new(Manifest::clone(fixed)),
        2 => {
            let mut down = Manifest::clone(&drawn());
            down.pathways.get_mut(first).expect("there").state = PathwayState::Down;
            Prepared::new(down)
        }
        3 => Prepared::new(without(&drawn(), first)),
        4 => Prepared::new(static_plan::expired(&without(&drawn(), first))),
        _ => drawn(),
    }
}

/// How often what happened, over some seeds.
#[derive(Debug, Default)]
struct Tally {
    moved: u32,
    short: u32,
    missing: u32,
    by_swap: [u32; 8],
}

/// The playlist as it is written, from one manifest, and its first two polls, from another.
fn one_session(seed: u32, keys: &TokenKeys, fixed: &Prepared, tally: &mut Tally) {
    let protocol = if seed.is_multiple_of(3) { Protocol::Dash } else { Protocol::Hls };
    let before = random_manifest(1, seed);
    let viewer = token(&format!("view-{seed}"), if seed.is_multiple_of(2) { "live/river" } else { "vod/lake" });

    let playlist = decide::assign(&viewer, None, &before);
    assert!((2..=6).contains(&playlist.declared.len()));
    let first = playlist.declared.first().expect("some pathway").clone();
    let written = written(protocol, &viewer, &playlist.declared, &before, keys);
    let (named, signed) = first_and_token(protocol, &written);
    assert_eq!(named, first.as_str(), "{written}");

    let how = seed % 8;
    let after = swapped(how, seed, &before, &first, fixed);
    let asked = keys.verify(signed).expect("our own");
    let now = NOW.after(Millis(u64::from(seed % 4_000)));
    let one = decide::answer(&asked, None, &after, now, STRETCH_NONE_MILLI, &Trail::default());
    assert!(one.first_answer);
    assert_eq!(one.order.first(), Some(&first), "seed {seed}");
    let all: BTreeSet<&PathwayId> = playlist.declared.iter().collect();
    let same = |order: &[PathwayId]| order.len() == all.len() && order.iter().collect::<BTreeSet<_>>() == all;
    assert!(same(&one.order), "every pathway of the playlist, once: seed {seed}");
    assert!((2..=300).contains(&one.ttl_s));

    let again = Token { first: None, ..asked };
    let two = decide::answer(&again, None, &after, now, STRETCH_NONE_MILLI, &Trail::default());
    assert!(!two.first_answer && same(&two.order), "seed {seed}");
    assert!((2..=300).contains(&two.ttl_s));
    let state = after.pathways.get(&first).map(|pathway| pathway.state);
    if two.order.first() != Some(&first) || state != Some(PathwayState::Healthy) {
        assert!((2..=5).contains(&one.ttl_s), "{}", one.ttl_s);
        tally.short += 1;
    }
    tally.moved += u32::from(two.order.first() != Some(&first));
    tally.missing += u32::from(state.is_none());
    tally.by_swap[how as usize] += u32::from(two.order.first() != Some(&first));
}

/// The playlist of a session whose pathways are `declared`.
fn written(
    protocol: Protocol,
    viewer: &Token,
    declared: &[PathwayId],
    manifest: &Prepared,
    keys: &TokenKeys,
) -> String {
    let token = Token { pathways: declared.to_vec(), first: declared.first().cloned(), ..viewer.clone() };
    let offer = |id: &PathwayId| Offer::plain(id.clone(), manifest.pathways[id].base_url.clone());
    let steering = Steering {
        server_uri: Some(format!("http://steer.example/v1/steer/{protocol}?t={}", keys.sign(&token))),
        offers: declared.iter().map(offer).collect(),
        max_bitrate_kbps: None,
        reload_url: None,
        query_before_start: false,
    };
    let url = |text| Url::parse(text).expect("url");
    let space = Space::new(&url("http://origin.example"), &url("http://origin.example/vod/lake/x"));
    match protocol {
        Protocol::Dash => dash::write(MPD, &space, &steering),
        _ => hls::write(PLAYLIST, &space, &steering),
    }
    .expect("written")
}

/// The pathway that a playlist begins with, and the token of its polls.
fn first_and_token(protocol: Protocol, playlist: &str) -> (&str, &str) {
    let between = |from: &str, to: char| {
        let rest = playlist.split_once(from).expect("there").1;
        rest.split(to).next().expect("something")
    };
    match protocol {
        Protocol::Dash => (between("defaultServiceLocation=\"", '"'), between("steer/dash?t=", '<')),
        _ => (between("\",PATHWAY-ID=\"", '"'), between("steer/hls?t=", '"')),
    }
}

#[test]
fn the_first_answer_repeats_the_playlist_over_a_hundred_thousand_swaps() {
    const SESSIONS: u32 = 100_000;
    let keys = keys();
    let fixed = Manifests::new(&deployment(), Arc::default()).expect("static plans").current(&region(), NOW).manifest;
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8)) as u32;
    let part = |thread: u32| {
        let mut tally = Tally::default();
        (0..SESSIONS).filter(|seed| seed % threads == thread).for_each(|seed| {
            one_session(seed, &keys, &fixed, &mut tally);
        });
        tally
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let part = &part;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        running.into_iter().map(|one| one.join().expect("no disagreement")).collect()
    });
    let sum = |of: fn(&Tally) -> u32| tallies.iter().map(of).sum::<u32>();
    let (moved, short, missing) = (sum(|t| t.moved), sum(|t| t.short), sum(|t| t.missing));
    assert!(moved > 25_000 && short > moved && missing >= SESSIONS / 4, "the swaps must matter: {tallies:?}");
    for how in 0..8 {
        let moved: u32 = tallies.iter().map(|tally| tally.by_swap[how]).sum();
        assert!(moved > 1_000, "swap {how} moves nobody: {tallies:?}");
    }
}

#[tokio::test]
async fn the_handlers_themselves_agree_while_manifests_are_swapped() {
    let state =
        SteerState::new(&config("http://origin.example"), deployment(), (vec![], String::new()), StoppedClock::new());
    let state = Arc::new(state.expect("a good configuration"));
    state.manifests.set_keys(BTreeMap::from([("k1".to_owned(), signing_key().verifying_key())]));
    let offer =
        |manifest: &Manifest| state.manifests.offer(&region(), &sealed(manifest), NOW).expect("a good manifest");
    let peer: SocketAddr = "127.11.1.9:4000".parse().expect("address");
    let text = async |response: Response| {
        assert_eq!(response.status(), 200);
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        String::from_utf8(bytes.to_vec()).expect("text")
    };
    let mut moved = 0;
    for seed in 0..200_u32 {
        let protocol = if seed.is_multiple_of(3) { Protocol::Dash } else { Protocol::Hls };
        let body: &[u8] = if protocol == Protocol::Dash { MPD } else { PLAYLIST };
        let query =
            |text: String| (State(Arc::clone(&state)), ConnectInfo(peer), HeaderMap::new(), RawQuery(Some(text)));
        offer(&random_manifest(u64::from(seed) * 2 + 1, seed));
        let (a, b, c, d) = query(format!("content=vod/lake/x&sid=view-{seed}"));
        let playlist = text(playlists::posted(protocol, a, b, c, d, Bytes::from_static(body)).await).await;
        let (named, signed) = first_and_token(protocol, &playlist);

        let mut after = Manifest::clone(&random_manifest(u64::from(seed) * 2 + 2, seed + 1_000));
        match seed % 4 {
            0 => after = without(&after, &id(named)),
            1 => after.pathways.get_mut(named).expect("there").state = PathwayState::Down,
            _ => {}
        }
        offer(&after);
        let poll = |text: &str| {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = format!("/v1/steer/{protocol}?{text}").parse().expect("a URI");
            request.extensions_mut().insert(ConnectInfo(peer));
            (State(Arc::clone(&state)), request)
        };
        let (a, b) = poll(&format!("t={signed}&_HLS_pathway={named}"));
        let one = if protocol == Protocol::Dash { answers::dash(a, b).await } else { answers::hls(a, b).await };
        let one: SteeringAnswer<'_> = serde_json::from_str(&text(one).await).expect("an answer");
        assert_eq!(one.priority[0], *named, "seed {seed}");
        let again = one.reload_uri.expect("there");
        let (a, b) = poll(again.split_once('?').expect("a token").1);
        let two: SteeringAnswer<'_> = serde_json::from_str(&text(answers::hls(a, b).await).await).expect("an answer");
        let all = |answer: &[Cow<'_, str>]| answer.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(all(&one.priority), all(&two.priority), "every pathway of the playlist, each time");
        moved += u32::from(two.priority[0] != *named);
    }
    assert!(moved > 50, "{moved}");
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
        let answer = decide::answer(&again, None, &manifest, NOW, STRETCH_NONE_MILLI, &Trail::default());
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
        decide::answer(&token, None, &after, now, STRETCH_NONE_MILLI, &Trail::default()).order[0].to_string()
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
        decide::answer(&token, None, &prepared, NOW, STRETCH_NONE_MILLI, &Trail::default()).order[0].clone()
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
        let answer = || decide::answer(&token, None, &manifest, NOW, STRETCH_NONE_MILLI, &Trail::default());
        prop_assert_eq!(answer(), answer());
        prop_assert_eq!(answer().order.len(), manifest.pathways.len());
    }
}

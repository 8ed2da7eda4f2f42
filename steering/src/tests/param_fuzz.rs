//! Whatever a player puts into the query of a steering request, the answer is a good one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Uri;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use spillway_model::{ContentId, ViewId};
use spillway_wire::steering::STEERING_MEDIA_TYPE;
use spillway_wire::token::{Needs, Token};

use super::fixtures::{NOW, StoppedClock, config, deployment, id, manifest, region, sealed, signing_key};
use super::node::Node;
use super::playlist_samples::{Change, changes, mutated};
use crate::params::Query;
use crate::{SteerState, answers};

/// What players send, and what they might.
const QUERIES: [&str; 13] = [
    "t={t}&at=cdn-a&fled=1800000000:cdn-b~1799999990:cdn-a&_HLS_pathway=cdn-c",
    "t={t}&_HLS_pathway=cdn-a&_HLS_throughput=500000",
    "t={t}&_HLS_pathway=%22cdn-a%22&_HLS_throughput=4194304.5",
    "t={t}&_HLS_pathway=cdn-a&_HLS_throughput=1&_HLS_pathway=cdn-b&_HLS_throughput=2",
    "t={t}&_DASH_pathway=%22cdn-a%2Ccdn-b%22&_DASH_throughput=90619000%2C",
    "t={t}&_DASH_pathway=cdn-a,cdn-b&_DASH_throughput=%2C86860000",
    "_DASH_pathway=cdn-a&t={t}",
    "t=&t={t}&t={t}&debug=1&region=eu-a",
    "sid=view-1&content=vod/lake&region=eu-b&debug",
    "_HLS_pathway&_HLS_throughput&t",
    "_HLS_pathway=..&_HLS_throughput=-1e999&_DASH_throughput=NaN,inf,,0x1",
    "",
    "&&&=&%&%2&%zz=%00&+=+",
];
const WORDS: [&str; 26] = [
    "&at=",
    "&fled=99999999999999999999:cdn-a",
    "&",
    "=",
    "%22",
    "\"",
    ",",
    "%2C",
    "~",
    "%7E",
    "%",
    "%0",
    "%+f",
    "%ff",
    "%00",
    "+",
    "t=",
    "&t=",
    "_HLS_pathway=",
    "_DASH_throughput=",
    "1e309",
    "-0",
    "NaN",
    "é",
    "{t}",
    "&sid=a",
];

fn state() -> Arc<SteerState> {
    let state =
        SteerState::new(&config("http://origin.example"), deployment(), (vec![], String::new()), StoppedClock::new());
    let state = state.expect("a good configuration");
    state.manifests.set_keys(BTreeMap::from([("k1".to_owned(), signing_key().verifying_key())]));
    state
        .manifests
        .offer(&region(), &sealed(&manifest(1, &[("cdn-a", 500_000), ("own-x", 500_000)])), NOW)
        .expect("good");
    Arc::new(state)
}

fn token(state: &SteerState) -> String {
    state.settings.keys.sign(&Token {
        view: ViewId::new("view-1").expect("id"),
        region: region(),
        asn: None,
        class: None,
        started: NOW,
        content: ContentId::new("vod/lake").expect("id"),
        pathways: ["cdn-a", "own-x-1", "cdn-gone"].map(id).into(),
        first: Some(id("cdn-gone")),
        needs: Needs::default(),
    })
}

/// Asks both protocols by `query`, and checks the answers. `false` if no server would take such a query.
async fn ask(state: &Arc<SteerState>, query: &str) -> Result<bool, String> {
    let Ok(uri) = format!("/v1/steer/hls?{query}").parse::<Uri>() else { return Ok(false) };
    let peer: SocketAddr = "127.11.1.9:4000".parse().expect("address");
    let request = || {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.clone();
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    };
    let answers = [
        answers::hls(State(Arc::clone(state)), request()).await,
        answers::dash(State(Arc::clone(state)), request()).await,
    ];
    let shown = Query::parse(uri.query());
    let known = state.settings.keys.verify(shown.first("t").unwrap_or_default()).ok();
    let expected: BTreeSet<String> = match &known {
        Some(token) => token.pathways.iter().map(ToString::to_string).collect(),
        // Of eu-a, or the region that a stranger asks for.
        None if shown.first("region") == Some("eu-b") => ["cdn-a", "cdn-b", "cdn-c"].map(str::to_owned).into(),
        None => manifest(1, &[]).pathways.keys().map(ToString::to_string).collect(),
    };
    for answer in answers {
        let ensure = |holds: bool, words: &str| if holds { Ok(()) } else { Err(format!("{words}: {uri}")) };
        ensure(answer.status() == 200, "not 200")?;
        ensure(answer.headers()["content-type"] == STEERING_MEDIA_TYPE, "another media type")?;
        ensure(answer.headers()["cache-control"] == "no-store", "it may be stored")?;
        let bytes = axum::body::to_bytes(answer.into_body(), 4_096).await.map_err(|error| error.to_string())?;
        let answer: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        ensure(answer["VERSION"].as_u64() == Some(1), "not VERSION 1")?;
        ensure(answer["TTL"].as_u64().is_some_and(|ttl| (2..=300).contains(&ttl)), "no whole TTL of 2 to 300")?;
        let reload = answer["RELOAD-URI"].as_str().and_then(|uri| url::Url::parse(uri).ok());
        ensure(reload.is_some_and(|uri| uri.host_str() == Some("steer.example")), "no absolute RELOAD-URI of ours")?;
        let list = answer["PATHWAY-PRIORITY"].as_array().ok_or("no PATHWAY-PRIORITY")?;
        let names: BTreeSet<String> = list.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
        ensure(names == expected && names.len() == list.len(), "not every pathway once")?;
        ensure(answer.as_object().is_some_and(|keys| keys.len() == 4), "a key that nobody asked for")?;
        ensure(known.is_none() || list[0] == "cdn-gone", "the playlist's first pathway is not repeated")?;
    }
    Ok(true)
}

/// A query with `changes` made by words of its own, as text.
fn query(
    sample: &str,
    words: &[(prop::sample::Index, prop::sample::Index)],
    changes: &[Change],
    token: &str,
) -> String {
    let mut text = sample.to_owned();
    for (at, word) in words {
        let mut at = at.index(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, WORDS[word.index(WORDS.len())]);
    }
    let bytes = mutated(&text.replace("{t}", token), changes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn words() -> impl Strategy<Value = Vec<(prop::sample::Index, prop::sample::Index)>> {
    proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..8)
}

#[test]
fn every_query_gets_a_good_answer() {
    let state = state();
    let token = token(&state);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(6_000));
    let some_changes = prop_oneof![Just(Vec::new()), changes()];
    let taken = std::cell::Cell::new(0_u32);
    let result = runner.run(&(0..QUERIES.len(), words(), some_changes), |(sample, words, changes)| {
        let query = query(QUERIES[sample], &words, &changes, &token);
        let was_taken = runtime.block_on(ask(&state, &query)).map_err(TestCaseError::fail)?;
        taken.set(taken.get() + u32::from(was_taken));
        Ok(())
    });
    result.expect("a good answer to every query");
    assert!(taken.get() > 3_000, "most queries must reach the node: {}", taken.get());
    for sample in QUERIES {
        assert_eq!(runtime.block_on(ask(&state, &sample.replace("{t}", &token))), Ok(true), "{sample}");
    }
    let long = format!("_DASH_pathway={}&t={token}", "a,".repeat(20_000));
    assert_eq!(runtime.block_on(ask(&state, &long)), Ok(true));
}

#[tokio::test]
async fn mutated_queries_get_good_answers_over_the_wire() {
    let node = Node::start().await;
    let playlist = node.text("/v1/playlists/hls/vod/lake/master.m3u8").await;
    let poll = super::node::server_uri(&playlist);
    let token = poll.split_once("t=").expect("a token").1;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for n in 0..400 {
        let drawn = (words(), changes()).new_tree(&mut runner).expect("drawn").current();
        let query = query(QUERIES[n % QUERIES.len()], &drawn.0, &drawn.1, token);
        // The client would send what stands behind a # to nobody.
        let path = format!("/v1/steer/{}?{}", ["hls", "dash"][n % 2], query.replace('#', ""));
        let answer = node.steer(&path).await;
        let names: BTreeSet<_> = answer.priority.iter().collect();
        assert!(names.len() == answer.priority.len() && names.len() >= 3, "{path}: {names:?}");
    }
    node.shutdown.cancel();
}

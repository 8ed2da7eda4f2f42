//! Sampled answers as a collector gets them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, Uri};
use axum::routing::post;
use spillway_model::PathwayState;
use spillway_wire::rows;
use spillway_wire::steer_answer::SteerAnswer;
use spillway_wire::steering::SteeringAnswer;
use tokio::net::TcpListener;

use super::fixtures::{manifest, sealed};
use super::node::{Node, server_uri};

type Rows = Arc<Mutex<Vec<SteerAnswer>>>;

fn names(answer: &SteeringAnswer<'_>) -> Vec<String> {
    answer.priority.iter().map(ToString::to_string).collect()
}

async fn collector() -> (Rows, String) {
    let rows = Rows::default();
    let stored = Arc::clone(&rows);
    let take = async move |headers: HeaderMap, uri: Uri, body: String| {
        assert_eq!(headers["authorization"], "Bearer a-secret-of-roles");
        assert!(uri.query().is_some_and(|query| query.starts_with("v=1&source=steer-test&seq=")), "{uri}");
        let received = rows::parse::<SteerAnswer>(body.as_bytes()).expect("rows");
        assert_eq!(received.rejected, [], "{body}");
        stored.lock().unwrap_or_else(PoisonError::into_inner).extend(received.rows.into_iter().map(|(_, row)| row));
        r#"{"accepted":1,"rejected":[],"duplicate":false}"#
    };
    let router = Router::new().route("/v1/steers", post(take));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (rows, url)
}

/// Ends the node and waits until it has posted what it had.
async fn end(node: &Node, rows: &Rows) -> Vec<SteerAnswer> {
    node.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), node.posted.cancelled()).await.expect("posts and ends");
    rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[tokio::test]
async fn an_answer_reaches_the_collector_with_its_why() {
    let (rows, url) = collector().await;
    let node = Node::with(|config| {
        config.collectors = Some(vec![url]);
        config.sample_share = 1.0;
    })
    .await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(1, &[("cdn-a", 1_000_000)])), |region| region["epoch"] == 1).await;
    let poll = server_uri(&node.text("/v1/playlists/hls/vod/lake/master.m3u8?sid=view-1").await);
    let mut plan = manifest(2, &[("cdn-b", 1_000_000)]);
    plan.pathways.get_mut("cdn-a").expect("there").state = PathwayState::Down;
    node.publish(sealed(&plan), |region| region["epoch"] == 2).await;

    let one = node.steer(&format!("{poll}&_HLS_pathway=cdn-a&_HLS_throughput=500000")).await;
    let again = one.reload_uri.clone().expect("a reload URI");
    let two = node.steer(again.strip_prefix("http://steer.example").expect("ours")).await;
    node.steer("/v1/steer/dash?t=forged").await;
    node.json("/v1/decide?content=vod/lake&sid=view-2").await;

    let rows = end(&node, &rows).await;
    let told: Vec<_> = rows.iter().map(|row| (row.protocol.as_str(), row.view_id.as_deref(), row.epoch)).collect();
    assert_eq!(
        told,
        [
            ("hls", Some("view-1"), Some(2)),
            ("hls", Some("view-1"), Some(2)),
            ("dash", None, Some(2)),
            ("other", None, Some(2)),
        ]
    );
    assert_eq!((&rows[0].priority[..], rows[0].ttl_s), (&names(&one)[..], one.ttl_s));
    assert_eq!((&rows[1].priority[..], rows[1].ttl_s), (&names(&two)[..], two.ttl_s));
    let reasons: Vec<_> = rows.iter().map(|row| row.reason.as_deref().expect("a reason")).collect();
    assert_eq!(reasons, ["first_answer", "weight", "weight", "weight"]);
    assert!(rows.iter().all(|row| (row.sample_rate - 1.0).abs() < f64::EPSILON && row.region == "eu-a"));
    let why = rows[0].why.as_ref().expect("a why");
    assert_eq!((&why["cohort"], &why["content"]), (&"eu-a/64501".into(), &"vod/lake".into()), "{why}");
    assert_eq!((&why["plan"], &why["mode"], &why["rule"]), (&"manifest".into(), &"control".into(), &"because".into()));
    assert_eq!((&why["player_is_on"], &why["states"]["cdn-a"]), (&"cdn-a".into(), &"DOWN".into()));
    assert_eq!(why["weights_ppm"], serde_json::json!({ "cdn-b": 1_000_000 }));
}

#[tokio::test]
async fn a_share_takes_whole_sessions_and_debug_takes_the_one_that_asks() {
    let (rows, url) = collector().await;
    let node = Node::with(|config| {
        config.collectors = Some(vec![url]);
        config.sample_share = 0.2;
    })
    .await;
    for session in 0..60 {
        let debug = if session == 7 { "&debug=1" } else { "" };
        let playlist = node.text(&format!("/v1/playlists/hls/vod/lake/master.m3u8?sid=view-{session}{debug}")).await;
        let one = node.steer(&server_uri(&playlist)).await;
        let again = one.reload_uri.expect("a reload URI");
        assert_eq!(again.contains("&debug=1"), session == 7, "handed on from poll to poll: {again}");
        node.steer(again.strip_prefix("http://steer.example").expect("ours")).await;
    }
    let rows = end(&node, &rows).await;
    let of = |session: u32| {
        let id = format!("view-{session}");
        rows.iter().filter(|row| row.view_id.as_deref() == Some(&id)).map(|row| row.sample_rate).collect::<Vec<_>>()
    };
    assert_eq!(of(7).len(), 2);
    let sampled = (0..60).filter(|session| *session != 7 && !of(*session).is_empty()).count();
    assert!((4..=25).contains(&sampled), "{sampled} of 59");
    for session in (0..60).filter(|session| *session != 7) {
        let rates = of(session);
        assert!(rates.is_empty() || rates == [0.2, 0.2], "both answers or none: {rates:?}");
    }
    assert!(rows.iter().all(|row| row.epoch.is_none()), "static weights have no epoch");
}

#[tokio::test]
async fn one_second_reports_no_flood_of_debug() {
    let (rows, url) = collector().await;
    let node = Node::with(|config| {
        config.collectors = Some(vec![url]);
        config.sample_share = 0.0;
    })
    .await;
    let poll = server_uri(&node.text("/v1/playlists/hls/vod/lake/master.m3u8?sid=v&debug=1").await);
    for _ in 0..30 {
        node.steer(&poll).await;
        node.steer("/v1/steer/hls?debug=1").await;
    }
    // The clock stands still.
    assert_eq!(end(&node, &rows).await.len(), 20);
}

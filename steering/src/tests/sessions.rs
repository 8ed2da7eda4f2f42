//! The session API over HTTP: where a session is sent, its playlist and its polls are one decision.

use serde_json::{Value, json};

use super::fixtures::{manifest, sealed};
use super::node::{Node, server_uri};

const SECRET: &str = "a-secret-of-roles";

async fn create(node: &Node, token: &str, body: &Value) -> (u16, Value) {
    let answer = node.post("/v1/sessions").bearer_auth(token).body(body.to_string()).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("json"))
}

fn names(answer: &Value) -> Vec<&str> {
    answer["pathways"].as_array().expect("a list").iter().map(|of| of["id"].as_str().expect("an id")).collect()
}

fn below_host(url: &Value) -> String {
    url.as_str().and_then(|url| url.strip_prefix("http://steer.example")).expect("our public URL").to_owned()
}

#[tokio::test]
async fn session_playlist_and_polls_agree_and_keep_to_what_is_allowed() {
    let node = Node::start().await;
    node.publish_keys().await;
    let weights = [("cdn-a", 400_000), ("cdn-b", 300_000), ("own-x", 300_000)];
    node.publish(sealed(&manifest(1, &weights)), |region| region["epoch"] == 1).await;
    let mut firsts = std::collections::BTreeSet::new();
    for number in 0..30 {
        let ask = json!({
            "v": 1, "path": "vod/lake/master.m3u8", "sid": format!("view-{number}"), "client_ip": "127.11.1.9",
            "pathways": ["cdn-a", "cdn-b", "own-x-2"],
        });
        let (status, session) = create(&node, SECRET, &ask).await;
        assert_eq!(status, 201, "{session}");
        let mut order = names(&session);
        assert_eq!((session["region"].as_str(), session["asn"].as_u64()), (Some("eu-a"), Some(64_501)));
        let playlist = node.text(&below_host(&session["playlist_url"])).await;
        let first = node.steer(&server_uri(&playlist)).await;
        assert_eq!(first.priority, order, "the first poll repeats the session's order");
        let next = first.reload_uri.expect("one").strip_prefix("http://steer.example").expect("ours").to_owned();
        assert_eq!(node.steer(&next).await.priority, order, "and so does the second");
        firsts.insert(order[0].to_owned());
        order.sort_unstable();
        assert_eq!(order, ["cdn-a", "cdn-b", "own-x-2"]);
    }
    assert!(firsts.len() >= 2, "a single pathway for thirty sessions: {firsts:?}");
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_custom_player_gets_urls_and_asks_again_by_its_token() {
    let node = Node::start().await;
    let ask = json!({"v": 1, "path": "vod/lake/movie.mp4", "protocol": "other", "client_ip": "127.12.0.1"});
    let (status, session) = create(&node, SECRET, &ask).await;
    assert_eq!((status, session["playlist_url"].as_str()), (201, None));
    let first = &session["pathways"][0];
    let id = first["id"].as_str().expect("an id");
    assert_eq!(first["url"], format!("http://{id}.example/p/vod/lake/movie.mp4"));
    let token = session["token"].as_str().expect("a token");
    let again = node.json(&format!("/v1/decide?t={token}")).await;
    assert_eq!((&again["sid"], &again["pathways"][0]["id"]), (&session["sid"], &first["id"]));
    node.shutdown.cancel();
}

#[tokio::test]
async fn bad_requests_name_field_value_and_what_is_valid() {
    let node = Node::start().await;
    let good = json!({"v": 1, "path": "vod/lake/master.m3u8"});
    assert_eq!(create(&node, SECRET, &good).await.0, 201);
    assert_eq!(create(&node, "another-secret", &good).await.0, 401);
    for (field, value, says) in [
        ("v", json!(2), "v \"2\" is not valid (valid: 1)"),
        ("path", json!("../etc"), "path \"../etc\" is not valid"),
        ("protocol", json!("rtmp"), "valid: hls, dash, other"),
        ("client_ip", json!("300.1.1.1"), "an IPv4 or IPv6 address"),
        ("region", json!("mars"), "region \"mars\" is not valid (valid: eu-a, eu-b)"),
        ("pathways", json!(["cdn-z"]), "pathways \"cdn-z\" is not valid (valid: cdn-a"),
        ("device_class", json!("toaster"), "valid: desktop, mobile"),
        ("territory", json!("D E"), "territory \"D E\" is not valid"),
        ("sid", json!("a b"), "sid \"a b\" is not valid"),
    ] {
        let mut ask = good.clone();
        ask[field] = value;
        let (status, told) = create(&node, SECRET, &ask).await;
        assert_eq!(status, 400, "{field}");
        let detail = told["detail"].as_str().expect("words");
        assert!(detail.contains(says), "{detail}");
    }
    node.shutdown.cancel();
}

#[tokio::test]
async fn a_player_that_does_not_follow_gets_one_safe_pathway_and_no_steering() {
    let node = Node::start().await;
    node.publish_keys().await;
    node.publish(sealed(&manifest(1, &[("own-x", 1_000_000)])), |region| region["epoch"] == 1).await;
    let playlist = "/v1/playlists/hls/vod/lake/master.m3u8?player=oldtv";
    assert!(node.text(playlist).await.contains("#EXT-X-CONTENT-STEERING"), "nothing is known of it yet");
    let registry = json!({"v": 1, "at_ms": 1, "players": [
        {"player": "oldtv", "version": "", "moves": 60, "followed": 0, "follows": false},
    ]});
    node.set(spillway_wire::follow::FOLLOW_KEY, registry.to_string().into_bytes()).await;
    let mut written = String::new();
    for _ in 0..500 {
        written = node.text(playlist).await;
        if !written.contains("#EXT-X-CONTENT-STEERING") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let uris: Vec<&str> = written.lines().filter(|line| line.starts_with("http")).collect();
    assert_eq!(uris.len(), 1, "{written}");
    assert!(uris[0].starts_with("http://cdn-"), "a CDN outlives a node: {written}");
    let others = node.text("/v1/playlists/hls/vod/lake/master.m3u8?player=hls.js").await;
    assert!(others.contains("#EXT-X-CONTENT-STEERING"));
    node.shutdown.cancel();
}

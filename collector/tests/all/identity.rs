//! Who sent it: as much as is needed, and nothing that names anybody.

use serde_json::json;

use crate::support::{NOW_MS, beacon, config, event, start};

const TIZEN: &str =
    "Mozilla/5.0 (SMART-TV; LINUX; Tizen 6.5) AppleWebKit/537.36 (KHTML, like Gecko) 85.0/6.5 TV Safari/537.36";

fn with_session(view: &str, ctx: serde_json::Value) -> String {
    let mut body: serde_json::Value =
        serde_json::from_str(&beacon(view, json!([event("heartbeat", 0, json!({}))]))).expect("json");
    for (key, value) in ctx.as_object().expect("an object") {
        body["ctx"][key] = value.clone();
    }
    body.to_string()
}

#[tokio::test]
async fn country_and_network_come_from_a_trusted_proxy_and_the_prefix_table_goes_before() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let plain = |view| with_session(view, json!({}));
    let told = [("x-country", "de"), ("x-asn", "AS64999")];
    let on_net = [("x-client", "10.1.2.3"), ("x-country", "XX"), ("x-asn", "64999")];
    assert_eq!(running.post_with(plain("a"), &told).await.0, 202);
    assert_eq!(running.post_with(plain("b"), &on_net).await.0, 202);
    let rows = running.select("SELECT region, asn, country FROM events ORDER BY view_id").await;
    assert_eq!(
        rows,
        [json!({"region": "eu-a", "asn": 64_999, "country": "DE"}), json!({"region": "eu-a", "asn": 64_500})]
    );
    running.stop().await;
}

#[tokio::test]
async fn the_user_agent_fills_only_what_the_player_left_open_and_is_not_stored() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let agent = [("user-agent", TIZEN)];
    assert_eq!(running.post_with(with_session("a", json!({})), &agent).await.0, 202);
    let said = json!({"device_class": "stb", "os": "linux", "browser": "wpe"});
    assert_eq!(running.post_with(with_session("b", said.clone()), &agent).await.0, 202);
    let rows = running.select("SELECT device_class, os, browser FROM events ORDER BY view_id").await;
    assert_eq!(rows, [json!({"device_class": "tv", "os": "tizen", "browser": "safari"}), said]);
    let everything = running.select("SELECT * FROM events").await;
    assert!(!format!("{everything:?}").contains("Tizen"), "{everything:?}");
    running.stop().await;
}

#[tokio::test]
async fn global_privacy_control_ends_the_session_and_keeps_the_view() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    for (view, gpc) in [("off", "0"), ("on", "1")] {
        let body = with_session(view, json!({"session_id": "tab-1"}));
        assert_eq!(running.post_with(body, &[("sec-gpc", gpc), ("x-client", "10.1.2.3")]).await.0, 202);
    }
    let rows = running.select("SELECT view_id, session_id, asn FROM events ORDER BY view_id").await;
    let kept = json!({"view_id": "off", "session_id": "tab-1", "asn": 64_500});
    assert_eq!(rows, [kept, json!({"view_id": "on", "asn": 64_500})]);
    running.stop().await;
}

#[tokio::test]
async fn no_query_string_comes_to_rest_whatever_field_it_is_in() {
    let dir = tempfile::tempdir().expect("dir");
    let running = start(&dir, config()).await;
    let dirty = "https://u:p@a.example:81/x?secret=1#secret";
    let more = json!({
        "state": dirty, "reason": dirty, "host": dirty,
        "request": {"host": dirty, "status": 0},
        "error": {"severity": dirty, "class": "path", "code": dirty, "message": format!("GET {dirty} failed")},
    });
    let mut body: serde_json::Value =
        serde_json::from_str(&beacon("v", json!([event("segment", 0, more)]))).expect("json");
    body["sdk"] = dirty.into();
    for key in [
        "session_id",
        "title",
        "stream_type",
        "format",
        "player",
        "player_version",
        "device_class",
        "os",
        "browser",
        "page_type",
    ] {
        body["ctx"][key] = dirty.into();
    }
    body["sent_ms"] = NOW_MS.into();
    assert_eq!(running.post(body.to_string()).await.0, 202);
    let rows = running.select("SELECT * FROM events").await;
    assert_eq!(rows.len(), 1);
    let shown = rows[0].to_string();
    assert!(!shown.contains("secret") && !shown.contains("u:p"), "{shown}");
    assert_eq!((&rows[0]["host"], &rows[0]["pathway"]), (&json!("a.example:81"), &json!("cdn-a")));
    assert_eq!(rows[0]["request_pathway"], "cdn-a");
    running.stop().await;
}

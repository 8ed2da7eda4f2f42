//! Another configuration while the orchestrator runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use spillway_orchestrator_core::Parameters;
use spillway_service::config::ConfigError;
use spillway_service::deployment::{Deployment, PathwayConfig, RegionConfig};

use super::Orchestrator;
use crate::reload::{KeyChange, Reread, Rereader};
use crate::{Configured, OrchestratorConfig};

type Says = Box<dyn Fn() -> Result<Reread, ConfigError> + Send>;

/// The configuration file.
#[derive(Clone, Default)]
pub(super) struct File(Arc<Mutex<Option<Says>>>);

impl File {
    pub(super) fn rereader(&self) -> Rereader {
        let says = Arc::clone(&self.0);
        Arc::new(move || match &*says.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(says) => says(),
            None => Err(ConfigError::invalid("file", "none", "one that is written")),
        })
    }
}

impl Orchestrator {
    /// Writes the configuration of the start with a change, and what differs then.
    fn write(
        &self,
        key: &'static str,
        change: impl Fn(&mut BTreeMap<String, RegionConfig>, &mut BTreeMap<String, PathwayConfig>) + Send + 'static,
    ) {
        let configured = self.configured.clone();
        let says = move || {
            let before = &configured.deployment;
            let mut regions = before.regions.iter().map(|(id, config)| (id.to_string(), config.clone())).collect();
            let mut pathways = before.pathways.iter().map(|(id, config)| (id.to_string(), config.clone())).collect();
            change(&mut regions, &mut pathways);
            let (regions, pathways) = (regions.into_values().collect(), pathways.into_values().collect());
            Ok(Reread {
                configured: Configured {
                    deployment: Arc::new(Deployment::new(vec![], regions, pathways, vec![])?),
                    recorded: format!("# {key}\n"),
                    ..configured.clone()
                },
                changed: vec![KeyChange { key: key.into(), from: None, to: Some("x".into()) }],
                needs_restart: vec!["lake.jobs".into()],
                taken: Box::new(|| ()),
            })
        };
        *self.file.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(says));
    }

    async fn reload(&self, dry_run: bool) -> (u16, Value) {
        let path = format!("/v1/reload?dry_run={dry_run}");
        self.ask(Method::POST, &path, "operator-token", &Value::Null).await
    }

    /// The pathways of a region's manifest in force.
    async fn pathways(&self, region: &str) -> Vec<String> {
        let (_, overview) = self.ask(Method::GET, "/v1/overview", "", &Value::Null).await;
        let pathways = overview["regions"][region]["pathways"].as_object().cloned().unwrap_or_default();
        pathways.keys().cloned().collect()
    }
}

/// `eu-b` gets another CDN.
fn add_cdn_d(_: &mut BTreeMap<String, RegionConfig>, pathways: &mut BTreeMap<String, PathwayConfig>) {
    let new = PathwayConfig {
        id: "cdn-d".into(),
        base_url: "http://cdn-d.example".into(),
        regions: vec!["eu-b".into()],
        ..pathways["cdn-c"].clone()
    };
    pathways.insert("cdn-d".into(), new);
}

async fn started(dir: &tempfile::TempDir) -> Orchestrator {
    let parameters = Parameters { hot_title_share: 1.0, ..Parameters::default() };
    let one = Orchestrator::start(dir.path(), OrchestratorConfig::default(), parameters).await;
    one.play();
    one.notes(<[Value]>::is_empty).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    one
}

#[tokio::test]
async fn a_dry_run_tells_what_a_reload_then_does() {
    let dir = tempfile::tempdir().expect("dir");
    let one = started(&dir).await;
    let path = "/v1/reload";
    assert_eq!(one.ask(Method::POST, path, "viewer-token", &Value::Null).await.0, 403);
    assert_eq!(one.ask(Method::POST, path, "nobody", &Value::Null).await.0, 401);
    let (status, refused) = one.ask(Method::POST, "/v1/reload?dry_run=1", "operator-token", &Value::Null).await;
    assert_eq!((status, refused["error"].as_str()), (400, Some("bad_value")));

    one.write("pathway[cdn-d]", add_cdn_d);
    let (status, told) = one.reload(true).await;
    assert_eq!((status, told["outcome"].as_str()), (200, Some("dry_run")), "{told}");
    assert_eq!(told["changed"][0]["key"], "pathway[cdn-d]");
    assert_eq!(told["needs_restart"], json!(["lake.jobs"]));
    assert_eq!(told["added"], json!([{"region": "eu-b", "pathway": "cdn-d"}]));
    assert_eq!(told["regions"]["eu-a"]["state"], "same", "{told}");
    let text = told["regions"]["eu-b"]["text"].as_array().expect("lines");
    let says = |words: &str| text.iter().any(|line| line.as_str().is_some_and(|line| line.starts_with(words)));
    assert!(says("state cdn-d: new, RECOVERING"), "{told}");
    assert!(!one.pathways("eu-b").await.contains(&"cdn-d".to_owned()), "nothing changed");

    let (status, applied) = one.reload(false).await;
    assert_eq!((status, applied["outcome"].as_str()), (200, Some("applied")), "{applied}");
    assert_eq!(applied["added"], told["added"]);
    assert!(one.pathways("eu-b").await.contains(&"cdn-d".to_owned()), "published when it is answered");
    assert!(!one.pathways("eu-a").await.contains(&"cdn-d".to_owned()));
    let order = json!({"kind": "exclude", "target": "cdn-d", "reason": "x", "expires_s": 60});
    assert_eq!(
        one.ask(Method::POST, "/v1/admin/overrides", "operator-token", &order).await.0,
        201,
        "everybody knows it"
    );
    one.stop().await;

    let root = spillway_lake::lake_root(dir.path().join("lake").to_str().expect("utf-8")).expect("root");
    let session = spillway_lake::LakeSession::open(&root, vec![]).await.expect("open");
    let count = async |sql: &str| session.count(sql).await.expect("count");
    assert_eq!(
        count("SELECT count(*) FROM audit WHERE action = 'config.reload' AND actor = 'operator-token'").await,
        1
    );
    let recorded = "SELECT count(*) FROM rounds WHERE config_toml = '# pathway[cdn-d]\n' AND in_force_json IS NOT NULL";
    assert!(count(recorded).await >= 1, "a backtest finds the configuration that decided");
}

#[tokio::test]
async fn a_pathway_that_goes_takes_no_view_and_one_that_is_pinned_does_not_go() {
    let dir = tempfile::tempdir().expect("dir");
    let one = started(&dir).await;
    let pin = json!({"kind": "pin", "target": "cdn-b", "region": "eu-b", "reason": "x", "expires_s": 600});
    let (_, order) = one.ask(Method::POST, "/v1/admin/overrides", "operator-token", &pin).await;
    one.write("pathway[cdn-b]", |regions, pathways| {
        drop(pathways.remove("cdn-b"));
        regions.entry("eu-b".into()).and_modify(|region| region.static_weights.retain(|name, _| name != "cdn-b"));
    });
    for dry_run in [true, false] {
        let (status, refused) = one.reload(dry_run).await;
        assert_eq!((status, refused["error"].as_str()), (409, Some("in_use")), "{refused}");
        let id = order["id"].as_str().expect("an id");
        assert!(refused["detail"].as_str().is_some_and(|text| text.contains(id) && text.contains("pin cdn-b")));
    }
    let end = format!("/v1/admin/overrides/{}", order["id"].as_str().expect("an id"));
    assert_eq!(one.ask(Method::DELETE, &end, "operator-token", &Value::Null).await.0, 204);
    let exclude = json!({"kind": "exclude", "target": "cdn-b", "reason": "x", "expires_s": 600});
    assert_eq!(one.ask(Method::POST, "/v1/admin/overrides", "operator-token", &exclude).await.0, 201);

    let (status, told) = one.reload(false).await;
    assert_eq!(status, 200, "{told}");
    let removed =
        json!([{"region": "eu-a", "pathway": "cdn-b", "views": 3}, {"region": "eu-b", "pathway": "cdn-b", "views": 3}]);
    assert_eq!(told["removed"], removed, "{told}");
    assert!(told["orders"][0].as_str().is_some_and(|order| order.contains("exclude cdn-b")), "{told}");
    for region in ["eu-a", "eu-b"] {
        assert!(!one.pathways(region).await.contains(&"cdn-b".to_owned()));
    }
    one.stop().await;
}

#[tokio::test]
async fn a_file_that_is_not_valid_is_refused_and_the_old_one_goes_on() {
    let dir = tempfile::tempdir().expect("dir");
    let one = started(&dir).await;
    let before = one.pathways("eu-b").await;
    one.write("region[eu-b]", |_, pathways| pathways.retain(|id, _| id == "cdn-a" || id.starts_with("own-")));
    for dry_run in [true, false] {
        let (status, refused) = one.reload(dry_run).await;
        assert_eq!((status, refused["error"].as_str()), (400, Some("bad_configuration")), "{refused}");
        let detail = refused["detail"].as_str().expect("words");
        assert!(detail.contains("region[eu-b].static_weights") && detail.contains("cdn-b"), "{detail}");
    }
    assert_eq!(one.pathways("eu-b").await, before);
    one.stop().await;
}

#[tokio::test]
async fn a_hangup_reloads_and_a_region_comes_and_goes() {
    let dir = tempfile::tempdir().expect("dir");
    let one = started(&dir).await;
    one.write("region[eu-c]", |regions, _| {
        let new = RegionConfig { id: "eu-c".into(), ..regions["eu-b"].clone() };
        regions.insert("eu-c".into(), new);
    });
    one.hangups.send_modify(|count| *count += 1);
    for _ in 0..100 {
        if !one.pathways("eu-c").await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(one.pathways("eu-c").await, ["cdn-a", "cdn-b", "cdn-c"]);
    assert_eq!(one.ask(Method::GET, "/v1/manifests/eu-c", "", &Value::Null).await.0, 200);
    one.write("region[eu-c]", |_, _| ());
    let (status, told) = one.reload(false).await;
    assert_eq!((status, told["regions"]["eu-c"]["state"].as_str()), (200, Some("gone")), "{told}");
    assert!(one.pathways("eu-c").await.is_empty());
    assert_eq!(one.ask(Method::GET, "/v1/manifests/eu-c", "", &Value::Null).await.0, 404);
    one.stop().await;
}

#[tokio::test]
async fn what_a_pathway_may_serve_is_in_the_next_manifest() {
    let dir = tempfile::tempdir().expect("dir");
    let one = started(&dir).await;
    one.write("pathway[cdn-c]", |_, pathways| {
        pathways.entry("cdn-c".into()).and_modify(|config| {
            (config.codecs, config.drm) = (vec!["hev1".into()], vec!["widevine".into()]);
            (config.territories, config.address_families) = (vec!["de".into()], vec!["v6".into()]);
        });
    });
    assert_eq!(one.reload(false).await.0, 200);
    let url = format!("{}/v1/manifests/eu-b", one.url);
    let envelope = one.client.get(url).send().await.expect("an answer").bytes().await.expect("bytes");
    let payload = spillway_wire::envelope::peek(&envelope).expect("an envelope");
    let manifest: Value = serde_json::from_slice(&payload).expect("JSON");
    let serves = |id: &str| manifest["pathways"][id]["serves"].clone();
    let some = json!({"classes": [], "codecs": ["hev1"], "drm": ["widevine"], "territories": ["DE"],
                      "address_families": ["v6"]});
    let all = json!({"classes": [], "codecs": [], "drm": [], "territories": [], "address_families": []});
    assert_eq!((serves("cdn-c"), serves("cdn-b")), (some, all));
    one.stop().await;
}

#[tokio::test]
async fn a_feed_that_stays_keeps_what_was_read_and_another_one_begins_with_nothing() {
    const DOCUMENT: &str = r#"{"capabilities": [{"capability-type": "FCI.CapacityLimits", "capability-value": {"limits":
        [{"limit-type": "egress", "maximum-hard": 5000000}]}}]}"#;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}/", listener.local_addr().expect("address"));
    let router = axum::Router::new().route("/", axum::routing::get(|| async { DOCUMENT }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let deployment = |feed: Option<&str>, capacity_mbps: f64| {
        let before = crate::fixtures::deployment();
        let mut pathways: Vec<PathwayConfig> = before.pathways.values().cloned().collect();
        for pathway in pathways.iter_mut().filter(|pathway| pathway.id == "cdn-a") {
            let feed = feed.map(|url| toml::from_str(&format!("url = \"{url}\"")).expect("a feed"));
            (pathway.capacity_feed, pathway.capacity_mbps) = (feed, capacity_mbps);
        }
        Deployment::new(vec![], before.regions.values().cloned().collect(), pathways, vec![]).expect("valid")
    };
    let clock: Arc<dyn spillway_model::Clock> = Arc::new(spillway_service::SystemClock::default());
    let mut feeds = crate::capacity::Feeds::start(&deployment(Some(&url), 100.0), &clock);
    for _ in 0..100 {
        if !feeds.limits().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(feeds.limits().len(), 1);
    feeds.deploy(&deployment(Some(&url), 50.0), &clock);
    assert_eq!(feeds.limits().len(), 1, "the feed is the same");
    feeds.deploy(&deployment(Some("http://127.0.0.1:9/"), 50.0), &clock);
    assert_eq!(feeds.limits(), [], "what another one said");
    feeds.deploy(&deployment(Some(&url), 50.0), &clock);
    feeds.deploy(&deployment(None, 50.0), &clock);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(feeds.limits(), [], "its task ended with it");
}

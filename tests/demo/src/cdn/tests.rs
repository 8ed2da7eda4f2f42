use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::faults::{Fault, FaultKind, ShareOf};
use super::*;

const SOUTH: Ipv4Addr = Ipv4Addr::new(127, 11, 1, 2);
const NORTH: Ipv4Addr = Ipv4Addr::new(127, 12, 2, 2);
const OBJECT_BYTES: usize = 40_000;

/// An origin of `/object…` (fresh for a minute) and `/gated` (waits for a permit).
struct TestOrigin {
    gate: Arc<Semaphore>,
    requests: AtomicU64,
}

async fn origin_answer(State(origin): State<Arc<TestOrigin>>, uri: Uri) -> Response {
    origin.requests.fetch_add(1, Ordering::SeqCst);
    if uri.path() == "/gated" {
        origin.gate.acquire().await.unwrap().forget();
    } else if !uri.path().starts_with("/object") {
        return (StatusCode::NOT_FOUND, [("cache-control", "no-store")], "none").into_response();
    }
    let headers = [("cache-control", "public, max-age=60"), ("content-type", "video/mp4")];
    (headers, vec![7; OBJECT_BYTES]).into_response()
}

struct Running {
    cdn: Arc<Cdn>,
    origin: Arc<TestOrigin>,
    base: String,
}

async fn running() -> Running {
    running_with(|_| {}).await
}

async fn running_with(change: impl Fn(&mut CdnConfig)) -> Running {
    let origin = Arc::new(TestOrigin { gate: Arc::new(Semaphore::new(0)), requests: AtomicU64::new(0) });
    let routes = Router::new().fallback(origin_answer).with_state(Arc::clone(&origin));
    let origin_base_url = spawn_router(routes).await;
    let mut config = CdnConfig {
        name: "cdn-a".to_owned(),
        origin_base_url,
        capacity_bps: 1_000_000_000,
        price_usd_per_gb: 0.02,
        base_latency_ms: 0,
        cache_bytes: DEFAULT_CACHE_BYTES,
        regions: BTreeMap::from([(11, "eu-south".to_owned()), (12, "eu-north".to_owned())]),
        asns: BTreeMap::from([(1, 64_501), (2, 64_502)]),
    };
    change(&mut config);
    let cdn = Cdn::new(config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, Arc::clone(&cdn)));
    Running { cdn, origin, base }
}

async fn spawn_router(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

fn client(address: Ipv4Addr) -> reqwest::Client {
    reqwest::Client::builder().no_proxy().local_address(IpAddr::V4(address)).build().unwrap()
}

impl Running {
    async fn get(&self, client: &reqwest::Client, path: &str) -> reqwest::Result<reqwest::Response> {
        client.get(format!("{}{path}", self.base)).send().await
    }

    async fn status(&self, client: &reqwest::Client) -> u16 {
        self.get(client, "/object").await.unwrap().status().as_u16()
    }

    /// Waits until a counter has come this far.
    async fn requests_reach(&self, requests: u64) {
        while self.cdn.stats().total.requests < requests {
            tokio::task::yield_now().await;
        }
    }
}

fn caused_by_reset(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::ConnectionReset;
        }
        source = cause.source();
    }
    false
}

#[tokio::test]
async fn an_object_is_fetched_once_and_then_served_with_its_age() {
    let running = running().await;
    let south = client(SOUTH);
    let miss = running.get(&south, "/object").await.unwrap();
    assert_eq!(miss.headers()["cache-status"], "cdn-a; fwd=uri-miss");
    assert_eq!(miss.headers()["x-cdn"], "cdn-a");
    assert_eq!(miss.headers()["content-type"], "video/mp4");
    assert_eq!(miss.bytes().await.unwrap().len(), OBJECT_BYTES);
    let hit = running.get(&south, "/object?CMCD=sid%3D1").await.unwrap();
    assert!(hit.headers()["cache-status"].to_str().unwrap().starts_with("cdn-a; hit; ttl="));
    assert_eq!(hit.headers()["age"], "0");
    assert_eq!(hit.bytes().await.unwrap().len(), OBJECT_BYTES);
    assert_eq!(running.origin.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_requests_for_one_key_wait_for_one_fetch() {
    let running = running().await;
    let south = client(SOUTH);
    let requests = (0..20).map(|_| running.get(&south, "/gated"));
    let opened = async {
        running.requests_reach(20).await;
        running.origin.gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(requests), opened);
    let mut collapsed = 0;
    for answer in answers {
        let answer = answer.unwrap();
        collapsed += u32::from(answer.headers()["cache-status"] == "cdn-a; fwd=uri-miss; collapsed");
        assert_eq!(answer.bytes().await.unwrap().len(), OBJECT_BYTES);
    }
    assert_eq!(collapsed, 19);
    assert_eq!(running.origin.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_least_recently_used_object_leaves_a_full_cache() {
    let running = running_with(|config| config.cache_bytes = 2 * OBJECT_BYTES as u64).await;
    let south = client(SOUTH);
    for path in ["/object1", "/object2", "/object1", "/object3", "/object1"] {
        running.get(&south, path).await.unwrap().bytes().await.unwrap();
    }
    assert_eq!(running.origin.requests.load(Ordering::SeqCst), 3);
    running.get(&south, "/object2").await.unwrap();
    assert_eq!(running.origin.requests.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_answer_without_freshness_is_not_stored_and_a_dead_origin_is_a_502() {
    let running = running().await;
    let south = client(SOUTH);
    for _ in 0..2 {
        assert_eq!(running.get(&south, "/none").await.unwrap().status(), 404);
    }
    assert_eq!(running.origin.requests.load(Ordering::SeqCst), 2);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let alone = running_with(|config| config.origin_base_url.clone_from(&nobody)).await;
    let answer = alone.get(&south, "/object").await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn a_status_fault_hits_its_region_only_and_an_open_connection_too() {
    let running = running().await;
    let (south, north) = (client(SOUTH), client(NORTH));
    assert_eq!(running.status(&south).await, 200);
    running.cdn.faults().set(Fault::in_region("eu-south", FaultKind::Status { status: 503 }));
    let broken = running.get(&south, "/object").await.unwrap();
    assert_eq!(broken.status(), 503);
    assert_eq!(broken.headers()["access-control-allow-origin"], "*");
    assert_eq!(broken.headers()["x-cdn"], "cdn-a");
    assert_eq!(running.status(&north).await, 200);
    running.cdn.faults().clear_region("eu-south");
    assert_eq!(running.status(&south).await, 200);
}

#[tokio::test]
async fn a_fault_can_be_limited_to_one_asn() {
    let running = running().await;
    let kind = FaultKind::Status { status: 404 };
    running.cdn.faults().set(Fault { asn: Some(64_501), ..Fault::in_region("eu-south", kind) });
    assert_eq!(running.status(&client(SOUTH)).await, 404);
    assert_eq!(running.status(&client(Ipv4Addr::new(127, 11, 2, 2))).await, 200);
}

#[tokio::test]
async fn a_share_of_requests_is_hit_and_a_share_of_clients_is_always_the_same() {
    let running = running().await;
    let fault = Fault { share_percent: 30, ..Fault::everywhere(FaultKind::Status { status: 503 }) };
    running.cdn.faults().set(fault.clone());
    let south = client(SOUTH);
    let mut hit = 0;
    for _ in 0..200 {
        hit += u32::from(running.status(&south).await == 503);
    }
    assert!((40..=80).contains(&hit), "{hit} of 200");

    running.cdn.faults().set(Fault { share_of: ShareOf::Clients, ..fault });
    let mut hit_clients = 0;
    for last in 1..=40 {
        let client = client(Ipv4Addr::new(127, 11, 1, last));
        let first = running.status(&client).await;
        assert_eq!(running.status(&client).await, first);
        hit_clients += u32::from(first == 503);
    }
    assert!((4..=20).contains(&hit_clients), "{hit_clients} of 40");
}

#[tokio::test]
async fn a_latency_fault_delays_the_answer() {
    let running = running().await;
    let (south, north) = (client(SOUTH), client(NORTH));
    running.cdn.faults().set(Fault::in_region("eu-south", FaultKind::Latency { ms: 150 }));
    let started = Instant::now();
    running.status(&south).await;
    assert!(started.elapsed() >= Duration::from_millis(150));
    let started = Instant::now();
    running.status(&north).await;
    assert!(started.elapsed() < Duration::from_millis(150));
}

#[tokio::test]
async fn a_throttle_fault_slows_each_body_to_its_rate() {
    let running = running().await;
    running.cdn.faults().set(Fault::in_region("eu-south", FaultKind::Throttle { kbps: 800 }));
    let started = Instant::now();
    let body = running.get(&client(SOUTH), "/object").await.unwrap().bytes().await.unwrap();
    assert_eq!(body.len(), OBJECT_BYTES);
    let expected = Duration::from_millis(OBJECT_BYTES as u64 * 8 / 800);
    assert!(started.elapsed() >= expected.mul_f64(0.9), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_throttle_is_lifted_for_a_body_that_is_being_sent() {
    let running = running().await;
    running.cdn.faults().set(Fault::everywhere(FaultKind::Throttle { kbps: 8 }));
    let mut answer = running.get(&client(SOUTH), "/object").await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    running.cdn.faults().clear();
    let rest = tokio::time::timeout(Duration::from_secs(5), answer.bytes());
    assert!(rest.await.is_ok(), "at 8 kbit/s it would take 40 s");
}

#[tokio::test]
async fn a_reset_fault_breaks_the_connection_in_the_middle_of_the_body() {
    let running = running().await;
    running.cdn.faults().set(Fault::in_region("eu-south", FaultKind::Reset));
    let south = client(SOUTH);
    let mut answer = running.get(&south, "/object").await.unwrap();
    assert_eq!(answer.headers()["content-length"], OBJECT_BYTES.to_string().as_str());
    let mut received = 0;
    let error = loop {
        match answer.chunk().await {
            Ok(chunk) => received += chunk.expect("the body must not end in order").len(),
            Err(error) => break error,
        }
    };
    assert!(caused_by_reset(&error), "{error:?}");
    assert!(received < OBJECT_BYTES);
    assert_eq!(running.status(&client(NORTH)).await, 200);
    assert_eq!(running.cdn.stats().by_region["eu-south"].status["broken"], 1);
}

#[tokio::test]
async fn a_reset_fault_breaks_a_request_without_body_too() {
    let running = running().await;
    running.cdn.faults().set(Fault::everywhere(FaultKind::Reset));
    let error = client(SOUTH).head(format!("{}/object", running.base)).send().await.unwrap_err();
    assert!(caused_by_reset(&error), "{error:?}");
}

#[tokio::test]
async fn a_hang_fault_sends_nothing_until_it_is_lifted() {
    let running = running().await;
    running.cdn.faults().set(Fault::in_region("eu-south", FaultKind::Hang));
    let south = client(SOUTH);
    let mut answer = Box::pin(running.get(&south, "/object"));
    tokio::select! {
        _ = &mut answer => panic!("answered while hanging"),
        () = tokio::time::sleep(Duration::from_millis(200)) => {}
    }
    assert_eq!(running.status(&client(NORTH)).await, 200);
    running.cdn.faults().clear();
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_hang_stops_a_body_that_is_being_sent() {
    let running = running().await;
    running.cdn.faults().set(Fault::everywhere(FaultKind::Throttle { kbps: 100 }));
    let mut answer = running.get(&client(SOUTH), "/object").await.unwrap();
    answer.chunk().await.unwrap().unwrap();
    running.cdn.faults().set(Fault::everywhere(FaultKind::Hang));
    let silent =
        tokio::time::timeout(Duration::from_millis(500), async { while answer.chunk().await.unwrap().is_some() {} });
    assert!(silent.await.is_err(), "the body ended in spite of the hang");
    running.cdn.faults().clear();
    answer.bytes().await.unwrap();
}

#[tokio::test]
async fn above_its_capacity_a_cdn_slows_bodies_and_refuses_none() {
    let running = running_with(|config| config.capacity_bps = 3_200_000).await;
    let south = client(SOUTH);
    let started = Instant::now();
    let bodies = (0..5).map(|_| async { running.get(&south, "/object").await.unwrap().bytes().await.unwrap().len() });
    let lengths = futures::future::join_all(bodies).await;
    assert_eq!(lengths, [OBJECT_BYTES; 5]);
    // 1.6 Mbit at 3.2 Mbit/s, less one burst and the chunk that is paid for by the next.
    assert!(started.elapsed() >= Duration::from_millis(340), "{:?}", started.elapsed());
}

#[tokio::test]
async fn counters_are_kept_per_region() {
    let running = running().await;
    running.get(&client(SOUTH), "/object").await.unwrap().bytes().await.unwrap();
    running.get(&client(NORTH), "/none").await.unwrap().bytes().await.unwrap();
    running.get(&client(Ipv4Addr::new(127, 99, 1, 1)), "/none").await.unwrap();
    let stats = running.cdn.stats();
    assert_eq!(stats.by_region["eu-south"].bytes, OBJECT_BYTES as u64);
    assert_eq!(stats.by_region["eu-south"].status["2xx"], 1);
    assert_eq!(stats.by_region["eu-north"].status["4xx"], 1);
    assert_eq!(stats.by_region["unknown"].requests, 1);
    assert_eq!(stats.total.requests, 3);
    assert!(stats.cost_usd > 0.0);
}

#[tokio::test]
async fn a_preflight_is_remembered_even_while_everything_fails() {
    let running = running().await;
    running.cdn.faults().set(Fault::everywhere(FaultKind::Status { status: 503 }));
    let url = format!("{}/object", running.base);
    let answer = client(SOUTH).request(http::Method::OPTIONS, url).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["access-control-max-age"], "600");
}

#[tokio::test]
async fn faults_are_set_listed_and_cleared_over_http() {
    let running = running().await;
    let control = spawn_router(control_router(vec![Arc::clone(&running.cdn)])).await;
    let http = client(Ipv4Addr::LOCALHOST);
    let body = r#"{"region":"eu-south","kind":"status","status":503,"share_percent":100}"#;
    let put = http.put(format!("{control}/faults/cdn-a")).body(body).send().await.unwrap();
    assert_eq!(put.status(), 200);
    assert_eq!(running.status(&client(SOUTH)).await, 503);
    let listed = http.get(format!("{control}/faults")).send().await.unwrap().text().await.unwrap();
    assert_eq!(
        listed,
        r#"{"cdn-a":[{"region":"eu-south","share_percent":100,"share_of":"requests","kind":"status","status":503}]}"#
    );
    let url = format!("{control}/faults/cdn-a?region=eu-south");
    assert_eq!(http.delete(url).send().await.unwrap().text().await.unwrap(), "[]");
    assert_eq!(running.status(&client(SOUTH)).await, 200);
    let stats: serde_json::Value = http.get(format!("{control}/stats")).send().await.unwrap().json().await.unwrap();
    assert_eq!(stats["cdn-a"]["by_region"]["eu-south"]["status"]["5xx"], 1);
}

#[tokio::test]
async fn an_unusable_fault_is_refused_with_what_would_be_valid() {
    let running = running().await;
    let control = spawn_router(control_router(vec![Arc::clone(&running.cdn)])).await;
    let http = client(Ipv4Addr::LOCALHOST);
    let cases = [
        (r#"{"kind":"explode"}"#, r#"use kind "explode" (valid: latency, throttle, status, reset, hang)"#),
        (r#"{}"#, "use kind null (valid: latency, throttle, status, reset, hang)"),
        (r#"{"kind":"reset","ms":3}"#, "use the key `ms` (valid: kind, region, asn, share_percent, share_of)"),
        (r#"{"kind":"status","status":200}"#, "use status 200 (valid: 400 to 599)"),
        (r#"{"kind":"throttle"}"#, "find the key `kbps` (valid: 1 to 10000000)"),
        (r#"{"kind":"hang","region":"mars"}"#, r#"use region "mars" (valid: eu-south, eu-north, unknown)"#),
        (r#"{"kind":"hang","asn":1}"#, "use asn 1 (valid: 64501, 64502, 0)"),
        (r#"{"kind":"hang","share_percent":101}"#, "use share_percent 101 (valid: 0 to 100)"),
        (r#"{"kind":"hang","share_of":"moons"}"#, r#"use share_of "moons" (valid: requests, clients)"#),
    ];
    for (body, expected) in cases {
        let put = http.put(format!("{control}/faults/cdn-a")).body(body).send().await.unwrap();
        assert_eq!(put.status(), 400, "{body}");
        let answer: serde_json::Value = put.json().await.unwrap();
        assert_eq!(answer["error"], expected);
    }
    let put = http.put(format!("{control}/faults/cdn-z")).body("{}").send().await.unwrap();
    assert_eq!(put.status(), 404);
    assert!(put.text().await.unwrap().contains("(known: cdn-a)"));
    assert!(running.cdn.faults().list().is_empty());
}

#[test]
fn a_configuration_that_can_not_work_is_refused() {
    let config = |text: &str| -> CdnConfig { toml::from_str(text).unwrap() };
    let base = "origin_base_url = \"http://127.0.0.1:1\"\nprice_usd_per_gb = 0.01\n";
    let refused = |text: &str| Cdn::new(config(&format!("{base}{text}"))).err().unwrap().to_string();
    assert!(refused("name = \"a b\"\ncapacity_bps = 1").starts_with("use the name `a b`"));
    assert!(refused("name = \"a\"\ncapacity_bps = 0").contains("(valid: above 0)"));
    assert!(toml::from_str::<CdnConfig>(&format!("{base}name = \"a\"\ncapacity = 1")).is_err());
}

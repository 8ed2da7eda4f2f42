//! The role over real HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use spillway_bus::{Bus, LocalBus};
use spillway_model::{Clock, Millis, TimestampMs};
use spillway_service::{CancellationToken, Readiness};
use spillway_wire::overview::OVERVIEW_TOPIC;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sample::{self, SAMPLE_AT_MS};
use crate::{DashboardConfig, Shell, run};

/// Everything here answers at once; this bounds a failure.
const PATIENCE: Duration = Duration::from_secs(20);

struct Still;

impl Clock for Still {
    fn now(&self) -> TimestampMs {
        TimestampMs(SAMPLE_AT_MS + 700)
    }

    fn monotonic(&self) -> Millis {
        Millis(0)
    }
}

struct Dashboard {
    address: SocketAddr,
    bus: LocalBus,
    readiness: Readiness,
    shutdown: CancellationToken,
    role: tokio::task::JoinHandle<()>,
}

impl Dashboard {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let (bus, readiness, shutdown) = (LocalBus::new(), Readiness::default(), CancellationToken::new());
        let shell = Shell {
            bus: Arc::new(bus.clone()),
            clock: Arc::new(Still),
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
            extra: Router::new(),
        };
        let role = tokio::spawn(async move {
            run(DashboardConfig::default(), shell, listener).await.expect("valid configuration");
        });
        let dashboard = Self { address, bus, readiness, shutdown, role };
        // The first answer comes after the role has subscribed.
        dashboard.get("/healthz").await;
        dashboard
    }

    async fn publish(&self, overview: &spillway_wire::overview::Overview) {
        let json = serde_json::to_vec(overview).expect("JSON");
        self.bus.publish(OVERVIEW_TOPIC, Bytes::from(json)).await;
    }

    async fn open(&self, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nHost: dashboard\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("write");
        stream
    }

    async fn get(&self, path: &str) -> String {
        self.get_with(path, "").await
    }

    async fn get_with(&self, path: &str, headers: &str) -> String {
        let mut stream = self.open(path, &format!("Connection: close\r\n{headers}")).await;
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("in time").expect("read");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Reads until `wanted` has come; what came.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = vec![0; 64 * 1024];
    let reading = async {
        while !text.contains(wanted) {
            let length = stream.read(&mut buffer).await.expect("read");
            assert!(length > 0, "the stream ended before {wanted:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{wanted:?} did not come"));
    text
}

#[tokio::test]
async fn an_overview_on_the_bus_reaches_open_pages_and_new_ones() {
    let dashboard = Dashboard::start().await;
    let mut events = dashboard.open("/events", "").await;
    let first = read_until(&mut events, "Waiting for the first overview").await;
    assert!(first.contains("content-type: text/event-stream") && first.contains("event: board"), "{first}");
    assert!(dashboard.get("/api/overview.json").await.starts_with("HTTP/1.1 404"));

    dashboard.publish(&sample::outage()).await;
    read_until(&mut events, "cdn-alto is DOWN in eu-central").await;
    let page = dashboard.get("/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("cdn-alto is DOWN in eu-central"));
    let json = dashboard.get("/api/overview.json").await;
    let body = json.split("\r\n\r\n").nth(1).expect("a body");
    let read: spillway_wire::overview::Overview = serde_json::from_str(body).expect("an overview");
    assert_eq!(read, sample::outage());

    dashboard.bus.publish(OVERVIEW_TOPIC, Bytes::from_static(b"{garbage")).await;
    dashboard.publish(&sample::drain()).await;
    read_until(&mut events, "own-fra-2 is DRAINING in eu-central").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let dashboard = Dashboard::start().await;
    let mut sleeper = dashboard.open("/events", "Connection: close\r\n").await;
    let mut reader = dashboard.open("/events", "").await;
    read_until(&mut reader, "Waiting").await;
    // One event is about two megabytes: a few fill the buffers of a socket that nobody reads, and then the queue.
    let mut overview = sample::long();
    let region = overview.regions.values().last().expect("a region").clone();
    for n in 0..120 {
        overview.regions.insert(format!("copy-{n}"), region.clone());
    }
    for round in 0..16 {
        overview.at_ms += 1;
        overview.log[49].text = format!("round {round}.");
        dashboard.publish(&overview).await;
        read_until(&mut reader, &format!("round {round}.")).await;
    }
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, sleeper.read_to_end(&mut rest)).await.expect("its stream was ended").expect("read");
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("round 0.") && !rest.contains("round 15."), "it got the first and not the last");
    read_until(&mut dashboard.open("/events", "").await, "round 15.").await;
}

#[tokio::test]
async fn every_answer_forbids_what_the_pages_do_not_need() {
    let dashboard = Dashboard::start().await;
    for path in ["/", "/assets/board.css", "/assets/live.js", "/healthz", "/no-such-page"] {
        let answer = dashboard.get(path).await.to_lowercase();
        assert!(answer.contains("content-security-policy: default-src 'none'; script-src 'self'"), "{path}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{path}");
        assert!(!answer.contains("unsafe-inline"), "{path}");
    }
}

#[tokio::test]
async fn everything_the_page_refers_to_is_served_and_not_sent_twice() {
    let dashboard = Dashboard::start().await;
    let page = dashboard.get("/").await;
    let files: Vec<&str> = page.split('"').filter(|text| text.starts_with("/assets/")).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = dashboard.get(file).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{file}");
        let tag = answer.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        let again = dashboard.get_with(file, &format!("If-None-Match: {tag}\r\n")).await;
        assert!(again.starts_with("HTTP/1.1 304"), "{file}: {again}");
    }
}

#[tokio::test]
async fn streams_end_with_the_process_and_it_is_not_ready_afterwards() {
    let dashboard = Dashboard::start().await;
    assert!(dashboard.get("/readyz").await.starts_with("HTTP/1.1 200"));
    let mut events = dashboard.open("/events", "").await;
    read_until(&mut events, "Waiting").await;
    dashboard.shutdown.cancel();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, events.read_to_end(&mut rest)).await.expect("ends").expect("read");
    tokio::time::timeout(PATIENCE, dashboard.role).await.expect("ends").expect("no panic");
    assert!(!dashboard.readiness.is_ready());
}

#[tokio::test]
async fn a_bad_configuration_is_refused_before_anything_is_served() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let shell = Shell {
        bus: Arc::new(LocalBus::new()),
        clock: Arc::new(Still),
        readiness: Readiness::default(),
        shutdown: CancellationToken::new(),
        extra: Router::new(),
    };
    let config = DashboardConfig { watch_url: Some("javascript:alert(1)".to_owned()), ..DashboardConfig::default() };
    let error = run(config, shell, listener).await.expect_err("refused").to_string();
    assert!(error.contains("dashboard.watch_url"), "{error}");
}

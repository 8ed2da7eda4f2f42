//! Helpers: a collector on a free port and beacons for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use spillway_bus::{Bus as _, LocalBus, Subscription};
use spillway_collector::{Collector, CollectorConfig, Shell};
use spillway_lake::{LakeSession, Tail, TailSource, lake_root};
use spillway_model::{Clock, Millis, TimestampMs};
use spillway_service::deployment::Deployment;
use spillway_service::geo::GeoConfig;
use spillway_service::{CancellationToken, Readiness};
use spillway_wire::frame::{Cell, FRAME_TOPIC, Frame};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

/// 2026-01-01, ms since epoch.
pub const NOW_MS: u64 = 1_767_225_600_000;
pub const TOKEN: &str = "service-token-of-tests";
pub const KEY: &str = "key-of-demo";

/// A clock that only moves when told to.
#[derive(Default)]
pub struct Hand(AtomicU64);

impl Hand {
    pub fn advance_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Hand {
    fn now(&self) -> TimestampMs {
        TimestampMs(NOW_MS + self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

/// A running collector.
pub struct Running {
    pub base: String,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    pub clock: Arc<Hand>,
    pub tail: Tail,
    pub root: Url,
    pub frames: Subscription,
    wal_lock: PathBuf,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

/// What a test changes of the configuration.
pub fn config() -> CollectorConfig {
    // The trusted header lets a test come from many networks.
    CollectorConfig {
        group_commit_ms: 2,
        commit_interval_s: 300,
        trusted_header: Some("x-client".into()),
        ..CollectorConfig::default()
    }
}

fn deployment() -> Deployment {
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("json");
    let from = |value: Value| serde_json::from_value(value).expect("config");
    Deployment::new(
        vec![
            serde_json::from_value(json!({"id": "demo", "write_key": KEY})).expect("property"),
            serde_json::from_value(
                json!({"id": "strict", "write_key": "key-of-strict", "origins": ["https://tv.example"]}),
            )
            .expect("property"),
        ],
        vec![from(parse(r#"{"id": "eu-a", "static_weights": {"cdn-a": 1.0}}"#))],
        vec![
            serde_json::from_value(json!({"id": "cdn-a", "base_url": "http://a.example:81", "capacity_mbps": 10.0}))
                .expect("pathway"),
            serde_json::from_value(json!({"id": "cdn-b", "base_url": "http://b.example", "capacity_mbps": 10.0}))
                .expect("pathway"),
        ],
        vec![
            serde_json::from_value(json!({"prefix": "10.1.0.0/16", "region": "eu-a", "asn": 64_500})).expect("prefix"),
        ],
    )
    .expect("deployment")
    .with_geo(&GeoConfig {
        trusted_proxies: vec!["127.0.0.0/8".into()],
        trusted_country_header: Some("x-country".into()),
        trusted_asn_header: Some("x-asn".into()),
        ..GeoConfig::default()
    })
    .expect("geo")
}

pub async fn start(dir: &TempDir, config: CollectorConfig) -> Running {
    start_with(dir.path(), config, Arc::new(Hand::default())).await
}

pub async fn start_with(dir: &Path, config: CollectorConfig, clock: Arc<Hand>) -> Running {
    let bus = LocalBus::new();
    let shutdown = CancellationToken::new();
    let root = lake_root(dir.join("lake").to_str().expect("path")).expect("root");
    let shell = Shell {
        lake_root: root.clone(),
        wal_dir: dir.join("wal"),
        deployed: Arc::new(deployment()).into(),
        bus: Arc::new(bus.clone()),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        service_token: TOKEN.into(),
        readiness: Readiness::default(),
        metrics: None,
        shutdown: shutdown.clone(),
    };
    let frames = bus.subscribe(FRAME_TOPIC);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let collector = Collector::open(config, shell).await.expect("open");
    let tail = collector.tail();
    let task = tokio::spawn(collector.serve(listener, None));
    let client = reqwest::Client::new();
    Running {
        base: format!("http://{address}"),
        address,
        client,
        clock,
        tail,
        root,
        frames,
        wal_lock: dir.join("wal/lock"),
        shutdown,
        task,
    }
}

impl Running {
    pub fn url(&self) -> String {
        format!("{}/v1/beacons?k={KEY}", self.base)
    }

    /// Posts a body as an SDK does; status and JSON.
    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.post_from(body, "10.1.2.3").await
    }

    pub async fn post_from(&self, body: impl Into<reqwest::Body>, address: &str) -> (u16, Value) {
        let request = self.client.post(self.url()).header("content-type", "text/plain").header("x-client", address);
        answer(request.body(body).send().await.expect("answer")).await
    }

    /// Posts a body with headers of one's own.
    pub async fn post_with(&self, body: String, headers: &[(&str, &str)]) -> (u16, Value) {
        let request = self.client.post(self.url()).header("content-type", "text/plain");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        answer(request.body(body).send().await.expect("answer")).await
    }

    /// Posts rows as a role does.
    pub async fn rows(&self, path_and_query: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.client.post(format!("{}{path_and_query}", self.base)).bearer_auth(TOKEN);
        answer(request.body(body).send().await.expect("answer")).await
    }

    /// The rows of a query as JSON, without what is null.
    pub async fn select(&self, sql: &str) -> Vec<Value> {
        let tails = vec![TailSource::Local(self.tail.clone())];
        let batches = LakeSession::open(&self.root, tails).await.expect("open").query(sql).await.expect("query");
        let lines = spillway_lake::format::json_lines(&batches).expect("json");
        let row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).expect("a row");
            row.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
            row
        };
        lines.lines().map(row).collect()
    }

    pub async fn counters(&self) -> Value {
        let request = self.client.get(format!("{}/internal/counters", self.base)).bearer_auth(TOKEN);
        answer(request.send().await.expect("answer")).await.1
    }

    pub async fn query(&self, sql: &str) -> u64 {
        let tails = vec![TailSource::Local(self.tail.clone())];
        LakeSession::open(&self.root, tails).await.expect("open").count(sql).await.expect("count")
    }

    pub async fn stored(&self) -> u64 {
        spillway_lake::events_stored(&self.root, vec![TailSource::Local(self.tail.clone())]).await.expect("stored")
    }

    /// Everything counted since the last call, up to now at least: frames that are here, and one more, added up.
    pub async fn frame(&mut self) -> Frame {
        let mut all: Vec<Bytes> = std::iter::from_fn(|| self.frames.try_next()).collect();
        all.push(self.frames.next().await.expect("a frame"));
        let mut sum = Frame::default();
        for bytes in all {
            merge(&mut sum, serde_json::from_slice(&bytes).expect("frame"));
        }
        let empty = |cell: &Cell| *cell == Cell { key: cell.key.clone(), ..Cell::default() };
        sum.cells.retain(|cell| !empty(cell));
        sum
    }

    /// Ends as on a signal.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(8), self.task).await.expect("within 8 s").expect("task");
    }

    /// Ends as on SIGKILL, as far as one process can play it: nothing is committed or flushed.
    pub async fn kill(self) {
        let wal_lock = std::fs::File::open(&self.wal_lock).expect("lock file");
        self.task.abort();
        let _ = self.task.await;
        drop(self.client);
        // The last connection's end is what the system would do at once.
        while wal_lock.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A beacon of `view` with `events`.
pub fn beacon(view: &str, events: Value) -> String {
    json!({
        "v": 1, "sdk": "test/1", "sent_ms": NOW_MS,
        "ctx": {"view_id": view, "content_id": "live/river", "stream_type": "live", "format": "hls"},
        "events": events
    })
    .to_string()
}

/// An event at its place in the view; `more` is merged in.
pub fn event(kind: &str, seq: u64, more: Value) -> Value {
    let mut event = json!({"type": kind, "seq": seq, "created_ms": NOW_MS, "mono_ms": seq * 1_000, "state": "playing"});
    let (Some(into), Value::Object(more)) = (event.as_object_mut(), more) else { panic!("an object is expected") };
    into.extend(more);
    event
}

pub fn heartbeats(view: &str, seqs: std::ops::Range<u64>) -> String {
    beacon(view, seqs.map(|seq| event("heartbeat", seq, json!({"pathway": "cdn-a"}))).collect())
}

fn merge(sum: &mut Frame, next: Frame) {
    let mut cells = std::mem::take(&mut sum.cells);
    for cell in &mut cells {
        cell.views_active = 0;
    }
    for cell in &next.cells {
        match cells.iter_mut().find(|other| other.key == cell.key) {
            Some(other) => add(other, cell),
            None => cells.push(cell.clone()),
        }
    }
    *sum = Frame { cells, ..next };
}

fn add(sum: &mut Cell, cell: &Cell) {
    sum.views_active = cell.views_active;
    sum.views_new += cell.views_new;
    sum.windows += cell.windows;
    sum.weight_milli += cell.weight_milli;
    sum.bad_weight_milli += cell.bad_weight_milli;
    sum.weight_sq_micro += cell.weight_sq_micro;
    sum.requests_ok += cell.requests_ok;
    sum.requests_failed += cell.requests_failed;
    sum.requests_late += cell.requests_late;
    sum.views_failing += cell.views_failing;
    sum.views_late += cell.views_late;
    sum.bits += cell.bits;
    sum.playing_ms += cell.playing_ms;
    sum.stall_ms += cell.stall_ms;
    sum.heartbeats_due += cell.heartbeats_due;
    sum.heartbeats_received += cell.heartbeats_received;
    sum.windows_left_out += cell.windows_left_out;
    for (reason, windows) in &cell.bad {
        *sum.bad.entry(reason.clone()).or_default() += windows;
    }
    for (index, requests) in &cell.ttfb_sketch {
        *sum.ttfb_sketch.entry(*index).or_default() += requests;
    }
}

/// The cell of a pathway.
pub fn of<'a>(frame: &'a Frame, pathway: &str) -> Option<&'a Cell> {
    frame.cells.iter().find(|cell| cell.key.pathway == pathway)
}
